//! Alerts on their way to sinks.

use std::collections::BTreeMap;

use spikewatch_detector::store::{Parcel, Settled, Term};
use spikewatch_proto::convert::results::Alert;

#[derive(Debug)]
struct Waiting {
    sink: String,
    alert: String,
    version: u32,
    due_ms: u64,
    attempts: u64,
    settled_ms: Option<u64>,
    taken_under: u64,
}

/// Parcels by their numbers.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    parcels: BTreeMap<u64, Waiting>,
    last: u64,
}

impl Outbox {
    /// One for each sink. What it replaces and no sink has taken yet isn't sent any more.
    pub(super) fn put(&mut self, sinks: &[String], alert: &Alert) {
        if sinks.is_empty() {
            return;
        }
        let (id, version) = (&alert.id, alert.version);
        self.parcels.retain(|_, old| old.alert != *id || old.version >= version || old.settled_ms.is_some());
        for sink in sinks {
            let same = |old: &Waiting| old.sink == *sink && old.alert == *id && old.version == version;
            if !self.parcels.values().any(same) {
                self.last += 1;
                let (sink, alert) = (sink.clone(), id.clone());
                let new = Waiting { sink, alert, version, due_ms: 0, attempts: 0, settled_ms: None, taken_under: 0 };
                self.parcels.insert(self.last, new);
            }
        }
    }

    /// Takes the oldest that are due.
    pub(super) fn take(
        &mut self,
        term: Term,
        sink: &str,
        now_ms: u64,
        until_ms: u64,
        limit: u32,
        alert: impl Fn(&str) -> Option<Alert>,
    ) -> Vec<Parcel> {
        let due = |waiting: &Waiting| waiting.sink == sink && waiting.settled_ms.is_none() && waiting.due_ms <= now_ms;
        let due = self.parcels.iter_mut().filter(|(_, waiting)| due(waiting)).take(limit as usize);
        due.filter_map(|(number, waiting)| {
            let alert = alert(&waiting.alert)?;
            waiting.attempts += 1;
            (waiting.due_ms, waiting.taken_under) = (until_ms, term.number());
            Some(Parcel { number: *number, attempt: waiting.attempts, alert })
        })
        .collect()
    }

    /// Notes what became of one that this term took.
    pub(super) fn settle(&mut self, term: Term, number: u64, settled: Settled, now_ms: u64) {
        let taken = self.parcels.get_mut(&number).filter(|waiting| waiting.taken_under == term.number());
        if let Some(waiting) = taken {
            match settled {
                Settled::Delivered | Settled::Refused(_) => waiting.settled_ms = Some(now_ms),
                Settled::Retry(at, _) => waiting.due_ms = at,
            }
        }
    }

    /// True if a sink has yet to take this alert.
    pub(super) fn waits_for(&self, alert: &str) -> bool {
        self.parcels.values().any(|waiting| waiting.alert == alert && waiting.settled_ms.is_none())
    }

    /// Forgets what was settled before that time.
    pub(super) fn prune(&mut self, before: u64, limit: usize) -> usize {
        let old = |waiting: &Waiting| waiting.settled_ms.is_some_and(|at| at < before);
        let old: Vec<u64> =
            self.parcels.iter().filter(|(_, waiting)| old(waiting)).map(|(number, _)| *number).collect();
        old.iter().take(limit).for_each(|number| drop(self.parcels.remove(number)));
        old.len().min(limit)
    }
}
