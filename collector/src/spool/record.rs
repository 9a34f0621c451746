//! What the spool keeps: slices, and what is known of their delivery.

use std::{fmt, ops::RangeInclusive};

use spikewatch_domain::record::EventMillis;

/// Names one numbering of batches: made from randomness, known to the frontier of every shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub [u8; 16]);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One shard's batch within a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The shard.
    pub shard: u32,
    /// Rows of the payload, which are ordered by shard.
    pub rows: u32,
    /// Lowest sequence number in it; below `seq` only where batches were merged.
    pub first_seq: u64,
    /// The sequence number it is sent under.
    pub seq: u64,
    /// Events counted in it: what is lost if it is dropped.
    pub events: u64,
    /// Bytes counted in it.
    pub bytes: u64,
}

/// All that is known of a slice but its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceMeta {
    /// Its place in the spool; only grows.
    pub slice_no: u64,
    /// The numbering of its parts.
    pub incarnation: Incarnation,
    /// Start of the slice, event time. Where slices were merged, of the first.
    pub start: EventMillis,
    /// Start of the bucket that holds it.
    pub bucket: EventMillis,
    /// Its batches, by shard.
    pub parts: Vec<Part>,
}

/// What is counted of a shard under one incarnation: everything with bucket ≤ `bucket` and seq ≤ `seq`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pair {
    /// Start of the bucket, event time.
    pub bucket: EventMillis,
    /// Sequence number; 0 if nothing is counted.
    pub seq: u64,
}

impl Pair {
    /// True if a batch of that bucket and number is counted.
    #[must_use]
    pub fn covers(self, bucket: EventMillis, seq: u64) -> bool {
        bucket <= self.bucket && seq <= self.seq
    }
}

/// Batches of one shard that are gone, uncounted. It is sent in their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// The shard.
    pub shard: u32,
    /// First sequence number that is gone.
    pub first_seq: u64,
    /// Last sequence number that is gone.
    pub last_seq: u64,
    /// Starts of the buckets they belonged to, ascending. Empty if not even that is known.
    pub buckets: Vec<EventMillis>,
    /// Events they counted; 0 if unknown.
    pub events: u64,
    /// Bytes they counted; 0 if unknown.
    pub bytes: u64,
}

impl Tombstone {
    /// That of one part.
    #[must_use]
    pub fn of(part: &Part, bucket: EventMillis) -> Self {
        let Part { shard, first_seq, seq, events, bytes, .. } = *part;
        Self { shard, first_seq, last_seq: seq, buckets: vec![bucket], events, bytes }
    }

    /// Takes in the one that follows without a gap; false if `next` is not that.
    pub fn absorb(&mut self, next: &Self) -> bool {
        if self.shard != next.shard || self.last_seq.checked_add(1) != Some(next.first_seq) {
            return false;
        }
        // Where one of them doesn't know its buckets, neither does the whole.
        if self.buckets.is_empty() || next.buckets.is_empty() {
            return false;
        }
        self.last_seq = next.last_seq;
        self.include(next);
        true
    }

    /// True if its numbers take in those of the other one.
    pub(super) fn spans(&self, other: &Self) -> bool {
        self.shard == other.shard && self.first_seq <= other.first_seq && other.last_seq <= self.last_seq
    }

    /// Adds what the other one stands for.
    pub(super) fn include(&mut self, other: &Self) {
        self.events = self.events.saturating_add(other.events);
        self.bytes = self.bytes.saturating_add(other.bytes);
        if self.buckets.is_empty() || other.buckets.is_empty() {
            self.buckets.clear();
            return;
        }
        for bucket in &other.buckets {
            if let Err(at) = self.buckets.binary_search(bucket) {
                self.buckets.insert(at, *bucket);
            }
        }
    }

    /// True if nothing of it can be asked for any more.
    #[must_use]
    pub fn is_covered(&self, pair: Pair) -> bool {
        pair.covers(self.buckets.last().copied().unwrap_or(0), self.last_seq)
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// A slice: `meta.slice_no` is above all before it, and the parts continue their shards' numbers.
    Slice {
        /// What it is.
        meta: SliceMeta,
        /// Its windows, encoded. Opaque to the spool.
        payload: &'a [u8],
    },
    /// Slices of one bucket merged into the last of them.
    Coarsened {
        /// Numbers of the slices it stands for; `meta.slice_no` is the last.
        replaces: RangeInclusive<u64>,
        /// What it is.
        meta: SliceMeta,
        /// Its windows, encoded.
        payload: &'a [u8],
    },
    /// Slices that are gone before they were counted.
    Dropped {
        /// Their numbering.
        incarnation: Incarnation,
        /// Their numbers. Empty where they were lost to damage.
        slices: Vec<u64>,
        /// What stands in their place.
        tombstones: Vec<Tombstone>,
    },
    /// Batches up to these may have been sent. To be synced before they are.
    Mark {
        /// The numbering.
        incarnation: Incarnation,
        /// (shard, sequence number).
        sent: Vec<(u32, u64)>,
    },
    /// What is counted.
    Trimmed {
        /// The numbering.
        incarnation: Incarnation,
        /// (shard, its pair).
        pairs: Vec<(u32, Pair)>,
    },
    /// Positions of the sources and what decoders have to remember, as of this place in the log. Replaces the one before.
    Checkpoint(&'a [u8]),
    /// The numbering begins anew at 1; the ones before drain.
    Rolled {
        /// The new one.
        incarnation: Incarnation,
    },
}
