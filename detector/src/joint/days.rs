//! How high two channels of one host get on a usual day: location and scale of their daily maxima over two weeks, in 16
//! bits each. The same judgement as [`baseline`](crate::baseline) makes, with a shorter memory.

use crate::baseline::daily_maxima::{self, Prior};

/// Days remembered.
pub(super) const DAYS: usize = 14;
/// Channels that are kept side by side.
pub(super) const CHANNELS: usize = 2;
/// A day's maximum before its first bucket.
const NO_MAXIMUM: f32 = -1e9;
/// Units of a remembered maximum.
const UNIT: f64 = 1024.0;
/// Largest maximum that is remembered, so that it fits into 16 bits.
const LARGEST: f64 = 31.0;
/// A day's maximum is clipped at location + 3 scales once 5 days are known: an attack must not hide the next one.
const CLIP: (f64, u8) = (3.0, 5);

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Days {
    pub(super) ring: [[i16; DAYS]; CHANNELS],
    /// Fitted location.
    pub(super) location: [f32; CHANNELS],
    /// Fitted scale.
    pub(super) scale: [f32; CHANNELS],
    /// Today's maxima so far.
    pub(super) today: [f32; CHANNELS],
    /// The channel is still as high as yesterday's event left it.
    pub(super) going_on: [bool; CHANNELS],
    /// Buckets of today.
    pub(super) buckets: u16,
    /// Days remembered, up to [`DAYS`].
    pub(super) known: u8,
    /// Where the next day goes.
    pub(super) next: u8,
}

impl Days {
    /// No day is known.
    pub(super) fn new(priors: &[Prior; CHANNELS]) -> Self {
        Self {
            ring: [[0; DAYS]; CHANNELS],
            location: priors.map(|prior| prior.location as f32),
            scale: priors.map(|prior| prior.scale as f32),
            today: [NO_MAXIMUM; CHANNELS],
            going_on: [false; CHANNELS],
            buckets: 0,
            known: 0,
            next: 0,
        }
    }

    /// Ends the day, which counts if at least `least` of its buckets were seen. `midnight`: what goes on over midnight is
    /// one day's event, not two days'.
    pub(super) fn close(&mut self, least: u16, priors: &[Prior; CHANNELS], midnight: bool) {
        if self.buckets >= least {
            let place = usize::from(self.next) % DAYS;
            for (channel, ring) in self.ring.iter_mut().enumerate() {
                let mut maximum = f64::from(self.today[channel]);
                if self.known >= CLIP.1 {
                    maximum = maximum.min(f64::from(self.location[channel]) + CLIP.0 * f64::from(self.scale[channel]));
                }
                ring[place] = (maximum.clamp(-LARGEST, LARGEST) * UNIT + 0.5).floor() as i16;
            }
            self.next = ((place + 1) % DAYS) as u8;
            self.known = (self.known + 1).min(DAYS as u8);
            self.fit(priors);
        }
        for channel in 0..CHANNELS {
            let unusual = f64::from(self.location[channel]) + f64::from(self.scale[channel]);
            self.going_on[channel] = midnight && f64::from(self.today[channel]) > unusual;
        }
        (self.buckets, self.today) = (0, [NO_MAXIMUM; CHANNELS]);
    }

    fn fit(&mut self, priors: &[Prior; CHANNELS]) {
        for (channel, prior) in priors.iter().enumerate() {
            let mut maxima = [0.0; daily_maxima::DAYS];
            for (maximum, units) in maxima.iter_mut().zip(self.ring[channel]) {
                *maximum = (f64::from(units) / UNIT) as f32;
            }
            let (location, scale) = daily_maxima::fit(&maxima, usize::from(self.known), *prior);
            (self.location[channel], self.scale[channel]) = (location as f32, scale as f32);
        }
    }

    /// What a value of a channel is against its usual days: decades of event rate, 0 at a usual day's maximum.
    pub(super) fn judge(&self, channel: usize, value: f64) -> f64 {
        (value - f64::from(self.location[channel])) / f64::from(self.scale[channel]) / std::f64::consts::LN_10
    }

    /// Counts a bucket with these values.
    pub(super) fn enter(&mut self, values: [f64; CHANNELS]) {
        for (channel, value) in values.into_iter().enumerate() {
            self.going_on[channel] &= value >= f64::from(self.location[channel]);
            if !self.going_on[channel] {
                self.today[channel] = self.today[channel].max(value as f32);
            }
        }
        self.buckets = self.buckets.saturating_add(1);
    }
}
