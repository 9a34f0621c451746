//! What comes after its bucket was scored.

use spikewatch_domain::{key::Subject, window::Window};
use spikewatch_proto::v1;

use crate::{
    DAYS, SPIKE, address, all,
    owner::{Detector, Owner, QUARTER, Traffic},
    traffic, window,
};

/// What host 4 sends too late: a flood in the bucket of the spike, in parts, and a little elsewhere.
fn late() -> [Vec<(u64, Traffic)>; 4] {
    let part = |bucket: u64, events: u64, bytes: u64| {
        let own = window(events, bytes, "203.0.113.9");
        let site = own.clone();
        (bucket, Traffic::from([(Subject::Address(address("10.0.0.4")), own), (Subject::Site, site)]))
    };
    [
        vec![part(SPIKE, 20_000, 2_000_000_000)],
        vec![part(SPIKE - 1, 1, 500), part(SPIKE, 3, 3_000_000_000)],
        vec![part(SPIKE, 2, 4_000_000_000), part(SPIKE, 1, 1_000_000_000)],
        vec![part(5, 9, 9_000_000_000)],
    ]
}

/// Commits all but the last two buckets, then late deltas between the last ones; `pause` comes after every step.
async fn run(detector: &mut Detector, owner: &mut Owner, mut pause: impl AsyncFnMut(&mut Detector, &mut Owner)) {
    let last = SPIKE + 1;
    owner.commit_all(all(false).take(last as usize), 0).await;
    pause(detector, owner).await;
    for (step, deltas) in late().iter().enumerate() {
        owner.correct(deltas, last - 1 + step as u64).await;
        pause(detector, owner).await;
        owner.commit_all([(last + step as u64, traffic(last + step as u64, false))].into_iter(), 0).await;
        pause(detector, owner).await;
    }
    detector.scored(SPIKE + 4).await;
}

#[tokio::test]
async fn a_spike_that_comes_wholly_late_is_alerted_as_late() {
    let mut detector = Detector::start(4, "sqlite::memory:").await;
    let mut owner = Owner::open(&detector, 4).await;
    run(&mut detector, &mut owner, async |_, _| {}).await;
    let alerts = detector.alerts().await;
    let mine: Vec<_> = alerts.iter().filter(|alert| alert.job == "high_bytes_out_by_host").collect();
    assert_eq!(mine.len(), 1, "{mine:?}");
    assert_eq!((mine[0].value.as_str(), mine[0].bucket_start_ms), ("10.0.0.4", SPIKE * QUARTER));
    assert!(mine[0].version > 1, "it was raised as more came");
    let document: serde_json::Value = serde_json::from_str(&mine[0].document).unwrap();
    assert_eq!(document["spikewatch"]["late"], true);
    // All parts, and what the bucket had.
    let Window { counters, .. } = traffic(SPIKE, false)[&Subject::Address(address("10.0.0.4"))].clone();
    assert_eq!(document["spikewatch"]["actual"], (counters.bytes_out + 10_000_000_000) as f64);
    let records = detector.records(v1::RecordsQuery::default()).await;
    let of =
        |bucket: u64| records.iter().filter(move |record| record.late && record.bucket_start_ms == bucket * QUARTER);
    assert!(of(SPIKE).all(|record| record.record_score > 1.0));
    assert!(of(SPIKE).any(|record| record.job == "high_count_network_events"), "the sum of all sites too");
    assert_eq!(of(SPIKE - 1).count(), 0, "a little is no news");
    assert_eq!(of(5).count(), 0, "days later nobody knows what was usual");
    let metrics = detector.handle.metrics();
    assert_eq!((metrics.corrections, metrics.corrections_not_scored), (12, 2));
    assert!(metrics.late_records > 0);
    detector.stop().await;
}

#[tokio::test]
async fn when_it_is_scored_and_restarted_does_not_show() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("store.db").display());
    // One is never looked at in between, and has all in its log before it begins to score the last buckets.
    let mut straight = Detector::start(4, "sqlite::memory:").await;
    let mut owner = Owner::open(&straight, 4).await;
    run(&mut straight, &mut owner, async |_, _| {}).await;
    // The other begins anew after every step.
    let mut restarted = Detector::start(4, &url).await;
    let mut owner = Owner::open(&restarted, 4).await;
    let again = async |detector: &mut Detector, owner: &mut Owner| {
        let next = Detector::start(4, "sqlite::memory:").await;
        std::mem::replace(detector, next).stop().await;
        let next = Detector::start(4, &url).await;
        std::mem::replace(detector, next).stop().await;
        *owner = Owner::open(detector, 4).await;
    };
    run(&mut restarted, &mut owner, again).await;
    let query = v1::RecordsQuery::default();
    let (one, other) = (straight.records(query.clone()).await, restarted.records(query).await);
    assert!(one.iter().any(|record| record.late) && SPIKE < DAYS * 96);
    assert_eq!(one, other);
    let bare = |alert: &v1::Alert| (alert.id.clone(), alert.record_score.to_bits(), alert.record);
    let alerts = async |detector: &Detector| -> Vec<_> { detector.alerts().await.iter().map(bare).collect() };
    assert_eq!(alerts(&straight).await, alerts(&restarted).await);
    straight.stop().await;
    restarted.stop().await;
}
