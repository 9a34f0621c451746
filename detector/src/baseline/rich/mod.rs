//! The rich model: for the few series that carry a whole site or the whole network.
//!
//! ```text
//! value ─▶ forecasts ─▶ 5 point models ─┐
//!       └▶ 8 change channels ───────────┴▶ how rare each is for this series ─▶ two groups ─▶ over the usual day's ─▶ score
//! ```
//!
//! 1. Seven forecasters (`levels`, `profile`): fast and slow level, the 5-minute slot of the day and of the week, the
//!    season with its level or its newest error, and a local trend. Five point models (`point`) weigh them: the value as
//!    it is, the same by hour of day, its logarithm, and two without slow experts, which see short spikes on smooth curves.
//! 2. Eight channels look at the shape instead (`change`): short means against long ones, records, residuals that stay,
//!    jumps, unusual calm.
//! 3. Each channel's value becomes -log10 of its probability against that channel's own past (`rarity`); a side takes
//!    only the part that points its way. So no channel needs a unit or a threshold.
//! 4. Channels that say the same are averaged, and the stronger group counts.
//! 5. What the series reaches on a usual day, and how many buckets a day has, is taken off (`bar`).
//! 6. Only then is the value learnt.
//!
//! One pass, 17.4 kB a series. Nothing looks ahead, and nothing was fitted to labels except the score's anchor.

mod bar;
mod change;
mod codec;
mod level;
mod levels;
mod place;
mod point;
mod profile;
mod rarity;

use self::{
    bar::Bar,
    change::{CHANGES, Change},
    level::Level,
    levels::Levels,
    place::{DAILY, Place, WEEKLY},
    point::{FORECASTERS, KINDS, PointModel},
    profile::Profile,
    rarity::Rarity,
};
use super::Side;

pub use self::bar::{probability, score_at};

/// Values beyond this, either way, are taken as this: their squares must fit into an f32.
pub const LARGEST_VALUE: f64 = 1e18;
/// Channels of evidence.
pub const CHANNELS: usize = CHANGES + KINDS.len();
/// Knee of the logarithm: share of the mean size.
const KNEE: f64 = 0.1;
/// Weight of the change group against the point group.
const CHANGE_WEIGHT: f64 = 2.0;
/// Most decades of one channel.
const MOST: f64 = 8.0;
/// What a one-sided probability is smaller by, in decades: half of what is unusual points the other way.
const ONE_SIDED: f64 = std::f64::consts::LOG10_2;
/// Least deviation of a point model's surprise that means something, decades.
const LEAST_SURPRISE: f64 = 0.1;
/// Rate of the fine profiles at 5 minutes or longer, and how many scales one value moves them by.
const PROFILE_RATE: f64 = 0.25;
const CLIP: f64 = 4.0;
/// Two-sided 95 % and 99 % quantiles of the mixture, in deviations.
const QUANTILES: (f64, f64) = (2.2, 3.6);

/// State of one series. All its buckets must have one length and be judged on one [`Side`].
#[derive(Debug, Clone, PartialEq)]
pub struct Rich {
    /// Start of the newest bucket learnt, epoch seconds.
    newest: i64,
    /// Buckets learnt.
    buckets: u32,
    /// Mean size of the values.
    size: Level,
    levels: Levels,
    daily: Profile<DAILY>,
    weekly: Profile<WEEKLY>,
    /// One of each of [`KINDS`].
    points: [PointModel; KINDS.len()],
    change: Change,
    rarity: [Rarity; CHANNELS],
    bar: Bar,
}

/// What the rich model says of one value.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Opinion {
    /// Decades of evidence over what the series reaches on a usual day.
    pub evidence: f64,
    /// 0 to 100.
    pub score: f64,
    /// Evidence of the value by itself, decades.
    pub point: f64,
    /// Evidence of the series' shape, decades.
    pub change: f64,
    /// Evidence of each channel: plain point model; shift, record, week, day, jump, quiet, fast shift, record of shifts;
    /// seasonal, logarithmic, sharp and trend point model.
    pub channels: [f64; CHANNELS],
    /// The forecast, in the value's unit.
    pub typical: f64,
    /// The 95 % interval.
    pub bounds95: (f64, f64),
    /// The 99 % interval.
    pub bounds99: (f64, f64),
}

impl Opinion {
    /// How much of the evidence is multi-bucket: -5 (this bucket alone) to +5 (only the run of buckets up to it), on
    /// Elastic's scale: a decade between the two is 5/3.
    #[must_use]
    pub fn multi_bucket_impact(&self) -> f64 {
        let mean = |channels: [usize; 5]| channels.iter().map(|at| self.channels[*at]).sum::<f64>() / 5.0;
        let (bucket, run) = (mean([0, 2, JUMP, SEASONAL, SEASONAL + 2]), mean([1, 3, 4, 7, 8]));
        ((run - bucket) * 5.0 / 3.0).clamp(-5.0, 5.0)
    }
}

impl Default for Rich {
    fn default() -> Self {
        Self::new()
    }
}

impl Rich {
    /// Length of the stored form.
    pub(crate) const STORED_BYTES: usize = codec::LENGTH;

    /// A series of which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self {
            newest: 0,
            buckets: 0,
            size: Level(0.0),
            levels: Levels::default(),
            daily: Profile::EMPTY,
            weekly: Profile::EMPTY,
            points: [PointModel::NEW; KINDS.len()],
            change: Change::NEW,
            rarity: [Rarity::NEW; CHANNELS],
            bar: Bar::NEW,
        }
    }

    /// Buckets learnt so far.
    #[must_use]
    pub fn buckets(&self) -> u32 {
        self.buckets
    }

    /// Scores a value as [`Rich::observe`] does, and learns nothing: for windows that are incomplete or still open.
    #[must_use]
    pub fn score(&self, t: i64, value: Option<f64>, span_s: u32, side: Side) -> Opinion {
        self.clone().observe(t, value, span_s, side)
    }

    /// Scores the value of the bucket that starts at `t` (epoch seconds) and is `span_s` seconds long, then learns it.
    /// Buckets come in order; missing ones are skipped.
    ///
    /// `None`, NaN and infinite values are missing data; a series known to be silent has the value 0.
    pub fn observe(&mut self, t: i64, value: Option<f64>, span_s: u32, side: Side) -> Opinion {
        let Some(x) = value.filter(|x| x.is_finite()) else { return Opinion::default() };
        let x = x.clamp(-LARGEST_VALUE, LARGEST_VALUE);
        let (place, seen) = (Place::new(t, span_s), f64::from(self.buckets));
        if self.buckets > 0 && t.saturating_sub(self.newest) > 8 * i64::from(span_s.max(1)) {
            self.levels.error = Level(0.0);
        }
        if self.buckets == 0 {
            self.begin(x);
        }
        self.size.towards(x.abs(), (1.0 / (seen + 1.0)).max(1.0 / (14.0 * place.slots)));
        let knee = KNEE * self.size.get() + 1e-9;

        let known = self.daily.get(place.daily);
        let season = self.season(&place);
        let forecasts = self.forecasts(known, season, &place);
        let (typical, deviation) = self.points[1].forecast(&forecasts, place.hour);
        let mut surprises = [0.0; KINDS.len()];
        for (surprise, (point, kind)) in surprises.iter_mut().zip(self.points.iter_mut().zip(KINDS)) {
            *surprise = point.observe(kind, x, &forecasts, knee, place.hour, seen);
        }
        let mut changes = self.change.observe(x, knee, &place, seen);
        if side != Side::Both {
            // Calm has no direction.
            changes[QUIET - 1].0 = 0.0;
        }
        let channels = self.rarities(&surprises, &changes, side);
        let (point, change) = groups(&channels, side);
        let evidence = self.bar.observe(point.max(CHANGE_WEIGHT * change), place.day, span_s);

        self.levels.learn_trend(x, seen, self.points[TREND].scale(0));
        self.levels.learn(x, seen, known.map(|_| season), self.points[1].scale(4));
        let (rate, limit) = (PROFILE_RATE * (f64::from(span_s) / 300.0).min(1.0), CLIP * self.points[1].scale(2));
        self.daily.learn(place.daily, x, rate, limit);
        self.weekly.learn(place.weekly, x, rate, limit);
        self.buckets = self.buckets.saturating_add(1);
        self.newest = t;
        let bounds = |quantile: f64| (typical - quantile * deviation, typical + quantile * deviation);
        Opinion {
            evidence,
            score: bar::score(evidence),
            point,
            change,
            channels,
            typical,
            bounds95: bounds(QUANTILES.0),
            bounds99: bounds(QUANTILES.1),
        }
    }

    /// Before the first value, `x`.
    fn begin(&mut self, x: f64) {
        self.levels = Levels::begin(x);
        self.size.set(x.abs());
        let knee = KNEE * self.size.get() + 1e-9;
        for (point, kind) in self.points.iter_mut().zip(KINDS) {
            point.begin(kind, x, knee);
        }
        self.change.begin(x, knee);
    }

    /// What the profiles say: the mean of day and week, or the fast level where they say nothing yet.
    fn season(&self, place: &Place) -> f64 {
        let day = self.daily.get(place.daily).unwrap_or_else(|| self.levels.fast.get());
        0.5 * (day + self.weekly.get(place.weekly).unwrap_or(day))
    }

    fn forecasts(&self, known: Option<f64>, season: f64, place: &Place) -> [f64; FORECASTERS] {
        let levels = &self.levels;
        let day = known.unwrap_or_else(|| levels.fast.get());
        let (with_level, with_error) = match known {
            Some(_) => (season + levels.offset.get(), season + levels.error.get()),
            None => (levels.fast.get(), levels.faster.get()),
        };
        let week = self.weekly.get(place.weekly).unwrap_or(day);
        let trend = levels.trend.get() + levels.slope.get();
        [levels.fast.get(), levels.slow.get(), day, week, with_level, with_error, trend]
    }

    /// Evidence of each channel on that side; then each learns.
    fn rarities(
        &mut self,
        surprises: &[f64; KINDS.len()],
        changes: &[(f64, f64); CHANGES],
        side: Side,
    ) -> [f64; CHANNELS] {
        let mut signed = [(0.0, LEAST_SURPRISE); CHANNELS];
        signed[0].0 = surprises[0];
        signed[1..=CHANGES].copy_from_slice(changes);
        for (signed, surprise) in signed[SEASONAL..].iter_mut().zip(&surprises[1..]) {
            signed.0 = *surprise;
        }
        let mut channels = [0.0; CHANNELS];
        for ((evidence, rarity), (value, floor)) in channels.iter_mut().zip(&mut self.rarity).zip(signed) {
            let size = match side {
                Side::Both => value.abs(),
                Side::High => value.max(0.0),
                Side::Low => (-value).max(0.0),
            };
            *evidence = rarity.observe(size, floor);
        }
        channels
    }
}

/// Places in [`Opinion::channels`]; the point models but the first follow from `SEASONAL` on.
const JUMP: usize = 5;
const QUIET: usize = 6;
const SEASONAL: usize = 9;
/// The trend's place in [`KINDS`].
const TREND: usize = 4;

/// Evidence of the point group and of the change group.
fn groups(channels: &[f64; CHANNELS], side: Side) -> (f64, f64) {
    let (off, looked) = if side == Side::Both { (0.0, SEASONAL) } else { (ONE_SIDED, SEASONAL - 1) };
    let fair = channels.map(|decades| (decades.min(MOST) - off).max(0.0));
    let point = (fair[0] + fair[JUMP] + fair[SEASONAL..].iter().sum::<f64>()) / 6.0;
    (point, fair[..SEASONAL].iter().sum::<f64>() / looked as f64)
}

#[cfg(test)]
mod tests;
