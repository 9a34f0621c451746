//! The lines of a parcel → records, and what is wrong with the rest. Pure.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;
use spikewatch_domain::record::{EventMillis, FlowRecord};

use super::parcel::Tally;
use crate::{
    fault::{Decoded, Fault, Reason},
    log::ecs::EcsOptions,
    pipeline::too_old,
    recognise::Unrecognised,
    source::{
        file::Expected,
        lines::{LineDecoder, MAX_LINE},
    },
};

/// Largest body, bytes, as it comes and unpacked.
pub(crate) const MAX_BODY: usize = 8 << 20;
/// Most records of one parcel: short lines take many times their length in memory.
pub(crate) const MAX_RECORDS: usize = 65_536;
/// Faults that are told; all are counted.
pub(crate) const TOLD_FAULTS: usize = 10;
/// Lines at the start that may be none before the format is known.
const UNKNOWN_LINES: usize = 100;

/// A fault, and of which line: the first is 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineFault {
    pub(crate) line: u32,
    pub(crate) fault: Fault,
}

/// What a body holds.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) records: Vec<FlowRecord>,
    pub(crate) tally: Tally,
    /// The first ones.
    pub(crate) faults: Vec<LineFault>,
}

/// Why nothing of a body can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It holds nothing that is known.
    #[error("{0}")]
    Unrecognised(#[from] Unrecognised),
    /// It is longer than it may be.
    #[error("the body is longer than {MAX_BODY} bytes unpacked; send it in parts")]
    TooLong,
    /// It has more records than it may.
    #[error("the body holds more than {MAX_RECORDS} records; send it in parts")]
    TooMany,
    /// It can't be unpacked.
    #[error("the body is no gzip: {0}")]
    Gzip(std::io::Error),
}

/// Unpacks a body, as far as it may go.
pub(crate) fn unpack(packed: &[u8]) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    let unpacked = MultiGzDecoder::new(packed).take(MAX_BODY as u64 + 1).read_to_end(&mut body);
    unpacked.map_err(BodyError::Gzip)?;
    if body.len() > MAX_BODY { Err(BodyError::TooLong) } else { Ok(body) }
}

/// Reads lines that came at `now_ms`.
pub(crate) fn read(body: &[u8], expected: Expected, ecs: &EcsOptions, now_ms: EventMillis) -> Result<Lines, BodyError> {
    let mut found = Lines::default();
    if body.trim_ascii().is_empty() {
        return Ok(found);
    }
    let mut decoder = decoder(body, expected, ecs)?;
    let mut decoded = Decoded::default();
    for (number, line) in (1..).zip(body.split_inclusive(|byte| *byte == b'\n')) {
        if line.len() > MAX_LINE {
            decoded.fault(Reason::BadLine, format!("a line longer than {MAX_LINE} bytes"));
        } else {
            decoder.decode(line, &mut decoded);
        }
        for record in decoded.records.drain(..) {
            match too_old(&record, now_ms) {
                None => found.records.push(record),
                Some(fault) => decoded.faults.push(fault),
            }
        }
        for fault in decoded.faults.drain(..) {
            found.fault(LineFault { line: number, fault });
        }
        if found.records.len() > MAX_RECORDS {
            return Err(BodyError::TooMany);
        }
    }
    found.tally.accepted = found.records.len() as u32;
    Ok(found)
}

impl Lines {
    fn fault(&mut self, fault: LineFault) {
        if fault.fault.reason.is_ordinary() {
            self.tally.ignored += 1;
            return;
        }
        self.tally.rejected += 1;
        if self.faults.len() < TOLD_FAULTS {
            self.faults.push(fault);
        }
    }
}

/// The decoder of what a body begins with; lines before it that are nothing are faults of their own.
fn decoder(body: &[u8], expected: Expected, ecs: &EcsOptions) -> Result<LineDecoder, Unrecognised> {
    let whole = LineDecoder::of(expected, body, ecs);
    let mut rest = body;
    for _ in 0..UNKNOWN_LINES {
        if whole.is_ok() {
            break;
        }
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { break };
        rest = rest.get(end + 1..).unwrap_or_default();
        if let Ok(decoder) = LineDecoder::of(expected, rest, ecs) {
            return Ok(decoder);
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const NOW: EventMillis = 1_700_000_000_000;

    fn zeek(ts: &str) -> String {
        format!(
            "{{\"_path\":\"conn\",\"ts\":{ts},\"id.orig_h\":\"10.0.0.1\",\"id.orig_p\":1024,\"id.resp_h\":\"192.0.2.7\",\"id.resp_p\":443,\"proto\":\"tcp\"}}\n"
        )
    }

    fn read_auto(body: &str) -> Result<Lines, BodyError> {
        read(body.as_bytes(), Expected::Auto, &EcsOptions::default(), NOW)
    }

    #[test]
    fn good_lines_count_and_bad_ones_are_told_by_number() {
        let body = ["nonsense\n", &zeek("1699999999.5"), "\n", "{\"ts\":\n", &zeek("1600000000"), &zeek("1700000000")];
        let lines = read_auto(&body.concat()).unwrap();
        assert_eq!(lines.records.len(), 2);
        assert_eq!(lines.tally, Tally { accepted: 2, ignored: 0, rejected: 3 });
        let told: Vec<_> = lines.faults.iter().map(|fault| (fault.line, fault.fault.reason)).collect();
        assert_eq!(told, [(1, Reason::BadLine), (4, Reason::BadLine), (5, Reason::OutOfRange)]);
    }

    #[test]
    fn documents_that_are_no_flows_are_ignored_not_rejected() {
        let other = "{\"@timestamp\":\"2023-11-14T22:13:20Z\",\"event\":{\"category\":\"process\"}}\n";
        let lines = read_auto(other).unwrap();
        assert_eq!(lines.tally, Tally { accepted: 0, ignored: 1, rejected: 0 });
    }

    #[test]
    fn what_is_nothing_known_is_refused_whole() {
        assert!(read_auto("a\nb\n").unwrap_err().to_string().contains("unrecognised content"));
        assert!(read_auto(" \n").unwrap().records.is_empty(), "nothing is not wrong");
        let bad = "nonsense\n".repeat(TOLD_FAULTS * 2) + &zeek("1700000000");
        let lines = read_auto(&bad).unwrap();
        assert_eq!((lines.faults.len(), lines.tally.rejected), (TOLD_FAULTS, 2 * TOLD_FAULTS as u32));
    }

    #[test]
    fn bodies_are_bounded_by_records_and_by_what_they_unpack_to() {
        let header = "#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\n";
        let line = "1700000000\t::1\t1\t::2\t2\ttcp\n";
        assert_eq!(read_auto(&(header.to_owned() + &line.repeat(9))).unwrap().records.len(), 9);
        let many = header.to_owned() + &line.repeat(MAX_RECORDS + 1);
        assert!(matches!(read_auto(&many), Err(BodyError::TooMany)));

        let pack = |bytes: &[u8]| {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        };
        assert_eq!(unpack(&pack(line.as_bytes())).unwrap(), line.as_bytes());
        let bomb = pack(&vec![b' '; MAX_BODY + 1]);
        assert!(bomb.len() < 100_000);
        assert!(matches!(unpack(&bomb), Err(BodyError::TooLong)));
        assert!(matches!(unpack(&pack(line.as_bytes())[..20]), Err(BodyError::Gzip(_))));
        assert!(matches!(unpack(b"plain"), Err(BodyError::Gzip(_))));
    }
}
