//! What executions know between two of them, to be written and taken up again.

use std::collections::BTreeMap;

use prost::Message as _;
use spikewatch_proto::{
    convert::results::{Alert, AnomalyRecord},
    v1,
};

use super::{
    Executions,
    incident::{Incidents, Place},
    pending::{Pending, Waiting, bare},
};
use crate::{alert, suppression::Groups};

/// What was written, to be taken up record by record.
#[derive(Debug, Default)]
pub struct Resumption {
    /// By rule: records up to this number were looked at, except these.
    rules: BTreeMap<String, (u64, BTreeMap<u64, v1::WaitingRecord>)>,
}

impl Resumption {
    /// Number of the first record that has to be offered again; none if no rule's progress was written.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        let first = |(cursor, waiting): &(u64, BTreeMap<u64, v1::WaitingRecord>)| {
            waiting.keys().next().copied().unwrap_or(u64::MAX).min(cursor.saturating_add(1))
        };
        self.rules.values().map(first).min()
    }

    /// True if the rule's progress was written.
    #[must_use]
    pub fn knows(&self, rule: &str) -> bool {
        self.rules.contains_key(rule)
    }
}

impl Executions {
    /// The progress of the rules for which it changed since it was last asked for: rule and encoded `RuleProgress`.
    pub fn progress(&mut self) -> Vec<(String, Vec<u8>)> {
        let unwritten = std::mem::take(&mut self.unwritten);
        let cursor = self.cursor;
        let rules = self.rules.iter().filter(|pending| unwritten.contains(&pending.rule.id));
        rules.map(|pending| (pending.rule.id.clone(), stored(pending, cursor).encode_to_vec())).collect()
    }

    /// Takes up what was written: `alerts` are those that it names. Records are then offered to
    /// [`resume`](Self::resume), from [`Resumption::first`] on. What can't be read is as good as nothing.
    pub fn restore(&mut self, written: &[(String, Vec<u8>)], alerts: &[Alert]) -> Resumption {
        let mut resumption = Resumption::default();
        for pending in &mut self.rules {
            let id = &pending.rule.id;
            let Some((_, bytes)) = written.iter().find(|(rule, _)| rule == id) else { continue };
            let progress = match v1::RuleProgress::decode(bytes.as_slice()) {
                Ok(progress) => progress,
                Err(error) => {
                    tracing::warn!(rule = %pending.rule.name, %error, "what a rule knew can't be read");
                    continue;
                }
            };
            let v1::RuleProgress { last_ms, cursor, waiting, incidents, groups, quiet } = progress;
            pending.last = Some(last_ms);
            pending.quiet = quiet;
            pending.incidents = Incidents::restore(incidents);
            pending.groups = Groups::restore(groups);
            for alert in alerts.iter().filter(|alert| alert.rule_id == *id) {
                pending.made.insert(alert.id.clone(), (alert.bucket_start, Some(bare(alert))));
            }
            let waiting = waiting.into_iter().map(|one| (one.finalised, one)).collect();
            resumption.rules.insert(id.clone(), (cursor, waiting));
        }
        resumption
    }

    /// Takes a record that was finalised before the restart, in order: to the rules that have not looked at it, or have
    /// left it waiting.
    pub fn resume(&mut self, resumption: &Resumption, record: &AnomalyRecord) {
        self.cursor = self.cursor.max(record.finalised);
        for pending in &mut self.rules {
            let Some((cursor, waiting)) = resumption.rules.get(&pending.rule.id) else { continue };
            if let Some(one) = waiting.get(&record.finalised) {
                let place = Place { since: one.since_ms, bucket: one.bucket };
                let seen = Some(one.seen_ms).filter(|seen| *seen > 0);
                let id = alert::id(&pending.rule, record);
                if !pending.made.contains_key(&id) {
                    let record_score = record.record_score.max(one.score);
                    let record = AnomalyRecord { record_score, ..record.clone() };
                    pending.waiting.insert(id, Waiting { record, place, seen });
                }
            } else if record.finalised > *cursor {
                pending.offer(record);
            }
        }
    }

    /// Takes a record as [`offer`](Self::offer) does, for rules of which nothing was written: they begin with their
    /// look-back.
    pub fn begin_with(&mut self, resumption: &Resumption, record: &AnomalyRecord) {
        self.cursor = self.cursor.max(record.finalised);
        for pending in self.rules.iter_mut().filter(|pending| !resumption.knows(&pending.rule.id)) {
            pending.offer(record);
        }
    }
}

/// The ids of the alerts that written progress names.
#[must_use]
pub fn alerts_in(written: &[(String, Vec<u8>)]) -> Vec<String> {
    let read = |(_, bytes): &(String, Vec<u8>)| v1::RuleProgress::decode(bytes.as_slice()).ok();
    let named = written.iter().filter_map(read).flat_map(|progress| {
        let heads = progress.incidents.into_iter().map(|incident| incident.head);
        heads.chain(progress.groups.into_iter().map(|group| group.alert)).collect::<Vec<_>>()
    });
    let mut ids: Vec<String> = named.filter(|id| !id.is_empty()).collect();
    ids.sort();
    ids.dedup();
    ids
}

fn stored(pending: &Pending, cursor: u64) -> v1::RuleProgress {
    let waiting = pending.waiting.values().map(|waiting| v1::WaitingRecord {
        finalised: waiting.record.finalised,
        seen_ms: waiting.seen.unwrap_or(0),
        since_ms: waiting.place.since,
        bucket: waiting.place.bucket,
        score: waiting.record.record_score,
    });
    v1::RuleProgress {
        last_ms: pending.last.unwrap_or(0),
        cursor,
        waiting: waiting.collect(),
        incidents: pending.incidents.stored(),
        groups: pending.groups.stored(),
        quiet: pending.quiet,
    }
}
