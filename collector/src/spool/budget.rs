//! What is given up when the disk budget is exceeded: counted segments first, then detail (slices of one bucket are
//! merged), then the oldest slices. What may have been sent is never merged (its owner could count it twice), only dropped,
//! and then a tombstone says so.

use std::collections::BTreeMap;

use super::{
    Spool,
    error::Error,
    file_layer::FileLayer,
    reading::StoredSlice,
    record::{Part, Record, SliceMeta, Tombstone},
    standing::Numbering,
    state::{Kept, may_be_sent},
    upkeep::Tally,
};

/// Most slices that one record drops.
const DROPPED_TOGETHER: usize = 1_024;

/// What was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relief {
    /// A segment whose slices were all counted: nothing is lost, but a restored store can't be fed from it.
    Forgot {
        /// Bytes of the file.
        bytes: u64,
    },
    /// Slices were merged: nothing is lost but their times within the bucket.
    Coarsened {
        /// Their numbers.
        replaced: Vec<u64>,
        /// What stands for them.
        into: SliceMeta,
    },
    /// A slice is gone, uncounted; its parts' tombstones are sent instead.
    Dropped {
        /// What it was.
        slice: SliceMeta,
    },
}

/// Payloads merged into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The payload.
    pub payload: Vec<u8>,
    /// Rows of each shard in it, by shard.
    pub rows: BTreeMap<u32, u32>,
}

/// Merges payloads of slices of one bucket, oldest first.
pub type Merge<'m> = dyn FnMut(&[StoredSlice]) -> Result<Merged, String> + 'm;

/// The next thing to give up.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    Forget(u64),
    Coarsen(Vec<u64>),
    Drop(Vec<u64>),
}

impl<L: FileLayer> Spool<L> {
    /// Bytes on the disk, and waiting for it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum::<u64>() + self.waiting.bytes.len() as u64
    }

    /// True if [`Spool::relieve`] has something to do.
    #[must_use]
    pub fn is_over_budget(&self) -> bool {
        self.state.slices.len() > self.options.max_slices
            || (self.bytes() > self.options.budget() && self.bytes() - self.idle_bytes() > self.options.budget())
    }

    fn idle_bytes(&self) -> u64 {
        self.idle().iter().filter_map(|number| self.segments.get(number)).map(|segment| segment.bytes).sum()
    }

    /// Gives up what it must to be within the budget, least valuable first, and says what.
    ///
    /// # Errors
    /// The file system's. What it says is given up is so, all the same, after the next sync; it is in [`Spool::counts`].
    pub fn relieve(&mut self, merge: &mut Merge<'_>) -> Result<Vec<Relief>, Error> {
        let mut reliefs = Vec::new();
        self.sync()?;
        self.delete_idle()?;
        while self.is_over_budget() {
            let Some(plan) = self.plan() else { break };
            match plan {
                Plan::Forget(number) => {
                    let bytes = self.segments.get(&number).map_or(0, |segment| segment.bytes);
                    self.delete(&[number])?;
                    reliefs.push(Relief::Forgot { bytes });
                }
                Plan::Coarsen(slices) => {
                    reliefs.push(self.coarsen(&slices, merge)?);
                    // One merged payload in memory at a time; what it stands for can go behind it.
                    self.sync()?;
                    self.delete_idle()?;
                }
                Plan::Drop(slices) => reliefs.extend(self.drop_slices(&slices)?),
            }
        }
        self.sync()?;
        self.delete_idle()?;
        Ok(reliefs)
    }

    /// Deletes counted segments for as long as the budget is exceeded; bytes by which it still is.
    ///
    /// # Errors
    /// The file system's.
    pub fn forget_counted(&mut self) -> Result<u64, Error> {
        self.sync()?;
        self.delete_idle()?;
        while self.is_over_budget()
            && let Some(number) = self.forgettable(&self.tallies())
        {
            self.delete(&[number])?;
        }
        let over = self.bytes().saturating_sub(self.idle_bytes()).saturating_sub(self.options.budget());
        Ok(if self.is_over_budget() { over.max(1) } else { 0 })
    }

    /// Makes room where the disk is full though the budget is not: a counted segment goes, or else the oldest with all its
    /// slices, before the tombstones that stand for them are durable. A crash in between shows them as missing.
    ///
    /// # Errors
    /// The disk is still too full, or the file system refuses something else.
    pub fn make_room(&mut self) -> Result<Vec<Relief>, Error> {
        let tallies = self.tallies();
        let counted = self.forgettable(&tallies);
        let oldest =
            || self.segments.keys().copied().find(|number| !self.is_active(*number) && tallies.contains_key(number));
        let mut reliefs = Vec::new();
        if let Some(number) = counted.or_else(oldest) {
            let in_it = |kept: &&Kept| kept.place.segment == number && !kept.trimmed;
            let live: Vec<u64> = self.state.slices.values().filter(in_it).map(|kept| kept.meta.slice_no).collect();
            let bytes = self.segments.get(&number).map_or(0, |segment| segment.bytes);
            if live.is_empty() {
                reliefs.push(Relief::Forgot { bytes });
            }
            // Of one incarnation at a time.
            let incarnation = |slice_no: &u64| self.state.slices.get(slice_no).map(|kept| kept.meta.incarnation);
            let groups: Vec<Vec<u64>> =
                live.chunk_by(|a, b| incarnation(a) == incarnation(b)).map(<[u64]>::to_vec).collect();
            for group in groups {
                reliefs.extend(self.drop_slices(&group)?);
            }
            self.delete(&[number])?;
        }
        self.sync()?;
        Ok(reliefs)
    }

    /// Drops a slice, uncounted: because there is no room, or because it can't be read. Counts after the next sync.
    ///
    /// # Errors
    /// There is no such slice, or too much waits.
    pub fn give_up(&mut self, slice_no: u64) -> Result<Relief, Error> {
        self.drop_slices(&[slice_no])?.pop().ok_or(Error::Unknown(slice_no))
    }

    /// Drops slices of one incarnation, ascending. Parts that are counted already are not lost. Counts after the next sync.
    ///
    /// # Errors
    /// One of them is not there, or is counted; or too much waits.
    pub fn drop_slices(&mut self, slices: &[u64]) -> Result<Vec<Relief>, Error> {
        let mut lost: Vec<(Part, u64)> = Vec::new();
        let mut reliefs = Vec::with_capacity(slices.len());
        for slice_no in slices {
            let kept = self.state.slices.get(slice_no).filter(|kept| !kept.trimmed).ok_or(Error::Unknown(*slice_no))?;
            let slice = &kept.meta;
            let numbering = self.state.standing.numbering(slice.incarnation);
            let is_counted = |part: &&Part| {
                let pair = numbering.and_then(|numbering| numbering.trimmed.get(part.shard as usize));
                pair.is_some_and(|pair| pair.covers(slice.bucket, part.seq))
            };
            lost.extend(slice.parts.iter().filter(|part| !is_counted(part)).map(|part| (*part, slice.bucket)));
            reliefs.push(Relief::Dropped { slice: slice.clone() });
        }
        let Some(Relief::Dropped { slice: SliceMeta { incarnation, .. } }) = reliefs.first() else {
            return Ok(reliefs);
        };
        let incarnation = *incarnation;
        lost.sort_by_key(|(part, _)| (part.shard, part.seq));
        let mut tombstones: Vec<Tombstone> = Vec::new();
        for (part, bucket) in &lost {
            let next = Tombstone::of(part, *bucket);
            if !tombstones.last_mut().is_some_and(|last| last.absorb(&next)) {
                tombstones.push(next);
            }
        }
        self.append(&Record::Dropped { incarnation, slices: slices.to_vec(), tombstones })?;
        self.counts.dropped_slices += slices.len() as u64;
        for (part, _) in &lost {
            self.counts.dropped_events = self.counts.dropped_events.saturating_add(part.events);
            self.counts.dropped_bytes = self.counts.dropped_bytes.saturating_add(part.bytes);
        }
        Ok(reliefs)
    }

    fn plan(&self) -> Option<Plan> {
        if let Some(number) = self.forgettable(&self.tallies()) {
            return Some(Plan::Forget(number));
        }
        let numberings = &self.state.standing.numberings;
        if let Some(slices) = coarsenable(self.state.slices.values(), numberings, self.options.merge_bytes) {
            return Some(Plan::Coarsen(slices));
        }
        let oldest = self.droppable();
        (!oldest.is_empty()).then_some(Plan::Drop(oldest))
    }

    /// As many of the oldest slices as must go so that the segments that are then empty make room enough.
    fn droppable(&self) -> Vec<u64> {
        let mut left: BTreeMap<u64, usize> =
            self.tallies().into_iter().map(|(number, tally)| (number, tally.live + tally.trimmed)).collect();
        let mut bytes = self.bytes().saturating_sub(self.idle_bytes()).saturating_sub(self.options.budget());
        let mut slices = self.state.slices.len().saturating_sub(self.options.max_slices);
        let mut oldest: Vec<u64> = Vec::new();
        let mut incarnation = None;
        for kept in self.state.slices.values().filter(|kept| !kept.trimmed) {
            let same = *incarnation.get_or_insert(kept.meta.incarnation) == kept.meta.incarnation;
            if !same || (bytes == 0 && slices == 0) || oldest.len() == DROPPED_TOGETHER {
                break;
            }
            oldest.push(kept.meta.slice_no);
            slices = slices.saturating_sub(1);
            let segment = kept.place.segment;
            if let Some(count) = left.get_mut(&segment) {
                *count -= 1;
                if *count == 0 && !self.is_active(segment) {
                    let freed = self.segments.get(&segment).map_or(0, |segment| segment.bytes);
                    bytes = bytes.saturating_sub(freed);
                }
            }
        }
        oldest
    }

    /// The oldest segment of which all slices are counted.
    fn forgettable(&self, tallies: &BTreeMap<u64, Tally>) -> Option<u64> {
        let counted = |number: &&u64| tallies.get(number).is_some_and(|tally| tally.live == 0 && tally.trimmed > 0);
        self.segments.keys().filter(counted).copied().find(|number| !self.is_active(*number))
    }

    /// Merges neighbouring slices of one bucket, of which nothing may have been sent, into the last of them. Where one of them
    /// can't be read or merged, it is dropped instead. Counts after the next sync.
    ///
    /// # Errors
    /// One of them is not there or may have been sent, or too much waits.
    pub fn coarsen(&mut self, slices: &[u64], merge: &mut Merge<'_>) -> Result<Relief, Error> {
        let mut read = Vec::with_capacity(slices.len());
        for slice_no in slices {
            let kept = self.state.slices.get(slice_no).ok_or(Error::Unknown(*slice_no))?;
            match self.read(*slice_no) {
                Ok(payload) => read.push(StoredSlice { meta: kept.meta.clone(), trimmed: false, payload }),
                Err(Error::Damaged { .. }) => return self.give_up(*slice_no),
                Err(error) => return Err(error),
            }
        }
        let metas: Vec<&SliceMeta> = read.iter().map(|slice| &slice.meta).collect();
        let (Some(first), Some(last)) = (slices.first(), slices.last()) else {
            return Err(Error::Refused("nothing is to be merged"));
        };
        let Ok(merged) = merge(&read) else { return self.give_up(*first) };
        let into = merged_meta(&metas, &merged.rows).ok_or(Error::Refused("nothing is to be merged"))?;
        self.append(&Record::Coarsened { replaces: *first..=*last, meta: into.clone(), payload: &merged.payload })?;
        self.counts.coarsened_slices += slices.len() as u64;
        Ok(Relief::Coarsened { replaced: slices.to_vec(), into })
    }
}

/// The oldest run of two or more neighbouring slices of one bucket of which nothing may have been sent, and whose frames
/// together stay below `limit` bytes.
fn coarsenable<'k>(slices: impl Iterator<Item = &'k Kept>, numberings: &[Numbering], limit: u64) -> Option<Vec<u64>> {
    let unsent = |kept: &Kept| {
        let numbering = numberings.iter().find(|numbering| numbering.incarnation == kept.meta.incarnation);
        let sent = |numbering| kept.meta.parts.iter().any(|part| may_be_sent(part, numbering));
        !kept.trimmed && numbering.is_some_and(|numbering| !sent(numbering))
    };
    let mut run: Vec<&Kept> = Vec::new();
    let mut bytes = 0u64;
    for kept in slices {
        let follows = |before: &&&Kept| {
            before.meta.bucket == kept.meta.bucket && before.meta.incarnation == kept.meta.incarnation
        };
        let joins =
            unsent(kept) && bytes.saturating_add(kept.place.bytes) < limit && run.last().as_ref().is_some_and(follows);
        if joins {
            run.push(kept);
            bytes = bytes.saturating_add(kept.place.bytes);
        } else if run.len() > 1 {
            break;
        } else {
            run.clear();
            bytes = 0;
            if unsent(kept) {
                run.push(kept);
                bytes = kept.place.bytes;
            }
        }
    }
    (run.len() > 1).then(|| run.iter().map(|kept| kept.meta.slice_no).collect())
}

/// What stands for slices: each shard's batches under the highest of their numbers.
fn merged_meta(slices: &[&SliceMeta], rows: &BTreeMap<u32, u32>) -> Option<SliceMeta> {
    let (first, last) = (slices.first()?, slices.last()?);
    let mut parts: BTreeMap<u32, Part> = BTreeMap::new();
    for part in slices.iter().flat_map(|slice| &slice.parts) {
        let rows = rows.get(&part.shard).copied().unwrap_or(0);
        let merged = parts.entry(part.shard).or_insert(Part { rows, events: 0, bytes: 0, ..*part });
        merged.seq = merged.seq.max(part.seq);
        merged.first_seq = merged.first_seq.min(part.first_seq);
        merged.events = merged.events.saturating_add(part.events);
        merged.bytes = merged.bytes.saturating_add(part.bytes);
    }
    let parts = parts.into_values().collect();
    Some(SliceMeta { slice_no: last.slice_no, start: first.start, parts, ..(*first).clone() })
}
