//! How long each hop takes: one histogram per named hop, for the summary and for metrics.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;

/// Longest latency told apart, in microseconds: an hour. Longer ones count as this.
const MAX_US: u64 = 3_600_000_000;

/// Latencies of all hops. Clones share them. Recording is for batches and commits, not for single records.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Arc<Mutex<BTreeMap<&'static str, Histogram<u64>>>>);

/// What is known of one hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopSummary {
    /// Name of the hop, as "from→to".
    pub hop: &'static str,
    /// How many were measured.
    pub count: u64,
    /// Half of them took no longer, within 0.1 %.
    pub p50: Duration,
    /// 99 % of them took no longer, within 0.1 %.
    pub p99: Duration,
    /// The longest, within 0.1 %.
    pub max: Duration,
}

impl Latencies {
    /// Notes that `hop` took `took`.
    pub fn record(&self, hop: &'static str, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).clamp(1, MAX_US);
        let mut hops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !hops.contains_key(hop) {
            // The bounds are constants that the histogram accepts; were they not, this hop would go unmeasured.
            let Ok(histogram) = Histogram::new_with_bounds(1, MAX_US, 3) else { return };
            hops.insert(hop, histogram);
        }
        if let Some(histogram) = hops.get_mut(hop) {
            histogram.saturating_record(micros);
        }
    }

    /// Notes that `hop` took that many milliseconds.
    pub fn record_ms(&self, hop: &'static str, took_ms: u64) {
        self.record(hop, Duration::from_millis(took_ms));
    }

    /// All hops measured so far, by name.
    #[must_use]
    pub fn snapshot(&self) -> Vec<HopSummary> {
        let hops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let summary = |(&hop, histogram): (&&'static str, &Histogram<u64>)| HopSummary {
            hop,
            count: histogram.len(),
            p50: Duration::from_micros(histogram.value_at_quantile(0.5)),
            p99: Duration::from_micros(histogram.value_at_quantile(0.99)),
            max: Duration::from_micros(histogram.max()),
        };
        hops.iter().map(summary).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_hop() {
        let latencies = Latencies::default();
        (1..=1000).for_each(|ms| latencies.clone().record_ms("a→b", ms));
        let [hop] = latencies.snapshot().try_into().unwrap();
        assert_eq!((hop.hop, hop.count), ("a→b", 1000));
        let near = |took: Duration, ms: u128| took.as_millis().abs_diff(ms) <= 1 + ms / 500;
        assert!(near(hop.p50, 500) && near(hop.p99, 990) && near(hop.max, 1000), "{hop:?}");
    }

    #[test]
    fn absurd_latencies_are_clamped() {
        let latencies = Latencies::default();
        latencies.record("x→y", Duration::MAX);
        latencies.record("x→y", Duration::ZERO);
        let hops = latencies.snapshot();
        assert_eq!(hops[0].count, 2);
        assert!(hops[0].max >= Duration::from_secs(3599));
    }
}
