//! What a spool has to tell when it is opened again.

use spikewatch_domain::record::EventMillis;
use spikewatch_proto::convert::commit::Pair;

use super::{Part, SliceNo, Tombstone};

/// What is known of one shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RecoveredLine {
    /// The number of its next batch.
    pub next_seq: u64,
    /// Batches up to this number may have been sent.
    pub marked: u64,
    /// What is known to be counted.
    pub trimmed: Pair,
}

/// A slice that is still there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecoveredSlice {
    /// Its number.
    pub slice_no: SliceNo,
    /// Its start, ms.
    pub start: EventMillis,
    /// Its batches, ascending by shard. Which are committed follows from the pairs.
    pub parts: Vec<Part>,
    /// What it takes in the spool.
    pub stored: u64,
}

/// The spool of one incarnation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RecoveredLane {
    /// Its id.
    pub incarnation: [u8; 16],
    /// By shard.
    pub lines: Vec<RecoveredLine>,
    /// Ascending, those included that are trimmed and still kept.
    pub slices: Vec<RecoveredSlice>,
    /// A number that no slice's number lay above, whether or not it is still there.
    pub last_slice: SliceNo,
    /// What was dropped.
    pub tombstones: Vec<Tombstone>,
}
