//! Reading slices back: one by number, or all from one on, each in the memory of one.

use std::sync::Arc;

use super::{
    Spool,
    error::Error,
    file_layer::{FileLayer, read_exact_at},
    frame::{HEADER_BYTES, Header},
    packing::unpack,
    record::{Incarnation, SliceMeta},
    segment,
    state::{Kept, Place},
};

/// A slice read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSlice {
    /// What it is.
    pub meta: SliceMeta,
    /// Wholly counted already.
    pub trimmed: bool,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl<L: FileLayer> Spool<L> {
    /// What is known of a slice.
    #[must_use]
    pub fn slice(&self, slice_no: u64) -> Option<&SliceMeta> {
        self.state.slices.get(&slice_no).map(|kept| &kept.meta)
    }

    /// True if it is there, and not wholly counted.
    #[must_use]
    pub fn is_uncounted(&self, slice_no: u64) -> bool {
        self.state.slices.get(&slice_no).is_some_and(|kept| !kept.trimmed)
    }

    /// What a slice takes on the disk.
    #[must_use]
    pub fn stored_bytes(&self, slice_no: u64) -> Option<u64> {
        self.state.slices.get(&slice_no).map(|kept| kept.place.bytes)
    }

    /// The payload of a slice, synced or not.
    ///
    /// # Errors
    /// The number is unknown, the file system refuses, or what is there is not what was written.
    pub fn read(&self, slice_no: u64) -> Result<Vec<u8>, Error> {
        let kept = self.state.slices.get(&slice_no).ok_or(Error::Unknown(slice_no))?;
        self.payload(kept, &mut None)
    }

    /// Slices from `slice_no` on, ascending; one is read at a time. After an error it goes on with the next.
    pub fn stream(&self, slice_no: u64) -> impl Iterator<Item = (u64, Result<StoredSlice, Error>)> {
        let mut open = None;
        self.state.slices.range(slice_no..).map(move |(slice_no, kept)| {
            let payload = self.payload(kept, &mut open);
            let slice = |payload| StoredSlice { meta: kept.meta.clone(), trimmed: kept.trimmed, payload };
            (*slice_no, payload.map(slice))
        })
    }

    /// `open` is the segment that was read last.
    fn payload(&self, kept: &Kept, open: &mut Option<(u64, Arc<L::File>)>) -> Result<Vec<u8>, Error> {
        let Place { segment, offset, bytes } = kept.place;
        let path = || self.files.path(&segment::name(segment));
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        let limit = self.options.max_payload_bytes;
        let found = if segment == 0 {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let frame = self.waiting.bytes.get(start..start.saturating_add(length)).unwrap_or_default();
            payload_of(&self.id, frame, kept.record, limit)
        } else {
            let io = |doing| move |source| Error::Io { doing, path: path(), source };
            let file = match open {
                Some((number, file)) if *number == segment => Arc::clone(file),
                _ => {
                    let file = Arc::new(self.files.open(&segment::name(segment)).map_err(io("open"))?);
                    *open = Some((segment, Arc::clone(&file)));
                    file
                }
            };
            let mut frame = vec![0; length];
            read_exact_at(file.as_ref(), offset, &mut frame).map_err(io("read"))?;
            payload_of(&self.id, &frame, kept.record, limit)
        };
        found.map_err(|why| Error::Damaged { path: path(), offset, why })
    }
}

/// The payload, unpacked, of a frame of which all bytes are here.
fn payload_of(spool: &Incarnation, bytes: &[u8], number: u64, limit: usize) -> Result<Vec<u8>, &'static str> {
    let (head, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or("the frame is too short")?;
    let header = Header::parse(head).filter(|header| header.number == number).ok_or("another frame is there")?;
    let (meta, payload) = rest.split_at_checked(header.meta_bytes).ok_or("the frame is too short")?;
    if !header.holds(&spool.0, head, meta) || !header.payload_holds(&spool.0, payload) {
        return Err("the checksum of a payload does not hold");
    }
    unpack(payload.to_vec(), header.packed, limit)
}
