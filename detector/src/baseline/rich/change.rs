//! Change channels: what the shape of a series does, whatever its forecast.
//!
//! Each gives a signed number that is 0 when nothing changes; how rare it is is for [`Rarity`](super::rarity) to say.

use super::{
    level::{Level, clip, signed_log, span_rate},
    place::{COARSE_DAILY, COARSE_WEEKLY, Place},
    profile::Profile,
    rarity::WARM,
};

/// Channels, in order: shift, record, week, day, logdiff, quiet, logshift, recshift.
pub(super) const CHANGES: usize = 8;
/// Buckets before a record counts.
const RECORDS_AFTER: f64 = 40.0;
/// Steps of the mean absolute residual, and what an outlier counts as.
const SIZE_RATE: f64 = 0.002;
const OUTLIER: (f64, f64) = (6.0, 5.0);
/// A residual acts up to that many mean sizes.
const CLIP: f64 = 8.0;

/// A short and a long mean.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Pair {
    pub(super) short: Level,
    pub(super) long: Level,
}

impl Pair {
    fn begin(x: f64) -> Self {
        Self { short: Level::new(x), long: Level::new(x) }
    }

    /// Short mean over long mean as it was before `x`; then learns `x`.
    fn observe(&mut self, x: f64, buckets: (f64, f64), seen: f64) -> f64 {
        self.short.towards(x, span_rate(buckets.0, seen));
        let difference = self.short.get() - self.long.get();
        self.long.towards(x, span_rate(buckets.1, seen));
        difference
    }
}

/// The range of what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Range {
    pub(super) low: Level,
    pub(super) high: Level,
}

impl Range {
    fn width(self) -> f64 {
        self.high.get() - self.low.get()
    }

    /// How far `x` is outside the range, in widths of it and at most 1; then widens it.
    fn observe(&mut self, x: f64, seen: f64) -> f64 {
        let width = self.width().max(1e-9);
        let (over, under) = (x - self.high.get(), self.low.get() - x);
        let beyond = if over > 0.0 {
            self.high.set(x);
            (over / width).min(1.0)
        } else if under > 0.0 {
            self.low.set(x);
            -(under / width).min(1.0)
        } else {
            0.0
        };
        if seen < RECORDS_AFTER { 0.0 } else { beyond }
    }
}

/// A running mean of residuals against a coarse profile, each limited to some mean sizes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Residual {
    pub(super) mean: Level,
    pub(super) size: Level,
    pub(super) seen: u32,
}

impl Residual {
    /// `known`: the time of day was seen before, so that the residual says something of the usual size.
    fn observe(&mut self, residual: f64, known: bool, rate: f64) -> f64 {
        let size = self.size.get();
        if known {
            let step = SIZE_RATE.max(1.0 / (f64::from(self.seen) + 2.0));
            let outlier = self.seen > 0 && residual.abs() >= OUTLIER.0 * size;
            self.size.set(size + step * if outlier { OUTLIER.1 * size } else { residual.abs() - size });
            self.seen = self.seen.saturating_add(1);
        }
        self.mean.towards(clip(residual, CLIP * self.size.get()), rate);
        self.mean.get()
    }
}

/// What the change channels remember.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) shift: Pair,
    pub(super) log_shift: Pair,
    pub(super) mid_shift: Pair,
    pub(super) range: Range,
    pub(super) shift_range: Range,
    pub(super) daily: Profile<COARSE_DAILY>,
    pub(super) weekly: Profile<COARSE_WEEKLY>,
    pub(super) day: Residual,
    pub(super) week: Residual,
    pub(super) previous: Level,
    /// Mean size of the step from bucket to bucket.
    pub(super) step: Level,
    /// Sums over the first buckets.
    pub(super) sum: f64,
    pub(super) squares: f64,
}

impl Change {
    pub(super) const NEW: Self = Self {
        shift: Pair { short: Level(0.0), long: Level(0.0) },
        log_shift: Pair { short: Level(0.0), long: Level(0.0) },
        mid_shift: Pair { short: Level(0.0), long: Level(0.0) },
        range: Range { low: Level(0.0), high: Level(0.0) },
        shift_range: Range { low: Level(0.0), high: Level(0.0) },
        daily: Profile::EMPTY,
        weekly: Profile::EMPTY,
        day: Residual { mean: Level(0.0), size: Level(0.0), seen: 0 },
        week: Residual { mean: Level(0.0), size: Level(0.0), seen: 0 },
        previous: Level(0.0),
        step: Level(0.0),
        sum: 0.0,
        squares: 0.0,
    };

    /// Before the first value, `x`.
    pub(super) fn begin(&mut self, x: f64, knee: f64) {
        (self.shift, self.mid_shift) = (Pair::begin(x), Pair::begin(x));
        self.log_shift = Pair::begin(signed_log(x, knee));
        self.range = Range { low: Level::new(x), high: Level::new(x) };
        self.previous = Level::new(x);
    }

    /// What `x` is a change from, and for each channel the least deviation that means something; then learns `x`.
    pub(super) fn observe(&mut self, x: f64, knee: f64, place: &Place, seen: f64) -> [(f64, f64); CHANGES] {
        let log = signed_log(x, knee);
        let least = self.range.width() * 0.002 + 1e-9;
        let shift = self.shift.observe(x, (24.0, 800.0), seen);
        let record = self.range.observe(x, seen);
        let of_day = self.daily.get(place.coarse_daily).map(|usual| x - usual);
        let (known, of_day) = (of_day.is_some(), of_day.unwrap_or(0.0));
        let of_week = self.weekly.get(place.coarse_weekly).map_or(of_day, |usual| x - usual);
        let week = self.week.observe(of_week, known, 2.0 / 49.0);
        let day = self.day.observe(of_day, known, 2.0 / 65.0);
        let difference = log - signed_log(self.previous.get(), knee);
        let quiet = self.quiet(x, seen);
        let log_shift = self.log_shift.observe(log, (6.0, 200.0), seen);
        let mid_shift = self.mid_shift.observe(x, (12.0, 300.0), seen);
        let shift_record = self.shift_range.observe(mid_shift, seen);
        self.weekly.learn(place.coarse_weekly, x, 0.3, f64::INFINITY);
        self.daily.learn(place.coarse_daily, x, 0.1, f64::INFINITY);
        self.previous.set(x);
        [
            (shift, least),
            (record, 0.05),
            (week, least),
            (day, least),
            (difference, 0.02),
            (quiet, 0.1),
            (log_shift, 0.02),
            (shift_record, 0.05),
        ]
    }

    /// Large while the series moves less than it used to: a stuck sensor, a flat line.
    fn quiet(&mut self, x: f64, seen: f64) -> f64 {
        if seen < f64::from(WARM) {
            self.sum += x;
            self.squares += x * x;
        }
        let count = (seen + 1.0).min(f64::from(WARM));
        let mean = self.sum / count;
        let deviation = (self.squares / count - mean * mean).max(0.0).sqrt() + 1e-9;
        if seen > 0.0 {
            self.step.towards((x - self.previous.get()).abs(), span_rate(36.0, seen));
        }
        1.0 / (self.step.get() / deviation + 0.02)
    }
}
