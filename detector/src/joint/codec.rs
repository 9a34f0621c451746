//! The stored form of a host: a version byte, then every field little-endian, in the order below.

use super::{
    days::{DAYS, Days},
    host::Host,
};
use crate::baseline::{DecodeError, codec::Stored};

const VERSION: u8 = 1;

/// Calls `$apply!(place)` for every number, in stored order: one list for both directions.
macro_rules! for_each_number {
    ($host:expr, $apply:ident) => {{
        let Host { model, peers, usual_new, highest, buckets, day } = $host;
        for days in [&mut model.traffic, &mut model.new_peers] {
            let Days { ring, location, scale, today, going_on, buckets, known, next } = days;
            ring.as_flattened_mut().iter_mut().for_each(|place| $apply!(place));
            location.iter_mut().chain(scale).chain(today).for_each(|place| $apply!(place));
            going_on.iter_mut().for_each(|place| $apply!(place));
            $apply!(buckets);
            $apply!(known);
            $apply!(next);
        }
        model.out_by_in.iter_mut().chain(&mut model.tiny_by_bytes).for_each(|place| $apply!(place));
        $apply!(&mut model.out_scale);
        $apply!(&mut model.out_mean);
        $apply!(&mut model.out_variance);
        $apply!(&mut model.tiny_scale);
        $apply!(&mut model.new_mean);
        $apply!(&mut model.sent_mean);
        $apply!(&mut model.new_log_mean);
        model.hours.usual.iter_mut().for_each(|place| $apply!(place));
        model.hours.seen.iter_mut().for_each(|place| $apply!(place));
        $apply!(&mut model.bytes_out_mean);
        $apply!(&mut model.buckets);
        $apply!(&mut model.day);
        peers.slots.iter_mut().for_each(|place| $apply!(place));
        $apply!(&mut peers.step);
        $apply!(&mut peers.since);
        $apply!(usual_new);
        highest.iter_mut().for_each(|place| $apply!(place));
        $apply!(buckets);
        $apply!(day);
    }};
}

impl Host {
    /// Length of the stored form.
    pub const LENGTH: usize =
        1 + 2 * (2 * 2 * DAYS + 4 * 6 + 2 + 2 + 1 + 1) + 4 * 5 + 4 * 8 + 3 * 24 + 8 + 2 * 248 + 8 + 4 + 4 * 9 + 2 + 4;

    /// The stored form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LENGTH);
        out.push(VERSION);
        // Both directions walk places that can be written.
        let mut host = self.clone();
        macro_rules! write {
            ($place:expr) => {
                (*$place).write(&mut out)
            };
        }
        for_each_number!(&mut host, write);
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// Another version, another length, or numbers that no host can have.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let length = DecodeError::Length { found: bytes.len(), expected: Self::LENGTH };
        let (&version, mut rest) = bytes.split_first().ok_or(length)?;
        if version != VERSION {
            return Err(DecodeError::Version { found: version, expected: VERSION });
        }
        if bytes.len() != Self::LENGTH {
            return Err(length);
        }
        let rest = &mut rest;
        let mut host = Self::default();
        let mut short = false;
        macro_rules! read {
            ($place:expr) => {
                match Stored::read(rest) {
                    Some(number) => *$place = number,
                    None => short = true,
                }
            };
        }
        for_each_number!(&mut host, read);
        if short { Err(length) } else { host.checked() }
    }

    fn checked(self) -> Result<Self, DecodeError> {
        let finite = |numbers: &[f32]| numbers.iter().all(|number| number.is_finite());
        let positive = |numbers: &[f32]| numbers.iter().all(|number| number.is_finite() && *number > 0.0);
        let model = &self.model;
        let days = [&model.traffic, &model.new_peers];
        let means = [model.out_mean, model.new_mean, model.sent_mean, model.new_log_mean, model.bytes_out_mean];
        let checks = [
            ("daily maximum", days.iter().all(|days| finite(&days.today) && finite(&days.location))),
            ("scale of the daily maxima", days.iter().all(|days| positive(&days.scale))),
            ("days", days.iter().all(|days| usize::from(days.known) <= DAYS && usize::from(days.next) < DAYS)),
            ("regression", finite(&model.out_by_in) && finite(&model.tiny_by_bytes)),
            ("scale of a residual", positive(&[model.out_scale, model.tiny_scale, model.out_variance])),
            ("mean", finite(&means) && [means[1], means[2], means[4]].iter().all(|mean| *mean >= 0.0)),
            ("usual bytes to new peers", self.usual_new.is_finite() && self.usual_new >= 0.0),
            ("highest value of a channel", finite(&self.highest)),
        ];
        match checks.iter().find(|(_, holds)| !holds) {
            Some((what, _)) => Err(DecodeError::Range(what)),
            None => Ok(self),
        }
    }
}
