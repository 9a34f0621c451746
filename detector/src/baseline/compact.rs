//! The compact model of one series: 256 bytes that learn a host's level, and 1.6 kB for its day and week once it has
//! been there for longer than a day.
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

use super::{
    evidence::Evidence,
    predict::Prediction,
    season::{Profile, Season},
};

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
    /// What it knows of day and week.
    pub(super) season: Season,
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
    /// Buckets learnt of `day`.
    pub(super) buckets_today: u16,
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
            season: Season::default(),
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
            buckets_today: 0,
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
        let Some(x) = usable(value) else { return Evidence::NONE };
        let prediction = self.predict(t, x, libm::log1p(x), span_s, side);
        if bounds { prediction.bounded() } else { prediction.evidence }
    }

    /// Scores the value as [`Compact::score`] does, then learns it. Buckets come in order; missing ones are skipped.
    pub fn observe(&mut self, t: i64, value: Option<f64>, span_s: u32, side: Side, bounds: bool) -> Evidence {
        let Some(x) = usable(value) else { return Evidence::NONE };
        let prediction = self.predict(t, x, libm::log1p(x), span_s, side);
        self.learn(&prediction);
        if bounds { prediction.bounded() } else { prediction.evidence }
    }

    /// What [`Compact::score`] finds of a value, finite and not negative, and what [`Compact::learn`] needs to learn
    /// it. `logarithm`: that of the value, `ln(1+x)`.
    pub(crate) fn foresee(&self, t: i64, value: f64, logarithm: f64, span_s: u32, side: Side) -> Prediction {
        self.predict(t, value, logarithm, span_s, side)
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

impl Compact {
    /// What a series takes besides, from its second day on.
    pub(crate) const PROFILE_BYTES: usize = size_of::<Profile>();
}

const _: () = assert!(size_of::<Compact>() <= 256, "a first day must stay cheap");
const _: () = assert!(size_of::<Compact>() + size_of::<Profile>() <= 1900, "a million series must fit into 2 GB");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{prior_l, record_score};
    use super::*;

    fn values(e: &Evidence) -> [f64; 12] {
        [e.q, e.t0, e.t1, e.t2, e.ty, e.surprise, e.typical, e.lower95, e.upper95, e.lower99, e.upper99, e.z]
    }

    fn any_side() -> impl Strategy<Value = Side> {
        prop_oneof![Just(Side::High), Just(Side::Low), Just(Side::Both)]
    }

    fn any_value() -> impl Strategy<Value = f64> {
        prop_oneof![Just(0.0), 0.0..10.0, 0.0..1e9, Just(1e18), Just(f64::MAX), Just(f64::MIN_POSITIVE)]
    }

    proptest! {
        #[test]
        fn any_series_gives_finite_results(
            start in any::<i64>(),
            span in prop_oneof![Just(900u32), Just(60), Just(3600), Just(86_400), any::<u32>()],
            side in any_side(),
            values_in in prop::collection::vec((any_value(), 0i64..12), 1..600),
        ) {
            let mut model = Compact::new(PRIOR_UNKNOWN);
            let mut t = start;
            for (x, gap) in values_in {
                let e = model.observe(t, Some(x), span, side, true);
                prop_assert!(values(&e).iter().all(|value| value.is_finite()), "{e:?}");
                prop_assert!((0.0..=100.0).contains(&record_score(prior_l(e.q))));
                prop_assert!(0.0 <= e.lower99 && e.lower99 <= e.lower95 && e.lower95 <= e.typical);
                prop_assert!(e.typical <= e.upper95 && e.upper95 <= e.upper99);
                t = t.wrapping_add(i64::from(span).wrapping_mul(1 + gap));
            }
            prop_assert!(Compact::from_bytes(&model.to_bytes()).is_ok());
        }

        #[test]
        fn any_time_is_accepted(times in prop::collection::vec(any::<i64>(), 1..100), side in any_side()) {
            let mut model = Compact::new(f64::NAN);
            for t in times {
                let e = model.observe(t, Some(5.0), 900, side, true);
                prop_assert!(values(&e).iter().all(|value| value.is_finite()));
            }
        }

        #[test]
        fn more_traffic_never_lowers_the_score(
            scale in 1.0..1e6f64,
            // Also just before the knee may move: there the transform itself depends on the value.
            learnt in prop_oneof![0i64..2500, Just(4), Just(16), Just(48), (1i64..20).prop_map(|day| day * 96 - 1)],
            // A level change shortly before, so that the knee is about to move.
            jump in prop_oneof![Just(1.0), 0.05..20.0f64],
            noise in prop::collection::vec(0.5..1.5f64, 97),
        ) {
            let mut model = Compact::new(PRIOR_UNKNOWN);
            for i in 0..learnt {
                let day = (1.2 + (i % 96) as f64 / 96.0) * if i + 60 > learnt { jump } else { 1.0 };
                model.observe(i * 900, Some((scale * day * noise[(i % 97) as usize]).floor()), 900, Side::High, false);
            }
            let mut last = f64::MIN;
            for step in 0..400 {
                let x = libm::expm1(f64::from(step) * 0.08);
                let q = model.score(learnt * 900, Some(x), 900, Side::High, false).q;
                prop_assert!(q >= last - 1e-5 * q.abs().max(1.0), "{q} at {x} after {last}");
                last = q;
            }
        }
    }

    #[test]
    fn what_is_no_value_is_missing() {
        let mut model = Compact::new(PRIOR_UNKNOWN);
        let untouched = model.clone();
        for value in [None, Some(f64::NAN), Some(f64::INFINITY), Some(-1.0)] {
            assert_eq!(model.observe(0, value, 900, Side::High, true), Evidence::NONE);
        }
        assert_eq!(model, untouched);
    }

    #[test]
    fn a_flood_scores_high_and_a_nightly_job_is_learnt() {
        let mut model = Compact::new(PRIOR_UNKNOWN);
        let mut noise = 1u32;
        let mut job_scores = Vec::new();
        let mut flood = 0.0;
        for i in 0..96 * 40i64 {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut x = 100.0 + f64::from(noise >> 24) * 0.2;
            let (day, slot) = (i / 96, i % 96);
            let job = day >= 20 && slot == 8;
            if job {
                x += 2000.0;
            }
            if i == 96 * 19 + 50 {
                x += 20_000.0;
            }
            let score = record_score(prior_l(model.observe(i * 900, Some(x), 900, Side::High, false).q));
            if job {
                job_scores.push(score);
            } else if x > 10_000.0 {
                flood = score;
            }
        }
        assert!(flood > 75.0, "{flood}");
        assert!(job_scores[0] > 50.0, "a new job is news: {job_scores:?}");
        assert!(job_scores[17..].iter().all(|score| *score < 25.0), "but not for ever: {job_scores:?}");
    }
}
