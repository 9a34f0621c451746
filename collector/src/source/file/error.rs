//! Why a file can't be read.

use std::io;

use super::MAX_RAW;
use crate::{packet::capture::CaptureError, recognise::Unrecognised};

/// Why a file can't be read (any further).
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be opened or read.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// A folder without files in it.
    #[error("{path}: a folder that holds no files; folders within it are not looked into")]
    NoFiles {
        /// The folder.
        path: String,
    },
    /// Its content is nothing we know.
    #[error("{path}: {error}")]
    Unrecognised {
        /// The file.
        path: String,
        /// What was found.
        error: Unrecognised,
    },
    /// Its content is known, but not what was asked for.
    #[error("{path}: holds {found}, but --format says {expected}")]
    Unexpected {
        /// The file.
        path: String,
        /// What was found.
        found: &'static str,
        /// What was asked for.
        expected: &'static str,
    },
    /// More raw datagrams than one file of them may hold.
    #[error("{path}: more than {max} MiB of raw datagrams; split it, or use a capture", max = MAX_RAW >> 20)]
    TooLarge {
        /// The file.
        path: String,
    },
    /// A capture that breaks off.
    #[error("{path}: {error}")]
    Capture {
        /// The file.
        path: String,
        /// Where and how.
        error: CaptureError,
    },
}

impl FileError {
    /// True if it could not be read, whatever it holds: the system said no, or a compressed stream broke off.
    #[must_use]
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Capture { error: CaptureError::Io { .. }, .. })
    }
}
