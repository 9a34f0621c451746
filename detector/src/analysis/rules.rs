//! Rules and the store: taking up what rules knew before a restart, and running one over past buckets.

use spikewatch_domain::record::EventMillis;

use crate::{
    execution::{Execution, Executions, alerts_in},
    store::{Range, Store, StoreError},
};

/// Rows that are read at once.
const PAGE: u32 = 1000;

/// Takes up what the rules knew: what they had looked at, what waits, and the alerts that may still change. All buckets up
/// to `known_until` are scored, and on recorded traffic's time the executions up to then have run.
///
/// # Errors
/// The store can't be read.
pub(super) async fn resume(
    executions: &mut Executions,
    store: &dyn Store,
    known_until: EventMillis,
    event_time: bool,
) -> Result<(), StoreError> {
    let look_back = executions.longest_look_back_ms();
    let lately = Range::of(known_until.saturating_sub(look_back.saturating_mul(4)), 0);
    let mut after = 0;
    loop {
        let alerts = store.alerts(lately, after, PAGE).await?;
        let Some((last, _)) = alerts.last() else { break };
        after = *last;
        alerts.iter().for_each(|(_, alert)| executions.remember(alert));
    }
    let written = store.rule_progress().await?;
    let alerts = store.alerts_of(alerts_in(&written)).await?;
    let resumption = executions.restore(&written, &alerts);
    let mut after = resumption.first().map(|first| first.saturating_sub(1));
    while let Some(number) = after {
        let records = store.records(Range::of(0, 0), number, 0.0, PAGE).await?;
        after = records.last().map(|record| record.finalised);
        records.iter().for_each(|record| executions.resume(&resumption, record));
    }
    if event_time {
        executions.caught_up(known_until);
    }
    let waiting = store.recent_records(known_until.saturating_sub(look_back), 0.0).await?;
    waiting.iter().for_each(|record| executions.begin_with(&resumption, record));
    executions.scored(known_until);
    Ok(())
}

/// Runs a rule over past buckets. Nothing if there is no such rule.
///
/// # Errors
/// The store can't be read.
pub(super) async fn run(
    executions: &mut Executions,
    store: &dyn Store,
    rule: &str,
    range: Range,
    now: EventMillis,
) -> Result<Option<Execution>, StoreError> {
    let (mut made, mut after) = (Vec::new(), 0);
    loop {
        let alerts = store.alerts(range, after, PAGE).await?;
        let Some((last, _)) = alerts.last() else { break };
        after = *last;
        made.extend(alerts.into_iter().map(|(_, alert)| alert.id));
    }
    let Some(mut run) = executions.begin_manual(rule, (range.from, range.to), made) else { return Ok(None) };
    let mut after = 0;
    loop {
        let records = store.records(range, after, run.threshold(), PAGE).await?;
        let Some(last) = records.last() else { break };
        after = last.finalised;
        records.iter().for_each(|record| run.offer(record));
    }
    Ok(Some(executions.finish_manual(run, now)))
}
