//! Memory of open windows, and whose credit is withheld when there is too much of it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use spikewatch_domain::record::EventMillis;
use tokio::time::Instant;

use crate::core::{Held, StreamId};

/// Least time between two warnings.
const QUIET: Duration = Duration::from_secs(60);

/// Counts what all shards hold.
#[derive(Debug)]
pub(crate) struct Pressure {
    limit: u64,
    open: AtomicU64,
    sealed: AtomicU64,
    withheld: AtomicU64,
    /// When it was last said that credit is withheld.
    said: Mutex<Option<Instant>>,
    watermarks: Mutex<BTreeMap<StreamId, EventMillis>>,
}

impl Pressure {
    /// Nothing held, `limit` bytes allowed.
    pub(crate) fn new(limit: u64) -> Self {
        let [open, sealed, withheld] = [const { AtomicU64::new(0) }; 3];
        Self { limit, open, sealed, withheld, said: Mutex::default(), watermarks: Mutex::default() }
    }

    /// A shard that held `before` bytes holds `now`.
    pub(crate) fn adjust(&self, before: Held, now: Held) {
        // Wrapping sums of differences: what was added is what is taken away.
        self.open.fetch_add(now.open.wrapping_sub(before.open), Ordering::Relaxed);
        self.sealed.fetch_add(now.sealed.wrapping_sub(before.sealed), Ordering::Relaxed);
    }

    /// Bytes held.
    pub(crate) fn used(&self) -> u64 {
        self.open.load(Ordering::Relaxed).saturating_add(self.sealed.load(Ordering::Relaxed))
    }

    /// How often credit was withheld.
    pub(crate) fn withheld(&self) -> u64 {
        self.withheld.load(Ordering::Relaxed)
    }

    /// A stream begins.
    pub(crate) fn enter(&self, stream: StreamId) {
        self.watermarks().insert(stream, 0);
    }

    /// A stream's watermark moved.
    pub(crate) fn advance(&self, stream: StreamId, time_ms: EventMillis) {
        if let Some(watermark) = self.watermarks().get_mut(&stream) {
            *watermark = (*watermark).max(time_ms);
        }
    }

    /// A stream ended.
    pub(crate) fn leave(&self, stream: StreamId) {
        self.watermarks().remove(&stream);
    }

    /// True if the stream may be given credit: there is memory, or it is the furthest behind. What that one sends is
    /// what the next close needs; withholding its credit would keep all memory for ever. If it is the detector that is
    /// slow, and what is sealed takes half the memory, all have to wait: acks free it, whatever collectors do.
    pub(crate) fn may_credit(&self, stream: StreamId) -> bool {
        if self.used() < self.limit {
            return true;
        }
        let detector_is_slow = self.sealed.load(Ordering::Relaxed) >= self.limit / 2;
        let watermarks = self.watermarks();
        let least = watermarks.values().min();
        let allowed = !detector_is_slow && watermarks.get(&stream).is_none_or(|own| Some(own) == least);
        if !allowed {
            self.withheld.fetch_add(1, Ordering::Relaxed);
            self.say(detector_is_slow);
        }
        allowed
    }

    /// Says now and then that the limit binds.
    fn say(&self, detector_is_slow: bool) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if said.is_none_or(|said| now.duration_since(said) >= QUIET) {
            *said = Some(now);
            let (used, limit) = (self.used(), self.limit);
            let why = if detector_is_slow { "the detector is slow" } else { "some collectors are far behind others" };
            tracing::warn!(used, limit, why, "aggregator.memory_limit is reached: collectors have to wait");
        }
    }

    fn watermarks(&self) -> MutexGuard<'_, BTreeMap<StreamId, EventMillis>> {
        self.watermarks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_furthest_behind_always_gets_credit() {
        let pressure = Pressure::new(1000);
        pressure.enter(1);
        pressure.enter(2);
        pressure.advance(1, 900);
        pressure.advance(2, 500);
        let held = |open, sealed| Held { open, sealed };
        pressure.adjust(held(0, 0), held(799, 200));
        assert!(pressure.may_credit(1) && pressure.may_credit(2));
        pressure.adjust(held(799, 200), held(800, 200));
        assert!(!pressure.may_credit(1) && pressure.may_credit(2));
        pressure.leave(2);
        assert!(pressure.may_credit(1));
        assert_eq!((pressure.used(), pressure.withheld()), (1000, 1));
        pressure.adjust(held(800, 200), held(100, 900));
        assert!(!pressure.may_credit(1), "acks will free it");
        pressure.adjust(held(100, 900), held(100, 0));
        assert!(pressure.may_credit(1));
    }
}
