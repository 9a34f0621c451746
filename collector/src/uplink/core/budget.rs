//! What to do when the disk is full: slices that can't have been sent are merged, bucket by bucket; then the oldest are
//! dropped, and a tombstone stands for each, which is sent as they would have been.
//!
//! Only batches above the mark are merged: were one of them at an owner already, the merged one could be neither skipped
//! nor counted.

use std::collections::BTreeMap;

use super::{
    Action, Alarm, Loss, Part, SliceNo, Ticket, Tombstone,
    lane::{Kept, Lane},
    line::{Grave, Line},
};

/// Slices merged at once.
const MAX_TOGETHER: usize = 32;
/// Slices looked at, from the oldest on.
const MAX_LOOK: usize = 512;
/// Tombstones kept per shard; beyond, the two oldest become one.
const MAX_TOMBSTONES: usize = 1024;
/// Buckets that one tombstone names.
const MAX_BUCKETS: usize = 1024;

impl Lane {
    /// Merges the oldest slices that can be, all of one bucket. False if there are none.
    pub(super) fn coarsen(&mut self, ticket: Ticket, actions: &mut Vec<Action>) -> bool {
        if self.slices.values().any(|kept| kept.merging) {
            // One merge at a time; what it frees will be seen.
            return true;
        }
        let mut by_bucket: BTreeMap<u64, Vec<SliceNo>> = BTreeMap::new();
        let unsent = |kept: &Kept| {
            kept.is_durable(self.durable)
                && kept.parts.iter().all(|part| {
                    part.committed || self.lines.get(part.shard as usize).is_some_and(|line| part.seq > line.marked)
                })
        };
        for (slice_no, kept) in self.slices.iter().take(MAX_LOOK).filter(|(_, kept)| unsent(kept)) {
            let group = by_bucket.entry(kept.bucket).or_default();
            if group.len() < MAX_TOGETHER {
                group.push(*slice_no);
            }
        }
        let Some(group) = by_bucket.into_values().find(|group| group.len() > 1) else { return false };
        self.merge(&group, ticket, actions);
        true
    }

    /// The result takes the place and the numbers of the last of them.
    fn merge(&mut self, group: &[SliceNo], ticket: Ticket, actions: &mut Vec<Action>) {
        let (Some(&first), Some(&into)) = (group.first(), group.last()) else { return };
        let mut parts: BTreeMap<u32, Part> = BTreeMap::new();
        let mut sources = Vec::with_capacity(group.len());
        let mut merged = Kept { bucket: 0, ticket, merging: true, after: 0, parts: Vec::new(), stored: 0 };
        for slice_no in group {
            let Some(kept) = self.slices.remove(slice_no) else { continue };
            merged.bucket = kept.bucket;
            merged.stored += kept.stored;
            let mut shards = Vec::with_capacity(kept.parts.len());
            for part in kept.parts.into_iter().filter(|part| !part.committed) {
                shards.push(part.shard);
                let Some(line) = self.lines.get_mut(part.shard as usize) else { continue };
                line.pending.remove(&part.seq);
                line.pending.insert(part.seq, into);
                if let Some(before) = parts.get_mut(&part.shard) {
                    line.merge(before.seq, ticket);
                    before.seq = part.seq;
                    before.rows = before.rows.saturating_add(part.rows);
                    before.holds.add(part.holds);
                } else {
                    parts.insert(part.shard, part);
                }
            }
            sources.push((*slice_no, shards));
            // What was cut in between must not vouch for what comes later now.
            merged.after = if *slice_no == first { kept.after } else { merged.after };
        }
        for kept in self.slices.range_mut(first..into).map(|(_, kept)| kept) {
            kept.after = kept.after.min(merged.after);
        }
        merged.parts = parts.into_values().collect();
        let parts = merged.parts.clone();
        self.slices.insert(into, merged);
        actions.push(Action::Coarsen { ticket, lane: self.number, sources, into, parts });
    }

    /// A merge is written.
    pub(super) fn coarsened(&mut self, slice_no: SliceNo, rows: &[u32], stored: u64) {
        let Some(kept) = self.slices.get_mut(&slice_no).filter(|kept| kept.merging) else { return };
        (kept.merging, kept.stored) = (false, stored);
        for (part, rows) in kept.parts.iter_mut().zip(rows) {
            part.rows = *rows;
        }
    }

    /// Drops the oldest slices until so many bytes are free, but for the newest one.
    pub(super) fn drop_oldest(&mut self, bytes: u64, ticket: Ticket, actions: &mut Vec<Action>) {
        let (mut freed, mut slices, mut lost) = (0, Vec::new(), Loss::default());
        let mut tombstones: BTreeMap<(u32, u64), Tombstone> = BTreeMap::new();
        while freed < bytes
            && self.slices.len() > 1
            && let Some(oldest) = self.slices.first_entry()
            && oldest.get().is_durable(self.durable)
        {
            let (slice_no, kept) = oldest.remove_entry();
            freed += kept.stored;
            slices.push(slice_no);
            for part in kept.parts.into_iter().filter(|part| !part.committed) {
                lost.add(part.holds);
                let Some(line) = self.lines.get_mut(part.shard as usize) else { continue };
                let stone = line.bury(&part, kept.bucket, ticket);
                tombstones.insert((stone.shard, stone.first_seq), stone);
            }
        }
        if !slices.is_empty() {
            let (lane, count) = (self.number, slices.len());
            let tombstones = tombstones.into_values().collect();
            actions.push(Action::Drop { ticket, lane, slices, tombstones });
            actions.push(Action::Alarm(Alarm::Dropped { slices: count, lost }));
        }
    }
}

impl Line {
    /// Puts a tombstone in a batch's place, or widens the one before it. One that may have been sent has a tombstone of
    /// its own, so that its loss can be taken back when it turns out to be counted.
    fn bury(&mut self, part: &Part, bucket: u64, ticket: Ticket) -> Tombstone {
        self.pending.remove(&part.seq);
        let marked = self.marked;
        let before = self.graves.last_entry().filter(|before| {
            let stone = &before.get().stone;
            let unsent = !before.get().told && stone.first_seq > marked;
            unsent && stone.last_seq + 1 == part.seq && stone.buckets == [bucket]
        });
        if let Some(mut before) = before {
            let grave = before.get_mut();
            grave.stone.last_seq = part.seq;
            grave.stone.lost.add(part.holds);
            grave.ticket = ticket;
            return grave.stone.clone();
        }
        let (first_seq, last_seq) = (part.seq, part.seq);
        let stone = Tombstone { shard: part.shard, first_seq, last_seq, buckets: vec![bucket], lost: part.holds };
        self.graves.insert(first_seq, Grave { stone: stone.clone(), ticket, told: false });
        self.join_oldest();
        stone
    }

    /// Keeps their number bounded.
    fn join_oldest(&mut self) {
        if self.graves.len() <= MAX_TOMBSTONES {
            return;
        }
        let (Some((_, oldest)), Some(mut next)) = (self.graves.pop_first(), self.graves.first_entry()) else { return };
        let grave = next.get_mut();
        let mut stone = oldest.stone;
        stone.last_seq = grave.stone.last_seq;
        stone.lost.add(grave.stone.lost);
        stone.buckets.extend(&grave.stone.buckets);
        stone.buckets.sort_unstable();
        stone.buckets.dedup();
        stone.buckets.truncate(MAX_BUCKETS);
        let joined = Grave { stone, ticket: grave.ticket.max(oldest.ticket), told: grave.told || oldest.told };
        next.remove();
        self.graves.insert(joined.stone.first_seq, joined);
    }
}
