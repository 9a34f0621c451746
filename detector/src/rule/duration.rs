//! Times as rules write them.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer};

/// "90s", "15m", "2h" or "1d"; with a leading "now-" as rules elsewhere write their look-back.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("{text:?} is no duration; expected a number and s, m, h or d, as \"15m\""))
    })
}

/// As [`duration`] reads it.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix("now-").unwrap_or(text);
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u32>().ok().map(|number| Duration::from_secs(u64::from(number) * unit))
}

/// As [`duration`], or nothing.
pub(crate) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// In ms.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
