//! Alerts of buckets that are still open, and what becomes of them when the bucket ends.
//!
//! An early alert has the id that the finished bucket's alert has, so there is never a second one: at the bucket's end it is
//! confirmed with the final figures, or marked as not confirmed; it is never taken back. It counts in the execution that is
//! running, which keeps half of its alerts for what comes at its end.

use spikewatch_domain::record::EventMillis;
use spikewatch_proto::convert::results::{Alert, AnomalyRecord, Stage};

use super::{Executions, Made, Pending, Waiting, series};
use crate::{
    alert::{self, Finding},
    job::Job,
    scoring::Wanted,
};

impl Executions {
    /// Makes alerts of records of open buckets, or newer versions of them. To be written at once.
    pub fn early(&mut self, records: &[AnomalyRecord], now: EventMillis) -> Vec<Alert> {
        let (exceptions, number) = (&self.exceptions, self.number + 1);
        let mut alerts = Vec::new();
        for pending in &mut self.rules {
            let wanted = records.iter().filter(|record| pending.rule.jobs.contains(&record.job));
            let wanted: Vec<_> = wanted.filter(|record| !exceptions.except(&pending.rule, record)).collect();
            alerts.extend(wanted.into_iter().filter_map(|record| pending.early(record, number, now)));
        }
        alerts
    }

    /// All of a bucket was offered: what was told early of it, or of one before, and isn't confirmed never will be.
    pub fn closed(&mut self, bucket: EventMillis) {
        for pending in &mut self.rules {
            let open = pending.early.extract_if(.., |_, alert| alert.bucket_start <= bucket);
            pending.unconfirmed.extend(open.map(|(_, alert)| alert::unconfirmed(alert)));
        }
    }

    /// From which score on a job's records make an alert of any rule.
    pub(crate) fn wanted(&self, job: &Job) -> Option<Wanted> {
        let rules = self.rules.iter().map(|pending| &pending.rule).filter(|rule| rule.jobs.contains(&job.id));
        rules
            .map(|rule| Wanted { threshold: rule.threshold, buckets: rule.minimum_buckets })
            .reduce(|a, b| Wanted { threshold: a.threshold.min(b.threshold), buckets: a.buckets.min(b.buckets) })
    }
}

impl Pending {
    fn early(&mut self, record: &AnomalyRecord, number: u64, now: EventMillis) -> Option<Alert> {
        if record.record_score < self.rule.threshold || record.buckets_seen < self.rule.minimum_buckets {
            return None;
        }
        let id = alert::id(&self.rule, record);
        let version = match self.early.get(&id) {
            Some(told) => told.version.saturating_add(1),
            // The bucket's end was faster.
            None if self.made.contains_key(&id) => return None,
            None if self.early_made >= self.rule.max_signals / 2 => return None,
            None => {
                self.early_made += 1;
                1
            }
        };
        let run = self.runs.get(&series(record));
        let (start, span) = (record.bucket_start, record.bucket_span.millis());
        let since = run.filter(|run| run.last.saturating_add(span) >= start).map_or(start, |run| run.since.min(start));
        let finding = Finding { record, since, related: Vec::new(), stage: Stage::Early };
        let alert = Alert { version, ..alert::make(&self.rule, &id, &finding, number, now) };
        self.made.insert(id.clone(), Made::from(&alert));
        self.early.insert(id, alert.clone());
        Some(alert)
    }

    /// Takes a finished bucket's record that was told early. True if it was.
    pub(super) fn confirm(&mut self, record: &AnomalyRecord) -> bool {
        let id = alert::id(&self.rule, record);
        if self.early.remove(&id).is_none() {
            return false;
        }
        let since = self.extend_run(record);
        let stage = Stage::Confirmed;
        self.updates.insert(id.clone(), Waiting { id, record: record.clone(), since, seen: None, stage });
        true
    }
}
