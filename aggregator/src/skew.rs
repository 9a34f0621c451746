//! How far a collector's clock is off this one, as its hello tells.
//!
//! A collector stamps what has no time of its own with its clock, and promises by it that a slice has ended. One whose
//! clock is far ahead or behind puts traffic into the wrong buckets, or keeps them open. It is refused rather than
//! corrected: what it has stamped by then can't be told from what is right, its spool keeps all of it, and a person has to
//! set a clock right, maybe this one.

use std::time::Duration;

/// Difference that is worth a warning, ms.
const NOTABLE_MS: u64 = 10_000;

/// A difference of clocks; a hello that took long makes a collector seem behind by as much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Skew(i64);

impl Skew {
    /// Of a collector that said hello at `theirs` by its clock, which came at `ours`, ms.
    pub(crate) fn measure(theirs: u64, ours: u64) -> Self {
        let size = i64::try_from(theirs.abs_diff(ours)).unwrap_or(i64::MAX);
        Self(if theirs < ours { -size } else { size })
    }

    /// How far the collector's clock is ahead, ms.
    pub(crate) fn ahead_ms(self) -> i64 {
        self.0
    }

    pub(crate) fn is_notable(self) -> bool {
        self.0.unsigned_abs() > NOTABLE_MS
    }

    pub(crate) fn is_beyond(self, most: Duration) -> bool {
        u128::from(self.0.unsigned_abs()) > most.as_millis()
    }
}

impl std::fmt::Display for Skew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.unsigned_abs() as f64 / 1e3;
        write!(f, "{seconds:.1} s {} this aggregator's", if self.0 < 0 { "behind" } else { "ahead of" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_a_side_and_a_size() {
        let minute = Duration::from_secs(60);
        let cases = [
            (1_000, 1_000, 0, false, false, "0.0 s ahead of this aggregator's"),
            (71_000, 1_000, 70_000, true, true, "70.0 s ahead of this aggregator's"),
            (1_000, 21_500, -20_500, true, false, "20.5 s behind this aggregator's"),
            (61_000, 1_000, 60_000, true, false, "60.0 s ahead of this aggregator's"),
        ];
        for (theirs, ours, ahead, notable, beyond, text) in cases {
            let skew = Skew::measure(theirs, ours);
            assert_eq!((skew.ahead_ms(), skew.is_notable(), skew.is_beyond(minute)), (ahead, notable, beyond));
            assert_eq!(skew.to_string(), text);
        }
        assert!(Skew::measure(u64::MAX, 0).is_beyond(minute) && Skew::measure(0, u64::MAX).is_beyond(minute));
    }
}
