//! The aggregator as its neighbours see it: over gRPC on the loopback, between a small collector and a small detector.
#![expect(clippy::disallowed_methods, reason = "the neighbours are no part of the program")]

mod back_fill;
mod collector;
mod detector;

use std::{collections::BTreeMap, time::Duration};

use spikewatch_actors::{
    Seams,
    clock::{Clock, EventClock},
    entropy::Entropy,
};
use spikewatch_aggregator::{Handle, Options, start};
use spikewatch_proto::v1::{self, collector_message::Message, control_client::ControlClient};

use crate::{
    collector::{Collector, hosts, subject},
    detector::{Detector, RowKey, serve, until},
};

const MINUTE: u64 = 60_000;

struct Cluster {
    detector: Detector,
    aggregator: Handle,
    address: String,
    seams: Seams,
    _clock: EventClock,
}

async fn cluster(change: impl FnOnce(&mut Options)) -> Cluster {
    let (detector, detector_address) = Detector::start().await;
    let (clock, event_clock) = Clock::event();
    let seams = Seams::new(clock, Entropy::seeded(1));
    let mut options = Options::new("a1", vec![detector_address], "http://a1");
    change(&mut options);
    let (aggregator, routes) = start(options, &seams).await.unwrap();
    aggregator.ready().await;
    Cluster { detector, aggregator, address: serve(routes).await, seams, _clock: event_clock }
}

impl Cluster {
    /// Events by bucket, site and host, as committed.
    fn committed(&self) -> BTreeMap<RowKey, u64> {
        let store = self.detector.store.lock().unwrap();
        store.windows.iter().map(|(key, window)| (key.clone(), window.counters.events)).collect()
    }
}

/// Ten buckets of traffic on all shards, two batches a bucket.
fn fill(collector: &mut Collector) {
    for minute in 0..10 {
        for part in 0..2u64 {
            for shard in 0..4u32 {
                let hosts = hosts(&collector.site, shard);
                collector.put(shard, minute * MINUTE, &hosts.map(|host| (host, minute * 100 + part + u64::from(host))));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_in_is_committed_exactly_and_may_then_be_trimmed() {
    let cluster = cluster(|_| ()).await;
    let mut collector = Collector::new("berlin", 1);
    fill(&mut collector);
    collector.connect(&cluster.address).await;
    collector.hear().await.unwrap();
    assert_eq!(collector.credit, 1 << 18, "the first credit follows the welcome");
    for minute in 1..10 {
        collector.send(2).await;
        collector.watermark(minute * MINUTE, false).await;
    }
    collector.put(2, 3 * MINUTE, &[(hosts("berlin", 2)[0], 5)]);
    collector.finish(10 * MINUTE).await;
    assert_eq!(cluster.committed(), collector.sums);
    let store = cluster.detector.store.lock().unwrap();
    assert!(store.frontiers.values().all(|frontier| frontier.bucket == Some(9 * MINUTE)));
    assert_eq!((store.corrected, store.incomplete, store.repeats), (1, 0, 0));
    assert!(store.traceparents.iter().any(|traceparent| traceparent.starts_with("00-0000")));
    let metrics = cluster.aggregator.metrics();
    assert_eq!((metrics.rows, metrics.streams, metrics.window_bytes), (161, 1, 0), "{metrics:?}");
    assert_eq!((metrics.commits, metrics.acks), (store.commits as u64, store.commits as u64));
    assert!(cluster.seams.latencies.snapshot().iter().any(|hop| hop.hop == "seal→ack" && hop.count > 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_whose_clock_is_off_is_shown_and_far_off_refused() {
    let (_detector, detector_address) = Detector::start().await;
    let seams = Seams::system();
    let (aggregator, routes) = start(Options::new("a1", vec![detector_address], "http://a1"), &seams).await.unwrap();
    aggregator.ready().await;
    let address = serve(routes).await;
    let hello = async |off_ms: i64| {
        let clock_ms = seams.clock.now_ms().saturating_add_signed(off_ms);
        let hello = v1::Hello { event_time: false, clock_ms, ..Collector::new("berlin", 1).hello() };
        let hello = v1::CollectorMessage { message: Some(Message::Hello(hello)) };
        let (out, messages) = tokio::sync::mpsc::channel(4);
        out.send(hello).await.unwrap();
        let mut client = v1::ingest_client::IngestClient::connect(address.clone()).await.unwrap();
        let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
        let mut answers = client.stream(messages).await.unwrap().into_inner();
        let answer = answers.message().await.map(Option::unwrap);
        (answer, aggregator.clock_skews(), out, answers)
    };
    for off in [-59_000, -30_000, 0, 30_000, 59_000] {
        let (answer, skews, ..) = hello(off).await;
        let Some(v1::aggregator_message::Message::Welcome(welcome)) = answer.unwrap().message else { panic!("{off}") };
        assert!(welcome.clock_ms.abs_diff(seams.clock.now_ms()) < 5_000);
        assert!(skews["berlin/c1"].abs_diff(off) < 5_000, "{skews:?}");
    }
    for (off, side) in [(-90_000, "s behind"), (86_400_000, "s ahead of")] {
        let (answer, ..) = hello(off).await;
        let refused = answer.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        let says = format!("{side} this aggregator's, more than max_skew (60 s)");
        assert!(
            refused.message().starts_with("the clock of berlin/c1") && refused.message().contains(&says),
            "{refused}"
        );
    }
    assert_eq!((aggregator.metrics().skewed, aggregator.metrics().invalid_messages), (2, 0));
    seams.tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_reconnects_repeats_and_nothing_counts_twice() {
    let cluster = cluster(|_| ()).await;
    let mut collector = Collector::new("berlin", 1);
    fill(&mut collector);
    for round in 0..5 {
        collector.connect(&cluster.address).await;
        collector.send(5 + round).await;
        collector.watermark(MINUTE * (round as u64), false).await;
        if round % 2 == 0 {
            let _ = tokio::time::timeout(Duration::from_millis(30), collector.hear()).await;
        }
        collector.disconnect();
    }
    collector.connect(&cluster.address).await;
    collector.finish(10 * MINUTE).await;
    assert_eq!(cluster.committed(), collector.sums);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detector_that_goes_away_loses_and_repeats_nothing() {
    let cluster = cluster(|_| ()).await;
    let mut collector = Collector::new("berlin", 1);
    fill(&mut collector);
    collector.connect(&cluster.address).await;
    collector.send(6).await;
    collector.watermark(2 * MINUTE, false).await;
    let committed = || cluster.detector.store.lock().unwrap().commits >= 4;
    until("something is committed", committed).await;
    cluster.detector.cut();
    collector.send(4).await;
    collector.watermark(4 * MINUTE, false).await;
    // Twice more, after commits whose acks never arrive.
    cluster.detector.store.lock().unwrap().lose_acks = 2;
    collector.finish(10 * MINUTE).await;
    assert_eq!(cluster.committed(), collector.sums);
    let store = cluster.detector.store.lock().unwrap();
    assert!(store.epochs.values().all(|epoch| *epoch == 1), "shards go on under their epochs: {:?}", store.epochs);
    assert!(store.repeats >= 1, "what was in flight is sent again");
    assert!(cluster.aggregator.metrics().detector_connects >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sites_wait_for_each_other() {
    let cluster = cluster(|options| options.expected_collectors = 2).await;
    let mut collectors = [Collector::new("berlin", 1), Collector::new("paris", 2)];
    collectors.iter_mut().for_each(fill);
    let [berlin, paris] = &mut collectors;
    berlin.connect(&cluster.address).await;
    berlin.send(usize::MAX).await;
    berlin.watermark(10 * MINUTE, true).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(cluster.detector.store.lock().unwrap().commits, 0, "paris is awaited");
    paris.connect(&cluster.address).await;
    tokio::join!(paris.finish(10 * MINUTE), berlin.finish(10 * MINUTE));
    let sums: BTreeMap<_, _> = collectors.iter().flat_map(|collector| collector.sums.clone()).collect();
    assert_eq!(cluster.committed(), sums);
    let store = cluster.detector.store.lock().unwrap();
    assert_eq!((store.corrected, store.incomplete), (0, 0));
}

/// One collector ten buckets ahead, memory for less than that: the one behind still gets through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_runs_out_does_not_stop_the_one_furthest_behind() {
    let cluster = cluster(|options| {
        (options.expected_collectors, options.memory_limit, options.credit_rows) = (2, 100, 8);
    });
    let cluster = cluster.await;
    let mut collectors = [Collector::new("berlin", 1), Collector::new("paris", 2)];
    collectors.iter_mut().for_each(fill);
    let [berlin, paris] = &mut collectors;
    berlin.connect(&cluster.address).await;
    paris.connect(&cluster.address).await;
    paris.hear().await.unwrap();
    assert_eq!(paris.credit, 8);
    berlin.send(2).await;
    berlin.watermark(MINUTE, false).await;
    // It is ahead of the other now: what it sends next is not given back.
    berlin.send(2).await;
    until("credit is withheld", || cluster.aggregator.metrics().credit_withheld > 0).await;
    let before = paris.credit;
    paris.send(1).await;
    while paris.credit == before {
        tokio::time::timeout(Duration::from_secs(10), paris.hear()).await.expect("no credit").unwrap();
    }
    tokio::join!(paris.finish(10 * MINUTE), berlin.finish(10 * MINUTE));
    let sums: BTreeMap<_, _> = collectors.iter().flat_map(|collector| collector.sums.clone()).collect();
    assert_eq!(cluster.committed(), sums);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_is_refused_with_its_reason() {
    let cluster = cluster(|_| ()).await;
    let mut collector = Collector::new("berlin", 1);
    collector.connect(&cluster.address).await;
    let slice = v1::SliceBatches { shard: vec![9], seq: vec![1], prev: vec![0], rows: vec![0], ..Default::default() };
    collector.say(Message::Batches(slice)).await;
    let status = loop {
        if let Err(status) = collector.hear().await {
            break status;
        }
    };
    assert_eq!(status.message(), "SliceBatches.shard: is 9, the cluster has 4 shards");
    assert_eq!(cluster.aggregator.metrics().invalid_messages, 1);
    let mut collector = Collector::new("berlin", 1);
    collector.connect(&cluster.address).await;
    let elsewhere = hosts("berlin", 2)[0];
    collector.put(1, 0, &[(elsewhere, 1)]);
    collector.send(1).await;
    let status = loop {
        if let Err(status) = collector.hear().await {
            break status;
        }
    };
    let problem = format!("SliceBatches.windows: row 0 of shard 1, {}, belongs to shard 2", subject(elsewhere));
    assert_eq!(status.message(), problem);
    assert_eq!((cluster.aggregator.metrics().invalid_messages, cluster.aggregator.metrics().rows), (2, 0));
    let refused = |hello: v1::Hello| async {
        let first = v1::CollectorMessage { message: Some(Message::Hello(hello)) };
        let mut client = v1::ingest_client::IngestClient::connect(cluster.address.clone()).await.unwrap();
        let messages = tokio_stream::once(first);
        client.stream(messages).await.unwrap().into_inner().message().await.unwrap_err().message().to_owned()
    };
    let shape = v1::ClusterShape { shards: 8, ..collector.hello().shape.unwrap() };
    let other = v1::Hello { shape: Some(shape), ..collector.hello() };
    assert!(refused(other).await.contains("shards: 8"));
    let live = v1::Hello { event_time: false, ..collector.hello() };
    assert_eq!(refused(live).await, "one side plays recorded traffic, the other is live");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_comes_twice_in_one_batch_counts_twice() {
    let cluster = cluster(|_| ()).await;
    let mut collector = Collector::new("berlin", 1);
    collector.connect(&cluster.address).await;
    let [one, other] = hosts("berlin", 1);
    collector.put(1, 0, &[(other, 5), (one, 7), (other, 11)]);
    collector.finish(MINUTE).await;
    let committed: Vec<_> = cluster.committed().into_values().collect();
    assert_eq!((cluster.committed(), committed.len()), (collector.sums, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_are_relayed() {
    let cluster = cluster(|_| ()).await;
    let mut client = ControlClient::connect(cluster.address.clone()).await.unwrap();
    let request = v1::RoutesRequest { collector: "c1".into() };
    let mut routes = client.watch_routes(request).await.unwrap().into_inner();
    let routes = routes.message().await.unwrap().unwrap();
    assert_eq!((routes.number, routes.routes[0].shard), (1, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_hands_the_shards_over_and_ends_everything_in_time() {
    let cluster = cluster(|_| ()).await;
    let mut collector = Collector::new("berlin", 1);
    fill(&mut collector);
    collector.connect(&cluster.address).await;
    collector.send(3).await;
    let began = std::time::Instant::now();
    let report = cluster.seams.tasks.shutdown(Duration::from_secs(5)).await;
    assert!(report.aborted.is_empty(), "{report:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "nothing was waited for in vain");
    assert_eq!(cluster.detector.released(), [0, 1, 2, 3]);
    while collector.hear().await.is_ok() {}
    assert_eq!(cluster.aggregator.metrics().shards_assigned, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_asked_back_is_let_go_and_the_others_go_on() {
    let cluster = cluster(|_| ()).await;
    let mut collector = Collector::new("berlin", 1);
    fill(&mut collector);
    collector.connect(&cluster.address).await;
    collector.send(4).await;
    collector.watermark(2 * MINUTE, false).await;
    let sealed = |shard| {
        let store = cluster.detector.store.lock().unwrap();
        store.frontiers.get(&shard).and_then(|frontier| frontier.bucket) == Some(MINUTE)
    };
    until("two buckets are committed", || (0..4).all(sealed)).await;
    cluster.detector.ask_back(2);
    until("it is let go", || cluster.detector.released() == [2]).await;
    until("its stream is unbound", || cluster.aggregator.metrics().unbound == 1).await;
    // The others go on.
    collector.send(2).await;
    collector.watermark(3 * MINUTE, false).await;
    let three = |shard| {
        let store = cluster.detector.store.lock().unwrap();
        store.frontiers.get(&shard).and_then(|frontier| frontier.bucket) == Some(2 * MINUTE)
    };
    until("the others go on", || [0, 1, 3].into_iter().all(three)).await;
    assert!(!three(2));
}
