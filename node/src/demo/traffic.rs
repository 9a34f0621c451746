//! What hosts do, before an exporter sees it: conversations, and the one-way records that a router makes of them.

use std::net::Ipv4Addr;

/// TCP's protocol number.
pub(crate) const TCP: u8 = 6;
/// UDP's protocol number.
pub(crate) const UDP: u8 = 17;

/// TCP flags seen over a flow (RFC 9293): an ordinary connection, an unanswered SYN, and a reset.
const FLAGS_WHOLE: u8 = 0x1b;
const FLAGS_SYN: u8 = 0x02;
const FLAGS_RESET: u8 = 0x14;

/// The longest record that a router keeps before its active time-out reports it.
pub(crate) const ACTIVE_TIMEOUT_MS: u64 = 60_000;

/// An address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// IPv4 address.
    pub(crate) address: Ipv4Addr,
    /// Port.
    pub(crate) port: u16,
}

impl Endpoint {
    /// `port` of `address`.
    #[must_use]
    pub(crate) fn new(address: Ipv4Addr, port: u16) -> Self {
        Self { address, port }
    }
}

/// One direction of one flow, as a router reports it; or one sampled packet, where `packets` is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// First packet, event time in milliseconds.
    pub(crate) start: u64,
    /// Last packet.
    pub(crate) end: u64,
    /// Sender.
    pub(crate) source: Endpoint,
    /// Receiver.
    pub(crate) destination: Endpoint,
    /// IANA protocol number.
    pub(crate) protocol: u8,
    /// OR of the TCP flags.
    pub(crate) flags: u8,
    /// Layer 3 bytes.
    pub(crate) bytes: u64,
    /// Packets.
    pub(crate) packets: u64,
    /// Cut by the active time-out: more of this flow follows.
    pub(crate) continues: bool,
}

/// A conversation, or one minute of a long one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conversation {
    /// First packet, event time in milliseconds.
    pub(crate) start: u64,
    /// How long it takes; at most [`ACTIVE_TIMEOUT_MS`].
    pub(crate) duration: u64,
    /// Who opened it.
    pub(crate) client: Endpoint,
    /// Who answers.
    pub(crate) server: Endpoint,
    /// IANA protocol number.
    pub(crate) protocol: u8,
    /// Payload bytes from client to server.
    pub(crate) sent: u64,
    /// Payload bytes from server to client.
    pub(crate) received: u64,
    /// Cut by the active time-out: more of it follows.
    pub(crate) continues: bool,
}

/// Payload of a full packet, and the headers on top of each.
const SEGMENT: u64 = 1400;

impl Conversation {
    /// The records of its two directions: data packets of one side are acknowledged, every second, by the other.
    #[must_use]
    pub(crate) fn records(&self) -> [Record; 2] {
        let (data_out, data_in) = (self.sent.div_ceil(SEGMENT), self.received.div_ceil(SEGMENT));
        let (headers, packets_out, packets_in) = if self.protocol == TCP {
            (40, data_out + data_in / 2 + 3, data_in + data_out / 2 + 2)
        } else {
            (28, data_out.max(1), data_in.max(1))
        };
        let flags = if self.protocol == TCP { FLAGS_WHOLE } else { 0 };
        let record = |source, destination, payload, packets| Record {
            start: self.start,
            end: self.start + self.duration,
            source,
            destination,
            protocol: self.protocol,
            flags,
            bytes: payload + packets * headers,
            packets,
            continues: self.continues,
        };
        [
            record(self.client, self.server, self.sent, packets_out),
            record(self.server, self.client, self.received, packets_in),
        ]
    }
}

/// The record of `packets` unanswered SYNs.
#[must_use]
pub(crate) fn knock(start: u64, duration: u64, client: Endpoint, server: Endpoint, packets: u64) -> Record {
    Record {
        start,
        end: start + duration,
        source: client,
        destination: server,
        protocol: TCP,
        flags: FLAGS_SYN,
        bytes: packets * 60,
        packets,
        continues: false,
    }
}

/// The reset that answers a [`knock`] at a closed port.
#[must_use]
pub(crate) fn refusal(knock: &Record) -> Record {
    Record { source: knock.destination, destination: knock.source, flags: FLAGS_RESET, bytes: 40, packets: 1, ..*knock }
}
