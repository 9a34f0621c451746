//! What a series has learnt of its day and its week: most of its state, and nothing at first.
//!
//! A series begins with a [`FirstDay`]: which slots had a bucket, and the few that weren't 0. It gets the full
//! [`Profile`] when it comes to a slot for the second time, when its first day closes, or when more slots than fit
//! weren't 0. Both say the same, to the bit: a host that is seen once takes an eighth of the memory, and a new one is
//! made without touching 1.6 kB.

use super::{
    compact::{CHANNELS, HOURS_OF_WEEK, SLOTS},
    daily_maxima::DAYS,
    predict::rebased_slot,
};

/// Slots of a first day that aren't 0 and are kept without a profile: with them a model stays under 256 bytes.
const LISTED: usize = 8;

/// A series' profile of day and week.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Profile {
    /// Daily profile, relative to the level.
    pub(super) daily: [f32; SLOTS],
    /// Residual scale factor by hour of day.
    pub(super) hourly_scale: [f32; 24],
    /// Daily maxima of each channel, a ring.
    pub(super) maxima: [[f32; DAYS]; CHANNELS],
    /// Weekly profile: deviation of an hour of the week from the daily profile, in 1/1024.
    pub(super) weekly: [i16; HOURS_OF_WEEK],
    /// Visits to a daily slot, saturating at 250.
    pub(super) daily_visits: [u8; SLOTS],
    /// Sign of the last big outlier at a daily slot.
    pub(super) outlier: [i8; SLOTS],
    /// Visits to a weekly slot, saturating at 250.
    pub(super) weekly_visits: [u8; HOURS_OF_WEEK],
}

impl Profile {
    pub(super) const EMPTY: Self = Self {
        daily: [0.0; SLOTS],
        hourly_scale: [1.0; 24],
        maxima: [[0.0; DAYS]; CHANNELS],
        weekly: [0; HOURS_OF_WEEK],
        daily_visits: [0; SLOTS],
        outlier: [0; SLOTS],
        weekly_visits: [0; HOURS_OF_WEEK],
    };
}

/// A profile of slots that were visited at most once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FirstDay {
    /// A bit per daily slot.
    visited: [u32; SLOTS / 32],
    /// How many of `slots` and `values` are in use.
    listed: u8,
    slots: [u8; LISTED],
    values: [f32; LISTED],
}

impl FirstDay {
    fn is_visited(&self, slot: usize) -> bool {
        self.visited[slot / 32] >> (slot % 32) & 1 == 1
    }

    fn listed(&self) -> impl Iterator<Item = (usize, f32)> {
        self.slots
            .iter()
            .zip(self.values)
            .take(usize::from(self.listed))
            .map(|(slot, value)| (usize::from(*slot), value))
    }

    /// False if there is no room.
    fn enter(&mut self, slot: usize, value: f32) -> bool {
        // A zero with a sign is listed: reading it back must give the same bits.
        if value.to_bits() != 0 {
            let at = usize::from(self.listed);
            let (Some(place), Some(number)) = (self.values.get_mut(at), self.slots.get_mut(at)) else { return false };
            (*place, *number) = (value, slot as u8);
            self.listed += 1;
        }
        self.visited[slot / 32] |= 1 << (slot % 32);
        true
    }

    fn value(&self, slot: usize) -> f32 {
        self.listed().find(|(listed, _)| *listed == slot).map_or(0.0, |(_, value)| value)
    }

    fn rebase(&mut self, slots: usize, ratio: f64) {
        for (slot, value) in self.slots.iter().zip(&mut self.values).take(usize::from(self.listed)) {
            if usize::from(*slot) < slots {
                *value = rebased_slot(*value, 0.0, ratio);
            }
        }
    }

    fn profile(&self) -> Profile {
        let mut profile = Profile::EMPTY;
        for (slot, visits) in profile.daily_visits.iter_mut().enumerate() {
            *visits = self.is_visited(slot).into();
        }
        self.listed().for_each(|(slot, value)| profile.daily[slot] = value);
        profile
    }
}

/// What a series has learnt of its day and its week.
#[derive(Debug, Clone, Default)]
pub(super) struct Season {
    /// As long as that is enough.
    first_day: FirstDay,
    /// All of it from then on.
    profile: Option<Box<Profile>>,
}

impl Season {
    /// The value of a daily slot, relative to the level.
    pub(super) fn daily(&self, slot: usize) -> f32 {
        match &self.profile {
            Some(profile) => profile.daily[slot],
            None => self.first_day.value(slot),
        }
    }

    /// Visits to a daily slot.
    pub(super) fn visits(&self, slot: usize) -> u8 {
        match &self.profile {
            Some(profile) => profile.daily_visits[slot],
            None => self.first_day.is_visited(slot).into(),
        }
    }

    /// Deviation of an hour of the week, in 1/1024, and visits to it.
    pub(super) fn week(&self, hour: usize) -> (i16, u8) {
        self.profile.as_ref().map_or((0, 0), |profile| (profile.weekly[hour], profile.weekly_visits[hour]))
    }

    /// Residual scale factor of an hour of the day.
    pub(super) fn hourly_scale(&self, hour: usize) -> f32 {
        self.profile.as_ref().map_or(1.0, |profile| profile.hourly_scale[hour])
    }

    /// The daily maxima of a channel, a ring.
    pub(super) fn maxima(&self, channel: usize) -> [f32; DAYS] {
        self.profile.as_ref().map_or([0.0; DAYS], |profile| profile.maxima[channel])
    }

    /// Enters the first value of a slot.
    pub(super) fn enter(&mut self, slot: usize, value: f32) {
        if self.profile.is_none() && self.first_day.enter(slot, value) {
            return;
        }
        let profile = self.grow();
        profile.daily[slot] = value;
        profile.daily_visits[slot] = 1;
    }

    /// Carries all visited slots over to a new knee; they were relative to `level`. `ratio`: old knee over new one.
    pub(super) fn rebase(&mut self, slots: usize, level: f32, ratio: f64) {
        if self.profile.is_none() && level == 0.0 {
            // 0 relative to level 0 stays 0, so the listed ones are all.
            self.first_day.rebase(slots, ratio);
            return;
        }
        let profile = self.grow();
        for (value, visits) in profile.daily.iter_mut().zip(&profile.daily_visits).take(slots) {
            if *visits > 0 {
                *value = rebased_slot(*value, level, ratio);
            }
        }
    }

    /// The profile, to be written to.
    pub(super) fn grow(&mut self) -> &mut Profile {
        self.profile.get_or_insert_with(|| Box::new(self.first_day.profile()))
    }

    /// All of it.
    pub(super) fn profile(&self) -> Profile {
        self.profile.as_ref().map_or_else(|| self.first_day.profile(), |profile| Profile::clone(profile))
    }
}

impl From<Profile> for Season {
    /// In the smaller form, if that can hold it.
    fn from(profile: Profile) -> Self {
        let mut first_day = FirstDay::default();
        let mut visited =
            profile.daily.iter().zip(&profile.daily_visits).enumerate().filter(|(_, (_, visits))| **visits > 0);
        let fits = visited.all(|(slot, (value, _))| first_day.enter(slot, *value));
        let profile = (!fits || first_day.profile() != profile).then(|| Box::new(profile));
        Self { first_day, profile }
    }
}

impl PartialEq for Season {
    fn eq(&self, other: &Self) -> bool {
        self.profile() == other.profile()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::compact::{Compact, Side};
    use super::*;

    fn values() -> impl Strategy<Value = Vec<(f64, i64)>> {
        let value = prop_oneof![4 => Just(0.0), 2 => 1.0..50.0f64, 1 => 0.0..1e7f64, 1 => Just(1.0)];
        prop::collection::vec((value, prop_oneof![9 => Just(0i64), 1 => 0..100i64]), 1..250)
    }

    proptest! {
        #[test]
        fn a_young_series_says_what_a_grown_one_says(
            values in values(),
            start in 0..200_000i64,
            span_s in prop_oneof![Just(900u32), Just(60), Just(1800), Just(3600), Just(86_400)],
            side in prop_oneof![Just(Side::High), Just(Side::Both)],
            prior in 0.0..20.0f64,
        ) {
            let mut young = Compact::new(prior);
            let mut grown = young.clone();
            grown.season.grow();
            let mut t = start;
            for (value, gap) in values {
                let [ours, theirs] = [&mut young, &mut grown].map(|model| {
                    let foretold = model.score(t, Some(value * 3.0), span_s, side, true);
                    let evidence = model.observe(t, Some(value), span_s, side, true);
                    (foretold, evidence)
                });
                prop_assert_eq!(ours, theirs);
                prop_assert_eq!(young.to_bytes(), grown.to_bytes());
                t += i64::from(span_s) * (1 + gap);
            }
            let reloaded = Compact::from_bytes(&grown.to_bytes()).unwrap();
            prop_assert_eq!(reloaded.to_bytes(), grown.to_bytes());
            prop_assert_eq!(reloaded, young);
        }
    }

    #[test]
    fn a_host_that_is_seen_once_needs_no_profile_on_its_first_day() {
        let mut model = Compact::new(5.0);
        model.observe(0, Some(40_000.0), 900, Side::High, false);
        (1..96).for_each(|bucket| _ = model.observe(bucket * 900, Some(0.0), 900, Side::High, false));
        assert!(model.season.profile.is_none());
        let reloaded = Compact::from_bytes(&model.to_bytes()).unwrap();
        assert!(reloaded.season.profile.is_none() && reloaded == model);
        model.observe(96 * 900, Some(0.0), 900, Side::High, false);
        assert!(model.season.profile.is_some());
        let mut busy = Compact::new(5.0);
        (0..=LISTED as i64).for_each(|bucket| _ = busy.observe(bucket * 900, Some(40.0), 900, Side::High, false));
        assert!(busy.season.profile.is_some());
    }
}
