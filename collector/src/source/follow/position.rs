//! Which file it is, whatever it is called, and how far it was read.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::PathBuf,
};

use rapidhash::v3::rapidhash_v3;
use serde::{Deserialize, Serialize};

/// How much of a file's start is remembered, by its hash.
const HEAD: u64 = 1024;
/// Less than that tells no file from another: headers of logs have it in common.
const TELLING: u64 = 256;

/// A file, by device and inode: what a rename leaves as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// The start of a file: inodes are used again, and files are written anew in their place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Head {
    bytes: u64,
    hash: u64,
}

impl Head {
    /// That of a file of which `known` bytes don't change any more.
    fn of(file: &File, known: u64) -> io::Result<Self> {
        let mut start = vec![0; usize::try_from(known.min(HEAD)).unwrap_or(0)];
        file.read_exact_at(&mut start, 0)?;
        Ok(Self { bytes: start.len() as u64, hash: rapidhash_v3(&start) })
    }

    /// True if the file begins like that.
    pub(crate) fn begins(self, file: &File) -> bool {
        self.bytes == 0 || Self::of(file, self.bytes).is_ok_and(|found| found == self)
    }

    /// True if no other file begins like that by chance.
    pub(crate) fn is_telling(self) -> bool {
        self.bytes >= TELLING
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Position {
    pub(crate) id: FileId,
    /// Where it was last.
    pub(crate) path: PathBuf,
    /// Bytes of it that were read, up to the end of a line.
    pub(crate) offset: u64,
    pub(crate) head: Head,
}

impl Position {
    /// The beginning of a file.
    pub(crate) fn start(id: FileId, path: PathBuf) -> Self {
        Self { id, path, offset: 0, head: Head::default() }
    }

    /// Goes to `offset`.
    pub(crate) fn advance(&mut self, file: &File, offset: u64) -> io::Result<()> {
        if self.head.bytes < HEAD && offset > self.head.bytes {
            self.head = Head::of(file, offset)?;
        }
        self.offset = offset;
        Ok(())
    }
}
