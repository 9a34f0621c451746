//! Standard output, a JSON document a line. A reader who has seen enough (`head`) is no error.

use std::io::{self, BufWriter, Write as _};

use serde::Serialize;

use crate::failure::Failure;

/// Why nothing more is printed.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Nobody reads any more.
    Closed,
    /// Something failed.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(Failure::Io(format!("standard output: {error}"))),
        }
    }
}

/// Standard output, buffered.
#[derive(Debug)]
pub(crate) struct Output(BufWriter<io::Stdout>);

impl Default for Output {
    fn default() -> Self {
        Self(BufWriter::with_capacity(64 << 10, io::stdout()))
    }
}

impl Output {
    /// Prints a document.
    ///
    /// # Errors
    /// Nobody reads any more, or writing fails.
    pub(crate) fn document(&mut self, document: &impl Serialize) -> Result<(), Stop> {
        let line = serde_json::to_string(document).map_err(Failure::internal)?;
        self.line(&line)
    }

    /// Prints a line.
    ///
    /// # Errors
    /// Nobody reads any more, or writing fails.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Stop> {
        self.0.write_all(line.as_bytes())?;
        Ok(self.0.write_all(b"\n")?)
    }

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// Nobody reads any more, or writing fails.
    pub(crate) fn flush(&mut self) -> Result<(), Stop> {
        Ok(self.0.flush()?)
    }
}
