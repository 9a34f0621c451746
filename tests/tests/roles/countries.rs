//! Countries and autonomous systems of peers: from datagrams and a database to alerts.

use std::{collections::BTreeMap, fs};

use spikewatch_collector::PlaceOptions;
use spikewatch_detector::{job::Job, rule::Rule};
use spikewatch_domain::key::Dimension;
use spikewatch_tests::mmdb::Mmdb;
use tempfile::TempDir;

use crate::{
    cluster::Cluster,
    netflow::{BEGIN, Flows, QUARTER, SERVER},
};

/// Ten days: what the shipped rule asks for at its own threshold.
const SPIKE: u64 = 10 * 96 + 50;
const ELSEWHERE: [u8; 4] = [192, 0, 2, 80];
const UNKNOWN: [u8; 4] = [203, 0, 113, 5];

fn places(folder: &TempDir) -> PlaceOptions {
    let (country_database, asn_database) = (folder.path().join("countries.mmdb"), folder.path().join("systems.mmdb"));
    fs::write(&country_database, Mmdb::countries(&[("198.51.100.0/24", "US"), ("192.0.2.0/24", "DE")])).unwrap();
    fs::write(&asn_database, Mmdb::asns(&[("198.51.100.0/24", 64_496), ("192.0.2.0/24", 64_497)])).unwrap();
    PlaceOptions { country_database, asn_database, country_values: 256, asn_values: 1 }
}

/// A country that much goes to, another that little goes to until the spike, and peers that no database knows.
fn traffic(bucket: u64) -> Vec<Flows> {
    let noise = (bucket * 31 % 7) as usize;
    let elsewhere = if bucket == SPIKE { 900 } else { 8 + noise };
    vec![
        Flows { server: SERVER, port: 443, count: 30 + noise },
        Flows { server: ELSEWHERE, port: 443, count: elsewhere },
        Flows { server: UNKNOWN, port: 443, count: 3 },
    ]
}

fn jobs() -> Vec<Job> {
    let toml = "[[job]]\nid = \"high_count_by_destination_country\"\nmeasure = \"events\"\nfunction = \"high_non_zero_count\"\n\
                split = \"country\"\n";
    Job::from_toml(toml).unwrap()
}

/// The rule that ships, as it ships, but switched on.
fn rule() -> Rule {
    let mut rules = Rule::built_in().unwrap().into_iter();
    let rule = rules.find(|rule| rule.name == "Spike in Network Traffic to a Country").unwrap();
    Rule { enabled: true, ..rule }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_rule_alerts_on_a_spike_to_a_country() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::locating(places(&folder), jobs(), vec![rule()]).await;
    cluster.play((0..=SPIKE + 1).map(traffic)).await;
    let alerts = cluster.alerts().await;
    let found: Vec<_> = alerts.iter().map(|a| (a.value.as_str(), a.bucket_start_ms)).collect();
    assert_eq!(found, [("DE", BEGIN + SPIKE * QUARTER)], "{:?}", cluster.scores().await);
    assert!(alerts[0].reason.starts_with("Country DE at site berlin had 900 connections"), "{}", alerts[0].reason);
    let document: serde_json::Value = serde_json::from_str(&alerts[0].document).unwrap();
    assert_eq!(document["spikewatch"]["dimension"], "country");
    assert_eq!(document["destination"]["geo"]["country_iso_code"], serde_json::json!(["DE"]));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_are_by_country_and_by_system_the_tail_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mut cluster = Cluster::locating(places(&folder), jobs(), vec![rule()]).await;
        cluster.play((0..3).map(traffic)).await;
        let mut found = BTreeMap::<(u64, Dimension, String), u64>::new();
        for (bucket, row) in cluster.windows().await {
            if matches!(row.subject.dimension(), Dimension::Country | Dimension::Asn) {
                let key = ((bucket - BEGIN) / QUARTER, row.subject.dimension(), row.subject.to_string());
                assert_eq!(found.insert(key, row.window.counters.events), None);
            }
        }
        cluster.stop().await;
        runs.push(found);
    }
    assert_eq!(runs[0], runs[1]);
    let events = |bucket, dimension, value: &str| runs[0].get(&(bucket, dimension, value.to_owned())).copied();
    for bucket in 0..3 {
        let noise = bucket * 31 % 7;
        assert_eq!(events(bucket, Dimension::Country, "US"), Some(30 + noise));
        assert_eq!(events(bucket, Dimension::Country, "DE"), Some(8 + noise));
        assert_eq!(events(bucket, Dimension::Asn, "AS64496"), Some(30 + noise));
        assert_eq!(events(bucket, Dimension::Asn, "(other)"), Some(8 + noise), "one system has a window of its own");
    }
    assert_eq!(runs[0].len(), 12);
}
