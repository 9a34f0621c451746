//! A collector's disk, and what is on its way to it.

use std::collections::BTreeMap;

use spikewatch_collector::uplink::core::{
    Loss, Part, RecoveredLane, RecoveredLine, RecoveredSlice, SliceNo, Tombstone,
};
use spikewatch_proto::convert::commit::Pair;

use crate::{bag::Bag, site::incarnation};

/// A slice in the spool.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Slice {
    pub(crate) start: u64,
    pub(crate) seq: u64,
    pub(crate) content: Bag,
}

/// What survives a crash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    pub(crate) slices: BTreeMap<SliceNo, Slice>,
    pub(crate) next_seq: u64,
    pub(crate) marked: u64,
    pub(crate) trimmed: Pair,
    pub(crate) tombstones: BTreeMap<u64, Tombstone>,
}

/// A write that is not durable yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Write {
    Append(SliceNo, Slice),
    Mark(u64),
    Merge(Vec<SliceNo>, SliceNo, Slice),
    Drop(Vec<SliceNo>, Vec<Tombstone>),
}

impl Disk {
    /// Writes, durably.
    pub(crate) fn write(&mut self, write: Write) {
        match write {
            Write::Append(slice_no, slice) => {
                self.next_seq = slice.seq + 1;
                self.slices.insert(slice_no, slice);
            }
            Write::Mark(seq) => self.marked = seq,
            Write::Merge(sources, into, slice) => {
                sources.iter().for_each(|source| drop(self.slices.remove(source)));
                self.slices.insert(into, slice);
            }
            Write::Drop(slices, tombstones) => {
                slices.iter().for_each(|slice| drop(self.slices.remove(slice)));
                self.tombstones.extend(tombstones.into_iter().map(|stone| (stone.first_seq, stone)));
            }
        }
    }

    /// What a restart finds.
    pub(crate) fn recovered(&self, site: usize) -> RecoveredLane {
        let line = RecoveredLine { next_seq: self.next_seq, marked: self.marked, trimmed: self.trimmed };
        let slice = |(slice_no, slice): (&SliceNo, &Slice)| RecoveredSlice {
            slice_no: *slice_no,
            start: slice.start,
            parts: vec![part(slice)],
            stored: 1,
        };
        RecoveredLane {
            incarnation: incarnation(site).id,
            lines: vec![line],
            slices: self.slices.iter().map(slice).collect(),
            last_slice: 0,
            tombstones: self.tombstones.values().cloned().collect(),
        }
    }
}

fn part(slice: &Slice) -> Part {
    let holds = Loss { events: slice.content.0.len() as u64, bytes: 0 };
    Part { shard: 0, seq: slice.seq, rows: 0, holds, committed: false }
}
