//! The state machine: what stands after each record. The same code runs when a record is appended and when it is read
//! back, so that what is recovered is what was.

use std::collections::BTreeMap;

use super::{
    record::{Incarnation, Pair, Part, Record, SliceMeta, Tombstone},
    standing::{MAX_NUMBERINGS, Numbering, Standing},
};

/// Where a slice's frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the segment; 0 while it waits to be synced.
    pub(super) segment: u64,
    /// Offset in it (or in what waits).
    pub(super) offset: u64,
    /// Bytes of the frame.
    pub(super) bytes: u64,
}

/// A slice in the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) meta: SliceMeta,
    /// Number of its record.
    pub(super) record: u64,
    pub(super) place: Place,
    /// Wholly counted: kept only in case the store goes back.
    pub(super) trimmed: bool,
}

/// How much a record must agree with those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rigour {
    /// In all: it is new.
    All,
    /// Records between may be lost: gaps are fine, going back is not.
    Gaps,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) standing: Standing,
    /// By slice number.
    pub(super) slices: BTreeMap<u64, Kept>,
}

impl State {
    /// Takes a record, or refuses it and stays as it is.
    pub(super) fn apply(
        &mut self,
        number: u64,
        record: &Record<'_>,
        place: Place,
        rigour: Rigour,
    ) -> Result<(), &'static str> {
        match record {
            Record::Slice { meta, .. } => self.slice(number, meta, place, rigour)?,
            Record::Coarsened { replaces, meta, .. } => {
                self.check_coarsened((*replaces.start(), *replaces.end()), meta, rigour)?;
                let replaced: Vec<u64> = self.slices.range(replaces.clone()).map(|(slice_no, _)| *slice_no).collect();
                replaced.into_iter().for_each(|slice_no| self.remove(slice_no));
                self.keep(number, meta, place);
            }
            Record::Dropped { incarnation, slices, tombstones } => {
                self.check_dropped(*incarnation, slices, tombstones, rigour)?;
                slices.iter().for_each(|slice_no| self.remove(*slice_no));
                let numbering = self.standing.numbering_mut(*incarnation).ok_or(UNKNOWN)?;
                for tombstone in tombstones {
                    let next = numbering.next_seq.get_mut(tombstone.shard as usize).ok_or(NO_SHARD)?;
                    *next = (*next).max(tombstone.last_seq.saturating_add(1));
                    numbering.bury(tombstone.clone());
                }
            }
            Record::Mark { incarnation, sent } => self.mark(*incarnation, sent, rigour)?,
            Record::Trimmed { incarnation, pairs } => self.trim(*incarnation, pairs, rigour)?,
            Record::Checkpoint(bytes) => self.standing.checkpoint = Some((*bytes).into()),
            Record::Rolled { incarnation } => {
                if self.standing.numbering(*incarnation).is_some() {
                    return Err("its incarnation is not new");
                }
                if self.standing.numberings.len() >= MAX_NUMBERINGS {
                    return Err("as many incarnations as may be drain already");
                }
                self.standing.numberings.push(Numbering::new(*incarnation, self.standing.shards));
            }
        }
        self.standing.last_record = number;
        Ok(())
    }

    fn slice(&mut self, number: u64, meta: &SliceMeta, place: Place, rigour: Rigour) -> Result<(), &'static str> {
        if meta.slice_no <= self.standing.last_slice {
            return Err("its slice number does not grow");
        }
        if !ascending(&meta.parts) {
            return Err("its parts are not ordered by shard");
        }
        // Where records are lost, the one that began the numbering may be among them.
        let standing = &mut self.standing;
        if rigour == Rigour::Gaps
            && standing.numbering(meta.incarnation).is_none()
            && standing.numberings.len() < MAX_NUMBERINGS
        {
            standing.numberings.push(Numbering::new(meta.incarnation, standing.shards));
        }
        let open = standing.open_numberings();
        let mut newest = standing.numberings.iter_mut().rev().take(open);
        let numbering = newest.find(|numbering| numbering.incarnation == meta.incarnation);
        let numbering = numbering.ok_or("its incarnation is not the live one")?;
        for part in &meta.parts {
            let next = *numbering.next_seq.get(part.shard as usize).ok_or(NO_SHARD)?;
            let fits = part.first_seq == next || (rigour == Rigour::Gaps && part.first_seq > next);
            if !fits || part.first_seq > part.seq || part.seq == u64::MAX {
                return Err("its sequence numbers do not follow");
            }
        }
        for part in &meta.parts {
            if let Some(next) = numbering.next_seq.get_mut(part.shard as usize) {
                *next = part.seq + 1;
            }
        }
        self.standing.last_slice = meta.slice_no;
        self.keep(number, meta, place);
        Ok(())
    }

    /// Enters a slice; whether it is counted already, the pairs say.
    pub(super) fn keep(&mut self, number: u64, meta: &SliceMeta, place: Place) {
        let numbering = self.standing.numbering(meta.incarnation);
        let trimmed = numbering.is_none_or(|numbering| is_counted(meta, numbering));
        self.slices.insert(meta.slice_no, Kept { meta: meta.clone(), record: number, place, trimmed });
    }

    /// Takes a slice out; its bytes stay until their segment goes.
    fn remove(&mut self, slice_no: u64) {
        if let Some(kept) = self.slices.remove(&slice_no) {
            self.standing.removed.insert(kept.record..=kept.record);
        }
    }

    fn check_coarsened(&self, (first, last): (u64, u64), meta: &SliceMeta, rigour: Rigour) -> Result<(), &'static str> {
        if first > last || meta.slice_no != last || last > self.standing.last_slice {
            return Err("a merged slice takes the place of the last that it stands for");
        }
        let numbering = self.standing.numbering(meta.incarnation).ok_or(UNKNOWN)?;
        if !ascending(&meta.parts) || meta.parts.iter().any(|part| part.shard >= self.standing.shards) {
            return Err("its parts are not ordered by shard");
        }
        if rigour == Rigour::Gaps {
            return Ok(());
        }
        let replaced: Vec<&Kept> = self.slices.range(first..=last).map(|(_, kept)| kept).collect();
        let same = |kept: &&Kept| {
            kept.meta.incarnation == meta.incarnation && kept.meta.bucket == meta.bucket && !kept.trimmed
        };
        if replaced.len() < 2 || !replaced.iter().all(same) {
            return Err("only uncounted slices of one bucket and incarnation are merged");
        }
        let mut parts: Vec<&Part> = replaced.iter().flat_map(|kept| &kept.meta.parts).collect();
        parts.sort_by_key(|part| (part.shard, part.seq));
        if parts.iter().any(|part| may_be_sent(part, numbering)) {
            return Err("what may have been sent is never merged");
        }
        let groups: Vec<(u32, u64, u64)> = parts
            .chunk_by(|a, b| a.shard == b.shard)
            .filter_map(|group| Some((group.first()?.shard, group.first()?.first_seq, group.last()?.seq)))
            .collect();
        let made = meta.parts.iter().map(|part| (part.shard, part.first_seq, part.seq));
        if !made.eq(groups) {
            return Err("a merged batch takes the highest number of its group");
        }
        Ok(())
    }

    fn check_dropped(
        &self,
        incarnation: Incarnation,
        slices: &[u64],
        tombstones: &[Tombstone],
        rigour: Rigour,
    ) -> Result<(), &'static str> {
        self.standing.numbering(incarnation).ok_or(UNKNOWN)?;
        let known = |slice_no: &u64| {
            self.slices.get(slice_no).map_or(rigour == Rigour::Gaps, |kept| kept.meta.incarnation == incarnation)
        };
        if !slices.iter().all(known) {
            return Err("it drops slices that are not there");
        }
        if tombstones.iter().any(|tombstone| tombstone.shard >= self.standing.shards) {
            return Err(NO_SHARD);
        }
        let upside_down = |tombstone: &Tombstone| {
            tombstone.first_seq > tombstone.last_seq || tombstone.last_seq == u64::MAX || !tombstone.buckets.is_sorted()
        };
        if tombstones.iter().any(upside_down) {
            return Err("a tombstone's numbers or buckets are out of order");
        }
        Ok(())
    }

    fn mark(&mut self, incarnation: Incarnation, sent: &[(u32, u64)], rigour: Rigour) -> Result<(), &'static str> {
        let numbering = self.standing.numbering_mut(incarnation).ok_or(UNKNOWN)?;
        for (shard, seq) in sent {
            let next = *numbering.next_seq.get(*shard as usize).ok_or(NO_SHARD)?;
            if *seq >= next && rigour == Rigour::All {
                return Err("a mark lies beyond what was appended");
            }
        }
        for (shard, seq) in sent {
            if let Some(old) = numbering.sent.get_mut(*shard as usize) {
                *old = (*old).max(*seq);
            }
        }
        Ok(())
    }

    fn trim(&mut self, incarnation: Incarnation, pairs: &[(u32, Pair)], rigour: Rigour) -> Result<(), &'static str> {
        let numbering = self.standing.numbering_mut(incarnation).ok_or(UNKNOWN)?;
        for (shard, pair) in pairs {
            let next = *numbering.next_seq.get(*shard as usize).ok_or(NO_SHARD)?;
            if pair.seq >= next && rigour == Rigour::All {
                return Err("a pair lies beyond what was appended");
            }
        }
        pairs.iter().for_each(|(shard, pair)| numbering.count(*shard, *pair));
        self.settle(Some(incarnation));
        Ok(())
    }

    /// Marks what the pairs cover by now, of one incarnation or of all.
    pub(super) fn settle(&mut self, only: Option<Incarnation>) {
        for kept in self.slices.values_mut().filter(|kept| !kept.trimmed) {
            if only.is_none_or(|only| only == kept.meta.incarnation) {
                let numbering = self.standing.numbering(kept.meta.incarnation);
                kept.trimmed = numbering.is_none_or(|numbering| is_counted(&kept.meta, numbering));
            }
        }
    }

    /// Forgets numberings of which nothing is left and that get nothing any more.
    pub(super) fn retire(&mut self) {
        let closed = self.standing.numberings.len().saturating_sub(self.standing.open_numberings());
        let slices = &self.slices;
        let is_done = |numbering: &mut Numbering| {
            let has_slices = || slices.values().any(|kept| kept.meta.incarnation == numbering.incarnation);
            numbering.tombstones.is_empty() && !has_slices()
        };
        self.standing.numberings.extract_if(..closed, is_done).for_each(drop);
    }
}

const UNKNOWN: &str = "its incarnation is unknown";
const NO_SHARD: &str = "it names a shard that the cluster has not";

fn ascending(parts: &[Part]) -> bool {
    parts.is_sorted_by(|a, b| a.shard < b.shard)
}

fn is_counted(meta: &SliceMeta, numbering: &Numbering) -> bool {
    meta.parts
        .iter()
        .all(|part| numbering.trimmed.get(part.shard as usize).is_some_and(|pair| pair.covers(meta.bucket, part.seq)))
}

/// True if the part, or one that went into it, lies below the mark.
pub(super) fn may_be_sent(part: &Part, numbering: &Numbering) -> bool {
    numbering.sent.get(part.shard as usize).is_none_or(|sent| part.first_seq <= *sent)
}
