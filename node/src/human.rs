//! Numbers and times as people read them, and as documents write them.

use std::time::Duration;

use jiff::Timestamp;

fn timestamp(millis: u64) -> Timestamp {
    i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok()).unwrap_or(Timestamp::MAX)
}

/// RFC 3339 in UTC, with as many digits as needed.
#[must_use]
pub(crate) fn rfc3339(millis: u64) -> String {
    timestamp(millis).to_string()
}

/// RFC 3339 in UTC, always with milliseconds: texts that are in order where times are.
#[must_use]
pub(crate) fn rfc3339_millis(millis: u64) -> String {
    format!("{:.3}", timestamp(millis))
}

/// As `Mon 05 Jan 14:15`, UTC.
#[must_use]
pub(crate) fn day_and_time(millis: u64) -> String {
    timestamp(millis).strftime("%a %d %b %H:%M").to_string()
}

/// A count, with thin groups of three digits: `12 345`.
#[must_use]
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// A duration in the unit that suits it: `350 µs`, `12.5 ms`, `3.2 s`, `14 min`.
#[must_use]
pub(crate) fn duration(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s => format!("{:.0} min", s / 60.0),
    }
}

/// `1 file`, `2 files`.
#[must_use]
pub(crate) fn plural(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {noun}{s}", count(number))
}

/// Processor time of this process so far; zero where the system doesn't tell.
#[must_use]
pub(crate) fn processor_time() -> Duration {
    // Fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms; the second field may hold blanks, and ends with ')'.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!((count(0), count(999), count(1_234_567)), ("0".into(), "999".into(), "1 234 567".into()));
        assert_eq!((plural(1, "file"), plural(2_000, "file")), ("1 file".into(), "2 000 files".into()));
        assert_eq!(duration(Duration::from_micros(350)), "350 µs");
        assert_eq!(duration(Duration::from_millis(3_200)), "3.2 s");
        assert_eq!(duration(Duration::from_secs(840)), "14 min");
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(rfc3339(1_767_571_200_000), "2026-01-05T00:00:00Z");
        assert_eq!(rfc3339(1_767_571_200_250), "2026-01-05T00:00:00.25Z");
        assert_eq!(rfc3339_millis(1_767_571_200_000), "2026-01-05T00:00:00.000Z");
        assert_eq!(day_and_time(1_767_622_500_000), "Mon 05 Jan 14:15");
        assert!(rfc3339(u64::MAX).starts_with("9999"));
    }
}
