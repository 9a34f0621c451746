//! Frames: how records lie in a segment.
//!
//! ```text
//!  0  magic           "SWf1"
//!  4  kind            see Kind
//!  5  packed          1 if the payload is zstd
//!  6  zero            2 bytes
//!  8  number          of the record: each is one above that before it
//! 16  meta length     bytes
//! 20  payload length  bytes, as stored
//! 24  payload CRC-32  of the salt and the payload as stored
//! 28  head CRC-32     of the salt, bytes 0..28 and the meta
//! 32  meta, then payload
//! ```
//!
//! The salt is the spool's random id (empty for a segment's first frame, which tells it): neither blocks of another spool
//! nor bytes that came over a network pass for a frame. All numbers are little-endian.

use super::{
    codec::{Reader, Writer},
    record::Record,
};

/// Bytes before a frame's meta.
pub(super) const HEADER_BYTES: usize = 32;
/// Most bytes of a payload, as stored: what fits the field, and memory.
pub(super) const MAX_PAYLOAD_BYTES: usize = 1 << 30;
/// Most bytes of a meta.
pub(super) const MAX_META_BYTES: usize = 64 << 20;
/// First bytes of every frame.
pub(super) const MAGIC: [u8; 4] = *b"SWf1";

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// First in a segment: [`super::head::Head`]; the payload is the check-point.
    Head = 1,
    Slice = 2,
    Coarsened = 3,
    Dropped = 4,
    Mark = 5,
    Trimmed = 6,
    Checkpoint = 7,
    Rolled = 8,
    /// All since the last one became durable together, or none of it counts.
    End = 9,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        const ALL: [Kind; 9] = [
            Kind::Head,
            Kind::Slice,
            Kind::Coarsened,
            Kind::Dropped,
            Kind::Mark,
            Kind::Trimmed,
            Kind::Checkpoint,
            Kind::Rolled,
            Kind::End,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The fixed part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) packed: bool,
    pub(super) number: u64,
    pub(super) meta_bytes: usize,
    pub(super) payload_bytes: usize,
    payload_crc: u32,
    head_crc: u32,
}

impl Header {
    /// Reads it. What it says is not yet to be believed: see [`Header::holds`].
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.u32()? != u32::from_le_bytes(MAGIC) {
            return None;
        }
        let [kind, packed, zero, zero_too] = reader.u32()?.to_le_bytes();
        let header = Self {
            kind: Kind::from_byte(kind)?,
            packed: packed == 1,
            number: reader.u64()?,
            meta_bytes: reader.u32()? as usize,
            payload_bytes: reader.u32()? as usize,
            payload_crc: reader.u32()?,
            head_crc: reader.u32()?,
        };
        let fits = header.meta_bytes <= MAX_META_BYTES && header.payload_bytes <= MAX_PAYLOAD_BYTES;
        (packed <= 1 && zero == 0 && zero_too == 0 && fits).then_some(header)
    }

    /// True if header and meta are what was written.
    pub(super) fn holds(&self, salt: &[u8], bytes: &[u8; HEADER_BYTES], meta: &[u8]) -> bool {
        let (front, _) = bytes.split_at(HEADER_BYTES - 4);
        crc(&[salt, front, meta]) == self.head_crc
    }

    /// True if the payload, as stored, is what was written.
    pub(super) fn payload_holds(&self, salt: &[u8], payload: &[u8]) -> bool {
        crc(&[salt, payload]) == self.payload_crc
    }

    /// The same for a payload that comes in pieces: `hasher` began with the salt.
    pub(super) fn payload_matches(&self, hasher: crc32fast::Hasher) -> bool {
        hasher.finalize() == self.payload_crc
    }

    /// Bytes of the whole frame.
    pub(super) fn frame_bytes(&self) -> u64 {
        (HEADER_BYTES + self.meta_bytes) as u64 + self.payload_bytes as u64
    }
}

fn crc(pieces: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    pieces.iter().for_each(|piece| hasher.update(piece));
    hasher.finalize()
}

/// Appends a frame. Meta and payload are bounded by the caller.
pub(super) fn write(
    out: &mut Vec<u8>,
    salt: &[u8],
    kind: Kind,
    number: u64,
    meta: &[u8],
    payload: &[u8],
    packed: bool,
) {
    let mut header = Writer(Vec::with_capacity(HEADER_BYTES));
    header.0.extend_from_slice(&MAGIC);
    header.0.extend_from_slice(&[kind as u8, u8::from(packed), 0, 0]);
    header.u64(number);
    header.u32(meta.len() as u32);
    header.u32(payload.len() as u32);
    header.u32(crc(&[salt, payload]));
    header.u32(crc(&[salt, &header.0, meta]));
    for piece in [&header.0, meta, payload] {
        out.extend_from_slice(piece);
    }
}

/// A record's kind and meta; its payload, if it has one, goes beside.
pub(super) fn encode(record: &Record<'_>) -> (Kind, Vec<u8>) {
    let mut writer = Writer::default();
    let kind = match record {
        Record::Slice { meta, .. } => {
            writer.slice(meta);
            Kind::Slice
        }
        Record::Coarsened { replaces, meta, .. } => {
            writer.u64(*replaces.start());
            writer.u64(*replaces.end());
            writer.slice(meta);
            Kind::Coarsened
        }
        Record::Dropped { incarnation, slices, tombstones } => {
            writer.incarnation(*incarnation);
            writer.list(slices, |writer, slice| writer.u64(*slice));
            writer.list(tombstones, Writer::tombstone);
            Kind::Dropped
        }
        Record::Mark { incarnation, sent } => {
            writer.incarnation(*incarnation);
            writer.list(sent, |writer, (shard, seq)| {
                writer.u32(*shard);
                writer.u64(*seq);
            });
            Kind::Mark
        }
        Record::Trimmed { incarnation, pairs } => {
            writer.incarnation(*incarnation);
            writer.list(pairs, |writer, (shard, pair)| {
                writer.u32(*shard);
                writer.pair(pair);
            });
            Kind::Trimmed
        }
        Record::Checkpoint(_) => Kind::Checkpoint,
        Record::Rolled { incarnation } => {
            writer.incarnation(*incarnation);
            Kind::Rolled
        }
    };
    (kind, writer.0)
}

/// The record of a frame; `payload` is that of a check-point, and empty for all else (slices' stay on the disk).
pub(super) fn decode<'a>(kind: Kind, meta: &[u8], payload: &'a [u8]) -> Option<Record<'a>> {
    let mut reader = Reader(meta);
    let record = match kind {
        Kind::Slice => Record::Slice { meta: reader.slice()?, payload },
        Kind::Coarsened => {
            let replaces = reader.u64()?..=reader.u64()?;
            Record::Coarsened { replaces, meta: reader.slice()?, payload }
        }
        Kind::Dropped => Record::Dropped {
            incarnation: reader.incarnation()?,
            slices: reader.list(8, Reader::u64)?,
            tombstones: reader.list(40, Reader::tombstone)?,
        },
        Kind::Mark => Record::Mark {
            incarnation: reader.incarnation()?,
            sent: reader.list(12, |reader| Some((reader.u32()?, reader.u64()?)))?,
        },
        Kind::Trimmed => Record::Trimmed {
            incarnation: reader.incarnation()?,
            pairs: reader.list(20, |reader| Some((reader.u32()?, reader.pair()?)))?,
        },
        Kind::Checkpoint => Record::Checkpoint(payload),
        Kind::Rolled => Record::Rolled { incarnation: reader.incarnation()? },
        Kind::Head | Kind::End => return None,
    };
    reader.done(record)
}
