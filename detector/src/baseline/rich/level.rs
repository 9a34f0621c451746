//! Numbers that follow a series, and the scale on which its changes are ratios.

/// A number that moves towards what it is shown; kept as f32, computed in doubles.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Level(pub(super) f32);

impl Level {
    pub(super) fn new(value: f64) -> Self {
        Self(value as f32)
    }

    pub(super) fn get(self) -> f64 {
        f64::from(self.0)
    }

    pub(super) fn set(&mut self, value: f64) {
        self.0 = value as f32;
    }

    /// Moves by `rate` of the way.
    pub(super) fn towards(&mut self, target: f64, rate: f64) {
        self.set(self.get() + rate * (target - self.get()));
    }
}

/// The rate of an exponential mean over about `buckets`, that is a plain mean as long as fewer (`seen`) are known.
pub(super) fn span_rate(buckets: f64, seen: f64) -> f64 {
    (2.0 / (buckets + 1.0)).max(1.0 / (seen + 1.0))
}

/// Signed logarithm with knee `g`: linear within ±g, then changes are ratios.
pub(super) fn signed_log(x: f64, g: f64) -> f64 {
    if x >= 0.0 { libm::log1p(x / g) } else { -libm::log1p(-x / g) }
}

/// `value` limited to ±`limit`, which isn't negative.
pub(super) fn clip(value: f64, limit: f64) -> f64 {
    value.min(limit).max(-limit)
}
