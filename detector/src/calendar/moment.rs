//! Dates and times of iCalendar, in UTC, in a zone, or floating.

use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time},
    tz::{TimeZone, TimeZoneDatabase},
};

use super::content::Line;

/// A date or a time, as a property has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// A whole day.
    Date(Date),
    /// A time of the event's zone.
    Local(DateTime),
    /// An instant.
    Utc(DateTime),
}

impl Moment {
    /// `20260105`, `20260105T020000`, `20260105T020000Z`; dashes and colons as in ISO 8601 are fine.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let plain: String = text.trim().chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let Some((date, time)) = plain.split_once('T') else { return date(&plain).map(Self::Date) };
        let (time, utc) = time.strip_suffix('Z').map_or((time, false), |time| (time, true));
        let digits = |at: usize| -> Option<i8> {
            if time.len() == 4 && at == 4 { Some(0) } else { time.get(at..at + 2)?.parse().ok() }
        };
        if !matches!(time.len(), 4 | 6) || !time.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        // A leap second is the last of its minute.
        let time = Time::new(digits(0)?, digits(2)?, digits(4)?.min(59), 0).ok()?;
        let moment = self::date(date)?.to_datetime(time);
        Some(if utc { Self::Utc(moment) } else { Self::Local(moment) })
    }

    /// Its date, as written.
    pub(super) fn date(self) -> Date {
        match self {
            Self::Date(date) => date,
            Self::Local(time) | Self::Utc(time) => time.date(),
        }
    }

    /// The instant at which it begins, ms since 1970. A time that a change of the clock leaves out is read with the offset
    /// before it; of one that comes twice, the first counts (RFC 5545, section 3.3.5).
    pub(super) fn instant(self, zone: &TimeZone) -> Option<i64> {
        let timestamp = match self {
            Self::Date(date) => zone.to_timestamp(date.at(0, 0, 0, 0)),
            Self::Local(time) => zone.to_timestamp(time),
            Self::Utc(time) => TimeZone::UTC.to_timestamp(time),
        };
        timestamp.ok().map(Timestamp::as_millisecond)
    }
}

fn date(text: &str) -> Option<Date> {
    if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Date::new(text.get(..4)?.parse().ok()?, text.get(4..6)?.parse().ok()?, text.get(6..)?.parse().ok()?).ok()
}

/// A zone by its IANA name, from the database that is part of the program: equal on every machine. A path before the name,
/// as some programs write it, is left out.
pub(super) fn zone(name: &str) -> Result<TimeZone, String> {
    let database = TimeZoneDatabase::bundled();
    let short = name.rsplit('/').take(2).collect::<Vec<_>>();
    let short = short.into_iter().rev().collect::<Vec<_>>().join("/");
    if matches!(name, "UTC" | "Etc/UTC" | "GMT" | "Z") {
        return Ok(TimeZone::UTC);
    }
    database
        .get(name)
        .or_else(|_| database.get(&short))
        .map_err(|_| format!("{name:?} is no time zone that is known; expected a name as \"Europe/Berlin\""))
}

/// The zone of a property, if it names one.
pub(super) fn zone_of(line: &Line) -> Result<Option<TimeZone>, String> {
    line.parameter("TZID").map(zone).transpose()
}

/// A duration as `P1DT2H`, `PT15M`, `P2W`: days, and seconds besides.
pub(super) fn duration(text: &str) -> Option<(i64, i64)> {
    let rest = text.trim().strip_prefix('+').unwrap_or_else(|| text.trim()).strip_prefix('P')?;
    let (mut days, mut seconds, mut time, mut digits, mut any) = (0i64, 0i64, false, String::new(), false);
    for c in rest.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if c == 'T' && digits.is_empty() && !time {
            time = true;
            continue;
        }
        let number: i64 = digits.parse::<u32>().ok()?.into();
        digits.clear();
        any = true;
        match (c, time) {
            ('W', false) => days = days.checked_add(number * 7)?,
            ('D', false) => days = days.checked_add(number)?,
            ('H', true) => seconds = seconds.checked_add(number * 3600)?,
            ('M', true) => seconds = seconds.checked_add(number * 60)?,
            ('S', true) => seconds = seconds.checked_add(number)?,
            _ => return None,
        }
    }
    (any && digits.is_empty()).then_some((days, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str, zone: &TimeZone) -> String {
        let ms = Moment::parse(text).unwrap().instant(zone).unwrap();
        Timestamp::from_millisecond(ms).unwrap().to_string()
    }

    #[test]
    fn moments_are_read_and_times_that_clocks_leave_out_or_repeat_are_settled() {
        let berlin = zone("Europe/Berlin").unwrap();
        assert_eq!(utc("20260705T020000", &berlin), "2026-07-05T00:00:00Z");
        assert_eq!(utc("20260105T020000Z", &berlin), "2026-01-05T02:00:00Z");
        assert_eq!(utc("2026-01-05", &berlin), "2026-01-04T23:00:00Z");
        assert_eq!(utc("2026-01-05T02:00", &berlin), "2026-01-05T01:00:00Z");
        // 2026-03-29: 02:00 to 03:00 is left out; 2026-10-25: 02:00 to 03:00 comes twice.
        assert_eq!(utc("20260329T023000", &berlin), "2026-03-29T01:30:00Z");
        assert_eq!(utc("20261025T023000", &berlin), "2026-10-25T00:30:00Z");
        for wrong in ["2026", "20261301", "20260105T25", "20260105T020000X", "yesterday", "20260230"] {
            assert_eq!(Moment::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn zones_are_known_by_name() {
        assert_eq!(zone("/mozilla.org/20070129_1/Europe/Berlin").unwrap(), zone("Europe/Berlin").unwrap());
        assert!(zone("America/Argentina/Buenos_Aires").is_ok());
        assert!(zone("W. Europe Standard Time").unwrap_err().contains("\"W. Europe Standard Time\" is no time zone"));
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("P1DT2H30M"), Some((1, 9000)));
        assert_eq!(
            (duration("PT15M"), duration("P2W"), duration("PT0S")),
            (Some((0, 900)), Some((14, 0)), Some((0, 0)))
        );
        for wrong in ["", "P", "PT", "1H", "P1H", "PT1D", "-PT1H", "PT1", "PT99999999999S"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
