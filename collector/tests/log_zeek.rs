//! Zeek connection logs, as a user's Zeek writes them.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use spikewatch_collector::compressed;
use spikewatch_collector::fault::{Decoded, Reason};
use spikewatch_collector::log::zeek::ZeekDecoder;

fn decode(text: &str) -> Decoded {
    let mut decoder = ZeekDecoder::new();
    let mut out = Decoded::default();
    for line in text.lines() {
        decoder.decode(line.as_bytes(), &mut out);
    }
    out
}

const CONN: &str = include_str!("../../tests/data/zeek_conn.log");

#[test]
fn a_connection_keeps_times_ends_and_counters() {
    let out = decode(CONN);
    let record = &out.records[0];
    assert_eq!((record.start, record.end), (1_767_607_200_123, 1_767_607_202_623));
    assert_eq!((record.source.to_string(), record.source_port), ("10.0.0.7".into(), 51320));
    assert_eq!((record.destination.to_string(), record.destination_port), ("203.0.113.9".into(), 443));
    assert_eq!((record.protocol, record.initiator_known, record.denied), (6, true, false));
    assert_eq!((record.source_bytes, record.destination_bytes), (360, 2208), "layer 3, not payload");
    assert_eq!((record.source_packets, record.destination_packets), (5, 4));
    assert!(record.annotations.as_ref().unwrap().connection.is_some());
}

#[test]
fn icmp_has_no_ports_and_follows_its_family() {
    let out = decode(CONN);
    for (record, protocol) in out.records[1..3].iter().zip([1, 58]) {
        assert_eq!((record.protocol, record.source_port, record.destination_port), (protocol, 0, 0));
        assert_eq!(record.annotations, None, "an unset community id is none");
    }
}

#[test]
fn a_refused_connection_is_denied_and_unset_columns_fall_back() {
    let out = decode(CONN);
    assert!(out.records[3].denied);
    assert_eq!((out.records[4].source_bytes, out.records[4].source_packets), (45, 0), "payload where layer 3 is unset");
}

#[test]
fn a_second_header_in_the_file_changes_the_layout() {
    let out = decode(CONN);
    assert_eq!((out.records.len(), out.faults.len()), (7, 0));
    assert_eq!((out.records[5].protocol, out.records[5].source_bytes), (132, 77));
    assert_eq!((out.records[6].protocol, out.records[6].source_bytes), (47, 0), "unset is now ?");
}

#[test]
fn the_labelled_variant_of_iot23_is_read() {
    let out = decode(include_str!("../../tests/data/zeek_iot23.log"));
    assert_eq!((out.records.len(), out.faults.len()), (1, 0));
    assert_eq!(out.records[0].source_bytes, 180);
}

#[test]
fn json_is_the_same_connection_and_other_logs_are_no_flows() {
    let out = decode(include_str!("../../tests/data/zeek_conn.json"));
    assert_eq!(out.records[0], decode(CONN).records[0]);
    assert_eq!((out.records[1].source_bytes, out.records[1].destination_bytes), (100, 2000));
    let reasons: Vec<Reason> = out.faults.iter().map(|fault| fault.reason).collect();
    assert_eq!(reasons, [Reason::NotFlow, Reason::NotFlow]);
    assert!(out.faults[0].detail.contains("dns"), "{}", out.faults[0]);
}

#[test]
fn each_bad_line_says_what_is_wrong_and_loses_nothing_else() {
    let header = "#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\tid.resp_h\torig_ip_bytes\n";
    let good = "1767607200.0\t10.0.0.1\t10.0.0.2\t5";
    for (bad, reason, said) in [
        ("1767607200.0\t10.0.0.1\t10.0.0.2", Reason::Truncated, "3 columns, the header 4"),
        ("1767607200.0\t10.0.0.1\t10.0.0.2\t-5", Reason::OutOfRange, "orig_ip_bytes is \"-5\""),
        ("1767607200.0\t10.0.0.300\t10.0.0.2\t5", Reason::BadLine, "id.orig_h is \"10.0.0.300\""),
        ("-1.0\t10.0.0.1\t10.0.0.2\t5", Reason::OutOfRange, "ts is \"-1.0\""),
        ("99999999999999999.0\t10.0.0.1\t10.0.0.2\t5", Reason::OutOfRange, "ts is \"99999999999999999.0\""),
        ("-\t10.0.0.1\t10.0.0.2\t5", Reason::BadLine, "ts is absent"),
        ("{\"ts\":1,", Reason::BadLine, "no JSON at column 8"),
    ] {
        let out = decode(&format!("{header}{good}\n{bad}\n{good}\n"));
        assert_eq!((out.records.len(), out.faults.len()), (2, 1), "{bad}");
        assert_eq!(out.faults[0].reason, reason, "{}", out.faults[0]);
        assert!(out.faults[0].detail.contains(said), "{}", out.faults[0]);
    }
}

#[test]
fn lines_without_a_usable_header_say_so() {
    let line = "1767607200.0\t10.0.0.1\t10.0.0.2\t5\n";
    for (header, reason, said) in [
        ("", Reason::BadLine, "#fields"),
        ("#separator \\x09\n#path\tdns\n#fields\tts\tid.orig_h\tid.resp_h\tquery\n", Reason::NotFlow, "dns"),
        ("#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\n", Reason::BadLine, "id.resp_h"),
        ("#separator ab\n#path\tconn\n#fields\tts\tid.orig_h\tid.resp_h\tb\n", Reason::UnknownFormat, "#separator"),
    ] {
        let out = decode(&format!("{header}{line}\n"));
        assert_eq!((out.records.len(), out.faults.len()), (0, 1), "{header}");
        assert_eq!(out.faults[0].reason, reason, "{}", out.faults[0]);
        assert!(out.faults[0].detail.contains(said), "{}", out.faults[0]);
    }
}

/// The real capture's totals, and its flows per quarter of an hour, as its own window table has them.
#[test]
fn a_day_of_iot23_adds_up_to_its_windows() {
    let root = std::env::var_os("SPIKEWATCH_TEST_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let log = root.join("iot23/ctu-iot-malware-34-1.conn.log.labeled.gz");
    let Ok(file) = std::fs::File::open(&log) else {
        println!("skipped: real captures not found at {}", root.display());
        return;
    };
    let mut decoder = ZeekDecoder::new();
    let mut out = Decoded::default();
    for line in compressed::open(BufReader::new(file)).unwrap().split(b'\n') {
        decoder.decode(&line.unwrap(), &mut out);
    }
    assert_eq!((out.records.len(), out.faults.len()), (23_145, 0));
    let bytes: u64 = out.records.iter().map(|r| r.source_bytes + r.destination_bytes).sum();
    let packets: u64 = out.records.iter().map(|r| r.source_packets + r.destination_packets).sum();
    assert_eq!((bytes, packets), (87_384_656, 161_695));

    let table = std::fs::read_to_string(root.join("iot23/ctu-iot-malware-34-1.win15m.csv")).unwrap();
    for row in table.lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        let start = cells[0].parse::<jiff::Timestamp>().unwrap().as_millisecond() as u64;
        let window: Vec<_> = out.records.iter().filter(|r| (start..start + 900_000).contains(&r.start)).collect();
        assert_eq!(window.len().to_string(), cells[2], "flows of {}", cells[0]);
        let bytes: u64 = window.iter().map(|r| r.source_bytes + r.destination_bytes).sum();
        assert_eq!(bytes.to_string(), cells[4], "bytes of {}", cells[0]);
    }
}
