//! Levels that a series is forecast from, besides its season.

use super::level::{Level, clip};

/// Where the fast level and the season are, between buckets.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Levels {
    pub(super) fast: Level,
    pub(super) faster: Level,
    pub(super) slow: Level,
    /// What the season is off by: slowly, and newest.
    pub(super) offset: Level,
    pub(super) error: Level,
    /// Level and slope of a local trend (C. C. Holt, "Forecasting seasonals and trends by exponentially weighted moving
    /// averages", 1957).
    pub(super) trend: Level,
    pub(super) slope: Level,
}

/// Rates of the trend's level and slope, and how many scales one value moves them by.
const TREND: (f64, f64, f64) = (0.5, 0.05, 3.0);
/// Buckets before there is a slope.
const SLOPE_AFTER: f64 = 2.0;

impl Levels {
    /// Before the first value, `x`.
    pub(super) fn begin(x: f64) -> Self {
        let level = Level::new(x);
        Self { fast: level, faster: level, slow: level, trend: level, ..Self::default() }
    }

    /// Learns `x` as the next point of a trend whose residuals have that scale.
    pub(super) fn learn_trend(&mut self, x: f64, seen: f64, scale: f64) {
        let (rate, slope_rate, limit) = TREND;
        let foretold = self.trend.get() + self.slope.get();
        let off = clip(x - foretold, limit * scale);
        self.trend.set(foretold + rate * off);
        if seen > SLOPE_AFTER {
            self.slope.set(self.slope.get() + slope_rate * off);
        }
    }

    /// Learns `x`; `season` is what the profiles said, if they said something, and `scale` limits what one value does.
    pub(super) fn learn(&mut self, x: f64, seen: f64, season: Option<f64>, scale: f64) {
        let rate = |least: f64| least.max(1.0 / (seen + 1.0));
        self.fast.towards(x, rate(0.3));
        self.faster.towards(x, rate(0.6));
        self.slow.towards(x, rate(0.02));
        if let Some(season) = season {
            self.offset.towards(clip(x - season, 4.0 * scale), 0.02);
            self.error.towards(x - season, 0.3);
        }
    }
}
