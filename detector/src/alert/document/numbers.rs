//! What the document has under `spikewatch`: the anomaly in numbers, and what ECS has no field for.

use serde::Serialize;
use spikewatch_domain::key::Dimension;
use spikewatch_proto::convert::results::{Alert, AnomalyRecord, Contributor, Incident, Part, Suppressed, Term};

use crate::{
    alert::{
        kind::{Likely, Number},
        quantity::{rounded, time},
        reason,
    },
    joint::UNKNOWN,
    rule::{Rule, Threat},
};

#[derive(Serialize)]
pub(super) struct Numbers<'a> {
    execution: u64,
    execution_type: &'static str,
    version: u32,
    updated: String,
    job: &'a str,
    function: &'a str,
    measure: &'static str,
    dimension: &'static str,
    value: &'a str,
    actual: f64,
    typical: f64,
    lower: f64,
    upper: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
    record_score: f64,
    initial_record_score: f64,
    probability: f64,
    multi_bucket_impact: f64,
    bucket_start: String,
    bucket_span_s: u32,
    since: String,
    incident: IncidentFields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suppression: Option<SuppressionFields<'a>>,
    buckets_seen: u32,
    warming_up: bool,
    incomplete: bool,
    late: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    stage: &'static str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kind_evidence: Vec<Evidence>,
    /// Joint evidence by its parts: decades of event rate above the host's own usual day.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartFields<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    companions: Vec<CompanionFields<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contributors: Vec<ContributorFields<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related: Vec<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    false_positives: &'a [String],
    rule: RuleNumbers<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    guide: &'a str,
}

#[derive(Serialize)]
struct IncidentFields<'a> {
    id: &'a str,
    status: &'static str,
    start: String,
    last: String,
    duration_s: u64,
    buckets: u32,
    peak_score: f64,
}

#[derive(Serialize)]
struct SuppressionFields<'a> {
    terms: Vec<TermFields<'a>>,
    start: String,
    end: String,
    count: u64,
}

#[derive(Serialize)]
struct TermFields<'a> {
    field: &'a str,
    values: &'a [String],
}

#[derive(Serialize)]
struct RuleNumbers<'a> {
    severity: &'static str,
    threshold: f64,
    interval_s: u64,
    look_back_s: u64,
    max_signals: usize,
    jobs: &'a [String],
    threat: &'a [Threat],
}

#[derive(Serialize)]
struct Evidence {
    measure: &'static str,
    actual: f64,
    typical: f64,
}

#[derive(Serialize)]
struct PartFields<'a> {
    name: &'a str,
    decades: f64,
}

#[derive(Serialize)]
struct CompanionFields<'a> {
    job: &'a str,
    measure: &'static str,
    actual: f64,
    typical: f64,
    record_score: f64,
}

#[derive(Serialize)]
struct ContributorFields<'a> {
    field: &'a str,
    value: &'a str,
    events: u64,
    bytes: u64,
    /// Upper bound on what both may miss, in bytes + 256 × events.
    error: f64,
    /// Points of the record's score that go when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    influencer_score: Option<f64>,
}

/// What the joint model knew of the host; nothing is said of parts that it didn't.
fn known(parts: &[Part]) -> Vec<PartFields<'_>> {
    let known = parts.iter().filter(|part| part.decades > UNKNOWN);
    known.map(|Part { name, decades }| PartFields { name, decades: rounded(*decades) }).collect()
}

impl<'a> Numbers<'a> {
    pub(super) fn of(rule: &'a Rule, alert: &'a Alert, record: &'a AnomalyRecord, likely: &Likely) -> Self {
        let evidence = |number: &Number| Evidence {
            measure: number.what,
            actual: rounded(number.actual),
            typical: rounded(number.typical),
        };
        Self {
            execution: alert.execution,
            execution_type: if alert.manual { "manual" } else { "scheduled" },
            version: alert.version,
            updated: time(alert.updated),
            job: &record.job,
            function: &record.function,
            measure: record.measure.name(),
            dimension: record.dimension.map_or("global", Dimension::name),
            value: &record.value,
            actual: record.actual,
            typical: rounded(record.typical),
            lower: rounded(record.lower),
            upper: rounded(record.upper),
            factor: reason::factor(record).map(rounded),
            record_score: rounded(record.record_score),
            initial_record_score: rounded(record.initial_record_score),
            probability: rounded(record.probability),
            multi_bucket_impact: rounded(record.multi_bucket_impact),
            bucket_start: time(record.bucket_start),
            bucket_span_s: record.bucket_span.seconds(),
            since: time(alert.incident.start),
            incident: incident(&alert.incident),
            suppression: alert.suppression.as_ref().map(suppression),
            buckets_seen: record.buckets_seen,
            warming_up: is_warming_up(record),
            incomplete: record.incomplete,
            late: record.late,
            stage: alert.stage.name(),
            kind: likely.kind.name(),
            kind_evidence: likely.evidence.iter().map(evidence).collect(),
            parts: known(&record.parts),
            companions: record
                .companions
                .iter()
                .map(|companion| CompanionFields {
                    job: &companion.job,
                    measure: companion.measure.name(),
                    actual: companion.actual,
                    typical: rounded(companion.typical),
                    record_score: rounded(companion.record_score),
                })
                .collect(),
            contributors: record
                .contributors
                .iter()
                .map(|Contributor { field, value, events, bytes, error, influencer_score }| ContributorFields {
                    field,
                    value,
                    events: *events,
                    bytes: *bytes,
                    error: rounded(*error),
                    influencer_score: influencer_score.map(rounded),
                })
                .collect(),
            related: alert.related.iter().map(String::as_str).collect(),
            false_positives: &rule.false_positives,
            rule: RuleNumbers {
                severity: rule.severity.name(),
                threshold: rule.threshold,
                interval_s: rule.interval.as_secs(),
                look_back_s: rule.look_back.as_secs(),
                max_signals: rule.max_signals,
                jobs: &rule.jobs,
                threat: &rule.threat,
            },
            guide: rule.note.trim(),
        }
    }
}

fn incident(incident: &Incident) -> IncidentFields<'_> {
    IncidentFields {
        id: &incident.id,
        status: if incident.ended { "ended" } else { "active" },
        start: time(incident.start),
        last: time(incident.last),
        duration_s: incident.last.saturating_sub(incident.start) / 1000,
        buckets: incident.buckets,
        peak_score: rounded(incident.peak_score),
    }
}

fn suppression(suppressed: &Suppressed) -> SuppressionFields<'_> {
    SuppressionFields {
        terms: suppressed.terms.iter().map(|Term { field, values }| TermFields { field, values }).collect(),
        start: time(suppressed.start),
        end: time(suppressed.end),
        count: suppressed.count,
    }
}

/// A series of less than a day doesn't know its day.
fn is_warming_up(record: &AnomalyRecord) -> bool {
    u64::from(record.buckets_seen) * u64::from(record.bucket_span.seconds()) < 86_400
}
