//! Service ports as a dimension: from datagrams to alerts.

use std::collections::BTreeMap;

use spikewatch_detector::{job::Job, rule::Rule};
use spikewatch_domain::{
    key::{Dimension, Subject},
    window::Counters,
};

use crate::{
    cluster::Cluster,
    netflow::{BEGIN, Flows, QUARTER, SERVER},
};

/// A day and some more: a rule asks for 96 buckets before it believes a series.
const SPIKE: u64 = 110;

/// Two ports that are always there, and a third that is never among the heaviest two.
fn traffic(bucket: u64) -> Vec<Flows> {
    let noise = (bucket * 31 % 7) as usize;
    let dns = if bucket == SPIKE { 900 } else { 30 + noise };
    vec![
        Flows { server: SERVER, port: 443, count: 50 + noise },
        Flows { server: SERVER, port: 53, count: dns },
        Flows { server: SERVER, port: 22, count: 1 },
        Flows { server: SERVER, port: 25, count: 1 },
        Flows { server: SERVER, port: 993, count: 1 + noise % 2 },
    ]
}

fn jobs() -> Vec<Job> {
    let mut jobs = Job::from_toml(
        "[[job]]\nid = \"high_count_by_port\"\nmeasure = \"events\"\nfunction = \"high_count\"\nsplit = \"port\"\n",
    )
    .unwrap();
    jobs.extend(Job::built_in().into_iter().filter(|job| job.id == "high_count_network_events_by_host"));
    jobs
}

/// The rule that ships, over these jobs; one day of baseline does not make it as sure as it asks for.
pub(crate) fn rule(jobs: &[&str]) -> Rule {
    let mut rule = Rule::built_in().unwrap().remove(0);
    rule.threshold = 50.0;
    rule.jobs = jobs.iter().map(|job| (*job).to_owned()).collect();
    rule
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spike_of_one_port_is_alerted_under_its_number() {
    let mut cluster = Cluster::start(jobs(), vec![rule(&["high_count_by_port"])]).await;
    cluster.play((0..=SPIKE + 1).map(traffic)).await;
    let alerts = cluster.alerts().await;
    let found: Vec<_> = alerts.iter().map(|a| (a.value.as_str(), a.bucket_start_ms, a.job.as_str())).collect();
    let expected = [("53", BEGIN + SPIKE * QUARTER, "high_count_by_port")];
    assert_eq!(found, expected, "{:?}", cluster.scores().await);
    assert!(alerts[0].reason.starts_with("Port 53 at site berlin had 900 connections"), "{}", alerts[0].reason);
    let document: serde_json::Value = serde_json::from_str(&alerts[0].document).unwrap();
    assert_eq!(document["spikewatch"]["dimension"], "port");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_windows_of_ports_are_the_parts_of_their_site() {
    let mut cluster = Cluster::start(jobs(), vec![rule(&["high_count_by_port"])]).await;
    cluster.play((0..5).map(traffic)).await;
    let mut sums = BTreeMap::<(u64, Dimension), Counters>::new();
    let mut ports = BTreeMap::<u64, Vec<String>>::new();
    for (bucket, row) in cluster.windows().await {
        let dimension = row.subject.dimension();
        sums.entry((bucket, dimension)).or_default().add(&row.window.counters);
        if dimension == Dimension::Port {
            assert_eq!((row.window.distinct_peers(), row.window.distinct_peer_ports()), (0, 0), "counters only");
            ports.entry(bucket).or_default().push(row.subject.to_string());
        }
        assert_ne!(row.subject, Subject::Port(25), "the tail is together");
    }
    assert_eq!(ports.len(), 5);
    for (bucket, values) in &mut ports {
        values.sort();
        assert_eq!(*values, ["(other)", "443", "53"]);
        assert_eq!(sums[&(*bucket, Dimension::Port)], sums[&(*bucket, Dimension::Site)]);
    }
    cluster.stop().await;
}
