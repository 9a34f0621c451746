//! One test for each thing that went, or could go, wrong.

use spikewatch_collector::spool::{
    Error, Incarnation, MAX_NUMBERINGS, Opened, Options, Owner, Pair, Part, Record, Shape, SliceMeta, Spool,
    file_layer::FileLayer as _, memory::Faults,
};

use crate::world::{SHARD_LIST, World, batches_of, merge, owner, small};

fn segments(world: &World) -> Vec<String> {
    let names = world.memory.list().unwrap().into_iter().map(|(name, _)| name);
    names.filter(|name| name.ends_with(".spool")).collect()
}

#[test]
fn a_new_spool_says_so_and_an_old_one_goes_on() {
    let mut world = World::new(1, small());
    let first = world.spool().numberings()[0].incarnation;
    world.slice(0, &SHARD_LIST, 0);
    world.sync().unwrap();
    let recovered = world.open().unwrap();
    assert_eq!(recovered.opened, Opened::Resumed);
    assert_eq!(recovered.numberings[0].incarnation, first);
    assert_eq!(recovered.numberings[0].next_seq, [2, 2, 2]);
    assert_eq!((recovered.slices.len(), recovered.cut, recovered.damage), (1, vec![], vec![]));
}

#[test]
fn a_spool_whose_segments_are_gone_is_not_a_new_one() {
    let mut world = World::new(1, small());
    let before = world.spool().numberings()[0].incarnation;
    segments(&world).iter().for_each(|name| world.memory.remove(name).unwrap());
    let recovered = world.open().unwrap();
    assert!(matches!(recovered.opened, Opened::Renumbered { .. }), "{:?}", recovered.opened);
    assert_ne!(recovered.numberings[0].incarnation, before);
}

#[test]
fn two_processes_do_not_share_a_spool() {
    let mut world = World::new(1, small());
    let second = Spool::open(small(), world.memory.handle(), || [9; 16]);
    assert!(matches!(second, Err(Error::Locked(_))), "{second:?}");
    assert_eq!(world.open().unwrap().opened, Opened::Resumed);
}

#[test]
fn the_spool_of_another_collector_or_cluster_is_refused_and_kept() {
    let shape = owner().shape;
    let others = [
        ("site", Owner { site: "paris".into(), ..owner() }),
        ("collector", Owner { collector: "edge-2".into(), ..owner() }),
        ("shards", Owner { shape: Shape { shards: 4, ..shape }, ..owner() }),
        ("bucket seconds", Owner { shape: Shape { bucket_seconds: 60, ..shape }, ..owner() }),
        ("hash id", Owner { shape: Shape { hash_id: 2, ..shape }, ..owner() }),
        ("protocol version", Owner { shape: Shape { protocol_version: 2, ..shape }, ..owner() }),
    ];
    let mut world = World::new(1, small());
    world.spool = None;
    let before = world.memory.list().unwrap();
    for (what, owner) in others {
        let refused = Spool::open(Options { owner, ..small() }, world.memory.handle(), || [9; 16]);
        let Err(Error::Mismatch { field, path, .. }) = refused else { panic!("{what}: {refused:?}") };
        assert_eq!((field, path.to_str().unwrap().ends_with(".spool")), (what, true));
    }
    assert_eq!(world.memory.list().unwrap(), before);
}

#[test]
fn numbers_outlive_the_segments_they_were_given_in() {
    let mut world = World::new(1, small());
    for _ in 0..20 {
        world.slice(0, &SHARD_LIST, 200);
        world.sync().unwrap();
    }
    world.mark(0, 2, 20);
    world.checkpoint();
    for shard in SHARD_LIST {
        world.trim(0, shard, Pair { bucket: 0, seq: 20 });
    }
    world.spool().maintain(0).unwrap();
    assert!(segments(&world).len() > 3, "counted segments stay for a while");
    world.spool().maintain(999).unwrap();
    assert!(segments(&world).len() > 3);
    world.spool().maintain(1_000).unwrap();
    assert_eq!(segments(&world).len(), 1, "but not for ever");
    world.acked = world.history.len() - 1;
    world.crash();
    let numbering = world.spool().numberings()[0].clone();
    assert_eq!((numbering.next_seq, numbering.sent), (vec![21; 3], vec![0, 0, 20]));
    assert_eq!(numbering.trimmed, [Pair { bucket: 0, seq: 20 }; 3]);
    assert!(world.spool().checkpoint().is_some());
}

#[test]
fn a_segment_whose_sync_failed_is_never_trusted_again() {
    for seed in 0..30 {
        let mut world = World::new(seed, small());
        world.slice(0, &SHARD_LIST, 100);
        world.sync().unwrap();
        let before = segments(&world).len();
        world.slice(0, &SHARD_LIST, 100);
        world.memory.set_faults(Faults { sync: 1_000, ..Faults::default() });
        assert!(world.sync().is_err());
        world.memory.set_faults(Faults::default());
        world.sync().unwrap();
        assert_eq!(segments(&world).len(), before + 1, "a new segment");
        world.slice(0, &SHARD_LIST, 100);
        world.sync().unwrap();
        world.crash();
        assert_eq!(world.spool().slices().count(), 3);
    }
}

/// The file of a spool may end at any byte of what was written last.
#[test]
fn a_group_is_there_as_a_whole_or_not_at_all_wherever_it_is_torn() {
    let mut world = World::new(1, Options { segment_bytes: 1 << 20, ..small() });
    world.slice(0, &SHARD_LIST, 50);
    world.checkpoint();
    world.sync().unwrap();
    let name = segments(&world).pop().unwrap();
    let durable = world.memory.contents(&name).unwrap().len();
    world.slice(0, &[1], 50);
    world.slice(900, &SHARD_LIST, 0);
    world.checkpoint();
    world.sync().unwrap();
    let whole = world.memory.contents(&name).unwrap();
    for length in durable..=whole.len() {
        let memory = spikewatch_collector::spool::memory::Memory::new(1);
        memory.put(&name, &whole[..length]);
        memory.put("spool.id", &world.memory.contents("spool.id").unwrap());
        let (spool, recovered) = Spool::open(small(), memory, || [9; 16]).unwrap();
        let slices = spool.slices().count();
        let checkpoint = String::from_utf8(recovered.checkpoint.unwrap().bytes.to_vec()).unwrap();
        let expected = if length == whole.len() { (3, "position 5") } else { (1, "position 2") };
        assert_eq!((slices, checkpoint.as_str()), expected, "cut at {length} of {}", whole.len());
        assert_eq!(recovered.cut.len(), usize::from(length > durable && length < whole.len()));
        assert!(recovered.cut.iter().all(|cut| cut.offset == durable as u64 && cut.bytes == (length - durable) as u64));
        assert_eq!((recovered.opened, recovered.damage, recovered.missing), (Opened::Resumed, vec![], vec![]));
    }
}

#[test]
fn a_segment_that_someone_deleted_is_missed() {
    let mut world = World::new(1, small());
    for _ in 0..20 {
        world.slice(0, &SHARD_LIST, 200);
        world.sync().unwrap();
    }
    let victim = segments(&world)[2].clone();
    world.spool = None;
    world.memory.remove(&victim).unwrap();
    let recovered = world.open().unwrap();
    assert_eq!(recovered.missing.len(), 3, "one tombstone a shard: {:?}", recovered.missing);
    let kept = recovered.slices.len() as u64;
    for (_, stone) in &recovered.missing {
        assert_eq!(stone.last_seq - stone.first_seq + 1, 20 - kept);
        assert_eq!((stone.events, stone.buckets.len()), (0, 0), "what was in it nobody knows");
    }
    // They are kept: the owners of the shards are to hear of it however often the collector starts.
    let again = world.open().unwrap();
    assert_eq!(again.opened, Opened::Resumed);
    assert_eq!((again.missing, again.numberings[0].tombstones.len()), (vec![], 3));
}

#[test]
fn a_record_that_contradicts_the_log_is_refused_and_changes_nothing() {
    let mut world = World::new(1, small());
    world.slice(0, &SHARD_LIST, 0);
    world.slice(0, &SHARD_LIST, 0);
    world.slice(900, &SHARD_LIST, 0);
    world.mark(0, 0, 1);
    let incarnation = world.spool().numberings()[0].incarnation;
    let other = Incarnation([77; 16]);
    let part = |shard, seq| Part { shard, rows: 1, first_seq: seq, seq, events: 1, bytes: 1 };
    let meta = |slice_no, parts| SliceMeta { slice_no, incarnation, start: 0, bucket: 0, parts };
    let slice = |meta| Record::Slice { meta, payload: &[] };
    let merged = |first: u64, last: u64, parts: Vec<Part>| Record::Coarsened {
        replaces: first..=last,
        meta: meta(last, parts),
        payload: &[],
    };
    let parts = |first_seq, seq| SHARD_LIST.map(|shard| Part { first_seq, ..part(shard, seq) }).to_vec();
    let refused = [
        slice(meta(3, vec![part(0, 4)])),
        slice(meta(9, vec![part(0, 3)])),
        slice(meta(9, vec![part(0, 5)])),
        slice(meta(9, vec![part(1, 4), part(0, 4)])),
        slice(meta(9, vec![part(3, 1)])),
        slice(SliceMeta { incarnation: other, ..meta(9, vec![part(0, 1)]) }),
        merged(1, 2, parts(1, 2)),
        merged(2, 3, parts(2, 3)),
        merged(2, 9, parts(2, 9)),
        Record::Mark { incarnation, sent: vec![(0, 4)] },
        Record::Mark { incarnation: other, sent: vec![] },
        Record::Trimmed { incarnation, pairs: vec![(0, Pair { bucket: 0, seq: 4 })] },
        Record::Trimmed { incarnation, pairs: vec![(3, Pair::default())] },
        Record::Dropped { incarnation, slices: vec![8], tombstones: vec![] },
        Record::Rolled { incarnation },
    ];
    for record in refused {
        let error = world.spool().append(&record);
        assert!(matches!(error, Err(Error::Refused(_))), "{record:?}: {error:?}");
    }
    world.sync().unwrap();
    world.crash();
    assert_eq!(world.spool().slices().count(), 3);
}

#[test]
fn what_was_dropped_amid_a_merged_batch_is_lost_once() {
    let mut world = World::new(1, small());
    for _ in 0..4 {
        world.slice(0, &[0], 0);
    }
    world.sync().unwrap();
    world.spool().give_up(2).unwrap();
    world.spool().coarsen(&[1, 3], &mut merge).unwrap();
    world.spool().give_up(3).unwrap();
    world.sync().unwrap();
    world.crash();
    let stones = &world.spool().numberings()[0].tombstones;
    assert_eq!(stones.len(), 1, "{stones:?}");
    let stone = &stones[0];
    assert_eq!((stone.first_seq, stone.last_seq, stone.events), (1, 3, 1 + 2 + 3));
}

#[test]
fn a_pair_never_goes_back() {
    let mut world = World::new(1, small());
    for bucket in [0, 900, 900] {
        world.slice(bucket, &[0], 0);
    }
    world.trim(0, 0, Pair { bucket: 900, seq: 2 });
    let incarnation = world.spool().numberings()[0].incarnation;
    let stale = Record::Trimmed { incarnation, pairs: vec![(0, Pair { bucket: 0, seq: 1 })] };
    world.spool().append(&stale).unwrap();
    assert_eq!(world.spool().numberings()[0].trimmed[0], Pair { bucket: 900, seq: 2 });
    assert_eq!(world.spool().slices().map(|(_, trimmed)| trimmed).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn an_old_incarnation_drains_and_is_then_forgotten() {
    let mut world = World::new(1, small());
    world.slice(0, &[0, 1], 1_500);
    world.sync().unwrap();
    world.roll();
    world.slice(900, &[0], 1_500);
    world.sync().unwrap();
    world.crash();
    assert_eq!(world.spool().numberings().len(), 2);
    world.trim(0, 0, Pair { bucket: 0, seq: 1 });
    world.trim(0, 1, Pair { bucket: 0, seq: 1 });
    world.spool().maintain(0).unwrap();
    assert_eq!(world.spool().numberings().len(), 2, "its pairs are needed while its slices are kept");
    world.spool().maintain(5_000).unwrap();
    assert_eq!(world.spool().numberings().len(), 1);
    world.acked = world.history.len() - 1;
    world.crash();
    assert_eq!(world.spool().numberings().len(), 1);
}

#[test]
fn slices_that_were_numbered_before_a_roll_may_come_after_it() {
    let mut world = World::new(1, small());
    world.slice(0, &[0], 0);
    world.roll();
    world.slice_of(0, 900, &[0, 1], 0);
    world.sync().unwrap();
    world.crash();
    assert_eq!(world.spool().slices().count(), 2);
    world.slice(900, &[0], 0);
    // From now on they would be out of order.
    let part = Part { shard: 1, rows: 1, first_seq: 2, seq: 2, events: 1, bytes: 1 };
    let incarnation = world.standing().numberings[0].0;
    let meta = SliceMeta { slice_no: 9, incarnation, start: 900, bucket: 900, parts: vec![part] };
    let error = world.spool().append(&Record::Slice { meta, payload: &[] });
    assert!(matches!(error, Err(Error::Refused(_))), "{error:?}");
}

#[test]
fn incarnations_have_a_limit() {
    let mut world = World::new(1, small());
    for _ in 1..MAX_NUMBERINGS {
        world.slice(0, &[0], 0);
        world.roll();
    }
    let error = world.spool().append(&Record::Rolled { incarnation: Incarnation([200; 16]) });
    assert!(matches!(error, Err(Error::Refused(_))));
}

#[test]
fn what_waits_for_a_sync_has_a_limit() {
    let mut world = World::new(1, Options { max_waiting_bytes: 2_000, ..small() });
    world.slice(0, &[0], 1_500);
    let error = world.spool().append(&Record::Checkpoint(&[0; 1_000]));
    assert!(matches!(error, Err(Error::Full { .. })), "{error:?}");
    world.sync().unwrap();
    world.spool().append(&Record::Checkpoint(&[0; 1_000])).unwrap();
}

#[test]
fn slices_are_read_before_they_are_synced_and_streamed_in_order() {
    let mut world = World::new(1, small());
    for _ in 0..12 {
        world.slice(0, &SHARD_LIST, 300);
        world.sync().unwrap();
    }
    world.slice(0, &[2], 0);
    let incarnation = world.spool().numberings()[0].incarnation;
    assert_eq!(batches_of(&world.spool().read(13).unwrap()), [(incarnation, 2, 13)]);
    let streamed: Vec<u64> = world.spool().stream(5).map(|(_, slice)| slice.unwrap().meta.slice_no).collect();
    assert_eq!(streamed, (5..=13).collect::<Vec<_>>());
    assert!(matches!(world.spool().read(99), Err(Error::Unknown(99))));
}

#[test]
fn a_merged_slice_survives_what_it_stands_for() {
    let mut world = World::new(1, small());
    for _ in 0..40 {
        world.slice(0, &SHARD_LIST, 200);
        world.sync().unwrap();
    }
    world.spool().relieve(&mut merge).unwrap();
    // More of other buckets push the segments of what was merged out; after a crash nothing of it comes back.
    for bucket in 1..10 {
        world.slice(900 * bucket, &SHARD_LIST, 200);
        world.sync().unwrap();
        world.spool().relieve(&mut merge).unwrap();
        world.acked = world.history.len() - 1;
        world.crash();
    }
}
