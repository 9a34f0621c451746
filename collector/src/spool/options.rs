//! What a spool may take, and whose it is.

use std::path::PathBuf;

use super::{head::Owner, memory::Memory};

/// Where a spool is.
#[derive(Debug, Clone)]
pub enum SpoolPlace {
    /// In a directory, which is made if need be. One collector's only.
    Directory(PathBuf),
    /// On a simulated disk.
    Memory(Memory),
}

/// Most slices, unless [`Options::max_slices`] says otherwise: 45 hours of slices of 10 s.
pub const MAX_SLICES: usize = 16_384;

/// See the fields. Defaults are for a site of some ten thousand hosts.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose spool it is; another's is refused.
    pub owner: Owner,
    /// A segment that has this many bytes is followed by a new one.
    pub segment_bytes: u64,
    /// Bytes on the disk beyond which slices are merged, then dropped. At least four segments.
    pub budget_bytes: u64,
    /// Slices beyond which the same happens: each takes some 40 bytes of memory a shard.
    pub max_slices: usize,
    /// Most bytes that may wait for a sync; one record always may.
    pub max_waiting_bytes: usize,
    /// Longest payload, before packing.
    pub max_payload_bytes: usize,
    /// Slices are merged while their payloads together are below this.
    pub merge_bytes: u64,
    /// How long counted segments are kept, ms: a restored store can be fed with them again.
    pub keep_trimmed_ms: u64,
    /// Payloads are packed with zstd where that makes them smaller.
    pub pack: bool,
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new(owner: Owner) -> Self {
        Self {
            owner,
            segment_bytes: 64 << 20,
            budget_bytes: 10 << 30,
            max_slices: MAX_SLICES,
            max_waiting_bytes: 256 << 20,
            max_payload_bytes: 512 << 20,
            merge_bytes: 32 << 20,
            keep_trimmed_ms: 3_600_000,
            pack: true,
        }
    }

    /// The budget in effect: room for the segment that is written to, and for what is merged.
    #[must_use]
    pub(super) fn budget(&self) -> u64 {
        self.budget_bytes.max(self.segment_bytes.saturating_mul(4))
    }
}
