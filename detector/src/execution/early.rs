//! Alerts of buckets that are still open, and what becomes of them when the bucket ends.
//!
//! An early alert has the id that the finished bucket's alert has, so there is never a second one: at the bucket's end it is
//! confirmed with the final figures, or marked as not confirmed; it is never taken back. It counts in the execution that is
//! running, which keeps half of its alerts for what comes at its end. Exceptions and suppression hold for it too: a record
//! whose group has an alert waits for its bucket's end.

use spikewatch_domain::record::EventMillis;
use spikewatch_proto::convert::results::{Alert, AnomalyRecord, Stage};

use super::{
    Executions,
    pending::{Pending, bare},
};
use crate::{
    alert::{self, Finding, Occasion},
    job::Job,
    scoring::Wanted,
    suppression::Suppression,
};

impl Executions {
    /// Makes alerts of records of open buckets, or newer versions of them. To be written at once.
    pub fn early(&mut self, records: &[AnomalyRecord], now: EventMillis) -> Vec<Alert> {
        let occasion = Occasion { execution: self.number + 1, at: now, manual: false };
        let mut alerts = Vec::new();
        for pending in &mut self.rules {
            let made: Vec<Alert> = records.iter().filter_map(|record| pending.early(record, occasion)).collect();
            if !made.is_empty() {
                self.unwritten.insert(pending.rule.id.clone());
            }
            alerts.extend(made);
        }
        alerts
    }

    /// All of a bucket was offered: what was told early of it, or of one before, and isn't confirmed never will be.
    pub fn closed(&mut self, bucket: EventMillis) {
        self.rules.iter_mut().for_each(|pending| pending.close(bucket));
    }

    /// From which score on a job's records make an alert of any rule.
    pub(crate) fn wanted(&self, job: &Job) -> Option<Wanted> {
        let rules = self.rules.iter().map(|pending| &pending.rule);
        rules
            .filter(|rule| rule.enabled && rule.jobs.contains(&job.id))
            .map(|rule| Wanted { threshold: rule.threshold, buckets: rule.minimum_buckets })
            .reduce(|a, b| Wanted { threshold: a.threshold.min(b.threshold), buckets: a.buckets.min(b.buckets) })
    }
}

impl Pending {
    fn early(&mut self, record: &AnomalyRecord, occasion: Occasion) -> Option<Alert> {
        let rule = &self.rule;
        let wanted = rule.enabled && rule.jobs.contains(&record.job) && record.record_score >= rule.threshold;
        let wanted = wanted && record.record_score >= record.alert_from;
        if !wanted || record.buckets_seen < rule.minimum_buckets || self.is_excepted(record) {
            return None;
        }
        let id = alert::id(rule, record);
        if let Some((_, made)) = self.made.get_mut(&id) {
            // Else the bucket's end was faster.
            let alert = made.as_mut().filter(|alert| alert.stage == Stage::Early)?;
            alert.version = alert.version.saturating_add(1);
            (alert.updated, alert.record_score) = (occasion.at, record.record_score);
            alert.finding = Some(record.clone());
            let mut newer = alert.clone();
            alert::render(&self.rule, &mut newer);
            return Some(newer);
        }
        let group = rule.suppression.as_ref().and_then(|suppression| suppression.group(record));
        let (window, before) = (rule.suppression.as_ref().and_then(Suppression::window_ms), self.last_due(occasion.at));
        self.groups.begin(window, before, occasion.at);
        let folded = group.as_ref().is_some_and(|terms| self.groups.of(terms).is_some());
        if folded || self.early_made >= rule.max_signals / 2 {
            return None;
        }
        self.early_made += 1;
        if let Some(terms) = &group {
            self.groups.open(terms.clone(), &id, occasion.at, record);
        }
        let finding = Finding {
            record,
            incident: self.incidents.ahead(record, &id),
            related: Vec::new(),
            suppression: group.as_ref().and_then(|terms| self.groups.of(terms)),
            stage: Stage::Early,
        };
        let alert = alert::make(rule, &id, finding, occasion);
        self.made.insert(id, (alert.bucket_start, Some(bare(&alert))));
        Some(alert)
    }

    /// Takes a finished bucket's record that was told early. True if it was.
    pub(super) fn confirm(&mut self, record: &AnomalyRecord) -> bool {
        let id = alert::id(&self.rule, record);
        let Some((_, Some(alert))) = self.made.get_mut(&id) else { return false };
        if alert.stage != Stage::Early {
            return false;
        }
        let place = self.incidents.extend(record);
        self.incidents.offer_head(record, place, &id);
        alert.incident = self.incidents.of(record, place, &id);
        (alert.stage, alert.record, alert.record_score) = (Stage::Confirmed, record.finalised, record.record_score);
        alert.finding = Some(record.clone());
        self.changed.insert(id);
        true
    }

    fn close(&mut self, bucket: EventMillis) {
        let early = self.made.iter_mut().filter_map(|(id, (_, alert))| Some((id, alert.as_mut()?)));
        for (id, alert) in early.filter(|(_, alert)| alert.stage == Stage::Early && alert.bucket_start <= bucket) {
            alert.stage = Stage::Unconfirmed;
            self.changed.insert(id.clone());
        }
    }
}
