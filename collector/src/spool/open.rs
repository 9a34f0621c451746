//! Opening a spool: recover what was durable, decide under which numbers to go on, begin a new segment.

use std::{io, sync::Arc};

use super::{
    Spool,
    error::Error,
    file_layer::FileLayer,
    marker,
    options::Options,
    packing::Packer,
    record::{Incarnation, SliceMeta, Tombstone},
    recover::{Damage, Directory, Recovery, recover},
    segment,
    standing::{MAX_NUMBERINGS, Numbering, Standing},
    state::State,
    waiting::Waiting,
    writing::Counts,
};

/// The lock's file.
const LOCK: &str = "lock";

/// How a spool was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// There was none; it is made.
    New,
    /// Its numbering goes on.
    Resumed,
    /// Its numbering can't be trusted to go on: there is a new incarnation. What can be read of the old one drains.
    Renumbered {
        /// Why.
        why: &'static str,
    },
}

/// A check-point that was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// As it was appended.
    pub bytes: Arc<[u8]>,
    /// False if a newer one may have been lost to damage: sources that start from it may read again what is in the spool.
    pub is_newest: bool,
}

/// A slice that was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredSlice {
    /// What it is.
    pub meta: SliceMeta,
    /// Wholly counted; kept in case the store goes back.
    pub trimmed: bool,
    /// What it takes on the disk.
    pub bytes: u64,
}

/// What was in the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// How it was found.
    pub opened: Opened,
    /// Next numbers, marks, pairs and tombstones of each incarnation, oldest first; the last one is live.
    pub numberings: Vec<Numbering>,
    /// Slices, ascending.
    pub slices: Vec<RecoveredSlice>,
    /// The highest number that a slice ever had; 0 if none.
    pub last_slice: u64,
    /// The newest check-point.
    pub checkpoint: Option<Checkpoint>,
    /// What was not yet synced when the collector ended, and is gone.
    pub cut: Vec<Damage>,
    /// What was durable and can't be read.
    pub damage: Vec<Damage>,
    /// Numbers that were lost with it, per incarnation: tombstones stand for them now.
    pub missing: Vec<(Incarnation, Tombstone)>,
}

impl<L: FileLayer> Spool<L> {
    /// Opens the spool of a directory, or makes one. `random` gives ids: an incarnation and the spool's own.
    ///
    /// # Errors
    /// Another process has it; it is another collector's or cluster's; a later version wrote it; the file system refuses.
    /// Nothing that counts was changed then.
    pub fn open(
        options: Options,
        mut files: L,
        mut random: impl FnMut() -> [u8; 16],
    ) -> Result<(Self, Recovered), Error> {
        files.lock(LOCK).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => Error::Locked(files.path(LOCK)),
            _ => Error::Io { doing: "lock", path: files.path(LOCK), source },
        })?;
        let (directory, newest) = recover(&files, Some(&options.owner))?;
        let mut random = || Incarnation(random());
        let (recovery, opened) = match directory {
            Directory::Spool(recovery) => (*recovery, Opened::Resumed),
            Directory::Empty => (Recovery::fresh(&options, random(), random()), Opened::New),
            Directory::Lost(damage) => {
                set_aside(&files)?;
                let why = "a spool was here, but nothing of it can be read";
                let recovery = Recovery { damage, ..Recovery::fresh(&options, random(), random()) };
                (recovery, Opened::Renumbered { why })
            }
        };
        Self::resume(options, files, recovery, (newest, opened), random)
    }

    fn resume(
        options: Options,
        files: L,
        recovery: Recovery,
        (newest, mut opened): (u64, Opened),
        mut random: impl FnMut() -> Incarnation,
    ) -> Result<(Self, Recovered), Error> {
        let Recovery { spool, mut state, segments, cut, damage, doubt, void, .. } = recovery;
        if let Some(why) = doubt {
            renumber(&mut state, random())?;
            opened = Opened::Renumbered { why };
        }
        state.retire();
        let missing = bury_missing(&mut state);
        let checkpoint = state.standing.checkpoint.clone();
        let recovered = Recovered {
            opened,
            numberings: state.standing.numberings.clone(),
            slices: state
                .slices
                .values()
                .map(|kept| RecoveredSlice { meta: kept.meta.clone(), trimmed: kept.trimmed, bytes: kept.place.bytes })
                .collect(),
            last_slice: state.standing.last_slice,
            checkpoint: checkpoint.map(|bytes| Checkpoint { bytes, is_newest: doubt.is_none() }),
            cut,
            damage,
            missing,
        };
        let mut opened = Self {
            packer: Packer::new(options.pack),
            files,
            options,
            id: spool,
            durable: state.standing.clone(),
            state,
            segments,
            active: None,
            newest: 0,
            next_segment: newest + 1,
            waiting: Waiting::default(),
            counts: Counts::default(),
        };
        opened.commit()?;
        opened.mark_and_tidy(&void)?;
        Ok((opened, recovered))
    }

    /// The new segment is durable: the directory can say that it is a spool, and what never counted can go.
    fn mark_and_tidy(&mut self, void: &[u64]) -> Result<(), Error> {
        let io = |source| Error::Io { doing: "write", path: self.files.path(marker::NAME), source };
        if !matches!(marker::read(&self.files), Ok(Some(Some(id))) if id == self.id) {
            marker::write(&self.files, self.id).map_err(io)?;
        }
        for number in void {
            // What stays is void the next time, too.
            let _ = self.files.remove(&segment::name(*number));
        }
        self.delete_idle()
    }
}

impl Recovery {
    fn fresh(options: &Options, spool: Incarnation, incarnation: Incarnation) -> Self {
        Self {
            spool,
            owner: options.owner.clone(),
            state: State {
                standing: Standing::new(options.owner.shape.shards, incarnation),
                slices: Default::default(),
            },
            segments: Default::default(),
            cut: Vec::new(),
            damage: Vec::new(),
            doubt: None,
            void: Vec::new(),
        }
    }
}

/// Segments of which nothing can be used stay for whoever wants to look, under a name that is no segment's.
fn set_aside<L: FileLayer>(files: &L) -> Result<(), Error> {
    let io = |doing, name: &str, source| Error::Io { doing, path: files.path(name), source };
    let listed = files.list().map_err(|source| io("list", "", source))?;
    for (name, _) in listed.iter().filter(|(name, _)| segment::number(name).is_some()) {
        files.rename(name, &format!("{name}.damaged")).map_err(|source| io("rename", name, source))?;
    }
    files.sync_dir().map_err(|source| io("sync the directory of", "", source))
}

/// Goes on under a new incarnation. What is left of the others may all have been sent.
fn renumber(state: &mut State, incarnation: Incarnation) -> Result<(), Error> {
    state.retire();
    let numberings = &mut state.standing.numberings;
    for numbering in numberings.iter_mut() {
        numbering.sent = numbering.next_seq.iter().map(|next| next.saturating_sub(1)).collect();
    }
    if numberings.len() >= MAX_NUMBERINGS {
        return Err(Error::Refused("it is damaged, and as many incarnations as may be drain already"));
    }
    numberings.push(Numbering::new(incarnation, state.standing.shards));
    Ok(())
}

/// Numbers that no slice, tombstone or pair accounts for were lost with damaged or vanished segments: the owner of their
/// shard is to know.
fn bury_missing(state: &mut State) -> Vec<(Incarnation, Tombstone)> {
    let mut missing = Vec::new();
    let slices = &state.slices;
    for numbering in &mut state.standing.numberings {
        let mut accounted: Vec<Vec<(u64, u64)>> = vec![Vec::new(); numbering.next_seq.len()];
        let own = slices.values().filter(|kept| kept.meta.incarnation == numbering.incarnation);
        let parts = own.flat_map(|kept| &kept.meta.parts).map(|part| (part.shard, part.first_seq, part.seq));
        let buried = numbering.tombstones.iter().map(|stone| (stone.shard, stone.first_seq, stone.last_seq));
        for (shard, first, last) in parts.chain(buried) {
            if let Some(accounted) = accounted.get_mut(shard as usize) {
                accounted.push((first, last));
            }
        }
        let mut found = Vec::new();
        for (shard, mut accounted) in (0u32..).zip(accounted) {
            let at = shard as usize;
            let mut expected = numbering.trimmed.get(at).map_or(0, |pair| pair.seq).saturating_add(1);
            accounted.sort_unstable();
            let end = numbering.next_seq.get(at).copied().unwrap_or(1);
            for (first, last) in accounted.into_iter().chain([(end, end)]) {
                if first > expected {
                    let (first_seq, last_seq) = (expected, first - 1);
                    let buckets = Vec::new();
                    found.push(Tombstone { shard, first_seq, last_seq, buckets, events: 0, bytes: 0 });
                }
                expected = expected.max(last.saturating_add(1));
            }
        }
        for tombstone in found {
            numbering.bury(tombstone.clone());
            missing.push((numbering.incarnation, tombstone));
        }
    }
    missing
}
