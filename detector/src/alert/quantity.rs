//! Numbers and times as people read them.

use std::time::Duration;

use spikewatch_domain::{record::EventMillis, window::Measure};

/// A time as RFC 3339 in UTC, with milliseconds only where there are some.
pub(super) fn time(ms: EventMillis) -> String {
    let timestamp = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    timestamp.map_or_else(|| format!("{ms} ms"), |timestamp| timestamp.to_string())
}

/// A time span in its two largest units: "2h 15m".
pub(super) fn period(period: Duration) -> String {
    let seconds = period.as_secs();
    let units = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let first = units.iter().position(|(number, _)| *number > 0).unwrap_or(3);
    let told = units.iter().skip(first).take(2).filter(|(number, _)| *number > 0);
    let told: Vec<String> = told.map(|(number, unit)| format!("{number}{unit}")).collect();
    if told.is_empty() { "0s".to_owned() } else { told.join(" ") }
}

/// An amount of a measure with its unit: "5.2 GB", "1,234 connections".
pub(super) fn amount(measure: Measure, value: f64) -> String {
    let unit = match measure {
        Measure::BytesOut | Measure::BytesIn => return bytes(value),
        Measure::Events => ("connection", "connections"),
        Measure::PacketsOut | Measure::PacketsIn => ("packet", "packets"),
        Measure::DistinctPeers => ("peer", "peers"),
        Measure::DistinctPeerPorts => ("port", "ports"),
        Measure::Denied => ("refused connection", "refused connections"),
    };
    let number = count(value);
    let unit = if number == "1" { unit.0 } else { unit.1 };
    format!("{number} {unit}")
}

/// Bytes in powers of 1000.
pub(super) fn bytes(value: f64) -> String {
    let mut scaled = value.max(0.0);
    for unit in ["B", "kB", "MB", "GB", "TB", "PB"] {
        if scaled < 999.5 {
            return if unit == "B" || scaled >= 99.95 {
                format!("{scaled:.0} {unit}")
            } else {
                format!("{scaled:.1} {unit}")
            };
        }
        scaled /= 1000.0;
    }
    format!("{scaled:.1} EB")
}

/// A count with thousands separators; small fractions keep one digit.
pub(super) fn count(value: f64) -> String {
    let value = value.max(0.0);
    if value < 9.95 && (value - value.round()).abs() > 0.05 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Four significant digits, so that documents say what is known and not what a float holds.
pub(super) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    format!("{value:.5e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(amount(Measure::BytesOut, 5_234_000_000.0), "5.2 GB");
        assert_eq!(amount(Measure::BytesIn, 999.0), "999 B");
        assert_eq!(amount(Measure::BytesIn, 999_600.0), "1.0 MB");
        assert_eq!(amount(Measure::Events, 1.0), "1 connection");
        assert_eq!(amount(Measure::Events, 1_234_567.0), "1,234,567 connections");
        assert_eq!(amount(Measure::DistinctPeers, 2.4), "2.4 peers");
        assert_eq!(period(Duration::from_secs(8100)), "2h 15m");
        assert_eq!(period(Duration::from_secs(86_400)), "1d");
        assert_eq!(period(Duration::ZERO), "0s");
        assert_eq!(rounded(1.234_567_89), 1.234_57);
        assert_eq!(time(1_767_578_400_000), "2026-01-05T02:00:00Z");
    }
}
