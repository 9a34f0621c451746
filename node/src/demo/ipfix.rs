//! IPFIX messages (RFC 7011) as a router sends them.

use super::traffic::Record;

/// The template that all records use.
const TEMPLATE: u16 = 300;
/// Set id of templates (RFC 7011 section 3.3.2).
const TEMPLATE_SET: u16 = 2;
/// Information elements and lengths (IANA registry "IPFIX Information Elements").
const FIELDS: [(u16, u16); 13] = [
    (152, 8), // flowStartMilliseconds
    (153, 8), // flowEndMilliseconds
    (8, 4),   // sourceIPv4Address
    (12, 4),  // destinationIPv4Address
    (7, 2),   // sourceTransportPort
    (11, 2),  // destinationTransportPort
    (10, 4),  // ingressInterface
    (14, 4),  // egressInterface
    (1, 8),   // octetDeltaCount
    (2, 8),   // packetDeltaCount
    (4, 1),   // protocolIdentifier
    (6, 1),   // tcpControlBits, reduced-size encoding (RFC 7011 section 6.2)
    (136, 1), // flowEndReason
];
/// flowEndReason (RFC 5102 section 5.11.3): the active time-out, and the end of the flow.
const ACTIVE_TIMEOUT: u8 = 2;
const END_OF_FLOW: u8 = 3;

/// Encoder state of one exporter and observation domain.
#[derive(Debug, Clone)]
pub(crate) struct Ipfix {
    domain: u32,
    /// Data records sent so far (RFC 7011 section 3.1), this message excluded.
    sequence: u32,
}

impl Ipfix {
    /// A router that has sent nothing yet.
    #[must_use]
    pub(crate) fn new(domain: u32) -> Self {
        Self { domain, sequence: 0 }
    }

    /// One message sent at `time_ms`, with the template ahead of the data if `with_template`.
    pub(crate) fn datagram(&mut self, time_ms: u64, records: &[Record], with_template: bool) -> Vec<u8> {
        let width: usize = FIELDS.iter().map(|(_, length)| usize::from(*length)).sum();
        let mut out = Vec::with_capacity(128 + records.len() * width);
        out.extend(10_u16.to_be_bytes());
        out.extend([0, 0]);
        out.extend((time_ms.div_ceil(1000) as u32).to_be_bytes());
        out.extend(self.sequence.to_be_bytes());
        out.extend(self.domain.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(records.len() as u32);
        if with_template {
            out.extend(TEMPLATE_SET.to_be_bytes());
            out.extend((8 + 4 * FIELDS.len() as u16).to_be_bytes());
            out.extend(TEMPLATE.to_be_bytes());
            out.extend((FIELDS.len() as u16).to_be_bytes());
            for (element, length) in FIELDS {
                out.extend(element.to_be_bytes());
                out.extend(length.to_be_bytes());
            }
        }
        out.extend(TEMPLATE.to_be_bytes());
        out.extend(((4 + records.len() * width) as u16).to_be_bytes());
        for record in records {
            self.record(record, &mut out);
        }
        let length = (out.len() as u16).to_be_bytes();
        for (slot, byte) in out.iter_mut().skip(2).zip(length) {
            *slot = byte;
        }
        out
    }

    fn record(&self, record: &Record, out: &mut Vec<u8>) {
        let (input, output) = super::exporter::interfaces(record);
        out.extend(record.start.to_be_bytes());
        out.extend(record.end.to_be_bytes());
        out.extend(record.source.address.octets());
        out.extend(record.destination.address.octets());
        out.extend(record.source.port.to_be_bytes());
        out.extend(record.destination.port.to_be_bytes());
        out.extend(u32::from(input).to_be_bytes());
        out.extend(u32::from(output).to_be_bytes());
        out.extend(record.bytes.to_be_bytes());
        out.extend(record.packets.to_be_bytes());
        let reason = if record.continues { ACTIVE_TIMEOUT } else { END_OF_FLOW };
        out.extend([record.protocol, record.flags, reason]);
    }
}
