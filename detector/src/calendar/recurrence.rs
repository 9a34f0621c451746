//! Recurrence rules of iCalendar (RFC 5545, sections 3.3.10 and 3.8.5.3): DAILY, WEEKLY, MONTHLY and YEARLY with INTERVAL,
//! COUNT, UNTIL, BYMONTH, BYMONTHDAY, BYDAY, BYSETPOS and WKST. What else there is, is refused by name.
//!
//! A rule is a pure function of local dates; times of day and zones are the event's. Dates come period by period (day, week,
//! month, year), and any period can be looked at by itself, so no rule has to be followed from its beginning.

use jiff::{
    ToSpan as _,
    civil::{Date, DateTime, Weekday},
};

/// Most occurrences that COUNT may ask for.
const MOST_COUNT: u32 = 10_000;
/// Periods without any occurrence after which a rule with COUNT is given up: as "the 30th of February".
const MOST_BARREN: i64 = 10_000;

/// How long a period is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frequency {
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// A weekday, or the nth of it in the month or year, from the end if negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Day {
    nth: Option<i16>,
    weekday: Weekday,
}

/// Where a rule stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// With this day.
    Date(Date),
    /// With this local time.
    Local(DateTime),
    /// With this instant, ms since 1970.
    Instant(i64),
}

/// A recurrence rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recurrence {
    frequency: Frequency,
    interval: i64,
    count: Option<u32>,
    pub(super) until: Option<Until>,
    months: Vec<i8>,
    month_days: Vec<i8>,
    days: Vec<Day>,
    positions: Vec<i32>,
    week_start: Weekday,
}

impl Recurrence {
    /// Reads the value of an RRULE. `until` reads the value of UNTIL.
    pub(super) fn parse(text: &str, until: impl Fn(&str) -> Option<Until>) -> Result<Self, String> {
        let mut frequency = None;
        let mut rule = Self {
            frequency: Frequency::Daily,
            interval: 1,
            count: None,
            until: None,
            months: Vec::new(),
            month_days: Vec::new(),
            days: Vec::new(),
            positions: Vec::new(),
            week_start: Weekday::Monday,
        };
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let fault = |expected: &str| format!("RRULE {part:?}: expected {expected}");
            let (name, value) = part.split_once('=').ok_or_else(|| fault("NAME=VALUE"))?;
            match name.to_ascii_uppercase().as_str() {
                "FREQ" => {
                    frequency = Some(frequency_of(value).ok_or_else(|| fault("DAILY, WEEKLY, MONTHLY or YEARLY"))?)
                }
                "INTERVAL" => rule.interval = number(value, 1, 1000).ok_or_else(|| fault("1 to 1000"))?,
                "COUNT" => {
                    let count = number(value, 1, MOST_COUNT.into()).and_then(|count| u32::try_from(count).ok());
                    rule.count = Some(count.ok_or_else(|| fault("1 to 10000"))?);
                }
                "UNTIL" => rule.until = Some(until(value).ok_or_else(|| fault("a date or a time"))?),
                "BYMONTH" => rule.months = list(value, 1, 12).ok_or_else(|| fault("months 1 to 12"))?,
                "BYMONTHDAY" => rule.month_days = signed(value, 31).ok_or_else(|| fault("days ±1 to ±31"))?,
                "BYSETPOS" => rule.positions = signed(value, 366).ok_or_else(|| fault("±1 to ±366"))?,
                "BYDAY" => {
                    let days = value.split(',').map(day).collect::<Option<_>>();
                    rule.days = days.ok_or_else(|| fault("days as MO or -1SU"))?;
                }
                "WKST" => rule.week_start = weekday(value).ok_or_else(|| fault("a weekday as MO"))?,
                _ => return Err(format!("RRULE {part:?} is not supported")),
            }
        }
        rule.frequency = frequency.ok_or("RRULE has no FREQ")?;
        rule.check()?;
        Ok(rule)
    }

    fn check(&self) -> Result<(), String> {
        let nth = self.days.iter().any(|day| day.nth.is_some());
        let by_month_or_year = matches!(self.frequency, Frequency::Monthly | Frequency::Yearly);
        if self.count.is_some() && self.until.is_some() {
            return Err("RRULE has both COUNT and UNTIL".into());
        }
        if nth && !by_month_or_year {
            return Err("RRULE: BYDAY with a number needs FREQ=MONTHLY or FREQ=YEARLY".into());
        }
        if !self.month_days.is_empty() && self.frequency == Frequency::Weekly {
            return Err("RRULE: BYMONTHDAY does not go with FREQ=WEEKLY".into());
        }
        Ok(())
    }

    /// Turns COUNT into the day of the last occurrence: from then on any period can be looked at by itself.
    pub(super) fn settle(&mut self, first: Date) {
        let Some(count) = self.count.take() else { return };
        let (mut left, mut last, mut barren) = (count, first, 0);
        for period in 0.. {
            let dates = self.period(first, period);
            barren = if dates.is_empty() { barren + 1 } else { 0 };
            for date in dates {
                last = date;
                left -= 1;
                if left == 0 {
                    break;
                }
            }
            if left == 0 || barren > MOST_BARREN || last.year() > 9000 {
                break;
            }
        }
        self.until = Some(Until::Date(last));
    }

    /// The days on which something begins, from `from` to `to`, for an event that begins on `first`, ascending. UNTIL is
    /// only looked at as far as days go.
    pub(super) fn dates(&self, first: Date, from: Date, to: Date) -> Vec<Date> {
        let until = match self.until {
            Some(Until::Date(date)) => date,
            Some(Until::Local(time)) => time.date(),
            // A zone is at most a day away.
            Some(Until::Instant(ms)) => day_of(ms),
            None => Date::MAX,
        };
        let to = to.min(until);
        if to < first || to < from {
            return Vec::new();
        }
        let (begin, end) = (self.number(first, from.max(first)).max(0), self.number(first, to));
        let dates = (begin..=end).flat_map(|period| self.period(first, period));
        dates.filter(|date| (from..=to).contains(date)).collect()
    }

    /// Number of the period that holds the date, or of the last one before it.
    fn number(&self, first: Date, date: Date) -> i64 {
        let periods = match self.frequency {
            Frequency::Daily => days_between(first, date),
            Frequency::Weekly => days_between(self.week_of(first), self.week_of(date)) / 7,
            Frequency::Monthly => months(date) - months(first),
            Frequency::Yearly => i64::from(date.year()) - i64::from(first.year()),
        };
        periods.div_euclid(self.interval)
    }

    fn week_of(&self, date: Date) -> Date {
        date.saturating_sub(i64::from(date.weekday().since(self.week_start)).days())
    }

    /// The occurrences of one period, ascending, none before the first of all.
    fn period(&self, first: Date, number: i64) -> Vec<Date> {
        let ahead = number.saturating_mul(self.interval);
        let mut dates = match self.frequency {
            Frequency::Daily => first.checked_add(ahead.days()).into_iter().filter(|date| self.fits(*date)).collect(),
            Frequency::Weekly => self.week(first, ahead),
            Frequency::Monthly => month_after(first, ahead).map(|month| self.month(first, month)).unwrap_or_default(),
            Frequency::Yearly => self.year(first, ahead),
        };
        dates.sort();
        dates.dedup();
        if !self.positions.is_empty() {
            dates = self.chosen(&dates);
        }
        dates.retain(|date| *date >= first);
        dates
    }

    /// BYSETPOS.
    fn chosen(&self, dates: &[Date]) -> Vec<Date> {
        let at = |position: &i32| match usize::try_from(*position) {
            Ok(position) => dates.get(position.checked_sub(1)?),
            Err(_) => dates.get(dates.len().checked_sub(position.unsigned_abs() as usize)?),
        };
        let mut chosen: Vec<Date> = self.positions.iter().filter_map(at).copied().collect();
        chosen.sort();
        chosen.dedup();
        chosen
    }

    /// What BYMONTH, BYMONTHDAY and BYDAY say of a single day.
    fn fits(&self, date: Date) -> bool {
        let month_day = |day: &i8| *day == date.day() || *day == date.day() - date.days_in_month() - 1;
        (self.months.is_empty() || self.months.contains(&date.month()))
            && (self.month_days.is_empty() || self.month_days.iter().any(month_day))
            && (self.days.is_empty() || self.days.iter().any(|day| day.weekday == date.weekday()))
    }

    fn week(&self, first: Date, weeks: i64) -> Vec<Date> {
        let Ok(monday) = self.week_of(first).checked_add(weeks.weeks()) else { return Vec::new() };
        let days = (0..7).filter_map(|day: i64| monday.checked_add(day.days()).ok());
        let wanted = |date: &Date| !self.days.is_empty() || date.weekday() == first.weekday();
        days.filter(|date| wanted(date) && self.fits(*date)).collect()
    }

    /// The occurrences of one month, of which only its first day is given.
    fn month(&self, first: Date, month: Date) -> Vec<Date> {
        let days = || (0..i64::from(month.days_in_month())).filter_map(move |day| month.checked_add(day.days()).ok());
        let fits = |date: &Date| self.fits(*date);
        if !self.month_days.is_empty() {
            return days().filter(fits).collect();
        }
        if self.days.is_empty() {
            return days().filter(|date| date.day() == first.day()).filter(fits).collect();
        }
        let wanted = |date: &Date| {
            self.days.iter().any(|day| {
                day.weekday == date.weekday()
                    && day.nth.is_none_or(|nth| nth_of(date.day().into(), date.days_in_month().into(), nth))
            })
        };
        days().filter(fits).filter(wanted).collect()
    }

    fn year(&self, first: Date, years: i64) -> Vec<Date> {
        let year = i64::from(first.year()).saturating_add(years);
        let Some(year) = i16::try_from(year).ok().and_then(|year| Date::new(year, 1, 1).ok()) else {
            return Vec::new();
        };
        let of_months = |months: &[i8]| {
            let months = months.iter().filter_map(|month| Date::new(year.year(), *month, 1).ok());
            months.flat_map(|month| self.month(first, month)).collect()
        };
        if !self.months.is_empty() {
            return of_months(&self.months);
        }
        if !self.month_days.is_empty() {
            return of_months(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        }
        if self.days.is_empty() {
            return Date::new(year.year(), first.month(), first.day()).into_iter().collect();
        }
        let wanted = |date: &Date| {
            self.days.iter().any(|day| {
                day.weekday == date.weekday()
                    && day.nth.is_none_or(|nth| nth_of(date.day_of_year(), date.days_in_year(), nth))
            })
        };
        let days = (0..i64::from(year.days_in_year())).filter_map(|day| year.checked_add(day.days()).ok());
        days.filter(wanted).collect()
    }
}

/// True if a weekday on the `day`th of a span of `days` is the `nth` of it there.
fn nth_of(day: i16, days: i16, nth: i16) -> bool {
    if nth > 0 { (day - 1) / 7 + 1 == nth } else { (days - day) / 7 + 1 == -nth }
}

fn months(date: Date) -> i64 {
    i64::from(date.year()) * 12 + i64::from(date.month()) - 1
}

fn month_after(first: Date, ahead: i64) -> Option<Date> {
    let month = months(first).checked_add(ahead)?;
    Date::new(i16::try_from(month.div_euclid(12)).ok()?, i8::try_from(month.rem_euclid(12)).ok()? + 1, 1).ok()
}

pub(super) fn days_between(from: Date, to: Date) -> i64 {
    from.duration_until(to).as_hours() / 24
}

/// The day in UTC, and one more.
fn day_of(ms: i64) -> Date {
    Date::new(1970, 1, 1).map_or(Date::MAX, |epoch| epoch.saturating_add((ms.div_euclid(86_400_000) + 1).days()))
}

fn frequency_of(text: &str) -> Option<Frequency> {
    Some(match text.to_ascii_uppercase().as_str() {
        "DAILY" => Frequency::Daily,
        "WEEKLY" => Frequency::Weekly,
        "MONTHLY" => Frequency::Monthly,
        "YEARLY" => Frequency::Yearly,
        _ => return None,
    })
}

fn number(text: &str, least: i64, most: i64) -> Option<i64> {
    text.parse().ok().filter(|number| (least..=most).contains(number))
}

fn list<T: TryFrom<i64>>(text: &str, least: i64, most: i64) -> Option<Vec<T>> {
    text.split(',').map(|one| T::try_from(number(one, least, most)?).ok()).collect()
}

fn signed<T: TryFrom<i64>>(text: &str, most: i64) -> Option<Vec<T>> {
    let one =
        |one: &str| T::try_from(number(one.strip_prefix('+').unwrap_or(one), -most, most).filter(|n| *n != 0)?).ok();
    text.split(',').map(one).collect()
}

fn weekday(text: &str) -> Option<Weekday> {
    Some(match text.to_ascii_uppercase().as_str() {
        "MO" => Weekday::Monday,
        "TU" => Weekday::Tuesday,
        "WE" => Weekday::Wednesday,
        "TH" => Weekday::Thursday,
        "FR" => Weekday::Friday,
        "SA" => Weekday::Saturday,
        "SU" => Weekday::Sunday,
        _ => return None,
    })
}

fn day(text: &str) -> Option<Day> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (nth, name) = text.split_at(at);
    let nth = match nth {
        "" => None,
        nth => {
            Some(i16::try_from(number(nth.strip_prefix('+').unwrap_or(nth), -53, 53).filter(|nth| *nth != 0)?).ok()?)
        }
    };
    Some(Day { nth, weekday: weekday(name)? })
}

#[cfg(test)]
mod tests;
