//! Alerts of a bucket that is still open, and what becomes of them when it ends.

use std::{collections::BTreeMap, time::Duration};

use spikewatch_actors::Seams;
use spikewatch_domain::key::Subject;
use spikewatch_proto::{
    convert::{early::Tripwires, windows},
    v1::{self, owner_message::Message},
};

use crate::{
    address,
    live::rule,
    owner::{Detector, Owner, QUARTER, Traffic},
    window,
};

const SHARDS: u32 = 2;

fn host(number: u64) -> Subject {
    Subject::Address(address(&format!("10.0.0.{number}")))
}

/// Four quiet hosts; those named have so many events instead.
fn traffic(bucket: u64, loud: &[(u64, u64)]) -> Traffic {
    let quiet = |number: u64| 200 + (bucket * 31 + number * 7) % 50;
    let events = |number: u64| {
        loud.iter().find(|(loud, _)| *loud == number).map_or_else(|| quiet(number), |(_, events)| *events)
    };
    (1..5).map(|number| (host(number), window(events(number), 70_000, "198.51.100.7"))).collect()
}

/// What an owner would send of one host.
fn early(owner: &Owner, bucket: u64, number: u64, events: u64) -> v1::EarlyWindows {
    let mut message = v1::Windows { sites: vec!["berlin".into()], ..v1::Windows::default() };
    windows::push(&mut message, Some(0), &host(number), &window(events, 70_000, "198.51.100.7"), false);
    let shard = owner.shard_of(&host(number));
    let windows = Some(v1::BucketWindows { bucket_start_ms: bucket * QUARTER, windows: Some(message) });
    v1::EarlyWindows { shard, epoch: Some(owner.epoch(shard)), windows, ..v1::EarlyWindows::default() }
}

/// By host: version, stage and id of its alert, once as many are there as are wanted, in that stage.
async fn alerts(detector: &Detector, stages: &[&str]) -> BTreeMap<String, (u32, String, String)> {
    let mut found = BTreeMap::new();
    for _ in 0..100 {
        let alerts = detector.alerts().await;
        let entry = |alert: v1::Alert| (alert.value, (alert.version, alert.stage, alert.id));
        let of_events = alerts.into_iter().filter(|alert| alert.job == "high_count_network_events_by_host");
        found = of_events.map(entry).collect();
        let mut now: Vec<&str> = found.values().map(|(_, stage, _)| stage.as_str()).collect();
        now.sort_unstable();
        if now == stages {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("expected {stages:?}, found {found:?}");
}

#[tokio::test]
async fn an_open_window_that_is_too_much_already_alerts_at_once_and_the_buckets_end_confirms_it_or_not() {
    let seams = Seams::system();
    // It has ended, but the detector knows nothing of it yet.
    let open = seams.clock.now_ms() / QUARTER - 1;
    let detector = Detector::start_with(SHARDS, "sqlite::memory:", vec![rule()], seams).await;
    let mut owner = Owner::open(&detector, SHARDS).await;
    owner.commit_all((open - 200..open).map(|bucket| (bucket, traffic(bucket, &[]))), 0).await;
    detector.scored(open - 1).await;

    // What is needed for an alert is above what is usual, and below what is sent.
    let wires: Vec<_> = owner.tripwires(open).await.iter().map(|wires| Tripwires::read(wires).unwrap()).collect();
    let wires: BTreeMap<_, _> =
        wires.into_iter().flat_map(|wires| wires.wires).map(|(_, key, limits)| (key, limits)).collect();
    assert_eq!(wires.len(), 4, "one for each host");
    let limit = wires[&host(3)][0];
    assert!((250..90_000).contains(&limit), "{limit}");

    let send = async |message| owner.send(Message::Early(message)).await;
    send(early(&owner, open, 1, limit / 2)).await;
    send(v1::EarlyWindows {
        epoch: Some(v1::Epoch { number: 99, ..owner.epoch(0) }),
        ..early(&owner, open, 4, 90_000)
    })
    .await;
    send(early(&owner, open, 2, 80_000)).await;
    send(early(&owner, open, 3, 60_000)).await;
    let told = alerts(&detector, &["early", "early"]).await;
    assert_eq!(told.keys().collect::<Vec<_>>(), ["10.0.0.2", "10.0.0.3"], "one is usual, one comes from no owner");
    assert_eq!(detector.handle.metrics().early_dropped, 1);
    send(early(&owner, open, 3, 90_000)).await;
    let grown = async || alerts(&detector, &["early", "early"]).await["10.0.0.3"].0;
    while grown().await < 2 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    owner.commit_all([(open, traffic(open, &[(3, 120_000)]))].into_iter(), 0).await;
    let ended = alerts(&detector, &["confirmed", "not_confirmed"]).await;
    assert_eq!((ended["10.0.0.3"].0, ended["10.0.0.3"].1.as_str()), (3, "confirmed"));
    assert_eq!((ended["10.0.0.2"].0, ended["10.0.0.2"].1.as_str()), (2, "not_confirmed"));
    assert!(ended.iter().all(|(host, (_, _, id))| told[host].2 == *id), "never a second alert");
    let texts: Vec<String> = detector.alerts().await.into_iter().map(|alert| alert.reason).collect();
    assert!(texts.iter().any(|text| text.contains("is not confirmed")), "{texts:?}");
    detector.stop().await;
}
