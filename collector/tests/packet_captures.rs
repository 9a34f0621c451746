//! Every real capture at hand: nothing panics or hangs, each packet is in a flow or has a counted fault, flows add up to
//! their packets, and packets and bytes agree with tshark (`tests/data/goldens/captures.csv`, made by `captures.py`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use spikewatch_collector::packet::capture::CaptureReader;
use spikewatch_collector::packet::flow_table::{FlowTable, FlowTableLimits};
use spikewatch_collector::packet::headers::dissect;
use spikewatch_domain::record::FlowRecord;

/// What became of one file.
#[derive(Debug, Default)]
struct Outcome {
    packets: u64,
    ip_packets: u64,
    ip_bytes: u64,
    faults: BTreeMap<&'static str, u64>,
    flows: Vec<FlowRecord>,
    error: Option<String>,
}

fn run(path: &Path) -> Outcome {
    let mut outcome = Outcome::default();
    let mut table = FlowTable::new(FlowTableLimits::default());
    let mut reader = match CaptureReader::open(File::open(path).unwrap()) {
        Ok(reader) => reader,
        Err(error) => return Outcome { error: Some(error.to_string()), ..outcome },
    };
    loop {
        let packet = match reader.next() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(error) => {
                outcome.error = Some(error.to_string());
                assert!(matches!(reader.next(), Ok(None)), "{}: goes on after an error", path.display());
                break;
            }
        };
        outcome.packets += 1;
        match dissect(packet.link, packet.original_length, packet.data) {
            Ok(found) => {
                if let Some((at, length)) = found.udp_payload {
                    assert!(at + length <= packet.data.len());
                }
                outcome.ip_packets += 1;
                outcome.ip_bytes += u64::from(found.bytes);
                if std::env::var("SPIKEWATCH_SHOW_PACKETS").is_ok() {
                    println!("{} {} {found:?}", path.display(), outcome.packets);
                }
                table.on_packet(packet.time_ms, &found, 1, &mut outcome.flows);
            }
            Err(fault) => {
                if std::env::var("SPIKEWATCH_SHOW_PACKETS").is_ok() {
                    println!("{} {} {fault}", path.display(), outcome.packets);
                }
                *outcome.faults.entry(fault.reason.label()).or_default() += 1;
            }
        }
    }
    table.flush(&mut outcome.flows);
    assert!(table.is_empty());
    outcome
}

/// Where the captures are, or none, said so.
fn captures() -> Option<Vec<PathBuf>> {
    let root = std::env::var_os("SPIKEWATCH_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let mut files = Vec::new();
    for folder in ["tcpdump-captures", "ddos-captures"] {
        let Ok(entries) = fs::read_dir(root.join(folder)) else {
            println!("skipped: real captures not found at {}", root.join(folder).display());
            return None;
        };
        files.extend(entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()));
    }
    files.sort();
    Some(files)
}

#[test]
fn every_packet_of_every_capture_is_in_a_flow_or_a_counted_fault() {
    let Some(files) = captures() else { return };
    let mut sums = Outcome::default();
    let (mut flows, mut errors) = (0, 0);
    for path in &files {
        let outcome = run(path);
        let name = path.display();
        assert_eq!(outcome.packets, outcome.ip_packets + outcome.faults.values().sum::<u64>(), "{name}");
        let counted = |count: fn(&FlowRecord) -> u64| outcome.flows.iter().map(count).sum::<u64>();
        assert_eq!(counted(|flow| flow.source_packets + flow.destination_packets), outcome.ip_packets, "{name}");
        assert_eq!(counted(|flow| flow.source_bytes + flow.destination_bytes), outcome.ip_bytes, "{name}");
        assert_eq!(run(path).flows, outcome.flows, "{name}: another order in another run");
        sums.packets += outcome.packets;
        sums.ip_packets += outcome.ip_packets;
        sums.ip_bytes += outcome.ip_bytes;
        flows += outcome.flows.len();
        for (reason, count) in outcome.faults {
            *sums.faults.entry(reason).or_default() += count;
        }
        if let Some(error) = outcome.error {
            errors += 1;
            println!("{name}: {error}");
        }
    }
    println!(
        "{} files, {errors} that can't be read to the end; {} packets, {} of them IP with {} bytes in {flows} flows; {:?}",
        files.len(),
        sums.packets,
        sums.ip_packets,
        sums.ip_bytes,
        sums.faults
    );
}
