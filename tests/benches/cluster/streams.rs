//! Very many collectors, each with a real stream to the aggregator and hosts of its own, all of them in this process; the aggregator and the detector are processes that share the machine with it.

use std::{fs, time::Duration};

use spikewatch_actors::{Seams, clock::Clock, entropy::Entropy};
use spikewatch_collector::{
    Datagram, Options, SourceOptions, charge::Aliases, log::ecs::EcsOptions, networks::InternalNetworks,
};
use spikewatch_domain::span::Span;
use spikewatch_proto::v1::{Progress, ProgressRequest, results_client::ResultsClient};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    process::{Process, own, ports},
    traffic::{RECORDS, flows as flows_of},
};

const SHARDS: u32 = 64;
const BUCKET_MS: u64 = 60_000;
/// What is measured: in each slice every host is active.
const MEASURED_S: u32 = 120;

/// How long every process is watched with nothing to do, before.
const IDLE: Duration = Duration::from_secs(10);
/// How long the detector may take over what it is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs it and prints a table. `flows`: how many flows each host has in each slice; they make one host summary.
pub(crate) async fn run(collectors: u32, hosts: u32, slice_s: u32, flows: u32) {
    let slice = Span::from_seconds(u64::from(slice_s)).expect("seconds that divide a minute");
    let slices = MEASURED_S / slice_s;
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
    let (mut handles, mut sources) = (Vec::new(), Vec::new());
    for number in 0..collectors {
        let (source, played) = mpsc::channel(64);
        let options = options(number, slice, format!("http://127.0.0.1:{aggregator}"), played);
        let (handle, _) = spikewatch_collector::start(options, &seams).await.expect("a collector starts");
        handles.push(handle);
        sources.push(source);
    }
    sleep(Duration::from_secs(10)).await;

    let idle = [own(), merging.used(), detecting.used()];
    sleep(IDLE).await;
    let before = [own(), merging.used(), detecting.used()];
    let (loopback, begun) = (loopback_bytes(), Instant::now());
    let clock = Clock::system();
    let every = Duration::from_millis(slice.millis()) / collectors;
    for turn in 0..slices * collectors {
        let source = &sources[(turn % collectors) as usize];
        for first in (0..hosts * flows).step_by(RECORDS as usize) {
            let time_ms = clock.now_ms();
            let numbers = first..(hosts * flows).min(first + RECORDS);
            let payload = flows_of(time_ms, numbers.map(|number| (number % hosts, (number % 60_000) as u16)));
            let exporter = [10, 0, 0, 254].into();
            source.send(Datagram { exporter, time_ms, payload }).await.expect("the collector runs");
        }
        if (turn + 1) % (collectors * slices.div_ceil(12)) == 0 {
            eprintln!(
                "slice {} of {slices} sent after {:.0} s",
                (turn + 1) / collectors,
                begun.elapsed().as_secs_f64()
            );
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
        "{collectors} collectors with a stream each, {} hosts, {SHARDS} shards, slices of {slice_s} s, buckets of 60 s: \
         {records} records of {} sent, {summaries} host summaries, {} windows committed, {} series, {wall_s:.0} s in all",
        collectors * hosts,
        slices * collectors * hosts * flows,
        progress.windows,
        progress.series,
    );
    println!(
        "| process | CPU s | µs a host summary | without what it does idle | idle, ms a second | peak MiB |\n\
         |---|---|---|---|---|---|"
    );
    let after = [own(), merging.used(), detecting.used()];
    let names = ["load: all collectors, and the sender", "aggregator", "detector"];
    for (((name, idle), before), after) in names.iter().zip(idle).zip(before).zip(after) {
        let (share, cpu_s) = ((before.cpu_s - idle.cpu_s) / IDLE.as_secs_f64(), after.cpu_s - before.cpu_s);
        let each = |cpu_s: f64| cpu_s * 1e6 / summaries as f64;
        println!(
            "| {name} | {cpu_s:.1} | {:.2} | {:.2} | {:.1} | {} |",
            each(cpu_s),
            each(cpu_s - share * wall_s),
            share * 1e3,
            after.peak_mib
        );
    }
    let moved = loopback_bytes() - loopback;
    println!(
        "bytes over loopback: {} MiB, {:.0} a host summary; store {} MiB",
        moved >> 20,
        moved as f64 / summaries as f64,
        fs::metadata(&store).map_or(0, |meta| meta.len()) >> 20
    );
}

fn options(number: u32, slice: Span, aggregator: String, played: mpsc::Receiver<Datagram>) -> Options {
    Options {
        site: format!("site{number}").parse().expect("a name"),
        name: format!("collector{number}"),
        aggregators: vec![aggregator],
        networks: InternalNetworks::default(),
        aliases: Aliases::new(),
        slice,
        bucket: Span::from_seconds(BUCKET_MS / 1_000).expect("a span"),
        shards: SHARDS,
        key_limit: 100_000,
        memory_limit: spikewatch_collector::MemoryLimit::default(),
        port_values: 0,
        places: Default::default(),
        // Nor a thousand sockets.
        sources: vec![SourceOptions::Channel(played)],
        ecs: EcsOptions::default(),
        // What is measured is the streams, not a thousand spools on one disk.
        spool: None,
        tap: None,
        event_clock: None,
    }
}

/// Waits until this holds of what the detector has done; says now and then how far that is.
async fn until(detector: &str, holds: impl Fn(&Progress) -> bool) -> Progress {
    let limit = Instant::now() + PATIENCE;
    let mut said = Instant::now();
    loop {
        assert!(Instant::now() < limit, "it takes more than {} minutes", PATIENCE.as_secs() / 60);
        if let Ok(mut client) = ResultsClient::connect(detector.to_owned()).await
            && let Ok(answer) = client.watch_progress(ProgressRequest {}).await
            && let Ok(Some(progress)) = answer.into_inner().message().await
        {
            if holds(&progress) {
                return progress;
            }
            if said.elapsed() > Duration::from_secs(10) {
                said = Instant::now();
                let (committed, scored) = (progress.frontier_ms / 1000, progress.scored_ms / 1000);
                eprintln!("committed up to {committed}, scored up to {scored}, {} windows", progress.windows);
            }
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
