//! What a lane knows of one shard: numbers, marks, what is not committed.

use std::collections::{BTreeMap, VecDeque};

use spikewatch_proto::convert::{cluster::Epoch, commit::Pair};

use super::{SliceNo, Ticket, Tombstone};

/// A dropped range and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Grave {
    pub(super) stone: Tombstone,
    pub(super) ticket: Ticket,
    /// An owner may have heard of it, so that a pair that covers it says nothing of the batches themselves.
    pub(super) told: bool,
}

/// One shard of one incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Line {
    /// The number of its next batch; only grows.
    pub(super) next_seq: u64,
    /// Batches up to this number may have been sent, as far as is written or about to be.
    pub(super) marked: u64,
    /// The same, durably: nothing beyond may be sent.
    pub(super) sendable: u64,
    /// Marks on their way to the disk.
    marks: VecDeque<(Ticket, u64)>,
    /// Batches that are not committed, and the slices that hold them.
    pub(super) pending: BTreeMap<u64, SliceNo>,
    /// The lowest numbers that merges did away with, until those are durable: a crash would bring them back.
    merged: VecDeque<(Ticket, u64)>,
    /// Dropped ranges that are not committed, by their first number.
    pub(super) graves: BTreeMap<u64, Grave>,
    /// The highest pair that was heard of: what is trimmed.
    pub(super) trimmed: Pair,
    /// The newest epoch that was heard of.
    pub(super) epoch: Option<Epoch>,
}

impl Line {
    /// A shard that was never sent anything.
    pub(super) fn new() -> Self {
        Self::recovered(1, 0, Pair::default())
    }

    /// A shard as the spool has it.
    pub(super) fn recovered(next_seq: u64, marked: u64, trimmed: Pair) -> Self {
        Self {
            next_seq,
            marked,
            sendable: marked,
            marks: VecDeque::new(),
            pending: BTreeMap::new(),
            merged: VecDeque::new(),
            graves: BTreeMap::new(),
            trimmed,
            epoch: None,
        }
    }

    /// Marks everything numbered so far. Returns the number if that is news.
    pub(super) fn mark(&mut self, ticket: Ticket) -> Option<u64> {
        let last = self.next_seq - 1;
        (last > self.marked).then(|| {
            self.marked = last;
            self.marks.push_back((ticket, last));
            last
        })
    }

    /// What was written up to the ticket is durable.
    pub(super) fn synced(&mut self, ticket: Ticket) {
        while let Some((_, mark)) = self.marks.pop_front_if(|(written, _)| *written <= ticket) {
            self.sendable = mark;
        }
        while self.merged.pop_front_if(|(written, _)| *written <= ticket).is_some() {}
    }

    /// The batch became part of another one.
    pub(super) fn merge(&mut self, seq: u64, ticket: Ticket) {
        self.pending.remove(&seq);
        self.merged.push_back((ticket, seq));
    }

    /// The lowest number that is not committed, now or after a crash.
    pub(super) fn lowest(&self) -> u64 {
        let batch = self.pending.first_key_value().map(|(seq, _)| *seq);
        let grave = self.graves.first_key_value().map(|(seq, _)| *seq);
        let merged = self.merged.iter().map(|(_, seq)| *seq);
        batch.into_iter().chain(grave).chain(merged).min().unwrap_or(self.next_seq)
    }

    /// True if something above `sent` and up to `last` is not committed.
    pub(super) fn has_between(&self, sent: u64, last: u64) -> bool {
        let batch = self.pending.range(sent.saturating_add(1)..).next();
        let grave = self.graves.range(sent.saturating_add(1)..).next();
        batch.is_some_and(|(seq, _)| *seq <= last) || grave.is_some_and(|(seq, _)| *seq <= last)
    }

    /// True if an owner of that epoch has been replaced since.
    pub(super) fn is_stale(&self, epoch: Epoch) -> bool {
        self.epoch.is_some_and(|known| known.lineage == epoch.lineage && known.number > epoch.number)
    }

    /// True if the store has less than was trimmed.
    pub(super) fn is_ahead_of(&self, pair: Pair) -> bool {
        self.trimmed.seq > pair.seq || self.trimmed.bucket > pair.bucket
    }

    /// Remembers what is counted. True if that is news.
    pub(super) fn trim(&mut self, pair: Pair) -> bool {
        let further = pair.seq >= self.trimmed.seq && pair.bucket >= self.trimmed.bucket && pair != self.trimmed;
        if further {
            self.trimmed = pair;
        }
        further
    }
}
