//! Numbers and lists as bytes: little-endian, lists behind a count of 4 bytes. Reading never takes more memory than the
//! bytes that are there could fill.

use super::record::{Incarnation, Pair, Part, SliceMeta, Tombstone};

/// Appends numbers and lists.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn incarnation(&mut self, value: Incarnation) {
        self.0.extend_from_slice(&value.0);
    }

    pub(super) fn text(&mut self, value: &str) {
        self.list(value.as_bytes(), |writer, byte| writer.0.push(*byte));
    }

    /// Lists are bounded by the limits of what they are part of, far below 2^32.
    pub(super) fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
        items.iter().for_each(|item| each(self, item));
    }

    pub(super) fn pair(&mut self, pair: &Pair) {
        self.u64(pair.bucket);
        self.u64(pair.seq);
    }

    pub(super) fn slice(&mut self, meta: &SliceMeta) {
        self.u64(meta.slice_no);
        self.incarnation(meta.incarnation);
        self.u64(meta.start);
        self.u64(meta.bucket);
        self.list(&meta.parts, |writer, part| {
            writer.u32(part.shard);
            writer.u32(part.rows);
            writer.u64(part.first_seq);
            writer.u64(part.seq);
            writer.u64(part.events);
            writer.u64(part.bytes);
        });
    }

    pub(super) fn tombstone(&mut self, tombstone: &Tombstone) {
        self.u32(tombstone.shard);
        self.u64(tombstone.first_seq);
        self.u64(tombstone.last_seq);
        self.list(&tombstone.buckets, |writer, bucket| writer.u64(*bucket));
        self.u64(tombstone.events);
        self.u64(tombstone.bytes);
    }
}

/// Takes numbers and lists from the front of some bytes; `None` where they end too early.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn incarnation(&mut self) -> Option<Incarnation> {
        self.array().map(Incarnation)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(front.to_vec()).ok()
    }

    /// A list of items that take at least `least` bytes each.
    pub(super) fn list<T>(&mut self, least: usize, mut each: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()? as usize;
        if count > self.0.len() / least {
            return None;
        }
        (0..count).map(|_| each(self)).collect()
    }

    pub(super) fn pair(&mut self) -> Option<Pair> {
        Some(Pair { bucket: self.u64()?, seq: self.u64()? })
    }

    pub(super) fn slice(&mut self) -> Option<SliceMeta> {
        Some(SliceMeta {
            slice_no: self.u64()?,
            incarnation: self.incarnation()?,
            start: self.u64()?,
            bucket: self.u64()?,
            parts: self.list(40, |reader| {
                Some(Part {
                    shard: reader.u32()?,
                    rows: reader.u32()?,
                    first_seq: reader.u64()?,
                    seq: reader.u64()?,
                    events: reader.u64()?,
                    bytes: reader.u64()?,
                })
            })?,
        })
    }

    pub(super) fn tombstone(&mut self) -> Option<Tombstone> {
        Some(Tombstone {
            shard: self.u32()?,
            first_seq: self.u64()?,
            last_seq: self.u64()?,
            buckets: self.list(8, Self::u64)?,
            events: self.u64()?,
            bytes: self.u64()?,
        })
    }

    /// `value`, if nothing is left.
    pub(super) fn done<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}
