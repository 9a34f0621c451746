//! How far this clock is off an aggregator's: it lies between the hello and the welcome that answers it.

use std::collections::BTreeMap;

use super::core::LinkId;

/// Difference that is worth a warning, ms.
const NOTABLE_MS: u64 = 10_000;

/// Streams whose hello has not been answered, by when it was said.
#[derive(Debug, Default)]
pub(super) struct Skews(BTreeMap<LinkId, u64>);

/// A difference of clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skew {
    /// How far this clock is ahead, ms; the middle of what is possible.
    pub(super) ahead_ms: i64,
    /// Half of the round trip, ms: it may be off by as much.
    pub(super) within_ms: u64,
}

impl Skews {
    /// The hello of a stream was said, by this clock.
    pub(super) fn said(&mut self, link: LinkId, now_ms: u64) {
        self.0.insert(link, now_ms);
    }

    /// A welcome that was sent at `theirs` by the aggregator's clock came; the first one answers the hello.
    pub(super) fn heard(&mut self, link: LinkId, theirs: u64, now_ms: u64) -> Option<Skew> {
        let said = self.0.remove(&link)?;
        let within_ms = now_ms.saturating_sub(said) / 2;
        let ahead = i128::from(said) + i128::from(within_ms) - i128::from(theirs);
        Some(Skew { ahead_ms: i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX }), within_ms })
    }

    /// A stream ended.
    pub(super) fn gone(&mut self, link: LinkId) {
        self.0.remove(&link);
    }
}

impl Skew {
    /// True if it is worth a warning, however long the answer took.
    pub(super) fn is_notable(self) -> bool {
        self.ahead_ms.unsigned_abs() > NOTABLE_MS.saturating_add(self.within_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_lies_in_the_middle_of_the_round_trip() {
        let mut skews = Skews::default();
        let mut measure = |theirs, said, heard| {
            skews.said(1, said);
            let skew = skews.heard(1, theirs, heard).unwrap();
            assert_eq!(skews.heard(1, theirs, heard), None, "only the first welcome answers");
            (skew.ahead_ms, skew.within_ms, skew.is_notable())
        };
        assert_eq!(measure(1_050, 1_000, 1_100), (0, 50, false));
        assert_eq!(measure(1_000, 301_000, 301_200), (300_100, 100, true));
        assert_eq!(measure(301_000, 1_000, 1_200), (-299_900, 100, true));
        // The answer took so long that nothing can be said.
        assert_eq!(measure(20_000, 1_000, 15_000), (-12_000, 7_000, false));
        skews.said(2, 5);
        skews.gone(2);
        assert_eq!(skews.heard(2, 5, 5), None);
    }
}
