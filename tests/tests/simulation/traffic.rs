//! Seeded traffic of one collector: NetFlow v5 datagrams, and what they hold.

use std::net::Ipv4Addr;

use spikewatch_actors::entropy::Entropy;

/// Uptime that exporters show, ms.
const UPTIME_MS: u32 = 1_000_000_000;

/// One flow, over in an instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    pub(crate) time_ms: u64,
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) ports: (u16, u16),
    pub(crate) bytes: u32,
    pub(crate) packets: u32,
}

/// A number below `below`.
pub(crate) fn pick(entropy: &Entropy, below: u64) -> u64 {
    entropy.next_u64() % below
}

/// Makes the flows of a site's exporter.
pub(crate) struct Traffic {
    entropy: Entropy,
    /// Tells this exporter's flows from those of others.
    exporter: u8,
    made: u32,
}

impl Traffic {
    pub(crate) fn new(entropy: Entropy, exporter: u8) -> Self {
        Self { entropy, exporter, made: 0 }
    }

    /// How long nothing comes, ms: mostly a moment, at times long enough to be idle.
    pub(crate) fn pause_ms(&self) -> u64 {
        let pause = 100 + pick(&self.entropy, 400);
        if pick(&self.entropy, 60) == 0 { pause + 2_000 + pick(&self.entropy, 12_000) } else { pause }
    }

    /// The flows that are reported at this instant, a few of them long past.
    pub(crate) fn flows(&mut self, now_ms: u64) -> Vec<Flow> {
        let count = 1 + pick(&self.entropy, 8);
        (0..count).map(|_| self.flow(now_ms)).collect()
    }

    fn flow(&mut self, now_ms: u64) -> Flow {
        let entropy = &self.entropy;
        let age = match pick(entropy, 20) {
            0 => pick(entropy, 40_000),
            1..4 => pick(entropy, 6_000),
            _ => pick(entropy, 800),
        };
        let inside = || Ipv4Addr::new(10, 0, 0, 1 + pick(entropy, 12) as u8);
        let outside = || Ipv4Addr::new(198, 51, 100, 1 + pick(entropy, 60) as u8);
        let (source, destination) = match pick(entropy, 16) {
            0 => (outside(), outside()),
            1 | 2 => (inside(), inside()),
            3..10 => (outside(), inside()),
            _ => (inside(), outside()),
        };
        let (bytes, packets) = (40 + pick(entropy, 100_000) as u32, 1 + pick(entropy, 80) as u32);
        self.made += 1;
        // No two flows have the same ports: each is an event of its own.
        let ports =
            ((self.made % 60_000) as u16 + 1024, 10_000 + u16::from(self.exporter) * 100 + (self.made / 60_000) as u16);
        Flow { time_ms: now_ms.saturating_sub(age), source, destination, ports, bytes, packets }
    }
}

/// The datagram of a header of 24 bytes and records of 48 that reports these.
pub(crate) fn datagram(now_ms: u64, flows: &[Flow]) -> Vec<u8> {
    let mut bytes = vec![0, 5, 0, flows.len() as u8];
    bytes.extend(UPTIME_MS.to_be_bytes());
    bytes.extend(((now_ms / 1000) as u32).to_be_bytes());
    bytes.extend(((now_ms % 1000) as u32 * 1_000_000).to_be_bytes());
    bytes.extend([0; 8]); // sequence, engine, sampling
    for flow in flows {
        bytes.extend(flow.source.octets());
        bytes.extend(flow.destination.octets());
        bytes.extend([0; 8]); // next hop, interfaces
        bytes.extend(flow.packets.to_be_bytes());
        bytes.extend(flow.bytes.to_be_bytes());
        let uptime = UPTIME_MS - (now_ms - flow.time_ms) as u32;
        bytes.extend([uptime.to_be_bytes(), uptime.to_be_bytes()].concat());
        bytes.extend(flow.ports.0.to_be_bytes());
        bytes.extend(flow.ports.1.to_be_bytes());
        bytes.extend([0, 0x1b, 6, 0]); // padding, flags, protocol, class
        bytes.extend([0; 8]);
    }
    bytes
}
