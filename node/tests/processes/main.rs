//! A cluster of real processes on PostgreSQL, killed one after the other: what is counted in the end is what was sent.
//!
//! Collectors are not killed here: their sources are sockets, and what reaches a dead process's socket is nobody's.

mod cluster;
mod traffic;

use std::{collections::BTreeMap, time::Duration};

use spikewatch_tests::postgres::{PostgresServer, Stop};

use cluster::{Cluster, Member};
use traffic::{Counted, Traffic};

/// Who is killed in what order, one every few seconds; each is started again after two.
const VICTIMS: [Member; 7] = [
    Member::Aggregator(3),
    Member::Detector(1),
    Member::Aggregator(2),
    Member::Store,
    Member::Aggregator(1),
    Member::Detector(2),
    Member::Aggregator(3),
];

/// Sends for a while; at each round's beginning a victim dies, and lives again two seconds later.
async fn torment(cluster: &mut Cluster, traffic: &mut Traffic, postgres: &mut PostgresServer) {
    for victim in VICTIMS {
        match victim {
            Member::Store => postgres.stop(Stop::Crash),
            other => cluster.kill(other),
        }
        traffic.send_for(Duration::from_secs(2)).await;
        match victim {
            Member::Store => postgres.restart(),
            other => cluster.start(other),
        }
        traffic.send_for(Duration::from_secs(2)).await;
    }
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

#[tokio::test]
async fn whatever_process_is_killed_every_record_is_counted_once_in_its_bucket() {
    let Some(mut postgres) = PostgresServer::start(&[]) else { return };
    let mut cluster = Cluster::new(&postgres.new_database());
    cluster.start_all();
    cluster.ready().await;
    let mut traffic = Traffic::new(cluster.listeners(), 7);
    torment(&mut cluster, &mut traffic, &mut postgres).await;
    let sent = traffic.sent();
    let counted = settled(&cluster, &sent).await;
    let differing = sent.iter().filter(|(key, value)| counted.get(key) != Some(value)).count();
    let beyond = counted.keys().filter(|key| !sent.contains_key(key)).count();
    assert_eq!((differing, beyond), (0, 0), "of {} windows\n{}", sent.len(), cluster.logs());
    assert_eq!(cluster.stop(), vec![Some(0); 7], "{}", cluster.logs());
}
