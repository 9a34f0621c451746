//! Alerts: what a rule makes of an anomaly record, as an ECS document that explains itself.

mod document;
pub mod kibana;
mod kind;
mod quantity;
mod reason;

use sha2::{Digest as _, Sha256};
use spikewatch_domain::record::EventMillis;
use spikewatch_proto::convert::results::{Alert, AnomalyRecord, Incident, Stage, Suppressed};

pub(crate) use self::document::ends;
pub use self::kind::{Kind, Likely};
use crate::rule::Rule;

/// An anomaly record with what is known around it.
#[derive(Debug)]
pub struct Finding<'a> {
    /// The record.
    pub record: &'a AnomalyRecord,
    /// The incident that it belongs to.
    pub incident: Incident,
    /// Ids of the alerts of the same bucket and split value from other jobs.
    pub related: Vec<String>,
    /// What the alert stands for besides, if the rule suppresses.
    pub suppression: Option<Suppressed>,
    /// Whether the bucket has ended, and if it was told of before.
    pub stage: Stage,
}

/// The execution that makes an alert.
#[derive(Debug, Clone, Copy)]
pub struct Occasion {
    /// Its number.
    pub execution: u64,
    /// When it is.
    pub at: EventMillis,
    /// A person asked for it.
    pub manual: bool,
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
pub fn make(rule: &Rule, id: &str, finding: Finding<'_>, occasion: Occasion) -> Alert {
    let Finding { record, incident, related, suppression, stage } = finding;
    let mut alert = Alert {
        id: id.to_owned(),
        version: 1,
        rule_id: rule.id.clone(),
        rule_name: rule.name.clone(),
        job: record.job.clone(),
        bucket_start: record.bucket_start,
        created: occasion.at,
        updated: occasion.at,
        site: record.site.clone(),
        value: record.value.clone(),
        record_score: record.record_score,
        document: String::new(),
        reason: String::new(),
        execution: occasion.execution,
        manual: occasion.manual,
        record: record.finalised,
        stage,
        finding: Some(record.clone()),
        incident,
        suppression,
        related,
    };
    render(rule, &mut alert);
    alert
}

/// Writes reason and document from the rest of the alert. One of an older version, without its anomaly record, stays as it
/// is.
pub fn render(rule: &Rule, alert: &mut Alert) {
    let Some(record) = &alert.finding else { return };
    let likely = kind::of(record);
    let reason = reason::of(alert, record, &likely);
    alert.document = document::of(rule, alert, record, &likely, &reason);
    alert.reason = reason;
}

#[cfg(test)]
mod tests;
