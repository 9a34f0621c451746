//! Alerts from and to their messages.

use spikewatch_domain::{key::SiteName, record::EventMillis};

use super::{
    Invalid,
    results::{AnomalyRecord, number},
};
use crate::v1;

/// What a rule makes of an anomaly record.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// SHA-256 of rule, job, bucket and split value: 64 hexadecimal digits.
    pub id: String,
    /// Grows when the alert is updated, from 1.
    pub version: u32,
    /// Id of the rule.
    pub rule_id: String,
    /// Its name.
    pub rule_name: String,
    /// Id of the job.
    pub job: String,
    /// Start of the bucket.
    pub bucket_start: EventMillis,
    /// When the alert was made.
    pub created: EventMillis,
    /// When this version was made.
    pub updated: EventMillis,
    /// The site; none for a global series.
    pub site: Option<SiteName>,
    /// The split value as text.
    pub value: String,
    /// 0 to 100.
    pub record_score: f64,
    /// One sentence: actual, typical, how many times, since when, top contributors.
    pub reason: String,
    /// The whole ECS document, JSON.
    pub document: String,
    /// Number of the execution that made it.
    pub execution: u64,
    /// It was made by a run that a person asked for.
    pub manual: bool,
    /// Number of the anomaly record that this version tells of; 0 while its bucket is open.
    pub record: u64,
    /// Whether its bucket has ended, and if it was told of before.
    pub stage: Stage,
    /// That record: what the document is made of, besides the rule; none in alerts of older versions.
    pub finding: Option<AnomalyRecord>,
    /// The incident that it belongs to.
    pub incident: Incident,
    /// What it stands for besides itself, if the rule suppresses.
    pub suppression: Option<Suppressed>,
    /// Ids of the alerts of the same bucket and split value from other jobs.
    pub related: Vec<String>,
}

/// How sure an alert is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    /// Its bucket has ended, and this was the first to be said of it.
    #[default]
    Final,
    /// Its bucket is still open.
    Early,
    /// It was early; the finished bucket says the same.
    Confirmed,
    /// It was early; the finished bucket does not say the same.
    Unconfirmed,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Final, Self::Early, Self::Confirmed, Self::Unconfirmed];

    /// Its name in documents; empty if final.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Final => "",
            Self::Early => "early",
            Self::Confirmed => "confirmed",
            Self::Unconfirmed => "not_confirmed",
        }
    }
}

/// Consecutive buckets of one series over a rule's threshold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Incident {
    /// Id of the alert that tells of it while it lasts: its first.
    pub id: String,
    /// Start of its first bucket.
    pub start: EventMillis,
    /// End of its last bucket so far.
    pub last: EventMillis,
    /// A later bucket was not over the threshold.
    pub ended: bool,
    /// Buckets so far.
    pub buckets: u32,
    /// The highest record score in them.
    pub peak_score: f64,
}

/// What an alert stands for besides itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Suppressed {
    /// What all of it has in common.
    pub terms: Vec<Term>,
    /// Start of the first bucket.
    pub start: EventMillis,
    /// End of the last bucket.
    pub end: EventMillis,
    /// Anomaly records that made no alert of their own.
    pub count: u64,
}

/// A field and what all anomaly records of a group have in it; nothing if they have none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term {
    /// Name of the field.
    pub field: String,
    /// Its values, sorted.
    pub values: Vec<String>,
}

impl TryFrom<v1::Alert> for Alert {
    type Error = Invalid;

    fn try_from(message: v1::Alert) -> Result<Self, Invalid> {
        let hexadecimal = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if message.id.len() != 64 || !hexadecimal(&message.id) {
            return Err(Invalid::new("Alert.id", format!("{:?} is not 64 hexadecimal digits", message.id)));
        }
        let site = match message.site.as_str() {
            "" => None,
            name => Some(name.parse().map_err(|e| Invalid::new("Alert.site", format!("{e}")))?),
        };
        Ok(Self {
            record_score: number("Alert.record_score", message.record_score, 0.0, 100.0)?,
            finding: message.finding.map(AnomalyRecord::try_from).transpose()?,
            record: message.record,
            stage: *Stage::ALL
                .iter()
                .find(|stage| stage.name() == message.stage)
                .ok_or_else(|| Invalid::new("Alert.stage", format!("{:?} is no stage", message.stage)))?,
            incident: message.incident.map(Incident::try_from).transpose()?.unwrap_or_default(),
            suppression: message.suppression.map(Suppressed::from),
            id: message.id,
            version: message.version,
            rule_id: message.rule_id,
            rule_name: message.rule_name,
            job: message.job,
            bucket_start: message.bucket_start_ms,
            created: message.created_ms,
            updated: message.updated_ms.max(message.created_ms),
            site,
            value: message.value,
            reason: message.reason,
            document: message.document,
            execution: message.execution,
            manual: message.manual,
            related: message.related,
        })
    }
}

impl From<Alert> for v1::Alert {
    fn from(alert: Alert) -> Self {
        Self {
            id: alert.id,
            version: alert.version,
            rule_id: alert.rule_id,
            rule_name: alert.rule_name,
            job: alert.job,
            bucket_start_ms: alert.bucket_start,
            created_ms: alert.created,
            updated_ms: alert.updated,
            site: alert.site.map(|site| site.as_str().to_owned()).unwrap_or_default(),
            value: alert.value,
            record_score: alert.record_score,
            reason: alert.reason,
            document: alert.document,
            execution: alert.execution,
            manual: alert.manual,
            record: alert.record,
            stage: alert.stage.name().to_owned(),
            finding: alert.finding.map(Into::into),
            incident: Some(alert.incident.into()),
            suppression: alert.suppression.map(Into::into),
            related: alert.related,
        }
    }
}

impl TryFrom<v1::Incident> for Incident {
    type Error = Invalid;

    fn try_from(message: v1::Incident) -> Result<Self, Invalid> {
        Ok(Self {
            peak_score: number("Incident.peak_score", message.peak_score, 0.0, 100.0)?,
            id: message.id,
            start: message.start_ms,
            last: message.last_ms,
            ended: message.ended,
            buckets: message.buckets,
        })
    }
}

impl From<Incident> for v1::Incident {
    fn from(incident: Incident) -> Self {
        let Incident { id, start, last, ended, buckets, peak_score } = incident;
        Self { id, start_ms: start, last_ms: last, ended, buckets, peak_score }
    }
}

impl From<v1::Suppression> for Suppressed {
    fn from(message: v1::Suppression) -> Self {
        let terms = message.terms.into_iter().map(Term::from).collect();
        Self { terms, start: message.start_ms, end: message.end_ms, count: message.count }
    }
}

impl From<Suppressed> for v1::Suppression {
    fn from(suppressed: Suppressed) -> Self {
        let Suppressed { terms, start, end, count } = suppressed;
        Self { terms: terms.into_iter().map(v1::Term::from).collect(), start_ms: start, end_ms: end, count }
    }
}

impl From<v1::Term> for Term {
    fn from(message: v1::Term) -> Self {
        let v1::Term { field, values } = message;
        Self { field, values }
    }
}

impl From<Term> for v1::Term {
    fn from(term: Term) -> Self {
        let Term { field, values } = term;
        Self { field, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert() -> Alert {
        Alert {
            id: "ab".repeat(32),
            version: 3,
            rule_id: "r".into(),
            rule_name: "Rule".into(),
            job: "high_bytes_out_by_host".into(),
            bucket_start: 900_000,
            created: 1_800_000,
            updated: 2_700_000,
            site: Some("berlin".parse().unwrap()),
            value: "10.0.0.1".into(),
            record_score: 91.5,
            reason: "It sent much.".into(),
            document: "{}".into(),
            execution: 7,
            manual: true,
            record: 9,
            stage: Stage::Confirmed,
            finding: None,
            incident: Incident {
                id: "ab".repeat(32),
                start: 0,
                last: 1_800_000,
                ended: true,
                buckets: 2,
                peak_score: 99.0,
            },
            suppression: Some(Suppressed {
                terms: vec![Term { field: "host".into(), values: vec!["10.0.0.1".into()] }],
                start: 0,
                end: 1_800_000,
                count: 4,
            }),
            related: vec!["cd".repeat(32)],
        }
    }

    #[test]
    fn an_alert_survives_the_wire() {
        assert_eq!(Alert::try_from(v1::Alert::from(alert())).unwrap(), alert());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let good = v1::Alert::from(alert());
        let field = |message: v1::Alert| Alert::try_from(message).unwrap_err().field;
        assert_eq!(field(v1::Alert { id: "AB".repeat(32), ..good.clone() }), "Alert.id");
        assert_eq!(field(v1::Alert { record_score: 100.5, ..good.clone() }), "Alert.record_score");
        let incident = good.incident.clone().map(|incident| v1::Incident { peak_score: f64::NAN, ..incident });
        assert_eq!(field(v1::Alert { incident, ..good }), "Incident.peak_score");
    }
}
