//! What a series usually is at a time of day or week.

use super::level::clip;

/// Visits are counted up to this.
const MOST_VISITS: u8 = 250;

/// A running mean for each slot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Profile<const N: usize> {
    pub(super) values: [f32; N],
    pub(super) visits: [u8; N],
}

impl<const N: usize> Profile<N> {
    pub(super) const EMPTY: Self = Self { values: [0.0; N], visits: [0; N] };

    /// The value of a slot, if it was seen before.
    pub(super) fn get(&self, slot: usize) -> Option<f64> {
        if self.visits[slot] > 0 { Some(f64::from(self.values[slot])) } else { None }
    }

    /// Learns the value of a slot, at least at `rate`; from the third visit on it moves as if the value were at most
    /// `limit` away.
    pub(super) fn learn(&mut self, slot: usize, x: f64, rate: f64, limit: f64) {
        let (old, visits) = (f64::from(self.values[slot]), self.visits[slot]);
        let step = match visits {
            0 => x - old,
            1 => rate.max(0.5) * (x - old),
            _ => rate.max(1.0 / (f64::from(visits) + 1.0)) * clip(x - old, limit),
        };
        self.values[slot] = (old + step) as f32;
        self.visits[slot] = visits.saturating_add(1).min(MOST_VISITS);
    }
}
