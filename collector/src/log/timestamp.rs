//! Times as logs write them → microseconds of event time since 1970-01-01T00:00:00Z.
//!
//! Understood are RFC 3339 with any fraction and zone (without a zone: UTC, as Elasticsearch takes it) and numbers since
//! 1970, in seconds with any fraction or in milliseconds. A number is milliseconds from 100,000,000,000 on: as seconds
//! that is the year 5138, as milliseconds 1973.

use std::borrow::Cow;

use jiff::{Timestamp, civil::DateTime, tz::Offset};

use super::scalar::Scalar;
use crate::fault::{Fault, Reason};

/// Microseconds since 1970-01-01T00:00:00Z, or of a duration.
pub(super) type Micros = u64;

/// The end of the year 9999.
const LATEST: Micros = 253_402_300_799_999_999;
/// From here on, a number is milliseconds rather than seconds.
const FIRST_MILLIS: u64 = 100_000_000_000;

/// Why a value is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Shape,
    Range,
}

/// A point in time, or `None` if the field is absent.
///
/// # Errors
/// `OutOfRange` before 1970, after 9999 and for dates that no calendar has, `BadLine` for what is no time.
pub(super) fn instant(value: &Scalar<'_>, field: &str) -> Result<Option<Micros>, Fault> {
    let parsed = match value {
        Scalar::Absent => return Ok(None),
        Scalar::Unsigned(number) => scaled(*number, 0),
        Scalar::Negative(_) => Err(Wrong::Range),
        Scalar::Float(number) if *number >= FIRST_MILLIS as f64 => from_float(*number, 1e3),
        Scalar::Float(number) => from_float(*number, 1e6),
        Scalar::Text(text) => from_text(text),
        Scalar::Bool(_) => Err(Wrong::Shape),
    };
    let parsed = parsed.and_then(|micros| if micros <= LATEST { Ok(micros) } else { Err(Wrong::Range) });
    parsed.map(Some).map_err(|wrong| match wrong {
        Wrong::Shape => value.not(field, "a time (RFC 3339, or seconds or milliseconds since 1970)"),
        Wrong::Range => out_of_range(value, field, "a time from 1970 to 9999"),
    })
}

/// A duration in seconds, or `None` if the field is absent.
///
/// # Errors
/// `OutOfRange` for negative and absurdly long durations, `BadLine` for what is no number.
pub(super) fn seconds(value: &Scalar<'_>, field: &str) -> Result<Option<Micros>, Fault> {
    let parsed = match value {
        Scalar::Absent => return Ok(None),
        Scalar::Unsigned(number) => number.checked_mul(1_000_000).ok_or(Wrong::Range),
        Scalar::Negative(_) => Err(Wrong::Range),
        Scalar::Float(number) => from_float(*number, 1e6),
        Scalar::Text(text) => match decimal(text) {
            Some((whole, micros)) => {
                whole.checked_mul(1_000_000).and_then(|m| m.checked_add(micros)).ok_or(Wrong::Range)
            }
            None => text.parse::<f64>().map_err(|_| Wrong::Shape).and_then(|number| from_float(number, 1e6)),
        },
        Scalar::Bool(_) => Err(Wrong::Shape),
    };
    let parsed = parsed.and_then(|micros| if micros <= LATEST { Ok(micros) } else { Err(Wrong::Range) });
    parsed.map(Some).map_err(|wrong| match wrong {
        Wrong::Shape => value.not(field, "a number of seconds"),
        Wrong::Range => out_of_range(value, field, "a duration from 0 s"),
    })
}

fn out_of_range(value: &Scalar<'_>, field: &str, expected: &str) -> Fault {
    Fault::new(Reason::OutOfRange, format!("{field} is {}; {expected} was expected", value.shown()))
}

/// Rounded to the microsecond, since a float of today's seconds is exact to a quarter of one.
fn from_float(number: f64, scale: f64) -> Result<Micros, Wrong> {
    let micros = (number * scale).round();
    if (0.0..=LATEST as f64).contains(&micros) { Ok(micros as u64) } else { Err(Wrong::Range) }
}

fn from_text(text: &str) -> Result<Micros, Wrong> {
    if let Some((whole, micros)) = decimal(text) {
        return scaled(whole, micros);
    }
    if text.strip_prefix('-').is_some_and(|rest| decimal(rest).is_some()) {
        return Err(Wrong::Range);
    }
    let text = nine_digits(text);
    let parsed = match text.get(10..) {
        Some(time) if time.contains(['Z', 'z', '+', '-', '[']) => text.parse::<Timestamp>().ok(),
        // No zone.
        _ => text.parse::<DateTime>().ok().and_then(|local| Offset::UTC.to_timestamp(local).ok()),
    };
    match parsed {
        Some(time) => u64::try_from(time.as_microsecond()).map_err(|_| Wrong::Range),
        // The shape of a date, but no such day or hour.
        None if text.len() >= 10 && text.bytes().all(|b| b.is_ascii_digit() || b"-+:.,TtZz ".contains(&b)) => {
            Err(Wrong::Range)
        }
        None => Err(Wrong::Shape),
    }
}

/// Seconds or milliseconds (which, their size tells) and the millionths that follow the point.
fn scaled(whole: u64, millionths: u64) -> Result<Micros, Wrong> {
    let micros = if whole >= FIRST_MILLIS {
        whole.checked_mul(1_000).and_then(|m| m.checked_add(millionths / 1_000))
    } else {
        whole.checked_mul(1_000_000).and_then(|m| m.checked_add(millionths))
    };
    micros.ok_or(Wrong::Range)
}

/// Digits with an optional fraction: the whole part and the first six digits of the fraction. Exact, unlike a float.
fn decimal(text: &str) -> Option<(u64, u64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || !fraction.bytes().chain(whole.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let millionths = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
    let millionths = millionths.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    whole.parse().ok().map(|whole| (whole, millionths))
}

/// RFC 3339 allows any number of digits in a fraction, the parser nine: the rest is below what is kept anyway.
fn nine_digits(text: &str) -> Cow<'_, str> {
    let Some(point) = text.find('.') else { return Cow::Borrowed(text) };
    let (head, tail) = text.split_at(point + 1);
    let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
    match (tail.get(..9), tail.get(digits..)) {
        (Some(kept), Some(zone)) if digits > 9 => Cow::Owned(format!("{head}{kept}{zone}")),
        _ => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Option<Micros>, Reason> {
        instant(&Scalar::Text(Cow::Borrowed(text)), "@timestamp").map_err(|fault| fault.reason)
    }

    #[test]
    fn rfc_3339_with_any_fraction_and_zone() {
        let noon = 1_767_614_400_000_000;
        assert_eq!(of("2026-01-05T12:00:00Z"), Ok(Some(noon)));
        assert_eq!(of("2026-01-05T14:00:00+02:00"), Ok(Some(noon)));
        assert_eq!(of("2026-01-05T12:00:00"), Ok(Some(noon)), "no zone is UTC");
        assert_eq!(of("2026-01-05 12:00:00.5z"), Ok(Some(noon + 500_000)));
        assert_eq!(of("2026-01-05T12:00:00.123456789012345Z"), Ok(Some(noon + 123_456)));
    }

    #[test]
    fn seconds_and_milliseconds_since_1970() {
        let time = Ok(Some(1_545_403_816_962_094));
        assert_eq!(of("1545403816.962094"), time);
        assert_eq!(instant(&Scalar::Float(1_545_403_816.962_094), "ts"), Ok(Some(1_545_403_816_962_094)));
        assert_eq!(instant(&Scalar::Unsigned(1_545_403_816_962), "ts"), Ok(Some(1_545_403_816_962_000)));
        assert_eq!(of("1545403816"), Ok(Some(1_545_403_816_000_000)));
        assert_eq!(instant(&Scalar::Float(1_545_403_816.962), "ts"), Ok(Some(1_545_403_816_962_000)));
    }

    #[test]
    fn a_zone_that_can_t_be_is_no_utc() {
        assert_eq!(of("2026-01-05T12:00:00+99:00"), Err(Reason::OutOfRange));
    }

    #[test]
    fn impossible_times_are_out_of_range_and_other_text_is_a_bad_line() {
        for text in
            ["1969-12-31T23:59:59Z", "2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "-1.0", "99999999999999999999"]
        {
            assert_eq!(of(text), Err(Reason::OutOfRange), "{text}");
        }
        for text in ["yesterday", "", "12:00"] {
            assert_eq!(of(text), Err(Reason::BadLine), "{text}");
        }
        assert!(instant(&Scalar::Negative(-1), "ts").is_err());
        assert!(instant(&Scalar::Unsigned(u64::MAX), "ts").is_err());
        assert!(instant(&Scalar::Float(1e300), "ts").is_err());
    }

    #[test]
    fn durations_in_seconds() {
        let of = |text| seconds(&Scalar::Text(Cow::Borrowed(text)), "duration").map_err(|fault| fault.reason);
        assert_eq!(of("3.139211"), Ok(Some(3_139_211)));
        assert_eq!(of("1e-05"), Ok(Some(10)), "tiny durations come with an exponent");
        assert_eq!(of("-0.5"), Err(Reason::OutOfRange));
        assert_eq!(of("long"), Err(Reason::BadLine));
    }
}
