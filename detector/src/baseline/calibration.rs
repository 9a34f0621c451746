//! From a model's evidence to a probability, and to the score that people see.
//!
//! One [`Calibration`] per job (and side) pools the evidence of all its series: how often is a `q` like this seen? Counts
//! are integers, so that the order in which series are added doesn't matter. A shipped prior stands in where the job has
//! too few, and beyond what it has seen.

/// A series' evidence should enter the calibration only from this age on, in seconds: before, it is dominated by
/// priors.
pub const CALIBRATE_AFTER_S: i64 = 7 * 86_400;

/// The shipped prior: evidence, and -log10 of the share of clean buckets that exceed it.
const PRIOR: [(f64, f64); 10] = [
    (-1.0, 0.301),
    (-0.029, 1.0),
    (0.293, 1.523),
    (0.583, 2.0),
    (0.882, 2.523),
    (1.191, 3.0),
    (1.574, 3.523),
    (1.936, 4.0),
    (2.336, 4.523),
    (2.883, 5.0),
];
/// -log10 p to score: +25 per decade of event rate, then slower. 25 is about one event in 10 series-days, 50 one in
/// 100, 75 one in 1000.
const SCORE: [(f64, f64); 3] = [(1.55, 0.0), (4.55, 75.0), (8.0, 100.0)];

const LEAST: f64 = -8.0;
const STEP: f64 = 0.05;
/// Beyond the bin with this many exceedances the prior is continued.
const ENOUGH: u64 = 30;

/// Piecewise linear through `knots`, constant beyond them.
fn interpolate(knots: &[(f64, f64)], x: f64) -> f64 {
    let Some(&(first_x, first_y)) = knots.first() else { return 0.0 };
    if x <= first_x {
        return first_y;
    }
    let (mut left_x, mut left_y) = (first_x, first_y);
    for &(right_x, right_y) in knots {
        if x < right_x {
            return left_y + (right_y - left_y) / (right_x - left_x) * (x - left_x);
        }
        (left_x, left_y) = (right_x, right_y);
    }
    left_y
}

/// What is assumed of some evidence while too little of it was counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    /// Evidence, ascending, and -log10 of the share that exceeds it. There is at least one.
    pub knots: &'static [(f64, f64)],
    /// Decades per evidence below the first knot.
    pub below: f64,
    /// Evidence per decade beyond the last one.
    pub beyond: f64,
    /// Weight, in what is counted.
    pub weight: f64,
}

impl Curve {
    /// The shipped one, of the evidence of single measures and in buckets.
    const SHIPPED: Self = Self { knots: &PRIOR, below: 0.3, beyond: 0.90, weight: 1e5 };

    fn l(&self, q: f64) -> f64 {
        match (self.knots.first(), self.knots.last()) {
            (Some(first), _) if q < first.0 => (first.1 + self.below * (q - first.0)).max(0.0),
            (_, Some(last)) if q > last.0 => last.1 + (q - last.0) / self.beyond,
            _ => interpolate(self.knots, q),
        }
    }
}

/// `-log10 p` of evidence `q` by the shipped prior alone.
#[must_use]
pub fn prior_l(q: f64) -> f64 {
    Curve::SHIPPED.l(q)
}

/// Score 0 to 100 of `l = -log10 p`. Bands as in Elastic: 3 warning, 25 minor, 50 major, 75 critical.
#[must_use]
pub fn record_score(l: f64) -> f64 {
    interpolate(&SCORE, l)
}

/// The same, going on beyond 100 as it went before: for what has to be told apart there.
#[must_use]
pub fn extended_score(l: f64) -> f64 {
    let [.., (left, low), (right, high)] = SCORE;
    if l <= right { record_score(l) } else { high + (l - right) * (high - low) / (right - left) }
}

/// The pooled distribution of a job's evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    curve: Curve,
    counts: Vec<u64>,
    most: u64,
    table: Vec<f64>,
    /// From this bin on the prior is used, shifted by `shift`.
    last_bin: usize,
    shift: f64,
}

impl Calibration {
    /// Counts that it keeps.
    pub const BINS: usize = 400;
    /// Halve beyond this many buckets, unless 30 days of the job are more.
    pub const LEAST_MEMORY: u64 = 4_000_000;

    /// An empty calibration, equal to [`prior_l`]. `memory`: buckets beyond which the counts are halved, about 30 days
    /// of the job; at least [`Calibration::LEAST_MEMORY`] is used.
    #[must_use]
    pub fn new(memory: u64) -> Self {
        Self::from_counts(memory, &[])
    }

    /// Restores what [`Calibration::counts`] gave. Missing bins are empty, superfluous ones ignored.
    #[must_use]
    pub fn from_counts(memory: u64, counts: &[u64]) -> Self {
        Self::over(Curve::SHIPPED, memory, counts)
    }

    /// The same of other evidence, of which `curve` is assumed.
    #[must_use]
    pub fn over(curve: Curve, memory: u64, counts: &[u64]) -> Self {
        let mut counts: Vec<u64> = counts.iter().take(Calibration::BINS).copied().collect();
        counts.resize(Calibration::BINS, 0);
        let most = memory.max(Self::LEAST_MEMORY);
        let mut calibration =
            Self { curve, counts, most, table: vec![0.0; Calibration::BINS], last_bin: 0, shift: 0.0 };
        calibration.refresh();
        calibration
    }

    /// The whole durable state: 400 counts.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Counts the evidence of one bucket of one series. Takes effect at the next [`Calibration::refresh`].
    pub fn add(&mut self, q: f64) {
        if q.is_nan() {
            return;
        }
        // Float to integer casts saturate, so every q finds a bin.
        let bin = (((q - LEAST) / STEP) as usize).min(Calibration::BINS - 1);
        if let Some(count) = self.counts.get_mut(bin) {
            *count = count.saturating_add(1);
        }
    }

    /// Makes what was added count, and forgets the old. Once per bucket of the job, when all its series are in.
    pub fn refresh(&mut self) {
        let mut total = self.total();
        if total > self.most {
            self.halve();
            total = self.total();
        }
        let total = total as f64;
        (self.last_bin, self.shift) = (0, 0.0);
        let mut exceeding = 0u64;
        let mut last = None;
        for (bin, (count, l)) in self.counts.iter().zip(self.table.iter_mut()).enumerate().rev() {
            exceeding = exceeding.saturating_add(*count);
            let prior = self.curve.l(edge(bin));
            let expected = self.curve.weight * libm::exp10(-prior);
            *l = -libm::log10((exceeding as f64 + expected) / (total + self.curve.weight));
            if last.is_none() && exceeding >= ENOUGH {
                last = Some((bin, *l - prior));
            }
        }
        if let Some(found) = last {
            (self.last_bin, self.shift) = found;
        }
    }

    /// `-log10 p` of evidence `q`: how rare such evidence is among the job's buckets.
    #[must_use]
    pub fn l_of(&self, q: f64) -> f64 {
        let position = (q - LEAST) / STEP;
        let bin = (position as usize).min(Calibration::BINS - 2);
        if bin >= self.last_bin {
            return (self.curve.l(q) + self.shift).max(0.0);
        }
        let fraction = (position - bin as f64).clamp(0.0, 1.0);
        match self.table.get(bin..bin + 2) {
            Some([left, right]) => left * (1.0 - fraction) + right * fraction,
            _ => 0.0,
        }
    }

    fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Halves the counts from the top, handing each remainder down, so that no tail loses more than half a count.
    fn halve(&mut self) {
        let mut remainder = 0;
        for count in self.counts.iter_mut().rev() {
            let sum = count.saturating_add(remainder);
            *count = sum / 2;
            remainder = sum % 2;
        }
    }
}

fn edge(bin: usize) -> f64 {
    LEAST + STEP * bin as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_of_the_score() {
        for (l, score) in
            [(-1.0, 0.0), (1.55, 0.0), (2.55, 25.0), (3.55, 50.0), (4.55, 75.0), (8.0, 100.0), (99.0, 100.0)]
        {
            assert!((record_score(l) - score).abs() < 1e-9, "at {l}");
            assert!(extended_score(l) == record_score(l) || l > 8.0, "at {l}");
        }
    }

    #[test]
    fn the_extended_score_goes_on_as_it_went() {
        let (before, after) = (extended_score(8.0) - extended_score(7.0), extended_score(9.0) - extended_score(8.0));
        assert!((before - after).abs() < 1e-9 && after > 7.0, "{before} {after}");
    }

    #[test]
    fn an_empty_calibration_is_the_prior() {
        let calibration = Calibration::new(0);
        for i in -100..200 {
            let q = f64::from(i) * 0.1;
            assert!((calibration.l_of(q) - prior_l(q)).abs() < 1e-9, "at {q}");
        }
    }

    #[test]
    fn the_order_of_adding_does_not_matter() {
        let evidence: Vec<f64> = (0..5000).map(|i| f64::from(i * 7919 % 5000) * 0.003 - 5.0).collect();
        let mut forward = Calibration::new(0);
        let mut backward = Calibration::new(0);
        evidence.iter().for_each(|q| forward.add(*q));
        evidence.iter().rev().for_each(|q| backward.add(*q));
        forward.refresh();
        backward.refresh();
        assert_eq!(forward, backward);
        assert_eq!(Calibration::from_counts(0, forward.counts()), forward);
    }

    #[test]
    fn a_noisy_job_raises_its_own_bar() {
        let mut noisy = Calibration::new(0);
        for i in 0..1_000_000 {
            noisy.add(if i % 100 == 0 { 3.0 } else { -1.0 });
        }
        noisy.refresh();
        assert!(noisy.l_of(2.9) < 2.5, "one bucket in a hundred is like this: {}", noisy.l_of(2.9));
        assert!(prior_l(2.9) > 5.0);
        assert!(noisy.l_of(8.0) > noisy.l_of(3.0));
    }

    #[test]
    fn evidence_never_lowers_the_score() {
        let mut calibration = Calibration::new(0);
        (0..100_000).for_each(|i| calibration.add(f64::from(i % 997) * 0.008 - 5.0));
        calibration.refresh();
        let scores: Vec<f64> = (-1200..2000).map(|i| calibration.l_of(f64::from(i) * 0.01)).collect();
        let dip = scores.windows(2).map(|pair| pair[0] - pair[1]).fold(0.0, f64::max);
        assert!(dip < 1e-9, "falls by {dip}");
    }

    #[test]
    fn halving_keeps_the_tail() {
        let mut calibration = Calibration::new(0);
        for i in 0..Calibration::LEAST_MEMORY + 1 {
            calibration.add(if i < 40 { i as f64 * 0.1 } else { -3.0 });
        }
        calibration.refresh();
        assert_eq!(calibration.total(), Calibration::LEAST_MEMORY / 2);
        let tail: u64 = calibration.counts().iter().skip(160).sum();
        assert_eq!(tail, 20);
    }

    #[test]
    fn any_evidence_has_a_place() {
        let mut calibration = Calibration::new(u64::MAX);
        for q in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 0.0] {
            calibration.add(q);
            assert!((0.0..=100.0).contains(&record_score(calibration.l_of(if q.is_nan() { 0.0 } else { q }))));
        }
        calibration.refresh();
        assert_eq!(calibration.total(), 5);
    }
}
