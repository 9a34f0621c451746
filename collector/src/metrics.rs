//! What the collector counts of itself, and the faults of its input.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use crate::{
    fault::{Fault, Reason},
    source::intake::body::LineFault,
    spool::Counts,
};

/// Most (source, reason) pairs of which a first example is kept; counts go on beyond.
const MAX_EXAMPLES: usize = 1_000;

/// Counters, written by one task and read by any.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes read from files (as stored) or received by listeners.
    pub bytes_read: AtomicU64,
    /// Packets read from captures.
    pub packets: AtomicU64,
    /// Export datagrams.
    pub datagrams: AtomicU64,
    /// Lines of logs.
    pub lines: AtomicU64,
    /// Flow records decoded.
    pub records: AtomicU64,
    /// Records left out because another sensor had reported their connection.
    pub duplicates: AtomicU64,
    /// Events, bytes and packets charged (once a record).
    pub events: AtomicU64,
    /// Bytes charged, both directions.
    pub bytes: AtomicU64,
    /// Packets charged, both directions.
    pub flow_packets: AtomicU64,
    /// Records whose event time was absurd and replaced by the time of receipt.
    pub times_replaced: AtomicU64,
    /// How far the clock is ahead of that of the aggregator heard last, ms.
    pub clock_skew: AtomicI64,
    /// Shares charged to `(overflow)`.
    pub overflowed: AtomicU64,
    /// Shares charged to `(other)` of a bounded dimension because too many of its values were held.
    pub values_overflowed: AtomicU64,
    /// Peers looked up in the databases of addresses.
    pub place_lookups: AtomicU64,
    /// Those of which no database knew anything.
    pub place_misses: AtomicU64,
    /// Changed databases that were taken.
    pub database_reloads: AtomicU64,
    /// Changed databases that could not be used.
    pub database_failures: AtomicU64,
    /// Slices and rows (windows) handed to the uplink.
    pub slices: AtomicU64,
    /// Rows handed to the uplink.
    pub rows: AtomicU64,
    /// Batches sent, repeats included.
    pub batches_sent: AtomicU64,
    /// Streams to aggregators opened.
    pub streams: AtomicU64,
    /// The event-time clock, or the newest event time seen, ms.
    pub event_time: AtomicU64,
    /// Datagrams dropped because decoding could not keep up.
    pub datagrams_dropped: AtomicU64,
    /// Bytes of datagrams that wait to be decoded.
    pub datagram_bytes_waiting: AtomicU64,
    /// Slices that were cut before their end because their windows took too much memory.
    pub cut_early: AtomicU64,
    /// Parcels of an intake that were refused for want of room.
    pub intake_refused: AtomicU64,
    /// Parcels of an intake that were sent again, and so not counted again.
    pub intake_repeated: AtomicU64,
    /// Bytes of the last check-point.
    pub checkpoint_bytes: AtomicU64,
    /// Bytes of the spool.
    pub spool_bytes: AtomicU64,
    /// Start of the oldest slice in the spool that is not committed, ms; 0 if all are.
    pub spool_oldest: AtomicU64,
    /// Slices that the spool merged with others, to stay within its budget.
    pub spool_coarsened: AtomicU64,
    /// Slices dropped from the spool before they were committed.
    pub spool_dropped: AtomicU64,
    /// Events in them.
    pub spool_dropped_events: AtomicU64,
    /// Writes and syncs of the spool that failed.
    pub spool_failures: AtomicU64,
}

/// Where a spool stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpoolGauges {
    /// Its bytes.
    pub(crate) bytes: u64,
    /// Start of the oldest uncommitted slice, ms; 0 if none.
    pub(crate) oldest: u64,
    /// What it met since it was opened.
    pub(crate) counts: Counts,
}

/// By source and reason: how many, and the first.
type Faults = BTreeMap<(String, Reason), (u64, String)>;

/// Faults of one source and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultSummary {
    /// File, listener or exporter.
    pub source: String,
    /// Why.
    pub reason: Reason,
    /// How many.
    pub count: u64,
    /// The first of them, with its place.
    pub first: String,
}

/// Counters and faults of one collector. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    counters: Arc<Counters>,
    faults: Arc<Mutex<Faults>>,
}

impl Metrics {
    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Adds to a counter.
    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Relaxed);
    }

    /// Shows where the spool stands.
    pub(crate) fn show_spool(&self, gauges: SpoolGauges) {
        let SpoolGauges { bytes, oldest, counts } = gauges;
        let shown = [
            (&self.counters.spool_bytes, bytes),
            (&self.counters.spool_oldest, oldest),
            (&self.counters.spool_coarsened, counts.coarsened_slices),
            (&self.counters.spool_dropped, counts.dropped_slices),
            (&self.counters.spool_dropped_events, counts.dropped_events),
            (&self.counters.spool_failures, counts.failures),
        ];
        shown.into_iter().for_each(|(counter, value)| counter.store(value, Relaxed));
    }

    /// Counts a fault; `place` says where in the source. The first defect of its kind is logged.
    pub fn fault(&self, source: &str, place: impl FnOnce() -> String, fault: &Fault) {
        self.faults_of_a_kind(source, place, fault, 1);
    }

    /// Counts the faults of a parcel's lines.
    pub(crate) fn line_faults(&self, source: &str, counted: &BTreeMap<Reason, (u64, LineFault)>) {
        for (count, LineFault { line, fault }) in counted.values() {
            self.faults_of_a_kind(source, || format!("line {line} of a body"), fault, *count);
        }
    }

    fn faults_of_a_kind(&self, source: &str, place: impl FnOnce() -> String, fault: &Fault, times: u64) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((count, _)) = faults.get_mut(&(source.to_owned(), fault.reason)) {
            *count += times;
            return;
        }
        let source = if faults.len() < MAX_EXAMPLES { source } else { "(other sources)" };
        let entry = faults.entry((source.to_owned(), fault.reason)).or_insert_with(|| (0, String::new()));
        entry.0 += times;
        if entry.1.is_empty() {
            entry.1 = format!("{}: {}", place(), fault.detail);
            if !fault.reason.is_ordinary() {
                tracing::warn!(source, reason = fault.reason.label(), first = entry.1, "input could not be used");
            }
        }
    }

    /// All faults so far, by source and reason.
    #[must_use]
    pub fn faults(&self) -> Vec<FaultSummary> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let summary = |((source, reason), (count, first)): (&(String, Reason), &(u64, String))| FaultSummary {
            source: source.clone(),
            reason: *reason,
            count: *count,
            first: first.clone(),
        };
        faults.iter().map(summary).collect()
    }
}
