//! The groups of one rule that have an alert, and what was folded into them.

use std::collections::BTreeMap;

use spikewatch_domain::record::EventMillis;
use spikewatch_proto::{
    convert::results::{AnomalyRecord, Suppressed, Term},
    v1,
};

/// Most groups of a rule; beyond, the oldest absorbs no more.
const MOST_GROUPS: usize = 20_000;

/// One group.
#[derive(Debug, Clone, PartialEq)]
struct Group {
    /// Id of the alert that stands for it.
    alert: String,
    made: EventMillis,
    start: EventMillis,
    end: EventMillis,
    count: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<Vec<Term>, Group>);

impl Groups {
    /// Forgets the groups that absorb no more at `at`: those whose window is over; or if there is none, those made up to
    /// `before`, the execution before.
    pub(crate) fn begin(&mut self, window_ms: Option<u64>, before: EventMillis, at: EventMillis) {
        match window_ms {
            Some(window) => self.0.retain(|_, group| at < group.made.saturating_add(window)),
            None => self.0.retain(|_, group| group.made > before && group.made <= at),
        }
    }

    /// Folds a record into its group. Returns the id of the group's alert; nothing if there is no such group.
    pub(crate) fn fold(&mut self, terms: &[Term], record: &AnomalyRecord) -> Option<&str> {
        let group = self.0.get_mut(terms)?;
        group.count += 1;
        group.start = group.start.min(record.bucket_start);
        group.end = group.end.max(end(record));
        Some(&group.alert)
    }

    /// A new group, for which the alert of this record stands.
    pub(crate) fn open(&mut self, terms: Vec<Term>, alert: &str, made: EventMillis, record: &AnomalyRecord) {
        if self.0.len() >= MOST_GROUPS
            && let Some(oldest) = self.0.iter().min_by_key(|(_, group)| group.made).map(|(terms, _)| terms.clone())
        {
            self.0.remove(&oldest);
        }
        let (start, end) = (record.bucket_start, end(record));
        self.0.insert(terms, Group { alert: alert.to_owned(), made, start, end, count: 0 });
    }

    /// What the alert of a group stands for.
    pub(crate) fn of(&self, terms: &[Term]) -> Option<Suppressed> {
        let Group { start, end, count, .. } = self.0.get(terms)?.clone();
        Some(Suppressed { terms: terms.to_vec(), start, end, count })
    }

    /// The ids of the alerts that stand for groups.
    pub(crate) fn alerts(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(|group| group.alert.as_str())
    }

    /// As the store keeps it.
    pub(crate) fn stored(&self) -> Vec<v1::OpenGroup> {
        let stored = |(terms, group): (&Vec<Term>, &Group)| v1::OpenGroup {
            terms: terms.iter().cloned().map(v1::Term::from).collect(),
            alert: group.alert.clone(),
            made_ms: group.made,
            start_ms: group.start,
            end_ms: group.end,
            count: group.count,
        };
        self.0.iter().map(stored).collect()
    }

    /// Takes back what [`stored`](Self::stored) gave.
    pub(crate) fn restore(stored: Vec<v1::OpenGroup>) -> Self {
        let restore = |group: v1::OpenGroup| {
            let terms = group.terms.into_iter().map(Term::from).collect();
            let v1::OpenGroup { alert, made_ms: made, start_ms: start, end_ms: end, count, .. } = group;
            (terms, Group { alert, made, start, end, count })
        };
        Self(stored.into_iter().map(restore).collect())
    }
}

fn end(record: &AnomalyRecord) -> EventMillis {
    record.bucket_start.saturating_add(record.bucket_span.millis())
}
