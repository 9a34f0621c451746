//! NetFlow version 9 datagrams (RFC 3954) as a router sends them.

use super::traffic::Record;

/// The template that all records use. Ids from 256 on are data templates (RFC 3954 section 5.2).
const TEMPLATE: u16 = 256;
/// Field types and lengths (RFC 3954 section 8).
const FIELDS: [(u16, u16); 12] = [
    (8, 4),  // IPV4_SRC_ADDR
    (12, 4), // IPV4_DST_ADDR
    (7, 2),  // L4_SRC_PORT
    (11, 2), // L4_DST_PORT
    (10, 2), // INPUT_SNMP
    (14, 2), // OUTPUT_SNMP
    (1, 4),  // IN_BYTES
    (2, 4),  // IN_PKTS
    (22, 4), // FIRST_SWITCHED, ms of uptime
    (21, 4), // LAST_SWITCHED, ms of uptime
    (4, 1),  // PROTOCOL
    (6, 1),  // TCP_FLAGS
];

/// Encoder state of one exporter and observation domain.
#[derive(Debug, Clone)]
pub(crate) struct NetFlow9 {
    booted_ms: u64,
    source_id: u32,
    sequence: u32,
}

impl NetFlow9 {
    /// A router that booted at `booted_ms` (event time).
    #[must_use]
    pub(crate) fn new(booted_ms: u64, source_id: u32) -> Self {
        Self { booted_ms, source_id, sequence: 0 }
    }

    /// Uptime is 32 bits of milliseconds and wraps after 49.7 days, as real ones do.
    fn uptime(&self, time_ms: u64) -> u32 {
        time_ms.saturating_sub(self.booted_ms) as u32
    }

    /// One datagram sent at `time_ms`, with the template ahead of the data if `with_template`.
    pub(crate) fn datagram(&mut self, time_ms: u64, records: &[Record], with_template: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + records.len() * 36);
        let count = records.len() as u16 + u16::from(with_template);
        // Uptime and seconds must name the same instant, or every receiver's idea of the boot time moves by the
        // fraction of a second: the header carries whole seconds, so the uptime is that of the whole second.
        let seconds = time_ms.div_ceil(1000);
        out.extend(9_u16.to_be_bytes());
        out.extend(count.to_be_bytes());
        out.extend(self.uptime(seconds * 1000).to_be_bytes());
        out.extend((seconds as u32).to_be_bytes());
        out.extend(self.sequence.to_be_bytes());
        out.extend(self.source_id.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        if with_template {
            out.extend(0_u16.to_be_bytes());
            out.extend((8 + 4 * FIELDS.len() as u16).to_be_bytes());
            out.extend(TEMPLATE.to_be_bytes());
            out.extend((FIELDS.len() as u16).to_be_bytes());
            for (kind, length) in FIELDS {
                out.extend(kind.to_be_bytes());
                out.extend(length.to_be_bytes());
            }
        }
        let width: usize = FIELDS.iter().map(|(_, length)| usize::from(*length)).sum();
        let padding = (4 - records.len() * width % 4) % 4;
        out.extend(TEMPLATE.to_be_bytes());
        out.extend(((4 + records.len() * width + padding) as u16).to_be_bytes());
        for record in records {
            self.record(record, &mut out);
        }
        out.resize(out.len() + padding, 0);
        out
    }

    fn record(&self, record: &Record, out: &mut Vec<u8>) {
        let (input, output) = super::exporter::interfaces(record);
        out.extend(record.source.address.octets());
        out.extend(record.destination.address.octets());
        out.extend(record.source.port.to_be_bytes());
        out.extend(record.destination.port.to_be_bytes());
        out.extend(input.to_be_bytes());
        out.extend(output.to_be_bytes());
        out.extend(u32::try_from(record.bytes).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(u32::try_from(record.packets).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(self.uptime(record.start).to_be_bytes());
        out.extend(self.uptime(record.end).to_be_bytes());
        out.extend([record.protocol, record.flags]);
    }
}
