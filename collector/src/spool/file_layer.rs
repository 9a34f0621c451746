//! What the spool asks of a directory of append-only files: enough for a file system, and little enough for one that a
//! test makes fail. Everything here may block.

use std::{fmt::Debug, io, path::PathBuf};

/// One directory, and what is done with the files in it.
pub trait FileLayer: Debug + Send {
    /// A file in it.
    type File: LayerFile;

    /// Where a file is, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// Takes the lock of that name, until the layer is dropped.
    ///
    /// # Errors
    /// `WouldBlock` if another holds it.
    fn lock(&mut self, name: &str) -> io::Result<()>;

    /// Makes a new, empty file. Its name is durable after [`FileLayer::sync_dir`].
    ///
    /// # Errors
    /// The file system's; one of that name exists.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// The file system's.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// All files with their lengths, in no order. An empty list if the directory does not exist.
    ///
    /// # Errors
    /// The file system's.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// Gives a file another name, over one that may have it.
    ///
    /// # Errors
    /// The file system's.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The file system's.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable: what was created, renamed and removed.
    ///
    /// # Errors
    /// The file system's.
    fn sync_dir(&self) -> io::Result<()>;
}

/// A file that only grows.
pub trait LayerFile: Debug + Send {
    /// Appends all of `bytes`. After an error any part of them may be in the file.
    ///
    /// # Errors
    /// The file system's.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Reads at `offset` into `into`; fewer bytes than asked for may come, none only at the end of the file.
    ///
    /// # Errors
    /// The file system's.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Makes what was appended durable. After an error nothing that was appended since the last success can be
    /// counted on, and asking again proves nothing: the kernel may have dropped the pages.
    ///
    /// # Errors
    /// The file system's.
    fn sync(&mut self) -> io::Result<()>;
}

/// Fills `into` from `offset`, however short the single reads are.
///
/// # Errors
/// The file system's; `UnexpectedEof` if the file ends before.
pub fn read_exact_at(file: &impl LayerFile, mut offset: u64, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        match file.read_at(offset, into) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                offset += read as u64;
                into = into.get_mut(read..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
