//! The stored form of a series' state: a version byte, then every field little-endian, in the order below.
//!
//! Decoding checks what the model relies on, so that a damaged file is an error and never a wrong index or a NaN.

use super::{
    Rich,
    bar::{Bar, DAYS},
    change::{Change, Pair, Range, Residual},
    level::Level,
    levels::Levels,
    point::{LEAST_VARIANCE, PointModel},
    profile::Profile,
    rarity::{FIRST, Rarity},
};
use crate::baseline::DecodeError;

const VERSION: u8 = 1;
/// Length of the stored form.
pub(crate) const LENGTH: usize = 17_415;

/// Goes over the fields of a state, in stored order: one list for both directions.
trait Visit {
    fn bytes<const N: usize>(&mut self, field: &mut [u8; N]);
}

struct Writer(Vec<u8>);

impl Visit for Writer {
    fn bytes<const N: usize>(&mut self, field: &mut [u8; N]) {
        self.0.extend_from_slice(field);
    }
}

struct Reader<'a>(&'a [u8]);

impl Visit for Reader<'_> {
    /// What is missing is left as it was: the length is checked before.
    fn bytes<const N: usize>(&mut self, field: &mut [u8; N]) {
        if let Some((head, rest)) = self.0.split_first_chunk() {
            (*field, self.0) = (*head, rest);
        }
    }
}

/// A field, or what is made of fields.
trait Stored {
    fn visit(&mut self, visit: &mut impl Visit);
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Stored for $type {
            fn visit(&mut self, visit: &mut impl Visit) {
                let mut bytes = self.to_le_bytes();
                visit.bytes(&mut bytes);
                *self = Self::from_le_bytes(bytes);
            }
        }
    )*};
}
numbers!(u8, u16, u32, i32, i64, f32, f64);

macro_rules! fields {
    ($type:ident: $($field:ident),*) => {
        impl Stored for $type {
            fn visit(&mut self, visit: &mut impl Visit) {
                $(self.$field.visit(visit);)*
            }
        }
    };
}
fields!(PointModel: weight, variance, hours);
fields!(Levels: fast, faster, slow, offset, error, trend, slope);
fields!(Pair: short, long);
fields!(Range: low, high);
fields!(Residual: mean, size, seen);
fields!(Change: shift, log_shift, mid_shift, range, shift_range, daily, weekly, day, week, previous, step, sum, squares);
fields!(Rarity: seen, unit, measured, sum, squares, counts);
fields!(Bar: maxima, days, next, day, today, offset);

impl Stored for Level {
    fn visit(&mut self, visit: &mut impl Visit) {
        self.0.visit(visit);
    }
}

impl<T: Stored, const N: usize> Stored for [T; N] {
    fn visit(&mut self, visit: &mut impl Visit) {
        self.iter_mut().for_each(|field| field.visit(visit));
    }
}

impl<const N: usize> Stored for Profile<N> {
    fn visit(&mut self, visit: &mut impl Visit) {
        self.values.visit(visit);
        self.visits.visit(visit);
    }
}

impl Stored for Rich {
    fn visit(&mut self, visit: &mut impl Visit) {
        self.newest.visit(visit);
        self.buckets.visit(visit);
        self.size.visit(visit);
        self.levels.visit(visit);
        self.daily.visit(visit);
        self.weekly.visit(visit);
        self.points.visit(visit);
        self.change.visit(visit);
        self.rarity.visit(visit);
        self.bar.visit(visit);
    }
}

impl Rich {
    /// The stored form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer(Vec::with_capacity(LENGTH));
        writer.0.push(VERSION);
        self.clone().visit(&mut writer);
        writer.0
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// Another version, another length, or values that no series can have.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let length = DecodeError::Length { found: bytes.len(), expected: LENGTH };
        let (&version, rest) = bytes.split_first().ok_or(length)?;
        if version != VERSION {
            return Err(DecodeError::Version { found: version, expected: VERSION });
        }
        if bytes.len() != LENGTH {
            return Err(length);
        }
        let mut state = Self::new();
        state.visit(&mut Reader(rest));
        state.check()?;
        Ok(state)
    }

    fn check(&self) -> Result<(), DecodeError> {
        let finite = |values: &[Level]| values.iter().all(|value| value.0.is_finite());
        let (levels, change) = (&self.levels, &self.change);
        let point = |point: &PointModel| {
            let began = self.buckets > 0;
            finite(&point.weight)
                && point.weight.iter().all(|weight| (0.0..=1.0).contains(&weight.0))
                && finite(&point.variance)
                && point.variance.iter().all(|variance| !began || variance.get() >= 0.99 * LEAST_VARIANCE)
                && point.hours.iter().all(|hour| (0.2..=4.0).contains(&hour.0))
        };
        let residual = |residual: &Residual| finite(&[residual.mean, residual.size]);
        let rarity = |rarity: &Rarity| {
            let counted = rarity.counts.iter().map(|count| u32::from(*count)).sum::<u32>();
            let begun = rarity.seen >= FIRST;
            finite(&[rarity.unit, rarity.sum, rarity.squares])
                && (!begun || rarity.unit.0 > 0.0)
                && counted <= rarity.seen
                && rarity.measured <= rarity.seen
        };
        let pairs = [change.shift, change.log_shift, change.mid_shift];
        let ranges = [change.range, change.shift_range];
        let bar = &self.bar;
        let profile = |values: &[f32]| values.iter().all(|value| value.is_finite());
        let checks = [
            ("size", self.size.0 >= 0.0 && finite(&[self.size])),
            ("levels", finite(&[levels.fast, levels.faster, levels.slow, levels.offset, levels.error])),
            ("trend", finite(&[levels.trend, levels.slope])),
            ("profiles", profile(&self.daily.values) && profile(&self.weekly.values)),
            ("coarse profiles", profile(&change.daily.values) && profile(&change.weekly.values)),
            ("point models", self.points.iter().all(point)),
            ("means", pairs.iter().all(|pair| finite(&[pair.short, pair.long]))),
            ("ranges", ranges.iter().all(|range| finite(&[range.low, range.high]) && range.low.0 <= range.high.0)),
            ("residuals", residual(&change.day) && residual(&change.week) && finite(&[change.previous, change.step])),
            ("first buckets", change.sum.is_finite() && change.squares.is_finite()),
            ("counts", self.rarity.iter().all(rarity)),
            ("daily maxima", profile(&bar.maxima) && finite(&[bar.today, bar.offset])),
            ("days", usize::from(bar.days) <= DAYS && usize::from(bar.next) < DAYS),
        ];
        match checks.iter().find(|(_, fine)| !fine) {
            Some((what, _)) => Err(DecodeError::Range(what)),
            None => Ok(()),
        }
    }
}
