//! Rot at rest: whatever bit flips, what is lost is said, and no number is used twice.

use std::collections::BTreeMap;

use proptest::prelude::*;
use spikewatch_collector::spool::{Error, Opened, Pair, Recovered, Spool, file_layer::FileLayer as _, memory::Memory};

use crate::world::{Batch, SHARD_LIST, World, batches_of, small};

/// A spool of several segments, all of it synced: slices, marks, pairs, a merged and a dropped slice, two incarnations.
fn varied() -> World {
    let mut world = World::new(1, small());
    for step in 0u64..24 {
        world.slice(900 * (step / 8), &SHARD_LIST, 150);
        world.checkpoint();
        if step % 5 == 0 {
            world.mark(0, 0, step);
        }
        if step == 12 {
            world.trim(0, 1, Pair { bucket: 0, seq: 6 });
            world.spool().give_up(2).unwrap();
        }
        if step == 17 {
            world.roll();
        }
        world.sync().unwrap();
    }
    world.spool = None;
    world
}

/// The files of a disk, on another one.
fn copy(memory: &Memory) -> Memory {
    let copy = Memory::new(1);
    for (name, _) in memory.list().unwrap() {
        copy.put(&name, &memory.contents(&name).unwrap());
    }
    copy
}

fn open(memory: &Memory) -> (Spool<Memory>, Recovered) {
    Spool::open(small(), memory.handle(), || [99; 16]).unwrap()
}

/// True if the opening said that something is wrong.
fn is_said(recovered: &Recovered) -> bool {
    !recovered.cut.is_empty() || !recovered.damage.is_empty() || matches!(recovered.opened, Opened::Renumbered { .. })
}

fn verify(world: &World, memory: &Memory) {
    let (spool, recovered) = open(memory);
    let before = world.standing();
    let mut found: BTreeMap<Batch, usize> = BTreeMap::new();
    let mut damaged: Vec<Batch> = Vec::new();
    for ((slice_no, slice), (meta, _)) in spool.stream(0).zip(spool.slices()) {
        match slice {
            Ok(slice) => batches_of(&slice.payload).into_iter().for_each(|batch| *found.entry(batch).or_default() += 1),
            Err(Error::Damaged { path, .. }) => {
                assert!(path.to_str().unwrap().ends_with(".spool"));
                damaged.extend(
                    meta.parts
                        .iter()
                        .flat_map(|part| (part.first_seq..=part.seq).map(|seq| (meta.incarnation, part.shard, seq))),
                );
            }
            Err(error) => panic!("slice {slice_no}: {error}"),
        }
    }
    let said = is_said(&recovered);
    for (batch @ (incarnation, shard, seq), (_, bucket)) in &world.batches {
        let numbering = recovered.numberings.iter().find(|numbering| numbering.incarnation == *incarnation);
        let stones = numbering.iter().flat_map(|numbering| &numbering.tombstones);
        let buried =
            stones.filter(|stone| stone.shard == *shard && (stone.first_seq..=stone.last_seq).contains(seq)).count();
        let slices = found.get(batch).copied().unwrap_or(0);
        assert!(slices <= 1, "{batch:?} is there {slices} times");
        let (_, shards) = before.numberings.iter().find(|(name, _)| name == incarnation).unwrap();
        let counted = shards[*shard as usize].2.covers(*bucket, *seq);
        let cut = !recovered.cut.is_empty();
        let accounted = counted || slices + buried > 0 || damaged.contains(batch) || cut;
        assert!(accounted || matches!(recovered.opened, Opened::Renumbered { .. }), "{batch:?} is gone unsaid");
    }
    // What was in force before is, or it is said that it is not.
    for (incarnation, shards) in &before.numberings {
        let Some(numbering) = recovered.numberings.iter().find(|numbering| numbering.incarnation == *incarnation)
        else {
            assert!(said, "{incarnation} is gone unsaid");
            continue;
        };
        let is_live = recovered.numberings.last() == Some(numbering);
        for (shard, (next, sent, pair)) in shards.iter().enumerate() {
            let (found_next, found_sent) = (numbering.next_seq[shard], numbering.sent[shard]);
            assert!(!is_live || found_next >= *next || !recovered.cut.is_empty(), "a number would be given twice");
            assert!(
                found_sent >= *sent || !recovered.cut.is_empty() || found_sent + 1 == found_next,
                "a mark went back"
            );
            assert!(numbering.trimmed[shard].seq <= pair.seq, "a pair was made up");
        }
    }
    let newest = recovered.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.is_newest);
    let same = recovered.checkpoint.as_ref().map(|checkpoint| checkpoint.bytes.to_vec()) == before.checkpoint;
    assert!(same || !newest || !recovered.cut.is_empty(), "an old check-point passes for the newest");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn rot_is_said_and_costs_only_what_it_hit(flips in proptest::collection::vec((any::<u32>(), any::<u64>(), 0u8..8), 1..4)) {
        let world = varied();
        let memory = copy(&world.memory);
        for (file, offset, bit) in flips {
            let files = memory.list().unwrap();
            let (name, length) = files[file as usize % files.len()].clone();
            memory.flip(&name, offset % length.max(1), bit);
        }
        verify(&world, &memory);
    }

    #[test]
    fn any_bytes_in_place_of_a_segment_are_survived(
        which in 0usize..4, bytes in proptest::collection::vec(any::<u8>(), 0..400), keep in 0usize..600,
    ) {
        let world = varied();
        let memory = copy(&world.memory);
        let names: Vec<String> =
            memory.list().unwrap().into_iter().map(|(name, _)| name).filter(|name| name.ends_with(".spool")).collect();
        let name = &names[which % names.len()];
        let mut content = memory.contents(name).unwrap();
        content.truncate(keep);
        content.extend(bytes);
        memory.put(name, &content);
        verify(&world, &memory);
    }
}

/// Every single bit of the middle of a spool, one after another.
#[test]
fn each_byte_of_a_small_spool_may_rot() {
    let mut world = World::new(1, small());
    for _ in 0..6 {
        world.slice(0, &[0, 2], 10);
        world.checkpoint();
        world.mark(0, 0, 100);
        world.sync().unwrap();
    }
    world.spool = None;
    for (name, length) in world.memory.list().unwrap() {
        for offset in 0..length {
            let memory = copy(&world.memory);
            memory.flip(&name, offset, (offset % 8) as u8);
            verify(&world, &memory);
        }
    }
}

#[test]
fn a_damaged_payload_is_found_when_read_and_named() {
    let mut world = World::new(1, small());
    for _ in 0..20 {
        world.slice(0, &SHARD_LIST, 200);
        world.sync().unwrap();
    }
    world.spool = None;
    // The last byte of the first segment's payloads, some way before its end.
    let (name, length) = world.memory.list().unwrap().into_iter().find(|(name, _)| name.ends_with(".spool")).unwrap();
    assert!(world.memory.flip(&name, length - 60, 0));
    let recovered = world.open().unwrap();
    assert_eq!((recovered.opened, recovered.slices.len()), (Opened::Resumed, 20));
    let bad: Vec<(u64, Error)> =
        world.spool().stream(0).filter_map(|(slice_no, slice)| Some((slice_no, slice.err()?))).collect();
    let [(slice_no, error)] = bad.as_slice() else { panic!("{bad:?}") };
    let text = error.to_string();
    assert!(text.contains(&name) && text.contains("is damaged at byte"), "{text}");
    // It is given up, and the rest streams on.
    world.spool().give_up(*slice_no).unwrap();
    world.sync().unwrap();
    assert_eq!(world.spool().stream(0).filter(|(_, slice)| slice.is_ok()).count(), 19);
}

#[test]
fn the_newest_head_being_lost_begins_a_new_incarnation_and_the_rest_drains() {
    let mut world = varied();
    let (name, _) = world.memory.list().unwrap().into_iter().rfind(|(name, _)| name.ends_with(".spool")).unwrap();
    world.memory.flip(&name, 40, 3);
    let before = world.standing().numberings.last().unwrap().0;
    let recovered = world.open().unwrap();
    assert!(matches!(recovered.opened, Opened::Renumbered { .. }), "{:?}", recovered.opened);
    assert_ne!(recovered.numberings.last().unwrap().incarnation, before);
    assert!(recovered.slices.len() > 15, "{}", recovered.slices.len());
    for numbering in recovered.numberings.iter().rev().skip(1) {
        let sent: Vec<u64> = numbering.next_seq.iter().map(|next| next - 1).collect();
        assert_eq!(numbering.sent, sent, "all of it counts as perhaps sent");
    }
    assert!(!recovered.checkpoint.unwrap().is_newest);
}
