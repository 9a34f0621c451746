//! What `replay` prints: windows, anomaly records and flows as JSON documents. (Alerts are documents already.)

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};
use spikewatch_domain::{
    key::{SiteName, Subject},
    record::{FlowRecord, Report},
    top::{Tally, Top},
    window::{Service, Window},
};
use spikewatch_proto::convert::{results::AnomalyRecord, windows::Row};

use crate::human::{rfc3339, rfc3339_millis};

/// One window.
#[derive(Debug, Serialize)]
pub(crate) struct WindowDocument {
    site: String,
    dimension: &'static str,
    value: String,
    bucket_start: String,
    bucket_span_s: u32,
    events: u64,
    bytes_out: u64,
    bytes_in: u64,
    packets_out: u64,
    packets_in: u64,
    distinct_peers: u64,
    distinct_peer_ports: u64,
    denied: u32,
    estimated: bool,
    incomplete: bool,
    top: TopDocument,
}

#[derive(Debug, Serialize)]
struct TopDocument {
    peers: Vec<Contributor>,
    ports: Vec<Contributor>,
    protocols: Vec<Contributor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    users: Vec<Contributor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    processes: Vec<Contributor>,
}

#[derive(Debug, Serialize)]
struct Contributor {
    value: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    events: u64,
    bytes: u64,
}

impl WindowDocument {
    /// The document of a row.
    #[must_use]
    pub(crate) fn new(bucket_start: u64, bucket_span_s: u32, row: &Row) -> Self {
        let site = row.site.as_ref().map_or("", SiteName::as_str).to_owned();
        let value = match &row.subject {
            Subject::Site => site.clone(),
            subject => subject.to_string(),
        };
        let (window, counters) = (&row.window, &row.window.counters);
        Self {
            site,
            dimension: row.subject.dimension().name(),
            value,
            bucket_start: rfc3339(bucket_start),
            bucket_span_s,
            events: counters.events,
            bytes_out: counters.bytes_out,
            bytes_in: counters.bytes_in,
            packets_out: counters.packets_out,
            packets_in: counters.packets_in,
            distinct_peers: window.distinct_peers(),
            distinct_peer_ports: window.distinct_peer_ports(),
            denied: counters.denied,
            estimated: counters.estimated,
            incomplete: row.incomplete,
            top: TopDocument::new(window),
        }
    }
}

impl TopDocument {
    fn new(window: &Window) -> Self {
        let port = |tally: &Tally<Service>| Contributor {
            protocol: Some(protocol(tally.id.protocol)),
            ..contributor(tally.id.port, tally)
        };
        let with_ports = |tally: &&Tally<Service>| has_ports(tally.id.protocol);
        let names = window.names.as_deref();
        Self {
            peers: ranked(&window.peers, |tally| contributor(std::net::IpAddr::from(tally.id).to_string(), tally)),
            ports: window.services.ranked().into_iter().filter(with_ports).map(port).collect(),
            protocols: protocols(window),
            users: names.map_or_else(Vec::new, |names| ranked(&names.users, |tally| contributor(&*tally.id, tally))),
            processes: names
                .map_or_else(Vec::new, |names| ranked(&names.processes, |tally| contributor(&*tally.id, tally))),
        }
    }
}

fn ranked<I: Clone + PartialEq + Ord, const N: usize>(
    top: &Top<I, N>,
    document: impl Fn(&Tally<I>) -> Contributor,
) -> Vec<Contributor> {
    top.ranked().into_iter().map(document).collect()
}

fn contributor<I>(value: impl Into<Value>, tally: &Tally<I>) -> Contributor {
    Contributor { value: value.into(), protocol: None, events: u64::from(tally.events), bytes: tally.bytes() }
}

/// The listed services by protocol, heaviest first.
fn protocols(window: &Window) -> Vec<Contributor> {
    let mut sums = BTreeMap::<u8, (u64, u64)>::new();
    for tally in window.services.entries() {
        let (events, bytes) = sums.entry(tally.id.protocol).or_default();
        *events += u64::from(tally.events);
        *bytes += tally.bytes();
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(number, (events, bytes))| (std::cmp::Reverse(bytes + 256 * events), *number));
    let document =
        |(number, (events, bytes))| Contributor { value: protocol(number).into(), protocol: None, events, bytes };
    sums.into_iter().map(document).collect()
}

/// TCP, DCCP, UDP-Lite, UDP, SCTP.
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136)
}

/// ECS `network.transport`: the IANA keyword in lower case, or the number.
fn protocol(number: u8) -> String {
    match number {
        1 => "icmp",
        2 => "igmp",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        47 => "gre",
        50 => "esp",
        58 => "ipv6-icmp",
        89 => "ospf",
        132 => "sctp",
        136 => "udplite",
        other => return other.to_string(),
    }
    .into()
}

/// The document of an anomaly record.
#[must_use]
pub(crate) fn record(record: &AnomalyRecord) -> Value {
    let contributors = record.contributors.iter().map(|who| {
        json!({
            "field": who.field,
            "value": who.value,
            "events": who.events,
            "bytes": who.bytes,
            "influencer_score": who.influencer_score,
        })
    });
    let companions = record.companions.iter().map(|other| {
        json!({
            "job_id": other.job,
            "measure": other.measure.name(),
            "actual": other.actual,
            "typical": other.typical,
            "record_score": other.record_score,
        })
    });
    json!({
        "job_id": record.job,
        "site": record.site.as_ref().map(SiteName::as_str),
        "dimension": record.dimension.map(spikewatch_domain::key::Dimension::name),
        "value": (!record.value.is_empty()).then_some(&record.value),
        "bucket_start": rfc3339(record.bucket_start),
        "bucket_span_s": record.bucket_span.seconds(),
        "function": record.function,
        "measure": record.measure.name(),
        "actual": record.actual,
        "typical": record.typical,
        "lower": record.lower,
        "upper": record.upper,
        "record_score": record.record_score,
        "initial_record_score": record.initial_record_score,
        "probability": record.probability,
        "multi_bucket_impact": record.multi_bucket_impact,
        "alert_from": record.alert_from,
        "incomplete": record.incomplete,
        "late": record.late,
        "buckets_seen": record.buckets_seen,
        "contributors": contributors.collect::<Vec<_>>(),
        "companions": companions.collect::<Vec<_>>(),
        "parts": record.parts.iter().map(|part| json!({"name": part.name, "decades": part.decades})).collect::<Vec<_>>(),
    })
}

/// The document of a flow, in the Elastic Common Schema.
#[must_use]
pub(crate) fn flow(site: &SiteName, record: &FlowRecord) -> Value {
    let mut types = vec!["connection"];
    types.extend(record.denied.then_some("denied"));
    let end = |address: std::net::IpAddr, port: u16, bytes: u64, packets: u64| {
        let mut end = json!({"ip": address, "bytes": bytes, "packets": packets});
        if has_ports(record.protocol) {
            end["port"] = port.into();
        }
        end
    };
    let family = if record.source.is_ipv4() && record.destination.is_ipv4() { "ipv4" } else { "ipv6" };
    let mut document = json!({
        "@timestamp": rfc3339_millis(record.start),
        "event": {
            "kind": "event",
            "category": ["network"],
            "type": types,
            "start": rfc3339_millis(record.start),
            "end": rfc3339_millis(record.end),
            "duration": (record.end - record.start).saturating_mul(1_000_000),
        },
        "source": end(record.source, record.source_port, record.source_bytes, record.source_packets),
        "destination":
            end(record.destination, record.destination_port, record.destination_bytes, record.destination_packets),
        "network": {
            "type": family,
            "transport": protocol(record.protocol),
            "iana_number": record.protocol.to_string(),
            "bytes": record.source_bytes.saturating_add(record.destination_bytes),
            "packets": record.source_packets.saturating_add(record.destination_packets),
        },
        "observer": {"geo": {"name": site.as_str()}},
        "spikewatch": {
            "report": report(record.report),
            "estimated": record.estimated,
            "initiator_known": record.initiator_known,
        },
    });
    if let Some(known) = record.annotations.as_deref() {
        let named = [("host", &known.host_name), ("user", &known.user), ("process", &known.process)];
        for (object, name) in named {
            if let Some(name) = name {
                document[object] = Value::Object(Map::from_iter([("name".to_owned(), name.clone().into())]));
            }
        }
    }
    document
}

fn report(report: Report) -> &'static str {
    match report {
        Report::Complete => "complete",
        Report::Partial => "partial",
        Report::Continuation => "continuation",
        Report::Opened { .. } => "opened",
        Report::Closed { .. } => "closed",
        Report::Cumulative { .. } => "cumulative",
    }
}

/// The rows of a page with its bucket, read and checked.
///
/// # Errors
/// The page holds what no window can hold.
pub(crate) fn rows(
    page: &spikewatch_proto::v1::WindowsPage,
) -> Result<impl Iterator<Item = WindowDocument> + use<>, spikewatch_proto::convert::Invalid> {
    let windows = page.windows.clone().unwrap_or_default();
    let rows = spikewatch_proto::convert::windows::read(&windows)?;
    let (start, seconds) = (page.bucket_start_ms, page.bucket_seconds);
    Ok(rows.into_iter().map(move |row| WindowDocument::new(start, seconds, &row)))
}
