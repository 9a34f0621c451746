//! Files that are read once: which were, and how far the others, so that nothing of them is counted again after a restart.
//! They are read from their beginnings, and what was handed on before is not handed on again.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use rapidhash::v3::rapidhash_v3;
use serde::{Deserialize, Serialize};
use spikewatch_domain::record::EventMillis;

/// Files that are remembered; each costs 24 bytes in every check-point while others are read.
const MOST_FILES: usize = 16_384;
/// How much of a file's start and end is looked at to know it again.
const ENDS: u64 = 4_096;

/// A file as it was when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub(crate) struct FileMark {
    /// Hash of its path.
    path: u64,
    bytes: u64,
    /// Hash of its start and end.
    ends: u64,
}

impl FileMark {
    /// That of a file; none of what can't be read again, like standard input or a pipe.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let mark = || -> io::Result<Option<Self>> {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Ok(None);
            }
            let bytes = metadata.len();
            let mut ends = vec![0; usize::try_from(bytes.min(ENDS)).unwrap_or(0)];
            file.read_exact_at(&mut ends, 0)?;
            let mut tail = vec![0; ends.len()];
            let start = bytes - tail.len() as u64;
            file.read_exact_at(&mut tail, start)?;
            ends.extend(tail);
            let path = std::path::absolute(path)?;
            let path = rapidhash_v3(path.as_os_str().as_encoded_bytes());
            Ok(Some(Self { path, bytes, ends: rapidhash_v3(&ends) }))
        };
        // Whoever reads it will say why it can't be.
        mark().ok().flatten()
    }
}

/// As it is saved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct SavedOnce {
    /// Read to their ends, oldest first.
    finished: Vec<FileMark>,
    /// Being read, all at once.
    reading: Vec<FileMark>,
    /// Up to which event time what they hold was handed on.
    handed_on: EventMillis,
}

/// What is read together, and what of it was handed on before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) paths: Vec<PathBuf>,
    marks: Vec<FileMark>,
    /// What lies before this event time was.
    pub(crate) handed_on: EventMillis,
}

impl Pass {
    /// One of files of which nothing is remembered.
    pub(crate) fn of(paths: Vec<PathBuf>) -> Self {
        Self { paths, ..Self::default() }
    }
}

impl SavedOnce {
    /// In which passes these files are read: first those that were being read, then new ones. Says what becomes of others.
    pub(crate) fn passes(&self, paths: Vec<PathBuf>) -> [Pass; 2] {
        let finished: BTreeSet<_> = self.finished.iter().collect();
        let known: BTreeSet<_> = self.finished.iter().chain(&self.reading).map(|mark| mark.path).collect();
        let mut passes = [Pass { handed_on: self.handed_on, ..Pass::default() }, Pass::default()];
        let [resumed, new] = &mut passes;
        let mut read_before = 0;
        for path in paths {
            match FileMark::of(&path) {
                Some(mark) if finished.contains(&mark) => read_before += 1,
                Some(mark) if self.reading.contains(&mark) => {
                    resumed.paths.push(path);
                    resumed.marks.push(mark);
                }
                mark => {
                    if mark.is_some_and(|mark| known.contains(&mark.path)) {
                        let path = path.display();
                        tracing::warn!(%path, "a file was changed since it was read: all of it is read, and counts again");
                    }
                    new.paths.push(path);
                    new.marks.extend(mark);
                }
            }
        }
        if read_before > 0 {
            tracing::info!(files = read_before, "files were read before, and are not read again");
        }
        if !resumed.paths.is_empty() {
            let (files, up_to_ms) = (resumed.paths.len(), self.handed_on);
            tracing::info!(files, up_to_ms, "files are read again; what was handed on of them is not again");
        }
        let lost = self.reading.len() - resumed.marks.len();
        if lost > 0 {
            tracing::warn!(files = lost, up_to_ms = self.handed_on, "files that were being read are gone or changed");
        }
        passes
    }

    /// The files of a pass are being read, up to this time.
    pub(crate) fn reach(&mut self, pass: &Pass, handed_on: EventMillis) {
        self.reading.clone_from(&pass.marks);
        self.handed_on = handed_on.max(pass.handed_on);
        if self.reading.len() > MOST_FILES {
            self.reading.truncate(MOST_FILES);
        }
    }

    /// The files of a pass are read.
    pub(crate) fn finish(&mut self, pass: &Pass) {
        self.finished.extend(&pass.marks);
        let many = self.finished.len().saturating_sub(MOST_FILES);
        self.finished.drain(..many);
        (self.reading, self.handed_on) = (Vec::new(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_again_and_changed_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let (one, two, three) = (file("1", b"one"), file("2", &[7; 10_000]), file("3", b""));
        let mut once = SavedOnce::default();
        let [resumed, new] = once.passes(vec![one.clone(), two.clone()]);
        assert_eq!((resumed.paths.len(), new.paths.len()), (0, 2));
        once.reach(&new, 5_000);

        let [resumed, new] = once.passes(vec![one.clone(), two.clone(), three.clone()]);
        assert_eq!((&resumed.paths, resumed.handed_on), (&vec![one.clone(), two.clone()], 5_000));
        assert_eq!((&new.paths, new.handed_on), (&vec![three.clone()], 0));
        once.reach(&resumed, 1_000);
        assert_eq!(once.handed_on, 5_000, "what was handed on stays so while it is read again");
        once.finish(&resumed);
        once.finish(&new);

        file("2", &[8; 10_000]);
        let [resumed, new] = once.passes(vec![one, two.clone(), three]);
        assert_eq!((resumed.paths.len(), new.paths), (0, vec![two]));
    }

    #[test]
    fn what_cannot_be_read_again_has_no_mark() {
        assert_eq!(FileMark::of(Path::new("-")), None);
        assert_eq!(FileMark::of(Path::new("/dev/null")), None);
    }
}
