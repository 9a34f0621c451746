//! What baselines may take, and who goes when a new key has no room.
//!
//! Those go first that were active least: a key that had windows in few buckets, and among these the one that was silent
//! longest. One that had a window within a day and is no newcomer stays: then the new key gets no baseline, and is counted.
//! Who goes follows from the windows alone, so that it is the same after a restart and in any split into shards.

use spikewatch_domain::record::EventMillis;

use super::series::{Known, SeriesSet};

/// What a key takes besides its models, bytes: its window while a bucket is scored, and its place in the tables.
const KEY_BYTES: u64 = 1_700;
/// A key that had windows in at least so many buckets is no newcomer.
const NEWCOMER: u32 = 4;
const DAY_MS: u64 = 86_400_000;

/// What keys whose models take so much may be, within so many bytes.
pub(super) fn keys(bytes: u64, models: u64) -> usize {
    usize::try_from(bytes / key_bytes(models)).unwrap_or(usize::MAX)
}

/// What a key takes, bytes.
pub(super) fn key_bytes(models: u64) -> u64 {
    KEY_BYTES.saturating_add(models)
}

impl SeriesSet {
    /// Forgets up to `wanted` keys so that others have room; how many went. Those that have a window in the bucket that
    /// starts at `now` have been seen then already.
    pub(super) fn make_room(&mut self, wanted: usize, now: EventMillis) -> usize {
        let may_go =
            |known: &Known| known.seen < now && (known.active < NEWCOMER || known.seen.saturating_add(DAY_MS) <= now);
        let mut order: Vec<_> = self
            .known()
            .iter()
            .filter(|known| may_go(known))
            .map(|known| (known.active, known.seen, known.site, known.subject.clone()))
            .collect();
        order.sort_unstable();
        order.truncate(wanted);
        for (_, _, site, subject) in &order {
            if let Some(number) = self.find(*site, subject) {
                self.remove(number);
            }
        }
        order.len()
    }
}
