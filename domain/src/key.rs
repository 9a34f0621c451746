//! What a window or a series is about: (site, dimension, value).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

/// Longest host name, in bytes, that a key carries.
pub const MAX_NAME_BYTES: usize = 250;

/// Name of a site: 1 to 63 characters of `a-z A-Z 0-9 . _ -`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteName(Arc<str>);

impl SiteName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that can't be a site's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("site name {0:?} must be 1 to 63 characters of a-z, A-Z, 0-9, '.', '_' or '-'")]
pub struct InvalidSiteName(String);

impl FromStr for SiteName {
    type Err = InvalidSiteName;

    fn from_str(text: &str) -> Result<Self, InvalidSiteName> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=63).contains(&text.len()) && text.chars().all(fits) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSiteName(text.chars().take(80).collect()))
        }
    }
}

/// What windows are kept by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// One internal host.
    Host,
    /// A whole site: every record once.
    Site,
    /// Country of the peer.
    Country,
    /// Autonomous system of the peer.
    Asn,
    /// Service port.
    Port,
}

impl Dimension {
    /// All of them, in the order of their wire numbers (1…).
    pub const ALL: [Self; 5] = [Self::Host, Self::Site, Self::Country, Self::Asn, Self::Port];

    /// Lower-case name, as in documents and configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Site => "site",
            Self::Country => "country",
            Self::Asn => "asn",
            Self::Port => "port",
        }
    }
}

/// Dimension and value in one: what within a site a window is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The site itself.
    Site,
    /// A host known by its address.
    Address(IpAddr),
    /// A host known by its name.
    Name(Box<str>),
    /// Reserved host: records with no internal end.
    Transit,
    /// Reserved host: records of hosts past the key limit.
    Overflow,
    /// ISO 3166-1 alpha-2 code.
    Country([u8; 2]),
    /// Autonomous system number.
    Asn(u32),
    /// Service port.
    Port(u16),
    /// The rest of a bounded dimension.
    Other(Dimension),
}

/// Bytes that are no encoded [`Subject`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubject {
    /// No bytes at all.
    #[error("key is empty")]
    Empty,
    /// First byte is no known kind.
    #[error("key kind {0} is unknown (expected 1 to 9)")]
    UnknownKind(u8),
    /// The kind is known, what follows does not fit it.
    #[error("key of kind {kind} has {length} bytes of value, which is not what that kind has")]
    WrongLength {
        /// First byte.
        kind: u8,
        /// Bytes after it.
        length: usize,
    },
    /// A name that is not UTF-8.
    #[error("host name in key is not UTF-8")]
    NotText,
}

impl Subject {
    /// The dimension it belongs to.
    #[must_use]
    pub fn dimension(&self) -> Dimension {
        match self {
            Self::Site => Dimension::Site,
            Self::Address(_) | Self::Name(_) | Self::Transit | Self::Overflow => Dimension::Host,
            Self::Country(_) => Dimension::Country,
            Self::Asn(_) => Dimension::Asn,
            Self::Port(_) => Dimension::Port,
            Self::Other(dimension) => *dimension,
        }
    }

    /// Appends the wire and store form: one byte of kind, then the value in network byte order. The form is frozen:
    /// shards are computed from it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Site => out.push(1),
            Self::Address(IpAddr::V4(v4)) => {
                out.push(2);
                out.extend_from_slice(&v4.octets());
            }
            Self::Address(IpAddr::V6(v6)) => {
                out.push(2);
                out.extend_from_slice(&v6.octets());
            }
            Self::Name(name) => {
                out.push(3);
                out.extend_from_slice(name.as_bytes());
            }
            Self::Transit => out.push(4),
            Self::Overflow => out.push(5),
            Self::Country(code) => {
                out.push(6);
                out.extend_from_slice(code);
            }
            Self::Asn(number) => {
                out.push(7);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Port(port) => {
                out.push(8);
                out.extend_from_slice(&port.to_be_bytes());
            }
            Self::Other(dimension) => {
                out.push(9);
                out.push(*dimension as u8 + 1);
            }
        }
    }

    /// Reads what [`Subject::encode`] wrote.
    ///
    /// # Errors
    /// If `bytes` is not exactly one encoded subject.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidSubject> {
        let (&kind, value) = bytes.split_first().ok_or(InvalidSubject::Empty)?;
        let wrong = InvalidSubject::WrongLength { kind, length: value.len() };
        match (kind, value) {
            (1, []) => Ok(Self::Site),
            (2, &[a, b, c, d]) => Ok(Self::Address(Ipv4Addr::new(a, b, c, d).into())),
            (2, long) => {
                let octets: [u8; 16] = long.try_into().map_err(|_| wrong)?;
                Ok(Self::Address(Ipv6Addr::from(octets).into()))
            }
            (3, name) if (1..=MAX_NAME_BYTES).contains(&name.len()) => {
                let text = std::str::from_utf8(name).map_err(|_| InvalidSubject::NotText)?;
                Ok(Self::Name(text.into()))
            }
            (4, []) => Ok(Self::Transit),
            (5, []) => Ok(Self::Overflow),
            (6, &[a, b]) => Ok(Self::Country([a, b])),
            (7, &[a, b, c, d]) => Ok(Self::Asn(u32::from_be_bytes([a, b, c, d]))),
            (8, &[a, b]) => Ok(Self::Port(u16::from_be_bytes([a, b]))),
            (9, &[number]) => {
                let index = usize::from(number).wrapping_sub(1);
                Dimension::ALL.get(index).map(|d| Self::Other(*d)).ok_or(wrong)
            }
            (1..=9, _) => Err(wrong),
            _ => Err(InvalidSubject::UnknownKind(kind)),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site => f.write_str("(site)"),
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::Transit => f.write_str("(transit)"),
            Self::Overflow => f.write_str("(overflow)"),
            Self::Country([a, b]) => write!(f, "{}{}", char::from(*a), char::from(*b)),
            Self::Asn(number) => write!(f, "AS{number}"),
            Self::Port(port) => port.fmt(f),
            Self::Other(_) => f.write_str("(other)"),
        }
    }
}

/// What a window or series is about, across all sites.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The site.
    pub site: SiteName,
    /// What within it.
    pub subject: Subject,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subjects() -> impl Strategy<Value = Subject> {
        prop_oneof![
            Just(Subject::Site),
            Just(Subject::Transit),
            Just(Subject::Overflow),
            any::<IpAddr>().prop_map(Subject::Address),
            "[a-z]{1,40}".prop_map(|name| Subject::Name(name.into())),
            any::<[u8; 2]>().prop_map(Subject::Country),
            any::<u32>().prop_map(Subject::Asn),
            any::<u16>().prop_map(Subject::Port),
            (0..5usize).prop_map(|i| Subject::Other(Dimension::ALL[i])),
        ]
    }

    proptest! {
        #[test]
        fn a_subject_survives_its_encoding(subject in subjects()) {
            let mut bytes = Vec::new();
            subject.encode(&mut bytes);
            prop_assert_eq!(Subject::decode(&bytes).unwrap(), subject);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(subject) = Subject::decode(&bytes) {
                let mut again = Vec::new();
                subject.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn site_names_are_checked() {
        assert!("berlin-1".parse::<SiteName>().is_ok());
        assert!("".parse::<SiteName>().is_err());
        assert!("a b".parse::<SiteName>().unwrap_err().to_string().contains("\"a b\""));
    }
}
