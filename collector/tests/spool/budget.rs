//! What is given up when there is no room, in which order, and what is never merged.

use spikewatch_collector::spool::{Options, Pair, Relief, memory::Faults};

use crate::world::{SHARD_LIST, World, merge, small};

fn kinds(reliefs: &[Relief]) -> String {
    let kind = |relief: &Relief| match relief {
        Relief::Forgot { .. } => 'f',
        Relief::Coarsened { .. } => 'c',
        Relief::Dropped { .. } => 'd',
    };
    let mut kinds: Vec<char> = reliefs.iter().map(kind).collect();
    kinds.dedup();
    kinds.into_iter().collect()
}

/// Slices of 450 bytes on the disk, synced one by one.
fn fill(world: &mut World, bucket: u64, count: usize) {
    for _ in 0..count {
        world.slice(bucket, &SHARD_LIST, 200);
        world.sync().unwrap();
    }
}

#[test]
fn counted_segments_go_first_then_detail_then_the_oldest() {
    let mut world = World::new(1, small());
    fill(&mut world, 0, 30);
    for shard in SHARD_LIST {
        world.trim(0, shard, Pair { bucket: 0, seq: 10 });
    }
    world.sync().unwrap();
    fill(&mut world, 900, 5);
    assert!(world.spool().is_over_budget());
    let reliefs = world.spool().relieve(&mut merge).unwrap();
    // Merging empties a segment that had counted slices, too: then that goes.
    assert!(matches!(kinds(&reliefs).as_str(), "fc" | "fcf"), "{reliefs:?}");
    assert_eq!(world.spool().counts().dropped_slices, 0);
    world.check();
    // Every bucket is another: nothing can be merged any more.
    for bucket in 1..60 {
        fill(&mut world, 900 * (bucket + 1), 1);
    }
    let reliefs = world.spool().relieve(&mut merge).unwrap();
    assert!(kinds(&reliefs).ends_with('d'), "{reliefs:?}");
    let dropped: Vec<u64> = reliefs
        .iter()
        .filter_map(|relief| match relief {
            Relief::Dropped { slice } => Some(slice.slice_no),
            _ => None,
        })
        .collect();
    let kept = world.spool().slices().find(|(_, trimmed)| !trimmed).map(|(meta, _)| meta.slice_no).unwrap();
    assert!(
        dropped.is_sorted() && dropped.iter().all(|slice_no| *slice_no < kept),
        "the oldest go: {dropped:?}, {kept}"
    );
    assert!(!world.spool().is_over_budget());
    world.check();
    world.crash();
}

#[test]
fn what_may_have_been_sent_is_dropped_but_never_merged() {
    let mut world = World::new(2, small());
    fill(&mut world, 0, 12);
    world.mark(0, 1, 7);
    world.sync().unwrap();
    fill(&mut world, 0, 30);
    let reliefs = world.spool().relieve(&mut merge).unwrap();
    assert!(!reliefs.is_empty());
    for relief in &reliefs {
        if let Relief::Coarsened { into, .. } = relief {
            assert!(into.parts.iter().all(|part| part.first_seq > 7), "{into:?}");
            assert_eq!(into.parts.iter().map(|part| part.seq).min(), into.parts.iter().map(|part| part.seq).max());
        }
    }
    world.check();
    world.crash();
}

#[test]
fn what_was_lost_is_counted_exactly_and_its_tombstones_grow_together() {
    let mut world = World::new(3, small());
    for bucket in 0..200 {
        fill(&mut world, 900 * bucket, 1);
        world.spool().relieve(&mut merge).unwrap();
    }
    let counts = world.spool().counts();
    assert!(counts.dropped_slices > 100);
    // Batch n counts n events and 100 n bytes, in each of three shards.
    let lost: u64 = (1..=counts.dropped_slices).sum();
    assert_eq!((counts.dropped_events, counts.dropped_bytes), (3 * lost, 300 * lost));
    let stones = &world.spool().numberings()[0].tombstones;
    assert_eq!(stones.len(), 3, "one a shard: {stones:?}");
    assert!(stones.iter().all(|stone| stone.events == lost && stone.buckets.len() as u64 == counts.dropped_slices));
    world.check();
}

#[test]
fn the_number_of_slices_has_a_limit_too() {
    let mut world = World::new(4, Options { max_slices: 10, budget_bytes: 1 << 30, ..small() });
    for bucket in 0..30 {
        fill(&mut world, 900 * bucket, 1);
    }
    world.spool().relieve(&mut merge).unwrap();
    assert_eq!(world.spool().slices().count(), 10);
    world.check();
}

#[test]
fn a_full_disk_costs_the_oldest_segment_and_goes_on() {
    let mut world = World::new(5, small());
    fill(&mut world, 0, 20);
    let capacity = world.spool().bytes() + 100;
    world.memory.set_faults(Faults { capacity, ..Faults::default() });
    world.slice(0, &SHARD_LIST, 200);
    let error = world.sync().unwrap_err();
    assert!(error.is_no_space(), "{error}");
    world.check();
    let reliefs = world.spool().make_room().unwrap();
    assert_eq!(kinds(&reliefs), "d");
    world.acked = world.history.len() - 1;
    world.check();
    world.crash();
}

#[test]
fn nothing_is_given_up_within_the_budget() {
    let mut world = World::new(6, small());
    fill(&mut world, 0, 10);
    assert!(!world.spool().is_over_budget());
    assert_eq!(world.spool().relieve(&mut merge).unwrap(), Vec::new());
}

#[test]
fn merging_gains_room_only_in_detail() {
    let mut world = World::new(7, small());
    fill(&mut world, 0, 40);
    let events = |world: &mut World| -> u64 {
        world.spool().slices().flat_map(|(meta, _)| &meta.parts).map(|part| part.events).sum()
    };
    let before = events(&mut world);
    let reliefs = world.spool().relieve(&mut merge).unwrap();
    assert_eq!(kinds(&reliefs), "c");
    assert_eq!(events(&mut world), before);
    assert!(world.spool().slices().count() < 40);
}
