//! One event: when it begins, how long it lasts, how it comes back.

use jiff::{ToSpan as _, civil::Date, tz::TimeZone};

use super::{
    moment::Moment,
    recurrence::{Recurrence, Until},
};

/// Longest event, days: one that lasts longer is no event but a rule.
pub(super) const MOST_DAYS: i64 = 366;

/// How long each occurrence is: whole days of its zone, and seconds besides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Length {
    pub(super) days: i64,
    pub(super) seconds: i64,
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What people see.
    pub summary: String,
    pub(super) start: Moment,
    pub(super) length: Length,
    pub(super) zone: TimeZone,
    pub(super) rule: Option<Recurrence>,
    /// Occurrences that do not take place, and more that do.
    pub(super) without: Vec<Moment>,
    pub(super) besides: Vec<Moment>,
}

impl Event {
    /// Makes it ready to be asked.
    pub(super) fn settled(mut self) -> Self {
        if let Some(rule) = &mut self.rule {
            rule.settle(self.start.date());
        }
        self
    }

    /// True if an occurrence takes place within `[from, to)`, ms since 1970, in part at least.
    #[must_use]
    pub fn overlaps(&self, from: i64, to: i64) -> bool {
        let besides = self.besides.iter().copied();
        let single = self.rule.is_none().then_some(self.start);
        if besides.chain(single).any(|start| !self.is_without(start) && self.touches(start, from, to)) {
            return true;
        }
        let Some(rule) = &self.rule else { return false };
        // What began earlier may still last; and local days are up to a day away from those in UTC.
        let margin = self.length.days + self.length.seconds / 86_400 + 2;
        let (first, last) = (day(from).saturating_sub(margin.days()), day(to).saturating_add(2.days()));
        rule.dates(self.start.date(), first, last).into_iter().any(|date| {
            let start = self.at(date);
            self.is_before_end(rule, start) && !self.is_without(start) && self.touches(start, from, to)
        })
    }

    /// The occurrence that begins on a day.
    fn at(&self, date: Date) -> Moment {
        match self.start {
            Moment::Date(_) => Moment::Date(date),
            Moment::Local(time) => Moment::Local(date.to_datetime(time.time())),
            Moment::Utc(time) => Moment::Utc(date.to_datetime(time.time())),
        }
    }

    fn is_before_end(&self, rule: &Recurrence, start: Moment) -> bool {
        match rule.until {
            None => true,
            Some(Until::Date(date)) => start.date() <= date,
            Some(Until::Local(time)) => match start {
                Moment::Date(date) => date <= time.date(),
                Moment::Local(start) | Moment::Utc(start) => start <= time,
            },
            Some(Until::Instant(ms)) => start.instant(&self.zone).is_some_and(|start| start <= ms),
        }
    }

    /// EXDATE: by instant, or by day where the exception is one.
    fn is_without(&self, start: Moment) -> bool {
        self.without.iter().any(|without| match without {
            Moment::Date(date) => *date == start.date(),
            without => without.instant(&self.zone) == start.instant(&self.zone),
        })
    }

    fn touches(&self, start: Moment, from: i64, to: i64) -> bool {
        let Some(begin) = start.instant(&self.zone) else { return false };
        let last = match start {
            Moment::Date(date) => Moment::Date(date.saturating_add(self.length.days.days())),
            Moment::Local(time) => Moment::Local(time.saturating_add(self.length.days.days())),
            Moment::Utc(time) => Moment::Utc(time.saturating_add(self.length.days.days())),
        };
        let end = last.instant(&self.zone).unwrap_or(begin).saturating_add(self.length.seconds * 1000);
        begin < to && end > from
    }
}

/// The day in UTC.
fn day(ms: i64) -> Date {
    let epoch = Date::new(1970, 1, 1).unwrap_or(Date::MIN);
    epoch.saturating_add(ms.div_euclid(86_400_000).clamp(-700_000, 2_900_000).days())
}
