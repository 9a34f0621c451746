//! Forecast and judgement of one value: everything that happens before learning, without touching the state.

#![allow(clippy::needless_range_loop, reason = "the arrays of the experts are walked side by side")]

use super::compact::{CHANNELS, Compact, EXPERTS, HOURS_OF_WEEK, NO_MAXIMUM, SCALE_AT_START, SLOTS, Side, WEEKLY_UNIT};
use super::daily_maxima::{self, DAYS};
use super::evidence::{Evidence, MULTI_BUCKET_BONUS};
use super::residual::{decades, survival_and_density, survival_of_mean};

const DAY_S: i64 = 86_400;
/// The knee is this share of the running mean, at least 1.
const KNEE: f64 = 0.1;
/// A knee is only moved when off by more than this factor.
const KNEE_TOLERANCE: f64 = 1.6;
/// Shrinkage of weekly slots, in visits.
const WEEKLY_SHRINKAGE: f64 = 3.0;
/// Least scale that a residual is divided by.
pub(super) const SIGMA_FLOOR: f64 = 0.08;
/// Clip of residuals that enter the multi-bucket means: against and along the side.
const CLIP: (f64, f64) = (2.0, 4.0);
const RATE_12: f64 = 2.0 / 13.0;
const RATE_48: f64 = 2.0 / 49.0;
/// Buckets that damp the point and the multi-bucket surprise of a new series.
const COLD: (f64, f64) = (96.0, 192.0);
/// A day's maximum is clipped at location + 3 scales once 5 days are known.
const MAXIMUM_CLIP: (f64, u8) = (3.0, 5);
/// Weight of the marginal evidence.
const MARGINAL: f64 = 0.4;

/// Where in day and week a bucket lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Daily slots in use at this bucket length.
    pub slots: usize,
    pub slot: usize,
    pub hour: usize,
    pub hour_of_week: usize,
    pub day: i32,
}

impl Place {
    fn new(t: i64, span_s: u32) -> Self {
        let slots = (DAY_S / i64::from(span_s.max(1))).clamp(1, SLOTS as i64);
        let (day, second) = (t.div_euclid(DAY_S), t.rem_euclid(DAY_S));
        let hour = second / 3600;
        let hour_of_week = (day + 4).rem_euclid(7) * 24 + hour;
        // All four are small and not negative by construction.
        Self {
            slots: slots as usize,
            slot: (second * slots / DAY_S) as usize,
            hour: (hour as usize).min(23),
            hour_of_week: (hour_of_week as usize).min(HOURS_OF_WEEK - 1),
            day: day as i32,
        }
    }

    /// The slot `steps` after this one (negative: before).
    pub(super) fn neighbour(&self, steps: i64) -> usize {
        (self.slot as i64 + steps).rem_euclid(self.slots as i64) as usize
    }
}

/// A finished day's maxima, and the fit that includes them.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClosedDay {
    pub maxima: [f32; CHANNELS],
    pub location: [f32; CHANNELS],
    pub scale: [f32; CHANNELS],
}

/// What `predict` found, and `learn` needs.
#[derive(Debug, Clone)]
pub(crate) struct Prediction {
    pub(super) evidence: Evidence,
    pub(super) t: i64,
    pub(super) place: Place,
    pub(super) y: f64,
    pub(super) mean: f32,
    pub(super) knee: f32,
    /// Old knee over new one, if it moves.
    pub(super) rebase: Option<f64>,
    pub(super) fast: f32,
    pub(super) slow: f32,
    pub(super) level: f32,
    pub(super) tracking: f32,
    /// Whether the slot was seen before, so that there is a seasonal forecast.
    pub(super) seasonal: bool,
    pub(super) weight: [f32; EXPERTS],
    pub(super) earned: [f32; EXPERTS],
    pub(super) sigma: [f32; EXPERTS],
    /// Experts at work.
    pub(super) experts: usize,
    /// Their forecasts and densities.
    pub(super) forecast: [f64; EXPERTS],
    pub(super) density: [f64; EXPERTS],
    pub(super) weight_sum: f64,
    pub(super) mixture_density: f64,
    /// Scale factor of this hour.
    pub(super) hour_scale: f64,
    /// The seasonal forecast, or the slow level.
    pub(super) seasonal_forecast: f64,
    pub(super) mean_12: f32,
    pub(super) mean_48: f32,
    pub(super) new_day: bool,
    pub(super) closed: Option<ClosedDay>,
    /// Point, 12-bucket and 48-bucket surprise, ln(1+x).
    pub(super) channels: [f64; CHANNELS],
}

impl Compact {
    /// Running mean, knee and, if the knee moves, the ratio of old to new.
    fn transform(&self, x: f64) -> (f32, f32, Option<f64>) {
        let buckets = f64::from(self.buckets);
        let (mut knee, mut mean) = (self.knee, self.mean);
        if knee < 0.0 {
            knee = (KNEE * x).max(1.0) as f32;
            mean = x as f32;
        }
        let limit = if self.buckets > 8 { f64::from(mean) * 20.0 + 20.0 } else { f64::MAX };
        mean = (f64::from(mean) + (1.0 / (buckets + 1.0)).max(1.0 / 672.0) * (x.min(limit) - f64::from(mean))) as f32;
        if matches!(self.buckets, 4 | 16 | 48) || self.buckets % 96 == 95 {
            let (old, new) = (f64::from(knee), (KNEE * f64::from(mean)).max(1.0));
            if new > KNEE_TOLERANCE * old || new < old / KNEE_TOLERANCE {
                return (mean, new as f32, Some(old / new));
            }
        }
        (mean, knee, None)
    }

    /// The daily slot as it reads after the knee moved.
    fn slot_value(&self, slot: usize, rebase: Option<f64>) -> f64 {
        let stored = self.season.daily(slot);
        f64::from(match rebase {
            Some(ratio) if self.season.visits(slot) > 0 => rebased_slot(stored, self.level, ratio),
            _ => stored,
        })
    }

    /// Scores x, which is finite and not negative, for the bucket at `t`. `marginal`: ln(1+x).
    pub(super) fn predict(&self, t: i64, x: f64, marginal: f64, span_s: u32, side: Side) -> Prediction {
        let place = Place::new(t, span_s);
        let buckets = f64::from(self.buckets);
        let (mean, knee, rebase) = self.transform(x);
        let c = f64::from(knee);
        let y = if c == 1.0 { marginal } else { libm::log1p(x / c) };

        let (mut fast, mut slow, mut level, mut tracking) = (self.fast, self.slow, self.level, self.tracking);
        if let Some(ratio) = rebase {
            (fast, slow, level, tracking) = (rebased(fast, ratio), rebased(slow, ratio), 0.0, 0.0);
        }
        let (mut weight, mut earned, mut sigma) = (self.weight, self.earned, self.sigma);
        if self.buckets == 0 {
            (fast, slow) = (y as f32, y as f32);
            (weight[0], weight[1], earned[0], earned[1]) = (0.5, 0.5, 0.5, 0.5);
        } else if t.saturating_sub(self.newest) > 8 * i64::from(span_s.max(1)) {
            tracking = 0.0;
        }

        // Forecasts.
        let slot_value = |slot: usize| self.slot_value(slot, rebase);
        let visits = self.season.visits(place.slot);
        let seasonal = visits > 0;
        let mut forecast = [f64::from(fast), f64::from(slow), 0.0, 0.0, 0.0, 0.0];
        let mut seasonal_forecast = f64::from(slow);
        let mut experts = 2;
        if seasonal {
            experts = EXPERTS;
            let (before, after) = (place.neighbour(-1), place.neighbour(1));
            let (d_before, d_after) = (slot_value(before), slot_value(after));
            let mut day = slot_value(place.slot);
            if self.season.visits(before) > 0 && self.season.visits(after) > 0 {
                let blend = 0.5 / (1.0 + f64::from(visits));
                day = (1.0 - blend) * day + blend * 0.5 * (d_before + d_after);
            }
            let (week, week_visits) = self.season.week(place.hour_of_week);
            let week_visits = f64::from(week_visits);
            let week = f64::from(week) / WEEKLY_UNIT * week_visits / (week_visits + WEEKLY_SHRINKAGE);
            let level = f64::from(level);
            let far = slot_value(place.neighbour(-2)).max(slot_value(place.neighbour(2)));
            seasonal_forecast = level + day + week;
            forecast[2] = level + day;
            forecast[3] = seasonal_forecast;
            forecast[4] = seasonal_forecast + f64::from(tracking);
            forecast[5] = level + week + d_before.max(d_after).max(far);
            if weight[3] == 0.0 {
                // Second day: the seasonal experts enter.
                for k in 2..EXPERTS {
                    (weight[k], earned[k]) = (0.2, 0.2);
                    if buckets < place.slots as f64 * 1.5 {
                        sigma[k] = f64::from(sigma[1]).max(0.5 * SCALE_AT_START) as f32;
                    }
                }
            }
        }

        // Tail of the mixture.
        let hour_scale = f64::from(self.season.hourly_scale(place.hour));
        let weight_sum: f64 = weight[..experts].iter().map(|w| f64::from(*w)).sum();
        let mut density = [0.0; EXPERTS];
        let (mut tail, mut mixture_density) = (0.0, 0.0);
        for k in 0..experts {
            let scale = expert_scale(&sigma, k, hour_scale);
            let (survival, slope) = survival_and_density((y - forecast[k]) / scale);
            density[k] = slope / scale;
            let share = f64::from(weight[k]) / weight_sum;
            tail += share * survival;
            mixture_density += share * density[k];
        }
        let p = match side {
            Side::High => tail,
            Side::Low => 1.0 - tail,
            Side::Both => 2.0 * tail.min(1.0 - tail),
        };
        // A first value surprises nobody: its logarithms would be multiplied by 0.
        let damped = |p: f64, cold: f64| {
            if self.buckets == 0 && p < 1.0 { 0.0 } else { decades(p) * (buckets / (buckets + cold)) }
        };
        let surprise = damped(p, COLD.0);

        // Multi-bucket evidence.
        let seasonal_scale = (f64::from(sigma[if seasonal { 3 } else { 1 }]) * hour_scale).max(SIGMA_FLOOR);
        let z = (y - seasonal_forecast) / seasonal_scale;
        // A job that moved by up to two slots is not a run of surprises.
        let tolerant =
            if seasonal && z > 0.0 { ((y - seasonal_forecast.max(forecast[5])) / seasonal_scale).max(0.0) } else { z };
        let clipped = match side {
            Side::High => tolerant.clamp(-CLIP.0, CLIP.1),
            Side::Low => tolerant.clamp(-CLIP.1, CLIP.0),
            Side::Both => tolerant.clamp(-CLIP.1, CLIP.1),
        };
        let towards = |mean: f32, rate: f64| (f64::from(mean) + rate * (clipped - f64::from(mean))) as f32;
        let (mean_12, mean_48) = (towards(self.mean_12, RATE_12), towards(self.mean_48, RATE_48));
        let multi = |mean: f32, variance: f32| {
            let u = f64::from(mean) / f64::from(variance).sqrt();
            let u = match side {
                Side::High => u,
                Side::Low => -u,
                Side::Both => u.abs(),
            };
            damped(survival_of_mean(u), COLD.1)
        };
        let surprise_12 = multi(mean_12, self.variance_12);
        let surprise_48 = multi(mean_48, self.variance_48);
        let channels = [surprise, surprise_12, surprise_48, marginal];

        // Against the usual daily maxima.
        // A bucket that was learnt before is looked at again when a correction comes: its day doesn't begin anew.
        let new_day = place.day != self.day && (self.buckets == 0 || t > self.newest);
        let closed = new_day.then(|| self.close_day(place.slots)).flatten();
        let (location, scale) = closed.map_or((self.location, self.scale), |day| (day.location, day.scale));
        let mut t_values = [0.0; CHANNELS];
        for (j, value) in t_values.iter_mut().enumerate() {
            *value = (channels[j] - f64::from(location[j])) / f64::from(scale[j]) / std::f64::consts::LN_10;
        }
        let [t0, t1, t2, ty] = t_values;
        let mut q = t0.max(t1.max(t2) + MULTI_BUCKET_BONUS);
        // Marginal evidence only makes sense upwards.
        match side {
            Side::High => q += MARGINAL * ty,
            Side::Both if z > 0.0 => q += MARGINAL * ty.max(0.0),
            Side::Both | Side::Low => {}
        }
        let evidence = Evidence { q, t0, t1, t2, ty, surprise, z, ..Evidence::NONE };
        Prediction {
            evidence,
            t,
            place,
            y,
            mean,
            knee,
            rebase,
            fast,
            slow,
            level,
            tracking,
            seasonal,
            weight,
            earned,
            sigma,
            experts,
            forecast,
            density,
            weight_sum,
            mixture_density,
            hour_scale,
            seasonal_forecast,
            mean_12,
            mean_48,
            new_day,
            closed,
            channels,
        }
    }

    /// The day that ended, if at least half of it was seen.
    fn close_day(&self, slots: usize) -> Option<ClosedDay> {
        // At least one, lest a series of daily buckets began with a day that has no maximum.
        if usize::from(self.buckets_today) < (slots / 2).max(1) {
            return None;
        }
        let at = usize::from(self.next_day) % DAYS;
        let days = (usize::from(self.days) + 1).min(DAYS);
        let mut closed = ClosedDay { maxima: self.today, location: self.location, scale: self.scale };
        for j in 0..CHANNELS {
            if self.days >= MAXIMUM_CLIP.1 {
                let most = f64::from(self.location[j]) + MAXIMUM_CLIP.0 * f64::from(self.scale[j]);
                closed.maxima[j] = f64::from(self.today[j]).min(most) as f32;
            }
            let mut ring = self.season.maxima(j);
            ring[at] = closed.maxima[j];
            let prior = if j == 3 { daily_maxima::marginal(f64::from(self.prior)) } else { daily_maxima::SURPRISE };
            let (location, scale) = daily_maxima::fit(&ring, days, prior);
            (closed.location[j], closed.scale[j]) = (location as f32, scale as f32);
        }
        Some(closed)
    }
}

/// Today's maxima of a day without buckets.
pub(super) const EMPTY_DAY: [f32; CHANNELS] = [NO_MAXIMUM; CHANNELS];

/// Scale of an expert's residual: the seasonal ones know the hour.
pub(super) fn expert_scale(sigma: &[f32; EXPERTS], k: usize, hour_scale: f64) -> f64 {
    (f64::from(sigma[k]) * if k >= 2 { hour_scale } else { 1.0 }).max(SIGMA_FLOOR)
}

/// A level carried over to the new knee (exact for points).
fn rebased(level: f32, ratio: f64) -> f32 {
    libm::log1p(libm::expm1(f64::from(level).max(0.0)) * ratio) as f32
}

/// A daily slot carried over to the new knee; the level it was relative to becomes 0.
pub(super) fn rebased_slot(slot: f32, level: f32, ratio: f64) -> f32 {
    libm::log1p(libm::expm1((f64::from(slot) + f64::from(level)).max(0.0)) * ratio) as f32
}
