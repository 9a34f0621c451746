//! Slice and bucket arithmetic: event time cut into equal spans, counted from 1970-01-01T00:00:00Z.

use std::{fmt, ops::Range};

use crate::record::EventMillis;

/// Length of a slice or bucket: whole seconds, 1 s to 1 day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    seconds: u32,
}

/// A length that no slice or bucket may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a span of {0} s is outside 1 s to 1 day")]
pub struct InvalidSpan(u64);

impl Span {
    /// The default base bucket.
    pub const QUARTER_HOUR: Self = Self { seconds: 900 };
    /// The default slice.
    pub const TEN_SECONDS: Self = Self { seconds: 10 };

    /// A span of that many seconds.
    ///
    /// # Errors
    /// Outside 1 s to 1 day.
    pub const fn from_seconds(seconds: u64) -> Result<Self, InvalidSpan> {
        match seconds {
            1..=86_400 => Ok(Self { seconds: seconds as u32 }),
            _ => Err(InvalidSpan(seconds)),
        }
    }

    /// Length in seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.seconds
    }

    /// Length in milliseconds.
    #[must_use]
    pub fn millis(self) -> u64 {
        u64::from(self.seconds) * 1000
    }

    /// Start of the span that holds `time`.
    #[must_use]
    pub fn floor(self, time: EventMillis) -> EventMillis {
        time - time % self.millis()
    }

    /// End (exclusive) of the span that holds `time`; saturates at the end of time.
    #[must_use]
    pub fn end(self, time: EventMillis) -> EventMillis {
        self.floor(time).saturating_add(self.millis())
    }

    /// True if this span is a whole number of `part`s.
    #[must_use]
    pub fn is_multiple_of(self, part: Self) -> bool {
        self.seconds.is_multiple_of(part.seconds)
    }

    /// The starts of the spans that `range` touches; an empty range touches the one that holds its start.
    pub fn starts(self, range: Range<EventMillis>) -> impl Iterator<Item = EventMillis> {
        let last = range.end.saturating_sub(1).max(range.start);
        (self.floor(range.start)..=last).step_by(usize::try_from(self.millis()).unwrap_or(usize::MAX))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds {
            s if s % 3600 == 0 => write!(f, "{}h", s / 3600),
            s if s % 60 == 0 => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_tile_event_time() {
        let quarter = Span::QUARTER_HOUR;
        assert_eq!(quarter.floor(1_000_000), 900_000);
        assert_eq!(quarter.end(1_000_000), 1_800_000);
        assert_eq!(quarter.starts(899_999..1_800_001).collect::<Vec<_>>(), [0, 900_000, 1_800_000]);
        assert_eq!(quarter.starts(900_000..900_000).collect::<Vec<_>>(), [900_000]);
        assert!(quarter.is_multiple_of(Span::TEN_SECONDS));
        assert_eq!(quarter.end(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_span_has_bounds() {
        assert!(Span::from_seconds(0).is_err());
        assert!(Span::from_seconds(86_401).is_err());
        assert_eq!(Span::from_seconds(5400).unwrap().to_string(), "90m");
    }
}
