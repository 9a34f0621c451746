//! What was appended and not yet synced: kept in memory until it is known to be durable, so that it can be written again
//! elsewhere if a write or a sync fails.

use super::{
    frame::{self, Kind},
    record::Incarnation,
};

/// Bytes that stay allocated between two syncs.
const KEPT_CAPACITY: usize = 16 << 20;

/// Frames in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) bytes: Vec<u8>,
    /// Slices among them.
    pub(super) slices: Vec<u64>,
}

impl Waiting {
    /// Appends a frame.
    pub(super) fn push(&mut self, spool: &Incarnation, kind: Kind, number: u64, meta: &[u8], payload: (&[u8], bool)) {
        frame::write(&mut self.bytes, &spool.0, kind, number, meta, payload.0, payload.1);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_CAPACITY);
        self.slices.clear();
    }
}
