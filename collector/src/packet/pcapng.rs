//! pcapng (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>): sections of blocks. A block is its type, its
//! length, a body, and its length again. Read are section headers, interface descriptions and the three kinds of packet
//! blocks; other blocks are passed over.

use std::io::Read;

use super::capture::{CaptureError, Found, MAX_PACKET};
use super::input::{Input, WINDOW};
use super::wire::{ByteOrder, bytes};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const PACKET: u32 = 6;

/// Interfaces of one section: more can't be named by old packet blocks.
const MAX_INTERFACES: usize = 65_536;

/// The section that is being read.
#[derive(Debug, Default)]
pub(super) struct Sections {
    order: ByteOrder,
    interfaces: Vec<Interface>,
    last_time_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: u16,
    snap_length: u32,
    unit: Unit,
    offset_s: i64,
}

/// The unit of an interface's time stamps.
#[derive(Debug, Clone, Copy)]
enum Unit {
    /// So many ms.
    Milliseconds(u64),
    /// A part of a ms.
    PerMillisecond(u64),
    /// A second over a power of two.
    Binary(u32),
}

impl Unit {
    /// Option `if_tsresol`: a negative power of ten, or of two if the highest bit is set.
    fn of(resolution: u8) -> Self {
        let power = u32::from(resolution & 0x7f);
        match (resolution & 0x80 != 0, power) {
            (true, _) => Self::Binary(power),
            (false, 0..=3) => Self::Milliseconds(10u64.pow(3 - power)),
            (false, _) => Self::PerMillisecond(10u64.saturating_pow(power - 3)),
        }
    }

    fn to_ms(self, ticks: u64) -> u64 {
        match self {
            Self::Milliseconds(ms) => ticks.saturating_mul(ms),
            Self::PerMillisecond(parts) => ticks / parts,
            Self::Binary(power) => ((u128::from(ticks) * 1000) >> power).try_into().unwrap_or(u64::MAX),
        }
    }
}

/// The head of a block, and where it begins.
#[derive(Clone, Copy)]
struct Head {
    offset: u64,
    kind: u32,
    length: u32,
}

impl Head {
    fn absurd(&self, what: &'static str, found: u32, expected: &'static str) -> CaptureError {
        CaptureError::Absurd { offset: self.offset, what, found: found.into(), expected }
    }

    fn truncated(&self, found: u64) -> CaptureError {
        let expected = self.length.into();
        CaptureError::Truncated { offset: self.offset, what: "a block", expected, found }
    }
}

impl Sections {
    /// Reads on to the next packet.
    pub(super) fn next<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<Found>, CaptureError> {
        while let Some(head) = self.head(input)? {
            if !matches!(head.kind, SECTION_HEADER | INTERFACE | OLD_PACKET | SIMPLE_PACKET | PACKET) {
                self.pass_over(head, input)?;
                continue;
            }
            let length = head.length as usize;
            if length > WINDOW {
                return Err(head.absurd("a block's length", head.length, "at most 524288"));
            }
            let block = input.look(length)?;
            if block.len() < length {
                return Err(head.truncated(block.len() as u64));
            }
            let again = self.order.u32(block, length - 4).unwrap_or(0);
            if again != head.length {
                return Err(head.absurd("the length at a block's end", again, "that at its begin"));
            }
            let found = match head.kind {
                SECTION_HEADER => {
                    self.interfaces.clear();
                    None
                }
                INTERFACE => {
                    self.interface(head, block)?;
                    None
                }
                _ => Some(self.packet(head, block)?),
            };
            match found {
                Some(found) => return Ok(Some(found)),
                None => input.take(length),
            };
        }
        Ok(None)
    }

    /// Looks at the next block's head; of a section header, takes over its byte order.
    fn head<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<Head>, CaptureError> {
        let offset = input.offset();
        let start = input.look(12)?;
        if start.is_empty() {
            return Ok(None);
        }
        let (found, what) = (start.len() as u64, "a block's head");
        let truncated = || CaptureError::Truncated { offset, what, expected: 12, found };
        let magic: [u8; 4] = bytes(start, 8).ok_or_else(truncated)?;
        if bytes(start, 0) == Some(SECTION_HEADER.to_be_bytes()) {
            self.order = match u32::from_be_bytes(magic) {
                0x1a2b_3c4d => ByteOrder::Big,
                0x4d3c_2b1a => ByteOrder::Little,
                found => {
                    let (what, expected) = ("a section's byte-order magic", "1a2b3c4d (439041101) in either order");
                    return Err(CaptureError::Absurd { offset, what, found: found.into(), expected });
                }
            };
        }
        let kind = self.order.u32(start, 0).ok_or_else(truncated)?;
        let length = self.order.u32(start, 4).ok_or_else(truncated)?;
        let head = Head { offset, kind, length };
        let least = match kind {
            SECTION_HEADER => 28,
            INTERFACE => 20,
            SIMPLE_PACKET => 16,
            OLD_PACKET | PACKET => 32,
            _ => 12,
        };
        if length < least || !length.is_multiple_of(4) {
            return Err(head.absurd("a block's length", length, "a multiple of 4 that holds the block's fields"));
        }
        Ok(Some(head))
    }

    fn pass_over<R: Read>(&self, head: Head, input: &mut Input<R>) -> Result<(), CaptureError> {
        let body = u64::from(head.length) - 4;
        let there = input.skip(body)?;
        let Some(again) = (if there < body { None } else { input.look_at::<4>()? }) else {
            return Err(head.truncated(there));
        };
        let again = self.order.u32(&again, 0).unwrap_or(0);
        if again != head.length {
            return Err(head.absurd("the length at a block's end", again, "that at its begin"));
        }
        input.take(4);
        Ok(())
    }

    fn interface(&mut self, head: Head, block: &[u8]) -> Result<(), CaptureError> {
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(head.absurd("a section's number of interfaces", 65_537, "at most 65536"));
        }
        let (order, link) = (self.order, self.order.u16(block, 8).unwrap_or(0));
        let snap_length = order.u32(block, 12).unwrap_or(0);
        let mut interface = Interface { link, snap_length, unit: Unit::of(6), offset_s: 0 };
        let options = block.get(16..block.len() - 4).unwrap_or_default();
        let mut at = 0;
        // An option that runs past its block only costs the options behind it.
        while let (Some(code @ 1..), Some(length)) = (order.u16(options, at), order.u16(options, at + 2)) {
            let length = usize::from(length);
            match (code, length) {
                (9, 1..) => interface.unit = options.get(at + 4).map_or(interface.unit, |&byte| Unit::of(byte)),
                (14, 8..) => interface.offset_s = order.i64(options, at + 4).unwrap_or(0),
                _ => {}
            }
            at += 4 + length.next_multiple_of(4);
        }
        self.interfaces.push(interface);
        Ok(())
    }

    fn packet(&mut self, head: Head, block: &[u8]) -> Result<Found, CaptureError> {
        let order = self.order;
        let number = |at| order.u32(block, at).unwrap_or(0);
        let interface = match head.kind {
            PACKET => number(8),
            OLD_PACKET => order.u16(block, 8).unwrap_or(0).into(),
            _ => 0,
        };
        let Some(known) = self.interfaces.get(interface as usize) else {
            return Err(head.absurd("a packet's interface", interface, "one that was described before"));
        };
        let (before, captured, original_length) = if head.kind == SIMPLE_PACKET {
            let room = head.length - 16;
            let limit = if known.snap_length == 0 { u32::MAX } else { known.snap_length };
            (12, number(8).min(limit).min(room), number(8))
        } else {
            let ticks = u64::from(number(12)) << 32 | u64::from(number(16));
            self.last_time_ms = known.unit.to_ms(ticks).saturating_add_signed(known.offset_s.saturating_mul(1000));
            (28, number(20), number(24))
        };
        let (length, block_length) = (captured as usize, block.len());
        if captured > MAX_PACKET || before + length + 4 > block_length {
            return Err(head.absurd(
                "a packet's captured length",
                captured,
                "at most 262144, and what its block holds",
            ));
        }
        Ok(Found {
            time_ms: self.last_time_ms,
            link: known.link,
            original_length,
            before,
            length,
            after: block_length - before - length,
        })
    }
}
