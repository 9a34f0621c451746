//! What a spool knows besides its slices: numberings, marks, pairs, tombstones, the check-point. Small enough to begin
//! every segment with, so that any segment may go.

use std::sync::Arc;

use spikewatch_domain::shard::MAX_SHARDS;

use super::{
    codec::{Reader, Writer},
    number_set::NumberSet,
    record::{Incarnation, Pair, Tombstone},
};

/// Most numberings that drain at once, the live one included.
pub const MAX_NUMBERINGS: usize = 16;

/// One incarnation's numbers, per shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbering {
    /// Its name.
    pub incarnation: Incarnation,
    /// The number that the shard's next batch gets.
    pub next_seq: Vec<u64>,
    /// Batches up to this may have been sent.
    pub sent: Vec<u64>,
    /// What is counted.
    pub trimmed: Vec<Pair>,
    /// What is gone and not yet covered by a pair, by shard and number.
    pub tombstones: Vec<Tombstone>,
}

impl Numbering {
    pub(super) fn new(incarnation: Incarnation, shards: u32) -> Self {
        let shards = shards as usize;
        Self {
            incarnation,
            next_seq: vec![1; shards],
            sent: vec![0; shards],
            trimmed: vec![Pair::default(); shards],
            tombstones: Vec::new(),
        }
    }

    /// Enters a tombstone in its place. Two neighbours become one unless the first may have been sent by itself. Slices
    /// may have been merged across one that was dropped before: when they go too, its tombstone is part of theirs.
    pub(super) fn bury(&mut self, mut tombstone: Tombstone) {
        let inner: Vec<_> = self.tombstones.extract_if(.., |other| tombstone.spans(other)).collect();
        inner.iter().for_each(|inner| tombstone.include(inner));
        let key = (tombstone.shard, tombstone.first_seq);
        let at = self.tombstones.partition_point(|other| (other.shard, other.first_seq) < key);
        let sent = self.sent.get(tombstone.shard as usize).copied().unwrap_or(u64::MAX);
        let before = at.checked_sub(1).and_then(|before| self.tombstones.get_mut(before));
        if !before.is_some_and(|before| before.last_seq > sent && before.absorb(&tombstone)) {
            self.tombstones.insert(at, tombstone);
        }
    }

    /// Moves a pair forward, and forgets the tombstones it covers. A pair never goes back.
    pub(super) fn count(&mut self, shard: u32, pair: Pair) {
        let Some(old) = self.trimmed.get_mut(shard as usize) else { return };
        if pair.bucket >= old.bucket && pair.seq >= old.seq {
            *old = pair;
            self.tombstones.retain(|tombstone| tombstone.shard != shard || !tombstone.is_covered(pair));
        }
    }

    fn write(&self, writer: &mut Writer) {
        writer.incarnation(self.incarnation);
        for ((next, sent), pair) in self.next_seq.iter().zip(&self.sent).zip(&self.trimmed) {
            writer.u64(*next);
            writer.u64(*sent);
            writer.pair(pair);
        }
        writer.list(&self.tombstones, Writer::tombstone);
    }

    fn read(reader: &mut Reader<'_>, shards: u32) -> Option<Self> {
        let mut numbering = Self::new(reader.incarnation()?, 0);
        for _ in 0..shards {
            numbering.next_seq.push(reader.u64()?);
            numbering.sent.push(reader.u64()?);
            numbering.trimmed.push(reader.pair()?);
        }
        numbering.tombstones = reader.list(40, Reader::tombstone)?;
        Some(numbering)
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// Shards of the cluster: the length of every list by shard.
    pub(super) shards: u32,
    /// Number of the last record that went into it.
    pub(super) last_record: u64,
    /// Number of the last slice; 0 if none.
    pub(super) last_slice: u64,
    /// Oldest first; the last one is live.
    pub(super) numberings: Vec<Numbering>,
    /// Records of slices that were dropped or merged, though their bytes may still be there.
    pub(super) removed: NumberSet,
    /// The newest check-point.
    pub(super) checkpoint: Option<Arc<[u8]>>,
}

impl Standing {
    pub(super) fn new(shards: u32, incarnation: Incarnation) -> Self {
        Self {
            shards,
            last_record: 0,
            last_slice: 0,
            numberings: vec![Numbering::new(incarnation, shards)],
            removed: NumberSet::default(),
            checkpoint: None,
        }
    }

    pub(super) fn numbering(&self, incarnation: Incarnation) -> Option<&Numbering> {
        self.numberings.iter().find(|numbering| numbering.incarnation == incarnation)
    }

    pub(super) fn numbering_mut(&mut self, incarnation: Incarnation) -> Option<&mut Numbering> {
        self.numberings.iter_mut().find(|numbering| numbering.incarnation == incarnation)
    }

    /// How many of the newest numberings may get slices: the live one, and, until that has some, the one before, whose
    /// slices may have been numbered before it was known that another begins.
    pub(super) fn open_numberings(&self) -> usize {
        let is_unused = self.numberings.last().is_some_and(|live| live.next_seq.iter().all(|next| *next <= 1));
        if is_unused { 2 } else { 1 }
    }

    /// All but the check-point, which goes beside.
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.u32(self.shards);
        writer.u64(self.last_record);
        writer.u64(self.last_slice);
        writer.u32(u32::from(self.checkpoint.is_some()));
        writer.list(&self.numberings, |writer, numbering| numbering.write(writer));
        writer.list(&self.removed.runs(), |writer, (first, last)| {
            writer.u64(*first);
            writer.u64(*last);
        });
    }

    pub(super) fn read(reader: &mut Reader<'_>, checkpoint: &[u8]) -> Option<Self> {
        let shards = reader.u32().filter(|shards| (1..=MAX_SHARDS).contains(shards))?;
        let last_record = reader.u64()?;
        let last_slice = reader.u64()?;
        let checkpoint = (reader.u32()? == 1).then(|| Arc::from(checkpoint));
        let numberings = reader.list(16, |reader| Numbering::read(reader, shards))?;
        if numberings.is_empty() || numberings.len() > MAX_NUMBERINGS {
            return None;
        }
        let mut removed = NumberSet::default();
        for (first, last) in reader.list(16, |reader| Some((reader.u64()?, reader.u64()?)))? {
            removed.insert(first..=last);
        }
        Some(Self { shards, last_record, last_slice, numberings, removed, checkpoint })
    }
}
