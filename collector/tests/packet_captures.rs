//! Every real capture at hand: nothing panics or hangs, each packet is in a flow or has a counted fault, flows add up to
//! their packets, and packets and bytes agree with tshark (`tests/data/goldens/captures.csv`, made by `captures.py`).
//! With SPIKEWATCH_SHOW_PACKETS set, each packet is printed, to be compared with what `captures.py` shows.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
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
    read(&path.display().to_string(), File::open(path).unwrap())
}

fn read(name: &str, file: impl Read) -> Outcome {
    let mut outcome = Outcome::default();
    let mut table = FlowTable::new(FlowTableLimits::default());
    let mut reader = match CaptureReader::open(file) {
        Ok(reader) => reader,
        Err(error) => return Outcome { error: Some(error.to_string()), ..outcome },
    };
    loop {
        let packet = match reader.next() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(error) => {
                outcome.error = Some(error.to_string());
                assert!(matches!(reader.next(), Ok(None)), "{}: goes on after an error", name);
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
                    println!("{} {} {found:?}", name, outcome.packets);
                }
                table.on_packet(packet.time_ms, &found, 1, &mut outcome.flows);
            }
            Err(fault) => {
                if std::env::var("SPIKEWATCH_SHOW_PACKETS").is_ok() {
                    println!("{} {} {fault}", name, outcome.packets);
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

/// Real packets with bytes changed reach code that random bytes never do. `SPIKEWATCH_DAMAGES` sets how often each file is
/// damaged.
#[test]
fn no_damage_to_a_capture_panics_or_hangs() {
    let Some(files) = captures() else { return };
    let damages = std::env::var("SPIKEWATCH_DAMAGES").map_or(3, |times| times.parse().unwrap());
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for path in files {
        let whole = fs::read(&path).unwrap();
        let whole = &whole[..whole.len().min(20_000)];
        for time in 0..damages {
            let mut damaged = whole.to_vec();
            for _ in 0..1 + damaged.len() / 100 {
                let place = random(damaged.len());
                damaged[place] = random(256) as u8;
            }
            let outcome = read(&format!("{}, damage {time}", path.display()), &damaged[..]);
            let counted: u64 = outcome.flows.iter().map(|flow| flow.source_packets + flow.destination_packets).sum();
            assert_eq!(counted, outcome.ip_packets, "{}, damage {time}", path.display());
            assert_eq!(outcome.packets, counted + outcome.faults.values().sum::<u64>(), "{}", path.display());
        }
    }
}

const LINK: &str = "tshark refuses the whole file for its link type; we count its packets as of an unsupported link";
const CUT: &str = "the file was cut within the IP header, of which tshark takes the length all the same";
const ZERO: &str = "a length of 0 (sent before segmentation, or invalid): we take the length on the wire, tshark none";
const JUMBO: &str = "the jumbo option contradicts the length on the wire: we take what was on the wire";
const INNER_ZERO: &str = "the inner length is 0: we take the length on the wire; tshark does not enter the tunnel";

/// Where we count on purpose what tshark does not, or the other way round, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("LINKTYPE_IPV6_invalid.pcap", "IPv4 on a link that is said to carry IPv6: we believe the packet"),
    ("bad-ipv4-version-pgm-heapoverflow.pcap", CUT),
    ("bigtcp-ipv4-geneve-ipv4.pcap", INNER_ZERO),
    ("bigtcp-ipv4-geneve-ipv6.pcap", INNER_ZERO),
    ("bigtcp-ipv4-vxlan-ipv4.pcap", INNER_ZERO),
    ("bigtcp-ipv4-vxlan-ipv6.pcap", INNER_ZERO),
    ("bigtcp-ipv6-geneve-ipv4.pcap", INNER_ZERO),
    ("bigtcp-ipv6-geneve-ipv6.pcap", INNER_ZERO),
    ("bigtcp-ipv6-vxlan-ipv4.pcap", INNER_ZERO),
    ("bigtcp-ipv6-vxlan-ipv6.pcap", INNER_ZERO),
    ("bigtcp-ipv6.pcap", ZERO),
    ("brcm-tag-prepend.pcap", LINK),
    ("brcm-tag.pcap", LINK),
    ("dsa-high-vid.pcap", LINK),
    ("dsa.pcap", LINK),
    ("edsa-high-vid.pcap", LINK),
    ("edsa.pcap", LINK),
    ("frf16_magic_ie-oobr.pcap", LINK),
    ("hoobr_juniper3.pcap", LINK),
    ("icmpv6-length-zero.pcapng", ZERO),
    ("ipv4_invalid_length.pcap", CUT),
    ("ipv4_invalid_total_length_2.pcap", "a total length under the header's: malformed for us, counted by tshark"),
    ("ipv6-too-long-jumbo.pcap", JUMBO),
    ("ipv6_39_byte_header.pcap", CUT),
    ("ipv6_frag6_negative_len.pcap", ZERO),
    ("ipv6_invalid_length.pcap", CUT),
    ("ipv6_jumbogram_invalid_length.pcap", JUMBO),
    ("ipv6_missing_jumbo_payload_option.pcap", ZERO),
    ("juniper_es_oobr.pcap", LINK),
    ("juniper_monitor_invalid_cookie_length.pcap", LINK),
    ("kday6.pcap", LINK),
    ("quic_32_bit_pointer_overflow.pcap", JUMBO),
    ("vtp_asan-2.pcap", LINK),
    ("vtp_asan-3.pcap", LINK),
    ("vtp_asan.pcap", LINK),
];

#[test]
fn packets_and_bytes_agree_with_tshark() {
    let Some(files) = captures() else { return };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/goldens/captures.csv");
    let golden = fs::read_to_string(golden).unwrap();
    let mut differing = Vec::new();
    let mut compared = 0;
    for line in golden.lines().skip(1) {
        let (name, expected) = line.split_once(',').unwrap();
        let Some(path) = files.iter().find(|path| path.ends_with(name)) else {
            println!("{name} is not there");
            continue;
        };
        let outcome = run(path);
        let ours = format!("{},{},{}", outcome.packets, outcome.ip_packets, outcome.ip_bytes);
        compared += 1;
        let excepted = EXCEPTIONS.iter().any(|&(file, _)| path.ends_with(file));
        if (ours == expected) == excepted {
            differing.push(format!("{name}: ours {ours}, tshark {expected}, {:?} {:?}", outcome.faults, outcome.error));
        }
    }
    println!("{compared} files compared, {} exceptions", EXCEPTIONS.len());
    assert!(differing.is_empty(), "packets, IP packets, IP bytes:\n{}", differing.join("\n"));
}
