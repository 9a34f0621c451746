//! One bidirectional flow: who its ends are, what was counted since it was last reported, and whether TCP has ended it.

use std::mem;
use std::net::IpAddr;

use rapidhash::v3::rapidhash_v3;
use serde::{Deserialize, Serialize};
use spikewatch_domain::record::{FlowRecord, Report};

use super::headers::Dissected;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const TCP: u8 = 6;

/// The 5-tuple of one packet, as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Ends {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) protocol: u8,
}

impl Ends {
    /// Those that the packet itself tells.
    pub(super) fn of(packet: &Dissected) -> Self {
        let &Dissected { source, destination, source_port, destination_port, protocol, .. } = packet;
        Self { source, destination, source_port, destination_port, protocol }
    }

    /// The same flow seen from the other end.
    pub(super) fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }

    /// A hash that is equal for both directions.
    ///
    /// Its seed is fixed, so that equal input gives equal output. Who crafts 5-tuples that collide makes the table slower,
    /// within its bound, but can neither grow it nor falsify it.
    pub(super) fn hash(&self) -> u64 {
        let (a, b) = ((self.source, self.source_port), (self.destination, self.destination_port));
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let mut bytes = [0; 37];
        let (ends, protocol) = bytes.split_at_mut(36);
        protocol.fill(self.protocol);
        for (end, (address, port)) in ends.chunks_exact_mut(18).zip([low, high]) {
            let (port_bytes, address_bytes) = end.split_at_mut(2);
            port_bytes.copy_from_slice(&port.to_be_bytes());
            match address {
                IpAddr::V4(address) => address_bytes[..4].copy_from_slice(&address.octets()),
                IpAddr::V6(address) => address_bytes.copy_from_slice(&address.octets()),
            }
        }
        rapidhash_v3(&bytes)
    }
}

/// Bytes and packets that one end sent since the last report.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
struct Sent {
    bytes: u64,
    packets: u64,
}

/// A flow that is going on. Two cache lines: with many flows, fetching them is what a packet costs.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[repr(align(64))]
pub(super) struct Flow {
    /// As the first packet says; the source is who opened the conversation.
    pub(super) ends: Ends,
    pub(super) hash: u64,
    /// Clock of the table at the flow's last packet, and at the first packet of the part that is not reported yet.
    pub(super) touched: u64,
    pub(super) part_began: u64,
    /// Least and greatest time of the packets that are not reported yet.
    start: u64,
    end: u64,
    from_source: Sent,
    from_destination: Sent,
    reported: bool,
    estimated: bool,
    source_finished: bool,
    destination_finished: bool,
    reset: bool,
}

impl Flow {
    /// A flow of which `packet` is the first one, not counted yet.
    ///
    /// Its sender opened the conversation, unless it is the answer to a TCP opening that was not seen.
    pub(super) fn opened_by(packet: &Dissected, ends: Ends, hash: u64) -> Self {
        let answer = packet.tcp_flags & (SYN | ACK) == SYN | ACK;
        Self {
            ends: if answer { ends.reversed() } else { ends },
            hash,
            touched: 0,
            part_began: 0,
            start: u64::MAX,
            end: 0,
            from_source: Sent::default(),
            from_destination: Sent::default(),
            reported: false,
            estimated: false,
            source_finished: false,
            destination_finished: false,
            reset: false,
        }
    }

    /// True if `packet` opens a new connection between the ends of one that has ended.
    pub(super) fn is_reopened_by(&self, packet: &Dissected) -> bool {
        self.has_ended() && packet.tcp_flags & (SYN | ACK) == SYN
    }

    /// True if both ends have said FIN, or one RST: only stray packets follow.
    pub(super) fn has_ended(&self) -> bool {
        self.reset || (self.source_finished && self.destination_finished)
    }

    /// True if there is nothing that has not been reported.
    pub(super) fn is_reported(&self) -> bool {
        self.from_source.packets == 0 && self.from_destination.packets == 0
    }

    /// Counts a packet of this flow, which stands for `sampling` ones.
    pub(super) fn count(&mut self, time: u64, packet: &Dissected, ends: &Ends, sampling: u32) {
        (self.start, self.end) = (self.start.min(time), self.end.max(time));
        let factor = u64::from(sampling.max(1));
        self.estimated |= factor > 1;
        let (sent, finished) = if *ends == self.ends {
            (&mut self.from_source, &mut self.source_finished)
        } else {
            (&mut self.from_destination, &mut self.destination_finished)
        };
        sent.bytes = sent.bytes.saturating_add(u64::from(packet.bytes).saturating_mul(factor));
        sent.packets = sent.packets.saturating_add(factor);
        if packet.protocol == TCP {
            *finished |= packet.tcp_flags & FIN != 0;
            self.reset |= packet.tcp_flags & RST != 0;
        }
    }

    /// What was counted since the last report, if anything; `goes_on` says whether more may follow.
    pub(super) fn report(&mut self, goes_on: bool) -> Option<FlowRecord> {
        if self.is_reported() {
            return None;
        }
        let report = match (self.reported, goes_on) {
            (true, _) => Report::Continuation,
            (false, true) => Report::Partial,
            (false, false) => Report::Complete,
        };
        self.reported = true;
        let (sent, answered) = (mem::take(&mut self.from_source), mem::take(&mut self.from_destination));
        let (start, end) = (mem::replace(&mut self.start, u64::MAX), mem::take(&mut self.end));
        Some(FlowRecord {
            source_port: self.ends.source_port,
            destination_port: self.ends.destination_port,
            protocol: self.ends.protocol,
            initiator_known: true,
            source_bytes: sent.bytes,
            source_packets: sent.packets,
            destination_bytes: answered.bytes,
            destination_packets: answered.packets,
            report,
            estimated: self.estimated,
            ..FlowRecord::between(self.ends.source, self.ends.destination, start, end)
        })
    }
}
