use serde_json::{Value, json};
use spikewatch_domain::{key::Dimension, span::Span, window::Measure};
use spikewatch_proto::convert::results::{Companion, Contributor, Part};

use super::*;

/// 2026-01-05T02:00:00Z.
const NIGHT: u64 = 1_767_578_400_000;

fn contributor(field: &str, value: &str, events: u64, bytes: u64) -> Contributor {
    Contributor { field: field.into(), value: value.into(), events, bytes, error: 0.0, influencer_score: Some(60.0) }
}

fn companion(measure: Measure, actual: f64, typical: f64, record_score: f64) -> Companion {
    Companion { job: format!("high_{}_by_host", measure.name()), measure, actual, typical, record_score }
}

/// A host that sent 5 GB by night.
fn record() -> AnomalyRecord {
    AnomalyRecord {
        job: "high_bytes_out_by_host".into(),
        bucket_start: NIGHT,
        bucket_span: Span::QUARTER_HOUR,
        site: Some("berlin".parse().unwrap()),
        dimension: Some(Dimension::Host),
        value: "10.0.0.4".into(),
        function: "high_sum".into(),
        measure: Measure::BytesOut,
        actual: 5_200_000_000.0,
        typical: 12_000_000.0,
        lower: 1_000_000.0,
        upper: 40_000_000.0,
        record_score: 91.234_567_8,
        initial_record_score: 91.234_567_8,
        probability: 1.234_567_89e-6,
        multi_bucket_impact: -5.0,
        finalised: 7,
        finalised_ms: NIGHT + 900_000,
        incomplete: false,
        late: false,
        early: false,
        buckets_seen: 1500,
        contributors: vec![
            contributor("peer", "203.0.113.9", 3, 5_190_000_000),
            contributor("peer", "10.0.0.1", 40, 9_000_000),
            contributor("service", "443/tcp", 43, 5_199_000_000),
            contributor("user", "anna", 3, 5_190_000_000),
        ],
        companions: vec![
            companion(Measure::BytesIn, 20_000_000.0, 15_000_000.0, 3.0),
            companion(Measure::Events, 43.0, 40.0, 1.0),
            companion(Measure::DistinctPeers, 2.0, 2.0, 0.0),
        ],
        parts: Vec::new(),
        alert_from: 0.0,
    }
}

fn alert(record: &AnomalyRecord, since: u64) -> (Alert, Value) {
    let rules = Rule::built_in().unwrap();
    let rule = &rules[1];
    let id = id(rule, record);
    let incident = Incident {
        id: id.clone(),
        start: since,
        last: record.bucket_start + 900_000,
        ended: false,
        buckets: 1,
        peak_score: record.record_score,
    };
    let finding = Finding { record, incident, related: vec!["ab".into()], suppression: None, stage: Stage::Final };
    let alert = make(rule, &id, finding, Occasion { execution: 12, at: NIGHT + 900_000, manual: false });
    let document = serde_json::from_str(&alert.document).unwrap();
    (alert, document)
}

#[test]
fn the_reason_says_what_happened() {
    let (alert, document) = alert(&record(), NIGHT - 1_800_000);
    assert_eq!(
        alert.reason,
        "10.0.0.4 at site berlin sent 5.2 GB in the 15m from 2026-01-05T02:00:00Z; 12.0 MB is typical (95 % of values lie \
         between 1.0 MB and 40.0 MB), so 433 times as much. It has been like this since 2026-01-05T01:30:00Z. It looks like \
         exfiltration. Top peers: 203.0.113.9 (3 connections, 5.2 GB), 10.0.0.1 (40 connections, 9.0 MB). Services: 443/tcp \
         (43 connections, 5.2 GB)."
    );
    assert_eq!(document["event"]["reason"], alert.reason);
}

#[test]
fn the_document_is_ecs() {
    let (alert, document) = alert(&record(), NIGHT);
    let expected = json!({
        "kind": "alert", "category": ["network"], "type": ["info"], "id": alert.id, "module": "spikewatch",
        "dataset": "spikewatch.alert", "created": "2026-01-05T02:15:00Z", "start": "2026-01-05T02:00:00Z",
        "end": "2026-01-05T02:15:00Z", "severity": 21, "risk_score": 21, "reason": alert.reason,
    });
    assert_eq!(document["event"], expected);
    assert_eq!(document["@timestamp"], "2026-01-05T02:00:00Z");
    assert_eq!(document["ecs"]["version"], "9.0.0");
    assert_eq!(document["host"], json!({"ip": ["10.0.0.4"]}));
    assert_eq!(document["source"]["ip"], json!(["10.0.0.4"]));
    assert_eq!(document["destination"]["ip"], json!(["203.0.113.9", "10.0.0.1"]));
    assert_eq!(document["related"], json!({"ip": ["10.0.0.4", "203.0.113.9", "10.0.0.1"], "user": ["anna"]}));
    assert_eq!(document["threat"]["tactic"]["id"], json!(["TA0010", "TA0007", "TA0043", "TA0040"]));
    assert_eq!(document["labels"], json!({"site": "berlin", "job": "high_bytes_out_by_host"}));
    let numbers = &document["spikewatch"];
    assert_eq!(numbers["record_score"], 91.2346);
    assert_eq!(numbers["probability"], 1.23457e-6);
    assert_eq!(numbers["factor"], 433.333);
    assert_eq!(numbers["kind"], "exfiltration");
    assert_eq!(numbers["kind_evidence"][0], json!({"measure": "bytes_out", "actual": 5.2e9, "typical": 1.2e7}));
    assert_eq!(numbers["related"], json!(["ab"]));
    assert_eq!((&numbers["warming_up"], &numbers["incomplete"]), (&json!(false), &json!(false)));
}

#[test]
fn bytes_for_new_peers_are_told_apart_from_all_bytes() {
    let usual = record();
    let part = |name: &str, decades| Part { name: name.into(), decades };
    let mut contributors = usual.contributors.clone();
    contributors.insert(0, contributor("new_peer", "203.0.113.9", 3, 5_190_000_000));
    let record = AnomalyRecord {
        job: "host_exfiltration".into(),
        function: "exfiltration".into(),
        actual: 5_190_000_000.0,
        typical: 2_000_000.0,
        lower: 0.0,
        upper: 30_000_000.0,
        contributors,
        companions: vec![companion(Measure::BytesOut, 5_200_000_000.0, 12_000_000.0, 91.0)],
        parts: vec![part("new_peers_12h", 4.123_456_78), part("tiny", -3.0)],
        ..usual
    };
    let (alert, document) = alert(&record, NIGHT);
    assert!(
        alert.reason.starts_with(
            "10.0.0.4 at site berlin sent 5.2 GB to peers that it had not met for a week in the 15m from \
             2026-01-05T02:00:00Z; 2.0 MB is typical (a usual day reaches 30.0 MB), so 2,595 times as much. It looks like \
             exfiltration. New peers: 203.0.113.9 (3 connections, 5.2 GB)."
        ),
        "{}",
        alert.reason
    );
    let numbers = &document["spikewatch"];
    assert_eq!(
        numbers["parts"],
        json!([{"name": "new_peers_12h", "decades": 4.12346}]),
        "what is not known is not told"
    );
    assert_eq!(
        (&numbers["kind_evidence"][0], &numbers["kind_evidence"][1]),
        (
            &json!({"measure": "bytes_out_to_new_peers", "actual": 5.19e9, "typical": 2e6}),
            &json!({"measure": "bytes_out", "actual": 5.2e9, "typical": 1.2e7})
        )
    );
}

#[test]
fn a_country_or_a_system_is_the_destinations_or_of_what_came_in_the_sources() {
    let of = |dimension, value: &str, measure| {
        let value = value.into();
        let record = AnomalyRecord { dimension: Some(dimension), value, measure, contributors: Vec::new(), ..record() };
        let (_, document) = alert(&record, NIGHT);
        (document["source"].clone(), document["destination"].clone())
    };
    let germany = json!({"geo": {"country_iso_code": ["DE"]}});
    assert_eq!(of(Dimension::Country, "DE", Measure::Events), (Value::Null, germany.clone()));
    assert_eq!(of(Dimension::Country, "DE", Measure::BytesIn), (germany, Value::Null));
    let system = json!({"as": {"number": [64_500]}});
    assert_eq!(of(Dimension::Asn, "AS64500", Measure::BytesOut), (Value::Null, system));
}

#[test]
fn the_same_finding_is_the_same_bytes_and_id() {
    let (one, _) = alert(&record(), NIGHT);
    let (other, _) = alert(&record(), NIGHT);
    assert_eq!(one, other);
    assert_eq!(one.id.len(), 64);
    let rules = Rule::built_in().unwrap();
    let another = |change: fn(&mut AnomalyRecord)| {
        let mut record = record();
        change(&mut record);
        id(&rules[1], &record)
    };
    assert_eq!(another(|record| record.record_score = 99.0), one.id, "a score that changes makes no other alert");
    assert_ne!(another(|record| record.bucket_start += 900_000), one.id);
    assert_ne!(another(|record| record.site = Some("paris".parse().unwrap())), one.id);
    assert_ne!(another(|record| record.value = "10.0.0.5".into()), one.id);
    assert_ne!(id(&rules[0], &record()), one.id);
}

#[test]
fn received_traffic_comes_from_the_peers() {
    let flood = AnomalyRecord {
        job: "high_packets_in_by_host".into(),
        measure: Measure::PacketsIn,
        actual: 9e6,
        typical: 20_000.0,
        companions: vec![
            companion(Measure::BytesIn, 5e8, 2e7, 80.0),
            companion(Measure::BytesOut, 1e6, 9e5, 4.0),
            companion(Measure::Events, 8e6, 300.0, 99.0),
        ],
        ..record()
    };
    let (alert, document) = alert(&flood, NIGHT);
    assert_eq!(document["destination"]["ip"], json!(["10.0.0.4"]));
    assert_eq!(document["source"]["ip"], json!(["203.0.113.9", "10.0.0.1"]));
    assert_eq!(document["spikewatch"]["kind"], "flood");
    assert!(alert.reason.contains("received 9,000,000 packets"), "{}", alert.reason);
}

#[test]
fn a_scan_is_many_peers_with_little_each_and_nothing_is_guessed() {
    let scan = AnomalyRecord {
        job: "high_distinct_peers_by_host".into(),
        measure: Measure::DistinctPeers,
        actual: 900.0,
        typical: 3.0,
        companions: vec![
            companion(Measure::BytesOut, 90_000.0, 80_000.0, 4.0),
            companion(Measure::BytesIn, 20_000.0, 30_000.0, 0.0),
            companion(Measure::Events, 950.0, 40.0, 88.0),
        ],
        ..record()
    };
    assert_eq!(alert(&scan, NIGHT).1["spikewatch"]["kind"], "scan");
    let alone = AnomalyRecord { companions: Vec::new(), ..scan };
    let (alert, document) = alert(&alone, NIGHT);
    assert_eq!(document["spikewatch"]["kind"], "unclear");
    assert!(document["spikewatch"].get("kind_evidence").is_none() && !alert.reason.contains("looks like"));
}

#[test]
fn ports_tried_one_by_one_are_a_scan_for_both_ends() {
    // As many packets come in as go out, the measure of which nobody watches.
    let sweep = |received: f64| AnomalyRecord {
        job: "high_distinct_ports_by_host".into(),
        function: "high_distinct_count".into(),
        measure: Measure::DistinctPeerPorts,
        actual: 2661.0,
        typical: 1.7,
        companions: vec![
            companion(Measure::BytesOut, 1_900_000.0, 2_000_000.0, 4.0),
            companion(Measure::BytesIn, received, 1_500_000.0, 0.0),
            companion(Measure::PacketsIn, 4_000.0, 1_200.0, 40.0),
            companion(Measure::Events, 5454.0, 26.0, 97.0),
            companion(Measure::DistinctPeers, 12.0, 9.0, 0.0),
        ],
        ..record()
    };
    for received in [1_600_000.0, 1_400_000.0] {
        assert_eq!(alert(&sweep(received), NIGHT).1["spikewatch"]["kind"], "scan");
    }
    // The same packets on one port, from many, are a flood.
    let mut flood = sweep(1_600_000.0);
    (flood.function, flood.measure, flood.actual, flood.typical) = ("high_count".into(), Measure::Events, 5454.0, 26.0);
    flood.companions[3] = companion(Measure::DistinctPeerPorts, 2.0, 2.0, 0.0);
    flood.companions[4] = companion(Measure::DistinctPeers, 600.0, 9.0, 99.0);
    assert_eq!(alert(&flood, NIGHT).1["spikewatch"]["kind"], "flood");
}

#[test]
fn dips_and_means_are_told_in_their_own_words() {
    let dip = AnomalyRecord {
        job: "quiet".into(),
        function: "low_count".into(),
        measure: Measure::Events,
        actual: 24.0,
        typical: 1200.0,
        lower: 900.0,
        upper: 1500.0,
        contributors: Vec::new(),
        companions: Vec::new(),
        ..record()
    };
    let (told, document) = alert(&dip, NIGHT);
    assert_eq!(
        told.reason,
        "10.0.0.4 at site berlin had 24 connections in the 15m from 2026-01-05T02:00:00Z; 1,200 connections are typical (95 % \
         of values lie between 900 connections and 1,500 connections), so 2 % of it."
    );
    assert_eq!(document["spikewatch"]["kind"], "unclear");
    let mean = AnomalyRecord {
        function: "high_mean".into(),
        actual: 90_000.0,
        typical: 3000.0,
        contributors: Vec::new(),
        ..record()
    };
    let (told, _) = alert(&mean, NIGHT);
    assert!(told.reason.contains("sent 90.0 kB per connection in the 15m"), "{}", told.reason);
    assert!(told.reason.contains("3.0 kB per connection is typical"), "{}", told.reason);
}

#[test]
fn what_is_rare_is_told_by_how_often_it_was_there() {
    let rare = AnomalyRecord {
        job: "rare_port".into(),
        dimension: Some(Dimension::Port),
        value: "6667".into(),
        function: "rare".into(),
        measure: Measure::Events,
        actual: 2.0,
        typical: 0.0,
        buckets_seen: 2400,
        contributors: Vec::new(),
        companions: Vec::new(),
        ..record()
    };
    assert_eq!(
        alert(&rare, NIGHT).0.reason,
        "Port 6667 at site berlin had 2 connections in the 15m from 2026-01-05T02:00:00Z; it was there in 0 of the 2,400 \
         buckets before."
    );
}

#[test]
fn the_global_series_is_about_all_sites() {
    let global = AnomalyRecord {
        job: "high_count_network_events".into(),
        site: None,
        dimension: None,
        value: String::new(),
        measure: Measure::Events,
        actual: 120_000.0,
        typical: 9000.0,
        incomplete: true,
        contributors: vec![contributor("site", "berlin", 100_000, 5), contributor("peer", "10.0.0.4", 90_000, 4)],
        companions: Vec::new(),
        ..record()
    };
    let (alert, document) = alert(&global, NIGHT);
    assert!(alert.reason.starts_with("All sites together had 120,000 connections in the 15m"), "{}", alert.reason);
    assert!(alert.reason.contains("Sites: berlin (100,000 connections"), "{}", alert.reason);
    assert!(alert.reason.ends_with("A collector of the site was missing, so the real value may be higher."));
    assert_eq!((document.get("host"), &document["source"]["ip"]), (None, &json!(["10.0.0.4"])));
    assert_eq!(document["spikewatch"]["dimension"], "global");
}

#[test]
fn the_kibana_form_has_what_its_readers_look_for() {
    let rules = Rule::built_in().unwrap();
    let record = record();
    let id = id(&rules[1], &record);
    let incident =
        Incident { id: id.clone(), start: NIGHT, last: NIGHT + 2_700_000, ended: true, buckets: 3, peak_score: 95.0 };
    let terms =
        vec![spikewatch_proto::convert::results::Term { field: "host".into(), values: vec!["10.0.0.4".into()] }];
    let suppression = Some(Suppressed { terms, start: NIGHT, end: NIGHT + 900_000, count: 4 });
    let finding = Finding { record: &record, incident, related: Vec::new(), suppression, stage: Stage::Final };
    let alert = make(&rules[1], &id, finding, Occasion { execution: 12, at: NIGHT + 900_000, manual: true });
    let text = kibana::of(&alert.document);
    assert_eq!(text, kibana::of(&alert.document), "equal alerts are equal bytes");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&document["event"]["kind"], &document["@timestamp"]),
        (&json!("signal"), &json!("2026-01-05T02:15:00Z"))
    );
    let expected = json!({
        "uuid": id, "status": "recovered", "workflow_status": "open", "severity": "low", "risk_score": 21,
        "reason": alert.reason, "original_time": "2026-01-05T02:00:00Z", "start": "2026-01-05T02:00:00Z",
        "end": "2026-01-05T02:45:00Z", "duration.us": 2_700_000_000u64, "depth": 1,
        "suppression.docs_count": 4, "suppression.terms": [{"field": "host", "value": ["10.0.0.4"]}],
        "rule.uuid": rules[1].id, "rule.name": "Spike in a Host's Traffic", "rule.type": "machine_learning",
        "rule.version": 1, "rule.from": "now-1800s", "rule.interval": "900s", "rule.max_signals": 100,
        "rule.execution.type": "manual",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&document[format!("kibana.alert.{name}")], value, "{name}");
    }
    assert_eq!(document["kibana.alert.rule.threat"][0]["technique"][0]["id"], "T1041");
    assert_eq!(document["kibana.alert.rule.parameters"]["anomaly_threshold"], 75.0);
    assert_eq!((&document["job_id"], &document["actual"]), (&json!("high_bytes_out_by_host"), &json!([5.2e9])));
    let peers = json!({"influencer_field_name": "peer", "influencer_field_values": ["203.0.113.9", "10.0.0.1"]});
    assert_eq!(document["influencers"][0], peers);
    assert_eq!(document["host"], json!({"ip": ["10.0.0.4"]}), "ECS stays as it is");
    // What is no document of ours is left alone.
    assert_eq!((kibana::of("{}"), kibana::of("no json")), ("{}".to_owned(), "no json".to_owned()));
}
