//! Fields of an anomaly record, by the names that exceptions and suppression use: the program's own words, or those of the
//! alert's ECS document.

use std::fmt;

use serde::{Deserialize, Deserializer};
use spikewatch_domain::key::Dimension;
use spikewatch_proto::convert::results::AnomalyRecord;

use crate::alert;

/// A field of an anomaly record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// Id of the job.
    Job,
    /// Site of the series.
    Site,
    /// What the job is split by, or "global".
    Dimension,
    /// The split value, whatever it is.
    Value,
    /// Function of the job.
    Function,
    /// What is counted.
    Measure,
    /// The split value of a job by host.
    Host,
    /// The split value of a job by country.
    Country,
    /// The split value of a job by ASN.
    Asn,
    /// The split value of a job by port.
    Port,
    /// All peers among the heaviest contributors.
    Peer,
    /// Peers that the host had not met for a week, as a joint job found them.
    NewPeer,
    /// The heaviest peer alone.
    TopPeer,
    /// Services among the contributors, as "443/tcp".
    Service,
    /// Users among the contributors.
    User,
    /// Processes among the contributors.
    Process,
    /// Addresses that sent, as in the alert's `source.ip`.
    SourceIp,
    /// Addresses that received, as in the alert's `destination.ip`.
    DestinationIp,
    /// Record score.
    RecordScore,
    /// What was measured.
    Actual,
    /// What was expected.
    Typical,
}

impl Field {
    /// Every field with its name.
    const NAMES: [(Self, &'static str); 21] = [
        (Self::Job, "job"),
        (Self::Site, "site"),
        (Self::Dimension, "dimension"),
        (Self::Value, "value"),
        (Self::Function, "function"),
        (Self::Measure, "measure"),
        (Self::Host, "host"),
        (Self::Country, "country"),
        (Self::Asn, "asn"),
        (Self::Port, "port"),
        (Self::Peer, "peer"),
        (Self::NewPeer, "new_peer"),
        (Self::TopPeer, "top_peer"),
        (Self::Service, "service"),
        (Self::User, "user"),
        (Self::Process, "process"),
        (Self::SourceIp, "source.ip"),
        (Self::DestinationIp, "destination.ip"),
        (Self::RecordScore, "record_score"),
        (Self::Actual, "actual"),
        (Self::Typical, "typical"),
    ];

    /// Its name; several have another one in ECS, which [`parse`](Self::parse) knows as well.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(field, _)| *field == self).map_or("", |(_, name)| name)
    }

    /// The field of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let name = match name {
            "host.ip" | "host.name" => "host",
            "user.name" => "user",
            "process.name" => "process",
            "labels.site" => "site",
            "labels.job" => "job",
            other => other.strip_prefix("spikewatch.").unwrap_or(other),
        };
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(field, _)| *field)
    }

    /// True of those that are compared as numbers.
    #[must_use]
    pub fn is_number(self) -> bool {
        matches!(self, Self::RecordScore | Self::Actual | Self::Typical)
    }

    /// Its number in a record, if it is one.
    #[must_use]
    pub fn number(self, record: &AnomalyRecord) -> Option<f64> {
        match self {
            Self::RecordScore => Some(record.record_score),
            Self::Actual => Some(record.actual),
            Self::Typical => Some(record.typical),
            _ => None,
        }
    }

    /// Its values in a record: none if the record doesn't have it, several of contributors.
    #[must_use]
    pub fn values(self, record: &AnomalyRecord) -> Vec<String> {
        let one = |text: &str| vec![text.to_owned()];
        match self {
            Self::Job => one(&record.job),
            Self::Site => record.site.iter().map(ToString::to_string).collect(),
            Self::Dimension => one(record.dimension.map_or("global", Dimension::name)),
            Self::Value => Some(&record.value).filter(|value| !value.is_empty()).into_iter().cloned().collect(),
            Self::Function => one(&record.function),
            Self::Measure => one(record.measure.name()),
            Self::Host => split(record, Dimension::Host),
            Self::Country => split(record, Dimension::Country),
            Self::Asn => split(record, Dimension::Asn),
            Self::Port => split(record, Dimension::Port),
            Self::Peer => contributors(record, "peer").collect(),
            Self::NewPeer => contributors(record, "new_peer").collect(),
            Self::TopPeer => contributors(record, "peer").take(1).collect(),
            Self::Service => contributors(record, "service").collect(),
            Self::User => contributors(record, "user").collect(),
            Self::Process => contributors(record, "process").collect(),
            Self::SourceIp => alert::ends(record).0,
            Self::DestinationIp => alert::ends(record).1,
            Self::RecordScore | Self::Actual | Self::Typical => {
                self.number(record).iter().map(ToString::to_string).collect()
            }
        }
    }
}

fn split(record: &AnomalyRecord, dimension: Dimension) -> Vec<String> {
    if record.dimension == Some(dimension) { vec![record.value.clone()] } else { Vec::new() }
}

fn contributors<'a>(record: &'a AnomalyRecord, field: &'a str) -> impl Iterator<Item = String> + 'a {
    record.contributors.iter().filter(move |one| one.field == field).map(|one| one.value.clone())
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| {
            let known: Vec<&str> = Self::NAMES.iter().map(|(_, name)| *name).collect();
            serde::de::Error::custom(format!("{name:?} is no field; expected one of {}", known.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_a_name_of_its_own_and_ecs_names_are_known() {
        for (field, name) in Field::NAMES {
            assert_eq!((Field::parse(name), field.name()), (Some(field), name));
        }
        assert_eq!(Field::parse("host.ip"), Some(Field::Host));
        assert_eq!(Field::parse("spikewatch.measure"), Some(Field::Measure));
        assert_eq!(Field::parse("labels.site"), Some(Field::Site));
        assert_eq!(Field::parse("hostt"), None);
    }
}
