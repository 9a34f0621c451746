//! Every process is killed, and PostgreSQL too, one after the other: windows and alerts are those of a cluster that nobody
//! disturbs.
//!
//! Both clusters follow the same logs at the same time. One that came later would find them as a backlog of many buckets,
//! which is delivered as back-fill beside the live traffic, counted and not learnt: no baseline, no alert.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use spikewatch_actors::clock::Clock;
use spikewatch_domain::{
    key::Subject,
    window::{Counters, Window},
};
use spikewatch_proto::v1::Alert;
use spikewatch_tests::postgres::{PostgresServer, Stop};

use crate::{
    cluster::{ALL, Cluster, Intake, Member},
    logs::{HOSTS, Key, LOUD, Logs},
    random::Random,
    seed,
    traffic::BUCKET_MS,
};

/// Nobody disturbs these.
const QUIET: [Member; 4] = [Member::Detector(1), Member::Aggregator(1), Member::Collector(1), Member::Collector(2)];

/// Buckets that are learnt before the live traffic begins.
const HISTORY: u64 = 300;
/// How many are killed, one every five seconds.
const KILLS: usize = 12;
/// When the spike begins, counted from the first kill, and how long it lasts, ms: within one bucket.
const SPIKE_AFTER_MS: u64 = 30_000;
const SPIKE_MS: u64 = 8_000;

const RULE: &str = r#"
id = "5f0f7a3e-4a53-4f5e-9f0a-2b7f6f1c9d10"
name = "Spike"
version = 1
description = "A host begins far more connections than it did within the last hour."
severity = "low"
risk_score = 21
jobs = ["high_count_network_events_by_host", "high_bytes_out_by_host"]
threshold = 10
interval = "10s"
from = "now-10m"
max_signals = 100
minimum_buckets = 96
"#;

/// Both collectors learn what is past, from files that are played once; then they follow the logs. They are known to the
/// cluster before the past is played: no bucket of one closes without the other's.
async fn teach(clusters: [&mut Cluster; 2], logs: &mut Logs) {
    let now = Clock::system().now_ms() / BUCKET_MS * BUCKET_MS;
    let begin = now - (HISTORY + 1) * BUCKET_MS;
    let buckets = |range: std::ops::Range<u64>| range.map(move |number| begin + number * BUCKET_MS);
    // A host of its own, as of what comes before both are known it is chance what is late, and so not learnt. The first
    // bucket closes when something of a later one is known.
    let first = [1, 2].map(|site| logs.recorded((site, "first"), 100..=100, buckets(0..2)));
    let history = [1, 2].map(|site| logs.recorded((site, "history"), HOSTS, buckets(2..HISTORY)));
    let patterns = [1, 2].map(|site| logs.pattern(site));
    let steps = [
        (first.map(Intake::Once), begin),
        (history.map(Intake::Once), begin + (HISTORY - 2) * BUCKET_MS),
        (patterns.map(Intake::Followed), begin + HISTORY * BUCKET_MS),
    ];
    let [one, other] = clusters;
    for (intakes, until) in steps {
        for (number, intake) in (1..).zip(intakes) {
            one.feed(number, intake.clone());
            other.feed(number, intake);
        }
        tokio::join!(one.committed(until), other.committed(until));
    }
}

/// Kills one after the other, everyone once and then whomever chance picks; each lives again two seconds later.
async fn torment(cluster: &mut Cluster, logs: &mut Logs, postgres: &mut PostgresServer, mut random: Random) {
    let mut victims: Vec<_> = ALL.into_iter().chain([Member::Store]).collect();
    for at in (1..victims.len()).rev() {
        victims.swap(at, random.below(at as u64 + 1) as usize);
    }
    while victims.len() < KILLS {
        victims.push(victims[random.below(victims.len() as u64) as usize]);
    }
    println!("killed one after the other: {victims:?}");
    for (round, victim) in victims.into_iter().enumerate() {
        match victim {
            Member::Store => postgres.stop(Stop::Crash),
            other => cluster.kill(other),
        }
        logs.write_for(Duration::from_secs(2)).await;
        match victim {
            Member::Store => postgres.restart(),
            other => cluster.start(other),
        }
        if round == KILLS / 2 {
            logs.rotate();
        }
        logs.write_for(Duration::from_secs(3)).await;
    }
}

/// All windows, if a detector answers. Top lists that are not complete depend on what they were assembled from, which
/// differs where a collector was killed: these are left out, but not the distinct counts.
async fn windows(cluster: &Cluster) -> Option<BTreeMap<Key, Window>> {
    let mut windows = BTreeMap::new();
    for (bucket, row) in cluster.rows().await? {
        let mut window = row.window;
        if window.overflow.is_some() {
            (window.peers, window.services) = Default::default();
        }
        let key = (bucket, row.site?.as_str().to_owned(), row.subject);
        assert_eq!(windows.insert(key, window), None, "a window comes once, its corrections merged in");
    }
    Some(windows)
}

/// Windows of hosts and sites, as they are written down when logs are.
fn counted(windows: &BTreeMap<Key, Window>) -> BTreeMap<Key, Counters> {
    let of_records =
        windows.iter().filter(|((_, _, subject), _)| matches!(subject, Subject::Site | Subject::Address(_)));
    of_records.map(|(key, window)| (key.clone(), window.counters)).collect()
}

/// Asks until all is counted, or nothing has changed for long.
async fn settled(cluster: &Cluster, logs: &Logs) -> BTreeMap<Key, Window> {
    let mut last = BTreeMap::new();
    for _ in 0..60 {
        last = windows(cluster).await.unwrap_or(last);
        if counted(&last) == *logs.written() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    last
}

/// Names what differs.
fn assert_same<T: PartialEq + std::fmt::Debug>(
    one: &BTreeMap<Key, T>,
    other: &BTreeMap<Key, T>,
    what: &str,
    said: impl Fn() -> String,
) {
    let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let all = keys.len();
    let differing: Vec<_> = keys.into_iter().filter(|key| one.get(key) != other.get(key)).collect();
    let line = |key: &&Key| format!("{key:?}: {:?}, {:?}\n", one.get(key), other.get(key));
    let some: String = differing.iter().take(20).map(line).collect();
    assert!(differing.is_empty(), "{} of {all} windows differ, {what}:\n{some}{}", differing.len(), said());
}

/// By id, with what they tell of. An early one that its finished bucket did not confirm hangs on when its owner looked.
async fn alerts(cluster: &Cluster) -> BTreeMap<String, (u64, String, String, String)> {
    let tells = |alert: Alert| (alert.id, (alert.bucket_start_ms, alert.site, alert.value, alert.job));
    let all = cluster.alerts().await.unwrap_or_default().into_iter();
    all.filter(|alert| alert.stage != "not_confirmed").map(tells).collect()
}

#[tokio::test]
async fn whoever_is_killed_windows_and_alerts_are_those_of_a_quiet_run() {
    let Some(mut postgres) = PostgresServer::start(&[]) else { return };
    let seed = seed();
    let mut logs = Logs::new(seed);
    let mut killed = Cluster::new(&postgres.new_database(), "2m").with_rule(RULE);
    let mut quiet = Cluster::new("", "2m").of(&QUIET).with_rule(RULE);
    killed.start_centre();
    quiet.start_centre();
    teach([&mut killed, &mut quiet], &mut logs).await;

    let spike = (Clock::system().now_ms() + SPIKE_AFTER_MS) / BUCKET_MS * BUCKET_MS;
    logs.spike = spike + 1_000..spike + 1_000 + SPIKE_MS;
    torment(&mut killed, &mut logs, &mut postgres, Random::new(!seed)).await;

    let said = || format!("the killed:\n{}the quiet:\n{}", killed.logs(), quiet.logs());
    let (of_killed, of_quiet) = (settled(&killed, &logs).await, settled(&quiet, &logs).await);
    assert_same(&counted(&of_quiet), logs.written(), "of the quiet run and of what was written", said);
    assert_same(&counted(&of_killed), logs.written(), "of the killed run and of what was written", said);
    assert_same(&of_killed, &of_quiet, "of the killed run and of the quiet one", said);

    let last = logs.written().keys().map(|(bucket, _, _)| *bucket).max().unwrap();
    tokio::join!(killed.scored(last), quiet.scored(last));
    // The execution of the rule that comes next has looked at all of them.
    let interval_ms = 10_000;
    let due = interval_ms - Clock::system().now_ms() % interval_ms;
    tokio::time::sleep(Duration::from_millis(due + 2_000)).await;
    let (by_killed, by_quiet) = (alerts(&killed).await, alerts(&quiet).await);
    assert_eq!(by_killed, by_quiet, "alerts of the killed run and of the quiet one\n{}", said());
    for site in [1, 2] {
        let told =
            (spike, format!("site{site}"), format!("10.{site}.0.{LOUD}"), "high_count_network_events_by_host".into());
        assert!(by_quiet.values().any(|alert| *alert == told), "{told:?} in {by_quiet:?}\n{}", said());
    }
    println!("{} windows and {} alerts are the same", of_quiet.len(), by_quiet.len());
    assert_eq!(killed.stop(), vec![Some(0); ALL.len()], "{}", killed.logs());
    assert_eq!(quiet.stop(), vec![Some(0); QUIET.len()], "{}", quiet.logs());
}
