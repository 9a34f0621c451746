//! Anomaly records from and to their messages.

use spikewatch_domain::{
    key::{Dimension, SiteName},
    record::EventMillis,
    span::Span,
    window::Measure,
};

use super::Invalid;
pub use super::alerts::{Alert, Incident, Stage, Suppressed, Term};
use crate::v1;

/// A job's finding for one series and bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct AnomalyRecord {
    /// Id of the job.
    pub job: String,
    /// Start of the bucket.
    pub bucket_start: EventMillis,
    /// Length of the bucket.
    pub bucket_span: Span,
    /// Site of the series; none for a global one.
    pub site: Option<SiteName>,
    /// What the job is split by; none for a global one.
    pub dimension: Option<Dimension>,
    /// The split value as text; empty for a global series.
    pub value: String,
    /// The job's function, as `high_sum`.
    pub function: String,
    /// What is counted.
    pub measure: Measure,
    /// What was measured.
    pub actual: f64,
    /// What the baseline expected.
    pub typical: f64,
    /// Lower end of the 95 % interval of the expectation.
    pub lower: f64,
    /// Upper end of it.
    pub upper: f64,
    /// 0 to 100; 3 warning, 25 minor, 50 major, 75 critical.
    pub record_score: f64,
    /// The score as it was when the record was made.
    pub initial_record_score: f64,
    /// How often such evidence is seen, 0 to 1.
    pub probability: f64,
    /// -5 (this bucket alone) to 5 (only the run of buckets).
    pub multi_bucket_impact: f64,
    /// Order of finalisation: grows by one with every record.
    pub finalised: u64,
    /// When it was finalised.
    pub finalised_ms: EventMillis,
    /// A member of its site was missing: the value may be too low.
    pub incomplete: bool,
    /// From a correction.
    pub late: bool,
    /// Its bucket is still open: the value is what was counted so far.
    pub early: bool,
    /// Buckets the series had learnt before.
    pub buckets_seen: u32,
    /// Heaviest contributors of the window, heaviest first within a field.
    pub contributors: Vec<Contributor>,
    /// Other measures of the same window.
    pub companions: Vec<Companion>,
    /// Of a joint job: what its score is made of.
    pub parts: Vec<Part>,
    /// Least record score at which rules may make an alert of it, by the bound on false alerts of the deployment; more than
    /// 100 if none would do, 0 if there is no bound.
    pub alert_from: f64,
}

/// One part of joint evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// As `new_peers_12h`.
    pub name: String,
    /// Of event rate: 0 is what a usual day's highest bucket reaches, 1 is reached ten times less often; -3 if unknown.
    pub decades: f64,
}

/// One contributor to a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Contributor {
    /// "site", "peer", "new_peer", "service", "user" or "process".
    pub field: String,
    /// Who.
    pub value: String,
    /// Events counted for it.
    pub events: u64,
    /// Bytes counted for it, both directions; of a new peer those sent to it.
    pub bytes: u64,
    /// What both may miss at most, in bytes + 256 × events.
    pub error: f64,
    /// Points of the record's score that go when what is counted for it is left out; none where the measure is not
    /// counted by contributor, and of records that score too little to be explained.
    pub influencer_score: Option<f64>,
}

/// Another measure of the window that a record is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Companion {
    /// Id of the job that watches it.
    pub job: String,
    /// The measure.
    pub measure: Measure,
    /// What was measured.
    pub actual: f64,
    /// What was expected.
    pub typical: f64,
    /// 0 to 100.
    pub record_score: f64,
}

fn measure(field: &'static str, name: &str) -> Result<Measure, Invalid> {
    Measure::ALL
        .into_iter()
        .find(|measure| measure.name() == name)
        .ok_or_else(|| Invalid::new(field, format!("{name:?} is no measure")))
}

pub(super) fn number(field: &'static str, value: f64, least: f64, most: f64) -> Result<f64, Invalid> {
    if value >= least && value <= most {
        Ok(value)
    } else {
        Err(Invalid::new(field, format!("{value} is outside {least} to {most}")))
    }
}

impl TryFrom<v1::AnomalyRecord> for AnomalyRecord {
    type Error = Invalid;

    fn try_from(message: v1::AnomalyRecord) -> Result<Self, Invalid> {
        let site = match message.site.as_str() {
            "" => None,
            name => Some(name.parse().map_err(|e| Invalid::new("AnomalyRecord.site", format!("{e}")))?),
        };
        let dimension = match message.dimension.as_str() {
            "" => None,
            name => Some(
                Dimension::ALL
                    .into_iter()
                    .find(|dimension| dimension.name() == name)
                    .ok_or_else(|| Invalid::new("AnomalyRecord.dimension", format!("{name:?} is no dimension")))?,
            ),
        };
        if message.job.is_empty() {
            return Err(Invalid::new("AnomalyRecord.job", "is empty"));
        }
        let score = |field, value| number(field, value, 0.0, 100.0);
        let value = |field, value| number(field, value, 0.0, f64::MAX);
        Ok(Self {
            bucket_span: Span::from_seconds(u64::from(message.bucket_seconds))
                .map_err(|e| Invalid::new("AnomalyRecord.bucket_seconds", e.to_string()))?,
            measure: measure("AnomalyRecord.measure", &message.measure)?,
            actual: value("AnomalyRecord.actual", message.actual)?,
            typical: value("AnomalyRecord.typical", message.typical)?,
            lower: value("AnomalyRecord.lower", message.lower)?,
            upper: value("AnomalyRecord.upper", message.upper)?,
            record_score: score("AnomalyRecord.record_score", message.record_score)?,
            initial_record_score: score("AnomalyRecord.initial_record_score", message.initial_record_score)?,
            probability: number("AnomalyRecord.probability", message.probability, 0.0, 1.0)?,
            multi_bucket_impact: number("AnomalyRecord.multi_bucket_impact", message.multi_bucket_impact, -5.0, 5.0)?,
            job: message.job,
            bucket_start: message.bucket_start_ms,
            site,
            dimension,
            value: message.value,
            function: message.function,
            finalised: message.finalised,
            finalised_ms: message.finalised_ms,
            incomplete: message.incomplete,
            late: message.late,
            early: message.early,
            buckets_seen: message.buckets_seen,
            contributors: message.contributors.into_iter().map(Contributor::try_from).collect::<Result<_, _>>()?,
            companions: message.companions.into_iter().map(Companion::try_from).collect::<Result<_, _>>()?,
            parts: message.parts.into_iter().map(Part::try_from).collect::<Result<_, _>>()?,
            alert_from: number("AnomalyRecord.alert_from", message.alert_from, 0.0, f64::MAX)?,
        })
    }
}

impl From<AnomalyRecord> for v1::AnomalyRecord {
    fn from(record: AnomalyRecord) -> Self {
        Self {
            job: record.job,
            bucket_start_ms: record.bucket_start,
            bucket_seconds: record.bucket_span.seconds(),
            site: record.site.map(|site| site.as_str().to_owned()).unwrap_or_default(),
            dimension: record.dimension.map(|dimension| dimension.name().to_owned()).unwrap_or_default(),
            value: record.value,
            function: record.function,
            measure: record.measure.name().to_owned(),
            actual: record.actual,
            typical: record.typical,
            lower: record.lower,
            upper: record.upper,
            record_score: record.record_score,
            initial_record_score: record.initial_record_score,
            probability: record.probability,
            multi_bucket_impact: record.multi_bucket_impact,
            finalised: record.finalised,
            finalised_ms: record.finalised_ms,
            incomplete: record.incomplete,
            late: record.late,
            early: record.early,
            buckets_seen: record.buckets_seen,
            contributors: record.contributors.into_iter().map(v1::Contributor::from).collect(),
            companions: record.companions.into_iter().map(v1::Companion::from).collect(),
            parts: record.parts.into_iter().map(v1::Part::from).collect(),
            alert_from: record.alert_from,
        }
    }
}

impl TryFrom<v1::Contributor> for Contributor {
    type Error = Invalid;

    fn try_from(message: v1::Contributor) -> Result<Self, Invalid> {
        let v1::Contributor { field, value, events, bytes, error, influencer_score } = message;
        let points = influencer_score.map(|points| number("Contributor.influencer_score", points, 0.0, 100.0));
        let error = number("Contributor.error", error, 0.0, f64::MAX)?;
        Ok(Self { field, value, events, bytes, error, influencer_score: points.transpose()? })
    }
}

impl From<Contributor> for v1::Contributor {
    fn from(contributor: Contributor) -> Self {
        let Contributor { field, value, events, bytes, error, influencer_score } = contributor;
        Self { field, value, events, bytes, error, influencer_score }
    }
}

impl TryFrom<v1::Part> for Part {
    type Error = Invalid;

    fn try_from(v1::Part { name, decades }: v1::Part) -> Result<Self, Invalid> {
        Ok(Self { name, decades: number("Part.decades", decades, f64::MIN, f64::MAX)? })
    }
}

impl From<Part> for v1::Part {
    fn from(Part { name, decades }: Part) -> Self {
        Self { name, decades }
    }
}

impl TryFrom<v1::Companion> for Companion {
    type Error = Invalid;

    fn try_from(message: v1::Companion) -> Result<Self, Invalid> {
        Ok(Self {
            measure: measure("Companion.measure", &message.measure)?,
            actual: number("Companion.actual", message.actual, 0.0, f64::MAX)?,
            typical: number("Companion.typical", message.typical, 0.0, f64::MAX)?,
            record_score: number("Companion.record_score", message.record_score, 0.0, 100.0)?,
            job: message.job,
        })
    }
}

impl From<Companion> for v1::Companion {
    fn from(companion: Companion) -> Self {
        Self {
            job: companion.job,
            measure: companion.measure.name().to_owned(),
            actual: companion.actual,
            typical: companion.typical,
            record_score: companion.record_score,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> AnomalyRecord {
        AnomalyRecord {
            job: "high_bytes_out_by_host".into(),
            bucket_start: 900_000,
            bucket_span: Span::QUARTER_HOUR,
            site: Some("berlin".parse().unwrap()),
            dimension: Some(Dimension::Host),
            value: "10.0.0.1".into(),
            function: "high_sum".into(),
            measure: Measure::BytesOut,
            actual: 5e9,
            typical: 1e6,
            lower: 1e5,
            upper: 1e7,
            record_score: 91.5,
            initial_record_score: 91.5,
            probability: 1e-6,
            multi_bucket_impact: -3.0,
            finalised: 7,
            finalised_ms: 1_800_000,
            incomplete: false,
            late: false,
            early: false,
            buckets_seen: 1000,
            contributors: vec![Contributor {
                field: "peer".into(),
                value: "203.0.113.9".into(),
                events: 3,
                bytes: 4_900_000_000,
                error: 0.0,
                influencer_score: Some(88.5),
            }],
            companions: vec![Companion {
                job: "high_bytes_in_by_host".into(),
                measure: Measure::BytesIn,
                actual: 5e6,
                typical: 4e6,
                record_score: 2.0,
            }],
            parts: vec![Part { name: "new_peers_12h".into(), decades: 3.5 }],
            alert_from: 101.5,
        }
    }

    #[test]
    fn a_record_survives_the_wire() {
        assert_eq!(AnomalyRecord::try_from(v1::AnomalyRecord::from(record())).unwrap(), record());
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let good = v1::AnomalyRecord::from(record());
        let field = |message: v1::AnomalyRecord| AnomalyRecord::try_from(message).unwrap_err().field;
        assert_eq!(field(v1::AnomalyRecord { record_score: f64::NAN, ..good.clone() }), "AnomalyRecord.record_score");
        assert_eq!(field(v1::AnomalyRecord { measure: "flows".into(), ..good.clone() }), "AnomalyRecord.measure");
        assert_eq!(field(v1::AnomalyRecord { bucket_seconds: 0, ..good.clone() }), "AnomalyRecord.bucket_seconds");
        let contributor = good.contributors[0].clone();
        let points = v1::Contributor { influencer_score: Some(f64::NAN), ..contributor.clone() };
        let error = v1::Contributor { error: -1.0, ..contributor };
        for (contributor, named) in [(points, "Contributor.influencer_score"), (error, "Contributor.error")] {
            assert_eq!(field(v1::AnomalyRecord { contributors: vec![contributor], ..good.clone() }), named);
        }
        assert_eq!(field(v1::AnomalyRecord { site: "a b".into(), ..good }), "AnomalyRecord.site");
    }
}
