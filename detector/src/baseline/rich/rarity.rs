//! How rare a channel's value is against its own past.
//!
//! A histogram with six bins an octave, and above its 97 % quantile an exponential tail whose mean excess is shrunk
//! towards a share of the channel's deviation (peaks over threshold, as SPOT does with a Pareto tail: Siffer et al.,
//! "Anomaly Detection in Streams with Extreme Value Theory", KDD 2017).

use std::sync::LazyLock;

use super::level::Level;

pub(super) const BINS: usize = 96;
const PER_OCTAVE: f64 = 6.0;
/// Lowest edge is 2^-8 units.
const OCTAVES_BELOW: f64 = 8.0;
/// Values before the unit is fixed; before evidence is given; that the deviation is computed from.
pub(super) const FIRST: u32 = 40;
pub(super) const WARM: u32 = 160;
const MEASURED: u32 = 2000;
/// The share of values in the tail, and how many pseudo values of which size (in deviations) shape it.
const TAIL: f64 = 0.03;
const PSEUDO: (f64, f64) = (3.0, 0.6);
/// Share of the deviation that the mean excess never falls below.
const LEAST_EXCESS: f64 = 0.02;
/// Most decades of evidence.
const MOST: f64 = 12.0;
/// Values beyond which all counts are halved.
const REMEMBERED: u32 = 60_000;
/// Most units of one value.
const MOST_UNITS: f64 = 250.0;

/// From the lower edge of a bin to its middle.
const HALF_A_BIN: f64 = 1.059_463_094_359_295_3;

/// Edges of the bins, in units.
static EDGES: LazyLock<[f64; BINS + 1]> =
    LazyLock::new(|| std::array::from_fn(|bin| libm::exp2(bin as f64 / PER_OCTAVE - OCTAVES_BELOW)));

/// What a channel's values have been.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rarity {
    /// Values counted.
    pub(super) seen: u32,
    /// The unit: the deviation of the first values.
    pub(super) unit: Level,
    /// Values in the sums.
    pub(super) measured: u32,
    pub(super) sum: Level,
    pub(super) squares: Level,
    pub(super) counts: [u16; BINS],
}

impl Rarity {
    pub(super) const NEW: Self =
        Self { seen: 0, unit: Level(0.0), measured: 0, sum: Level(0.0), squares: Level(0.0), counts: [0; BINS] };

    /// -log10 of the probability of a value of at least `v`, which isn't negative; then learns it. `floor`: the least
    /// deviation that means something.
    pub(super) fn observe(&mut self, v: f64, floor: f64) -> f64 {
        if self.seen < FIRST {
            self.begin(v, floor);
            return 0.0;
        }
        let u = (v / self.unit.get()).min(MOST_UNITS);
        if self.measured < MEASURED {
            self.measured += 1;
            self.add(u);
        }
        let bin = (PER_OCTAVE * (libm::log2(u + 1e-9) + OCTAVES_BELOW)).floor().clamp(0.0, (BINS - 1) as f64) as usize;
        let evidence = if self.seen >= WARM { self.evidence(u, bin, floor) } else { 0.0 };
        self.counts[bin] = self.counts[bin].saturating_add(1);
        self.seen += 1;
        if self.seen > REMEMBERED {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.seen = self.counts.iter().fold(FIRST, |seen, count| seen + u32::from(*count));
        }
        evidence.clamp(0.0, MOST)
    }

    fn begin(&mut self, v: f64, floor: f64) {
        self.add(v);
        self.seen += 1;
        if self.seen == FIRST {
            self.unit.set(self.deviation(f64::from(FIRST)).max(floor));
            (self.sum, self.squares) = (Level(0.0), Level(0.0));
        }
    }

    fn add(&mut self, v: f64) {
        self.sum.set(self.sum.get() + v);
        self.squares.set(self.squares.get() + v * v);
    }

    fn deviation(&self, count: f64) -> f64 {
        let mean = self.sum.get() / count;
        (self.squares.get() / count - mean * mean).max(0.0).sqrt()
    }

    fn evidence(&self, u: f64, bin: usize, floor: f64) -> f64 {
        let counted = f64::from(self.seen - FIRST);
        let deviation = self.deviation(f64::from(self.measured.max(1))).max(floor / self.unit.get());
        let limit = (TAIL * counted).max(1.0);
        let (mut above, mut excess, mut top) = (0.0, 0.0, BINS - 1);
        while top > 0 && above + f64::from(self.counts[top]) <= limit {
            let count = f64::from(self.counts[top]);
            above += count;
            excess += count * EDGES[top] * HALF_A_BIN;
            top -= 1;
        }
        let threshold = EDGES[top + 1];
        let (rarer, beyond) = if u > threshold {
            let (count, size) = PSEUDO;
            let mean = (excess - above * threshold + count * size * deviation) / (above + count);
            let mean = mean.max(0.0) + LEAST_EXCESS * deviation;
            (above, (u - threshold) / mean / std::f64::consts::LN_10)
        } else {
            let between: u32 = self.counts[..=top].iter().skip(bin).map(|count| u32::from(*count)).sum();
            (above + f64::from(between), 0.0)
        };
        beyond - libm::log10((rarer + 1.0) / (counted + 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_as_rare_as_its_past_says() {
        let mut rarity = Rarity::NEW;
        let mut noise = 1u32;
        for _ in 0..20_000 {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Exponential with mean 1.
            rarity.observe(-(f64::from(noise >> 8) / 16_777_216.0).max(1e-9).ln(), 0.01);
        }
        for decades in 1..6 {
            let found = rarity.clone().observe(f64::from(decades) * std::f64::consts::LN_10, 0.01);
            assert!((found - f64::from(decades)).abs() < 0.15 * f64::from(decades), "{found} instead of {decades}");
        }
    }

    #[test]
    fn counts_are_halved_and_nothing_overflows() {
        let mut rarity = Rarity::NEW;
        for i in 0..200_000u32 {
            let evidence = rarity.observe(if i % 2 == 0 { 0.0 } else { 1e18 }, 1e-9);
            assert!((0.0..=MOST).contains(&evidence));
        }
        assert!(rarity.seen <= REMEMBERED);
    }
}
