//! Values that a configuration writes as text: durations, sizes, addresses. Each says in its error what was expected.

use std::{fmt, marker::PhantomData, net::SocketAddr, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use spikewatch_domain::span::Span;

/// A value that is written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text<T>(pub(crate) T);

/// As [`Text`], where empty text is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OrEmpty<T>(pub(crate) Option<T>);

struct Visitor<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> de::Visitor<'_> for Visitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor(PhantomData)).map(Self)
    }
}

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for OrEmpty<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            Ok(Self(None))
        } else {
            text.parse().map(|value| Self(Some(value))).map_err(de::Error::custom)
        }
    }
}

impl<T: fmt::Display> Serialize for OrEmpty<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_str(""),
        }
    }
}

/// A duration, as `500ms`, `10s`, `15m`, `1h30m` or `35d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Period(pub(crate) Duration);

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault =
            || format!("{text:?} is no duration: expected a number and a unit, like \"10s\", \"15m\" or \"1h30m\"");
        let mut millis = 0u64;
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(fault());
        }
        while !rest.is_empty() {
            let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?);
            let (unit, next) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
            let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(fault)?;
            let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit)).ok_or_else(fault)?;
            millis = millis.checked_add(part).ok_or_else(fault)?;
            rest = next;
        }
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let whole = UNITS.iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
        let (name, unit) = whole.unwrap_or(&("s", 1_000));
        write!(f, "{}{name}", millis / unit)
    }
}

/// The length of a slice or bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) Span);

impl FromStr for Slot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let millis = text.parse::<Period>()?.0.as_millis();
        let seconds = u64::try_from(millis / 1_000).unwrap_or(u64::MAX);
        match Span::from_seconds(seconds) {
            Ok(span) if millis.is_multiple_of(1_000) => Ok(Self(span)),
            _ => Err(format!("{text:?} is no whole number of seconds from 1s to 1d")),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Period(Duration::from_millis(self.0.millis())).fmt(f)
    }
}

/// A number of bytes, as `512MiB`, `1GiB` or `64kB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub u64);

const BYTES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("", 1),
];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is no size: expected bytes, like \"512MiB\", \"1GB\" or 65536");
        let text = text.trim();
        let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let unit = BYTES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim())).ok_or_else(fault)?.1;
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).map(Self).ok_or_else(fault)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = BYTES.iter().find(|(_, unit)| self.0 > 0 && self.0.is_multiple_of(*unit));
        let (name, unit) = whole.unwrap_or(&("", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) SocketAddr);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault =
            |_| format!("{text:?} is no address to listen on: expected IP:PORT, like 127.0.0.1:7433 or [::]:7433");
        text.parse().map(Self).map_err(fault)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where another process serves gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(String);

impl Endpoint {
    /// The one at this address of ours; an address that stands for all is reached by loopback.
    #[must_use]
    pub(crate) fn of(address: SocketAddr) -> Self {
        let mut reached = address;
        if reached.ip().is_unspecified() {
            reached.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        Self(format!("http://{reached}"))
    }

    /// The one of a machine by name.
    #[must_use]
    pub(crate) fn named(host: &str, port: u16) -> Self {
        Self(format!("http://{host}:{port}"))
    }

    /// As a URL.
    #[must_use]
    pub(crate) fn url(&self) -> &str {
        &self.0
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is no endpoint: expected http://HOST:PORT, like http://127.0.0.1:7433");
        let authority = text.strip_prefix("http://").ok_or_else(fault)?.trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':').ok_or_else(fault)?;
        let plain = !host.is_empty() && !host.contains(['/', '@', ' ']);
        let port = port.parse::<u16>().is_ok_and(|port| port > 0);
        if plain && port { Ok(Self(format!("http://{authority}"))) } else { Err(fault()) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFilter(String);

impl LogFilter {
    /// Level `info` for everything.
    #[must_use]
    pub(crate) fn info() -> Self {
        Self("info".into())
    }

    /// As `tracing-subscriber` writes it.
    #[must_use]
    pub(crate) fn directives(&self) -> &str {
        &self.0
    }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A word that is no level would be taken for the name of a module, and nothing would be logged.
        let known = |part: &str| {
            let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim();
            !level.is_empty() && level.parse::<tracing_subscriber::filter::LevelFilter>().is_ok()
        };
        let valid = tracing_subscriber::EnvFilter::try_new(text).is_ok() && text.split(',').all(known);
        if valid {
            return Ok(Self(text.into()));
        }
        Err(format!("{text:?} is no log filter: expected off, error, warn, info, debug or trace, or module=level"))
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
