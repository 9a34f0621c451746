//! The aggregator in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, or is set.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the tasks of the role count.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) slices: Counter,
    pub(crate) rows: Counter,
    pub(crate) invalid: Counter,
    pub(crate) skewed: Counter,
    pub(crate) unbound: Counter,
    pub(crate) lost_events: Counter,
    pub(crate) too_late_rows: Counter,
    pub(crate) commits: Counter,
    pub(crate) early: Counter,
    pub(crate) acks: Counter,
    pub(crate) refusals: Counter,
    pub(crate) connects: Counter,
    pub(crate) assigned: Counter,
    pub(crate) opening: Counter,
}

/// The aggregator in numbers, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AggregatorMetrics {
    /// Streams of collectors that are open.
    pub streams: u64,
    /// Shards assigned here.
    pub shards_assigned: u64,
    /// Those of them that wait to be opened.
    pub shards_opening: u64,
    /// Bytes of windows that are not committed.
    pub window_bytes: u64,
    /// Slices received.
    pub slices: u64,
    /// Rows in them.
    pub rows: u64,
    /// Messages refused because a field was invalid.
    pub invalid_messages: u64,
    /// Streams refused because the collector's clock is too far off.
    pub skewed: u64,
    /// Times that a stream had to bind a shard anew.
    pub unbound: u64,
    /// Events that disk budgets of collectors dropped, as far as they said so.
    pub lost_events: u64,
    /// Rows of batches that were too old to be counted.
    pub too_late_rows: u64,
    /// Commits sent.
    pub commits: u64,
    /// Open windows sent ahead of their bucket's end because they crossed a tripwire.
    pub early_windows: u64,
    /// Commits acknowledged.
    pub acks: u64,
    /// Refusals by the detector.
    pub refusals: u64,
    /// Connections made to the detector.
    pub detector_connects: u64,
    /// Times that credit was withheld because of memory.
    pub credit_withheld: u64,
    /// Restarts of shards after an error, a panic or a freeze.
    pub shard_restarts: u64,
    /// Messages that wait in the mailboxes of shards.
    pub mailbox_depth: u64,
    /// Time that streams waited for room in those mailboxes, ns.
    pub mailbox_blocked_ns: u64,
}
