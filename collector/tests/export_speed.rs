//! How much CPU time one exported record takes.
//!
//! `cargo test --release -p spikewatch-collector --test export_speed -- --ignored --nocapture`

mod export_builder;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use export_builder::{Field, ipfix, netflow5, netflow9, set, template};
use spikewatch_collector::export::{ExportDecoder, ExportLimits};
use spikewatch_collector::fault::Decoded;

const DATAGRAMS: u64 = 100_000;

/// CPU time of this thread, which other programs do not lengthen much (the first number of Linux' schedstat).
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// Nanoseconds a record of `datagram`, of which each copy gives `records`.
fn measure(what: &str, template: Option<&[u8]>, datagram: &[u8], records: u64) -> u64 {
    let exporter = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));
    let (mut decoder, mut out) = (ExportDecoder::new(ExportLimits::default()), Decoded::default());
    if let Some(template) = template {
        decoder.decode(exporter, 0, template, &mut out);
    }
    let started = cpu_time();
    let mut found = 0;
    for now in 0..DATAGRAMS {
        decoder.decode(exporter, now, datagram, &mut out);
        found += out.records.len() as u64;
        out.records.clear();
    }
    let taken = cpu_time() - started;
    assert_eq!((found, out.faults.len()), (records * DATAGRAMS, 0));
    let nanos = u64::try_from(taken.as_nanos()).unwrap() / found;
    println!("{what}: {nanos} ns a record");
    nanos
}

#[test]
#[ignore = "measures; meaningful in release builds only"]
fn a_netflow_5_record_takes_at_most_250_ns_and_a_templated_one_400() {
    // The fields of a usual Cisco or softflowd template, 24 records a datagram.
    let fixed: Vec<Field> = [
        (8, 4),
        (12, 4),
        (15, 4),
        (10, 4),
        (14, 4),
        (2, 4),
        (1, 4),
        (22, 4),
        (21, 4),
        (7, 2),
        (11, 2),
        (6, 1),
        (4, 1),
        (5, 1),
        (16, 4),
        (17, 4),
        (9, 1),
        (13, 1),
        (61, 1),
        (48, 1),
        (136, 1),
    ]
    .map(|(number, length)| (0, number, length))
    .to_vec();
    let variable: Vec<Field> = [&fixed[..], &[(0, 96, 65_535)]].concat();
    let length: usize = fixed.iter().map(|(_, _, length)| usize::from(*length)).sum();
    let record = vec![1; length];
    let v9 = |sets: &[Vec<u8>]| netflow9(1, sets);
    let v10 = |sets: &[Vec<u8>]| ipfix(1, 1, sets);
    let records = record.repeat(24);
    let variable_records = [&record[..], &[4, b'h', b't', b't', b'p']].concat().repeat(24);

    assert!(measure("NetFlow v5", None, &netflow5(0, 0, 30), 30) <= 250);
    let setup = v9(&[set(0, &template(256, &fixed))]);
    assert!(measure("NetFlow v9", Some(&setup), &v9(&[set(256, &records)]), 24) <= 400);
    let setup = v10(&[set(2, &template(256, &fixed))]);
    assert!(measure("IPFIX", Some(&setup), &v10(&[set(256, &records)]), 24) <= 400);
    let setup = v10(&[set(2, &template(256, &variable))]);
    assert!(measure("IPFIX, variable length", Some(&setup), &v10(&[set(256, &variable_records)]), 24) <= 400);
}
