//! One segment read back: its head, and the records in it that became durable.

use std::io;

use super::{
    codec::Reader,
    file_layer::{FileLayer, LayerFile, read_exact_at},
    frame::{HEADER_BYTES, Header, Kind},
    head::{Head, Unreadable},
    record::Incarnation,
    walk::{Found, Step, Stretch, Walk},
};

const SUFFIX: &str = ".spool";

/// The file name of a segment.
pub(super) fn name(segment: u64) -> String {
    format!("{segment:020}{SUFFIX}")
}

/// The number of the segment of that file name.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// A segment's head and where it ends.
pub(super) fn head(file: &impl LayerFile, length: u64) -> Result<(Head, u64), Unreadable> {
    let mut bytes = [0; HEADER_BYTES];
    let broken = |_: io::Error| Unreadable::Broken;
    read_exact_at(file, 0, &mut bytes).map_err(broken)?;
    let header = Header::parse(&bytes).filter(|header| header.kind == Kind::Head && header.frame_bytes() <= length);
    let header = header.ok_or(Unreadable::Broken)?;
    let mut rest = vec![0; header.meta_bytes + header.payload_bytes];
    read_exact_at(file, HEADER_BYTES as u64, &mut rest).map_err(broken)?;
    let (meta, payload) = rest.split_at_checked(header.meta_bytes).ok_or(Unreadable::Broken)?;
    if !header.holds(&[], &bytes, meta) || !header.payload_holds(&[], payload) {
        return Err(Unreadable::Broken);
    }
    Ok((Head::read(meta, payload)?, header.frame_bytes()))
}

/// How far a segment is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// So many bytes are known to be durable, by the next segment's head.
    Bytes(u64),
    /// It was the last one: what its last sync left unfinished is cut off.
    Tail,
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Its records, in order, without the ends of groups.
    pub(super) frames: Vec<Found>,
    /// What can't be read though it was durable.
    pub(super) damage: Vec<Stretch>,
    /// What never became durable.
    pub(super) cut: Option<Stretch>,
    /// Bytes that count.
    pub(super) bytes: u64,
    /// Number of the last record that counts; the ends of groups have numbers, too.
    pub(super) last_number: u64,
    /// At least one group is complete.
    pub(super) has_group: bool,
}

/// Reads the frames behind the head (which ends at `from`).
pub(super) fn contents<L: FileLayer>(
    file: &L::File,
    spool: &Incarnation,
    (from, length): (u64, u64),
    last: u64,
    reach: Reach,
) -> Contents {
    match reach {
        Reach::Bytes(known) => sealed::<L>(file, spool, from, known.min(length), (last, known)),
        Reach::Tail => tail::<L>(file, spool, (from, length), last),
    }
}

fn sealed<L: FileLayer>(
    file: &L::File,
    spool: &Incarnation,
    from: u64,
    end: u64,
    (last, known): (u64, u64),
) -> Contents {
    let mut contents = Contents { bytes: end, has_group: true, ..Contents::default() };
    for step in Walk::new(file, &spool.0, from, end, last, false) {
        match step {
            Step::Frame(found) => contents.take(found),
            Step::Bad(stretch) => contents.damage.push(stretch),
        }
    }
    if known > end {
        let stretch = Stretch { offset: end, bytes: known - end, why: "the file is shorter than it was" };
        contents.damage.push(stretch);
    }
    contents
}

/// The last group counts if it is complete; what lies before it was durable when it was written.
fn tail<L: FileLayer>(file: &L::File, spool: &Incarnation, (from, length): (u64, u64), last: u64) -> Contents {
    let steps: Vec<Step> = Walk::new(file, &spool.0, from, length, last, true).collect();
    let group = steps.iter().rev().find_map(|step| match step {
        Step::Frame(found) if found.header.kind == Kind::End => Some((first_of_group(found)?, found.header.number)),
        _ => None,
    });
    let Some((first, end)) = group else {
        return Contents { cut: stretch_from(from, length), bytes: from, ..Contents::default() };
    };
    let in_group = |step: &&Step| match step {
        Step::Frame(found) => found.payload_holds && (first..=end).contains(&found.header.number),
        Step::Bad(_) => false,
    };
    let complete = steps.iter().filter(in_group).count() as u64 == (end - first).saturating_add(1);
    let believed = if complete { end } else { first - 1 };
    let mut contents = Contents { bytes: from, has_group: complete, ..Contents::default() };
    let mut waiting = Vec::new();
    for step in steps {
        match step {
            Step::Frame(found) if found.header.number <= believed => {
                contents.bytes = found.offset + found.header.frame_bytes();
                contents.has_group = true;
                contents.damage.append(&mut waiting);
                contents.take(found);
            }
            Step::Frame(_) => break,
            // Damage if something that counts comes after it.
            Step::Bad(stretch) => waiting.push(stretch),
        }
    }
    contents.cut = stretch_from(contents.bytes, length);
    contents
}

fn first_of_group(end: &Found) -> Option<u64> {
    let mut reader = Reader(&end.meta);
    let first = reader.u64()?;
    reader.done(first).filter(|first| (1..=end.header.number).contains(first))
}

fn stretch_from(offset: u64, length: u64) -> Option<Stretch> {
    let why = "it was not synced when the collector ended";
    (length > offset).then(|| Stretch { offset, bytes: length - offset, why })
}

impl Contents {
    fn take(&mut self, found: Found) {
        if !found.payload_holds {
            let why = "the checksum of a payload does not hold";
            self.damage.push(Stretch { offset: found.offset, bytes: found.header.frame_bytes(), why });
        }
        self.last_number = self.last_number.max(found.header.number);
        if found.header.kind != Kind::End && (found.payload_holds || found.header.kind != Kind::Checkpoint) {
            self.frames.push(found);
        }
    }
}
