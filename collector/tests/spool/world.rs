//! What a spool should hold: every batch that was appended, in order, and what stood after each.

use std::collections::BTreeMap;

use spikewatch_collector::spool::{
    Error, Incarnation, Merged, Numbering, Options, Owner, Pair, Part, Record, Recovered, Shape, SliceMeta, Spool,
    StoredSlice, memory::Memory,
};

pub(crate) const SHARDS: u32 = 3;
pub(crate) const SHARD_LIST: [u32; SHARDS as usize] = [0, 1, 2];

/// Names a batch.
pub(crate) type Batch = (Incarnation, u32, u64);

/// Of one shard: next number, mark, pair.
pub(crate) type Numbers = (u64, u64, Pair);

/// The small part of what stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// By shard, in the order of their beginning.
    pub(crate) numberings: Vec<(Incarnation, Vec<Numbers>)>,
    pub(crate) checkpoint: Option<Vec<u8>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) memory: Memory,
    pub(crate) spool: Option<Spool<Memory>>,
    /// Batch → (its place in the history, its bucket).
    pub(crate) batches: BTreeMap<Batch, (usize, u64)>,
    /// After each append.
    pub(crate) history: Vec<Standing>,
    /// What was said to be durable.
    pub(crate) acked: usize,
    pub(crate) next_slice: u64,
    ids: u8,
}

pub(crate) fn owner() -> Owner {
    let shape = Shape { shards: SHARDS, bucket_seconds: 900, hash_id: 1, protocol_version: 1 };
    Owner { site: "berlin".into(), collector: "edge-1".into(), shape }
}

/// A small spool: segments of a few records, a budget of a few segments.
pub(crate) fn small() -> Options {
    Options {
        segment_bytes: 2_000,
        budget_bytes: 12_000,
        merge_bytes: 3_000,
        keep_trimmed_ms: 1_000,
        ..Options::new(owner())
    }
}

/// A payload that tells which batches are in it: (incarnation, shard, seq), 28 bytes each, and as much again so that
/// segments fill.
pub(crate) fn payload(batches: &[Batch], filling: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (incarnation, shard, seq) in batches {
        bytes.extend_from_slice(&incarnation.0);
        bytes.extend_from_slice(&shard.to_le_bytes());
        bytes.extend_from_slice(&seq.to_le_bytes());
    }
    let mut all = (batches.len() as u32).to_le_bytes().to_vec();
    all.extend(bytes);
    // Something that zstd can't make nothing of.
    let mut noise = 0x9e37_79b9_u32.wrapping_mul(batches.len() as u32 + 1);
    all.extend((0..filling).map(|_| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    }));
    all
}

pub(crate) fn batches_of(payload: &[u8]) -> Vec<Batch> {
    let count = u32::from_le_bytes(payload[..4].try_into().unwrap()) as usize;
    let entry = |bytes: &[u8]| {
        let incarnation = Incarnation(bytes[..16].try_into().unwrap());
        let shard = u32::from_le_bytes(bytes[16..20].try_into().unwrap());
        (incarnation, shard, u64::from_le_bytes(bytes[20..].try_into().unwrap()))
    };
    payload[4..4 + 28 * count].chunks(28).map(entry).collect()
}

/// Merges such payloads.
pub(crate) fn merge(slices: &[StoredSlice]) -> Result<Merged, String> {
    let batches: Vec<Batch> = slices.iter().flat_map(|slice| batches_of(&slice.payload)).collect();
    let mut rows = BTreeMap::new();
    batches.iter().for_each(|(_, shard, _)| *rows.entry(*shard).or_insert(0) += 1);
    Ok(Merged { payload: payload(&batches, 20), rows })
}

fn standing_of(numberings: &[Numbering], checkpoint: Option<&[u8]>) -> Standing {
    let shards = |numbering: &Numbering| {
        let zipped = numbering.next_seq.iter().zip(&numbering.sent).zip(&numbering.trimmed);
        zipped.map(|((next, sent), pair)| (*next, *sent, *pair)).collect()
    };
    Standing {
        numberings: numberings.iter().map(|numbering| (numbering.incarnation, shards(numbering))).collect(),
        checkpoint: checkpoint.map(<[u8]>::to_vec),
    }
}

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        let memory = Memory::new(seed);
        let mut world = Self {
            options,
            memory,
            spool: None,
            batches: BTreeMap::new(),
            history: Vec::new(),
            acked: 0,
            next_slice: 1,
            ids: 0,
        };
        let recovered = world.open().unwrap();
        world.history = vec![standing_of(&recovered.numberings, None)];
        world
    }

    /// Opens the spool, whatever is there.
    pub(crate) fn open(&mut self) -> Result<Recovered, Error> {
        self.spool = None;
        let ids = &mut self.ids;
        let random = || {
            *ids += 1;
            [*ids; 16]
        };
        let (spool, recovered) = Spool::open(self.options.clone(), self.memory.handle(), random)?;
        self.spool = Some(spool);
        Ok(recovered)
    }

    pub(crate) fn spool(&mut self) -> &mut Spool<Memory> {
        self.spool.as_mut().unwrap()
    }

    pub(crate) fn standing(&self) -> &Standing {
        self.history.last().unwrap()
    }

    fn enter(&mut self, change: impl FnOnce(&mut Standing)) {
        let mut standing = self.standing().clone();
        change(&mut standing);
        self.history.push(standing);
    }

    /// Appends a slice with a batch for each of `shards`, ascending.
    pub(crate) fn slice(&mut self, bucket: u64, shards: &[u32], filling: usize) {
        self.slice_of(self.standing().numberings.len() - 1, bucket, shards, filling);
    }

    /// The live numbering, or, if that has no slices yet, `before` it.
    pub(crate) fn numbering_of_next_slice(&mut self, before: bool) -> usize {
        let active = self.active();
        let last = self.standing().numberings.len() - 1;
        let is_unused = self.standing().numberings[last].1.iter().all(|(next, ..)| *next == 1);
        if before && is_unused && last > 0 && active.contains(&(last - 1)) { last - 1 } else { last }
    }

    /// Appends a slice with a batch of that numbering for each of `shards`, ascending.
    pub(crate) fn slice_of(&mut self, numbering: usize, bucket: u64, shards: &[u32], filling: usize) {
        let (incarnation, lines) = self.standing().numberings[numbering].clone();
        let part = |shard: u32| {
            let seq = lines[shard as usize].0;
            Part { shard, rows: 1, first_seq: seq, seq, events: seq, bytes: 100 * seq }
        };
        let parts: Vec<Part> = shards.iter().map(|shard| part(*shard)).collect();
        let batches: Vec<Batch> = parts.iter().map(|part| (incarnation, part.shard, part.seq)).collect();
        let slice_no = self.next_slice;
        let meta = SliceMeta { slice_no, incarnation, start: bucket, bucket, parts };
        let payload = payload(&batches, filling);
        self.spool().append(&Record::Slice { meta, payload: &payload }).unwrap();
        self.next_slice += 1;
        self.enter(|standing| {
            let lines = &mut standing.numberings[numbering].1;
            shards.iter().for_each(|shard| lines[*shard as usize].0 += 1);
        });
        let place = self.history.len() - 1;
        self.batches.extend(batches.into_iter().map(|batch| (batch, (place, bucket))));
    }

    /// Says that a shard's batches up to `seq` (of those there are) may have been sent.
    pub(crate) fn mark(&mut self, numbering: usize, shard: u32, seq: u64) {
        let (incarnation, shards) = self.standing().numberings[numbering].clone();
        let seq = seq.min(shards[shard as usize].0 - 1);
        self.spool().append(&Record::Mark { incarnation, sent: vec![(shard, seq)] }).unwrap();
        self.enter(|standing| {
            let mark = &mut standing.numberings[numbering].1[shard as usize].1;
            *mark = (*mark).max(seq);
        });
    }

    /// Moves a shard's pair.
    pub(crate) fn trim(&mut self, numbering: usize, shard: u32, pair: Pair) {
        let (incarnation, shards) = self.standing().numberings[numbering].clone();
        let (next, _, old) = shards[shard as usize];
        let pair = Pair { bucket: pair.bucket.max(old.bucket), seq: pair.seq.min(next - 1).max(old.seq) };
        self.spool().append(&Record::Trimmed { incarnation, pairs: vec![(shard, pair)] }).unwrap();
        self.enter(|standing| standing.numberings[numbering].1[shard as usize].2 = pair);
    }

    pub(crate) fn checkpoint(&mut self) {
        let bytes = format!("position {}", self.history.len()).into_bytes();
        self.spool().append(&Record::Checkpoint(&bytes)).unwrap();
        self.enter(|standing| standing.checkpoint = Some(bytes));
    }

    pub(crate) fn roll(&mut self) {
        if self.spool().numberings().len() == spikewatch_collector::spool::MAX_NUMBERINGS {
            return;
        }
        self.ids += 1;
        let incarnation = Incarnation([self.ids; 16]);
        self.spool().append(&Record::Rolled { incarnation }).unwrap();
        self.enter(|standing| {
            standing.numberings.push((incarnation, vec![(1, 0, Pair::default()); SHARDS as usize]));
        });
    }

    /// Syncs; what was appended before is then durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.spool().sync()?;
        self.acked = self.history.len() - 1;
        Ok(())
    }

    /// Numberings that the spool has not retired, by their place in the standing.
    pub(crate) fn active(&mut self) -> Vec<usize> {
        let known: Vec<Incarnation> = self.spool().numberings().iter().map(|n| n.incarnation).collect();
        let places = self.standing().numberings.iter().enumerate();
        places.filter(|(_, (incarnation, _))| known.contains(incarnation)).map(|(place, _)| place).collect()
    }

    /// The machine goes down, comes up, and the spool is opened: what is there must be what stood after some append that
    /// is no older than the last success. The world goes on from there.
    pub(crate) fn crash(&mut self) {
        self.spool = None;
        self.memory.crash();
        let recovered = self.open().unwrap();
        assert_eq!((&recovered.damage, &recovered.missing), (&Vec::new(), &Vec::new()), "a crash damages nothing");
        let checkpoint = recovered.checkpoint.as_ref().map(|checkpoint| &*checkpoint.bytes);
        let found = standing_of(&recovered.numberings, checkpoint);
        let fits = |standing: &Standing| {
            standing.checkpoint == found.checkpoint
                && standing.numberings.last() == found.numberings.last()
                && found.numberings.iter().all(|numbering| standing.numberings.contains(numbering))
        };
        let from = self.acked;
        let place = (from..self.history.len()).rev().find(|place| fits(&self.history[*place]));
        let place = place.unwrap_or_else(|| panic!("{found:?}\nis nothing since\n{:?}", &self.history[from..]));
        self.history.truncate(place + 1);
        self.batches.retain(|_, (appended, _)| *appended <= place);
        self.acked = place;
        self.next_slice =
            recovered.slices.iter().map(|slice| slice.meta.slice_no).max().unwrap_or(0).max(self.next_slice) + 1;
        self.check();
    }

    /// Every batch is in one slice, or under a tombstone, or counted; nothing else is there.
    pub(crate) fn check(&mut self) {
        let standing = self.standing().clone();
        let spool = self.spool.as_ref().unwrap();
        let mut found: BTreeMap<Batch, usize> = BTreeMap::new();
        for (slice_no, slice) in spool.stream(0) {
            let slice = slice.unwrap_or_else(|error| panic!("slice {slice_no}: {error}"));
            for batch in batches_of(&slice.payload) {
                assert!(self.batches.contains_key(&batch), "{batch:?} was never appended");
                let is_in_meta = slice
                    .meta
                    .parts
                    .iter()
                    .any(|part| part.shard == batch.1 && (part.first_seq..=part.seq).contains(&batch.2));
                assert!(is_in_meta, "{batch:?} is not in {:?}", slice.meta);
                *found.entry(batch).or_default() += 1;
            }
        }
        for (batch @ (incarnation, shard, seq), (_, bucket)) in &self.batches {
            let numbering = standing.numberings.iter().find(|(name, _)| name == incarnation).unwrap();
            let counted = numbering.1[*shard as usize].2.covers(*bucket, *seq);
            let known = spool.numberings().iter().find(|numbering| numbering.incarnation == *incarnation);
            let stones = known.iter().flat_map(|numbering| &numbering.tombstones);
            let buried = stones
                .filter(|stone| stone.shard == *shard && (stone.first_seq..=stone.last_seq).contains(seq))
                .count();
            let slices = found.get(batch).copied().unwrap_or(0);
            assert!(slices + buried <= 1, "{batch:?} is in {slices} slices and {buried} tombstones");
            assert!(counted || slices + buried == 1, "{batch:?} is gone");
        }
    }
}
