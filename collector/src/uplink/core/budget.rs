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
/// What slices that are merged at once may take in the spool, bytes.
const MAX_STORED: u64 = 32 << 20;
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
        let Some(group) = self.mergeable() else { return false };
        self.merge(&group, ticket, actions);
        true
    }

    /// The oldest run of neighbours, in the spool too, of one bucket and of which nothing may have been sent.
    fn mergeable(&self) -> Option<Vec<SliceNo>> {
        let unsent = |kept: &Kept| {
            let is_unsent = |part: &Part| {
                let marked = self.lines.get(part.shard as usize).map_or(u64::MAX, |line| line.marked);
                !part.committed && part.seq > marked
            };
            kept.is_durable(self.durable) && kept.parts.iter().all(is_unsent)
        };
        let mut run: Vec<SliceNo> = Vec::new();
        let (mut bucket, mut stored) = (0, 0u64);
        for (slice_no, kept) in &self.slices {
            let follows = run.last().is_some_and(|last| self.are_neighbours(*last, *slice_no)) && kept.bucket == bucket;
            let fits = run.len() < MAX_TOGETHER && stored.saturating_add(kept.stored) <= MAX_STORED;
            if follows && fits && unsent(kept) {
                run.push(*slice_no);
                stored += kept.stored;
                continue;
            }
            if run.len() > 1 {
                break;
            }
            run.clear();
            if unsent(kept) {
                run.push(*slice_no);
                (bucket, stored) = (kept.bucket, kept.stored);
            }
        }
        (run.len() > 1).then_some(run)
    }

    /// The result takes the place and the numbers of the last of them.
    fn merge(&mut self, group: &[SliceNo], ticket: Ticket, actions: &mut Vec<Action>) {
        let (Some(&first), Some(&into)) = (group.first(), group.last()) else { return };
        let mut parts: BTreeMap<u32, Part> = BTreeMap::new();
        let mut sources = Vec::with_capacity(group.len());
        let mut merged = Kept { bucket: 0, ticket, merging: true, after: 0, cut_in: 0, parts: Vec::new(), stored: 0 };
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
            // It must not be vouched for before it is sent.
            if *slice_no == first {
                (merged.after, merged.cut_in) = (kept.after, kept.cut_in);
            }
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
        let (mut freed, mut dropped) = (0, Vec::new());
        while freed < bytes
            && self.slices.len() > 1
            && let Some(oldest) = self.slices.first_entry()
            && oldest.get().is_durable(self.durable)
        {
            let (slice_no, kept) = oldest.remove_entry();
            freed += kept.stored;
            dropped.push((slice_no, kept));
        }
        self.drop(dropped, ticket, actions);
    }

    /// The contents of a slice can't be had any more. False if it is none of this lane's that is still needed.
    pub(super) fn lose(&mut self, slice_no: SliceNo, ticket: Ticket, actions: &mut Vec<Action>) -> bool {
        let Some(kept) = self.slices.remove(&slice_no) else { return false };
        self.drop(vec![(slice_no, kept)], ticket, actions);
        true
    }

    fn drop(&mut self, dropped: Vec<(SliceNo, Kept)>, ticket: Ticket, actions: &mut Vec<Action>) {
        let (mut slices, mut lost) = (Vec::new(), Loss::default());
        let mut tombstones: BTreeMap<(u32, u64), Tombstone> = BTreeMap::new();
        for (slice_no, kept) in dropped {
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
