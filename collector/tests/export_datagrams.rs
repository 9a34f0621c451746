//! Real export datagrams of about 25 vendors, against what tshark and Telegraf make of them.
//!
//! The expectations are in `tests/data/goldens/exports.csv`, made by `exports.py` beside it, one row a file. Where tshark counts
//! otherwise, [`EXCEPTIONS`] says what is right and why.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use spikewatch_collector::export::{ExportDecoder, ExportFormat, ExportLimits, export_time, recognise, split};
use spikewatch_collector::fault::{Decoded, Reason};

/// Records (for sFlow: samples), bytes, packets.
type Totals = (u64, u64, u64);

/// File, what is right, and why tshark's count is not.
const EXCEPTIONS: &[(&str, Totals, &str)] = &[
    ("netflow5_test_invalid01.dat", (0, 0, 0), "counts 55,582 records: noise, of which tshark shows 30 all the same"),
    ("netflow5_test_invalid02.dat", (0, 0, 0), "counts 163 records: noise, of which tshark shows 30 all the same"),
    ("netflow9_test_invalid01.dat", (2, 19_400, 200), "tshark stops after the 2 items of the header's count; 5 follow"),
    (
        "netflow9_test_h3c_data3281.dat",
        (16, 8_729_687, 6_113),
        "tshark stops at an address of 2 bytes; the header counts 16",
    ),
];

#[test]
fn every_datagram_is_decoded_as_tshark_does_or_refused_with_a_reason() {
    let Some(data) = real_data() else { return };
    let mut decoders: BTreeMap<String, ExportDecoder> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (case, file, golden) in golden() {
        let decoder = decoders.entry(case).or_insert_with(|| ExportDecoder::new(ExportLimits::default()));
        let bytes = fs::read(data.join(&file)).expect("a file that the golden names");
        let name = file.rsplit('/').next().unwrap_or(&file).to_owned();
        let expected =
            EXCEPTIONS.iter().find(|(exception, ..)| *exception == name).map_or(golden, |(_, right, _)| *right);
        let (found, faults) = decode(decoder, &bytes);
        if found != expected {
            wrong.push(format!("{file}: found {found:?}, expected {expected:?}, faults {faults:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn records_bytes_and_packets_are_those_that_telegraf_finds() {
    let Some(data) = real_data() else { return };
    let mut cases: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (case, file, _) in golden().into_iter().filter(|(case, ..)| case.starts_with("telegraf")) {
        cases.entry(case).or_default().push(file);
    }
    assert_eq!(cases.len(), 12);
    for (case, files) in cases {
        let text = fs::read_to_string(data.join(&case).join("expected.out")).expect("what Telegraf finds");
        let mut decoder = ExportDecoder::new(ExportLimits::default());
        let found = files.iter().fold((0, 0, 0), |sum, file| {
            let (found, _) = decode(&mut decoder, &fs::read(data.join(file)).expect("a datagram"));
            add(sum, found)
        });
        // Telegraf's lines of counters and options have no sender.
        let flows = text.lines().filter(|line| line.contains("src="));
        assert_eq!(found, flows.map(telegraf_flow).fold((0, 0, 0), add), "{case}");
    }
}

fn add(a: Totals, b: Totals) -> Totals {
    (a.0 + b.0, a.1 + b.1, a.2 + b.2)
}

/// One record (or sample), and its bytes and packets, of a line in which Telegraf shows a flow.
fn telegraf_flow(line: &str) -> Totals {
    let field = |name: &str| {
        let start = line.find(&format!(",{name}=")).or_else(|| line.find(&format!(" {name}=")))? + name.len() + 2;
        let value = line.get(start..)?.split([',', ' ']).next()?;
        match value.trim_matches('"').strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => value.trim_end_matches('u').parse::<u64>().ok(),
        }
    };
    if let Some(rate) = field("sampling_interval").filter(|_| line.contains("version=sFlowV5")) {
        let length = field("ipv4_total_len").or_else(|| field("ipv6_total_len").map(|payload| 40 + payload));
        return (1, rate * length.expect("a length"), rate);
    }
    let both_ways =
        |new, total, reverse| field(new).or_else(|| field(total)).unwrap_or(0) + field(reverse).unwrap_or(0);
    let bytes = both_ways("in_bytes", "in_total_bytes", "type_29305_85");
    (1, bytes, both_ways("in_packets", "in_total_packets", "type_29305_86"))
}

/// Decodes a file; what came of it, and the faults by reason.
fn decode(decoder: &mut ExportDecoder, file: &[u8]) -> (Totals, BTreeMap<Reason, u64>) {
    let exporter = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let (mut totals, mut faults) = ((0, 0, 0), BTreeMap::new());
    for datagram in split(file) {
        let mut out = Decoded::default();
        let samples = decoder.stats().samples;
        decoder.decode(exporter, export_time(datagram).unwrap_or(1_700_000_000_000), datagram, &mut out);
        decoder.flush(&mut out);
        let is_sflow = recognise(datagram) == Some(ExportFormat::Sflow5);
        totals.0 += if is_sflow { decoder.stats().samples - samples } else { out.records.len() as u64 };
        for record in &out.records {
            totals.1 += record.source_bytes + record.destination_bytes;
            totals.2 += record.source_packets + record.destination_packets;
        }
        for fault in out.faults {
            *faults.entry(fault.reason).or_default() += 1;
        }
    }
    (totals, faults)
}

/// The rows of the golden: case, file, totals.
fn golden() -> Vec<(String, String, Totals)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/goldens/exports.csv");
    let text = fs::read_to_string(path).expect("the golden");
    let row = |line: &str| {
        let mut fields = line.split(',').map(str::to_owned);
        let mut next = || fields.next().expect("five fields");
        let (case, file) = (next(), next());
        let mut number = || next().parse().expect("a number");
        (case, file, (number(), number(), number()))
    };
    text.lines().skip(1).map(row).collect()
}

/// The folder of real captures, if it is there.
fn real_data() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("SPIKEWATCH_TEST_DATA").map_or_else(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: real captures not found at {}", folder.display());
    None
}
