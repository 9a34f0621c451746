//! From committed windows to alerts, over gRPC as in production.

mod early;
mod late;
mod live;
mod owner;
mod rules;

use std::net::IpAddr;

use owner::{Detector, Owner, QUARTER, Traffic};
use spikewatch_domain::{
    key::Subject,
    window::{Counters, Peer, Service, Share, Window},
};
use spikewatch_proto::{
    convert::windows,
    v1::{self, detector_message::Message, owner_message, refusal::Reason},
};

const DAYS: u64 = 20;
/// A night's bucket on the last day.
const SPIKE: u64 = (DAYS - 1) * 96 + 10;

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn window(events: u64, bytes_out: u64, peer: &str) -> Window {
    let mut window = Window::default();
    window.add(&Share {
        counters: Counters {
            events,
            bytes_out,
            bytes_in: bytes_out / 3,
            packets_out: bytes_out / 700,
            packets_in: bytes_out / 900,
            ..Counters::default()
        },
        peer: Peer::from(address(peer)),
        service: Service { port: 443, protocol: 6 },
        annotations: None,
    });
    window
}

/// Six hosts with a daily rhythm and noise.
fn traffic(bucket: u64, spikes: bool) -> Traffic {
    let mut traffic = Traffic::new();
    let mut site = Window::default();
    for host in 1..=6u64 {
        let noise = (bucket.wrapping_mul(2_654_435_761) ^ host.wrapping_mul(40_503)) % 1000;
        let hour = bucket % 96 / 4;
        let busy = if (8..18).contains(&hour) { 4 } else { 1 };
        let events = busy * (40 + noise / 40);
        let mut own = window(events, events * (9000 + noise), "198.51.100.7");
        if spikes && bucket == SPIKE && host == 4 {
            own.merge(&window(3, 5_000_000_000, "203.0.113.9"));
        }
        site.merge(&own);
        traffic.insert(Subject::Address(address(&format!("10.0.0.{host}"))), own);
    }
    traffic.insert(Subject::Site, site);
    traffic
}

fn all(spikes: bool) -> impl Iterator<Item = (u64, Traffic)> {
    (0..DAYS * 96).map(move |bucket| (bucket, traffic(bucket, spikes)))
}

#[tokio::test]
async fn one_spike_in_twenty_days_is_the_one_alert() {
    let detector = Detector::start(4, "sqlite::memory:").await;
    let mut owner = Owner::open(&detector, 4).await;
    owner.commit_all(all(true), 0).await;
    detector.scored(DAYS * 96 - 1).await;
    let alerts = detector.alerts().await;
    for alert in &alerts {
        println!("{} {:.1} {}", alert.job, alert.record_score, alert.reason);
    }
    let at_the_spike: Vec<_> = alerts.iter().filter(|alert| alert.bucket_start_ms == SPIKE * QUARTER).collect();
    assert_eq!(alerts.len(), at_the_spike.len(), "nothing else is alerted");
    let sent = at_the_spike.iter().find(|alert| alert.job == "high_bytes_out_by_host").unwrap();
    assert_eq!(
        (sent.site.as_str(), sent.value.as_str(), sent.rule_name.as_str()),
        ("berlin", "10.0.0.4", "Spike in a Host's Traffic")
    );
    assert!(at_the_spike.iter().all(|alert| alert.value == "10.0.0.4"), "only that host, for whatever measure");
    assert!(
        sent.reason.starts_with("10.0.0.4 at site berlin sent 5.0 GB in the 15m from 1970-01-20T02:30:00Z;"),
        "{}",
        sent.reason
    );
    assert!(sent.reason.contains(" kB is typical"), "{}", sent.reason);
    assert!(sent.reason.contains("203.0.113.9 (3 connections, 6.7 GB)"), "{}", sent.reason);
    let document: serde_json::Value = serde_json::from_str(&sent.document).unwrap();
    assert_eq!(document["event"]["kind"], "alert");
    assert!(document["spikewatch"]["actual"].as_f64().unwrap() > 5e9);
    assert_eq!(document["source"]["ip"][0], "10.0.0.4");
    assert_eq!(sent.created_ms, (SPIKE + 1) * QUARTER);
    detector.stop().await;
}

#[tokio::test]
async fn shards_in_another_order_and_a_restart_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("store.db").display());
    let straight = Detector::start(4, "sqlite::memory:").await;
    let mut owner = Owner::open(&straight, 4).await;
    owner.commit_all(all(true), 0).await;
    straight.scored(DAYS * 96 - 1).await;
    let restarted = Detector::start(4, &url).await;
    let mut owner = Owner::open(&restarted, 4).await;
    let middle = SPIKE as usize - 5;
    owner.commit_all(all(true).take(middle), 2).await;
    restarted.scored(middle as u64 - 1).await;
    drop(owner);
    restarted.stop().await;
    let restarted = Detector::start(4, &url).await;
    let mut owner = Owner::open(&restarted, 4).await;
    owner.commit_all(all(true).skip(middle), 3).await;
    restarted.scored(DAYS * 96 - 1).await;
    let query = v1::RecordsQuery::default();
    let (one, other) = (straight.records(query.clone()).await, restarted.records(query).await);
    assert!(one.len() > 100, "{}", one.len());
    assert_eq!(one, other);
    assert!(one.iter().zip(1..).all(|(record, number)| record.finalised == number));
    let alerts = straight.alerts().await;
    assert!(!alerts.is_empty());
    assert_eq!(alerts, restarted.alerts().await);
    straight.stop().await;
    restarted.stop().await;
}

#[tokio::test]
async fn windows_come_back_with_their_corrections_in_order() {
    let detector = Detector::start(2, "sqlite::memory:").await;
    let mut owner = Owner::open(&detector, 2).await;
    owner.commit_all((0..3).map(|bucket| (bucket, traffic(bucket, false))), 0).await;
    // A late record for bucket 1.
    let late = Traffic::from([(Subject::Address(address("10.0.0.2")), window(1, 500, "203.0.113.1"))]);
    for shard in 0..2 {
        let mut commit = owner.commit(shard, &[(2, Traffic::new())]);
        commit.windows.clear();
        let correction = owner.commit(shard, &[(1, late.clone())]).windows;
        owner.take_back(shard);
        commit.corrections = correction;
        owner.send(owner_message::Message::Commit(commit)).await;
        let answer = owner.answer().await;
        assert!(matches!(answer, Message::Ack(_)), "{answer:?}");
    }
    let pages = detector.windows(1, 2).await;
    assert_eq!(pages.len(), 1);
    let rows = windows::read(pages[0].windows.as_ref().unwrap()).unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.subject.to_string()).collect();
    assert_eq!(names, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "(site)"]);
    let before = &traffic(1, false)[&Subject::Address(address("10.0.0.2"))];
    assert_eq!(rows[1].window.counters.bytes_out, before.counters.bytes_out + 500);
    assert_eq!(detector.windows(0, 3).await.len(), 3);
    detector.stop().await;
}

#[tokio::test]
async fn a_flood_of_hosts_is_alerted_a_hundred_at_a_time() {
    let detector = Detector::start(2, "sqlite::memory:").await;
    let mut owner = Owner::open(&detector, 2).await;
    let hosts = |bucket: u64, flood: bool| {
        let host = |n: u64| {
            let noise = (bucket * 31 + n * 7) % 50;
            let events = if flood { 500_000 } else { 100 + noise };
            (
                Subject::Address(address(&format!("10.1.{}.{}", n / 200, n % 200))),
                window(events, 70_000, "198.51.100.7"),
            )
        };
        (bucket, (0..250).map(host).collect::<Traffic>())
    };
    owner.commit_all((0..250).map(|bucket| hosts(bucket, false)), 0).await;
    owner.commit_all((250..251).map(|bucket| hosts(bucket, true)), 0).await;
    detector.scored(250).await;
    let first = detector.alerts().await;
    assert_eq!(first.len(), 100);
    let done = detector.execute(251 + 2).await;
    assert_eq!((done.executions, done.alerts), (2, 150));
    let all = detector.alerts().await;
    assert_eq!(all.iter().map(|alert| &alert.value).collect::<std::collections::BTreeSet<_>>().len(), 250);
    assert_eq!(detector.handle.metrics().alerts, 250);
    detector.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_is_refused_by_reason() {
    let detector = Detector::start(2, "sqlite::memory:").await;
    let mut owner = Owner::open(&detector, 2).await;
    let commit = owner.commit(0, &[(5, traffic(5, false))]);
    owner.send(owner_message::Message::Commit(commit.clone())).await;
    assert!(matches!(owner.answer().await, Message::Ack(_)));
    owner.send(owner_message::Message::Commit(commit.clone())).await;
    assert!(matches!(owner.answer().await, Message::Ack(_)), "an identical repeat");
    let cases = [
        (v1::Commit { bucket_start_ms: 7, ..commit.clone() }, Reason::Invalid, "Commit.bucket_start_ms"),
        (v1::Commit { commit_no: 9, ..commit.clone() }, Reason::OutOfOrder, "commit 9 does not follow 1"),
    ];
    for (commit, reason, detail) in cases {
        owner.send(owner_message::Message::Commit(commit)).await;
        let answer = owner.answer().await;
        let Message::Refusal(refusal) = answer else { panic!("{answer:?}") };
        assert_eq!(refusal.reason(), reason);
        assert!(refusal.detail.contains(detail), "{}", refusal.detail);
    }
    let metrics = detector.handle.metrics();
    assert_eq!((metrics.commits, metrics.repeats, metrics.windows > 0), (1, 1, true));
    detector.stop().await;
}

/// The demonstration's load, to be measured: `cargo test --release -p spikewatch-detector --test pipeline -- --ignored`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn fifteen_days_of_two_hundred_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let detector = Detector::start(8, &format!("sqlite://{}", folder.path().join("store.db").display())).await;
    let mut owner = Owner::open(&detector, 8).await;
    let hosts = |bucket: u64| {
        let host = |n: u64| {
            let noise = (bucket.wrapping_mul(2_654_435_761) ^ n.wrapping_mul(40_503)) % 500;
            let own = window(100 + noise, 70_000 + 100 * noise, "198.51.100.7");
            (Subject::Address(address(&format!("10.1.0.{n}"))), own)
        };
        (bucket, (0..200).map(host).chain([(Subject::Site, window(9000, 9_000_000, "198.51.100.7"))]).collect())
    };
    let started = std::fs::read_to_string("/proc/self/stat").unwrap();
    for bucket in 0..1440 {
        owner.commit_all([hosts(bucket)].into_iter(), 0).await;
    }
    detector.scored(1439).await;
    let ended = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks = |stat: &str| stat.split(' ').skip(13).take(2).map(|n| n.parse::<u64>().unwrap()).sum::<u64>();
    println!("{} ms of CPU, test's own included", 10 * (ticks(&ended) - ticks(&started)));
    detector.seams.latencies.snapshot().iter().for_each(|hop| println!("{hop:?}"));
    println!("{:?}", detector.handle.metrics());
    detector.stop().await;
}
