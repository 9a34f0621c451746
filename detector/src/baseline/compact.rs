//! The compact model of one series: under 1.9 kB that learn a host's level, day and week.
//!
//! 1. A value x becomes `y = ln(1 + x/c)`: logarithmic for traffic, linear for the noise far below the mean.
//! 2. Six experts forecast y (fast level, slow level, day, day and week, the same with tracking, neighbouring slots);
//!    their weighted tail gives the point surprise.
//! 3. Residuals against the seasonal expert, averaged over 12 and 48 buckets, give the multi-bucket surprise.
//! 4. Each is judged by how far it exceeds its own usual daily maximum.
//! 5. Only then is the value learnt, with bounded influence: an attack must not become the new normal, a new nightly job
//!    must.
//!
//! `predict` computes all that without touching the state; `learn` applies it. State is kept in small integers
//! and floats, arithmetic is in doubles.

use super::daily_maxima::DAYS;
use super::evidence::Evidence;

/// Slots of the daily profile (15 min). Buckets longer than that use fewer slots, shorter ones share a slot.
pub(super) const SLOTS: usize = 96;
/// Slots of the weekly profile.
pub(super) const HOURS_OF_WEEK: usize = 168;
/// Forecasters: 0 fast level, 1 slow level, 2 day, 3 day and week, 4 the same with tracking, 5 neighbouring slots.
pub(super) const EXPERTS: usize = 6;
/// Channels whose daily maxima are kept: point, 12 buckets, 48 buckets, ln(1+x).
pub(super) const CHANNELS: usize = 4;
/// Units of a weekly slot.
pub(super) const WEEKLY_UNIT: f64 = 1024.0;
/// A day's maximum before its first bucket.
pub(super) const NO_MAXIMUM: f32 = -1e9;
/// Residual scale before anything is known.
pub(super) const SCALE_AT_START: f64 = 0.7;

/// The pooled prior where none is known: ln(1 + 1000).
pub const PRIOR_UNKNOWN: f64 = 6.908_754_779_315_22;
/// Values above this are taken as this.
pub const LARGEST_VALUE: f64 = 1e30;

/// Which deviations count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Only values above what is usual.
    High,
    /// Only values below what is usual.
    Low,
    /// Both.
    Both,
}

/// State of one series.
///
/// All buckets of a series must have one length and be judged on one [`Side`]: the state is specific to both.
#[derive(Debug, Clone, PartialEq)]
pub struct Compact {
    /// Start of the newest bucket learnt, epoch seconds.
    pub(super) newest: i64,
    /// Daily profile, relative to `level`.
    pub(super) daily: [f32; SLOTS],
    /// Residual scale factor by hour of day.
    pub(super) hourly_scale: [f32; 24],
    /// Daily maxima of each channel, a ring.
    pub(super) maxima: [[f32; DAYS]; CHANNELS],
    /// Fitted location of the daily maxima.
    pub(super) location: [f32; CHANNELS],
    /// Fitted scale of the daily maxima.
    pub(super) scale: [f32; CHANNELS],
    /// Today's maxima so far.
    pub(super) today: [f32; CHANNELS],
    /// Weights of the experts.
    pub(super) weight: [f32; EXPERTS],
    /// Slow average of the weights: what an expert has earned.
    pub(super) earned: [f32; EXPERTS],
    /// Residual scales of the experts.
    pub(super) sigma: [f32; EXPERTS],
    /// Knee c of the transform; negative before the first value.
    pub(super) knee: f32,
    /// Running mean of the values.
    pub(super) mean: f32,
    /// Fast level.
    pub(super) fast: f32,
    /// Slow level.
    pub(super) slow: f32,
    /// Level of the seasonal model.
    pub(super) level: f32,
    /// Tracked residual of the seasonal model.
    pub(super) tracking: f32,
    /// Level-change detector.
    pub(super) shift: f32,
    /// 12-bucket mean of clipped residuals.
    pub(super) mean_12: f32,
    /// 48-bucket mean of clipped residuals.
    pub(super) mean_48: f32,
    /// Variance of `mean_12`.
    pub(super) variance_12: f32,
    /// Variance of `mean_48`.
    pub(super) variance_48: f32,
    /// Pooled prior: location of the daily maximum of ln(1+x).
    pub(super) prior: f32,
    /// Buckets learnt.
    pub(super) buckets: u32,
    /// Day (since 1970) of `today`.
    pub(super) day: i32,
    /// Weekly profile: deviation of an hour of the week from the daily profile, in 1/1024.
    pub(super) weekly: [i16; HOURS_OF_WEEK],
    /// Buckets learnt of `day`.
    pub(super) buckets_today: u16,
    /// Visits to a daily slot, saturating at 250.
    pub(super) daily_visits: [u8; SLOTS],
    /// Sign of the last big outlier at a daily slot.
    pub(super) outlier: [i8; SLOTS],
    /// Visits to a weekly slot, saturating at 250.
    pub(super) weekly_visits: [u8; HOURS_OF_WEEK],
    /// Daily maxima known, up to [`DAYS`].
    pub(super) days: u8,
    /// Where the next daily maximum goes.
    pub(super) next_day: u8,
}

impl Compact {
    /// A series of which nothing is known. `prior`: the 97 % quantile of ln(1+x) over the fleet's recent buckets of the
    /// same measure, or [`PRIOR_UNKNOWN`].
    #[must_use]
    pub fn new(prior: f64) -> Self {
        let prior = if prior.is_finite() { prior.clamp(0.0, 70.0) } else { PRIOR_UNKNOWN };
        let surprise = super::daily_maxima::SURPRISE;
        let marginal = super::daily_maxima::marginal(prior);
        let (location, scale) = (surprise.location as f32, surprise.scale as f32);
        Self {
            newest: 0,
            daily: [0.0; SLOTS],
            hourly_scale: [1.0; 24],
            maxima: [[0.0; DAYS]; CHANNELS],
            location: [location, location, location, marginal.location as f32],
            scale: [scale, scale, scale, marginal.scale as f32],
            today: [NO_MAXIMUM; CHANNELS],
            weight: [0.0; EXPERTS],
            earned: [0.0; EXPERTS],
            sigma: [SCALE_AT_START as f32; EXPERTS],
            knee: -1.0,
            mean: 0.0,
            fast: 0.0,
            slow: 0.0,
            level: 0.0,
            tracking: 0.0,
            shift: 0.0,
            mean_12: 0.0,
            mean_48: 0.0,
            variance_12: 0.3,
            variance_48: 0.2,
            prior: prior as f32,
            buckets: 0,
            day: -1,
            weekly: [0; HOURS_OF_WEEK],
            buckets_today: 0,
            daily_visits: [0; SLOTS],
            outlier: [0; SLOTS],
            weekly_visits: [0; HOURS_OF_WEEK],
            days: 0,
            next_day: 0,
        }
    }

    /// Scores the value of the bucket that starts at `t` (epoch seconds) and is `span_s` seconds long, and learns
    /// nothing: for windows that are incomplete or still open. The result is what [`Compact::observe`] would return.
    ///
    /// `None`, NaN, infinite and negative values are missing data ([`Evidence::NONE`]); a series known to be silent has
    /// the value 0. `bounds`: also forecast and intervals.
    #[must_use]
    pub fn score(&self, t: i64, value: Option<f64>, span_s: u32, side: Side, bounds: bool) -> Evidence {
        usable(value).map_or(Evidence::NONE, |x| self.predict(t, x, span_s, side, bounds).evidence)
    }

    /// Scores the value as [`Compact::score`] does, then learns it. Buckets come in order; missing ones are skipped.
    pub fn observe(&mut self, t: i64, value: Option<f64>, span_s: u32, side: Side, bounds: bool) -> Evidence {
        let Some(x) = usable(value) else { return Evidence::NONE };
        let prediction = self.predict(t, x, span_s, side, bounds);
        self.learn(&prediction);
        prediction.evidence
    }

    /// Buckets learnt so far.
    #[must_use]
    pub fn buckets(&self) -> u32 {
        self.buckets
    }
}

fn usable(value: Option<f64>) -> Option<f64> {
    value.filter(|x| x.is_finite() && *x >= 0.0).map(|x| x.min(LARGEST_VALUE))
}

const _: () = assert!(size_of::<Compact>() <= 1900, "a million series must fit into 2 GB");
