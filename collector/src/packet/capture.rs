//! Capture files, pcap and pcapng, as a stream of packets in constant memory.
//!
//! pcap (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html>): a header of 24 bytes (magic, version 2.4, time
//! zone, accuracy, snap length, link type), then records of a header (seconds, fraction, captured length, original length;
//! 16 bytes, or 24 in Kuznetzov's variant) and the packet. Byte order and unit of the fraction are told by the magic.
//! pcapng is in `pcapng`.

use std::io::Read;

use super::input::Input;
use super::pcapng::Sections;
use super::wire::{ByteOrder, bytes};

/// Longest packet (bytes): what libpcap and Wireshark allow. A longer one is a corrupt length.
pub(super) const MAX_PACKET: u32 = 262_144;

/// One packet of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapturedPacket<'a> {
    /// When it was captured, ms since 1970-01-01T00:00:00Z. Simple packet blocks of pcapng don't tell; they have the time of
    /// the packet before.
    pub time_ms: u64,
    /// LINKTYPE_ number of its interface.
    pub link: u16,
    /// Length on the wire; `data` may be shorter.
    pub original_length: u32,
    /// What was captured, from the link header on.
    pub data: &'a [u8],
    /// Position of the packet's record in the file.
    pub offset: u64,
}

/// Why a capture can't be read (on).
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The reader failed.
    #[error("at byte {offset}: can't read: {source}")]
    Io {
        /// Position in the file.
        offset: u64,
        /// What the reader said.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("at byte 0: expected the magic of pcap (a1b2c3d4, a1b23c4d, a1b2cd34) or pcapng (0a0d0d0a), found {}", hex(.found))]
    BadMagic {
        /// The first bytes, at most four.
        found: Vec<u8>,
    },
    /// The file ends within something.
    #[error("at byte {offset}: the file ends within {what}: {found} of {expected} bytes are there")]
    Truncated {
        /// Where it begins.
        offset: u64,
        /// What is incomplete.
        what: &'static str,
        /// Its length.
        expected: u64,
        /// As much as is there.
        found: u64,
    },
    /// A length that can't be.
    #[error("at byte {offset}: {what} says {found}, expected {expected}")]
    Absurd {
        /// Where it begins.
        offset: u64,
        /// What is wrong.
        what: &'static str,
        /// The number found.
        found: u64,
        /// What it may be.
        expected: &'static str,
    },
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "an empty file".to_owned();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads packets from a capture.
#[derive(Debug)]
pub struct CaptureReader<R> {
    input: Input<R>,
    format: Format,
    ended: bool,
}

#[derive(Debug)]
enum Format {
    Pcap(Pcap),
    Pcapng(Sections),
}

/// What the header of a pcap file says.
#[derive(Debug, Clone, Copy)]
struct Pcap {
    order: ByteOrder,
    /// Fractions of a second in a millisecond.
    per_ms: u32,
    record_header: usize,
    link: u16,
}

/// Where a packet lies: its description, and the bytes before, of and after its data.
pub(super) struct Found {
    pub(super) time_ms: u64,
    pub(super) link: u16,
    pub(super) original_length: u32,
    pub(super) before: usize,
    pub(super) length: usize,
    pub(super) after: usize,
}

impl<R: Read> CaptureReader<R> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// If it is no capture, or can't be read.
    pub fn open(reader: R) -> Result<Self, CaptureError> {
        let mut input = Input::new(reader);
        let start = input.look(24)?;
        let format = match bytes(start, 0) {
            Some([0x0a, 0x0d, 0x0d, 0x0a]) => Format::Pcapng(Sections::default()),
            Some(magic) => match Pcap::by_magic(magic) {
                Some(header) => Format::Pcap(header.read(start)?),
                None => return Err(CaptureError::BadMagic { found: magic.to_vec() }),
            },
            None => return Err(CaptureError::BadMagic { found: start.to_vec() }),
        };
        if matches!(format, Format::Pcap(_)) {
            input.take(24);
        }
        Ok(Self { input, format, ended: false })
    }

    /// The next packet; none at the end.
    ///
    /// # Errors
    /// At most one: what follows a corrupt record can't be trusted, so that the capture ends there.
    #[expect(clippy::should_implement_trait, reason = "packets borrow the reader's window, which Iterator can't say")]
    pub fn next(&mut self) -> Result<Option<CapturedPacket<'_>>, CaptureError> {
        if self.ended {
            return Ok(None);
        }
        // Until proven otherwise.
        self.ended = true;
        let found = match &mut self.format {
            Format::Pcap(header) => header.next(&mut self.input)?,
            Format::Pcapng(sections) => sections.next(&mut self.input)?,
        };
        let Some(found) = found else { return Ok(None) };
        self.ended = false;
        let offset = self.input.offset();
        let record = self.input.take(found.before + found.length + found.after);
        let data = record.get(found.before..found.before + found.length).unwrap_or_default();
        let Found { time_ms, link, original_length, .. } = found;
        Ok(Some(CapturedPacket { time_ms, link, original_length, data, offset }))
    }
}

impl Pcap {
    fn by_magic(magic: [u8; 4]) -> Option<Self> {
        let (order, magic) = match magic {
            [0xa1, 0xb2, ..] => (ByteOrder::Big, u32::from_be_bytes(magic)),
            _ => (ByteOrder::Little, u32::from_le_bytes(magic)),
        };
        let (per_ms, record_header) = match magic {
            0xa1b2_c3d4 => (1_000, 16),
            0xa1b2_3c4d => (1_000_000, 16),
            0xa1b2_cd34 => (1_000, 24),
            _ => return None,
        };
        Some(Self { order, per_ms, record_header, link: 0 })
    }

    fn read(self, start: &[u8]) -> Result<Self, CaptureError> {
        let truncated =
            CaptureError::Truncated { offset: 0, what: "the file header", expected: 24, found: start.len() as u64 };
        // The upper half holds the length of the frame check sequence.
        let link = self.order.u32(start, 20).ok_or(truncated)?;
        Ok(Self { link: (link & 0xffff) as u16, ..self })
    }

    fn next<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<Found>, CaptureError> {
        let offset = input.offset();
        let order = self.order;
        let header = input.look(self.record_header)?;
        if header.is_empty() {
            return Ok(None);
        }
        let found = header.len();
        let what = "a record header";
        let truncated = || CaptureError::Truncated { offset, what, expected: 16, found: found as u64 };
        let number = |at| order.u32(header, at).ok_or_else(truncated);
        let (seconds, fraction, captured, original_length) = (number(0)?, number(4)?, number(8)?, number(12)?);
        if found < self.record_header {
            return Err(truncated());
        }
        if captured > MAX_PACKET {
            let (what, expected) = ("a record's captured length", "at most 262144");
            return Err(CaptureError::Absurd { offset, what, found: captured.into(), expected });
        }
        let length = captured as usize;
        let there = input.look(self.record_header + length)?.len();
        if there < self.record_header + length {
            let expected = (self.record_header + length) as u64;
            return Err(CaptureError::Truncated { offset, what: "a packet's record", expected, found: there as u64 });
        }
        Ok(Some(Found {
            time_ms: u64::from(seconds) * 1000 + u64::from(fraction / self.per_ms),
            link: self.link,
            original_length,
            before: self.record_header,
            length,
            after: 0,
        }))
    }
}
