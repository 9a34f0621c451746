//! A collector of very many hosts stays within its memory: slices are cut early, and nothing is lost by it.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed, time::Duration};

use prost::Message as _;
use spikewatch_actors::{Seams, clock::Clock, entropy::Entropy};
use spikewatch_collector::{
    Datagram, MemoryLimit, Options, SourceOptions, SpoolOptions,
    charge::Aliases,
    log::ecs::EcsOptions,
    metrics::Metrics,
    networks::InternalNetworks,
    pipeline::{Flush, Pipeline, PipelineOptions},
    spool::{self, Owner, Shape, Spool, SpoolPlace, memory::Memory},
};
use spikewatch_domain::{key::Subject, span::Span};
use spikewatch_proto::{HASH_ID, PROTOCOL_VERSION, convert::windows, v1};
use tokio::{sync::mpsc, time::sleep};

const HOSTS: u32 = 300_000;
const RECORDS: u32 = 30;

/// NetFlow v5: one flow of each of these hosts that has just ended.
fn datagram(now_ms: u64, hosts: std::ops::Range<u32>) -> Vec<u8> {
    let uptime = 1_000_000u32.to_be_bytes();
    let mut bytes = vec![0, 5, 0, hosts.len() as u8];
    bytes.extend(uptime);
    bytes.extend(((now_ms / 1000) as u32).to_be_bytes());
    bytes.extend([0; 12]);
    for host in hosts {
        bytes.extend((0x0a00_0001 + host).to_be_bytes());
        bytes.extend([198, 51, 100, 7]);
        bytes.extend([0; 8]);
        bytes.extend([3u32.to_be_bytes(), 500u32.to_be_bytes()].concat());
        bytes.extend([uptime, uptime].concat());
        bytes.extend([0x9c, 0x40, 1, 187, 0, 0x18, 6, 0]);
        bytes.extend([0; 8]);
    }
    bytes
}

/// A collector that keeps all in memory, of which it may take the least, and whose aggregator is not there.
fn options(source: mpsc::Receiver<Datagram>) -> Options {
    Options {
        site: "berlin".parse().unwrap(),
        name: "edge".into(),
        aggregators: vec!["http://127.0.0.1:1".into()],
        networks: InternalNetworks::default(),
        aliases: Aliases::new(),
        slice: Span::QUARTER_HOUR,
        bucket: Span::QUARTER_HOUR,
        shards: 8,
        key_limit: 1_000_000,
        memory_limit: MemoryLimit(MemoryLimit::LEAST),
        port_values: 0,
        places: Default::default(),
        sources: vec![SourceOptions::Channel(source)],
        ecs: EcsOptions::default(),
        spool: None,
        tap: None,
        event_clock: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_are_cut_early_and_nothing_is_lost() {
    let seams = Seams::new(Clock::system(), Entropy::seeded(1));
    let disk = Memory::new(1);
    let (datagrams, source) = mpsc::channel(64);
    let spool = SpoolOptions {
        place: SpoolPlace::Memory(disk.handle()),
        budget_bytes: 1 << 30,
        keep_trimmed: Duration::from_secs(3_600),
        parting: Duration::from_millis(100),
    };
    let options = Options { spool: Some(spool), ..options(source) };
    let (handle, _) = spikewatch_collector::start(options, &seams).await.unwrap();
    let now = Clock::system().now_ms();
    for first in (0..HOSTS).step_by(RECORDS as usize) {
        let payload = datagram(now, first..first + RECORDS);
        datagrams.send(Datagram { exporter: [192, 0, 2, 1].into(), time_ms: now, payload }).await.unwrap();
    }
    let counters = handle.metrics().counters();
    while counters.records.load(Relaxed) < u64::from(HOSTS) {
        sleep(Duration::from_millis(10)).await;
    }
    let cut = counters.cut_early.load(Relaxed);
    assert!((2..20).contains(&cut), "cut early {cut} times");
    assert_eq!((counters.overflowed.load(Relaxed), counters.datagram_bytes_waiting.load(Relaxed)), (0, 0));
    seams.tasks.shutdown(Duration::from_secs(20)).await;

    let shape = Shape { shards: 8, bucket_seconds: 900, hash_id: HASH_ID, protocol_version: PROTOCOL_VERSION };
    let owner = Owner { site: "berlin".into(), collector: "edge".into(), shape };
    let (spool, _) = Spool::open(spool::Options::new(owner), disk.handle(), || [9; 16]).unwrap();
    let mut events: BTreeMap<Subject, u64> = BTreeMap::new();
    for (_, slice) in spool.stream(0) {
        let message = v1::Windows::decode(slice.unwrap().payload.as_slice()).unwrap();
        for row in windows::read(&message).unwrap() {
            *events.entry(row.subject).or_default() += row.window.counters.events;
        }
    }
    assert_eq!(events.remove(&Subject::Site), Some(u64::from(HOSTS)));
    assert_eq!(events.len(), HOSTS as usize);
    assert!(events.values().all(|events| *events == 1));
}

/// Followed files may be behind the clock, and what is promised of a slice cut early would hold for their lines too.
#[test]
fn a_slice_that_is_cut_early_promises_nothing_and_what_follows_goes_on() {
    let options = PipelineOptions {
        site: "berlin".parse().unwrap(),
        networks: InternalNetworks::default(),
        aliases: Aliases::new(),
        slice: Span::TEN_SECONDS,
        bucket: Span::QUARTER_HOUR,
        shards: 8,
        key_limit: 1_000,
        flows: 1 << 18,
        port_values: 0,
        country_values: 0,
        asn_values: 0,
        databases: Default::default(),
    };
    let mut pipeline = Pipeline::new(options, Metrics::default());
    let events = |flush: &Flush| -> u64 {
        let rows = flush.slices.iter().flat_map(|cut| &cut.rows);
        rows.filter(|row| row.1 == Subject::Site).map(|row| row.2.counters.events).sum()
    };
    let begin = Span::QUARTER_HOUR.floor(Clock::system().now_ms());
    assert!(pipeline.advance(begin).is_none());
    assert_eq!(pipeline.advance(begin + 10_000).unwrap().watermark, begin + 10_000);
    let take = |pipeline: &mut Pipeline, ms: u64, hosts| {
        pipeline.datagram([192, 0, 2, 1].into(), begin + ms, &datagram(begin + ms, hosts), &mut Vec::new());
    };
    take(&mut pipeline, 12_000, 0..30);
    let early = pipeline.cut_early();
    assert_eq!((early.watermark, events(&early)), (0, 30));
    take(&mut pipeline, 15_000, 0..20);
    let rest = pipeline.advance(begin + 20_000).unwrap();
    assert_eq!((rest.watermark, events(&rest)), (begin + 20_000, 20));
}

/// Plays one bucket after another to a collector without a spool; tells the records that came in and those it gave up.
async fn without_a_spool(recorded: bool) -> (u64, u64) {
    let (clock, event_clock) = Clock::event();
    let clock = if recorded { clock } else { Clock::system() };
    let seams = Seams::new(clock, Entropy::seeded(1));
    let (datagrams, source) = mpsc::channel(64);
    let options = Options { event_clock: recorded.then_some(event_clock), ..options(source) };
    let (handle, _) = spikewatch_collector::start(options, &seams).await.unwrap();
    let begin = Span::QUARTER_HOUR.floor(Clock::system().now_ms());
    let counters = handle.metrics().counters();
    for bucket in 0..3 {
        let time_ms = begin + bucket * Span::QUARTER_HOUR.millis();
        let of_bucket = bucket as u32 * (HOSTS / 3);
        for first in (of_bucket..of_bucket + HOSTS / 3).step_by(RECORDS as usize) {
            let payload = datagram(time_ms, first..first + RECORDS);
            datagrams.send(Datagram { exporter: [192, 0, 2, 1].into(), time_ms, payload }).await.unwrap();
        }
    }
    let is_done = || {
        let gave_up = counters.spool_dropped_events.load(Relaxed) > 0;
        counters.records.load(Relaxed) >= u64::from(HOSTS) && (recorded || gave_up)
    };
    for _ in 0..3_000 {
        if is_done() {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert!(is_done(), "waited in vain");
    let told = (counters.slices.load(Relaxed), counters.spool_dropped_events.load(Relaxed));
    seams.tasks.shutdown(Duration::from_secs(20)).await;
    told
}

/// What is played can wait until somebody takes it; what is live can't.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_recorded_traffic_nothing_is_given_up_for_the_memory_limit() {
    let (slices, given_up) = without_a_spool(true).await;
    assert!(slices >= 2, "{slices} slices");
    assert_eq!(given_up, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_traffic_without_a_spool_keeps_what_came_last() {
    let (_, given_up) = without_a_spool(false).await;
    assert!((1..=2 * u64::from(HOSTS)).contains(&given_up), "{given_up} events given up");
}
