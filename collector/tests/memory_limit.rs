//! A collector of very many hosts stays within its memory: slices are cut early, and nothing is lost by it.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed, time::Duration};

use prost::Message as _;
use spikewatch_actors::{Seams, clock::Clock, entropy::Entropy};
use spikewatch_collector::{
    Datagram, MemoryLimit, Options, SourceOptions, SpoolOptions,
    charge::Aliases,
    log::ecs::EcsOptions,
    networks::InternalNetworks,
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_are_cut_early_and_nothing_is_lost() {
    let seams = Seams::new(Clock::system(), Entropy::seeded(1));
    let disk = Memory::new(1);
    let (datagrams, source) = mpsc::channel(64);
    let options = Options {
        site: "berlin".parse().unwrap(),
        name: "edge".into(),
        // Nobody is there: all stays in the spool.
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
        spool: Some(SpoolOptions {
            place: SpoolPlace::Memory(disk.handle()),
            budget_bytes: 1 << 30,
            keep_trimmed: Duration::from_secs(3_600),
            parting: Duration::from_millis(100),
        }),
        tap: None,
        event_clock: None,
    };
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
