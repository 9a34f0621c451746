//! How often a clean host's day reaches a value, channel by channel: what makes channels of different habits comparable.
//!
//! Each channel has a shipped curve (the highest buckets of clean host-days of the benchmark) and, as a fleet is watched, its
//! own: fed once a day with each host's highest bucket, never with every bucket, since what stays high for hours is one event.

use super::model::UNKNOWN;
use crate::baseline::{Calibration, Curve};

/// Weight of the shipped curves, in host-days.
const WEIGHT: f64 = 3000.0;

/// A channel of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the single measures are named as such")]
pub enum Channel {
    Events,
    BytesOut,
    BytesIn,
    PacketsOut,
    PacketsIn,
    Peers,
    Ports,
    /// [`Evidence::exfiltration`](super::Evidence::exfiltration).
    Exfiltration,
    /// [`Evidence::tiny`](super::Evidence::tiny).
    Tiny,
}

/// How many there are.
pub const CHANNELS: usize = 9;

impl Channel {
    /// All of them, in their order.
    pub const ALL: [Self; CHANNELS] = [
        Self::Events,
        Self::BytesOut,
        Self::BytesIn,
        Self::PacketsOut,
        Self::PacketsIn,
        Self::Peers,
        Self::Ports,
        Self::Exfiltration,
        Self::Tiny,
    ];
}

/// Values of all channels in one bucket, in decades of event rate; NaN where there is none.
pub type Channels = [f64; CHANNELS];

macro_rules! curve {
    ($($value:literal),*; $beyond:literal) => {{
        const KNOTS: &[(f64, f64)] = &knots([$($value),*]);
        Curve { knots: KNOTS, below: 1.0, beyond: $beyond, weight: WEIGHT }
    }};
}

const fn knots(values: [f64; 7]) -> [(f64, f64); 7] {
    let [a, b, c, d, e, f, g] = values;
    [(a, 0.3), (b, 1.0), (c, 1.5), (d, 2.0), (e, 2.5), (f, 3.0), (g, 3.5)]
}

/// The shipped curves: value, and -log10 of the share of clean host-days that reach it.
static SHIPPED: [Curve; CHANNELS] = [
    curve!(0.18, 0.84, 1.21, 1.65, 2.17, 2.70, 3.02; 0.913_333_333_333),
    curve!(0.20, 0.87, 1.28, 1.82, 2.29, 2.71, 3.06; 0.826_666_666_667),
    curve!(0.21, 0.90, 1.36, 1.97, 2.43, 2.74, 3.21; 0.826_666_666_667),
    curve!(0.20, 0.88, 1.26, 1.62, 2.12, 2.46, 2.63; 0.673_333_333_333),
    curve!(0.22, 0.88, 1.26, 1.66, 1.99, 2.45, 2.67; 0.673_333_333_333),
    curve!(0.21, 0.79, 1.13, 1.49, 1.98, 2.43, 3.30; 1.206_666_666_667),
    curve!(0.22, 0.75, 1.05, 1.35, 1.86, 2.44, 3.16; 1.206_666_666_667),
    curve!(-0.40, 0.74, 1.43, 2.09, 2.81, 4.03, 5.54; 2.3),
    curve!(0.10, 0.79, 1.17, 1.55, 2.02, 2.37, 2.75; 0.8),
];

/// What is known of all channels over a fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates {
    channels: [Calibration; CHANNELS],
}

impl Default for Rates {
    /// The shipped curves.
    fn default() -> Self {
        Self::from_counts(&[])
    }
}

impl Rates {
    /// Takes back what [`counts`](Self::counts) gave. What is missing is empty.
    #[must_use]
    pub fn from_counts(counts: &[u64]) -> Self {
        let mut parts = counts.chunks(Calibration::BINS);
        Self { channels: std::array::from_fn(|at| Calibration::over(SHIPPED[at], 0, parts.next().unwrap_or_default())) }
    }

    /// The whole durable state: the counts of all channels, one after the other.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        self.channels.iter().flat_map(|channel| channel.counts()).copied().collect()
    }

    /// Counts a host's day by its highest values. Takes effect at the next [`refresh`](Self::refresh).
    pub fn add(&mut self, highest: &Channels) {
        for (channel, value) in self.channels.iter_mut().zip(highest) {
            // A channel that knew nothing all day says nothing of how rare its values are.
            if *value > UNKNOWN {
                channel.add(*value);
            }
        }
    }

    /// Makes what was added count.
    pub fn refresh(&mut self) {
        self.channels.iter_mut().for_each(Calibration::refresh);
    }

    /// Decades of event rate of a channel's value: 3 is reached on one of 1000 clean host-days.
    #[must_use]
    pub fn decades(&self, channel: Channel, value: f64) -> f64 {
        if value > UNKNOWN { self.channels[channel as usize].l_of(value) } else { 0.0 }
    }

    /// The rarest of some channels, and which it is; the rate of all of them together, so that more channels don't make more
    /// alerts.
    #[must_use]
    pub fn rarest(&self, values: &Channels, among: &[Channel]) -> Option<(Channel, f64)> {
        let rate = |channel: &Channel| (*channel, self.decades(*channel, values[*channel as usize]));
        let known = among.iter().filter(|channel| !values[**channel as usize].is_nan());
        let looks = known.clone().count() as f64;
        // The first of equals: `max_by` would take the last.
        let rarest = known.map(rate).reduce(|best, next| if next.1 > best.1 { next } else { best })?;
        Some((rarest.0, (rarest.1 - libm::log10(looks)).max(0.0)))
    }
}
