//! What is modelled: a job is a measure, a function and a split, and makes one series per split value.

pub(crate) mod custom_rule;
mod function;
mod written;

use std::fmt;

use spikewatch_domain::{
    key::{Dimension, Subject},
    span::Span,
    window::{Measure, Window},
};

pub use self::{
    custom_rule::CustomRule,
    function::{Aggregate, Function},
};
use crate::baseline::Side;
pub use crate::baseline::table::Model;

/// What a job is split by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// One series over all sites.
    Global,
    /// One series per value of the dimension, in each site.
    By(Dimension),
}

impl Split {
    /// True if windows of `subject` have a series under this split. Reserved subjects, which stand for many hosts or for
    /// the rest of a list, have none.
    #[must_use]
    pub fn takes(self, subject: &Subject) -> bool {
        match (self, subject) {
            (_, Subject::Transit | Subject::Overflow | Subject::Other(_)) | (Self::Global, _) => false,
            (Self::By(dimension), subject) => subject.dimension() == dimension,
        }
    }

    /// True if every host has series of its own.
    #[must_use]
    pub fn is_by_host(self) -> bool {
        self == Self::By(Dimension::Host)
    }

    /// The dimension, unless global.
    #[must_use]
    pub fn dimension(self) -> Option<Dimension> {
        match self {
            Self::Global => None,
            Self::By(dimension) => Some(dimension),
        }
    }

    /// The model of its series where a job doesn't say: rich for the few that carry a whole site or the whole network.
    #[must_use]
    pub fn usual_model(self) -> Model {
        match self {
            Self::Global | Self::By(Dimension::Site) => Model::Rich,
            Self::By(_) => Model::Compact,
        }
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Unique name, also in documents.
    pub id: String,
    /// What is counted.
    pub measure: Measure,
    /// What is looked for.
    pub function: Function,
    /// One series for what.
    pub split: Split,
    /// Length of its buckets: a multiple of the base bucket, which it is if nothing is said.
    pub bucket_span: Option<Span>,
    /// What models its series.
    pub model: Model,
    /// What it leaves out, and when.
    pub rules: Vec<CustomRule>,
    /// What the actual value must differ from the typical one by, in the measure's unit: two peers instead of one may
    /// be rare and is still nothing to tell anyone.
    pub minimum_effect: f64,
}

/// Why jobs can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJob {
    /// No TOML, or unknown or missing fields.
    #[error("jobs: {0}")]
    Syntax(String),
    /// A job's field holds something else.
    #[error("job {id:?}: {field} {value:?} must be {expected}")]
    Field {
        /// The job.
        id: String,
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// A job's buckets don't consist of base buckets.
    #[error("job {id:?}: bucket_span {span} must be a multiple of the base bucket, {base}")]
    Span {
        /// The job.
        id: String,
        /// Its bucket span.
        span: Span,
        /// The base bucket.
        base: Span,
    },
    /// Two jobs with one id.
    #[error("job {0:?} is there twice")]
    Twice(String),
}

impl Job {
    fn builtin(id: &str, measure: Measure, function: Function, split: Split) -> Self {
        let (minimum_effect, model) = (minimum_effect(function, measure), split.usual_model());
        Self { id: id.into(), measure, function, split, bucket_span: None, model, rules: Vec::new(), minimum_effect }
    }

    /// The jobs that every detector has.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        let [count, non_zero, sum, distinct] =
            [Aggregate::Count, Aggregate::NonZeroCount, Aggregate::Sum, Aggregate::DistinctCount]
                .map(|aggregate| Function::Of(aggregate, Side::High));
        let (host, site) = (Split::By(Dimension::Host), Split::By(Dimension::Site));
        vec![
            Self::builtin("high_count_network_events", Measure::Events, count, Split::Global),
            Self::builtin("high_count_network_denies", Measure::Denied, count, Split::Global),
            Self::builtin("high_count_network_events_by_site", Measure::Events, count, site),
            Self::builtin("high_count_network_events_by_host", Measure::Events, count, host),
            Self::builtin("high_bytes_out_by_host", Measure::BytesOut, sum, host),
            Self::builtin("high_bytes_in_by_host", Measure::BytesIn, sum, host),
            Self::builtin("high_packets_in_by_host", Measure::PacketsIn, sum, host),
            Self::builtin("high_distinct_peers_by_host", Measure::DistinctPeers, distinct, host),
            Self::builtin("high_distinct_ports_by_host", Measure::DistinctPeerPorts, distinct, host),
            Self::builtin(
                "high_count_by_destination_country",
                Measure::Events,
                non_zero,
                Split::By(Dimension::Country),
            ),
            Self::builtin("rare_destination_country", Measure::Events, Function::Rare, Split::By(Dimension::Country)),
            Self::builtin("host_activity", Measure::Events, Function::Activity, host),
            Self::builtin("host_exfiltration", Measure::BytesOut, Function::Exfiltration, host),
        ]
    }

    /// Reads jobs from TOML: `[[job]]` tables with `id`, `measure`, `function` and `split`, and what else docs/jobs.md
    /// has.
    ///
    /// # Errors
    /// Names the job and the field that doesn't fit.
    pub fn from_toml(text: &str) -> Result<Vec<Self>, InvalidJob> {
        let file: written::File = toml::from_str(text).map_err(|e| InvalidJob::Syntax(e.to_string()))?;
        let jobs = file.job.into_iter().map(written::Written::check).collect::<Result<Vec<_>, _>>()?;
        match jobs.iter().enumerate().find(|(at, job)| jobs.iter().take(*at).any(|other| other.id == job.id)) {
            Some((_, twice)) => Err(InvalidJob::Twice(twice.id.clone())),
            None => Ok(jobs),
        }
    }

    /// The jobs that every detector has, and these; one of the same id stands in for the one that every detector has.
    #[must_use]
    pub fn with_built_in(own: Vec<Self>) -> Vec<Self> {
        let mut jobs = Self::built_in();
        jobs.retain(|job| own.iter().all(|own| own.id != job.id));
        jobs.extend(own);
        jobs
    }

    /// Checks that jobs' buckets consist of base buckets.
    ///
    /// # Errors
    /// Names the first job whose buckets don't.
    pub fn check_spans(jobs: &[Self], base: Span) -> Result<(), InvalidJob> {
        let faulty =
            jobs.iter().find_map(|job| Some((job, job.bucket_span.filter(|span| !span.is_multiple_of(base))?)));
        faulty.map_or(Ok(()), |(job, span)| Err(InvalidJob::Span { id: job.id.clone(), span, base }))
    }

    /// The groups that it belongs to, for calendars: what it is split by, and its measure.
    #[must_use]
    pub fn groups(&self) -> [&'static str; 2] {
        [self.split.dimension().map_or("global", Dimension::name), self.measure.name()]
    }

    /// The job's value of a window; nothing if the window has none.
    #[must_use]
    pub fn value(&self, window: &Window) -> Option<f64> {
        self.function.value(self.measure, window)
    }
}

/// Least difference worth telling, where a job doesn't say.
fn minimum_effect(function: Function, measure: Measure) -> f64 {
    let mean = function.aggregate() == Some(Aggregate::Mean);
    if function == Function::Rare {
        return 1.0;
    }
    match measure {
        Measure::Events => 20.0,
        Measure::BytesOut | Measure::BytesIn if mean => 1000.0,
        Measure::BytesOut | Measure::BytesIn => 100_000.0,
        Measure::PacketsOut | Measure::PacketsIn if mean => 5.0,
        Measure::PacketsOut | Measure::PacketsIn => 200.0,
        Measure::DistinctPeers | Measure::DistinctPeerPorts => 5.0,
        Measure::Denied => 10.0,
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

#[cfg(test)]
mod tests;
