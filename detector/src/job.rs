//! What is modelled: a job is a measure, a function and a split, and makes one series per split value.

use std::fmt;

use serde::Deserialize;
use spikewatch_domain::{
    key::{Dimension, Subject},
    window::{Measure, Window},
};

use crate::baseline::Side;

/// Elastic's names of what is done with a measure. All of these take the sum over the bucket and look for high values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// Events; a bucket without any counts as 0.
    HighCount,
    /// Bytes or packets.
    HighSum,
    /// Different peers or ports.
    HighDistinctCount,
    /// What all measures of a host say together: the rarest of them, and many small packets or connections. Not Elastic's.
    Activity,
    /// What leaves a host for peers that it did not know for a week. Not Elastic's.
    Exfiltration,
}

impl Function {
    /// The measure of a joint function's records where nothing else is said.
    fn shows_in(self) -> Measure {
        if self == Self::Exfiltration { Measure::BytesOut } else { Measure::Events }
    }

    /// Its name in documents and configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HighCount => "high_count",
            Self::HighSum => "high_sum",
            Self::HighDistinctCount => "high_distinct_count",
            Self::Activity => "activity",
            Self::Exfiltration => "exfiltration",
        }
    }

    /// Which deviations it reports.
    #[must_use]
    pub fn side(self) -> Side {
        Side::High
    }

    /// True of those that look at several measures of a host.
    #[must_use]
    pub fn is_joint(self) -> bool {
        matches!(self, Self::Activity | Self::Exfiltration)
    }

    fn fits(self, measure: Measure) -> bool {
        if self.is_joint() {
            return measure == self.shows_in();
        }
        match measure {
            Measure::Events | Measure::Denied => self == Self::HighCount,
            Measure::BytesOut | Measure::BytesIn | Measure::PacketsOut | Measure::PacketsIn => self == Self::HighSum,
            Measure::DistinctPeers | Measure::DistinctPeerPorts => self == Self::HighDistinctCount,
        }
    }
}

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
    /// What the actual value must exceed the typical one by, in the measure's unit: two peers instead of one may be rare
    /// and is still nothing to tell anyone.
    pub minimum_effect: f64,
}

/// A job as configuration writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    measure: String,
    function: Function,
    /// "global" or a dimension.
    split: String,
    /// That of the measure unless it says otherwise.
    minimum_effect: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    job: Vec<Written>,
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
    /// Two jobs with one id.
    #[error("job {0:?} is there twice")]
    Twice(String),
}

impl Job {
    fn builtin(id: &str, measure: Measure, function: Function, split: Split) -> Self {
        Self { id: id.into(), measure, function, split, minimum_effect: minimum_effect(measure) }
    }

    /// The jobs that every detector has.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        use Function::{HighCount, HighDistinctCount, HighSum};
        let (host, site) = (Split::By(Dimension::Host), Split::By(Dimension::Site));
        vec![
            Self::builtin("high_count_network_events", Measure::Events, HighCount, Split::Global),
            Self::builtin("high_count_network_denies", Measure::Denied, HighCount, Split::Global),
            Self::builtin("high_count_network_events_by_site", Measure::Events, HighCount, site),
            Self::builtin("high_count_network_events_by_host", Measure::Events, HighCount, host),
            Self::builtin("high_bytes_out_by_host", Measure::BytesOut, HighSum, host),
            Self::builtin("high_bytes_in_by_host", Measure::BytesIn, HighSum, host),
            Self::builtin("high_packets_in_by_host", Measure::PacketsIn, HighSum, host),
            Self::builtin("high_distinct_peers_by_host", Measure::DistinctPeers, HighDistinctCount, host),
            Self::builtin("high_distinct_ports_by_host", Measure::DistinctPeerPorts, HighDistinctCount, host),
            Self::builtin("host_activity", Measure::Events, Function::Activity, host),
            Self::builtin("host_exfiltration", Measure::BytesOut, Function::Exfiltration, host),
        ]
    }

    /// Reads jobs from TOML: `[[job]]` tables with `id`, `measure`, `function` and `split`.
    ///
    /// # Errors
    /// Names the job and the field that doesn't fit.
    pub fn from_toml(text: &str) -> Result<Vec<Self>, InvalidJob> {
        let file: File = toml::from_str(text).map_err(|e| InvalidJob::Syntax(e.to_string()))?;
        let jobs = file.job.into_iter().map(Self::check).collect::<Result<Vec<_>, _>>()?;
        match jobs.iter().enumerate().find(|(at, job)| jobs.iter().take(*at).any(|other| other.id == job.id)) {
            Some((_, twice)) => Err(InvalidJob::Twice(twice.id.clone())),
            None => Ok(jobs),
        }
    }

    fn check(written: Written) -> Result<Self, InvalidJob> {
        let Written { id, measure, function, split, minimum_effect: effect } = written;
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
        if !function.fits(measure) {
            return Err(invalid(
                "function",
                function.name(),
                "high_count for events and denied, high_sum for bytes and packets, high_distinct_count for peers and ports, \
                 activity for events, exfiltration for bytes_out",
            ));
        }
        let split = match split.as_str() {
            "global" => Split::Global,
            name => match Dimension::ALL.into_iter().find(|dimension| dimension.name() == name) {
                Some(dimension) => Split::By(dimension),
                None => return Err(invalid("split", name, "global, host, site, country, asn or port")),
            },
        };
        if function.is_joint() && split != Split::By(Dimension::Host) {
            let split = split.dimension().map_or("global", Dimension::name);
            return Err(invalid("split", split, "host: joint evidence is that of one host"));
        }
        let distinct = matches!(measure, Measure::DistinctPeers | Measure::DistinctPeerPorts);
        if distinct && matches!(split, Split::By(Dimension::Country | Dimension::Asn | Dimension::Port)) {
            let split = split.dimension().map_or("", Dimension::name);
            return Err(invalid(
                "split",
                split,
                "global, host or site: windows of other dimensions have counters only",
            ));
        }
        let minimum_effect = effect.unwrap_or_else(|| minimum_effect(measure));
        if !(0.0..=1e18).contains(&minimum_effect) {
            return Err(invalid("minimum_effect", &minimum_effect.to_string(), "0 or more"));
        }
        Ok(Self { id, measure, function, split, minimum_effect })
    }

    /// The groups that it belongs to, for calendars: what it is split by, and its measure.
    #[must_use]
    pub fn groups(&self) -> [&'static str; 2] {
        [self.split.dimension().map_or("global", Dimension::name), self.measure.name()]
    }

    /// The job's value of a window.
    #[must_use]
    pub fn value(&self, window: &Window) -> u64 {
        window.measure(self.measure)
    }
}

/// Least excess worth telling, where a job doesn't say.
fn minimum_effect(measure: Measure) -> f64 {
    match measure {
        Measure::Events => 20.0,
        Measure::BytesOut | Measure::BytesIn => 100_000.0,
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
mod tests {
    use super::*;

    #[test]
    fn jobs_come_from_toml() {
        let jobs = Job::from_toml(
            "[[job]]\nid = \"denied_by_host\"\nmeasure = \"denied\"\nfunction = \"high_count\"\nsplit = \"host\"\n",
        )
        .unwrap();
        assert_eq!(jobs.len(), 1);
        assert_eq!((jobs[0].measure, jobs[0].split), (Measure::Denied, Split::By(Dimension::Host)));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |text: &str| Job::from_toml(text).unwrap_err().to_string();
        let job = |measure: &str, function: &str, split: &str| {
            format!("[[job]]\nid = \"j\"\nmeasure = \"{measure}\"\nfunction = \"{function}\"\nsplit = \"{split}\"\n")
        };
        assert!(error(&job("flows", "high_count", "host")).contains("measure \"flows\" must be events"));
        assert!(error(&job("events", "high_sum", "host")).contains("function \"high_sum\" must be"));
        assert!(error(&job("events", "high_count", "user")).contains("split \"user\" must be global"));
        let blind = error(&job("distinct_peers", "high_distinct_count", "port"));
        assert!(blind.contains("split \"port\" must be global, host or site"), "{blind}");
        assert!(error("[[job]]\nid = \"j\"\nsize = 3\n").contains("size"));
        let twice = job("events", "high_count", "host").repeat(2);
        assert!(error(&twice).contains("there twice"));
    }

    #[test]
    fn reserved_hosts_have_no_series() {
        let hosts = Split::By(Dimension::Host);
        assert!(hosts.takes(&Subject::Name("web-1".into())));
        assert!(!hosts.takes(&Subject::Transit) && !hosts.takes(&Subject::Overflow) && !hosts.takes(&Subject::Site));
        assert!(!hosts.takes(&Subject::Other(Dimension::Host)));
        assert!(Split::By(Dimension::Site).takes(&Subject::Site));
        assert!(!hosts.takes(&Subject::Port(53)));
        let ports = Split::By(Dimension::Port);
        assert!(ports.takes(&Subject::Port(53)) && !ports.takes(&Subject::Other(Dimension::Port)));
    }
}
