//! The detector in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use spikewatch_actors::mailbox::Stats;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted beside the progress that everyone sees.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) repeats: Counter,
    pub(crate) refusals: Counter,
    pub(crate) records_cut: Counter,
    pub(crate) not_modelled: Counter,
    pub(crate) shed: Counter,
    pub(crate) late_records: Counter,
    pub(crate) corrections_not_scored: Counter,
    pub(crate) fell_silent: Counter,
    pub(crate) expired: Counter,
    pub(crate) bounded: Counter,
    pub(crate) early_dropped: Counter,
    pub(crate) retention_failures: Counter,
}

/// A snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DetectorMetrics {
    /// It leads; one that stands by commits and scores nothing.
    pub leads: bool,
    /// Commits applied.
    pub commits: u64,
    /// Commits that came again and were acknowledged without effect.
    pub repeats: u64,
    /// Opens and commits refused.
    pub refusals: u64,
    /// Windows committed.
    pub windows: u64,
    /// Corrections committed.
    pub corrections: u64,
    /// Anomaly records written.
    pub records: u64,
    /// Anomaly records left out because a job had too many in one bucket.
    pub records_cut: u64,
    /// Alerts made.
    pub alerts: u64,
    /// Anomaly records that waited longer than a rule's look-back.
    pub expired: u64,
    /// Anomaly records over a rule's threshold that the bound on false alerts kept from being told.
    pub bounded: u64,
    /// Early windows that were not looked at: not of the owner, of no open bucket, or too many at once.
    pub early_dropped: u64,
    /// Times that the store failed to forget old windows.
    pub retention_failures: u64,
    /// Executions due so far.
    pub executions: u64,
    /// Series with a baseline.
    pub series: u64,
    /// Windows without a series because there is no memory for one.
    pub not_modelled: u64,
    /// Series forgotten to make room for others.
    pub shed: u64,
    /// Anomaly records that corrections of scored buckets gave.
    pub late_records: u64,
    /// Late windows that no series was asked about: their key has none, or they came too late.
    pub corrections_not_scored: u64,
    /// Times that a collector fell silent.
    pub fell_silent: u64,
    /// Collectors that are silent now.
    pub silent: u64,
    /// Start of the last bucket that all shards committed, ms; 0 if none.
    pub frontier_ms: u64,
    /// Start of the last bucket scored, ms; 0 if none.
    pub scored_ms: u64,
    /// The committer's mailbox, while it leads.
    pub commit_mailbox: Option<Stats>,
}
