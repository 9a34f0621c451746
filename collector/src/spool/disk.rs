//! The file system as a [`FileLayer`].

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::file_layer::{FileLayer, LayerFile};

/// A directory of the file system.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    lock: Option<File>,
}

impl Disk {
    /// The directory, which is made if it does not exist.
    ///
    /// # Errors
    /// It can't be made.
    pub fn new(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        fs::create_dir_all(&directory)?;
        Ok(Self::existing(directory))
    }

    /// The directory, which is left alone if it does not exist: for reading.
    #[must_use]
    pub fn existing(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), lock: None }
    }
}

impl FileLayer for Disk {
    type File = DiskFile;

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn lock(&mut self, name: &str) -> io::Result<()> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.path(name))?;
        match file.try_lock() {
            Ok(()) => {
                self.lock = Some(file);
                Ok(())
            }
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn create(&self, name: &str) -> io::Result<DiskFile> {
        OpenOptions::new().create_new(true).append(true).read(true).open(self.path(name)).map(DiskFile)
    }

    fn open(&self, name: &str) -> io::Result<DiskFile> {
        File::open(self.path(name)).map(DiskFile)
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let metadata = entry.metadata()?;
            // Names that are no text, and directories, are none of ours.
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                files.push((name, metadata.len()));
            }
        }
        Ok(files)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_directory(&self.directory)
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// A file of a [`Disk`].
#[derive(Debug)]
pub struct DiskFile(File);

impl LayerFile for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(into, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        // The length is part of what it makes durable; times are not.
        self.0.sync_data()
    }
}
