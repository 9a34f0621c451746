//! A small file that says that there is a spool here, and its id: without it, a directory whose segments are gone looks
//! like a new one.

use std::io;

use super::{
    file_layer::{FileLayer, LayerFile as _, read_exact_at},
    frame::{self, HEADER_BYTES, Header, Kind},
    record::Incarnation,
};

/// Its name.
pub(super) const NAME: &str = "spool.id";
const NEW: &str = "spool.id.new";
const BYTES: usize = HEADER_BYTES + 16;

/// The id, if there is a marker; `None` inside it if it can't be made out.
pub(super) fn read<L: FileLayer>(files: &L) -> io::Result<Option<Option<Incarnation>>> {
    let file = match files.open(NAME) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = [0; BYTES];
    if read_exact_at(&file, 0, &mut bytes).is_err() {
        return Ok(Some(None));
    }
    let Some((head, meta)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(Some(None)) };
    let holds =
        Header::parse(head).is_some_and(|header| header.meta_bytes == meta.len() && header.holds(&[], head, meta));
    Ok(Some(meta.try_into().ok().filter(|_| holds).map(Incarnation)))
}

/// Writes it, durably, in one step.
pub(super) fn write<L: FileLayer>(files: &L, spool: Incarnation) -> io::Result<()> {
    match files.remove(NEW) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut bytes = Vec::with_capacity(BYTES);
    frame::write(&mut bytes, &[], Kind::Rolled, 0, &spool.0, &[], false);
    let mut file = files.create(NEW)?;
    file.append(&bytes)?;
    file.sync()?;
    files.rename(NEW, NAME)?;
    files.sync_dir()
}
