//! What a directory holds: segments read back into the state that was durable, and all that is wrong with them. Nothing is
//! changed here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{
    error::Error,
    file_layer::FileLayer,
    frame::{self, Kind},
    head::{FORMAT, Head, Owner, Unreadable},
    marker,
    record::{Incarnation, Record},
    segment::{self, Contents, Reach},
    standing::Standing,
    state::{Place, Rigour, State},
    walk::{Found, Stretch},
};

/// A stretch of a file that is damaged or was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// What doesn't fit.
    pub why: &'static str,
}

/// A segment that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// Bytes of it that are durable.
    pub(super) bytes: u64,
    /// Numbers of its records: first and last.
    pub(super) records: (u64, u64),
    /// When all its slices were found counted; a time of the caller's.
    pub(super) trimmed_at: Option<u64>,
}

/// All that a directory holds.
#[derive(Debug)]
pub(super) struct Recovery {
    /// The spool's id.
    pub(super) spool: Incarnation,
    pub(super) owner: Owner,
    pub(super) state: State,
    pub(super) segments: BTreeMap<u64, Segment>,
    /// What was cut from the end.
    pub(super) cut: Vec<Damage>,
    pub(super) damage: Vec<Damage>,
    /// Why the numbering can't be gone on with.
    pub(super) doubt: Option<&'static str>,
    /// Segments that never counted.
    pub(super) void: Vec<u64>,
}

/// What was found.
#[derive(Debug)]
pub(super) enum Directory {
    /// No spool was here before.
    Empty,
    /// There was one, and nothing of it can be used.
    Lost(Vec<Damage>),
    /// A spool.
    Spool(Box<Recovery>),
}

/// A segment file on the way.
struct Candidate<F> {
    file: F,
    length: u64,
    head: Option<(Head, u64)>,
}

/// Reads a directory.
pub(super) fn recover<L: FileLayer>(files: &L, expected: Option<&Owner>) -> Result<(Directory, u64), Error> {
    let io = |source| Error::Io { doing: "list", path: files.path(""), source };
    let listed = files.list().map_err(io)?;
    let mut candidates = BTreeMap::new();
    for (name, length) in &listed {
        if let Some(number) = segment::number(name) {
            candidates.insert(number, open(files, number, *length)?);
        }
    }
    let newest = candidates.keys().next_back().copied().unwrap_or(0);
    let heads: Vec<(u64, &Head)> =
        candidates.iter().filter_map(|(number, candidate)| Some((*number, &candidate.head.as_ref()?.0))).collect();
    for (number, head) in &heads {
        if let Some((field, found, expected)) = expected.and_then(|expected| head.owner.mismatch(expected)) {
            let path = files.path(&segment::name(*number));
            return Err(Error::Mismatch { path, field, found, expected });
        }
    }
    let directory = match heads.last() {
        Some((_, head)) => {
            let owner = head.owner.clone();
            let spool = head.spool;
            Directory::Spool(Box::new(read::<L>(files, candidates, spool, owner)))
        }
        None if candidates.is_empty() && !listed.iter().any(|(name, _)| name == marker::NAME) => Directory::Empty,
        None if is_torn_creation::<L>(files, &candidates) => Directory::Empty,
        None => {
            let unreadable = |(number, candidate): (&u64, &Candidate<L::File>)| Damage {
                path: files.path(&segment::name(*number)),
                offset: 0,
                bytes: candidate.length,
                why: "no segment's head can be read",
            };
            Directory::Lost(candidates.iter().map(unreadable).collect())
        }
    };
    Ok((directory, newest))
}

/// A spool that was made, but ended before its first sync, which writes little: the marker only comes behind that.
fn is_torn_creation<L: FileLayer>(files: &L, candidates: &BTreeMap<u64, Candidate<L::File>>) -> bool {
    let small = candidates.values().all(|candidate| candidate.length <= 1 << 20);
    small && matches!(marker::read(files), Ok(None))
}

fn open<L: FileLayer>(files: &L, number: u64, length: u64) -> Result<Candidate<L::File>, Error> {
    let path = || files.path(&segment::name(number));
    let file =
        files.open(&segment::name(number)).map_err(|source| Error::Io { doing: "open", path: path(), source })?;
    match segment::head(&file, length) {
        Ok((head, end)) => {
            let head = (head.segment == number).then_some((head, end));
            Ok(Candidate { file, length, head })
        }
        Err(Unreadable::Broken) => Ok(Candidate { file, length, head: None }),
        Err(Unreadable::Format(found)) => Err(Error::Format { path: path(), found, known: FORMAT }),
    }
}

fn read<L: FileLayer>(
    files: &L,
    mut candidates: BTreeMap<u64, Candidate<L::File>>,
    spool: Incarnation,
    owner: Owner,
) -> Recovery {
    let base = candidates.iter().rev().find_map(|(number, candidate)| {
        let (head, _) = candidate.head.as_ref().filter(|(head, _)| head.spool == spool)?;
        Some((*number, head.standing.clone(), head.segments.iter().copied().collect::<BTreeMap<u64, u64>>()))
    });
    let newest = candidates.keys().next_back().copied().unwrap_or(0);
    // The caller found a head with this id.
    let (base, standing, known) = base.unwrap_or_else(|| (newest, Standing::new(1, spool), BTreeMap::new()));
    let mut void: BTreeSet<u64> = candidates.range(..base).map(|(number, _)| *number).collect();
    void.retain(|number| !known.contains_key(number));
    candidates.retain(|number, _| !void.contains(number));
    let mut reading = Reading::new(files, State { standing, slices: BTreeMap::new() }, base);
    for (number, candidate) in &candidates {
        let reach = match known.get(number) {
            Some(bytes) => Reach::Bytes(*bytes),
            None => Reach::Tail,
        };
        let own = candidate.head.as_ref().filter(|(head, _)| head.spool == spool);
        if own.is_none() && candidate.head.is_some() {
            reading.foreign(*number, candidate.length);
            continue;
        }
        let (from, last) = own.map_or((0, 0), |(head, end)| (*end, head.standing.last_record));
        let contents = segment::contents::<L>(&candidate.file, &spool, (from, candidate.length), last, reach);
        if own.is_none() && *number == newest && !contents.has_group {
            // Its creation was never finished.
            void.insert(*number);
            reading.never_finished(*number, candidate.length);
            continue;
        }
        if own.is_none() && *number == newest {
            reading.doubt = Some("the newest segment's head can't be read");
        }
        reading.segment(*number, last, contents);
    }
    reading.finish(spool, owner, void.into_iter().collect())
}

/// The fold over all segments.
struct Reading<'l, L> {
    files: &'l L,
    state: State,
    base: u64,
    segments: BTreeMap<u64, Segment>,
    cut: Vec<Damage>,
    damage: Vec<Damage>,
    doubt: Option<&'static str>,
}

impl<'l, L: FileLayer> Reading<'l, L> {
    fn new(files: &'l L, state: State, base: u64) -> Self {
        let (cut, damage) = (Vec::new(), Vec::new());
        Self { files, state, base, segments: BTreeMap::new(), cut, damage, doubt: None }
    }

    fn damaged(&self, number: u64, stretch: &Stretch) -> Damage {
        let Stretch { offset, bytes, why } = *stretch;
        Damage { path: self.files.path(&segment::name(number)), offset, bytes, why }
    }

    fn foreign(&mut self, number: u64, bytes: u64) {
        let stretch = Stretch { offset: 0, bytes, why: "the segment belongs to another spool" };
        self.damage.push(self.damaged(number, &stretch));
    }

    fn never_finished(&mut self, number: u64, bytes: u64) {
        let stretch = Stretch { offset: 0, bytes, why: "the segment's first sync was not finished" };
        self.cut.push(self.damaged(number, &stretch));
    }

    /// Segments before the base only tell where slices lie; what stood then, the base says.
    fn segment(&mut self, number: u64, last: u64, contents: Contents) {
        if number >= self.base && !contents.damage.is_empty() {
            let payload_only = contents.damage.iter().all(|damage| {
                contents.frames.iter().any(|frame| frame.offset == damage.offset && !frame.payload_holds)
            });
            if !payload_only {
                self.doubt = Some("records of the newest segment can't be read");
            }
        }
        let damage: Vec<Damage> = contents.damage.iter().map(|stretch| self.damaged(number, stretch)).collect();
        self.damage.extend(damage);
        let cut = contents.cut.as_ref().map(|stretch| self.damaged(number, stretch));
        self.cut.extend(cut);
        let records = (last.saturating_add(1), contents.last_number.max(last));
        self.segments.insert(number, Segment { bytes: contents.bytes, records, trimmed_at: None });
        for frame in &contents.frames {
            let refused = if number < self.base { self.place(number, frame) } else { self.apply(number, frame) };
            if let Err(why) = refused {
                let stretch = Stretch { offset: frame.offset, bytes: frame.header.frame_bytes(), why };
                self.damage.push(self.damaged(number, &stretch));
            }
        }
        if number >= self.base {
            self.state.standing.last_record = self.state.standing.last_record.max(contents.last_number);
        }
    }

    fn place(&mut self, number: u64, frame: &Found) -> Result<(), &'static str> {
        if !matches!(frame.header.kind, Kind::Slice | Kind::Coarsened) {
            return Ok(());
        }
        match frame::decode(frame.header.kind, &frame.meta, &[]).ok_or(UNDECODED)? {
            Record::Slice { meta, .. } | Record::Coarsened { meta, .. } => {
                if !self.state.standing.removed.contains(frame.header.number) {
                    self.state.keep(frame.header.number, &meta, place(number, frame));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn apply(&mut self, number: u64, frame: &Found) -> Result<(), &'static str> {
        let record = frame::decode(frame.header.kind, &frame.meta, &frame.payload).ok_or(UNDECODED)?;
        self.state.apply(frame.header.number, &record, place(number, frame), Rigour::Gaps)
    }

    fn finish(self, spool: Incarnation, owner: Owner, void: Vec<u64>) -> Recovery {
        let Self { state, segments, cut, damage, doubt, .. } = self;
        Recovery { spool, owner, state, segments, cut, damage, doubt, void }
    }
}

const UNDECODED: &str = "a record's fields don't fit its kind";

fn place(segment: u64, frame: &Found) -> Place {
    Place { segment, offset: frame.offset, bytes: frame.header.frame_bytes() }
}
