//! Which files are meant.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::FileError;

/// The files below `paths`, in order; a folder stands for its files, sorted by name. A folder that can't be listed, or
/// has no files, is an error in its place.
pub fn expand(paths: &[PathBuf]) -> Vec<Result<PathBuf, FileError>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(Ok(path.clone()));
            continue;
        }
        match inside(path) {
            Ok(inside) if inside.is_empty() => files.push(Err(FileError::NoFiles { path: path.display().to_string() })),
            Ok(inside) => files.extend(inside.into_iter().map(Ok)),
            Err(error) => files.push(Err(FileError::Io { path: path.display().to_string(), error })),
        }
    }
    files
}

fn inside(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    Ok(files)
}
