//! Point models: how surprising one value is under a mixture of forecasts.
//!
//! Each expert's residual follows a Student t law with 5 degrees of freedom around its forecast. Its weight is updated by
//! Bayes' rule with a fixed share for all (Herbster and Warmuth, "Tracking the Best Expert", 1998), so that a forecaster
//! that fails today can come back tomorrow. The surprise is the least over the experts of -log10 of tail and weight: a
//! value that any trusted expert foresaw is none.

#![allow(clippy::needless_range_loop, reason = "the arrays of the experts are walked side by side")]

use std::f64::consts::{LN_10, PI, SQRT_2};

use super::level::{Level, signed_log};

/// Forecasters: 0 fast level, 1 slow level, 2 day, 3 week, 4 season and its level, 5 season and its newest error, 6 level
/// and slope.
pub(super) const FORECASTERS: usize = 7;
/// Most experts of one point model.
pub(super) const EXPERTS: usize = 6;
/// Degrees of freedom of the residual law.
const FREEDOM: f64 = 5.0;
/// Share of the weights that is given to all.
const FIXED_SHARE: f64 = 0.02;
/// Least rate of a residual's scale, and most weight of a residual in it.
const SCALE_RATE: f64 = 0.005;
const MOST_WEIGHT: f64 = 1.5;
/// Least variance.
pub(super) const LEAST_VARIANCE: f64 = 1e-8;
/// Rate and limits of the scale factor of an hour; makes a residual's mean size its scale.
const HOUR_RATE: f64 = 0.01;
const HOUR_LIMITS: (f64, f64) = (0.3, 3.0);
const SIZE_TO_SCALE: f64 = 1.2;
/// Most surprise.
const MOST: f64 = 60.0;

/// Which values a point model looks at, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first four experts, on the value.
    Plain,
    /// All experts, on the value, with a scale by hour of day.
    Seasonal,
    /// The same on the value's signed logarithm.
    Logarithmic,
    /// The season's newest error and the slope, with a scale by hour of day: no slow expert, which would explain any
    /// spike by its own wide scale.
    Sharp,
    /// The slope alone.
    Trend,
}

/// All point models, in order of their channels.
pub(super) const KINDS: [Kind; 5] = [Kind::Plain, Kind::Seasonal, Kind::Logarithmic, Kind::Sharp, Kind::Trend];

impl Kind {
    /// Its forecasters.
    fn experts(self) -> &'static [usize] {
        match self {
            Self::Plain => &[0, 1, 2, 3],
            Self::Seasonal | Self::Logarithmic => &[0, 1, 2, 3, 4, 5],
            Self::Sharp => &[5, 6],
            Self::Trend => &[6],
        }
    }

    /// The expert whose residuals scale the hours, if hours have a scale.
    fn hourly(self) -> Option<usize> {
        match self {
            Self::Plain | Self::Trend => None,
            Self::Seasonal | Self::Logarithmic => Some(5),
            Self::Sharp => Some(0),
        }
    }

    fn transform(self, x: f64, knee: f64) -> f64 {
        if self == Self::Logarithmic { signed_log(x, knee) } else { x }
    }
}

/// One point model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PointModel {
    pub(super) weight: [Level; EXPERTS],
    pub(super) variance: [Level; EXPERTS],
    pub(super) hours: [Level; 24],
}

/// -log10 P(|t| > z) of a Student t law, by the transform to a normal one of D. L. Wallace ("Bounds on normal
/// approximations to Student's and the chi-square distributions", 1959).
fn tail(z: f64, freedom: f64) -> f64 {
    let normal = (freedom * libm::log1p(z * z / freedom)).sqrt() * (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0);
    let x = normal / SQRT_2;
    if x < 3.0 {
        return -libm::log10(libm::erfc(x).max(1e-300));
    }
    (x * x + libm::log(x * PI.sqrt()) - libm::log(1.0 - 1.0 / (2.0 * x * x))) / LN_10
}

impl PointModel {
    pub(super) const NEW: Self =
        Self { weight: [Level(0.0); EXPERTS], variance: [Level(0.0); EXPERTS], hours: [Level(1.0); 24] };

    /// Before the first value, `x`.
    pub(super) fn begin(&mut self, kind: Kind, x: f64, knee: f64) {
        let tenth = match kind {
            Kind::Logarithmic => signed_log(1.1 * x, knee) - signed_log(x, knee),
            _ => 0.1 * x.abs(),
        };
        self.variance = [Level::new((tenth * tenth).max(1e-6)); EXPERTS];
        self.weight = [Level::new(1.0 / kind.experts().len() as f64); EXPERTS];
    }

    /// Signed surprise of `x`, in decades, given the experts' forecasts; then learns which experts were right. `seen`:
    /// buckets before this one.
    pub(super) fn observe(
        &mut self,
        kind: Kind,
        x: f64,
        forecasts: &[f64; FORECASTERS],
        knee: f64,
        hour: usize,
        seen: f64,
    ) -> f64 {
        let experts = kind.experts();
        let y = kind.transform(x, knee);
        let hourly = if kind.hourly().is_some() { self.hours[hour].get() } else { 1.0 };
        let (mut z, mut log_weight) = ([0.0; EXPERTS], [f64::MIN; EXPERTS]);
        let (mut least, mut sign) = (f64::MAX, 1.0);
        for (k, forecaster) in experts.iter().enumerate() {
            let residual = y - kind.transform(forecasts[*forecaster], knee);
            let scale = self.variance[k].get().sqrt() * hourly + 1e-9;
            z[k] = residual / scale;
            let weight = self.weight[k].get().max(1e-12);
            let surprise = tail(z[k].abs(), FREEDOM) - libm::log10(weight);
            if surprise < least {
                (least, sign) = (surprise, if residual >= 0.0 { 1.0 } else { -1.0 });
            }
            log_weight[k] =
                libm::log(weight) - libm::log(scale) - 0.5 * (FREEDOM + 1.0) * libm::log1p(z[k] * z[k] / FREEDOM);
        }
        self.learn(&z[..experts.len()], &log_weight[..experts.len()], hourly, seen);
        if let Some(expert) = kind.hourly() {
            let size = (z[expert].abs() * hourly).min(3.0);
            let hour = &mut self.hours[hour];
            hour.towards(SIZE_TO_SCALE * size, HOUR_RATE);
            hour.set(hour.get().clamp(HOUR_LIMITS.0, HOUR_LIMITS.1));
        }
        sign * least.clamp(0.0, MOST)
    }

    fn learn(&mut self, z: &[f64], log_weight: &[f64], hourly: f64, seen: f64) {
        let experts = z.len();
        let most = log_weight.iter().copied().fold(f64::MIN, f64::max);
        let likelihood = |k: usize| libm::exp(log_weight[k] - most);
        let total: f64 = (0..experts).map(likelihood).sum();
        let rate = SCALE_RATE.max(1.0 / (seen + 2.0));
        for k in 0..experts {
            self.weight[k].set((1.0 - FIXED_SHARE) * likelihood(k) / total + FIXED_SHARE / experts as f64);
            let variance = self.variance[k].get();
            let residual = z[k] * (variance.sqrt() + 1e-9 / hourly);
            let trust = ((FREEDOM + 1.0) / (FREEDOM + z[k] * z[k])).min(MOST_WEIGHT);
            let variance = (1.0 - rate) * variance + rate * trust * residual * residual;
            self.variance[k].set(variance.max(LEAST_VARIANCE));
        }
    }

    /// Mean and deviation of the mixture of [`Kind::Seasonal`].
    pub(super) fn forecast(&self, forecasts: &[f64; FORECASTERS], hour: usize) -> (f64, f64) {
        let total: f64 = self.weight.iter().map(|weight| weight.get()).sum();
        let share = |k: usize| self.weight[k].get() / total.max(1e-12);
        let mean: f64 = (0..EXPERTS).map(|k| share(k) * forecasts[k]).sum();
        let spread = |k: usize| {
            let (scale, off) = (self.variance[k].get().sqrt() * self.hours[hour].get(), forecasts[k] - mean);
            share(k) * (scale * scale + off * off)
        };
        (mean, (0..EXPERTS).map(spread).sum::<f64>().sqrt())
    }

    /// Scale of one expert's residuals.
    pub(super) fn scale(&self, expert: usize) -> f64 {
        self.variance[expert].get().sqrt()
    }
}
