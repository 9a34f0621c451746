//! The flow record: one decoded flow or connection event, whatever its source.

use std::net::IpAddr;

/// Milliseconds of event time since 1970-01-01T00:00:00Z.
pub type EventMillis = u64;

/// One decoded flow or connection event.
///
/// `source` is the end that sent the first packet, where the format tells; otherwise (NetFlow and its like report each
/// direction by itself) it is the sender of the bytes, and the `destination_*` counters are zero.
/// Counters of sampled exports are already multiplied by the sampling rate; [`FlowRecord::estimated`] then says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowRecord {
    /// Start of what this record reports, event time.
    pub start: EventMillis,
    /// End of what this record reports, event time; never before `start`.
    pub end: EventMillis,
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// Port of the sender; 0 where the protocol has none (ICMP) or the source does not tell.
    pub source_port: u16,
    /// Port of the receiver; 0 where the protocol has none or the source does not tell.
    pub destination_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// True if `source` is known to have opened the conversation (packets, Zeek, ECS, biflows).
    pub initiator_known: bool,
    /// Bytes that `source` sent (layer 3 where the format tells).
    pub source_bytes: u64,
    /// Packets that `source` sent.
    pub source_packets: u64,
    /// Bytes that `destination` sent back.
    pub destination_bytes: u64,
    /// Packets that `destination` sent back.
    pub destination_packets: u64,
    /// Which part of the flow's life this record reports; decides events and deltas.
    pub report: Report,
    /// The flow was refused (firewall deny, ICMP-prohibited, ECS `event.type: denied`).
    pub denied: bool,
    /// Counters are estimates from sampling.
    pub estimated: bool,
    /// What only some sources know; boxed, since most records have none.
    pub annotations: Option<Box<Annotations>>,
}

/// Which part of a flow's life a record reports (DESIGN section 3, rules 5 and 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The whole flow, or the last part of one: counters are new, none was reported before.
    Complete,
    /// Cut by an active time-out (IPFIX flowEndReason 2): more of the same 5-tuple will follow. Counters are new.
    Partial,
    /// A later part of a flow whose first part was reported before: bytes and packets only, no event. `start` is the time of
    /// the part's own first packet.
    Continuation,
    /// A connection's first event (Elastic Defend `connection_attempted`/`_accepted`): an event without counters.
    Opened {
        /// Hash of what links it with its [`Report::Closed`].
        flow: u64,
    },
    /// A connection's last event: its counters, and an event only if its opening was never seen.
    Closed {
        /// Hash of what links it with its [`Report::Opened`].
        flow: u64,
    },
    /// Totals since the start of the flow (Packetbeat), to be turned into deltas.
    Cumulative {
        /// Hash of the flow's id and its reporter.
        flow: u64,
        /// No report of this flow follows.
        last: bool,
    },
}

/// What only some sources know of a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    /// `host.name` of the machine that the reporter says the event is about.
    pub host_name: Option<String>,
    /// `host.ip`: the addresses that belong to `host_name`.
    pub host_addresses: Vec<IpAddr>,
    /// User who owns the process.
    pub user: Option<String>,
    /// Name of the process that owns the connection.
    pub process: Option<String>,
    /// Hash of the community id, or of the source's own flow id: equal for one connection seen by two sensors of a site.
    pub connection: Option<u64>,
    /// Who reported it (agent or sensor id), hashed; two reports with one `connection` and one `sensor` are no duplicates.
    pub sensor: u64,
    /// Where the source's address is, as far as the reporter says.
    pub source_place: Place,
    /// Where the destination's address is, as far as the reporter says.
    pub destination_place: Place,
}

/// Where an address is, as far as that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// ISO 3166-1 alpha-2 code of the country, in capitals.
    pub country: Option<[u8; 2]>,
    /// Number of the autonomous system that announces it.
    pub asn: Option<u32>,
}

impl Place {
    /// What is known here, and for the rest what `other` knows.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { country: self.country.or(other.country), asn: self.asn.or(other.asn) }
    }

    /// A country's code from a text of two letters, in capitals or not; nothing from any other text.
    #[must_use]
    pub fn country_code(text: &str) -> Option<[u8; 2]> {
        let letters = <[u8; 2]>::try_from(text.as_bytes()).ok()?;
        letters.iter().all(u8::is_ascii_alphabetic).then(|| letters.map(|letter| letter.to_ascii_uppercase()))
    }

    /// The number of an autonomous system from a text like `AS64500` or `64500`. 0 is none (RFC 7607).
    #[must_use]
    pub fn as_number(text: &str) -> Option<u32> {
        let digits = match text.get(..2) {
            Some(prefix) if prefix.eq_ignore_ascii_case("AS") => text.get(2..).unwrap_or_default(),
            _ => text,
        };
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|number| plain && *number != 0)
    }
}

impl FlowRecord {
    /// A record with nothing counted yet: a start for decoders, which fill in what their format tells.
    #[must_use]
    pub fn between(source: IpAddr, destination: IpAddr, start: EventMillis, end: EventMillis) -> Self {
        Self {
            start,
            end: end.max(start),
            source,
            destination,
            source_port: 0,
            destination_port: 0,
            protocol: 0,
            initiator_known: false,
            source_bytes: 0,
            source_packets: 0,
            destination_bytes: 0,
            destination_packets: 0,
            report: Report::Complete,
            denied: false,
            estimated: false,
            annotations: None,
        }
    }

    /// The port that names the service: the receiver's where the initiator is known, else the lower of the two, since a
    /// one-way record of the answer carries the client's ephemeral port as its destination.
    #[must_use]
    pub fn service_port(&self) -> u16 {
        match (self.initiator_known, self.source_port, self.destination_port) {
            (true, _, port) | (false, 0, port) | (false, port, 0) => port,
            (false, a, b) => a.min(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_numbers_are_read_or_left() {
        for (text, code) in
            [("DE", Some(*b"DE")), ("de", Some(*b"DE")), ("", None), ("DEU", None), ("D1", None), ("ß", None)]
        {
            assert_eq!(Place::country_code(text), code, "{text:?}");
        }
        let numbers =
            [("AS64500", Some(64_500)), ("as7", Some(7)), ("4294967295", Some(u32::MAX)), ("AS0", None), ("0", None)];
        for (text, number) in
            numbers.into_iter().chain(["", "AS", "AS+1", "-1", "4294967296", "AS 7"].map(|text| (text, None)))
        {
            assert_eq!(Place::as_number(text), number, "{text:?}");
        }
    }

    #[test]
    fn what_is_known_first_wins_each_by_itself() {
        let told = Place { country: Some(*b"FR"), asn: None };
        let found = Place { country: Some(*b"DE"), asn: Some(64_500) };
        assert_eq!(told.or(found), Place { country: Some(*b"FR"), asn: Some(64_500) });
    }
}
