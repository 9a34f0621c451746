//! What the model says of one value.

use super::predict::{Prediction, expert_scale};

/// Two-sided 95 % and 99 % quantiles of the residual law, checked empirically.
const QUANTILES: (f64, f64) = (1.70, 4.24);
/// Keeps e^y finite.
const LARGEST_EXPONENT: f64 = 600.0;

/// How unusual a value is, and what would have been usual.
///
/// `q`, `t0`, `t1`, `t2` and `ty` are in decades of event rate: 0 is what a usual day's highest bucket reaches, +1 is
/// reached ten times less often. All fields are 0 where there was no data (see [`Evidence::NONE`]), and the bounds are
/// 0 where they weren't asked for.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Evidence {
    /// The verdict: the stronger of point and multi-bucket evidence, plus the marginal one. Input of the calibration.
    pub q: f64,
    /// Point evidence: this bucket by itself, against the forecast.
    pub t0: f64,
    /// Multi-bucket evidence over about 12 buckets.
    pub t1: f64,
    /// Multi-bucket evidence over about 48 buckets.
    pub t2: f64,
    /// Marginal evidence: the value against the series' daily maxima, whatever the season.
    pub ty: f64,
    /// -log10 of the forecast's tail probability at the value, damped in a series' first days.
    pub surprise: f64,
    /// The forecast, in the value's unit.
    pub typical: f64,
    /// Lower end of the 95 % interval, in the value's unit, never below 0.
    pub lower95: f64,
    /// Upper end of the 95 % interval.
    pub upper95: f64,
    /// Lower end of the 99 % interval.
    pub lower99: f64,
    /// Upper end of the 99 % interval.
    pub upper99: f64,
    /// Residual against the seasonal forecast, in its scale, signed.
    pub z: f64,
}

/// Multi-bucket channels are slightly favoured: they are fewer independent looks.
pub(super) const MULTI_BUCKET_BONUS: f64 = 0.15;

impl Evidence {
    /// What is said of a bucket without data.
    pub const NONE: Self = Self {
        q: 0.0,
        t0: 0.0,
        t1: 0.0,
        t2: 0.0,
        ty: 0.0,
        surprise: 0.0,
        typical: 0.0,
        lower95: 0.0,
        upper95: 0.0,
        lower99: 0.0,
        upper99: 0.0,
        z: 0.0,
    };

    /// The stronger multi-bucket channel, as it enters `q`.
    #[must_use]
    pub fn multi_bucket(&self) -> f64 {
        self.t1.max(self.t2) + MULTI_BUCKET_BONUS
    }
}

impl Prediction {
    /// The evidence without forecast and intervals.
    pub(crate) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The evidence with forecast and intervals, which few values need.
    pub(crate) fn bounded(&self) -> Evidence {
        let experts = || self.weight.iter().zip(self.forecast).enumerate().take(self.experts);
        let share = |weight: &f32| f64::from(*weight) / self.weight_sum;
        let mut center = 0.0;
        for (_, (weight, forecast)) in experts() {
            center += share(weight) * forecast;
        }
        let mut variance = 0.0;
        for (k, (weight, forecast)) in experts() {
            let scale = expert_scale(&self.sigma, k, self.hour_scale);
            let off = forecast - center;
            variance += share(weight) * (scale * scale + off * off);
        }
        let deviation = variance.sqrt();
        let back = |y: f64| f64::from(self.knee) * libm::expm1(y.clamp(0.0, LARGEST_EXPONENT));
        Evidence {
            typical: back(center),
            lower95: back(center - QUANTILES.0 * deviation),
            upper95: back(center + QUANTILES.0 * deviation),
            lower99: back(center - QUANTILES.1 * deviation),
            upper99: back(center + QUANTILES.1 * deviation),
            ..self.evidence
        }
    }
}

/// How much of the evidence is multi-bucket: -5 (this bucket alone) to +5 (only the run of buckets), 0 when both weigh
/// the same.
///
/// Elastic's scale: an impact of 5 means that the multi-bucket evidence is a thousand times rarer, so one decade between
/// the two is 5/3.
#[must_use]
pub fn multi_bucket_impact(evidence: &Evidence) -> f64 {
    if *evidence == Evidence::NONE {
        return 0.0;
    }
    ((evidence.multi_bucket() - evidence.t0) * 5.0 / 3.0).clamp(-5.0, 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impact_tells_a_lone_spike_from_a_long_shift() {
        let lone = Evidence { t0: 5.0, t1: 0.0, t2: -1.0, ..Evidence::NONE };
        let shift = Evidence { t0: -1.0, t1: 1.0, t2: 4.0, ..Evidence::NONE };
        let even = Evidence { t0: 1.15, t1: 1.0, t2: 0.0, ..Evidence::NONE };
        assert_eq!(multi_bucket_impact(&lone), -5.0);
        assert_eq!(multi_bucket_impact(&shift), 5.0);
        assert!(multi_bucket_impact(&even).abs() < 1e-9);
        assert_eq!(multi_bucket_impact(&Evidence::NONE), 0.0);
    }
}
