//! Follows files as they are written, rotated and replaced. A file is what has one device and inode: renamed, it is read
//! to its end, and the new one under its name from the start. One that is copied and then cut (`copytruncate`) is read on
//! in its copy, if the pattern covers that. What was not read when a file was deleted, or compressed, is gone.

pub(crate) mod position;
mod tail;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, Metadata},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use spikewatch_actors::clock::Clock;
use tokio::{runtime::Handle, sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{
    position::{FileId, Position},
    tail::{Look, Tail},
};
use super::{file::Expected, followed::Followed};
use crate::live::Input;

/// How often files are looked at, and how often for new ones.
const LOOK: Duration = Duration::from_millis(250);
const SCAN: Duration = Duration::from_secs(1);
/// A file without a name that does not grow for so long is not written to any more.
const FORSAKEN: Duration = Duration::from_secs(60);
/// Most files that are followed; beyond, new ones are left, with a complaint.
const MAX_FILES: usize = 4_096;

/// Files of one format.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    /// A path in which `*`, `?` and `[…]` stand for more than one.
    pub(crate) glob: String,
    pub(crate) expected: Expected,
}

/// Lines of one file.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Which file.
    pub(crate) number: u64,
    /// What it is taken to be.
    pub(crate) expected: Expected,
    /// Whole lines.
    pub(crate) lines: Vec<u8>,
    /// After them.
    pub(crate) position: Position,
    /// More is there.
    pub(crate) more: bool,
    /// It is a copy of this file, and goes on where that one was.
    pub(crate) copy_of: Option<u64>,
    /// Of a line before them, all but its start was left out.
    pub(crate) too_long: bool,
}

/// See the module. It blocks.
pub(crate) struct Follower {
    patterns: Vec<Pattern>,
    tails: BTreeMap<FileId, (Tail, Expected)>,
    /// Copies of files that are followed: not read unless the file is cut.
    copies: BTreeMap<FileId, (PathBuf, FileId)>,
    next: u64,
    scanned: Option<Instant>,
    /// Paths that were complained of.
    complained: BTreeSet<PathBuf>,
    inputs: mpsc::Sender<Input>,
    clock: Clock,
    token: CancellationToken,
    runtime: Handle,
}

impl Follower {
    /// One that goes on from what the check-point has of files.
    pub(crate) fn new(
        patterns: Vec<Pattern>,
        followed: &Followed,
        inputs: mpsc::Sender<Input>,
        clock: Clock,
        token: CancellationToken,
    ) -> Self {
        let tails = followed
            .positions()
            .map(|(number, expected, position)| (position.id, (Tail::new(number, position.clone(), None), expected)));
        let tails: BTreeMap<_, _> = tails.collect();
        let next = tails.values().map(|(tail, _)| tail.number + 1).max().unwrap_or(0);
        Self {
            patterns,
            tails,
            copies: BTreeMap::new(),
            next,
            scanned: None,
            complained: BTreeSet::new(),
            inputs,
            clock,
            token,
            runtime: Handle::current(),
        }
    }

    /// Works until it is told to end, or nobody listens.
    pub(crate) fn run(mut self) -> Result<(), std::convert::Infallible> {
        while !self.token.is_cancelled() {
            if self.scanned.is_none_or(|before| before.elapsed() >= SCAN) {
                self.scan();
            }
            let at_ms = self.clock.now_ms();
            let Some(more) = self.round() else { break };
            if more {
                continue;
            }
            if !self.send(Input::CaughtUp { at_ms }) {
                break;
            }
            let token = self.token.clone();
            self.runtime.block_on(async { tokio::time::timeout(LOOK, token.cancelled()).await }).ok();
        }
        Ok(())
    }

    /// Looks at each file once. True if there is more to read; nothing if nobody listens.
    fn round(&mut self) -> Option<bool> {
        let mut more = false;
        for id in self.tails.keys().copied().collect::<Vec<_>>() {
            let Some((tail, expected)) = self.tails.get_mut(&id) else { continue };
            let (expected, offset) = (*expected, tail.position.offset);
            match tail.look() {
                Ok(Look::Lines { lines, more: goes_on, too_long }) => {
                    more |= goes_on;
                    let chunk = Chunk {
                        number: tail.number,
                        expected,
                        lines,
                        position: tail.position.clone(),
                        more: goes_on,
                        copy_of: None,
                        too_long,
                    };
                    if chunk.position.offset > offset && !self.send(Input::Chunk(chunk)) {
                        return None;
                    }
                }
                Ok(Look::Rewritten) => {
                    more = true;
                    if !self.rewritten(id) {
                        return None;
                    }
                }
                Err(error) => {
                    let path = tail.position.path.clone();
                    self.complain(&path, &error);
                }
            }
            if self.is_done(id) && !self.finish(id) {
                return None;
            }
        }
        Some(more)
    }

    /// A file begins anew. What was not read of it may be in its copy, which then goes on in its place. False if nobody
    /// listens.
    fn rewritten(&mut self, id: FileId) -> bool {
        // The copy may have come since the last scan; after this one the file is no longer known by its start.
        self.scan();
        let copy = self.copies.iter().find(|(_, (_, of))| *of == id).map(|(copy, (path, _))| (*copy, path.clone()));
        let Some((tail, expected)) = self.tails.get_mut(&id) else { return true };
        let mut before = tail.position.clone();
        tail.rewind();
        let (expected, of) = (*expected, tail.number);
        tracing::info!(path = %before.path.display(), offset = before.offset, in_copy = copy.is_some(), "a file begins anew");
        if let Some((copy, path)) = copy {
            self.copies.remove(&copy);
            (before.id, before.path) = (copy, path.clone());
            self.add(before, expected, &path);
            if let Some((tail, _)) = self.tails.get(&copy) {
                let (number, position, lines) = (tail.number, tail.position.clone(), Vec::new());
                let copy_of = Some(of);
                // Whether or not it has anything new: from now on it is known how far it was read.
                let chunk = Chunk { number, expected, lines, position, more: false, copy_of, too_long: false };
                return self.send(Input::Chunk(chunk));
            }
        }
        true
    }

    /// True if nobody writes to it any more, and all is read.
    fn is_done(&self, id: FileId) -> bool {
        let Some((tail, _)) = self.tails.get(&id) else { return false };
        tail.nameless.is_some_and(|since| since.elapsed() > FORSAKEN) && tail.grown.elapsed() > FORSAKEN
    }

    /// Takes leave of a file. False if nobody listens.
    fn finish(&mut self, id: FileId) -> bool {
        let Some((mut tail, expected)) = self.tails.remove(&id) else { return true };
        let lines = tail.last_line().unwrap_or_default();
        let (number, position) = (tail.number, tail.position);
        let last = lines.is_empty()
            || self.send(Input::Chunk(Chunk {
                number,
                expected,
                lines,
                position,
                more: false,
                copy_of: None,
                too_long: false,
            }));
        last && self.send(Input::Gone { number })
    }

    /// Looks for new files, and for new names of known ones.
    fn scan(&mut self) {
        self.scanned = Some(Instant::now());
        let mut seen = BTreeSet::new();
        for Pattern { glob, expected } in self.patterns.clone() {
            // Checked when the configuration was.
            let Ok(paths) = glob::glob(&glob) else { continue };
            for path in paths {
                let found = path.map_err(|error| (error.path().to_owned(), io::Error::from(error)));
                let found = found.and_then(|path| match std::fs::metadata(&path) {
                    Ok(metadata) => Ok((path, metadata)),
                    Err(error) => Err((path, error)),
                });
                match found {
                    Ok((path, metadata)) if metadata.is_file() => {
                        seen.insert(FileId::of(&metadata));
                        self.found(&metadata, path, expected);
                    }
                    Ok(_) => {}
                    // It is just being renamed.
                    Err((_, error)) if error.kind() == io::ErrorKind::NotFound => {}
                    Err((path, error)) => self.complain(&path, &error),
                }
            }
        }
        self.copies.retain(|copy, _| seen.contains(copy));
        for id in self.tails.keys().copied().filter(|id| !seen.contains(id)).collect::<Vec<_>>() {
            self.lost(id);
        }
    }

    /// A pattern leads to this file.
    fn found(&mut self, metadata: &Metadata, path: PathBuf, expected: Expected) {
        let id = FileId::of(metadata);
        if let Some((tail, _)) = self.tails.get_mut(&id) {
            tail.nameless = None;
            if !tail.rests(metadata) {
                match tail.open(&path) {
                    Ok(true) => self.complained.retain(|complained| *complained != path),
                    Ok(false) => {}
                    Err(error) => return self.complain(&path, &error),
                }
            }
            if let Some((tail, _)) = self.tails.get_mut(&id) {
                tail.position.path = path;
            }
            return;
        }
        if self.copies.contains_key(&id) {
            return;
        }
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => return self.complain(&path, &error),
        };
        let heads = self.tails.iter().filter(|(_, (tail, _))| tail.position.head.is_telling());
        let mut heads = heads.map(|(id, (tail, _))| (*id, tail.position.head));
        if let Some((of, _)) = heads.find(|(_, head)| head.begins(&file)) {
            self.copies.insert(id, (path, of));
        } else if is_compressed(&file) {
            self.complain(&path, &io::Error::other("it is compressed: only files that are written are followed"));
        } else {
            self.add(Position::start(id, path.clone()), expected, &path);
        }
    }

    fn add(&mut self, position: Position, expected: Expected, path: &Path) {
        if self.tails.len() >= MAX_FILES {
            return self.complain(path, &io::Error::other(format!("{MAX_FILES} files are followed already")));
        }
        let mut tail = Tail::new(self.next, position, None);
        match tail.open(path) {
            Ok(true) => {
                self.next += 1;
                tracing::info!(path = %path.display(), offset = tail.position.offset, "a file is followed");
                self.tails.insert(tail.position.id, (tail, expected));
            }
            // It has just been replaced: the next scan finds what is there.
            Ok(false) => {}
            Err(error) => self.complain(path, &error),
        }
    }

    /// No pattern leads to this file any more. Under another name in its folder it is read on.
    fn lost(&mut self, id: FileId) {
        let Some((tail, _)) = self.tails.get_mut(&id) else { return };
        if tail.nameless.is_some() && tail.is_open() {
            return;
        }
        tail.nameless.get_or_insert_with(Instant::now);
        if tail.is_open() {
            return;
        }
        let Position { path, offset, .. } = tail.position.clone();
        match elsewhere(id, &path) {
            Some((_, length)) if length == offset => {}
            Some((renamed, _)) if tail.open(&renamed).is_ok_and(|same| same) => {}
            _ => {
                let number = tail.number;
                self.tails.remove(&id);
                tracing::warn!(path = %path.display(), offset, "a file is gone; what it held behind this offset was not read");
                self.send(Input::Gone { number });
            }
        }
    }

    fn complain(&mut self, path: &Path, error: &io::Error) {
        if self.complained.len() < MAX_FILES && self.complained.insert(path.to_owned()) {
            tracing::warn!(path = %path.display(), %error, "a file can't be followed");
        }
    }

    fn send(&self, input: Input) -> bool {
        self.runtime.block_on(self.inputs.send(input)).is_ok()
    }
}

/// Where the file is now, in the folder where it was, and its length.
fn elsewhere(id: FileId, path: &Path) -> Option<(PathBuf, u64)> {
    let entries = std::fs::read_dir(path.parent()?).ok()?;
    entries.filter_map(Result::ok).find_map(|entry| {
        let metadata = entry.metadata().ok().filter(|metadata| FileId::of(metadata) == id)?;
        Some((entry.path(), metadata.len()))
    })
}

/// gzip, zstd, bzip2 or xz.
fn is_compressed(mut file: &File) -> bool {
    let mut magic = [0; 4];
    let read = file.read(&mut magic).unwrap_or(0);
    match magic.get(..read).unwrap_or_default() {
        [0x1F, 0x8B, ..] | [b'B', b'Z', b'h', ..] => true,
        start => start == [0x28, 0xB5, 0x2F, 0xFD] || start == [0xFD, b'7', b'z', b'X'],
    }
}

#[cfg(test)]
mod tests;
