//! NetFlow v5: a header of 24 bytes and up to 30 records of 48, as Cisco's "NetFlow Export Datagram Format" lays them out.

use std::net::{IpAddr, Ipv4Addr};

use spikewatch_domain::record::FlowRecord;

use super::clock::ExportClock;
use super::cursor::Cursor;
use super::flow;
use super::sampling::Ratio;
use crate::fault::{Decoded, Fault, Reason};

/// Length of the header.
pub(super) const HEADER: usize = 24;
/// Length of a record.
pub(super) const RECORD: usize = 48;
/// Most records in a datagram.
pub(super) const MAX_RECORDS: u16 = 30;

/// The header of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Number of records.
    pub(super) count: u16,
    pub(super) uptime_ms: u32,
    /// Time of export, ms since 1970.
    pub(super) export_ms: u64,
    /// Number of the first record.
    pub(super) sequence: u32,
    /// Engine type and id: each engine numbers by itself.
    pub(super) engine: u16,
    /// Mode (2 bits, not needed) and interval.
    sampling: u16,
}

impl Header {
    /// Reads the header.
    ///
    /// # Errors
    /// If it is cut, or counts records that no v5 datagram can have.
    pub(super) fn read(from: &mut Cursor<'_>) -> Result<Self, Fault> {
        let length = from.rest().len();
        let header = Self::fields(from).ok_or_else(|| {
            Fault::new(Reason::Truncated, format!("NetFlow v5 header of {HEADER} bytes expected, {length} found"))
        })?;
        if header.count == 0 || header.count > MAX_RECORDS {
            let found = header.count;
            let detail = format!("NetFlow v5 counts {found} records, 1 to {MAX_RECORDS} expected, offset 2");
            return Err(Fault::new(Reason::Malformed, detail));
        }
        Ok(header)
    }

    fn fields(from: &mut Cursor<'_>) -> Option<Self> {
        let (_version, count) = (from.u16()?, from.u16()?);
        let (uptime_ms, seconds, nanos) = (from.u32()?, from.u32()?, from.u32()?);
        let export_ms = u64::from(seconds) * 1000 + u64::from(nanos / 1_000_000);
        let (sequence, engine, sampling) = (from.u32()?, from.u16()?, from.u16()?);
        Some(Self { count, uptime_ms, export_ms, sequence, engine, sampling })
    }
}

/// Reads the records that follow `header`.
pub(super) fn records(header: &Header, from: &mut Cursor<'_>, received_ms: u64, out: &mut Decoded) {
    let export_ms = if header.export_ms < 1000 { received_ms } else { header.export_ms };
    let clock = ExportClock { export_ms, uptime_ms: Some(header.uptime_ms), init_ms: None };
    let ratio = Some(Ratio::one_in(u64::from(header.sampling & 0x3fff))).filter(|ratio| ratio.estimates());
    for index in 0..header.count {
        let Some(bytes) = from.array::<RECORD>() else {
            let (left, offset) = (from.rest().len(), from.offset());
            let count = header.count;
            let detail =
                format!("record {} of {count} expected with {RECORD} bytes, {left} left, offset {offset}", index + 1);
            out.fault(Reason::Truncated, detail);
            return;
        };
        let mut record = record(&bytes, &clock);
        if let Some(ratio) = ratio {
            flow::estimate(&mut record, ratio);
        }
        out.records.push(record);
    }
}

fn record(r: &[u8; RECORD], clock: &ExportClock) -> FlowRecord {
    let short = |a: u8, b: u8| u16::from_be_bytes([a, b]);
    let long = |a: u8, b: u8, c: u8, d: u8| u32::from_be_bytes([a, b, c, d]);
    let source = IpAddr::V4(Ipv4Addr::new(r[0], r[1], r[2], r[3]));
    let destination = IpAddr::V4(Ipv4Addr::new(r[4], r[5], r[6], r[7]));
    let start = clock.at_uptime(long(r[24], r[25], r[26], r[27])).unwrap_or(clock.export_ms);
    let end = clock.at_uptime(long(r[28], r[29], r[30], r[31])).unwrap_or(clock.export_ms);
    let mut record = FlowRecord::between(source, destination, start, end);
    record.source_packets = u64::from(long(r[16], r[17], r[18], r[19]));
    record.source_bytes = u64::from(long(r[20], r[21], r[22], r[23]));
    record.protocol = r[38];
    if flow::has_ports(record.protocol) {
        record.source_port = short(r[32], r[33]);
        record.destination_port = short(r[34], r[35]);
    }
    record
}
