//! Where a bucket lies in its day and week.

const DAY_S: i64 = 86_400;
/// Slots of the fine daily profile: 5 min. Longer buckets have a slot each, shorter ones share one.
pub(super) const DAILY: usize = 288;
/// Slots of the fine weekly profile.
pub(super) const WEEKLY: usize = 7 * DAILY;
/// Slots of the coarse daily profile: 15 min.
pub(super) const COARSE_DAILY: usize = 96;
/// Slots of the coarse weekly profile: 30 min.
pub(super) const COARSE_WEEKLY: usize = 7 * 48;

/// A bucket's place: which slot of which profile it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Days since 1970.
    pub(super) day: i64,
    pub(super) hour: usize,
    pub(super) daily: usize,
    pub(super) weekly: usize,
    pub(super) coarse_daily: usize,
    pub(super) coarse_weekly: usize,
    /// Fine slots of a day at this bucket length.
    pub(super) slots: f64,
}

impl Place {
    pub(super) fn new(t: i64, span_s: u32) -> Self {
        let slots = (DAY_S / i64::from(span_s.max(1))).clamp(24, DAILY as i64);
        let (day, second) = (t.div_euclid(DAY_S), t.rem_euclid(DAY_S));
        // 1970 began with a Thursday; Sunday is 0.
        let weekday = (day + 4).rem_euclid(7);
        // All are small and not negative: the second is within the day, the weekday within the week.
        let slot = |slots: i64| (second * slots / DAY_S) as usize;
        let of_week = |slots: i64| weekday as usize * slots as usize + slot(slots);
        let (half_hours, quarters) = (slots.min(48), slots.min(COARSE_DAILY as i64));
        Self {
            day,
            hour: slot(24),
            daily: slot(slots),
            weekly: of_week(slots),
            coarse_daily: slot(quarters),
            coarse_weekly: of_week(half_hours),
            slots: slots as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_has_a_slot() {
        for span in [1, 60, 300, 900, 3600, 21_600, 86_400, u32::MAX] {
            for t in [i64::MIN, -1, 0, 86_399, 1_772_409_600, i64::MAX] {
                let place = Place::new(t, span);
                assert!(place.hour < 24 && place.daily < DAILY && place.weekly < WEEKLY);
                assert!(place.coarse_daily < COARSE_DAILY && place.coarse_weekly < COARSE_WEEKLY);
            }
        }
        // Monday, 2 March 2026, 00:10.
        let place = Place::new(1_772_410_200, 300);
        assert_eq!((place.hour, place.daily, place.weekly), (0, 2, DAILY + 2));
        assert_eq!((place.coarse_daily, place.coarse_weekly), (0, 48));
    }
}
