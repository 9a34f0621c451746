//! Very many collectors, each with a real stream to the aggregator and a thousand hosts of its own, all of them in this
//! process; the aggregator and the detector are processes that share the machine with it.

use std::{fs, net::UdpSocket, time::Duration};

use spikewatch_actors::{Seams, clock::Clock, entropy::Entropy};
use spikewatch_collector::{Options, SourceOptions, charge::Aliases, log::ecs::EcsOptions, networks::InternalNetworks};
use spikewatch_domain::span::Span;
use spikewatch_proto::v1::{Progress, ProgressRequest, results_client::ResultsClient};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    process::{Process, Used, own, ports},
    traffic::{RECORDS, datagram},
};

/// Of each collector.
const HOSTS: u32 = 1_000;
const SHARDS: u32 = 64;
const SLICE: Span = Span::TEN_SECONDS;
const BUCKET_MS: u64 = 60_000;
/// Slices that are measured; in each every host is active.
const SLICES: u32 = 12;

/// Runs it and prints a table.
pub(crate) async fn run(collectors: u32) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [detector, aggregator] = ports();
    let shape = format!("[cluster]\nbucket = \"{}s\"\nshards = {SHARDS}\n", BUCKET_MS / 1_000);
    let store = folder.path().join("store.db");
    let config = format!(
        "{shape}[detector]\nlisten = \"127.0.0.1:{detector}\"\nstore = \"sqlite://{}\"\nallowed_lateness = \"10s\"\n",
        store.display()
    );
    let detecting = Process::start(folder.path(), "detector", "detector", &config);
    let config = format!(
        "{shape}[aggregator]\nlisten = \"127.0.0.1:{aggregator}\"\ndetector = \"http://127.0.0.1:{detector}\"\n\
         memory_limit = \"8GiB\"\n"
    );
    let merging = Process::start(folder.path(), "aggregator", "aggregator", &config);
    let detector = format!("http://127.0.0.1:{detector}");
    until(&detector, |_| true).await;

    let seams = Seams::new(Clock::system(), Entropy::seeded(1));
    let mut handles = Vec::new();
    for number in 0..collectors {
        let options = options(number, format!("http://127.0.0.1:{aggregator}"));
        let (handle, _) = spikewatch_collector::start(options, &seams).await.expect("a collector starts");
        handles.push(handle);
    }
    let addresses: Vec<_> = handles.iter().map(|handle| handle.listeners()[0].address()).collect();
    sleep(Duration::from_secs(10)).await;

    let before = [own(), merging.used(), detecting.used()];
    let (loopback, begun) = (loopback_bytes(), Instant::now());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let clock = Clock::system();
    let every = Duration::from_millis(SLICE.millis()) / collectors;
    for turn in 0..SLICES * collectors {
        let address = addresses[(turn % collectors) as usize];
        for first in (0..HOSTS).step_by(RECORDS as usize) {
            let hosts = first..HOSTS.min(first + RECORDS);
            socket.send_to(&datagram(clock.now_ms(), hosts), address).expect("loopback takes it");
        }
        sleep_until(begun + every * (turn + 1)).await;
    }
    let ended = clock.now_ms().next_multiple_of(BUCKET_MS);
    let progress = until(&detector, |progress| progress.scored_ms + BUCKET_MS >= ended).await;
    let wall_s = begun.elapsed().as_secs_f64();

    let read = |read: fn(&spikewatch_collector::metrics::Counters) -> u64| -> u64 {
        handles.iter().map(|handle| read(handle.metrics().counters())).sum()
    };
    let records = read(|counters| counters.records.load(std::sync::atomic::Ordering::Relaxed));
    let summaries = read(|counters| counters.rows.load(std::sync::atomic::Ordering::Relaxed));
    println!(
        "{collectors} collectors with a stream each, {} hosts, {SHARDS} shards, slices of 10 s, buckets of 60 s: {records} \
         records of {} sent, {summaries} host summaries, {} windows committed, {} series, {wall_s:.0} s in all",
        collectors * HOSTS,
        SLICES * collectors * HOSTS,
        progress.windows,
        progress.series,
    );
    println!("| process | CPU s | µs a host summary | peak MiB |\n|---|---|---|---|");
    let after = [own(), merging.used(), detecting.used()];
    for ((name, before), after) in
        ["load: all collectors, and the sender", "aggregator", "detector"].iter().zip(before).zip(after)
    {
        row(name, before, after, summaries);
    }
    let moved = loopback_bytes() - loopback;
    println!(
        "bytes over loopback, exports included: {} MiB, {:.0} a host summary; store {} MiB",
        moved >> 20,
        moved as f64 / summaries as f64,
        fs::metadata(&store).map_or(0, |meta| meta.len()) >> 20
    );
}

fn row(name: &str, before: Used, after: Used, summaries: u64) {
    let cpu_s = after.cpu_s - before.cpu_s;
    println!("| {name} | {cpu_s:.1} | {:.2} | {} |", cpu_s * 1e6 / summaries as f64, after.peak_mib);
}

fn options(number: u32, aggregator: String) -> Options {
    Options {
        site: format!("site{number}").parse().expect("a name"),
        name: format!("collector{number}"),
        aggregators: vec![aggregator],
        networks: InternalNetworks::default(),
        aliases: Aliases::new(),
        slice: SLICE,
        bucket: Span::from_seconds(BUCKET_MS / 1_000).expect("a span"),
        shards: SHARDS,
        key_limit: 100_000,
        memory_limit: spikewatch_collector::MemoryLimit::default(),
        port_values: 0,
        places: Default::default(),
        sources: vec![SourceOptions::Listen { address: ([127, 0, 0, 1], 0).into(), receive_buffer: 1 << 20 }],
        ecs: EcsOptions::default(),
        // What is measured is the streams, not a thousand spools on one disk.
        spool: None,
        tap: None,
        event_clock: None,
    }
}

/// Waits until this holds of what the detector has done.
async fn until(detector: &str, holds: impl Fn(&Progress) -> bool) -> Progress {
    loop {
        if let Ok(mut client) = ResultsClient::connect(detector.to_owned()).await
            && let Ok(answer) = client.watch_progress(ProgressRequest {}).await
            && let Ok(Some(progress)) = answer.into_inner().message().await
            && holds(&progress)
        {
            return progress;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Bytes that came in over the loopback interface since it is up: proc_net_dev(5).
fn loopback_bytes() -> u64 {
    let table = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let line = table.lines().find_map(|line| line.trim().strip_prefix("lo:").map(str::to_owned));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
