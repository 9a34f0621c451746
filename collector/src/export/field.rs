//! The fields of NetFlow v9 and IPFIX that say something of a flow, and where their values go while a record is read.
//!
//! Numbers are those of the IANA registry "IPFIX Information Elements", which NetFlow v9 (RFC 3954 section 8) agrees with up to
//! 127; reverse fields are RFC 5103. A field that is not listed here is skipped by its length.

use serde::{Deserialize, Serialize};

/// What a field means to us. Each slot holds one value of a record. Their order is that of saved templates
/// ([`checkpoint`](crate::checkpoint)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[repr(u8)]
pub(super) enum Slot {
    Bytes,
    Packets,
    OutBytes,
    OutPackets,
    TotalBytes,
    TotalPackets,
    OutTotalBytes,
    OutTotalPackets,
    InitiatorBytes,
    InitiatorPackets,
    ResponderBytes,
    ResponderPackets,
    ReverseBytes,
    ReversePackets,
    ReverseTotalBytes,
    ReverseTotalPackets,
    SourceV4,
    DestinationV4,
    SourceV6,
    DestinationV6,
    Protocol,
    SourcePort,
    DestinationPort,
    UdpSourcePort,
    UdpDestinationPort,
    TcpSourcePort,
    TcpDestinationPort,
    StartUptime,
    EndUptime,
    StartSeconds,
    EndSeconds,
    StartMillis,
    EndMillis,
    StartMicros,
    EndMicros,
    StartNanos,
    EndNanos,
    StartDelta,
    EndDelta,
    InitMillis,
    DurationMillis,
    DurationMicros,
    ObservedSeconds,
    ObservedMillis,
    EndReason,
    ForwardingStatus,
    FirewallEvent,
    NatEvent,
    FlowId,
    BiflowDirection,
    InputInterface,
    ScopeInterface,
    SamplingInterval,
    SamplerId,
    SamplerInterval,
    SelectorId,
    PacketInterval,
    PacketSpace,
    TimeInterval,
    TimeSpace,
    SamplingSize,
    SamplingPopulation,
    SamplingProbability,
    /// Skipped by its length.
    Ignored,
}

/// Slots that say how much was sampled.
pub(super) const SAMPLING: u64 = bits(&[
    Slot::SamplingInterval,
    Slot::SamplerInterval,
    Slot::PacketInterval,
    Slot::PacketSpace,
    Slot::TimeInterval,
    Slot::TimeSpace,
    Slot::SamplingSize,
    Slot::SamplingPopulation,
    Slot::SamplingProbability,
]);

/// Slots that make a record one of both directions with a known initiator.
pub(super) const CONVERSATION: u64 = bits(&[
    Slot::InitiatorBytes,
    Slot::InitiatorPackets,
    Slot::ResponderBytes,
    Slot::ResponderPackets,
    Slot::ReverseBytes,
    Slot::ReversePackets,
    Slot::ReverseTotalBytes,
    Slot::ReverseTotalPackets,
]);

/// Slots that count something.
pub(super) const COUNTERS: u64 = CONVERSATION
    | bits(&[
        Slot::Bytes,
        Slot::Packets,
        Slot::OutBytes,
        Slot::OutPackets,
        Slot::TotalBytes,
        Slot::TotalPackets,
        Slot::OutTotalBytes,
        Slot::OutTotalPackets,
    ]);

const fn bits(slots: &[Slot]) -> u64 {
    let (mut all, mut at) = (0, 0);
    while at < slots.len() {
        all |= 1 << slots[at] as u8;
        at += 1;
    }
    all
}

/// IANA's private enterprise number for reverse information elements (RFC 5103 section 6.1).
const REVERSE: u32 = 29_305;

/// The slot of an IPFIX information element; `enterprise` is 0 for IANA's own.
pub(super) fn ipfix_slot(enterprise: u32, element: u16) -> Slot {
    match (enterprise, element) {
        (0, _) => iana_slot(element),
        (REVERSE, 1) => Slot::ReverseBytes,
        (REVERSE, 2) => Slot::ReversePackets,
        (REVERSE, 85) => Slot::ReverseTotalBytes,
        (REVERSE, 86) => Slot::ReverseTotalPackets,
        _ => Slot::Ignored,
    }
}

/// The slot of a NetFlow v9 field. Cisco's ASA used 40005 for the firewall event before it had a number in the registry.
pub(super) fn netflow9_slot(field: u16) -> Slot {
    if field == 40_005 { Slot::FirewallEvent } else { iana_slot(field) }
}

/// The slot of a NetFlow v9 options scope (RFC 3954 section 6.1: 1 system, 2 interface, 3 line card, 4 cache, 5 template).
pub(super) fn netflow9_scope_slot(scope: u16) -> Slot {
    if scope == 2 { Slot::ScopeInterface } else { Slot::Ignored }
}

fn iana_slot(element: u16) -> Slot {
    match element {
        1 => Slot::Bytes,
        2 => Slot::Packets,
        4 => Slot::Protocol,
        7 => Slot::SourcePort,
        8 => Slot::SourceV4,
        10 => Slot::InputInterface,
        11 => Slot::DestinationPort,
        12 => Slot::DestinationV4,
        21 => Slot::EndUptime,
        22 => Slot::StartUptime,
        23 => Slot::OutBytes,
        24 => Slot::OutPackets,
        27 => Slot::SourceV6,
        28 => Slot::DestinationV6,
        34 => Slot::SamplingInterval,
        48 => Slot::SamplerId,
        50 => Slot::SamplerInterval,
        85 => Slot::TotalBytes,
        86 => Slot::TotalPackets,
        89 => Slot::ForwardingStatus,
        136 => Slot::EndReason,
        148 => Slot::FlowId,
        150 => Slot::StartSeconds,
        151 => Slot::EndSeconds,
        152 => Slot::StartMillis,
        153 => Slot::EndMillis,
        154 => Slot::StartMicros,
        155 => Slot::EndMicros,
        156 => Slot::StartNanos,
        157 => Slot::EndNanos,
        158 => Slot::StartDelta,
        159 => Slot::EndDelta,
        160 => Slot::InitMillis,
        161 => Slot::DurationMillis,
        162 => Slot::DurationMicros,
        171 => Slot::OutTotalBytes,
        172 => Slot::OutTotalPackets,
        180 => Slot::UdpSourcePort,
        181 => Slot::UdpDestinationPort,
        182 => Slot::TcpSourcePort,
        183 => Slot::TcpDestinationPort,
        230 => Slot::NatEvent,
        231 => Slot::InitiatorBytes,
        232 => Slot::ResponderBytes,
        233 => Slot::FirewallEvent,
        239 => Slot::BiflowDirection,
        298 => Slot::InitiatorPackets,
        299 => Slot::ResponderPackets,
        302 => Slot::SelectorId,
        305 => Slot::PacketInterval,
        306 => Slot::PacketSpace,
        307 => Slot::TimeInterval,
        308 => Slot::TimeSpace,
        309 => Slot::SamplingSize,
        310 => Slot::SamplingPopulation,
        311 => Slot::SamplingProbability,
        322 => Slot::ObservedSeconds,
        323 => Slot::ObservedMillis,
        _ => Slot::Ignored,
    }
}

impl Slot {
    /// True if a value of `length` bytes can be read (numbers may be encoded in fewer bytes: RFC 7011 section 6.2).
    pub(super) fn accepts(self, length: u16) -> bool {
        match self {
            Self::Ignored => false,
            Self::SourceV4 | Self::DestinationV4 => length == 4,
            Self::SourceV6 | Self::DestinationV6 => length == 16,
            Self::SamplingProbability => length == 4 || length == 8,
            _ => (1..=8).contains(&length),
        }
    }

    /// The slot's bit in a set of slots.
    pub(super) fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// The values of one record, by slot. Reused from record to record.
#[derive(Debug)]
pub(super) struct Values {
    numbers: [u64; 64],
    addresses: [[u8; 16]; 2],
    seen: u64,
}

impl Values {
    /// No values.
    pub(super) fn new() -> Self {
        Self { numbers: [0; 64], addresses: [[0; 16]; 2], seen: 0 }
    }

    /// Forgets all values.
    pub(super) fn clear(&mut self) {
        self.seen = 0;
    }

    /// Notes the value of a slot that [`Slot::accepts`] its length.
    #[inline]
    pub(super) fn set(&mut self, slot: Slot, bytes: &[u8]) {
        self.seen |= slot.bit();
        match (slot, bytes) {
            (Slot::SourceV6 | Slot::DestinationV6, _) => {
                if let Ok(address) = <[u8; 16]>::try_from(bytes) {
                    self.addresses[usize::from(slot == Slot::DestinationV6)] = address;
                }
            }
            (Slot::SamplingProbability, &[a, b, c, d]) => {
                self.number(slot, f64::from(f32::from_be_bytes([a, b, c, d])).to_bits());
            }
            _ => self.number(slot, unsigned(bytes)),
        }
    }

    #[inline]
    fn number(&mut self, slot: Slot, value: u64) {
        self.numbers[slot as usize & 63] = value;
    }

    /// The value of a slot, if the record has it.
    #[inline]
    pub(super) fn get(&self, slot: Slot) -> Option<u64> {
        (self.seen & slot.bit() != 0).then(|| self.numbers[slot as usize & 63])
    }

    /// The value of a slot, if the record has it and it is not zero.
    #[inline]
    pub(super) fn positive(&self, slot: Slot) -> Option<u64> {
        self.get(slot).filter(|value| *value != 0)
    }

    /// The IPv6 address in a slot, if the record has it.
    pub(super) fn v6(&self, slot: Slot) -> Option<[u8; 16]> {
        (self.seen & slot.bit() != 0).then(|| self.addresses[usize::from(slot == Slot::DestinationV6)])
    }

    /// True if the record has any of `slots`.
    #[inline]
    pub(super) fn has(&self, slots: u64) -> bool {
        self.seen & slots != 0
    }
}

/// A big-endian number of up to eight bytes.
#[inline]
fn unsigned(bytes: &[u8]) -> u64 {
    match *bytes {
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_be_bytes([a, b])),
        [a, b, c, d] => u64::from(u32::from_be_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)),
    }
}
