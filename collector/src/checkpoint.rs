//! What a collector goes on from after it was killed: written with the slices of a [`Flush`](crate::pipeline::Flush), in
//! one fsync, so that both are there or neither. Windows are in the slices; this is the rest.

use std::io::Read as _;

use serde::{Deserialize, Serialize};

use crate::{
    pipeline::Pipeline,
    source::{followed::SavedFile, intake::remembered::SavedSenders, once::SavedOnce},
};

/// The format of what decoders and the ledger remember. It is that of their types, in postcard's encoding: whoever changes
/// one of them (`tests::the_format_is_the_one_it_was` fails then) changes this, and what an older version saved is left.
const MEMORY: u32 = 2;
/// The format of [`Sources`]. What an older version saved has to be read still: it says what was counted.
const SOURCES: u32 = 2;
/// Most bytes that memory takes, unpacked: what full tables do, twice over.
const MAX_MEMORY: u64 = 256 << 20;
/// Hashes and addresses pack badly: more effort than this is in vain.
const EFFORT: i32 = 1;

/// Why a check-point can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Another version of this program wrote it.
    #[error("its format is {found}, this version's is {expected}")]
    Format {
        /// The format.
        found: u32,
        /// This version's.
        expected: u32,
    },
    /// It can't be packed or unpacked.
    #[error("{0}")]
    Packing(#[from] std::io::Error),
    /// It is not what it should be.
    #[error("{0}")]
    Encoding(#[from] postcard::Error),
}

/// As it is in the spool.
#[derive(Deserialize, Serialize)]
struct Stored {
    sources_format: u32,
    sources: Vec<u8>,
    memory_format: u32,
    /// [`Pipeline::save`], packed.
    memory: Vec<u8>,
}

/// How far sources that can be read again were read.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Sources {
    /// Files that are followed.
    pub(crate) files: Vec<SavedFile>,
    /// Who handed over what.
    pub(crate) senders: SavedSenders,
    /// Files that are read once.
    pub(crate) once: SavedOnce,
}

/// The check-point of a pipeline from which a flush was just taken.
pub(crate) fn write(pipeline: &Pipeline, sources: &Sources) -> Result<Vec<u8>, CheckpointError> {
    stored(sources, zstd::encode_all(pipeline.save()?.as_slice(), EFFORT)?)
}

/// The check-point of sources that are read again from their beginnings: decoders remember nothing.
pub(crate) fn write_sources(sources: &Sources) -> Result<Vec<u8>, CheckpointError> {
    stored(sources, Vec::new())
}

fn stored(sources: &Sources, memory: Vec<u8>) -> Result<Vec<u8>, CheckpointError> {
    let sources = postcard::to_allocvec(sources)?;
    Ok(postcard::to_allocvec(&Stored { sources_format: SOURCES, sources, memory_format: MEMORY, memory })?)
}

/// What a check-point says of sources.
pub(crate) fn sources(bytes: &[u8]) -> Result<Sources, CheckpointError> {
    let stored: Stored = postcard::from_bytes(bytes)?;
    match stored.sources_format {
        SOURCES => Ok(postcard::from_bytes(&stored.sources)?),
        // Which had but files that are followed.
        1 => Ok(Sources { files: postcard::from_bytes(&stored.sources)?, ..Sources::default() }),
        found => Err(CheckpointError::Format { found, expected: SOURCES }),
    }
}

/// The pipeline goes on from a check-point.
pub(crate) fn restore(bytes: &[u8], pipeline: &mut Pipeline) -> Result<(), CheckpointError> {
    let stored: Stored = postcard::from_bytes(bytes)?;
    if stored.memory_format != MEMORY {
        return Err(CheckpointError::Format { found: stored.memory_format, expected: MEMORY });
    }
    if stored.memory.is_empty() {
        return Ok(());
    }
    let mut memory = Vec::new();
    zstd::Decoder::with_buffer(stored.memory.as_slice())?.take(MAX_MEMORY).read_to_end(&mut memory)?;
    Ok(pipeline.restore(&memory)?)
}

#[cfg(test)]
mod tests;
