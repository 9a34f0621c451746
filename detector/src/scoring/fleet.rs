//! What is usual for the whole fleet: the pooled prior of a job's new series.

use crate::baseline::PRIOR_UNKNOWN;

/// Width of a bin of ln(1+x).
const STEP: f64 = 0.05;
/// Up to ln(1+x) = 70, beyond what 64 bits count.
const BINS: usize = 1400;
/// The quantile that a new series takes as its prior.
const QUANTILE: f64 = 0.97;
/// Values without which no quantile is known.
const LEAST: u64 = 30;
/// With that many from the buckets before, the bucket that is being scored is left out.
const ENOUGH: u64 = 200;
/// Buckets that are "recent", about a week; the counts are halved beyond.
const MEMORY: u64 = 20_000;

/// Distribution of ln(1+x) over a job's recent buckets, in integer counts: the order of adding doesn't matter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fleet {
    before: Vec<u64>,
    now: Vec<u64>,
    total_before: u64,
    total_now: u64,
}

impl Fleet {
    pub(super) fn new() -> Self {
        Self { before: vec![0; BINS], now: vec![0; BINS], total_before: 0, total_now: 0 }
    }

    /// What it remembers, between two buckets.
    pub(super) fn counts(&self) -> &[u64] {
        &self.before
    }

    /// Takes back what [`counts`](Self::counts) gave. Missing bins are empty, superfluous ones ignored.
    pub(super) fn from_counts(counts: &[u64]) -> Self {
        let mut fleet = Self::new();
        fleet.before.iter_mut().zip(counts).for_each(|(bin, count)| *bin = *count);
        fleet.total_before = fleet.before.iter().fold(0, |total, count| total.saturating_add(*count));
        fleet
    }

    /// Counts a value of the bucket that is being scored, by its ln(1+x).
    pub(super) fn add(&mut self, logarithm: f64) {
        let bin = ((logarithm / STEP) as usize).min(BINS - 1);
        if let Some(count) = self.now.get_mut(bin) {
            *count += 1;
            self.total_now += 1;
        }
    }

    /// The prior of series that begin in this bucket, once all its values were added.
    pub(super) fn prior(&self) -> f64 {
        let with_now = self.total_before < ENOUGH;
        let total = self.total_before + if with_now { self.total_now } else { 0 };
        if total < LEAST {
            return PRIOR_UNKNOWN;
        }
        let rank = (QUANTILE * (total - 1) as f64) as u64;
        let mut below = 0;
        for (bin, (before, now)) in self.before.iter().zip(&self.now).enumerate() {
            below += before + if with_now { *now } else { 0 };
            if below > rank {
                return STEP * (bin as f64 + 0.5);
            }
        }
        PRIOR_UNKNOWN
    }

    /// Ends the bucket.
    pub(super) fn close(&mut self, series: u64) {
        for (before, now) in self.before.iter_mut().zip(&mut self.now) {
            *before += std::mem::take(now);
        }
        self.total_before += std::mem::take(&mut self.total_now);
        if self.total_before > series.saturating_mul(7 * 96).max(MEMORY) {
            self.before.iter_mut().for_each(|count| *count /= 2);
            self.total_before = self.before.iter().sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_gives_its_97th_percentile() {
        let mut fleet = Fleet::new();
        assert_eq!(fleet.prior(), PRIOR_UNKNOWN);
        (0..1000).for_each(|i| fleet.add(libm::log1p(if i < 960 { 100.0 } else { 1e6 })));
        assert!((fleet.prior() - 1e6f64.ln()).abs() < 0.06, "{}", fleet.prior());
        fleet.close(1000);
        // A bucket like no other doesn't decide what is usual.
        (0..1000).for_each(|_| fleet.add(libm::log1p(1e9)));
        assert!((fleet.prior() - 1e6f64.ln()).abs() < 0.06, "{}", fleet.prior());
    }

    #[test]
    fn old_values_fade() {
        let mut fleet = Fleet::new();
        for _ in 0..30 {
            (0..1000).for_each(|_| fleet.add(libm::log1p(10.0)));
            fleet.close(10);
        }
        for _ in 0..60 {
            (0..1000).for_each(|_| fleet.add(libm::log1p(1e6)));
            fleet.close(10);
        }
        assert!(fleet.total_before <= MEMORY);
        assert!((fleet.prior() - 1e6f64.ln()).abs() < 0.06);
    }
}
