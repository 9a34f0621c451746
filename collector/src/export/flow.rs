//! The values of one NetFlow v9 or IPFIX record → a flow record.

use std::net::{IpAddr, Ipv4Addr};

use rapidhash::v3::rapidhash_v3;
use spikewatch_domain::record::{FlowRecord, Report};

use super::clock::ExportClock;
use super::field::{CONVERSATION, COUNTERS, Slot, Values};
use super::sampling::Ratio;
use crate::fault::Reason;

/// flowEndReason: the flow goes on, but was reported because it is long.
const ACTIVE_TIMEOUT: u64 = 2;
/// Most time (ms) that a firewall's update of a flow is taken to report on: it tells when the flow began, not when the update
/// before it was. A minute is the usual interval.
const UPDATE_SPAN_MS: u64 = 60_000;
/// biflowDirection (RFC 5103 section 6.3): the flow's destination opened it.
const REVERSE_INITIATOR: u64 = 2;

/// Makes a flow record of `values`; `ratio` is the sampling that applies.
///
/// # Errors
/// Reason and explanation if they are no flow between two addresses.
pub(super) fn assemble(
    values: &Values,
    exporter: IpAddr,
    clock: &ExportClock,
    ratio: Option<Ratio>,
) -> Result<FlowRecord, (Reason, &'static str)> {
    let (source, destination) = addresses(values).ok_or((Reason::NotIp, "no pair of IP addresses"))?;
    let event = FirewallEvent::of(values);
    if !values.has(COUNTERS) && event.is_none() {
        return Err((Reason::NotFlow, "neither counters nor a firewall event"));
    }
    let (start, end) = clock.span(values);
    let mut record = FlowRecord::between(source, destination, start, end);
    record.protocol = values.get(Slot::Protocol).and_then(|protocol| u8::try_from(protocol).ok()).unwrap_or(0);
    if has_ports(record.protocol) {
        record.source_port = port(values, Slot::SourcePort, Slot::UdpSourcePort, Slot::TcpSourcePort);
        record.destination_port =
            port(values, Slot::DestinationPort, Slot::UdpDestinationPort, Slot::TcpDestinationPort);
    }
    count(values, &mut record);
    if let Some(ratio) = ratio {
        estimate(&mut record, ratio);
    }
    record.denied = event == Some(FirewallEvent::Denied)
        || values.get(Slot::ForwardingStatus).is_some_and(|status| status >> 6 & 3 == 2);
    record.report = report(values, event, exporter, &record);
    if record.report == Report::Continuation {
        record.start = record.start.max(record.end.saturating_sub(UPDATE_SPAN_MS));
    }
    if values.has(CONVERSATION) {
        set_initiator(values, &mut record);
    }
    Ok(record)
}

/// Takes a record's counters as estimates from sampling.
pub(super) fn estimate(record: &mut FlowRecord, ratio: Ratio) {
    record.estimated = true;
    record.source_bytes = ratio.scale(record.source_bytes);
    record.source_packets = ratio.scale(record.source_packets);
    record.destination_bytes = ratio.scale(record.destination_bytes);
    record.destination_packets = ratio.scale(record.destination_packets);
}

/// True if the protocol has ports. Exporters put ICMP's type and code where its ports would be.
pub(super) fn has_ports(protocol: u8) -> bool {
    !matches!(protocol, 1 | 2 | 58)
}

/// The pair of addresses. Templates may hold both families; the one that is not in use is zero.
fn addresses(values: &Values) -> Option<(IpAddr, IpAddr)> {
    let v4 = |slot| values.get(slot).and_then(|bits| u32::try_from(bits).ok()).map(Ipv4Addr::from_bits);
    let v4 = v4(Slot::SourceV4).zip(v4(Slot::DestinationV4));
    let in_use = v4.filter(|(source, destination)| !(source.is_unspecified() && destination.is_unspecified()));
    if let Some((source, destination)) = in_use {
        return Some((IpAddr::V4(source), IpAddr::V4(destination)));
    }
    let v6 = values.v6(Slot::SourceV6).zip(values.v6(Slot::DestinationV6));
    let in_use = v6.filter(|pair| *pair != ([0; 16], [0; 16]));
    match (v4, v6, in_use) {
        (_, _, Some(pair)) | (None, Some(pair), None) => Some((IpAddr::from(pair.0), IpAddr::from(pair.1))),
        (Some(pair), _, None) => Some((IpAddr::V4(pair.0), IpAddr::V4(pair.1))),
        (None, None, None) => None,
    }
}

fn port(values: &Values, any: Slot, udp: Slot, tcp: Slot) -> u16 {
    let port = values.positive(any).or_else(|| values.positive(udp)).or_else(|| values.positive(tcp));
    port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0)
}

/// Fills in the counters. An exporter fills either the counters of a direction or those of a conversation; within each, those
/// at ingress come before those at egress, and what is new before totals.
fn count(values: &Values, record: &mut FlowRecord) {
    let first = |slots: [Slot; 5]| slots.into_iter().find_map(|slot| values.positive(slot)).unwrap_or(0);
    record.source_bytes =
        first([Slot::InitiatorBytes, Slot::Bytes, Slot::OutBytes, Slot::TotalBytes, Slot::OutTotalBytes]);
    record.source_packets =
        first([Slot::InitiatorPackets, Slot::Packets, Slot::OutPackets, Slot::TotalPackets, Slot::OutTotalPackets]);
    if values.has(CONVERSATION) {
        let first = |slots: [Slot; 3]| slots.into_iter().find_map(|slot| values.positive(slot)).unwrap_or(0);
        record.destination_bytes = first([Slot::ResponderBytes, Slot::ReverseBytes, Slot::ReverseTotalBytes]);
        record.destination_packets = first([Slot::ResponderPackets, Slot::ReversePackets, Slot::ReverseTotalPackets]);
    }
}

fn set_initiator(values: &Values, record: &mut FlowRecord) {
    match values.get(Slot::BiflowDirection) {
        None | Some(1) => record.initiator_known = true,
        Some(REVERSE_INITIATOR) => {
            record.initiator_known = true;
            std::mem::swap(&mut record.source, &mut record.destination);
            std::mem::swap(&mut record.source_port, &mut record.destination_port);
            std::mem::swap(&mut record.source_bytes, &mut record.destination_bytes);
            std::mem::swap(&mut record.source_packets, &mut record.destination_packets);
        }
        Some(_) => {}
    }
}

/// IANA's firewallEvent (233).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirewallEvent {
    Created,
    Deleted,
    Denied,
    Updated,
}

impl FirewallEvent {
    fn of(values: &Values) -> Option<Self> {
        match values.get(Slot::FirewallEvent)? {
            1 => Some(Self::Created),
            2 => Some(Self::Deleted),
            3 => Some(Self::Denied),
            5 => Some(Self::Updated),
            _ => None,
        }
    }
}

fn report(values: &Values, event: Option<FirewallEvent>, exporter: IpAddr, record: &FlowRecord) -> Report {
    match event {
        Some(FirewallEvent::Created) => Report::Opened { flow: flow_hash(values, exporter, record) },
        Some(FirewallEvent::Deleted) => Report::Closed { flow: flow_hash(values, exporter, record) },
        Some(FirewallEvent::Updated) => Report::Continuation,
        Some(FirewallEvent::Denied) => Report::Complete,
        None if values.get(Slot::EndReason) == Some(ACTIVE_TIMEOUT) => Report::Partial,
        None => Report::Complete,
    }
}

/// What links the events of one connection: the firewall's number for it, and its ends, since some firewalls report each
/// direction by itself under one number.
fn flow_hash(values: &Values, exporter: IpAddr, record: &FlowRecord) -> u64 {
    let wide = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let mut bytes = [0_u8; 61];
    let parts: [&[u8]; 7] = [
        &wide(exporter),
        &wide(record.source),
        &wide(record.destination),
        &record.source_port.to_be_bytes(),
        &record.destination_port.to_be_bytes(),
        &[record.protocol],
        &values.get(Slot::FlowId).unwrap_or(0).to_be_bytes(),
    ];
    for (byte, value) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
        *byte = *value;
    }
    rapidhash_v3(&bytes)
}
