//! Timestamps of a table: read in three forms, written in the form they were read in.

use std::io::{self, Write};

use jiff::fmt::temporal::{Pieces, PiecesOffset};
use jiff::{Timestamp, tz::Offset};

/// End of the year 9999, epoch seconds: what is beyond is in another unit.
const LATEST: i64 = 253_402_300_799;

/// How a timestamp was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Seconds since 1970.
    Epoch,
    /// `YYYY-MM-DD HH:MM:SS`, UTC.
    Civil,
    /// RFC 3339 with this offset; `None` is `Z`.
    Rfc3339(Option<Offset>),
}

/// Epoch seconds (fractions are cut off) and form of a timestamp.
pub(super) fn parse(text: &str) -> Option<(i64, Form)> {
    if let Ok(seconds) = text.parse::<f64>() {
        let whole = seconds.floor();
        return (whole.abs() <= LATEST as f64).then_some((whole as i64, Form::Epoch));
    }
    let pieces = Pieces::parse(text).ok()?;
    let civil = pieces.date().to_datetime(pieces.time().unwrap_or_default());
    let (offset, form) = match pieces.offset() {
        None => (Offset::UTC, Form::Civil),
        Some(PiecesOffset::Zulu) => (Offset::UTC, Form::Rfc3339(None)),
        Some(PiecesOffset::Numeric(numeric)) => (numeric.offset(), Form::Rfc3339(Some(numeric.offset()))),
        Some(_) => return None,
    };
    let timestamp = offset.to_timestamp(civil).ok()?;
    Some((timestamp.as_nanosecond().div_euclid(1_000_000_000).try_into().ok()?, form))
}

impl Form {
    /// Writes epoch seconds in this form.
    pub(super) fn write(self, out: &mut impl Write, t: i64) -> io::Result<()> {
        let (Form::Civil | Form::Rfc3339(_), Ok(timestamp)) = (self, Timestamp::from_second(t)) else {
            return write!(out, "{t}");
        };
        match self {
            Form::Epoch => write!(out, "{t}"),
            Form::Civil => write!(out, "{}", Offset::UTC.to_datetime(timestamp).strftime("%Y-%m-%d %H:%M:%S")),
            Form::Rfc3339(None) => write!(out, "{timestamp}"),
            Form::Rfc3339(Some(offset)) => write!(out, "{}", timestamp.display_with_offset(offset)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> (i64, String) {
        let (t, form) = parse(text).unwrap();
        let mut out = Vec::new();
        form.write(&mut out, t).unwrap();
        (t, String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_form_is_written_as_it_was_read() {
        let t = 1_772_409_600;
        for text in ["1772409600", "2026-03-02 00:00:00", "2026-03-02T00:00:00Z", "2026-03-02T02:00:00+02:00"] {
            assert_eq!(again(text), (t, text.to_owned()));
        }
        assert_eq!(parse("2026-03-02").unwrap(), (t, Form::Civil));
        assert_eq!(parse("2026-03-02T00:00:00.999Z").unwrap().0, t);
        assert_eq!(parse("1772409600.75").unwrap().0, t);
        assert_eq!(parse("-1.5").unwrap().0, -2);
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "timestamp", "2026-13-01", "nan", "inf", "1772409600000", "2026-03-02 25:00:00", "12:00"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
