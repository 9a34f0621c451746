//! What can go wrong with a spool. Each says where.

use std::{io, path::PathBuf};

/// Why the spool can't be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("can't {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the spool is in use by another process: it holds the lock on {}", .0.display())]
    Locked(PathBuf),
    /// The spool belongs to another collector or another shape of cluster. Nothing was changed.
    #[error("{path} was written for {field} {found}, this collector has {expected}: give it a spool directory of its own, \
        or let the old configuration drain this one first", path = path.display())]
    Mismatch {
        /// A segment that says so.
        path: PathBuf,
        /// What differs.
        field: &'static str,
        /// The spool's.
        found: String,
        /// The configuration's.
        expected: String,
    },
    /// A later version wrote it. Nothing was changed.
    #[error("{path} has format {found}, this version reads up to {known}: run the version that wrote it",
        path = path.display())]
    Format {
        /// A segment that says so.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// What is known here.
        known: u32,
    },
    /// What was read is not what was written.
    #[error("{path} is damaged at byte {offset}: {why}", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Start of the frame.
        offset: u64,
        /// What doesn't fit.
        why: &'static str,
    },
    /// A record that contradicts those before it: a fault of the caller.
    #[error("the record doesn't fit the spool: {0}")]
    Refused(&'static str),
    /// More waits for a sync than may be held in memory.
    #[error("{waiting} bytes wait to be synced, {limit} may")]
    Full {
        /// Bytes that wait.
        waiting: usize,
        /// Most that may.
        limit: usize,
    },
    /// A number that no slice has, or has any more.
    #[error("slice {0} is not in the spool")]
    Unknown(u64),
}

impl Error {
    /// True if room on the disk would help.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}
