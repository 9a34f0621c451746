//! Forgets what is old enough, kind by kind, in small steps in the background. A store that fails is asked again, later
//! and later: while it fails the log grows, but nothing else suffers.

use std::{convert::Infallible, sync::Arc, time::Duration};

use spikewatch_actors::{Seams, task::Kind};
use tokio::time::sleep;

use crate::{
    metrics::Counters,
    store::{Kept, Store, StoreError, Term},
};

/// Pause between two rounds, and the longest wait after a failure.
const ROUND: Duration = Duration::from_secs(600);
/// Wait after the first failure; each further one in a row waits twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// Pause between two steps: commits go first.
const PAUSE: Duration = Duration::from_millis(100);

const DAY: Duration = Duration::from_secs(86_400);

/// How long what is stored is kept, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Windows, which baselines are rebuilt from.
    pub windows: Duration,
    /// Anomaly records.
    pub records: Duration,
    /// Alerts.
    pub alerts: Duration,
    /// Executions of rules.
    pub executions: Duration,
    /// What sinks took or refused.
    pub outbox: Duration,
    /// Snapshots of baselines.
    pub snapshots: Duration,
}

impl Default for Retention {
    /// Five weeks of windows, a good year of what came out of them, a week of what only serves operation.
    fn default() -> Self {
        Self {
            windows: 35 * DAY,
            records: 400 * DAY,
            alerts: 400 * DAY,
            executions: 90 * DAY,
            outbox: 7 * DAY,
            snapshots: 7 * DAY,
        }
    }
}

impl Retention {
    fn of(&self, kept: Kept) -> Duration {
        match kept {
            Kept::Windows => self.windows,
            Kept::Records => self.records,
            Kept::Alerts => self.alerts,
            Kept::Executions => self.executions,
            Kept::Outbox => self.outbox,
            Kept::Snapshots => self.snapshots,
        }
    }
}

/// Rows of one transaction. Parts of snapshots are large.
fn step_rows(kept: Kept) -> u32 {
    if kept == Kept::Snapshots { 8 } else { 500 }
}

/// Starts it, unless time is what recorded traffic says.
pub(crate) fn start(store: Arc<dyn Store>, term: Term, keep: Retention, counters: Arc<Counters>, seams: &Seams) {
    if seams.clock.is_event_time() {
        return;
    }
    let clock = seams.clock.clone();
    seams.tasks.spawn(Kind::BACKGROUND, "retention", async move {
        let step = move |kept| {
            let age = u64::try_from(keep.of(kept).as_millis()).unwrap_or(u64::MAX);
            let (store, before) = (Arc::clone(&store), clock.now_ms().saturating_sub(age));
            async move { store.prune(term, kept, before, step_rows(kept)).await }
        };
        forget(step, &counters).await;
        Ok::<(), Infallible>(())
    });
}

/// Rounds of steps, until another detector leads. A step tells how many rows went, and a full one is followed by another.
async fn forget<F>(step: impl Fn(Kept) -> F, counters: &Counters)
where
    F: Future<Output = Result<u64, StoreError>>,
{
    let mut wait = FIRST_WAIT;
    loop {
        match round(&step).await {
            Ok(()) => {
                wait = FIRST_WAIT;
                sleep(ROUND).await;
            }
            Err(error) if error.is_deposed() => return,
            Err(error) => {
                counters.retention_failures.add(1);
                tracing::warn!(%error, ?wait, "what is old is not forgotten; the store is asked again");
                sleep(wait).await;
                wait = (wait * 2).min(ROUND);
            }
        }
    }
}

async fn round<F>(step: &impl Fn(Kept) -> F) -> Result<(), StoreError>
where
    F: Future<Output = Result<u64, StoreError>>,
{
    for kept in Kept::ALL {
        while step(kept).await? >= u64::from(step_rows(kept)) {
            sleep(PAUSE).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, future::ready};

    use tokio::time::Instant;

    use super::*;

    /// What the store answers about windows, one after the other (`None` fails; at the end there is nothing to forget), and when it
    /// was asked, in seconds.
    async fn asked(answers: &[Option<u64>], for_s: u64) -> (Vec<f32>, u64) {
        let (began, asked, counters) = (Instant::now(), RefCell::new(Vec::new()), Counters::default());
        let step = |kept| {
            if kept != Kept::Windows {
                return ready(Ok(0));
            }
            let answer = answers.get(asked.borrow().len()).copied().unwrap_or(Some(0));
            asked.borrow_mut().push(began.elapsed().as_secs_f32());
            ready(answer.ok_or_else(|| StoreError::InUse("test".into())))
        };
        let ended = tokio::time::timeout(Duration::from_secs(for_s), forget(step, &counters)).await;
        assert!(ended.is_err(), "it never ends by itself");
        (asked.into_inner(), counters.retention_failures.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_is_asked_again_later_and_later() {
        let (times, failures) = asked(&[Some(3), None, None, None, Some(0), None], 2000).await;
        let expected = [0.0, 600.0, 605.0, 615.0, 635.0, 1235.0, 1240.0, 1840.0];
        assert_eq!((times.as_slice(), failures), (expected.as_slice(), 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_for_long_is_asked_once_a_round() {
        let (times, failures) = asked(&[None; 12], 5000).await;
        let waits: Vec<_> = times.windows(2).map(|two| (two[1] - two[0]).round() as u64).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 600, 600, 600, 600, 600, 600, 600]);
        assert_eq!(failures, 12);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_step_is_followed_by_another_soon() {
        let (times, _) = asked(&[Some(500), Some(500), Some(499)], 700).await;
        let times: Vec<_> = times.iter().map(|s| (s * 10.0).round() as u64).collect();
        assert_eq!(times, [0, 1, 2, 6002]);
    }
}
