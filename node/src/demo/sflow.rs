//! sFlow version 5 datagrams (sflow.org, "sFlow Version 5", July 2004) as a switch sends them: flow samples, each with the
//! head of one sampled packet.

use super::random::Random;
use super::traffic::{Record, TCP};
use std::net::Ipv4Addr;

/// Ethernet header and frame check sequence: what a frame is longer than its IP packet.
const ETHERNET: u64 = 14;
const CHECK_SEQUENCE: u64 = 4;

/// Encoder state of one switch.
#[derive(Debug, Clone)]
pub(crate) struct Sflow {
    agent: Ipv4Addr,
    booted_ms: u64,
    rate: u32,
    datagrams: u32,
    samples: u32,
    pool: u32,
}

impl Sflow {
    /// A switch that booted at `booted_ms` and samples one packet of `rate`.
    #[must_use]
    pub(crate) fn new(agent: Ipv4Addr, booted_ms: u64, rate: u32) -> Self {
        Self { agent, booted_ms, rate, datagrams: 0, samples: 0, pool: 0 }
    }

    /// The sampled packets of a flow: each becomes a record of one packet at its own moment.
    pub(crate) fn sample(&self, flow: &Record, random: &mut Random, out: &mut Vec<Record>) {
        let count = random.count(flow.packets as f64 / f64::from(self.rate));
        let size = flow.bytes / flow.packets.max(1);
        for _ in 0..count {
            let at = flow.start + random.below((flow.end - flow.start).max(1));
            // Half of the sizes are a little above the mean and half below, so that the sum stays right.
            let wobble = (size.saturating_sub(60) / 8).min(1500_u64.saturating_sub(size));
            let bytes = (size + random.below(2 * wobble + 1)).saturating_sub(wobble).max(40);
            out.push(Record { start: at, end: at, bytes, packets: 1, continues: false, ..*flow });
        }
    }

    /// One datagram sent at `time_ms` with these sampled packets.
    pub(crate) fn datagram(&mut self, time_ms: u64, packets: &[Record]) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + packets.len() * 128);
        put(&mut out, &[5, 1]);
        out.extend(self.agent.octets());
        self.datagrams = self.datagrams.wrapping_add(1);
        let uptime = time_ms.saturating_sub(self.booted_ms) as u32;
        put(&mut out, &[0, self.datagrams, uptime, packets.len() as u32]);
        for packet in packets {
            self.flow_sample(packet, &mut out);
        }
        out
    }

    /// `sample_data` of enterprise 0, format 1 (flow sample), holding one `sampled_header`.
    fn flow_sample(&mut self, packet: &Record, out: &mut Vec<u8>) {
        let header = frame(packet);
        let padded = header.len().next_multiple_of(4);
        self.samples = self.samples.wrapping_add(1);
        self.pool = self.pool.wrapping_add(self.rate);
        let (input, output) = super::exporter::interfaces(packet);
        let record_length = 16 + padded as u32;
        put(out, &[1, 32 + 8 + record_length]);
        put(out, &[self.samples, u32::from(input), self.rate, self.pool, 0, u32::from(input), u32::from(output), 1]);
        put(out, &[1, record_length]);
        let frame_length = (packet.bytes + ETHERNET + CHECK_SEQUENCE) as u32;
        put(out, &[1, frame_length, CHECK_SEQUENCE as u32, header.len() as u32]);
        out.extend(&header);
        out.resize(out.len() + padded - header.len(), 0);
    }
}

fn put(out: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        out.extend(word.to_be_bytes());
    }
}

/// Ethernet, IPv4 and TCP or UDP headers of a sampled packet.
fn frame(packet: &Record) -> Vec<u8> {
    let mut out = Vec::with_capacity(54);
    // Locally administered addresses made of the IP addresses.
    for address in [packet.destination.address, packet.source.address] {
        out.extend([0x02, 0x00]);
        out.extend(address.octets());
    }
    out.extend(0x0800_u16.to_be_bytes());
    let ip = out.len();
    out.extend([0x45, 0]);
    out.extend((packet.bytes.min(1500) as u16).to_be_bytes());
    out.extend([0, 0, 0x40, 0, 64, packet.protocol, 0, 0]);
    out.extend(packet.source.address.octets());
    out.extend(packet.destination.address.octets());
    let sum = checksum(out.get(ip..).unwrap_or_default());
    for (slot, byte) in out.iter_mut().skip(ip + 10).zip(sum.to_be_bytes()) {
        *slot = byte;
    }
    out.extend(packet.source.port.to_be_bytes());
    out.extend(packet.destination.port.to_be_bytes());
    if packet.protocol == TCP {
        // Sequence, acknowledgement, header length, flags, window, checksum (not computed by offload), urgent.
        out.extend([0; 8]);
        out.extend([0x50, packet.flags & 0x3f, 0xff, 0xff, 0, 0, 0, 0]);
    } else {
        out.extend((packet.bytes.saturating_sub(20).min(1480) as u16).to_be_bytes());
        out.extend([0, 0]);
    }
    out
}

/// The Internet checksum (RFC 1071) of a header whose own checksum field is zero.
fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(pair.first().copied().unwrap_or(0)) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
