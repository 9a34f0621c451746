//! What a host's measures say together, beyond what each says alone.
//!
//! 1. *Unexplained*: bytes out that bytes in do not explain, over 24 buckets. People and services that send much mostly
//!    receive much as well.
//! 2. *New peers*: bytes out to peers that were not seen for a week, as the 48-bucket mean of their logarithm, so that many
//!    buckets in a row count and one big one does not; and as their share of all bytes out.
//! 3. *Tiny*: more events, packets in, peers or ports than the bytes explain.
//!
//! Each is judged by its own usual days. The first three make the evidence of exfiltration, the last one is a channel of
//! its own. A bucket is judged first, and learnt by taking [`Foreseen::next`].

use super::{
    days::{CHANNELS, Days},
    hours::Hours,
};
use crate::baseline::{
    daily_maxima::Prior,
    residual::{decades, survival_and_density, survival_of_mean},
};

const DAY_S: i64 = 86_400;
/// What is said while nothing is known.
pub(crate) const UNKNOWN: f64 = -3.0;
/// Clip of the residuals that come in.
const CLIP_IN: (f64, f64) = (-5.0, 6.0);
/// Step of the two regressions, which are normalised least mean squares.
const STEP: f64 = 0.01;
/// Residuals beyond this many scales pull no harder.
const WEIGHT_CUT: f64 = 2.5;
const LEAST_RATE: f64 = 1.0 / 400.0;
const LEAST_SCALE: f64 = 0.01;
/// Least scale that a residual is divided by.
const SCALE_FLOOR: f64 = 0.15;
/// The mean over 24 buckets: clip of what enters it, its rate, and that of its variance.
const CLIP_MEAN: (f64, f64) = (-2.0, 4.0);
const RATE_24: f64 = 2.0 / 25.0;
const VARIANCE_RATE: f64 = 1.0 / 600.0;
const VARIANCE_FLOOR: f64 = 0.02;
const RATE_48: f64 = 2.0 / 49.0;
/// The mean of the bytes out forgets within a week.
const MEAN_RATE: f64 = 1.0 / 672.0;
/// Below this share of the mean bytes out, new peers' bytes are noise.
const KNEE: f64 = 0.02;
/// Least knee, in bytes.
const KNEE_BYTES: f64 = 100.0;
/// Weights of the share and of the unexplained bytes in the evidence of exfiltration, and the clip of both.
const WEIGHT_SHARE: f64 = 0.5;
const WEIGHT_UNEXPLAINED: f64 = 0.8;
const CLIP_PART: (f64, f64) = (-1.0, 3.0);
/// Buckets that damp a new host's tiny and unexplained evidence.
const COLD: (f64, f64) = (96.0, 192.0);

const fn prior(location: f64, scale: f64, least_scale: f64) -> Prior {
    Prior { location, scale, location_days: 1.0, least_scale }
}
/// Usual days of unexplained bytes and of tiny traffic, over the hosts of the benchmark.
const TRAFFIC: [Prior; CHANNELS] = [prior(1.10, 0.50, 0.15), prior(1.80, 0.35, 0.15)];
/// The same of bytes to new peers, and of their share.
const NEW_PEERS: [Prior; CHANNELS] = [prior(1.25, 0.35, 0.08), prior(0.11, 0.05, 0.015)];

/// One bucket of a host, as its single measures see it.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    /// Start, in epoch seconds.
    pub t: i64,
    /// Length, in seconds.
    pub span_s: u32,
    /// Bytes out.
    pub bytes_out: f64,
    /// Bytes out to peers not seen for a week; `None` while the memory of peers is too young to tell.
    pub to_new_peers: Option<f64>,
    /// Signed residuals against the seasonal forecasts ([`Evidence::z`](crate::baseline::Evidence::z)).
    pub residuals: Residuals,
}

/// What goes beyond the reference that the model is a port of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Equal to the reference: for the tests.
    Reference,
    /// Bytes to new peers are judged against those usual at their hour, and an event that lasts over midnight is one day's.
    Shipped,
}

/// Residuals of a host's measures in one bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(missing_docs, reason = "each is named as its measure")]
pub struct Residuals {
    pub events: f64,
    pub bytes_out: f64,
    pub bytes_in: f64,
    pub packets_in: f64,
    pub peers: f64,
    pub ports: f64,
}

/// What the measures of a bucket say together, in decades of event rate: 0 is what a usual day's highest bucket reaches.
/// -3 where nothing is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// Bytes leave for new peers, more of them than come in explains.
    pub exfiltration: f64,
    /// Many small packets, connections, peers or ports.
    pub tiny: f64,
    /// Bytes out that bytes in do not explain, over 24 buckets.
    pub unexplained: f64,
    /// Bytes out to new peers, over 48 buckets.
    pub new_bytes: f64,
    /// Their share of all bytes out, over 48 buckets.
    pub new_share: f64,
}

impl Evidence {
    /// Nothing is known.
    pub const UNKNOWN: Self =
        Self { exfiltration: UNKNOWN, tiny: UNKNOWN, unexplained: UNKNOWN, new_bytes: UNKNOWN, new_share: UNKNOWN };
}

/// A judged bucket.
#[derive(Debug, Clone, Copy)]
pub struct Foreseen {
    /// What it says.
    pub evidence: Evidence,
    /// The model once it has learnt it.
    pub next: Model,
}

/// What is known of one host's measures together; its buckets are all of one length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Model {
    /// Usual days of the unexplained bytes and of tiny traffic.
    pub(super) traffic: Days,
    /// Usual days of the bytes to new peers and of their share.
    pub(super) new_peers: Days,
    /// Bytes out by bytes in: slope and intercept.
    pub(super) out_by_in: [f32; 2],
    /// Scale of what that leaves.
    pub(super) out_scale: f32,
    /// Its 24-bucket mean, and the mean's variance.
    pub(super) out_mean: f32,
    pub(super) out_variance: f32,
    /// Tiny traffic by bytes out and in: slopes and intercept.
    pub(super) tiny_by_bytes: [f32; 3],
    /// Scale of what that leaves.
    pub(super) tiny_scale: f32,
    /// 48-bucket means: bytes to new peers, bytes out, logarithm of the former over the knee.
    pub(super) new_mean: f32,
    pub(super) sent_mean: f32,
    pub(super) new_log_mean: f32,
    /// What that logarithm usually is, by hour.
    pub(super) hours: Hours,
    /// Mean bytes out over a week.
    pub(super) bytes_out_mean: f32,
    /// Buckets learnt.
    pub(super) buckets: u32,
    /// Day (since 1970) of the last one.
    pub(super) day: i32,
}

impl Default for Model {
    /// Nothing is known.
    fn default() -> Self {
        Self {
            traffic: Days::new(&TRAFFIC),
            new_peers: Days::new(&NEW_PEERS),
            out_by_in: [0.7, 0.0],
            out_scale: 0.7,
            out_mean: 0.0,
            out_variance: 0.3,
            tiny_by_bytes: [0.4, 0.4, 0.0],
            tiny_scale: 0.7,
            new_mean: 0.0,
            sent_mean: 0.0,
            new_log_mean: 0.0,
            hours: Hours::default(),
            bytes_out_mean: 0.0,
            buckets: 0,
            day: -1,
        }
    }
}

impl Model {
    /// Judges a bucket, and says what the model is once it has learnt it. Buckets come in order.
    #[must_use]
    pub fn foresee(&self, bucket: &Bucket, form: Form) -> Foreseen {
        let mut next = *self;
        next.begin_day(bucket, form);
        let mut evidence = Evidence::UNKNOWN;
        next.traffic(bucket, &mut evidence);
        next.new_peers(bucket, form, &mut evidence);
        next.buckets = next.buckets.saturating_add(1);
        Foreseen { evidence, next }
    }

    /// Buckets learnt.
    #[must_use]
    pub fn buckets(&self) -> u32 {
        self.buckets
    }

    /// What the bytes to new peers in a bucket reach on a usual day, as a (geometric) mean over 48 buckets.
    pub(super) fn usual_new_most(&self) -> f64 {
        let logarithm = (f64::from(self.new_peers.location[0]) + self.hours.mean()).clamp(0.0, 30.0);
        (KNEE * f64::from(self.bytes_out_mean)).max(KNEE_BYTES) * libm::expm1(logarithm)
    }

    fn begin_day(&mut self, bucket: &Bucket, form: Form) {
        let day = bucket.t.div_euclid(DAY_S) as i32;
        if day != self.day {
            let half_a_day = u16::try_from(DAY_S / 2 / i64::from(bucket.span_s.max(1))).unwrap_or(u16::MAX).max(1);
            let midnight = form == Form::Shipped;
            self.traffic.close(half_a_day, &TRAFFIC, midnight);
            self.new_peers.close(half_a_day, &NEW_PEERS, midnight);
            self.day = day;
        }
    }

    /// Unexplained bytes out, and tiny traffic.
    fn traffic(&mut self, bucket: &Bucket, evidence: &mut Evidence) {
        let age = f64::from(self.buckets);
        let clip = |z: f64| z.clamp(CLIP_IN.0, CLIP_IN.1);
        let Residuals { events, bytes_out, bytes_in, packets_in, peers, ports } = bucket.residuals;
        let (sent, received) = (clip(bytes_out), clip(bytes_in));
        let out = sent - f64::from(self.out_by_in[0]) * received - f64::from(self.out_by_in[1]);
        let out_scaled = out / f64::from(self.out_scale).max(SCALE_FLOOR);
        let mean = f64::from(self.out_mean);
        self.out_mean = (mean + RATE_24 * (out_scaled.clamp(CLIP_MEAN.0, CLIP_MEAN.1) - mean)) as f32;
        let (mean, variance) = (f64::from(self.out_mean), f64::from(self.out_variance));
        let out_surprise = decades(survival_of_mean(mean / variance.sqrt())) * age / (age + COLD.1);

        let tiny = clip(events).max(clip(packets_in)).max(clip(peers)).max(clip(ports));
        let [by_sent, by_received, always] = self.tiny_by_bytes.map(f64::from);
        let tiny = tiny - by_sent * sent - by_received * received - always;
        let tiny_scaled = tiny / f64::from(self.tiny_scale).max(SCALE_FLOOR);
        let tiny_surprise = decades(survival_and_density(tiny_scaled).0) * age / (age + COLD.0);

        evidence.unexplained = self.traffic.judge(0, out_surprise);
        evidence.tiny = self.traffic.judge(1, tiny_surprise);
        self.traffic.enter([out_surprise, tiny_surprise]);

        let rate = LEAST_RATE.max(1.0 / (age + 8.0));
        let variance_rate = VARIANCE_RATE.max(1.0 / (age + 20.0));
        let spread = (mean * mean).min(9.0 * variance);
        self.out_variance = (variance + variance_rate * (spread - variance)).max(VARIANCE_FLOOR) as f32;
        let pull = pull(out, out_scaled) / (1.0 + received * received);
        self.out_by_in[0] = (f64::from(self.out_by_in[0]) + pull * received).clamp(0.0, 1.5) as f32;
        self.out_by_in[1] = (f64::from(self.out_by_in[1]) + pull) as f32;
        self.out_scale = scale(self.out_scale, out, rate);
        let pull = self::pull(tiny, tiny_scaled) / (1.0 + sent * sent + received * received);
        for (coefficient, by) in self.tiny_by_bytes.iter_mut().zip([sent, received, 1.0]) {
            *coefficient = (f64::from(*coefficient) + pull * by) as f32;
        }
        self.tiny_scale = scale(self.tiny_scale, tiny, rate);
    }

    /// Bytes out to new peers, and with the unexplained ones the evidence of exfiltration.
    fn new_peers(&mut self, bucket: &Bucket, form: Form, evidence: &mut Evidence) {
        let age = f64::from(self.buckets);
        let mean = f64::from(self.bytes_out_mean);
        let most = if self.buckets > 8 { 20.0 * mean } else { f64::INFINITY };
        let rate = MEAN_RATE.max(1.0 / (age + 1.0));
        self.bytes_out_mean = (mean + rate * (bucket.bytes_out.min(most) - mean)) as f32;
        let Some(new) = bucket.to_new_peers else { return };
        let knee = (KNEE * f64::from(self.bytes_out_mean)).max(KNEE_BYTES);
        let average = |mean: f32, value: f64| (f64::from(mean) + RATE_48 * (value - f64::from(mean))) as f32;
        self.new_mean = average(self.new_mean, new);
        self.sent_mean = average(self.sent_mean, bucket.bytes_out);
        let logarithm = libm::log1p(new / knee);
        let above = match form {
            Form::Reference => logarithm,
            Form::Shipped => self.hours.above(bucket.t, logarithm),
        };
        self.new_log_mean = average(self.new_log_mean, above);
        let amount = f64::from(self.new_log_mean);
        let share = (f64::from(self.new_mean) + knee) / (f64::from(self.sent_mean) + 5.0 * knee);
        evidence.new_bytes = self.new_peers.judge(0, amount);
        evidence.new_share = self.new_peers.judge(1, share);
        self.new_peers.enter([amount, share]);
        let part = |value: f64| value.clamp(CLIP_PART.0, CLIP_PART.1);
        evidence.exfiltration = evidence.new_bytes
            + WEIGHT_SHARE * part(evidence.new_share)
            + WEIGHT_UNEXPLAINED * part(evidence.unexplained);
    }
}

/// How hard a residual pulls at a regression.
fn pull(residual: f64, scaled: f64) -> f64 {
    let weight = if scaled.abs() < WEIGHT_CUT { 1.0 } else { WEIGHT_CUT / scaled.abs() };
    STEP * weight * residual
}

/// Follows the scale of a residual.
fn scale(scale: f32, residual: f64, rate: f64) -> f32 {
    let before = f64::from(scale);
    (before + rate * (residual.abs().min(4.0 * before) * 1.25 - before)).max(LEAST_SCALE) as f32
}

const _: () = assert!(size_of::<Model>() <= 312, "that of the reference takes 228");
