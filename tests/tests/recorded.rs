//! One conversation after another, recorded once and told four ways: the capture, NetFlow, IPFIX and sFlow must agree
//! with tshark's count (`tests/data/README.md`), protocol by protocol.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use spikewatch_collector::export::{ExportDecoder, ExportLimits};
use spikewatch_collector::fault::{Decoded, Reason};
use spikewatch_collector::packet::capture::CaptureReader;
use spikewatch_collector::packet::flow_table::{FlowTable, FlowTableLimits};
use spikewatch_collector::packet::headers::dissect;
use spikewatch_domain::record::FlowRecord;

/// Packets and bytes by IANA protocol number.
type Totals = BTreeMap<u8, (u64, u64)>;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// The lines of `recorded.csv` that speak of `file`: protocol, flows, packets, bytes.
fn counted(file: &str) -> Vec<Vec<String>> {
    let table = std::fs::read_to_string(data("recorded.csv")).unwrap();
    let rows = table.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    rows.filter(|row| row[0] == file).map(|row| row[1..].to_vec()).collect()
}

fn counted_totals(file: &str) -> Totals {
    let number = |text: &String| text.parse().unwrap();
    counted(file).iter().map(|row| (row[0].parse().unwrap(), (number(&row[2]), number(&row[3])))).collect()
}

fn totals(records: &[FlowRecord]) -> Totals {
    let mut totals = Totals::new();
    for record in records {
        let (packets, bytes) = totals.entry(record.protocol).or_default();
        *packets += record.source_packets + record.destination_packets;
        *bytes += record.source_bytes + record.destination_bytes;
    }
    totals
}

/// The flow records of a capture of traffic.
fn flows_of_packets(file: &str) -> Vec<FlowRecord> {
    let mut reader = CaptureReader::open(File::open(data(file)).unwrap()).unwrap();
    let (mut table, mut records) = (FlowTable::new(FlowTableLimits::default()), Vec::new());
    while let Some(packet) = reader.next().unwrap() {
        let dissected = dissect(packet.link, packet.original_length, packet.data).unwrap();
        table.on_packet(packet.time_ms, &dissected, 1, &mut records);
    }
    table.flush(&mut records);
    records
}

/// The flow records of a capture of export datagrams, of which every one must be understood. What softflowd tells of itself
/// (options data) is no flow.
fn flows_of_exports(file: &str) -> Vec<FlowRecord> {
    let mut reader = CaptureReader::open(File::open(data(file)).unwrap()).unwrap();
    let (mut decoder, mut decoded) = (ExportDecoder::new(ExportLimits::default()), Decoded::default());
    while let Some(packet) = reader.next().unwrap() {
        let datagram = dissect(packet.link, packet.original_length, packet.data).unwrap();
        let (start, length) = datagram.udp_payload.unwrap();
        let payload = &packet.data[start..start + length];
        decoder.decode(datagram.source, packet.time_ms, payload, &mut decoded);
    }
    decoder.flush(&mut decoded);
    decoded.faults.retain(|fault| fault.reason != Reason::NotFlow);
    assert!(decoded.faults.is_empty(), "{file}: {:?}", decoded.faults);
    decoded.records
}

#[test]
fn packets_add_up_to_what_tshark_counts() {
    let records = flows_of_packets("recorded.pcap");
    assert_eq!(totals(&records), counted_totals("recorded.pcap"));
}

#[test]
fn tcp_and_udp_flows_are_the_conversations_that_tshark_counts() {
    let records = flows_of_packets("recorded.pcap");
    for row in counted("recorded.pcap").iter().filter(|row| row[0] == "6" || row[0] == "17") {
        let flows = records.iter().filter(|record| record.protocol.to_string() == row[0]).count();
        assert_eq!(flows.to_string(), row[1], "protocol {}", row[0]);
    }
}

#[test]
fn exports_add_up_to_what_tshark_counts() {
    for version in ["netflow5", "netflow9", "ipfix", "ipfix_biflow"] {
        let file = format!("recorded_{version}.pcap");
        assert_eq!(totals(&flows_of_exports(&file)), counted_totals(&file), "{file}");
    }
}

#[test]
fn exporters_and_the_capture_agree() {
    let capture = totals(&flows_of_packets("recorded.pcap"));
    for version in ["netflow9", "ipfix", "ipfix_biflow"] {
        assert_eq!(totals(&flows_of_exports(&format!("recorded_{version}.pcap"))), capture, "{version}");
    }
}

#[test]
fn every_record_lies_within_the_recording() {
    let packets = flows_of_packets("recorded.pcap");
    let (first, last) =
        (packets.iter().map(|flow| flow.start).min().unwrap(), packets.iter().map(|flow| flow.end).max().unwrap());
    // softflowd tells times relative to its own start, which it only knows to the second.
    for version in ["netflow5", "netflow9", "ipfix", "ipfix_biflow"] {
        for record in flows_of_exports(&format!("recorded_{version}.pcap")) {
            let within = record.start + 1_000 >= first && record.end <= last + 1_000 && record.start <= record.end;
            assert!(within, "{version}: {record:?} is not within {first}..{last}");
        }
    }
}

#[test]
fn sflow_adds_up_at_rate_one() {
    let expected = &counted("recorded_sflow.pcap")[0];
    let sum = totals(&flows_of_exports("recorded_sflow.pcap"));
    let (packets, bytes) = sum.values().fold((0, 0), |(packets, bytes), (p, b)| (packets + p, bytes + b));
    assert_eq!((packets.to_string(), bytes.to_string()), (expected[2].clone(), expected[3].clone()));
}
