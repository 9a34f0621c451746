//! The alert as an ECS document (Elastic Common Schema 9). What ECS has no field for is under `spikewatch`. Fields come in
//! a fixed order, so that equal alerts are equal bytes.

mod numbers;

use std::net::IpAddr;

use serde::Serialize;
use spikewatch_domain::{key::Dimension, record::Place, window::Measure};
use spikewatch_proto::convert::results::{Alert, AnomalyRecord};

use self::numbers::Numbers;
use super::{kind::Likely, quantity::time};
use crate::rule::Rule;

const ECS_VERSION: &str = "9.0.0";

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: String,
    message: &'a str,
    ecs: Ecs,
    event: Event<'a>,
    rule: RuleFields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threat: Option<Threat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Host<'a>>,
    #[serde(skip_serializing_if = "Addresses::is_empty")]
    source: Addresses,
    #[serde(skip_serializing_if = "Addresses::is_empty")]
    destination: Addresses,
    #[serde(skip_serializing_if = "Related::is_empty")]
    related: Related<'a>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tags: &'a [String],
    labels: Labels<'a>,
    spikewatch: Numbers<'a>,
}

#[derive(Serialize)]
struct Ecs {
    version: &'static str,
}

#[derive(Serialize)]
struct Event<'a> {
    kind: &'static str,
    category: [&'static str; 1],
    r#type: [&'static str; 1],
    id: &'a str,
    module: &'static str,
    dataset: &'static str,
    created: String,
    start: String,
    end: String,
    severity: u8,
    risk_score: u8,
    reason: &'a str,
}

#[derive(Serialize)]
struct RuleFields<'a> {
    id: &'a str,
    name: &'a str,
    version: String,
    description: &'a str,
    category: &'static str,
}

#[derive(Serialize)]
struct Threat<'a> {
    framework: &'a str,
    tactic: Identified<'a>,
    technique: Identified<'a>,
}

#[derive(Serialize)]
struct Identified<'a> {
    id: Vec<&'a str>,
    name: Vec<&'a str>,
}

#[derive(Serialize)]
struct Host<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<[&'a str; 1]>,
}

#[derive(Serialize, Default)]
struct Addresses {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ip: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    geo: Option<Geo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#as: Option<System>,
}

impl Addresses {
    fn is_empty(&self) -> bool {
        self.ip.is_empty() && self.geo.is_none() && self.r#as.is_none()
    }
}

#[derive(Serialize)]
struct Geo {
    country_iso_code: [String; 1],
}

#[derive(Serialize)]
struct System {
    number: [u32; 1],
}

#[derive(Serialize)]
struct Related<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ip: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    user: Vec<&'a str>,
}

impl Related<'_> {
    fn is_empty(&self) -> bool {
        self.ip.is_empty() && self.hosts.is_empty() && self.user.is_empty()
    }
}

#[derive(Serialize)]
struct Labels<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<&'a str>,
    job: &'a str,
}

/// The document as one line of JSON.
pub(super) fn of(rule: &Rule, alert: &Alert, record: &AnomalyRecord, likely: &Likely, reason: &str) -> String {
    let id = alert.id.as_str();
    let peers = addresses(record);
    let host = host(record);
    let (source, destination) = directed(record, &peers);
    let bucket_end = record.bucket_start.saturating_add(record.bucket_span.millis());
    let document = Document {
        timestamp: time(record.bucket_start),
        message: reason,
        ecs: Ecs { version: ECS_VERSION },
        event: Event {
            kind: "alert",
            category: ["network"],
            r#type: ["info"],
            id,
            module: "spikewatch",
            dataset: "spikewatch.alert",
            created: time(alert.created),
            start: time(record.bucket_start),
            end: time(bucket_end),
            severity: rule.severity.number(),
            risk_score: rule.risk_score,
            reason,
        },
        rule: RuleFields {
            id: &rule.id,
            name: &rule.name,
            version: rule.version.to_string(),
            description: rule.description.trim(),
            category: "Anomaly",
        },
        threat: threat(rule),
        related: related(record, host.as_ref()),
        host,
        source,
        destination,
        tags: &rule.tags,
        labels: Labels { site: record.site.as_ref().map(|site| site.as_str()), job: &record.job },
        spikewatch: Numbers::of(rule, alert, record, likely),
    };
    // Only maps with keys that are no text can fail, and there are none.
    serde_json::to_string(&document).unwrap_or_default()
}

fn threat(rule: &Rule) -> Option<Threat<'_>> {
    let framework = &rule.threat.first()?.framework;
    Some(Threat {
        framework,
        tactic: Identified {
            id: rule.threat.iter().map(|threat| threat.tactic.id.as_str()).collect(),
            name: rule.threat.iter().map(|threat| threat.tactic.name.as_str()).collect(),
        },
        technique: Identified {
            id: rule.threat.iter().flat_map(|threat| &threat.technique).map(|named| named.id.as_str()).collect(),
            name: rule.threat.iter().flat_map(|threat| &threat.technique).map(|named| named.name.as_str()).collect(),
        },
    })
}

fn host(record: &AnomalyRecord) -> Option<Host<'_>> {
    if record.dimension != Some(Dimension::Host) {
        return None;
    }
    Some(match record.value.parse::<IpAddr>() {
        Ok(_) => Host { name: None, ip: Some([&record.value]) },
        Err(_) => Host { name: Some(&record.value), ip: None },
    })
}

/// Each peer once, those first that are new.
fn peers(record: &AnomalyRecord) -> impl Iterator<Item = &str> {
    let named = |field: &'static str| {
        let of_field = record.contributors.iter().filter(move |contributor| contributor.field == field);
        of_field.map(|contributor| contributor.value.as_str())
    };
    let twice = move |peer: &&str| named("new_peer").any(|new| new == *peer);
    named("new_peer").chain(named("peer").filter(move |peer| !twice(peer)))
}

/// Peers that are addresses.
fn addresses(record: &AnomalyRecord) -> Vec<String> {
    let peers = peers(record).filter(|peer| peer.parse::<IpAddr>().is_ok());
    peers.map(str::to_owned).collect()
}

/// The addresses that sent and those that received, as far as the measure tells.
pub(crate) fn ends(record: &AnomalyRecord) -> (Vec<String>, Vec<String>) {
    let (source, destination) = directed(record, &addresses(record));
    (source.ip, destination.ip)
}

fn directed(record: &AnomalyRecord, peers: &[String]) -> (Addresses, Addresses) {
    let own: Vec<String> = match host(record) {
        Some(Host { ip: Some([ip]), .. }) => vec![ip.to_owned()],
        _ => Vec::new(),
    };
    let is_of = |dimension| record.dimension == Some(dimension);
    let geo = is_of(Dimension::Country).then(|| Geo { country_iso_code: [record.value.clone()] });
    let system = is_of(Dimension::Asn).then(|| Place::as_number(&record.value)).flatten();
    let peers = Addresses { ip: peers.to_vec(), geo, r#as: system.map(|number| System { number: [number] }) };
    let own = Addresses { ip: own, ..Addresses::default() };
    match (record.dimension, record.measure) {
        // A site's contributors are the sources of its records.
        (None | Some(Dimension::Site), _) => (peers, Addresses::default()),
        (_, Measure::BytesIn | Measure::PacketsIn) => (peers, own),
        _ => (own, peers),
    }
}

fn related<'a>(record: &'a AnomalyRecord, host: Option<&Host<'a>>) -> Related<'a> {
    let named = |field: &'static str| {
        let of_field = record.contributors.iter().filter(move |contributor| contributor.field == field);
        of_field.map(|contributor| contributor.value.as_str())
    };
    let mut ip: Vec<&str> = host.and_then(|host| host.ip).into_iter().flatten().collect();
    ip.extend(peers(record).filter(|peer| peer.parse::<IpAddr>().is_ok() && *peer != record.value));
    Related { ip, hosts: host.and_then(|host| host.name).into_iter().collect(), user: named("user").collect() }
}
