//! The stored form of a series' state: a version byte, then every field little-endian, in the order below. 1813 bytes.
//!
//! Decoding checks ranges that the model relies on, so that a damaged file is an error and never a wrong index.

use super::compact::{CHANNELS, Compact, EXPERTS, HOURS_OF_WEEK, SLOTS};
use super::daily_maxima::DAYS;
use super::season::Profile;

const VERSION: u8 = 1;
/// Length of the stored form.
const LENGTH: usize = 1
    + 8
    + 4 * (SLOTS + 24 + CHANNELS * DAYS + 3 * CHANNELS + 3 * EXPERTS + 12)
    + 4
    + 4
    + 2 * HOURS_OF_WEEK
    + 2
    + 2 * SLOTS
    + HOURS_OF_WEEK
    + 2;

/// Why bytes are not the state of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by another version.
    #[error("baseline state has version {found}, this program reads version {expected}")]
    Version {
        /// That of the bytes.
        found: u8,
        /// The only one known.
        expected: u8,
    },
    /// Too short or too long.
    #[error("baseline state has {found} bytes instead of {expected}")]
    Length {
        /// Bytes given.
        found: usize,
        /// What it should be.
        expected: usize,
    },
    /// Damaged.
    #[error("baseline state is damaged: {0} is out of range")]
    Range(&'static str),
}

/// Calls `$apply!(field)` for every field, in stored order: one list for both directions.
macro_rules! for_each_field {
    ($apply:ident) => {
        $apply!(newest);
        $apply!(season each daily);
        $apply!(season each hourly_scale);
        $apply!(season nested maxima);
        $apply!(each location);
        $apply!(each scale);
        $apply!(each today);
        $apply!(each weight);
        $apply!(each earned);
        $apply!(each sigma);
        $apply!(knee);
        $apply!(mean);
        $apply!(fast);
        $apply!(slow);
        $apply!(level);
        $apply!(tracking);
        $apply!(shift);
        $apply!(mean_12);
        $apply!(mean_48);
        $apply!(variance_12);
        $apply!(variance_48);
        $apply!(prior);
        $apply!(buckets);
        $apply!(day);
        $apply!(season each weekly);
        $apply!(buckets_today);
        $apply!(season each daily_visits);
        $apply!(season each outlier);
        $apply!(season each weekly_visits);
        $apply!(days);
        $apply!(next_day);
    };
}

/// A number with a fixed little-endian form.
pub(crate) trait Stored: Copy {
    fn write(self, out: &mut Vec<u8>);
    fn read(bytes: &mut &[u8]) -> Option<Self>;
}

macro_rules! stored {
    ($($type:ty),*) => {$(
        impl Stored for $type {
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn read(bytes: &mut &[u8]) -> Option<Self> {
                let (head, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_le_bytes(*head))
            }
        }
    )*};
}
stored!(u8, i8, u16, i16, u32, i32, i64, f32);

impl Stored for bool {
    fn write(self, out: &mut Vec<u8>) {
        u8::from(self).write(out);
    }
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        u8::read(bytes).map(|byte| byte != 0)
    }
}

impl Compact {
    /// Length of the stored form.
    pub(crate) const STORED_BYTES: usize = LENGTH;

    /// The stored form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LENGTH);
        out.push(VERSION);
        let profile = self.season.profile();
        macro_rules! write {
            (season each $field:ident) => {
                profile.$field.iter().for_each(|value| value.write(&mut out))
            };
            (season nested $field:ident) => {
                profile.$field.iter().flatten().for_each(|value| value.write(&mut out))
            };
            (each $field:ident) => {
                self.$field.iter().for_each(|value| value.write(&mut out))
            };
            ($field:ident) => {
                self.$field.write(&mut out)
            };
        }
        for_each_field!(write);
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// Another version, another length, or values that no series can have.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let length = DecodeError::Length { found: bytes.len(), expected: LENGTH };
        let (&version, mut rest) = bytes.split_first().ok_or(length)?;
        if version != VERSION {
            return Err(DecodeError::Version { found: version, expected: VERSION });
        }
        if bytes.len() != LENGTH {
            return Err(length);
        }
        let rest = &mut rest;
        let mut state = Self::new(0.0);
        let mut profile = Profile::EMPTY;
        macro_rules! read {
            (season each $field:ident) => {
                for value in &mut profile.$field {
                    *value = Stored::read(rest).ok_or(length)?;
                }
            };
            (season nested $field:ident) => {
                for value in profile.$field.iter_mut().flatten() {
                    *value = Stored::read(rest).ok_or(length)?;
                }
            };
            (each $field:ident) => {
                for value in &mut state.$field {
                    *value = Stored::read(rest).ok_or(length)?;
                }
            };
            ($field:ident) => {
                state.$field = Stored::read(rest).ok_or(length)?;
            };
        }
        for_each_field!(read);
        state.check(&profile)?;
        state.season = profile.into();
        Ok(state)
    }

    fn check(&self, profile: &Profile) -> Result<(), DecodeError> {
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        let positive = |values: &[f32]| values.iter().all(|value| value.is_finite() && *value > 0.0);
        let shares = |values: &[f32]| values.iter().all(|value| (0.0..=2.0).contains(value));
        let levels =
            [self.mean, self.fast, self.slow, self.level, self.tracking, self.shift, self.mean_12, self.mean_48];
        let checks = [
            ("daily profile", finite(&profile.daily)),
            ("scale by hour", positive(&profile.hourly_scale)),
            ("daily maximum", finite(profile.maxima.as_flattened()) && finite(&self.today)),
            ("fit of the daily maxima", finite(&self.location) && positive(&self.scale)),
            ("expert weight", shares(&self.weight) && shares(&self.earned)),
            ("residual scale", positive(&self.sigma)),
            ("knee", self.knee.is_finite() && (self.knee > 0.0) == (self.buckets > 0)),
            ("level", finite(&levels)),
            ("variance", positive(&[self.variance_12, self.variance_48])),
            ("prior", self.prior.is_finite()),
            ("days", usize::from(self.days) <= DAYS && usize::from(self.next_day) < DAYS),
        ];
        match checks.iter().find(|(_, holds)| !holds) {
            Some((what, _)) => Err(DecodeError::Range(what)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::compact::{PRIOR_UNKNOWN, Side};
    use super::*;

    fn learnt() -> Compact {
        let mut state = Compact::new(PRIOR_UNKNOWN);
        for i in 0..2000i64 {
            state.observe(i * 900, Some((i * 7919 % 500) as f64), 900, Side::High, false);
        }
        state
    }

    #[test]
    fn a_reloaded_series_goes_on_bit_for_bit() {
        let mut state = learnt();
        let bytes = state.to_bytes();
        assert_eq!(bytes.len(), LENGTH);
        let mut reloaded = Compact::from_bytes(&bytes).unwrap();
        assert_eq!(reloaded, state);
        for i in 2000..3000i64 {
            let value = Some((i * 104_729 % 700) as f64);
            let (a, b) = (
                state.observe(i * 900, value, 900, Side::High, true),
                reloaded.observe(i * 900, value, 900, Side::High, true),
            );
            assert_eq!(a, b);
        }
        assert_eq!(state.to_bytes(), reloaded.to_bytes());
    }

    #[test]
    fn damage_is_an_error() {
        let bytes = learnt().to_bytes();
        assert_eq!(Compact::from_bytes(&[]), Err(DecodeError::Length { found: 0, expected: LENGTH }));
        assert_eq!(Compact::from_bytes(&bytes[..100]), Err(DecodeError::Length { found: 100, expected: LENGTH }));
        let mut other = bytes.clone();
        other[0] = 9;
        assert_eq!(Compact::from_bytes(&other), Err(DecodeError::Version { found: 9, expected: VERSION }));
        let mut last = bytes.clone();
        *last.last_mut().unwrap() = 200;
        assert_eq!(Compact::from_bytes(&last), Err(DecodeError::Range("days")));
        // Whatever else is flipped, it decodes or it is refused; what decodes still scores.
        for at in 1..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0xff;
            if let Ok(mut state) = Compact::from_bytes(&flipped) {
                state.observe(3000 * 900, Some(100.0), 900, Side::High, true);
            }
        }
    }
}
