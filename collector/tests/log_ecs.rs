//! ECS documents as Elastic Defend, Packetbeat and firewalls write them.

use spikewatch_collector::fault::{Decoded, Fault, Reason};
use spikewatch_collector::log::ecs::{EcsDecoder, EcsOptions};
use spikewatch_collector::log::zeek::ZeekDecoder;
use spikewatch_domain::record::{FlowRecord, Place, Report};

fn decode_with(options: EcsOptions, text: &str) -> Decoded {
    let mut decoder = EcsDecoder::new(options);
    let mut out = Decoded::default();
    for line in text.lines() {
        decoder.decode(line.as_bytes(), &mut out);
    }
    out
}

fn decode(text: &str) -> Decoded {
    decode_with(EcsOptions::default(), text)
}

const DEFEND: &str = include_str!("../../tests/data/ecs_defend.ndjson");
const PACKETBEAT: &str = include_str!("../../tests/data/ecs_packetbeat.ndjson");
const FIREWALL: &str = include_str!("../../tests/data/ecs_firewall.ndjson");

#[test]
fn the_two_documents_of_a_defend_connection_are_linked() {
    let out = decode(DEFEND);
    let [opened, closed] = out.records.as_slice() else { panic!("two records: {out:?}") };
    let (Report::Opened { flow: one }, Report::Closed { flow: other }) = (opened.report, closed.report) else {
        panic!("opened, closed: {out:?}")
    };
    assert_eq!(one, other);
    assert_eq!((opened.source_bytes, opened.destination_bytes), (0, 0));
    assert_eq!((closed.source_bytes, closed.destination_bytes), (498, 4923));
    assert_eq!((closed.start, closed.end), (1_767_607_209_600, 1_767_607_209_600));
    let known = opened.annotations.as_ref().unwrap();
    assert_eq!(known.host_name.as_deref(), Some("web-1"));
    assert_eq!(known.host_addresses.len(), 2);
    assert_eq!((known.process.as_deref(), known.user.as_deref()), (Some("curl"), Some("svc")));
    assert_ne!(known.sensor, 0);
    assert_eq!(known.connection, None);
}

#[test]
fn one_defend_document_for_a_whole_connection_is_complete() {
    let out = decode(
        r#"{"@timestamp":"2026-01-05T10:00:00Z","event":{"category":["network"],"type":["start","end"],"module":"endpoint",
        "action":["connection_attempted","disconnect_received"]},"source":{"ip":"10.0.0.32","port":5,"bytes":7},
        "destination":{"ip":"203.0.113.9","port":443,"bytes":9}}"#
            .replace('\n', "")
            .as_str(),
    );
    assert_eq!(out.records[0].report, Report::Complete);
    assert_eq!((out.records[0].source_bytes, out.records[0].destination_bytes), (7, 9));
}

#[test]
fn a_flow_id_alone_makes_no_cumulative_report() {
    let out = decode(&document(
        r#""@timestamp":1,"flow.id":"f1","source.ip":"10.0.0.1","destination.ip":"10.0.0.2","network.bytes":9"#,
    ));
    assert_eq!(out.records[0].report, Report::Complete);
}

#[test]
fn look_ups_shippers_and_other_categories_are_left_out_with_their_reason() {
    let reasons: Vec<Reason> = decode(DEFEND).faults.iter().map(|fault| fault.reason).collect();
    assert_eq!(reasons, [Reason::NotFlow, Reason::Excluded, Reason::NotFlow]);
    let all = decode_with(EcsOptions { exclude_shippers: false, ..EcsOptions::default() }, DEFEND);
    assert_eq!(all.records.len(), 3, "shippers count where that is wanted");
    let none = EcsOptions { extra_excluded_processes: vec!["Curl.exe".to_owned()], ..EcsOptions::default() };
    assert_eq!(decode_with(none, DEFEND).records.len(), 0);
}

#[test]
fn packetbeat_reports_are_cumulative_and_one_flow_in_any_notation() {
    let out = decode(PACKETBEAT);
    let [first, last] = out.records.as_slice() else { panic!("two records: {out:?}") };
    let (Report::Cumulative { flow: one, last: false }, Report::Cumulative { flow: other, last: true }) =
        (first.report, last.report)
    else {
        panic!("cumulative: {out:?}")
    };
    assert_eq!(one, other);
    assert_eq!((first.start, first.end), (1_767_607_185_677, 1_767_607_195_751));
    assert_eq!((last.source_port, last.source_bytes, last.destination_bytes), (51320, 1088, 9064));
    assert_eq!(out.faults.len(), 1, "the HTTP transaction travelled in a flow of its own");
    assert_eq!(out.faults[0].reason, Reason::NotFlow);

    let deltas = decode_with(EcsOptions { flow_reports_are_deltas: true, ..EcsOptions::default() }, PACKETBEAT);
    let reports: Vec<Report> = deltas.records.iter().map(|record| record.report).collect();
    assert_eq!(reports, [Report::Partial, Report::Complete]);
}

#[test]
fn a_connection_seen_by_packetbeat_and_by_zeek_has_one_identity() {
    let mut out = Decoded::default();
    let mut zeek = ZeekDecoder::new();
    for line in include_str!("../../tests/data/zeek_conn.log").lines() {
        zeek.decode(line.as_bytes(), &mut out);
    }
    let of = |record: &FlowRecord| record.annotations.as_ref().unwrap().connection.unwrap();
    assert_eq!(of(&out.records[0]), of(&decode(PACKETBEAT).records[0]));
}

#[test]
fn firewalls_and_netflow_in_ecs() {
    let out = decode(FIREWALL);
    let [denied, by_role, netflow] = out.records.as_slice() else { panic!("three records: {out:?}") };
    assert!(denied.denied && by_role.denied && !netflow.denied);
    assert_eq!((denied.source_bytes, denied.source_packets, denied.destination_bytes), (60, 1, 0));
    assert_eq!((denied.protocol, denied.initiator_known, denied.report), (17, true, Report::Complete));
    assert_eq!(by_role.source.to_string(), "10.0.0.5");
    assert_eq!((by_role.protocol, by_role.source_bytes, by_role.destination_bytes), (47, 10, 20));
    assert_eq!((by_role.start, by_role.end), (1_767_607_200_000, 1_767_607_230_000), "a duration reaches back");
    assert_eq!((netflow.protocol, netflow.destination_port, netflow.initiator_known), (58, 0, false));
    assert_eq!((netflow.start, netflow.end), (1_767_607_140_000, 1_767_607_199_500));
}

fn document(rest: &str) -> String {
    format!(r#"{{"event":{{"category":["network"]}},{rest}}}"#)
}

fn fault_of(line: &str) -> Fault {
    let mut out = decode(line);
    assert_eq!((out.records.len(), out.faults.len()), (0, 1), "{line}");
    out.faults.remove(0)
}

#[test]
fn each_fault_names_the_field_and_what_stood_there() {
    let ends = r#""source":{"ip":"10.0.0.1"},"destination":{"ip":"10.0.0.2"}"#;
    for (rest, reason, said) in [
        (r#""@timestamp":1767607200"#.to_owned(), Reason::NotIp, "no addresses"),
        (r#""source":{"ip":"10.0.0.1"}"#.to_owned(), Reason::BadLine, "destination.ip is absent"),
        (r#""source":{"ip":"here"},"destination":{"ip":"::1"}"#.to_owned(), Reason::BadLine, "source.ip is \"here\""),
        (ends.to_owned(), Reason::BadLine, "@timestamp is absent"),
        (format!(r#"{ends},"@timestamp":"soon""#), Reason::BadLine, "@timestamp is \"soon\""),
        (format!(r#"{ends},"@timestamp":-1"#), Reason::OutOfRange, "@timestamp is -1"),
        (format!(r#"{ends},"@timestamp":"2026-02-30T00:00:00Z""#), Reason::OutOfRange, "2026-02-30"),
        (format!(r#"{ends},"@timestamp":1,"event.duration":-9"#), Reason::OutOfRange, "event.duration is -9"),
        (format!(r#"{ends},"@timestamp":1,"event.duration":5e18"#), Reason::OutOfRange, "event.duration"),
        (format!(r#"{ends},"@timestamp":1,"source.bytes":-5"#), Reason::OutOfRange, "source.bytes is -5"),
        (format!(r#"{ends},"@timestamp":1,"source.port":70000"#), Reason::OutOfRange, "source.port is 70000"),
        (format!(r#"{ends},"@timestamp":1,"network.iana_number":"256""#), Reason::OutOfRange, "iana_number is \"256\""),
        (format!(r#"{ends},"@timestamp":1,"network.bytes":"lots""#), Reason::BadLine, "network.bytes is \"lots\""),
        (format!(r#"{ends},"@timestamp":1,"network.bytes":1e999"#), Reason::OutOfRange, "number out of range"),
    ] {
        let fault = fault_of(&document(&rest));
        assert_eq!(fault.reason, reason, "{rest}: {fault}");
        assert!(fault.detail.contains(said), "{rest}: {fault}");
    }
}

#[test]
fn lines_that_are_no_json_name_the_column() {
    assert_eq!(fault_of(r#"{"event":{"category":["network"]"#).detail.split(':').next(), Some("no JSON at column 32"));
    assert_eq!(fault_of("plain text").reason, Reason::BadLine);
    assert_eq!(fault_of("[1,2]").reason, Reason::BadLine);
    assert_eq!(fault_of("{} {}").reason, Reason::BadLine);
    assert_eq!(fault_of(&"{\"a\":".repeat(5000)).reason, Reason::BadLine, "nested too deeply");
}

#[test]
fn names_are_cut_and_blank_lines_are_nothing() {
    let long = "x".repeat(10_000);
    let line = document(&format!(
        r#""@timestamp":1,"source.ip":"10.0.0.1","destination.ip":"10.0.0.2","user":{{"name":"{long}"}}"#
    ));
    let out = decode(&format!("\n  \r\n{line}\r\n"));
    assert_eq!((out.records.len(), out.faults.len()), (1, 0));
    assert_eq!(out.records[0].annotations.as_ref().unwrap().user.as_ref().unwrap().len(), 256);
}

#[test]
fn where_the_ends_are_is_taken_from_the_document_in_any_notation() {
    let places = |rest: &str| {
        let out = decode(&document(&format!(r#""@timestamp":1,{rest}"#)));
        let record = out.records.first().unwrap_or_else(|| panic!("{out:?}"));
        record.annotations.as_deref().map(|known| (known.source_place, known.destination_place)).unwrap_or_default()
    };
    let german = Place { country: Some(*b"DE"), asn: Some(64_500) };
    let nested = r#""source":{"ip":"10.0.0.1"},"destination":{"ip":"203.0.113.9","as":{"number":64500,"organization":
        {"name":"EXAMPLE"}},"geo":{"country_name":"Germany","country_iso_code":"DE"}}"#;
    assert_eq!(places(&nested.replace('\n', "")), (Place::default(), german));
    let dotted = r#""source.ip":"10.0.0.1","destination.ip":"203.0.113.9","destination.geo.country_iso_code":"de",
        "destination.as.number":"64500""#;
    assert_eq!(places(&dotted.replace('\n', "")), (Place::default(), german));
    let roles = r#""client.ip":"203.0.113.9","client.geo.country_iso_code":"DE","client.as.number":64500,"server.ip":"10.0.0.1""#;
    assert_eq!(places(roles), (german, Place::default()));
    let odd = r#""source.ip":"10.0.0.1","destination.ip":"203.0.113.9","destination.geo.country_iso_code":"Germany",
        "destination.as.number":-5,"source.as.number":0,"source.geo.country_iso_code":7"#;
    assert_eq!(places(&odd.replace('\n', "")), (Place::default(), Place::default()), "the flow counts all the same");
}
