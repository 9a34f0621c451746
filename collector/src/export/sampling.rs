//! How much of the traffic an exporter looked at, from its options data, its headers or the record itself, and what that
//! makes of a record's counters.

use serde::{Deserialize, Serialize};

use super::bounded::Bounded;
use super::field::{SAMPLING, Slot, Values};

/// Selectors (samplers) remembered per observation domain.
const MAX_SELECTORS: usize = 64;
/// Interfaces with sampling of their own remembered per observation domain.
const MAX_INTERFACES: usize = 256;
/// Scale at which a sampling probability becomes a ratio.
const PROBABILITY_SCALE: f64 = 1e9;

/// For each `seen` packets, `sent` were sent. `seen` is never 0 and never more than `sent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Ratio {
    sent: u64,
    seen: u64,
}

impl Ratio {
    /// 1 in `interval`; 0 and 1 mean that all packets are looked at.
    pub(super) fn one_in(interval: u64) -> Self {
        Self { sent: interval.max(1), seen: 1 }
    }

    fn of(sent: u64, seen: u64) -> Option<Self> {
        (seen > 0 && sent >= seen).then_some(Self { sent, seen })
    }

    /// True if some packets are not looked at.
    pub(super) fn estimates(self) -> bool {
        self.sent > self.seen
    }

    /// What was sent, if `count` was seen; rounded to the nearest.
    pub(super) fn scale(self, count: u64) -> u64 {
        let scaled =
            (u128::from(count) * u128::from(self.sent) + u128::from(self.seen / 2)) / u128::from(self.seen.max(1));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }

    /// The ratio that the values of a record tell, if they do (RFC 5477 section 8.2, and NetFlow's own fields).
    fn told_by(values: &Values) -> Option<Self> {
        if !values.has(SAMPLING) {
            return None;
        }
        let share = |chosen, skipped| {
            let chosen = values.positive(chosen)?;
            Self::of(chosen.saturating_add(values.get(skipped).unwrap_or(0)), chosen)
        };
        share(Slot::PacketInterval, Slot::PacketSpace)
            .or_else(|| Self::of(values.positive(Slot::SamplingPopulation)?, values.positive(Slot::SamplingSize)?))
            .or_else(|| values.positive(Slot::SamplerInterval).map(Self::one_in))
            .or_else(|| values.positive(Slot::SamplingInterval).map(Self::one_in))
            .or_else(|| share(Slot::TimeInterval, Slot::TimeSpace))
            .or_else(|| Self::from_probability(f64::from_bits(values.get(Slot::SamplingProbability)?)))
    }

    fn from_probability(probability: f64) -> Option<Self> {
        // NaN and what is out of range become 0 or more than the scale, which `of` refuses.
        Self::of(PROBABILITY_SCALE as u64, (probability * PROBABILITY_SCALE) as u64)
    }
}

/// The sampling of one observation domain.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Sampling {
    everywhere: Option<Ratio>,
    by_selector: Bounded<u64, Ratio>,
    by_interface: Bounded<u64, Ratio>,
}

impl Sampling {
    /// Nothing known.
    pub(super) fn new() -> Self {
        Self { everywhere: None, by_selector: Bounded::new(MAX_SELECTORS), by_interface: Bounded::new(MAX_INTERFACES) }
    }

    /// Takes in a record of options data. True if it told of sampling.
    pub(super) fn learn(&mut self, options: &Values) -> bool {
        let Some(ratio) = Ratio::told_by(options) else { return false };
        if let Some(selector) = selector(options) {
            self.by_selector.insert(selector, ratio);
        } else if let Some(interface) = interface(options) {
            self.by_interface.insert(interface, ratio);
        } else {
            self.everywhere = Some(ratio);
        }
        true
    }

    /// The ratio that applies to a record: its own, its selector's, its interface's, else the domain's.
    pub(super) fn of(&self, record: &Values) -> Option<Ratio> {
        Ratio::told_by(record)
            .or_else(|| self.by_selector.peek(&selector(record)?).copied())
            .or_else(|| self.by_interface.peek(&record.get(Slot::InputInterface)?).copied())
            .or(self.everywhere)
            .filter(|ratio| ratio.estimates())
    }
}

fn selector(values: &Values) -> Option<u64> {
    values.get(Slot::SelectorId).or_else(|| values.get(Slot::SamplerId))
}

fn interface(values: &Values) -> Option<u64> {
    values.get(Slot::ScopeInterface).or_else(|| values.get(Slot::InputInterface))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(fields: &[(Slot, u64)]) -> Values {
        let mut values = Values::new();
        for (slot, value) in fields {
            values.set(*slot, &value.to_be_bytes());
        }
        values
    }

    #[test]
    fn a_sampler_table_tells_the_records_that_name_its_sampler() {
        let mut sampling = Sampling::new();
        assert!(sampling.learn(&values(&[(Slot::SamplerId, 2), (Slot::SamplerInterval, 1000)])));
        let named = sampling.of(&values(&[(Slot::SamplerId, 2)]));
        assert_eq!(named.map(|ratio| ratio.scale(3)), Some(3000));
        assert_eq!(sampling.of(&values(&[(Slot::SamplerId, 1)])), None);
    }

    #[test]
    fn every_way_to_tell_a_ratio_counts() {
        let half = 0.5_f64.to_bits();
        for (fields, expected) in [
            (vec![(Slot::SamplingInterval, 100)], 700),
            (vec![(Slot::PacketInterval, 1), (Slot::PacketSpace, 99)], 700),
            (vec![(Slot::TimeInterval, 10), (Slot::TimeSpace, 90)], 70),
            (vec![(Slot::SamplingSize, 2), (Slot::SamplingPopulation, 5)], 18),
            (vec![(Slot::SamplingProbability, half)], 14),
        ] {
            let mut sampling = Sampling::new();
            assert!(sampling.learn(&values(&fields)), "{fields:?}");
            let ratio = sampling.of(&Values::new()).expect("a ratio");
            assert_eq!(ratio.scale(7), expected, "{fields:?}");
        }
    }

    #[test]
    fn nonsense_is_no_sampling() {
        for probability in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e-300] {
            assert_eq!(Ratio::from_probability(probability), None, "{probability}");
        }
        let sampling = Sampling::new();
        assert_eq!(sampling.of(&values(&[(Slot::SamplingInterval, 1)])), None);
        assert_eq!(Ratio::one_in(u64::MAX).scale(u64::MAX), u64::MAX);
    }
}
