//! Whatever is read, nothing is lost and nothing counted twice on the way into windows: over every real capture and
//! datagram there is, the windows sum to the records.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::Ordering::Relaxed,
};

use spikewatch_collector::{
    charge::Aliases,
    log::ecs::EcsOptions,
    metrics::Metrics,
    networks::InternalNetworks,
    pipeline::{Flush, Pipeline, PipelineOptions},
    source::{file::Expected, files},
    summarise::Slice,
};
use spikewatch_domain::{key::Dimension, span::Span, window::Counters};

/// Sums over all windows of one dimension.
type Sums = BTreeMap<Dimension, [u128; 3]>;

fn sum(sums: &mut Sums, dimension: Dimension, events: u64, bytes: [u64; 2], packets: [u64; 2]) {
    let entry = sums.entry(dimension).or_default();
    entry[0] += u128::from(events);
    entry[1] += bytes.map(u128::from).iter().sum::<u128>();
    entry[2] += packets.map(u128::from).iter().sum::<u128>();
}

/// In every slice the windows of the ports are the parts of the site's, counter by counter.
fn same_site_and_ports(slice: &Slice) {
    let (mut site, mut ports) = (Counters::default(), Counters::default());
    for (_, subject, window) in &slice.rows {
        match subject.dimension() {
            Dimension::Site => site.add(&window.counters),
            Dimension::Port => ports.add(&window.counters),
            _ => {}
        }
    }
    assert_eq!(ports, site, "slice {}", slice.start);
}

/// Runs files through the pipeline; returns the windows' sums and what the records say they should be.
fn run(paths: &[PathBuf], slice: Span) -> (Sums, Sums, Metrics, Vec<files::FileReport>) {
    let networks = InternalNetworks::default();
    let metrics = Metrics::default();
    let options = PipelineOptions {
        site: "main".parse().unwrap(),
        networks: networks.clone(),
        aliases: Aliases::new(),
        slice,
        bucket: Span::QUARTER_HOUR,
        shards: 8,
        key_limit: 1_000_000,
        flows: 1 << 18,
        port_values: 64,
        country_values: 256,
        asn_values: 256,
        databases: Default::default(),
    };
    let mut pipeline = Pipeline::new(options, metrics.clone());
    pipeline.tap();
    let (mut windows, mut records) = (Sums::new(), Sums::new());
    let deliver = |pipeline: &mut Pipeline, due: Option<Flush>| {
        for record in pipeline.tapped() {
            let internal = [record.source, record.destination].map(|end| networks.contains(end));
            let ends = internal.iter().filter(|internal| **internal).count().max(1);
            let (bytes, packets) =
                ([record.source_bytes, record.destination_bytes], [record.source_packets, record.destination_packets]);
            for _ in 0..ends {
                sum(&mut records, Dimension::Host, 0, bytes, packets);
            }
            sum(&mut records, Dimension::Site, 0, bytes, packets);
            sum(&mut records, Dimension::Port, 0, bytes, packets);
        }
        for slice in due.iter().flat_map(|flush| &flush.slices) {
            same_site_and_ports(slice);
        }
        for (_, subject, window) in due.into_iter().flat_map(|flush| flush.slices).flat_map(|slice| slice.rows) {
            let Counters { bytes_out, bytes_in, packets_out, packets_in, events, .. } = window.counters;
            sum(&mut windows, subject.dimension(), events, [bytes_out, bytes_in], [packets_out, packets_in]);
        }
        true
    };
    let reports = files::run(paths, Expected::Auto, &EcsOptions::default(), &mut pipeline, &metrics, deliver);
    (windows, records, metrics, reports)
}

fn check(paths: &[PathBuf], slice: Span) -> (u64, u64) {
    let (windows, records, metrics, _) = run(paths, slice);
    let counters = metrics.counters();
    let total = |sums: &Sums, dimension, which: usize| sums.get(&dimension).map_or(0, |sum| sum[which]);
    for which in [1, 2] {
        for dimension in [Dimension::Host, Dimension::Site, Dimension::Port] {
            let (found, expected) = (total(&windows, dimension, which), total(&records, dimension, which));
            assert_eq!(found, expected, "{dimension:?} {which} of {paths:?}");
        }
    }
    assert_eq!(total(&windows, Dimension::Port, 0), total(&windows, Dimension::Site, 0), "events of {paths:?}");
    assert_eq!(total(&windows, Dimension::Site, 0), u128::from(counters.events.load(Relaxed)), "events of {paths:?}");
    (counters.records.load(Relaxed), counters.events.load(Relaxed))
}

fn real_data(folder: &str) -> Option<Vec<PathBuf>> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = std::env::var_os("SPIKEWATCH_TEST_DATA").map_or(default, PathBuf::from).join(folder);
    if !data.is_dir() {
        println!("skipped: real captures not found at {}", data.display());
        return None;
    }
    let mut files: Vec<_> = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    Some(files)
}

#[test]
fn every_real_capture_sums_up() {
    let mut flows = 0;
    for folder in ["tcpdump-captures", "ddos-captures"] {
        for file in real_data(folder).unwrap_or_default() {
            flows += check(&[file], Span::TEN_SECONDS).0;
        }
    }
    println!("{flows} flow records of captures");
}

#[test]
fn every_real_datagram_sums_up_alone_and_all_together() {
    let Some(files) = real_data("netflow-datagrams") else { return };
    let mut alone = 0;
    for file in &files {
        alone += check(std::slice::from_ref(file), Span::QUARTER_HOUR).0;
    }
    let (together, _) = check(&files, Span::QUARTER_HOUR);
    assert!(together > alone, "templates of one file serve the data of the next: {together} against {alone}");
}

#[test]
fn a_day_of_zeek_sums_up() {
    let Some(files) = real_data("iot23") else { return };
    let logs: Vec<_> = files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "gz")).collect();
    let (records, events) = check(&logs, Span::QUARTER_HOUR);
    assert_eq!((records, events), (23_145, 23_145));
}

#[test]
fn the_recorded_cases_sum_up_and_merge_by_time() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let captures: Vec<_> = ["recorded.pcap", "recorded_netflow5.pcap", "recorded_netflow9.pcap", "recorded_ipfix.pcap"]
        .map(|name| data.join(name))
        .into();
    let mut alone = 0;
    for capture in &captures {
        alone += check(std::slice::from_ref(capture), Span::TEN_SECONDS).0;
    }
    assert_eq!(check(&captures, Span::TEN_SECONDS).0, alone);
}

#[test]
fn a_file_that_breaks_off_loses_nothing_else() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/recorded.pcap");
    let whole = std::fs::read(&data).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (cut, junk) = (folder.path().join("cut.pcap"), folder.path().join("junk.pcap"));
    std::fs::write(&cut, &whole[..whole.len() - 7]).unwrap();
    std::fs::write(&junk, b"this is no capture at all").unwrap();
    let (_, _, metrics, reports) = run(&[cut, junk, data], Span::TEN_SECONDS);
    let errors: Vec<_> = reports.iter().map(|report| report.error.as_ref().map(ToString::to_string)).collect();
    assert!(errors[0].as_ref().unwrap().contains("cut.pcap"), "{errors:?}");
    assert!(errors[1].as_ref().unwrap().contains("unrecognised content"), "{errors:?}");
    assert!(errors[2].is_none());
    assert_eq!(reports[0].items + 1, reports[2].items, "all packets but the one cut are read");
    assert_eq!(metrics.counters().packets.load(Relaxed), reports[0].items + reports[2].items);
}
