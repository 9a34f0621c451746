//! Alerts: what a rule makes of an anomaly record, as an ECS document that explains itself.

mod document;
mod kind;
mod quantity;
mod reason;

use sha2::{Digest as _, Sha256};
use spikewatch_domain::record::EventMillis;
use spikewatch_proto::convert::results::{Alert, AnomalyRecord, Stage};

pub use self::kind::{Kind, Likely};
use crate::rule::Rule;

/// An anomaly record with what is known around it.
#[derive(Debug)]
pub struct Finding<'a> {
    /// The record.
    pub record: &'a AnomalyRecord,
    /// Start of the first of the consecutive buckets over the rule's threshold.
    pub since: EventMillis,
    /// Ids of the alerts of the same bucket and split value from other jobs.
    pub related: Vec<String>,
    /// Whether the bucket has ended, and if it was told of before.
    pub stage: Stage,
}

/// The alert's id: SHA-256 over rule, job, bucket and split value, in hexadecimal. An alert that is made again, by another
/// execution or after a restart, is the same alert.
#[must_use]
pub fn id(rule: &Rule, record: &AnomalyRecord) -> String {
    let mut hash = Sha256::new();
    let site = record.site.as_ref().map(|site| site.as_str()).unwrap_or_default();
    let dimension = record.dimension.map(|dimension| dimension.name()).unwrap_or_default();
    let bucket = record.bucket_start.to_string();
    for part in [&rule.id, &record.job, bucket.as_str(), site, dimension, &record.value] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes the alert of a finding.
#[must_use]
pub fn make(rule: &Rule, id: &str, finding: &Finding<'_>, execution: u64, now: EventMillis) -> Alert {
    let record = finding.record;
    let likely = kind::of(record);
    let reason = reason::of(finding, &likely);
    Alert {
        id: id.to_owned(),
        version: 1,
        rule_id: rule.id.clone(),
        rule_name: rule.name.clone(),
        job: record.job.clone(),
        bucket_start: record.bucket_start,
        created: now,
        site: record.site.clone(),
        value: record.value.clone(),
        record_score: record.record_score,
        document: document::of(rule, id, finding, &likely, &reason, execution, now),
        reason,
        execution,
        record: record.finalised,
        stage: finding.stage,
    }
}

/// The next version of an early alert whose finished bucket was not over the threshold: the baseline, or what is excepted,
/// has changed since it was made.
#[must_use]
pub fn unconfirmed(alert: Alert) -> Alert {
    let stage = Stage::Unconfirmed;
    let document = document::with_stage(&alert.document, stage);
    let reason = format!("{} {}", alert.reason, reason::of_stage(stage));
    Alert { version: alert.version.saturating_add(1), stage, document, reason, ..alert }
}

#[cfg(test)]
mod tests;
