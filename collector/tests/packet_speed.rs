//! How much CPU time one packet takes, with many flows going on.
//!
//! `cargo test --release -p spikewatch-collector --test packet_speed -- --ignored --nocapture`

use spikewatch_collector::packet::flow_table::{FlowTable, FlowTableLimits};
use spikewatch_collector::packet::headers::dissect;

use std::time::Duration;

const FLOWS: u32 = 100_000;
const PACKETS: u32 = 4_000_000;

/// Ethernet, IPv4, TCP with the ACK flag and no payload, from client `flow`.
fn frame(flow: u32) -> [u8; 54] {
    let mut frame = [0; 54];
    frame[12] = 0x08;
    frame[14] = 0x45;
    frame[17] = 40;
    frame[23] = 6;
    frame[26..30].copy_from_slice(&(0x0a00_0000 + flow).to_be_bytes());
    frame[30..34].copy_from_slice(&[192, 0, 2, 1]);
    frame[34..38].copy_from_slice(&[0x80, 0x01, 0x01, 0xbb]);
    frame[47] = 0x10;
    frame
}

/// CPU time of this thread, which other programs do not lengthen much (the first number of Linux' schedstat).
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

#[test]
#[ignore = "measures; meaningful in release builds only"]
fn a_packet_takes_at_most_400_ns_at_100_000_flows() {
    for (what, limits) in [
        ("100,000 flows", FlowTableLimits::default()),
        ("each packet a new flow, one evicted", FlowTableLimits { max_flows: 50_000, ..FlowTableLimits::default() }),
    ] {
        let mut table = FlowTable::new(limits);
        let mut out = Vec::new();
        let (mut next, mut bytes) = (0u32, 0u64);
        let started = cpu_time();
        for packet in 0..PACKETS {
            // A step that visits all flows in scattered order.
            next = (next + 61_803) % FLOWS;
            let found = dissect(1, 54, &frame(next)).unwrap();
            bytes += u64::from(found.bytes);
            table.on_packet(u64::from(packet / 1000), &found, 1, &mut out);
            out.clear();
        }
        let each = (cpu_time() - started) / PACKETS;
        println!("{what}: {each:?} a packet, {bytes} bytes, {} evicted", table.evicted());
        assert!(each.as_nanos() <= 400, "{what}: {each:?}");
    }
}
