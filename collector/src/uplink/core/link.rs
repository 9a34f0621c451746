//! What a lane knows of one stream: what was sent on it, and what it may be sent.

use std::collections::BTreeMap;

use spikewatch_domain::record::EventMillis;
use spikewatch_proto::v1;

use super::SliceNo;

/// A watermark, and whether it is the last word. The last word comes after any other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Promise {
    pub(super) time_ms: EventMillis,
    pub(super) last: bool,
}

/// A shard that is bound to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Bound {
    /// The last number sent; 0 before the first.
    pub(super) sent: u64,
    /// The last number that was received.
    pub(super) received: u64,
    /// The last number there was when it was bound: up to here it is a replay.
    pub(super) replay_to: u64,
    /// It was told that the replay has ended.
    pub(super) replayed: bool,
    /// The last watermark it was told.
    pub(super) told: Promise,
}

/// One stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Link {
    /// The shards, by number.
    pub(super) bound: BTreeMap<u32, Bound>,
    /// Rows that may still be sent.
    pub(super) credit: u64,
    /// Slices below this have nothing more for it.
    pub(super) next: SliceNo,
}

impl Link {
    /// Binds a shard: what is kept of it is sent from its beginning, which is in the slice `first`.
    pub(super) fn bind(&mut self, shard: u32, replay_to: u64, first: SliceNo) {
        let fresh = Bound { sent: 0, received: 0, replay_to, replayed: false, told: Promise::default() };
        self.bound.insert(shard, fresh);
        self.next = self.next.min(first);
    }

    /// True if something was sent that was not received yet.
    pub(super) fn is_busy(&self) -> bool {
        self.bound.values().any(|bound| bound.sent > bound.received)
    }

    /// Notes what was received.
    pub(super) fn received(&mut self, receipt: &v1::Receipt) {
        for (shard, seq) in receipt.shard.iter().zip(&receipt.seq) {
            if let Some(bound) = self.bound.get_mut(shard) {
                bound.received = bound.received.max(*seq);
            }
        }
    }
}
