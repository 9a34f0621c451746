//! Walking through a segment's frames, and over what is damaged: after a frame that doesn't hold, the next one that does
//! is searched for.

use std::io;

use super::{
    file_layer::{LayerFile, read_exact_at},
    frame::{HEADER_BYTES, Header, Kind, MAGIC},
};

/// Bytes read at a time where a length isn't known.
const CHUNK: usize = 1 << 20;
/// Bytes of metas that are read in vain, at most, in one search for the next frame: candidates may be put there to cost.
const SEARCH_BYTES: u64 = 256 << 20;

/// A frame, or a stretch that is none.
#[derive(Debug)]
pub(super) enum Step {
    /// Head and meta hold.
    Frame(Found),
    /// Not to be read.
    Bad(Stretch),
}

/// A frame whose head and meta hold.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) offset: u64,
    pub(super) header: Header,
    pub(super) meta: Vec<u8>,
    /// False if it was looked at and isn't what was written.
    pub(super) payload_holds: bool,
    /// A check-point's.
    pub(super) payload: Vec<u8>,
}

/// Bytes that make no frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) why: &'static str,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Walk<'f, F> {
    file: &'f F,
    salt: &'f [u8],
    at: u64,
    end: u64,
    last: u64,
    verify: bool,
}

impl<'f, F: LayerFile> Walk<'f, F> {
    /// From `at` to `end`; numbers must be above `last`. With `verify`, payloads are read and checked.
    pub(super) fn new(file: &'f F, salt: &'f [u8], at: u64, end: u64, last: u64, verify: bool) -> Self {
        Self { file, salt, at, end, last, verify }
    }

    /// The frame at an offset, without its payload.
    fn frame_at(&self, offset: u64) -> Result<Found, &'static str> {
        let mut bytes = [0; HEADER_BYTES];
        let left = self.end.saturating_sub(offset);
        if left < HEADER_BYTES as u64 {
            return Err("the file ends within a frame");
        }
        read(self.file, offset, &mut bytes)?;
        let header = Header::parse(&bytes).ok_or("no frame begins here")?;
        if header.frame_bytes() > left {
            return Err("the file ends within a frame");
        }
        if header.number <= self.last {
            return Err("its number belongs to an earlier record");
        }
        let mut meta = vec![0; header.meta_bytes];
        read(self.file, offset + HEADER_BYTES as u64, &mut meta)?;
        if !header.holds(self.salt, &bytes, &meta) {
            return Err("the checksum of a record does not hold");
        }
        Ok(Found { offset, header, meta, payload_holds: true, payload: Vec::new() })
    }

    /// Looks at the payload where that is asked for.
    fn look(&self, found: &mut Found) {
        let offset = found.offset + (HEADER_BYTES + found.header.meta_bytes) as u64;
        if found.header.kind == Kind::Checkpoint {
            found.payload = vec![0; found.header.payload_bytes];
            found.payload_holds = read(self.file, offset, &mut found.payload).is_ok()
                && found.header.payload_holds(self.salt, &found.payload);
        } else if self.verify {
            found.payload_holds = self.payload_holds(&found.header, offset).unwrap_or(false);
        }
    }

    fn payload_holds(&self, header: &Header, mut offset: u64) -> io::Result<bool> {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.salt);
        let mut left = header.payload_bytes;
        let mut chunk = vec![0; left.min(CHUNK)];
        while left > 0 {
            chunk.truncate(left);
            read_exact_at(self.file, offset, &mut chunk)?;
            hasher.update(&chunk);
            offset += chunk.len() as u64;
            left -= chunk.len();
        }
        Ok(header.payload_matches(hasher))
    }

    /// The next frame that holds, from `offset` on.
    fn search(&self, mut offset: u64) -> Option<u64> {
        let mut spent = 0;
        let mut chunk = Vec::new();
        while offset < self.end {
            let length = (self.end - offset).min(CHUNK as u64) as usize;
            chunk.resize(length, 0);
            read_exact_at(self.file, offset, &mut chunk).ok()?;
            for (at, _) in chunk.windows(MAGIC.len()).enumerate().filter(|(_, window)| *window == MAGIC) {
                let candidate = offset + at as u64;
                match self.frame_at(candidate) {
                    Ok(found) if found.header.kind != Kind::Head => return Some(candidate),
                    _ => spent += self.claimed(candidate),
                }
                if spent > SEARCH_BYTES {
                    return None;
                }
            }
            // A magic may lie across two chunks.
            offset += (length.saturating_sub(MAGIC.len() - 1)).max(1) as u64;
        }
        None
    }

    /// What looking at a candidate has cost.
    fn claimed(&self, offset: u64) -> u64 {
        let mut bytes = [0; HEADER_BYTES];
        let header = read(self.file, offset, &mut bytes).ok().and_then(|()| Header::parse(&bytes));
        HEADER_BYTES as u64 + header.map_or(0, |header| header.meta_bytes as u64)
    }
}

impl<F: LayerFile> Iterator for Walk<'_, F> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.at >= self.end {
            return None;
        }
        let offset = self.at;
        match self.frame_at(offset) {
            Ok(mut found) => {
                self.look(&mut found);
                self.at += found.header.frame_bytes();
                self.last = found.header.number;
                Some(Step::Frame(found))
            }
            Err(why) => {
                self.at = self.search(offset + 1).unwrap_or(self.end);
                Some(Step::Bad(Stretch { offset, bytes: self.at - offset, why }))
            }
        }
    }
}

fn read(file: &impl LayerFile, offset: u64, into: &mut [u8]) -> Result<(), &'static str> {
    read_exact_at(file, offset, into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "the file ends within a frame",
        _ => "the file system can't read it",
    })
}
