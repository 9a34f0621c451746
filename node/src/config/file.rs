//! A file of configuration, read whole.

use std::{fs::File, io::Read as _, path::Path};

/// Largest file, bytes: room for tens of thousands of aliases, and an end to what isn't a file at all.
const MAX_BYTES: usize = 4 << 20;

/// The text of a file.
///
/// # Errors
/// Why it can't be read, for a person.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("can't be read: {error}"))?;
    if bytes.len() > MAX_BYTES {
        return Err(format!("is larger than {} MiB, which no configuration is", MAX_BYTES >> 20));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("is no text: not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}
