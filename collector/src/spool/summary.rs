//! What is in a spool directory, for a person: read without changing anything, also while a collector uses it.

use super::{
    error::Error,
    file_layer::FileLayer,
    head::Owner,
    record::Incarnation,
    recover::{Damage, Directory, recover},
    segment,
    standing::Numbering,
};

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub file: String,
    /// Bytes of it.
    pub bytes: u64,
    /// Slices in it that are not wholly counted.
    pub live_slices: usize,
    /// Slices in it that are.
    pub trimmed_slices: usize,
}

/// A spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub spool: Incarnation,
    /// Whose it is.
    pub owner: Owner,
    /// Its segments, oldest first.
    pub segments: Vec<SegmentSummary>,
    /// Its numberings, oldest first; the last one is live.
    pub numberings: Vec<Numbering>,
    /// First and last slice number, if there are slices.
    pub slices: Option<(u64, u64)>,
    /// Bytes of the newest check-point.
    pub checkpoint_bytes: Option<usize>,
    /// Bytes that were never synced, or are being written just now.
    pub cut: Vec<Damage>,
    /// What can't be read.
    pub damage: Vec<Damage>,
    /// Why the next opening will begin a new incarnation.
    pub doubt: Option<&'static str>,
}

/// Reads a directory; `None` if no spool is there. A spool of which nothing can be read has damage and no owner to tell, and
/// is an error.
///
/// # Errors
/// The file system's; a later format; a spool without a readable head.
pub fn summarise<L: FileLayer>(files: &L) -> Result<Option<Summary>, Error> {
    let recovery = match recover(files, None)? {
        (Directory::Empty, _) => return Ok(None),
        (Directory::Lost(damage), _) => {
            let why = "a spool was here, but no segment's head can be read";
            let path = damage.first().map_or_else(|| files.path(""), |damage| damage.path.clone());
            return Err(Error::Damaged { path, offset: 0, why });
        }
        (Directory::Spool(recovery), _) => *recovery,
    };
    let slices = &recovery.state.slices;
    let of = |number: u64, trimmed: bool| {
        slices.values().filter(|kept| kept.place.segment == number && kept.trimmed == trimmed).count()
    };
    let segments = recovery.segments.iter().map(|(number, segment)| SegmentSummary {
        number: *number,
        file: segment::name(*number),
        bytes: segment.bytes,
        live_slices: of(*number, false),
        trimmed_slices: of(*number, true),
    });
    Ok(Some(Summary {
        spool: recovery.spool,
        owner: recovery.owner.clone(),
        segments: segments.collect(),
        numberings: recovery.state.standing.numberings.clone(),
        slices: slices.keys().next().copied().zip(slices.keys().next_back().copied()),
        checkpoint_bytes: recovery.state.standing.checkpoint.as_ref().map(|bytes| bytes.len()),
        cut: recovery.cut,
        damage: recovery.damage,
        doubt: recovery.doubt,
    }))
}
