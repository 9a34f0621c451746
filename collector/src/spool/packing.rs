//! Payloads as they are stored: packed with zstd behind their length of 4 bytes, or as they are.

/// The fastest level that still finds the repetitions of columns.
const LEVEL: i32 = 1;

/// Packs, if it is to.
pub(super) struct Packer(Option<zstd::bulk::Compressor<'static>>);

impl Packer {
    pub(super) fn new(pack: bool) -> Self {
        // Without memory for its tables, payloads go as they are.
        Self(pack.then(|| zstd::bulk::Compressor::new(LEVEL).ok()).flatten())
    }

    /// The packed form, where that is shorter.
    pub(super) fn pack(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let packed = self.0.as_mut()?.compress(payload).ok()?;
        if packed.len() + 4 >= payload.len() {
            return None;
        }
        let mut stored = Vec::with_capacity(packed.len() + 4);
        stored.extend_from_slice(&u32::try_from(payload.len()).ok()?.to_le_bytes());
        stored.extend_from_slice(&packed);
        Some(stored)
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Packer").field(&self.0.is_some()).finish()
    }
}

/// A payload from its stored form, at most `limit` bytes of it.
pub(super) fn unpack(stored: Vec<u8>, packed: bool, limit: usize) -> Result<Vec<u8>, &'static str> {
    if !packed {
        return Ok(stored);
    }
    let (length, packed) = stored.split_first_chunk::<4>().ok_or("a packed payload is too short")?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > limit {
        return Err("a packed payload is longer than may be");
    }
    let payload = zstd::bulk::decompress(packed, length).map_err(|_| "a payload can't be unpacked")?;
    if payload.len() == length { Ok(payload) } else { Err("a payload can't be unpacked") }
}
