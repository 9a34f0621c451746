//! What a quiet host costs in the commit log, which keeps every window for weeks.

use std::net::{IpAddr, Ipv4Addr};

use spikewatch_detector::prepare;
use spikewatch_domain::{
    key::Subject,
    shard::shard_of,
    span::Span,
    window::{Counters, Peer, Service, Share, Window},
};
use spikewatch_proto::{
    convert::{
        cluster::{Incarnation, Shape},
        commit::{Pair, write_pair},
        windows,
    },
    v1,
};

const QUARTER: u64 = 900_000;
const SHAPE: Shape = Shape { shards: 64, bucket: Span::QUARTER_HOUR };

/// Numbers without rhyme, but the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Few are common, most are rare: as peers and sizes are.
    fn skewed(&mut self, bound: u64) -> u64 {
        let (one, two) = (self.below(bound), self.below(bound));
        one * two / bound
    }
}

fn share(numbers: &mut Numbers, peer: Ipv4Addr, port: u16, protocol: u8, exchanges: u64, bytes: u64) -> Share<'static> {
    let (out, back) = (exchanges * (60 + numbers.below(30)), exchanges * (80 + bytes));
    let counters = Counters {
        events: exchanges,
        bytes_out: out,
        bytes_in: back,
        packets_out: exchanges * (1 + out / 800),
        packets_in: exchanges * (1 + back / 1200),
        ..Counters::default()
    };
    Share { counters, peer: Peer::from(IpAddr::from(peer)), service: Service { port, protocol }, annotations: None }
}

/// A quarter of an hour of a machine that nobody sits at: it looks up a few names, asks for the time, and one in two calls
/// one or two services out of some hundreds.
fn quiet(numbers: &mut Numbers) -> Window {
    let mut window = Window::default();
    let lookups = 1 + numbers.below(6);
    window.add(&share(numbers, Ipv4Addr::new(10, 0, 0, 53), 53, 17, lookups, 60));
    if numbers.below(2) == 0 {
        window.add(&share(numbers, Ipv4Addr::new(10, 0, 0, 123), 123, 17, 1, 0));
    }
    for _ in 0..numbers.below(3) {
        let cloud = numbers.skewed(400);
        let peer = Ipv4Addr::new(52, (cloud % 7) as u8, (cloud / 3) as u8, (cloud * 37) as u8);
        let bytes = 3000 + numbers.skewed(9000);
        window.add(&share(numbers, peer, 443, 6, 1, bytes));
    }
    window
}

#[test]
fn a_quiet_hosts_window_takes_at_most_40_bytes() {
    let mut numbers = Numbers(7);
    let site = "berlin".parse().unwrap();
    let mut message = v1::Windows { sites: vec!["berlin".to_owned()], ..v1::Windows::default() };
    let mut hosts = 0;
    // One of 64 shards of a hundred thousand hosts.
    for host in 0..100_000u32 {
        let subject = Subject::Address(IpAddr::from(Ipv4Addr::from(0x0a01_0000 + host)));
        let window = quiet(&mut numbers);
        if shard_of(&site, &subject, SHAPE.shards) == 5 {
            windows::push(&mut message, Some(0), &subject, &window, false);
            hosts += 1;
        }
    }
    let of = Incarnation { site, collector: "c1".parse().unwrap(), id: [5; 16] };
    let commit = v1::Commit {
        shard: 5,
        epoch: Some(v1::Epoch { lineage: vec![1; 16], number: 1 }),
        commit_no: 1,
        bucket_start_ms: 5 * QUARTER,
        windows: vec![v1::BucketWindows { bucket_start_ms: 5 * QUARTER, windows: Some(message) }],
        pairs: vec![write_pair(&of, Pair { bucket: 5 * QUARTER, seq: 1 })],
        ..v1::Commit::default()
    };
    let prepared = prepare::commit(commit, &SHAPE).unwrap();
    let bytes: usize = prepared.log.iter().map(|entry| entry.blob.len()).sum();
    assert!(hosts > 1000, "{hosts}");
    let each = bytes as f64 / f64::from(hosts);
    println!("{hosts} windows, {each:.1} bytes each");
    assert!(each <= 40.0, "{each:.1} bytes each");
}
