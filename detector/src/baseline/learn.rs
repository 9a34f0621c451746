//! Learning, after scoring: bounded influence, so that an attack does not become normal and a new routine does.

#![allow(clippy::needless_range_loop, reason = "the arrays of the experts are walked side by side")]

use super::compact::{Compact, WEEKLY_UNIT};
use super::daily_maxima::DAYS;
use super::predict::{EMPTY_DAY, Prediction, SIGMA_FLOOR};

/// Share of the weights that is given out by what the experts have earned, and the floor of that.
const FIXED_SHARE: f64 = 0.03;
const EARNED_RATE: f64 = 1.0 / 200.0;
const EARNED_FLOOR: f64 = 1e-4;
/// Rates of fast and slow level.
const FAST_RATE: f64 = 0.35;
const SLOW_RATE: f64 = 1.0 / 96.0;
/// Rates of the seasonal level: normal, and during a confirmed level change.
const LEVEL_RATE: f64 = 1.0 / 128.0;
const LEVEL_RATE_CHANGED: f64 = 1.0 / 8.0;
const TRACKING_RATE: f64 = 0.4;
/// Least rates of daily and weekly slots.
const DAILY_RATE: f64 = 0.1;
const WEEKLY_RATE: f64 = 0.07;
const SIGMA_RATE: f64 = 1.0 / 400.0;
const SIGMA_LEAST: f64 = 0.01;
const HOUR_RATE: f64 = 1.0 / 60.0;
const VARIANCE_RATE: f64 = 1.0 / 600.0;
/// Residuals beyond this act with weight CLIP / |z|.
const CLIP: f64 = 2.5;
/// A residual beyond this is a big outlier.
const BIG: f64 = 4.0;
/// Point evidence beyond this is an outlier.
const OUTLIER: f64 = 1.0;
/// Weight of an outlier, and of one that repeats at the same time of day.
const OUTLIER_WEIGHT: f64 = 0.1;
const REPEAT_WEIGHT: f64 = 0.7;
/// Level-change detector: rate (about 12 h at 15 min) and threshold; what the multi-bucket means keep during a change;
/// weight of slots meanwhile.
const SHIFT_RATE: f64 = 1.0 / 48.0;
const SHIFT_THRESHOLD: f64 = 1.6;
const SHIFT_KEEP: f64 = 0.9;
const SHIFT_SLOT_WEIGHT: f64 = 0.2;
/// Visits are counted up to this.
const MOST_VISITS: u8 = 250;

/// `value + step`, in doubles, stored as f32.
fn moved(value: f32, step: f64) -> f32 {
    (f64::from(value) + step) as f32
}

impl Compact {
    /// Learns the value that `p` was predicted for. `p` must come from this very state.
    pub(crate) fn learn(&mut self, p: &Prediction) {
        let buckets = f64::from(self.buckets);
        self.adopt(p);
        self.learn_variances(buckets);
        self.learn_weights(p);
        self.learn_scales(p, buckets);
        if f64::from(self.shift).abs() > SHIFT_THRESHOLD {
            self.mean_12 = (f64::from(self.mean_12) * SHIFT_KEEP) as f32;
            self.mean_48 = (f64::from(self.mean_48) * SHIFT_KEEP) as f32;
        }
        self.fast = moved(self.fast, FAST_RATE.max(1.0 / (buckets + 1.0)) * (p.y - f64::from(self.fast)));
        let off = p.y - f64::from(self.slow);
        let z = off.abs() / f64::from(self.sigma[1]).max(SIGMA_FLOOR);
        self.slow = moved(self.slow, SLOW_RATE.max(1.0 / (buckets + 1.0)) * off * (3.0 / z.max(1e-9)).min(1.0));
        if p.seasonal {
            self.learn_season(p, buckets);
        } else {
            self.season.enter(p.place.slot, (p.y - f64::from(self.level)) as f32);
        }
        self.buckets = self.buckets.saturating_add(1);
        self.newest = p.t;
    }

    /// What the prediction already worked out: knee, levels, entering experts, multi-bucket means, day.
    fn adopt(&mut self, p: &Prediction) {
        if let Some(ratio) = p.rebase {
            self.season.rebase(p.place.slots, self.level, ratio);
        }
        (self.mean, self.knee) = (p.mean, p.knee);
        (self.fast, self.slow, self.level, self.tracking) = (p.fast, p.slow, p.level, p.tracking);
        (self.weight, self.earned, self.sigma) = (p.weight, p.earned, p.sigma);
        (self.mean_12, self.mean_48) = (p.mean_12, p.mean_48);
        if let Some(closed) = &p.closed {
            let at = usize::from(self.next_day) % DAYS;
            for (ring, maximum) in self.season.grow().maxima.iter_mut().zip(closed.maxima) {
                ring[at] = maximum;
            }
            (self.location, self.scale) = (closed.location, closed.scale);
            self.next_day = ((at + 1) % DAYS) as u8;
            self.days = (self.days + 1).min(DAYS as u8);
        }
        if p.new_day {
            (self.day, self.buckets_today, self.today) = (p.place.day, 0, EMPTY_DAY);
        }
        self.buckets_today = self.buckets_today.saturating_add(1);
        for (maximum, value) in self.today.iter_mut().zip(p.channels) {
            *maximum = f64::from(*maximum).max(value) as f32;
        }
    }

    fn learn_variances(&mut self, buckets: f64) {
        let rate = VARIANCE_RATE.max(1.0 / (buckets + 20.0));
        let next = |variance: f32, mean: f32, least: f64| {
            let (variance, square) = (f64::from(variance), f64::from(mean) * f64::from(mean));
            (variance + rate * (square.min(9.0 * variance) - variance)).max(least) as f32
        };
        self.variance_12 = next(self.variance_12, self.mean_12, 0.02);
        self.variance_48 = next(self.variance_48, self.mean_48, 0.01);
    }

    /// Bayes step, then a fixed share that goes to experts which have earned it: a hopeless one can't put a floor under
    /// the tail.
    fn learn_weights(&mut self, p: &Prediction) {
        let n = p.experts;
        let evidence = (p.mixture_density * p.weight_sum).max(1e-300);
        let mut posterior = [0.0; super::compact::EXPERTS];
        let mut sum = 0.0;
        for k in 0..n {
            posterior[k] = f64::from(self.weight[k]) * p.density[k].max(1e-12) / evidence;
            sum += posterior[k];
        }
        let mut earned_sum = 0.0;
        for k in 0..n {
            posterior[k] /= sum;
            self.earned[k] = moved(self.earned[k], EARNED_RATE * (posterior[k] - f64::from(self.earned[k])));
            earned_sum += f64::from(self.earned[k]) + EARNED_FLOOR;
        }
        for k in 0..n {
            let share = (f64::from(self.earned[k]) + EARNED_FLOOR) / earned_sum;
            self.weight[k] = ((1.0 - FIXED_SHARE) * posterior[k] + FIXED_SHARE * share) as f32;
        }
    }

    fn learn_scales(&mut self, p: &Prediction, buckets: f64) {
        for k in 0..p.experts {
            let (factor, seen) =
                if k < 2 { (1.0, buckets) } else { (p.hour_scale, (buckets - p.place.slots as f64).max(0.0)) };
            let residual = (p.y - p.forecast[k]).abs() / factor;
            let sigma = f64::from(self.sigma[k]);
            let rate = SIGMA_RATE.max(1.0 / (seen + 8.0));
            self.sigma[k] = (sigma + rate * (residual.min(4.0 * sigma) * 1.25 - sigma)).max(SIGMA_LEAST) as f32;
        }
    }

    fn learn_season(&mut self, p: &Prediction, buckets: f64) {
        let place = &p.place;
        let residual = p.y - p.seasonal_forecast;
        let z = p.evidence.z;
        let size = z.abs();
        let outlier = p.evidence.t0 > OUTLIER;

        let profile = self.season.grow();
        let scale = f64::from(profile.hourly_scale[place.hour]);
        let relative = (residual.abs() / f64::from(self.sigma[3]).max(SIGMA_LEAST)).min(3.0);
        profile.hourly_scale[place.hour] = (scale + HOUR_RATE * (relative * 1.25 - scale)).clamp(0.3, 3.0) as f32;

        self.shift = moved(self.shift, SHIFT_RATE * (z.clamp(-3.0, 3.0) - f64::from(self.shift)));
        let changed = f64::from(self.shift).abs() > SHIFT_THRESHOLD;
        let bounded = if changed || size <= CLIP { 1.0 } else { CLIP / size };
        let level_rate = if changed { LEVEL_RATE_CHANGED } else { LEVEL_RATE };
        let caution = if outlier && !changed { OUTLIER_WEIGHT } else { 1.0 };
        self.level = moved(self.level, level_rate * residual * bounded * caution);
        self.tracking = moved(self.tracking, TRACKING_RATE * (residual - f64::from(self.tracking)));

        // A big outlier is learnt only when the same one was here, or next to here, the day before.
        let sign: i8 = if residual > 0.0 { 1 } else { -1 };
        let big = size > BIG;
        let repeated = [0, -1, 1].iter().any(|&step| profile.outlier[place.neighbour(step)] == sign);
        let mut weight = if big && repeated {
            REPEAT_WEIGHT
        } else if outlier || big {
            OUTLIER_WEIGHT * bounded
        } else {
            bounded
        };
        if changed {
            weight *= SHIFT_SLOT_WEIGHT;
        }
        let slot = place.slot;
        let visits = f64::from(profile.daily_visits[slot]);
        profile.daily[slot] = moved(profile.daily[slot], DAILY_RATE.max(1.0 / (visits + 1.0)) * weight * residual);
        if buckets > place.slots as f64 * 2.0 {
            let hour = place.hour_of_week;
            let visits = &mut profile.weekly_visits[hour];
            let deviation = f64::from(profile.weekly[hour]) / WEEKLY_UNIT;
            let rate = WEEKLY_RATE.max(1.0 / (f64::from(*visits) + 2.0));
            let off = p.y - f64::from(self.level) - f64::from(profile.daily[slot]) - deviation;
            let deviation = (deviation + rate * weight * off).clamp(-30.0, 30.0);
            profile.weekly[hour] = (deviation * WEEKLY_UNIT + 0.5).floor() as i16;
            *visits = visits.saturating_add(1).min(MOST_VISITS);
        }
        profile.outlier[slot] = if big { sign } else { 0 };
        profile.daily_visits[slot] = profile.daily_visits[slot].saturating_add(1).min(MOST_VISITS);
    }
}
