//! Jobs as configuration writes them.

use serde::Deserialize;
use spikewatch_domain::{key::Dimension, span::Span, window::Measure};

use super::{Aggregate, CustomRule, Function, InvalidJob, Job, Model, Split};
use crate::{baseline::Side, rule};

/// Most custom rules of a job.
const MOST_RULES: usize = 100;

/// A job as configuration writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    id: String,
    measure: String,
    function: Function,
    /// "global" or a dimension.
    split: String,
    /// As "1h"; the base bucket unless it says otherwise.
    bucket_span: Option<String>,
    /// "compact" or "rich"; that of the split unless it says otherwise.
    model: Option<String>,
    /// What it leaves out, and when.
    #[serde(default)]
    rules: Vec<CustomRule>,
    /// That of the measure unless it says otherwise.
    minimum_effect: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) job: Vec<Written>,
}

impl Written {
    /// The job, if its fields fit together.
    pub(super) fn check(self) -> Result<Job, InvalidJob> {
        let Self { id, measure, function, split, bucket_span, model, rules, minimum_effect: effect } = self;
        let invalid = |field, value: &str, expected| InvalidJob::Field {
            id: id.clone(),
            field,
            value: value.to_owned(),
            expected,
        };
        if !(1..=64).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
            return Err(invalid("id", &id, "1 to 64 letters, digits, '_', '-' or '.'"));
        }
        let known = Measure::ALL.into_iter().find(|known| known.name() == measure);
        let measure = known.ok_or_else(|| {
            invalid(
                "measure",
                &measure,
                "events, bytes_out, bytes_in, packets_out, packets_in, distinct_peers, distinct_peer_ports or denied",
            )
        })?;
        if let Some(expected) = function.misfit(measure) {
            return Err(invalid("function", function.name(), expected));
        }
        let split = match split.as_str() {
            "global" => Split::Global,
            name => match Dimension::ALL.into_iter().find(|dimension| dimension.name() == name) {
                Some(dimension) => Split::By(dimension),
                None => return Err(invalid("split", name, "global, host, site, country, asn or port")),
            },
        };
        let split_name = split.dimension().map_or("global", Dimension::name);
        if function.is_joint() && !split.is_by_host() {
            return Err(invalid("split", split_name, "host: joint evidence is that of one host"));
        }
        let distinct = function.aggregate() == Some(Aggregate::DistinctCount);
        let listed = matches!(split, Split::By(Dimension::Country | Dimension::Asn | Dimension::Port));
        if distinct && listed {
            let expected = "global, host or site: windows of other dimensions have counters only";
            return Err(invalid("split", split_name, expected));
        }
        if listed && function.side() != Side::High && function.is_zero_when_absent() {
            let expected = "a high_ function, or non_zero_count or mean: a value that is not among the heaviest of its site \
                            has no window, so its absence is not 0";
            return Err(invalid("function", function.name(), expected));
        }
        if function == Function::Rare && !(listed || split.is_by_host()) {
            return Err(invalid(
                "split",
                split_name,
                "country, asn, port or host: what is rare is a value of one of these",
            ));
        }
        let model = match model {
            None => split.usual_model(),
            Some(name) if function.aggregate().is_none() => {
                let expected = "left out: a joint job has the models of the other by-host jobs, and rare has none";
                return Err(invalid("model", &name, expected));
            }
            Some(name) => Model::named(&name).ok_or_else(|| invalid("model", &name, "compact or rich"))?,
        };
        if (function.is_joint() && !rules.is_empty()) || rules.len() > MOST_RULES {
            let expected = "at most 100, and none of a joint job; calendars and exceptions do there";
            return Err(invalid("rules", &rules.len().to_string(), expected));
        }
        let bucket_span = match bucket_span {
            Some(text) if function.is_joint() => {
                return Err(invalid(
                    "bucket_span",
                    &text,
                    "left out: a joint job has the buckets of the other by-host jobs",
                ));
            }
            Some(text) => Some(span(&text).ok_or_else(|| invalid("bucket_span", &text, "1s to 1d, as \"1h\""))?),
            None => None,
        };
        let minimum_effect = effect.unwrap_or_else(|| super::minimum_effect(function, measure));
        if !(0.0..=1e18).contains(&minimum_effect) {
            return Err(invalid("minimum_effect", &minimum_effect.to_string(), "0 or more"));
        }
        Ok(Job { id, measure, function, split, bucket_span, model, rules, minimum_effect })
    }
}

fn span(text: &str) -> Option<Span> {
    rule::parse(text).and_then(|length| Span::from_seconds(length.as_secs()).ok())
}
