//! Files through the whole pipeline.

use std::{collections::BTreeMap, path::Path, process::Stdio};

use serde_json::Value;

use crate::program::{Done, command, data, done, run};

fn replay(arguments: &[&str], path: &Path) -> Done {
    run(&[&["replay"], arguments, &[path.to_str().unwrap()]].concat())
}

fn documents(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sum<'a>(documents: impl IntoIterator<Item = &'a Value>, field: &str) -> u64 {
    documents.into_iter().map(|document| document[field].as_u64().unwrap()).sum()
}

/// Packets and bytes of each recorded file, over all protocols.
fn recorded() -> BTreeMap<String, (u64, u64)> {
    let mut totals = BTreeMap::<String, (u64, u64)>::new();
    for line in std::fs::read_to_string(data("recorded.csv")).unwrap().lines().skip(1) {
        let [file, _, _, packets, bytes] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let total = totals.entry(file.to_owned()).or_default();
        total.0 += packets.parse::<u64>().unwrap();
        total.1 += bytes.parse::<u64>().unwrap();
    }
    totals
}

/// The client and the server: every conversation has both or one of them, and 198.51.100.7 is the server's.
const NETWORKS: [&str; 6] = ["--internal", "10.83.0.0/24", "--internal", "fd83::/16", "--internal", "fe80::/10"];

#[test]
fn windows_add_up_to_what_was_recorded() {
    for (file, (packets, bytes)) in recorded() {
        let replayed = replay(&[&NETWORKS[..], &["--emit", "windows"]].concat(), &data(&file));
        assert_eq!(replayed.code, 0, "{file}: {}", replayed.err);
        let windows = documents(&replayed.out);
        let sites: Vec<_> = windows.iter().filter(|window| window["dimension"] == "site").collect();
        assert!(!sites.is_empty(), "{file}");
        let both =
            |direction: [&str; 2]| sum(sites.iter().copied(), direction[0]) + sum(sites.iter().copied(), direction[1]);
        // The site's window has every record once. With two internal ends it is told in which direction by the sender.
        assert_eq!(both(["packets_out", "packets_in"]), packets, "{file}");
        assert_eq!(both(["bytes_out", "bytes_in"]), bytes, "{file}");
        let ports: Vec<_> = windows.iter().filter(|window| window["dimension"] == "port").collect();
        for field in ["events", "packets_out", "packets_in", "bytes_out", "bytes_in", "denied"] {
            assert_eq!(sum(ports.iter().copied(), field), sum(sites.iter().copied(), field), "{file}: {field} by port");
        }
        let named = |value: &str| value == "(other)" || value.parse::<u16>().is_ok();
        assert!(ports.iter().all(|window| named(window["value"].as_str().unwrap())), "{file}");
        let top = &sites[0]["top"];
        assert!(top["peers"].is_array() && top["ports"].is_array() && top["protocols"].is_array(), "{file}: {top}");
        assert_eq!(sites[0]["bucket_span_s"], 900);
        assert!(sites[0]["bucket_start"].as_str().unwrap().ends_with("Z"));
    }
}

#[test]
fn flows_add_up_too_and_are_ecs() {
    let (packets, bytes) = recorded()["recorded.pcap"];
    let replayed = replay(&["--emit", "flows", "--site", "lab"], &data("recorded.pcap"));
    assert_eq!(replayed.code, 0, "{}", replayed.err);
    let flows = documents(&replayed.out);
    let total = |field| flows.iter().map(|flow| flow["network"][field].as_u64().unwrap()).sum::<u64>();
    assert_eq!((total("packets"), total("bytes")), (packets, bytes));
    for flow in &flows {
        assert_eq!(flow["event"]["category"][0], "network");
        assert!(flow["source"]["ip"].is_string() && flow["destination"]["ip"].is_string());
        assert!(flow["event"]["start"].as_str() <= flow["event"]["end"].as_str());
    }
}

#[test]
fn the_same_input_is_the_same_output() {
    let path = data("recorded_netflow9.pcap");
    for emit in ["windows", "records", "alerts", "flows"] {
        let [first, second] = [(); 2].map(|()| replay(&["--emit", emit, "--bucket-span", "10s"], &path));
        assert_eq!((first.code, second.code), (0, 0), "{emit}: {}", first.err);
        assert_eq!(first.out, second.out, "{emit}");
    }
}

#[test]
fn the_summary_counts_what_was_read() {
    let replayed = replay(&["--emit", "alerts"], &data("recorded.pcap"));
    for line in ["673", "packets", "records", "windows", "alerts", "time"] {
        assert!(replayed.err.contains(line), "{line} is not in\n{}", replayed.err);
    }
    let quiet = replay(&["--quiet"], &data("recorded.pcap"));
    assert_eq!((quiet.code, quiet.err.as_str()), (0, ""));
}

#[test]
fn a_truncated_capture_loses_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pcap");
    let whole = std::fs::read(data("recorded.pcap")).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    let replayed = replay(&["--emit", "flows"], &path);
    assert_eq!(replayed.code, 0, "{}", replayed.err);
    assert_eq!(replayed.err.matches("cut.pcap").count(), 1, "{}", replayed.err);
    let flows = documents(&replayed.out);
    let packets: u64 = flows.iter().map(|flow| flow["network"]["packets"].as_u64().unwrap()).sum();
    assert_eq!(packets, 672);
}

#[test]
fn what_is_nothing_known_is_65_and_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("noise.bin");
    std::fs::write(&path, [0x17u8; 4096]).unwrap();
    let replayed = replay(&[], &path);
    assert_eq!(replayed.code, 65, "{}", replayed.err);
    assert!(replayed.err.contains("noise.bin") && replayed.err.contains("no usable input"), "{}", replayed.err);
    assert_eq!(replayed.out, "");
}

#[test]
fn a_missing_file_is_74_after_the_others_are_done() {
    let (good, emit) = (data("recorded.pcap"), ["--emit", "flows"]);
    let alone = replay(&emit, &good);
    let both = run(&["replay", "--emit", "flows", "/nonexistent.pcap", good.to_str().unwrap()]);
    assert_eq!(both.code, 74, "{}", both.err);
    assert!(both.err.contains("/nonexistent.pcap"), "{}", both.err);
    assert_eq!(both.out, alone.out);
}

#[test]
fn a_bad_line_is_told_by_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("conn.json");
    let mut lines: Vec<_> =
        std::fs::read_to_string(data("zeek_conn.json")).unwrap().lines().map(str::to_owned).collect();
    let good = replay(&["--emit", "flows"], &data("zeek_conn.json"));
    lines.insert(1, "{\"ts\": oops".into());
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    let replayed = replay(&["--emit", "flows"], &path);
    assert_eq!(replayed.code, 0, "{}", replayed.err);
    assert!(replayed.err.contains("conn.json: line 2"), "{}", replayed.err);
    assert_eq!(replayed.out, good.out, "nothing else is lost");
}

#[test]
fn data_without_its_template_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data_only.netflow");
    // NetFlow v9: one data flow set (id 300) whose template nobody has sent.
    let mut datagram = vec![0, 9, 0, 1];
    datagram.extend(1_000u32.to_be_bytes());
    datagram.extend(1_767_571_200u32.to_be_bytes());
    datagram.extend([0; 8]);
    datagram.extend([1, 44, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8]);
    std::fs::write(&path, datagram).unwrap();
    let replayed = replay(&["--format", "netflow"], &path);
    assert_eq!(replayed.code, 65, "{}", replayed.err);
    assert!(
        replayed.err.contains("unknown template") && replayed.err.contains("data_only.netflow"),
        "{}",
        replayed.err
    );
}

#[test]
fn an_unknown_job_is_64() {
    let wrong = replay(&["--job", "low_count"], &data("recorded.pcap"));
    assert_eq!(wrong.code, 64);
    assert!(wrong.err.contains("high_count_network_events"), "{}", wrong.err);
}

#[test]
fn a_reader_may_leave_early() {
    let path = data("recorded.pcap");
    let arguments = ["replay", "--emit", "flows", "--quiet", path.to_str().unwrap()];
    let mut child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let left = done(child.wait_with_output().unwrap());
    assert_eq!((left.code, left.err.as_str()), (0, ""));
}

#[test]
fn standard_input_is_read() {
    let file = std::fs::File::open(data("recorded.pcap")).unwrap();
    let piped = done(command(&["replay", "--emit", "windows", "-"]).stdin(file).output().unwrap());
    let named = replay(&["--emit", "windows"], &data("recorded.pcap"));
    assert_eq!((piped.code, piped.out), (0, named.out), "{}", piped.err);
}
