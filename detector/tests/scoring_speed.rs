//! What scoring costs: `cargo test --release -p spikewatch-detector --test scoring_speed -- --ignored --nocapture`

use std::fs;

use spikewatch_detector::{
    job::Job,
    scoring::{Bucket, Row, Scoring},
};
use spikewatch_domain::{
    key::Subject,
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
        let mut scoring = Scoring::new(&Job::built_in(), Span::QUARTER_HOUR, 1_000_000);
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
