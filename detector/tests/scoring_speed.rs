//! What scoring costs: `cargo test --release -p spikewatch-detector --test scoring_speed -- --ignored --nocapture`

use std::fs;

use spikewatch_detector::{
    job::Job,
    scoring::{Bucket, Row, Scoring},
};
use spikewatch_domain::{
    key::{SiteName, Subject},
    span::Span,
    window::{Counters, Peer, Service, Share, Window},
};

const HOSTS: u32 = 40_000;

fn mixed(number: u32) -> u32 {
    let number = (number ^ number >> 16).wrapping_mul(0x7feb_352d);
    (number ^ number >> 15).wrapping_mul(0x846c_a68b)
}

/// Hosts by rank: the first are always there, the last hardly ever.
fn bucket(at: u32, hosts: u32) -> Bucket {
    let mut bucket = Bucket { start: u64::from(at) * 900_000, ..Bucket::default() };
    let site = "a".parse().unwrap();
    let mut all = Window::default();
    for host in 0..hosts {
        let noise = mixed(host * 977 + at);
        if noise % hosts < host / 3 {
            continue;
        }
        let mut window = Window::default();
        let events = u64::from(1 + noise % 7 + 100_000 / (host + 10));
        for peer in 0..events.min(6) {
            let octets = mixed(peer as u32 * 31 + noise % 5 + host).to_be_bytes();
            let counters =
                Counters { events: 1 + events / 6, bytes_out: 700 * events, packets_in: events, ..Counters::default() };
            window.add(&Share {
                counters,
                peer: Peer::from(std::net::IpAddr::from(octets)),
                service: Service { port: 443, protocol: 6 },
                annotations: None,
            });
        }
        all.merge(&window);
        let subject = Subject::Address(std::net::Ipv4Addr::from(0x0a00_0000 | mixed(host) & 0xff_ffff).into());
        bucket.rows.push(Row { site: Clone::clone(&site), subject, window, incomplete: false });
    }
    bucket.rows.push(Row { site, subject: Subject::Site, window: all, incomplete: false });
    bucket
}

/// Time of this thread on a processor, ns (schedstat, first field): other work on the machine shows less than in time on
/// the wall.
fn cpu_ns() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("a Linux /proc");
    stat.split(' ').next().and_then(|field| field.parse().ok()).expect("nanoseconds")
}

#[test]
#[ignore = "a measurement"]
fn scoring_speed() {
    for (what, hosts, buckets) in [("an hour", HOSTS, 0..5), ("three days", 300, 0..288)] {
        let mut scoring = Scoring::new(&Job::built_in(), Span::QUARTER_HOUR, 64 << 30);
        let (mut took, mut values, mut records) = (0, 0, 0);
        for at in buckets {
            let bucket = bucket(at, hosts);
            let begun = cpu_ns();
            records += scoring.score(bucket).records.len();
            took += cpu_ns() - begun;
            values += scoring.series();
        }
        println!("{what}: {} ns for each of {values} values, silence included; {records} records", took / values);
    }
}

/// Every host has traffic in every bucket, for a day and a bit: then each of its series has its whole profile.
#[test]
#[ignore = "a measurement; takes 1.5 GB"]
fn snapshot_of_a_hundred_thousand_hosts() {
    const ALL: u32 = 100_000;
    let site: SiteName = "a".parse().unwrap();
    let new = || Scoring::new(&Job::built_in(), Span::QUARTER_HOUR, 64 << 30);
    let mut scoring = new();
    for at in 0..98u32 {
        let row = |host: u32| {
            let events = u64::from(20 + mixed(host * 977 + at) % 50);
            let counters = Counters { events, bytes_out: 900 * events, packets_in: events, ..Counters::default() };
            let subject = Subject::Address(std::net::Ipv4Addr::from(0x0a00_0000 | host).into());
            Row { site: site.clone(), subject, window: Window { counters, ..Window::default() }, incomplete: false }
        };
        let rows = (0..ALL).map(row).collect();
        let begun = cpu_ns();
        scoring.score(Bucket { start: u64::from(at) * 900_000, rows, ..Bucket::default() });
        if at == 97 {
            println!("one bucket: {} ms", (cpu_ns() - begun) / 1_000_000);
        }
    }
    let begun = cpu_ns();
    let mut raw = 0;
    let parts: Vec<_> = scoring
        .stored()
        .map(|part| {
            raw += part.len();
            zstd::bulk::compress(&part, 1).unwrap()
        })
        .collect();
    let (took, bytes) = (cpu_ns() - begun, parts.iter().map(Vec::len).sum::<usize>());
    println!("stored: {} ms, {} parts, {} MB, {} MB compressed", took / 1_000_000, parts.len(), raw >> 20, bytes >> 20);
    let begun = cpu_ns();
    let mut back = new();
    for (number, part) in parts.iter().enumerate() {
        back.restore(number, &zstd::bulk::decompress(part, 256 << 20).unwrap()).unwrap();
    }
    println!("restored: {} ms", (cpu_ns() - begun) / 1_000_000);
    assert!(back.is_whole() && back.series() == scoring.series());
}
