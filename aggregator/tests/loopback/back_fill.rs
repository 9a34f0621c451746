//! A collector that comes back after a day, with all of it in its spool.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use spikewatch_actors::{Seams, clock::Clock, entropy::Entropy};
use spikewatch_aggregator::{Options, start};
use spikewatch_proto::convert::cluster::Incarnation;

use crate::{
    MINUTE,
    collector::{Collector, hosts},
    detector::{Detector, serve, until},
};

const SLICE: u64 = 10_000;
const DAY: u64 = 86_400_000;
/// When it comes back, ms.
const BACK: u64 = 20_000 * DAY;
/// Slices of the day that it brings with each live one.
const AT_ONCE: usize = 480;
/// Rows of one slice: two hosts of each of the four shards.
const ROWS: u64 = 8;

fn put_slice(collector: &mut Collector, bucket: u64, number: u64) {
    for shard in 0..4 {
        let hosts = hosts(&collector.site, shard);
        collector.put(shard, bucket, &hosts.map(|host| (host, number % 97 + u64::from(host))));
    }
}

/// Sends slices of the past as far as credit allows.
async fn send_past(past: &mut Collector, slices: usize) {
    for _ in 0..slices {
        while past.credit < ROWS {
            past.hear().await.unwrap();
        }
        past.credit -= ROWS;
        past.send(1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_back_fill_holds_nothing_up_and_is_counted_exactly() {
    let (detector, detector_address) = Detector::start().await;
    let old = Incarnation { site: "berlin".parse().unwrap(), collector: "c1".parse().unwrap(), id: [1; 16] };
    detector.store.lock().unwrap().members.insert(old, ());
    let now = Arc::new(AtomicU64::new(BACK - MINUTE));
    let told = Arc::clone(&now);
    let seams = Seams::new(Clock::told(move || told.load(Relaxed)), Entropy::seeded(1));
    let options = Options { credit_rows: 2_000, ..Options::new("a1", vec![detector_address], "http://a1") };
    let (aggregator, routes) = start(options, &seams).await.unwrap();
    aggregator.ready().await;
    let address = serve(routes).await;
    let closed = |bucket: u64| {
        let store = detector.store.lock().unwrap();
        store.frontiers.len() == 4 && store.frontiers.values().all(|frontier| frontier.bucket >= Some(bucket))
    };

    // Another site goes on while Berlin is away; its buckets wait for Berlin no longer than they must.
    let mut paris = Collector::new("paris", 9);
    paris.clock_ms = Some(BACK);
    paris.connect(&address).await;
    put_slice(&mut paris, BACK - MINUTE, 0);
    paris.send(usize::MAX).await;
    now.store(BACK + 1, Relaxed);
    paris.watermark(BACK, false).await;
    now.store(BACK + MINUTE + 1, Relaxed);
    until("the bucket is closed without Berlin", || closed(BACK - MINUTE)).await;
    paris.watermark(BACK + MINUTE, false).await;

    // Berlin is back: the day under its old incarnation, what is live under a new one.
    let begin = BACK + 2 * MINUTE;
    let mut past = Collector::new("berlin", 1);
    (past.clock_ms, past.back_fill) = (Some(begin), true);
    (0..DAY / SLICE).for_each(|number| put_slice(&mut past, (BACK - DAY + number * SLICE) / MINUTE * MINUTE, number));
    let mut live = Collector::new("berlin", 2);
    (live.clock_ms, live.draining) = (Some(begin), Some(1));
    now.store(begin, Relaxed);
    live.connect(&address).await;
    past.connect(&address).await;
    let mut most_bytes = 0;
    for slice in 1..=DAY / SLICE / AT_ONCE as u64 {
        let time = begin + slice * SLICE;
        now.store(time, Relaxed);
        for collector in [&mut paris, &mut live] {
            put_slice(collector, (time - SLICE) / MINUTE * MINUTE, slice);
            collector.send(usize::MAX).await;
            collector.watermark(time, false).await;
        }
        send_past(&mut past, AT_ONCE).await;
        for collector in [&mut paris, &mut live, &mut past] {
            collector.listen().await;
        }
        most_bytes = most_bytes.max(aggregator.metrics().window_bytes);
        if time.is_multiple_of(MINUTE) {
            until("the live bucket is closed while its time stands still", || closed(time - MINUTE)).await;
        }
    }
    past.watermark(BACK, true).await;
    let mut time = now.load(Relaxed);
    for _ in 0..500 {
        if past.spool.values().all(BTreeMap::is_empty) {
            break;
        }
        time += SLICE;
        now.store(time, Relaxed);
        for collector in [&mut paris, &mut live, &mut past] {
            if !collector.back_fill {
                collector.watermark(time, false).await;
            }
            collector.listen().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(past.spool.values().all(BTreeMap::is_empty), "all of the day is committed");
    let store = detector.store.lock().unwrap();
    let counted: BTreeMap<_, _> =
        store.windows.iter().map(|(key, window)| (key.clone(), window.counters.events)).collect();
    let mut sums = paris.sums;
    sums.extend(live.sums.into_iter().chain(past.sums));
    assert!(counted == sums, "{} windows, {} expected", counted.len(), sums.len());
    // While the past drains its site misses something: its own live windows, and nobody else's, say so.
    assert_eq!(store.incomplete as u64, 3 * ROWS);
    assert!(store.corrected >= (DAY / MINUTE * ROWS) as usize, "the past came as corrections: {}", store.corrected);
    assert!(most_bytes < 4 << 20, "{most_bytes} bytes of windows at once");
}
