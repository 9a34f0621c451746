//! A window on a stream of bytes: records are looked at where they lie, and the window never grows.

use std::io::{ErrorKind, Read};

use super::capture::CaptureError;

/// Bytes that can be looked at at once: the biggest packet that capture programs write (256 KiB), with room for its headers
/// and options.
pub(super) const WINDOW: usize = 512 * 1024;

/// The window.
#[derive(Debug)]
pub(super) struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Position in the stream of `start`.
    offset: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buffer: vec![0; WINDOW], start: 0, end: 0, offset: 0 }
    }

    /// Position in the stream of what comes next.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Looks at the next `length` bytes, at most [`WINDOW`]; fewer only where the stream ends.
    pub(super) fn look(&mut self, length: usize) -> Result<&[u8], CaptureError> {
        if self.start + length > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < length {
            let Some(room) = self.buffer.get_mut(self.end..).filter(|room| !room.is_empty()) else { break };
            match self.reader.read(room) {
                Ok(0) => break,
                // A reader that claims more than it was given room for is wrong.
                Ok(read) => self.end += read.min(room.len()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    let offset = self.offset + (self.end - self.start) as u64;
                    return Err(CaptureError::Io { offset, source });
                }
            }
        }
        let end = self.end.min(self.start + length);
        Ok(self.buffer.get(self.start..end).unwrap_or_default())
    }

    /// Looks at the next `N` bytes; none if the stream ends before.
    pub(super) fn look_at<const N: usize>(&mut self) -> Result<Option<[u8; N]>, CaptureError> {
        Ok(self.look(N)?.first_chunk().copied())
    }

    /// Takes `length` bytes that have been looked at.
    pub(super) fn take(&mut self, length: usize) -> &[u8] {
        let from = self.start;
        self.start = self.end.min(from + length);
        self.offset += (self.start - from) as u64;
        self.buffer.get(from..self.start).unwrap_or_default()
    }

    /// Passes over `length` bytes, however many; tells how many there were.
    pub(super) fn skip(&mut self, length: u64) -> Result<u64, CaptureError> {
        let mut left = length;
        while left > 0 {
            let step = usize::try_from(left).unwrap_or(WINDOW).min(WINDOW);
            let there = self.look(step)?.len();
            self.take(there);
            left -= there as u64;
            if there < step {
                break;
            }
        }
        Ok(length - left)
    }
}
