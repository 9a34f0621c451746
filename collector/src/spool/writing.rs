//! The spool: appending and syncing. See the module for the format and the rules.

use std::{collections::BTreeMap, io};

use super::{
    codec::Writer,
    error::Error,
    file_layer::{FileLayer, LayerFile as _},
    frame::{self, HEADER_BYTES, Kind, MAX_META_BYTES, MAX_PAYLOAD_BYTES},
    head::Head,
    options::Options,
    packing::Packer,
    record::{Incarnation, Record, SliceMeta},
    recover::Segment,
    segment,
    standing::{Numbering, Standing},
    state::{Place, Rigour, State},
    waiting::Waiting,
};

/// Segments tried in one sync: the one in use, and a new one if that fails.
const ATTEMPTS: usize = 2;

/// What a spool has met since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records appended.
    pub records: u64,
    /// Bytes written to segments.
    pub written_bytes: u64,
    /// Writes and syncs that failed; each cost a segment.
    pub failures: u64,
    /// Slices that were merged into others.
    pub coarsened_slices: u64,
    /// Slices dropped uncounted.
    pub dropped_slices: u64,
    /// Events in them.
    pub dropped_events: u64,
    /// Bytes of traffic in them.
    pub dropped_bytes: u64,
    /// Segments deleted.
    pub deleted_segments: u64,
}

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Active<F> {
    pub(super) number: u64,
    file: F,
    /// Bytes known to be durable.
    length: u64,
}

/// A collector's spool: see the module. It blocks; it is owned by one thread.
#[derive(Debug)]
pub struct Spool<L: FileLayer> {
    pub(super) files: L,
    pub(super) options: Options,
    /// The salt of its frames.
    pub(super) id: Incarnation,
    pub(super) state: State,
    /// What stood at the last sync: where a new segment begins.
    pub(super) durable: Standing,
    pub(super) segments: BTreeMap<u64, Segment>,
    pub(super) active: Option<Active<L::File>>,
    /// The newest segment that counts: its head is the one to go by.
    pub(super) newest: u64,
    pub(super) next_segment: u64,
    pub(super) waiting: Waiting,
    pub(super) packer: Packer,
    pub(super) counts: Counts,
}

impl<L: FileLayer> Spool<L> {
    /// Numberings, oldest first; the last one is live.
    #[must_use]
    pub fn numberings(&self) -> &[Numbering] {
        &self.state.standing.numberings
    }

    /// Slices, ascending, and whether they are wholly counted.
    pub fn slices(&self) -> impl Iterator<Item = (&SliceMeta, bool)> {
        self.state.slices.values().map(|kept| (&kept.meta, kept.trimmed))
    }

    /// The newest check-point.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&[u8]> {
        self.state.standing.checkpoint.as_deref()
    }

    /// Bytes that wait for a sync.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.bytes.len()
    }

    /// What it has met.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Appends a record in memory; it counts after the next [`Spool::sync`].
    ///
    /// # Errors
    /// It contradicts those before it, or too much waits to be synced. Nothing has changed then.
    pub fn append(&mut self, record: &Record<'_>) -> Result<(), Error> {
        let payload = match record {
            Record::Slice { payload, .. } | Record::Coarsened { payload, .. } => *payload,
            Record::Checkpoint(bytes) => bytes,
            _ => &[],
        };
        let limit = self.options.max_payload_bytes.min(MAX_PAYLOAD_BYTES);
        if payload.len() > limit {
            return Err(Error::Refused("its payload is longer than a payload may be"));
        }
        let (kind, meta) = frame::encode(record);
        if meta.len() > MAX_META_BYTES {
            return Err(Error::Refused("it has more fields than a record may"));
        }
        let waiting = self.waiting.bytes.len();
        if waiting > 0 && waiting.saturating_add(payload.len()) > self.options.max_waiting_bytes {
            return Err(Error::Full { waiting, limit: self.options.max_waiting_bytes });
        }
        let packed = if matches!(kind, Kind::Slice | Kind::Coarsened) { self.packer.pack(payload) } else { None };
        let stored = packed.as_deref().unwrap_or(payload);
        let bytes = (HEADER_BYTES + meta.len() + stored.len()) as u64;
        let number = self.state.standing.last_record + 1;
        let place = Place { segment: 0, offset: waiting as u64, bytes };
        self.state.apply(number, record, place, Rigour::All).map_err(Error::Refused)?;
        self.waiting.push(&self.id, kind, number, &meta, (stored, packed.is_some()));
        if let Record::Slice { meta, .. } | Record::Coarsened { meta, .. } = record {
            self.waiting.slices.push(meta.slice_no);
        }
        self.counts.records += 1;
        Ok(())
    }

    /// Makes all that was appended durable, in one write and one sync. What could not be made durable still waits, and the
    /// next sync tries it again, in another segment: a file whose write or sync failed is never written to again.
    ///
    /// # Errors
    /// The file system refuses, in a new segment too.
    pub fn sync(&mut self) -> Result<(), Error> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.commit()
    }

    /// [`Spool::sync`], even if nothing waits.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        let before = self.waiting.bytes.len();
        let (first, end) = (self.durable.last_record + 1, self.state.standing.last_record + 1);
        let mut meta = Writer::default();
        meta.u64(first);
        self.waiting.push(&self.id, Kind::End, end, &meta.0, (&[], false));
        let mut failed = None;
        for _ in 0..ATTEMPTS {
            match self.write() {
                Ok(offset) => {
                    self.settle(end, offset);
                    return Ok(());
                }
                Err(error) => {
                    self.counts.failures += 1;
                    self.active = None;
                    failed = Some(error);
                }
            }
        }
        self.waiting.bytes.truncate(before);
        failed.map_or(Ok(()), Err)
    }

    /// Writes what waits into the segment in use or a new one, durably; where it begins there.
    fn write(&mut self) -> Result<u64, Error> {
        let (mut active, is_new) = match self.active.take() {
            Some(active) if active.length < self.options.segment_bytes => (active, false),
            _ => (self.begin()?, true),
        };
        let name = segment::name(active.number);
        let mut head = Vec::new();
        if is_new {
            self.head(active.number).write(&mut head);
        }
        if let Err((doing, source)) = self.write_through(&mut active, &head, is_new) {
            if is_new {
                // It never counted. If it can't be removed, the next segment's head says so.
                let _ = self.files.remove(&name);
            }
            return Err(Error::Io { doing, path: self.files.path(&name), source });
        }
        let offset = active.length + head.len() as u64;
        let written = head.len() as u64 + self.waiting.bytes.len() as u64;
        active.length += written;
        self.counts.written_bytes = self.counts.written_bytes.saturating_add(written);
        self.active = Some(active);
        Ok(offset)
    }

    fn write_through(
        &self,
        active: &mut Active<L::File>,
        head: &[u8],
        is_new: bool,
    ) -> Result<(), (&'static str, io::Error)> {
        if is_new {
            active.file.append(head).map_err(|error| ("write", error))?;
        }
        active.file.append(&self.waiting.bytes).map_err(|error| ("write", error))?;
        active.file.sync().map_err(|error| ("sync", error))?;
        if is_new {
            self.files.sync_dir().map_err(|error| ("sync the directory of", error))?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<Active<L::File>, Error> {
        let number = self.next_segment;
        // Even a name that was tried in vain is not used again.
        self.next_segment += 1;
        let name = segment::name(number);
        let file = self.files.create(&name);
        let file = file.map_err(|source| Error::Io { doing: "create", path: self.files.path(&name), source })?;
        Ok(Active { number, file, length: 0 })
    }

    pub(super) fn head(&self, segment: u64) -> Head {
        Head {
            spool: self.id,
            segment,
            segments: self.segments.iter().map(|(number, segment)| (*number, segment.bytes)).collect(),
            owner: self.options.owner.clone(),
            standing: self.durable.clone(),
        }
    }

    /// All that waited is durable, from `offset` of the active segment on.
    fn settle(&mut self, last_record: u64, offset: u64) {
        let Some(active) = &self.active else { return };
        for slice_no in &self.waiting.slices {
            if let Some(kept) = self.state.slices.get_mut(slice_no)
                && kept.place.segment == 0
            {
                kept.place.segment = active.number;
                kept.place.offset += offset;
            }
        }
        let first = self.durable.last_record + 1;
        self.state.standing.last_record = last_record;
        self.durable = self.state.standing.clone();
        self.newest = active.number;
        let segment =
            self.segments.entry(active.number).or_insert(Segment { bytes: 0, records: (first, 0), trimmed_at: None });
        (segment.bytes, segment.records.1) = (active.length, last_record);
        self.waiting.clear();
    }
}
