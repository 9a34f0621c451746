//! ECS documents, one a line: Elastic Defend, Packetbeat, and whatever else writes network events in the Elastic Common
//! Schema (<https://www.elastic.co/docs/reference/ecs>). Nested objects, dotted keys and search hits are all taken.

use std::net::IpAddr;

use spikewatch_domain::record::{Annotations, FlowRecord, Place, Report};

use super::ecs_document::{Document, End, Group};
use super::ecs_kind::{self, Kind};
use super::scalar::{Scalar, shown};
use super::timestamp::{self, Micros};
use super::{content, identity, json, protocol};
use crate::fault::{Decoded, Fault, Reason};

/// Programs that ship logs and metrics: their own traffic is no news. Each is also known with `.exe` behind it.
const SHIPPERS: [&str; 5] = ["elastic-agent", "metricbeat", "filebeat", "packetbeat", "winlogbeat"];

/// What the decoder leaves out, and how it takes flow reports.
#[derive(Debug, Clone)]
pub struct EcsOptions {
    /// Leave out the traffic of Elastic's own shippers, as Elastic's job does.
    pub exclude_shippers: bool,
    /// More names of processes whose traffic is left out; in any case, with or without `.exe`.
    pub extra_excluded_processes: Vec<String>,
    /// Packetbeat runs with `enable_delta_flow_reports`: its counters are new in each report. Its documents don't tell.
    pub flow_reports_are_deltas: bool,
}

impl Default for EcsOptions {
    fn default() -> Self {
        Self { exclude_shippers: true, extra_excluded_processes: Vec::new(), flow_reports_are_deltas: false }
    }
}

/// Decodes ECS documents. Keeps nothing from line to line.
#[derive(Debug)]
pub struct EcsDecoder {
    excluded: Vec<String>,
    flow_reports_are_deltas: bool,
}

impl EcsDecoder {
    /// A decoder with these options.
    #[must_use]
    pub fn new(options: EcsOptions) -> Self {
        let shippers = if options.exclude_shippers { SHIPPERS.as_slice() } else { &[] };
        let mut excluded: Vec<String> = shippers.iter().map(|name| (*name).to_owned()).collect();
        excluded.extend(options.extra_excluded_processes.iter().map(|name| program(name).to_owned()));
        Self { excluded, flow_reports_are_deltas: options.flow_reports_are_deltas }
    }

    /// Decodes one line: exactly one record or one fault, or nothing for a blank line.
    pub fn decode(&mut self, line: &[u8], out: &mut Decoded) {
        let line = content(line);
        if line.is_empty() {
            return;
        }
        match self.record(line) {
            Ok(record) => out.records.push(record),
            Err(fault) => out.faults.push(fault),
        }
    }

    fn record(&self, line: &[u8]) -> Result<FlowRecord, Fault> {
        let mut document = Document::default();
        json::walk(line, Group::Root, &mut document)?;
        if !document.is_network {
            let category = document.category.shown();
            return Err(Fault::new(Reason::NotFlow, format!("event.category is {category}, not network")));
        }
        let kind = ecs_kind::of(&document);
        if let Kind::Other(what) = kind {
            return Err(Fault::new(Reason::NotFlow, what));
        }
        if let Some(process) = document.process.text().filter(|process| self.excludes(process)) {
            return Err(Fault::new(Reason::Excluded, format!("traffic of {}", shown(process))));
        }
        // Some firewalls know only who is client and who is server.
        let by_role = document.source.ip == Scalar::Absent && document.destination.ip == Scalar::Absent;
        let [sender, receiver] = if by_role {
            [(&document.client, &CLIENT), (&document.server, &SERVER)]
        } else {
            [(&document.source, &SOURCE), (&document.destination, &DESTINATION)]
        };
        let (source, destination) = addresses(sender, receiver)?;
        let (start, end) = span(&document)?;

        let mut record = FlowRecord::between(source, destination, start / 1_000, end / 1_000);
        record.protocol = protocol_of(&document, source)?;
        if !protocol::is_icmp(record.protocol) {
            record.source_port = sender.0.port.port(sender.1.port)?.unwrap_or_default();
            record.destination_port = receiver.0.port.port(receiver.1.port)?.unwrap_or_default();
        }
        record.initiator_known = by_role || kind != Kind::OneWay;
        record.denied = document.denied;
        record.report = self.report(kind, &document, &record);
        if kind != Kind::Opened {
            let bytes = [sender, receiver].map(|(end, names)| (&end.bytes, names.bytes));
            let packets = [sender, receiver].map(|(end, names)| (&end.packets, names.packets));
            (record.source_bytes, record.destination_bytes) =
                counts(bytes, (&document.network_bytes, "network.bytes"))?;
            (record.source_packets, record.destination_packets) =
                counts(packets, (&document.network_packets, "network.packets"))?;
        }
        let places = [sender.0.place, receiver.0.place];
        record.annotations = annotations(document, places);
        Ok(record)
    }

    fn excludes(&self, process: &str) -> bool {
        let process = program(process);
        self.excluded.iter().any(|name| name.eq_ignore_ascii_case(process))
    }

    fn report(&self, kind: Kind, document: &Document<'_>, record: &FlowRecord) -> Report {
        let agent = document.agent.text().unwrap_or_default();
        let connection = || {
            let one = (record.source, record.source_port);
            let other = (record.destination, record.destination_port);
            identity::of_connection(agent, record.protocol, one, other)
        };
        match kind {
            Kind::Opened => Report::Opened { flow: connection() },
            Kind::Closed => Report::Closed { flow: connection() },
            Kind::Flow if self.flow_reports_are_deltas => {
                if document.flow_is_final {
                    Report::Complete
                } else {
                    Report::Partial
                }
            }
            Kind::Flow => {
                let flow = document.flow.text().unwrap_or_default();
                Report::Cumulative { flow: identity::of_flow(agent, flow), last: document.flow_is_final }
            }
            Kind::OneWay | Kind::Event | Kind::Other(_) => Report::Complete,
        }
    }
}

/// A program's name without `.exe`.
fn program(name: &str) -> &str {
    match name.len().checked_sub(4).and_then(|at| name.split_at_checked(at)) {
        Some((stem, extension)) if extension.eq_ignore_ascii_case(".exe") => stem,
        _ => name,
    }
}

/// The fields of one end, by name.
struct Names {
    ip: &'static str,
    port: &'static str,
    bytes: &'static str,
    packets: &'static str,
}

const SOURCE: Names = Names { ip: "source.ip", port: "source.port", bytes: "source.bytes", packets: "source.packets" };
const DESTINATION: Names = Names {
    ip: "destination.ip",
    port: "destination.port",
    bytes: "destination.bytes",
    packets: "destination.packets",
};
const CLIENT: Names = Names { ip: "client.ip", port: "client.port", bytes: "client.bytes", packets: "client.packets" };
const SERVER: Names = Names { ip: "server.ip", port: "server.port", bytes: "server.bytes", packets: "server.packets" };

fn addresses(sender: (&End<'_>, &Names), receiver: (&End<'_>, &Names)) -> Result<(IpAddr, IpAddr), Fault> {
    let absent = |names: &Names| Err(Fault::new(Reason::BadLine, format!("{} is absent", names.ip)));
    match (sender.0.ip.address(sender.1.ip)?, receiver.0.ip.address(receiver.1.ip)?) {
        (Some(source), Some(destination)) => Ok((source, destination)),
        (None, None) => Err(Fault::new(
            Reason::NotIp,
            "no addresses: neither source.ip and destination.ip nor client.ip and server.ip",
        )),
        (None, Some(_)) => absent(sender.1),
        (Some(_), None) => absent(receiver.1),
    }
}

/// The time that the document reports on. A log line without `event.start` is written when its event is over, so a
/// duration alone reaches back from `@timestamp`.
fn span(document: &Document<'_>) -> Result<(Micros, Micros), Fault> {
    let timestamp = timestamp::instant(&document.timestamp, "@timestamp")?;
    let start = timestamp::instant(&document.start, "event.start")?;
    let end = timestamp::instant(&document.end, "event.end")?;
    let duration = document.duration.unsigned("event.duration")?.map(|nanos| nanos / 1_000);
    let reaching = |from: Micros, duration: Micros| {
        let start = from.checked_sub(duration).ok_or_else(|| {
            let detail = format!("event.duration is {}; that begins before 1970", document.duration.shown());
            Fault::new(Reason::OutOfRange, detail)
        })?;
        Ok((start, from))
    };
    match (start, end, duration, timestamp) {
        (Some(start), Some(end), _, _) => Ok((start, end)),
        (Some(start), None, Some(duration), _) => Ok((start, start.saturating_add(duration))),
        (Some(start), None, None, timestamp) => Ok((start, timestamp.unwrap_or(start))),
        (None, Some(end), duration, _) => reaching(end, duration.unwrap_or_default()),
        (None, None, duration, Some(timestamp)) => reaching(timestamp, duration.unwrap_or_default()),
        (None, None, _, None) => Err(Fault::new(Reason::BadLine, "@timestamp is absent")),
    }
}

fn protocol_of(document: &Document<'_>, source: IpAddr) -> Result<u8, Fault> {
    let named = document.transport.text().and_then(protocol::number);
    let number = match document.iana_number.byte("network.iana_number")? {
        Some(number) => number,
        None => named.unwrap_or_default(),
    };
    Ok(protocol::of_family(number, source))
}

/// A field and its name.
type Named<'d, 'a> = (&'d Scalar<'a>, &'static str);

/// What each end sent. A total alone is counted as the sender's.
fn counts(ends: [Named<'_, '_>; 2], total: Named<'_, '_>) -> Result<(u64, u64), Fault> {
    let [sender, receiver] = ends;
    match (sender.0.unsigned(sender.1)?, receiver.0.unsigned(receiver.1)?) {
        (None, None) => Ok((total.0.unsigned(total.1)?.unwrap_or_default(), 0)),
        (sent, returned) => Ok((sent.unwrap_or_default(), returned.unwrap_or_default())),
    }
}

fn annotations(document: Document<'_>, [source_place, destination_place]: [Place; 2]) -> Option<Box<Annotations>> {
    let name = |value: &Scalar<'_>| value.text().filter(|text| !text.is_empty()).map(identity::name);
    let hash = |value: &Scalar<'_>| value.text().filter(|text| !text.is_empty()).map(identity::of);
    let annotations = Annotations {
        host_name: name(&document.host_name),
        user: name(&document.user),
        process: name(&document.process),
        connection: hash(&document.community_id),
        sensor: hash(&document.agent).unwrap_or_default(),
        host_addresses: document.host_addresses,
        source_place,
        destination_place,
    };
    (annotations != Annotations::default()).then(|| Box::new(annotations))
}
