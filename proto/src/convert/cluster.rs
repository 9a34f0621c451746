//! What every message of the cluster leans on: its shape, epochs, and who a collector is.

use std::{fmt, str::FromStr as _};

use spikewatch_domain::{key::SiteName, record::EventMillis, shard::MAX_SHARDS, span::Span};

use super::Invalid;
use crate::{HASH_ID, PROTOCOL_VERSION, v1};

/// What every party must agree on before a single key is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Number of shards.
    pub shards: u32,
    /// The base bucket.
    pub bucket: Span,
}

impl Shape {
    /// Reads a shape.
    ///
    /// # Errors
    /// Missing, out of range, or of another hash or protocol version than this program's.
    pub fn read(message: Option<&v1::ClusterShape>) -> Result<Self, Invalid> {
        let shape = message.ok_or_else(|| Invalid::new("ClusterShape", "is missing"))?;
        if shape.protocol_version != PROTOCOL_VERSION {
            let problem = format!("is {}, this program speaks {PROTOCOL_VERSION}", shape.protocol_version);
            return Err(Invalid::new("ClusterShape.protocol_version", problem));
        }
        if shape.hash_id != HASH_ID {
            let problem = format!("is {}, this program hashes by {HASH_ID}", shape.hash_id);
            return Err(Invalid::new("ClusterShape.hash_id", problem));
        }
        if !(1..=MAX_SHARDS).contains(&shape.shards) {
            let problem = format!("is {}, expected 1 to {MAX_SHARDS}", shape.shards);
            return Err(Invalid::new("ClusterShape.shards", problem));
        }
        let bucket = Span::from_seconds(u64::from(shape.bucket_seconds))
            .map_err(|error| Invalid::new("ClusterShape.bucket_seconds", error.to_string()))?;
        Ok(Self { shards: shape.shards, bucket })
    }

    /// Checks that a number is one of the shards.
    ///
    /// # Errors
    /// It isn't.
    pub fn shard(&self, field: &'static str, shard: u32) -> Result<u32, Invalid> {
        let problem = || Invalid::new(field, format!("is {shard}, the cluster has {} shards", self.shards));
        (shard < self.shards).then_some(shard).ok_or_else(problem)
    }

    /// Checks that a time is the start of a bucket.
    ///
    /// # Errors
    /// It isn't, or the bucket ends after the end of time.
    pub fn bucket_start(&self, field: &'static str, start: EventMillis) -> Result<EventMillis, Invalid> {
        let fits = self.bucket.floor(start) == start && start.checked_add(self.bucket.millis()).is_some();
        let problem = || Invalid::new(field, format!("{start} is no start of a bucket of {}", self.bucket));
        fits.then_some(start).ok_or_else(problem)
    }
}

impl From<Shape> for v1::ClusterShape {
    fn from(shape: Shape) -> Self {
        Self {
            shards: shape.shards,
            bucket_seconds: shape.bucket.seconds(),
            hash_id: HASH_ID,
            protocol_version: PROTOCOL_VERSION,
        }
    }
}

/// The fencing number under which a shard's owner may commit: the store's lineage, and a number that only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// Made with the store; a restored store has another.
    pub lineage: [u8; 16],
    /// Raised at each open; at least 1.
    pub number: u64,
}

impl Epoch {
    /// Reads an epoch.
    ///
    /// # Errors
    /// Missing, number 0, or a lineage that has not 16 bytes.
    pub fn read(field: &'static str, message: Option<&v1::Epoch>) -> Result<Self, Invalid> {
        let epoch = message.ok_or_else(|| Invalid::new(field, "is missing"))?;
        if epoch.number == 0 {
            return Err(Invalid::new(field, "has number 0"));
        }
        Ok(Self { lineage: bytes16(field, &epoch.lineage)?, number: epoch.number })
    }
}

impl From<Epoch> for v1::Epoch {
    fn from(epoch: Epoch) -> Self {
        Self { lineage: epoch.lineage.to_vec(), number: epoch.number }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.lineage;
        write!(f, "{}@{:08x}", self.number, u32::from_be_bytes([a, b, c, d]))
    }
}

/// One life of a collector's spool: what sequence numbers belong to, and what pairs are kept by. Ordered as windows are
/// folded: by site, collector, id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// The collector's site.
    pub site: SiteName,
    /// The collector's name, unique in its site; of the same form as a site's.
    pub collector: SiteName,
    /// Made with the spool.
    pub id: [u8; 16],
}

impl Incarnation {
    /// Reads its three parts.
    ///
    /// # Errors
    /// A part does not have its form.
    pub fn read(field: &'static str, site: &str, collector: &str, id: &[u8]) -> Result<Self, Invalid> {
        let name = |text: &str| SiteName::from_str(text).map_err(|error| Invalid::new(field, error.to_string()));
        Ok(Self { site: name(site)?, collector: name(collector)?, id: bytes16(field, id)? })
    }

    /// True if both are lives of the same collector.
    #[must_use]
    pub fn is_same_collector(&self, other: &Self) -> bool {
        self.site == other.site && self.collector == other.collector
    }
}

/// "site/collector".
impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.site, self.collector)
    }
}

/// Checks the length of a list or text.
///
/// # Errors
/// Longer than `limit`.
pub(super) fn at_most(field: &'static str, length: usize, limit: usize) -> Result<(), Invalid> {
    let problem = || Invalid::new(field, format!("holds {length}, at most {limit} are allowed"));
    (length <= limit).then_some(()).ok_or_else(problem)
}

pub(super) fn bytes16(field: &'static str, bytes: &[u8]) -> Result<[u8; 16], Invalid> {
    bytes.try_into().map_err(|_| Invalid::new(field, format!("id has {} bytes, expected 16", bytes.len())))
}
