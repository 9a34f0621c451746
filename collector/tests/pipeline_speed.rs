//! CPU time from file to windows, without the cluster behind it. Run with a release build:
//! (`SPIKEWATCH_BENCH_PORTS=0` leaves the windows of ports out.)
//! `SPIKEWATCH_BENCH_FILE=big.pcap cargo test --release -p spikewatch-collector --test pipeline_speed -- --ignored --nocapture`

use std::{path::PathBuf, sync::atomic::Ordering::Relaxed, time::Instant};

use spikewatch_collector::{
    charge::Aliases,
    log::ecs::EcsOptions,
    metrics::Metrics,
    networks::InternalNetworks,
    pipeline::{Pipeline, PipelineOptions},
    source::{file::Expected, files},
};
use spikewatch_domain::span::Span;

/// User and system time of this process so far, in clock ticks of 10 ms (proc_pid_stat(5), fields 14 and 15).
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
#[ignore = "a measurement: needs a release build and a large file"]
fn file_to_windows() {
    let Some(file) = std::env::var_os("SPIKEWATCH_BENCH_FILE") else {
        println!("skipped: SPIKEWATCH_BENCH_FILE names no file");
        return;
    };
    let metrics = Metrics::default();
    let options = PipelineOptions {
        site: "main".parse().unwrap(),
        networks: InternalNetworks::default(),
        aliases: Aliases::new(),
        slice: Span::QUARTER_HOUR,
        bucket: Span::QUARTER_HOUR,
        shards: 8,
        key_limit: 1_000_000,
        flows: 1 << 18,
        port_values: std::env::var("SPIKEWATCH_BENCH_PORTS").map_or(64, |text| text.parse().unwrap()),
        country_values: 256,
        asn_values: 256,
        databases: Default::default(),
    };
    let mut pipeline = Pipeline::new(options, metrics.clone());
    #[expect(clippy::disallowed_methods, reason = "a measurement of wall time")]
    let (before, wall) = (cpu_ticks(), Instant::now());
    let mut rows = 0;
    let paths = [PathBuf::from(file)];
    files::run(&paths, Expected::Auto, &EcsOptions::default(), &mut pipeline, &metrics, |_, due| {
        rows += due.into_iter().flat_map(|flush| flush.slices).map(|slice| slice.rows.len()).sum::<usize>();
        true
    });
    let cpu = (cpu_ticks() - before) as f64 / 100.0;
    let counters = metrics.counters();
    let (packets, records) = (counters.packets.load(Relaxed), counters.records.load(Relaxed));
    println!(
        "{cpu:.2} CPU s, {:.2} s wall: {packets} packets ({:.2} M/s), {records} records ({:.2} M/s), {rows} windows",
        wall.elapsed().as_secs_f64(),
        packets as f64 / cpu / 1e6,
        records as f64 / cpu / 1e6,
    );
}
