//! A cluster of real processes on PostgreSQL, killed one after the other, kept away, cut off: what is counted in the end is
//! what was sent.

mod answers;
mod cluster;
mod killed;
mod logs;
mod namespaces;
mod random;
mod traffic;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use spikewatch_tests::postgres::{PostgresServer, Stop};

use cluster::{Cluster, Member};
use namespaces::Namespaces;
use spikewatch_actors::clock::Clock;
use traffic::{BUCKET_MS, Counted, Traffic};

/// Says what a run's chance hangs on: that which `SPIKEWATCH_SEED` names, or the time's.
fn seed() -> u64 {
    let set = std::env::var("SPIKEWATCH_SEED").ok();
    let seed = set.map_or_else(|| Clock::system().now_ms(), |set| set.parse().unwrap());
    println!("SPIKEWATCH_SEED={seed}");
    seed
}

/// Asks until the sums are what was sent, or nothing has changed for long.
async fn settled(cluster: &Cluster, sent: &BTreeMap<traffic::Key, Counted>) -> BTreeMap<traffic::Key, Counted> {
    let mut last = BTreeMap::new();
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        last = cluster.windows().await.unwrap_or(last);
        if last == *sent {
            break;
        }
    }
    last
}

async fn all_is_counted(cluster: &Cluster, traffic: &Traffic) {
    let sent = traffic.sent();
    let counted = settled(cluster, &sent).await;
    let keys: BTreeSet<_> = sent.keys().chain(counted.keys()).collect();
    let differs = keys.into_iter().filter(|key| sent.get(key) != counted.get(key));
    let differing: Vec<_> =
        differs.map(|key| format!("{key:?}: sent {:?}, counted {:?}", sent.get(key), counted.get(key))).collect();
    let some = differing.iter().take(20).map(|line| format!("{line}\n")).collect::<String>();
    assert!(differing.is_empty(), "{} of {} windows differ:\n{some}{}", differing.len(), sent.len(), cluster.logs());
}

/// Sends until a part of a bucket is sent, and returns its start.
async fn into_a_bucket(traffic: &mut Traffic) -> u64 {
    while !(4_000..5_000).contains(&(Clock::system().now_ms() % BUCKET_MS)) {
        traffic.send_for(Duration::from_millis(200)).await;
    }
    Clock::system().now_ms() / BUCKET_MS * BUCKET_MS
}

/// Nobody is waited for as long as it is away: buckets are closed without it, and what it had comes as corrections.
#[tokio::test]
async fn what_is_away_for_longer_than_a_bucket_waits_is_missing_and_counted_all_the_same() {
    let Some(mut postgres) = PostgresServer::start(&[]) else { return };
    let mut cluster = Cluster::new(&postgres.new_database(), "2s");
    cluster.start_all();
    cluster.ready().await;
    let mut traffic = Traffic::new(cluster.listeners(), seed());
    for victim in [Member::Aggregator(3), Member::Store, Member::Aggregator(1), Member::Detector(1)] {
        match victim {
            Member::Store => postgres.stop(Stop::Crash),
            other => cluster.kill(other),
        }
        traffic.send_for(Duration::from_secs(4)).await;
        match victim {
            Member::Store => postgres.restart(),
            other => cluster.start(other),
        }
        traffic.send_for(Duration::from_secs(1)).await;
    }
    // Site 1 has sent a part of a bucket when its collector stops where it is.
    traffic.send_for(Duration::from_secs(3)).await;
    let bucket = into_a_bucket(&mut traffic).await;
    cluster.signal(Member::Collector(1), "STOP");
    traffic.send_from(1, Duration::from_secs(14)).await;
    cluster.signal(Member::Collector(1), "CONT");
    traffic.send_for(Duration::from_secs(1)).await;
    all_is_counted(&cluster, &traffic).await;
    let incomplete = cluster.incomplete().await;
    assert!(incomplete.contains(&(bucket, "site1".to_owned())), "{bucket} in {incomplete:?}\n{}", cluster.logs());
    let is_whole = |(at, site, _): &&traffic::Key| site == "site2" && !incomplete.contains(&(*at, site.clone()));
    assert!(traffic.sent().keys().any(|key| is_whole(&key)), "the other site is not at fault: {incomplete:?}");
    assert!(cluster.corrections().await > 0);
    assert_eq!(cluster.stop(), vec![Some(0); 7], "{}", cluster.logs());
}

/// Links that lose a tenth of what they carry, to a centre that is far away, and are cut for longer than anybody waits.
#[tokio::test]
async fn whatever_the_network_does_every_record_is_counted_once_in_its_bucket() {
    let Some(namespaces) = Namespaces::new() else { return };
    let Some(postgres) = PostgresServer::start(&[]) else { return };
    let mut cluster = Cluster::new(&postgres.new_database(), "2s").apart(namespaces).await;
    cluster.start_all();
    cluster.ready().await;
    let mut traffic = Traffic::new(cluster.listeners(), seed());
    traffic.send_for(Duration::from_secs(2)).await;
    (1..=2).for_each(|site| cluster.namespaces().lose(site, 10));
    traffic.send_for(Duration::from_secs(3)).await;
    // For longer than what is left of the bucket, lateness and patience; and then for a moment.
    let bucket = into_a_bucket(&mut traffic).await;
    for (site, seconds) in [(1, 13), (2, 3)] {
        cluster.namespaces().link(site, "down");
        traffic.send_for(Duration::from_secs(seconds)).await;
        cluster.namespaces().link(site, "up");
        traffic.send_for(Duration::from_secs(2)).await;
    }
    all_is_counted(&cluster, &traffic).await;
    let incomplete = cluster.incomplete().await;
    assert!(incomplete.contains(&(bucket, "site1".to_owned())), "{bucket} in {incomplete:?}\n{}", cluster.logs());
    assert!(cluster.corrections().await > 0);
    assert_eq!(cluster.stop(), vec![Some(0); 7], "{}", cluster.logs());
}
