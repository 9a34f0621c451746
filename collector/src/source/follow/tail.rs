//! One file that is followed: whole lines, as they are written.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::position::{FileId, Position};
use crate::source::lines::MAX_LINE;

/// Most that is read at once.
const CHUNK: usize = 256 << 10;
/// A file that does not grow for so long is closed, if it can be found again.
const IDLE: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug)]
pub(super) struct Tail {
    /// Names it in messages.
    pub(super) number: u64,
    pub(super) position: Position,
    file: Option<File>,
    /// When it was last written to, if it was read to its end, long ago.
    idle_since: Option<SystemTime>,
    /// What follows the position and is no whole line yet.
    rest: Vec<u8>,
    /// Within a line that is too long: it is left out up to its end.
    skipping: bool,
    pub(super) grown: Instant,
    /// Since when no pattern leads to it.
    pub(super) nameless: Option<Instant>,
}

/// What a look at a file gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Whole lines, which may be none, and whether there is more to read at once.
    Lines { lines: Vec<u8>, more: bool, too_long: bool },
    /// It is shorter than it was, or begins otherwise: what was read of it is gone.
    Rewritten,
}

impl Tail {
    pub(super) fn new(number: u64, position: Position, file: Option<File>) -> Self {
        let grown = Instant::now();
        Self { number, position, file, idle_since: None, rest: Vec::new(), skipping: false, grown, nameless: None }
    }

    /// True if it is open: then it can be read to its end even when it is deleted.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// True if there is nothing to read.
    pub(super) fn rests(&self, now: &Metadata) -> bool {
        self.is_open() || (self.idle_since.is_some() && self.idle_since == now.modified().ok())
    }

    /// Opens it where it is now, if it is still the same.
    pub(super) fn open(&mut self, path: &Path) -> io::Result<bool> {
        let file = File::open(path)?;
        let same = FileId::of(&file.metadata()?) == self.position.id;
        if same {
            (self.file, self.idle_since) = (Some(file), None);
        }
        Ok(same)
    }

    /// Reads on.
    pub(super) fn look(&mut self) -> io::Result<Look> {
        let nothing = Look::Lines { lines: Vec::new(), more: false, too_long: false };
        let Some(file) = &self.file else { return Ok(nothing) };
        let length = file.metadata()?.size();
        let from = self.position.offset + self.rest.len() as u64;
        // One may be cut and grow to the same length between two looks.
        if length < from || !self.position.head.begins(file) {
            return Ok(Look::Rewritten);
        }
        if length == from {
            if self.grown.elapsed() > IDLE && self.nameless.is_none() && self.rest.is_empty() {
                (self.idle_since, self.file) = (Some(file.metadata()?.modified()?), None);
            }
            return Ok(nothing);
        }
        self.grown = Instant::now();
        let mut chunk = vec![0; CHUNK.min(usize::try_from(length - from).unwrap_or(CHUNK))];
        let read = file.read_at(&mut chunk, from)?;
        chunk.truncate(read);
        let more = from + (read as u64) < length;
        self.rest.append(&mut chunk);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            let too_long = !self.skipping && self.rest.len() > MAX_LINE;
            if too_long || self.skipping {
                self.skipping = true;
                self.forget(self.rest.len())?;
            }
            return Ok(Look::Lines { lines: Vec::new(), more, too_long });
        };
        let mut lines: Vec<u8> = self.rest.get(..=end).unwrap_or_default().to_vec();
        self.forget(end + 1)?;
        if std::mem::take(&mut self.skipping) {
            let first = lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1);
            lines.drain(..first);
        }
        Ok(Look::Lines { lines, more, too_long: false })
    }

    /// The last line of a file that nobody writes to any more, if it has no end.
    pub(super) fn last_line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = self.rest.clone();
        self.forget(line.len())?;
        if self.skipping || line.is_empty() {
            return Ok(Vec::new());
        }
        line.push(b'\n');
        Ok(line)
    }

    /// The first bytes of the rest are read.
    fn forget(&mut self, bytes: usize) -> io::Result<()> {
        let offset = self.position.offset + bytes as u64;
        if let Some(file) = &self.file {
            self.position.advance(file, offset)?;
        }
        self.rest.drain(..bytes);
        Ok(())
    }

    /// It begins anew.
    pub(super) fn rewind(&mut self) {
        let Position { id, path, .. } = self.position.clone();
        self.position = Position::start(id, path);
        (self.rest, self.skipping) = (Vec::new(), false);
    }
}
