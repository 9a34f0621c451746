//! The disk budget: merge what can't have been sent, then drop the oldest and say so.

use super::*;

fn over(bench: &mut Bench, bytes: u64) -> Vec<Action> {
    bench.on(Event::OverBudget { bytes })
}

/// The slices, the one that takes their place, and its batches (shard, seq).
type Merge = (Vec<u64>, u64, Vec<(u32, u64)>);

fn merges(actions: &[Action]) -> Vec<Merge> {
    let merge = |action: &Action| match action {
        Action::Coarsen { sources, into, parts, .. } => Some((
            sources.iter().map(|(slice_no, _)| *slice_no).collect(),
            *into,
            parts.iter().map(|part| (part.shard, part.seq)).collect(),
        )),
        _ => None,
    };
    actions.iter().filter_map(merge).collect()
}

#[test]
fn slices_of_a_bucket_become_one_under_their_highest_numbers() {
    let mut bench = Bench::new();
    bench.cut(0, &[0, 1]);
    bench.cut(10_000, &[0, 2]);
    bench.cut(BUCKET, &[0]);
    let actions = over(&mut bench, 1);
    assert_eq!(merges(&actions), [(vec![1, 2], 2, vec![(0, 2), (1, 1), (2, 1)])]);
    assert!(over(&mut bench, 1).is_empty(), "one at a time");
    bench.connect(1);
    assert!(batches(&bench.welcome(1, &[0, 1, 2], &[(0, 0); 3])).is_empty(), "it is not written yet");
    let actions = bench.on(Event::Coarsened { slice_no: 2, rows: vec![2, 1, 1], stored: 12 });
    assert_eq!(batches(&actions), [(0, 2, 0), (1, 1, 0), (2, 1, 0), (0, 3, 2)]);
}

/// A bind says that all before the lowest number is trimmed. Should the merge be lost in a crash, the first slice is there
/// again: an owner that was told otherwise would skip it.
#[test]
fn a_bind_says_nothing_of_a_merge_that_is_not_durable() {
    let mut bench = Bench::new();
    bench.cut(0, &[0]);
    bench.cut(10_000, &[0]);
    bench.held = true;
    over(&mut bench, 1);
    bench.on(Event::Coarsened { slice_no: 2, rows: vec![2], stored: 12 });
    bench.connect(1);
    assert_eq!(binds(&bench.welcome(1, &[0], &[(0, 0)]))[0].lowest_seq, [1]);
    assert_eq!(batches(&bench.sync()), [(0, 2, 0)]);
    assert_eq!(binds(&bench.welcome(1, &[0], &[(0, 0)]))[0].lowest_seq, [2]);
}

/// An owner has merged the first already: with the second in one batch it could be neither skipped nor counted.
#[test]
fn what_may_have_been_sent_is_not_merged() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.welcome(1, &[0], &[(0, 0)]);
    bench.cut(0, &[0]);
    bench.on(Event::Disconnected { link: 1 });
    bench.cut(10_000, &[0]);
    bench.cut(20_000, &[0]);
    assert_eq!(merges(&over(&mut bench, 1)), [(vec![2, 3], 3, vec![(0, 3)])]);
}

#[test]
fn a_merged_slice_is_covered_by_no_watermark_that_comes_before_it() {
    let mut bench = Bench::new();
    bench.cut(0, &[0]);
    bench.pass(2 * BUCKET);
    bench.cut(0, &[0]);
    assert_eq!(merges(&over(&mut bench, 1)), [(vec![1, 2], 2, vec![(0, 2)])]);
    bench.on(Event::Coarsened { slice_no: 2, rows: vec![1], stored: 1 });
    bench.connect(1);
    let actions = bench.welcome(1, &[0], &[(0, 0)]);
    assert_eq!(batches(&actions), [(0, 2, 0)]);
    assert_eq!(watermarks(&actions).len(), 1, "only the newest one, at the end: {actions:?}");
}

#[test]
fn then_the_oldest_is_dropped_and_its_tombstone_goes_where_it_would_have_gone() {
    let mut bench = Bench::new();
    for start in [0, BUCKET, 2 * BUCKET] {
        bench.cut(start, &[0]);
    }
    let actions = over(&mut bench, 11);
    let lost = Loss { events: 2, bytes: 200 };
    assert_eq!(alarms(&actions), [&Alarm::Dropped { slices: 2, lost }]);
    assert!(
        matches!(&actions[0], Action::Drop { slices, tombstones, .. } if *slices == [1, 2] && tombstones.len() == 2)
    );
    bench.connect(1);
    let actions = bench.welcome(1, &[0], &[(0, 0)]);
    assert_eq!(binds(&actions)[0].lowest_seq, [1]);
    let stones: Vec<_> = tombstones(&actions).iter().map(|one| (one.last_seq, one.prev, one.events)).collect();
    assert_eq!((stones, batches(&actions)), (vec![(1, 0, 1), (2, 1, 1)], vec![(0, 3, 2)]));
    bench.trim(1, 0, 2 * BUCKET, 3);
    assert_eq!(bench.core.tombstones().count(), 0);
}

#[test]
fn drops_of_one_bucket_share_a_tombstone_and_the_newest_slice_stays() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.welcome(1, &[1], &[(0, 0)]);
    // Shard 1 is bound, so that the slices can't be merged.
    for start in [0, 10_000, 20_000] {
        bench.cut(start, &[0, 1]);
    }
    over(&mut bench, u64::MAX);
    let ranges: Vec<_> =
        bench.core.tombstones().map(|one| (one.shard, one.first_seq, one.last_seq, one.lost.events)).collect();
    assert_eq!(ranges, [(0, 1, 2, 2), (1, 1, 1, 1), (1, 2, 2, 1)], "those that were sent have one each");
    assert_eq!(bench.core.kept(), 1);
}

#[test]
fn what_was_dropped_but_had_been_counted_is_taken_back() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.welcome(1, &[0], &[(0, 0)]);
    bench.cut(0, &[0]);
    bench.cut(BUCKET, &[0]);
    bench.on(Event::Disconnected { link: 1 });
    over(&mut bench, 1);
    bench.connect(2);
    let actions = bench.welcome_under(2, 2, &[0], &[(0, 1)]);
    assert!(actions.contains(&Action::TakenBack { lost: Loss { events: 1, bytes: 100 } }), "{actions:?}");
    assert!(tombstones(&actions).is_empty());
}

#[test]
fn a_loss_that_was_told_stays_a_loss() {
    let mut bench = Bench::new();
    bench.cut(0, &[0]);
    bench.cut(BUCKET, &[0]);
    over(&mut bench, 1);
    bench.connect(1);
    assert_eq!(tombstones(&bench.welcome(1, &[0], &[(0, 0)])).len(), 1);
    let actions = bench.trim(1, 0, 0, 1);
    assert!(!actions.iter().any(|action| matches!(action, Action::TakenBack { .. })), "{actions:?}");
}

/// The spool names what it merged by its first and last.
#[test]
fn only_neighbours_are_merged() {
    let mut bench = Bench::new();
    for start in [0, BUCKET, 0, 0] {
        bench.cut(start, &[0]);
    }
    assert_eq!(merges(&over(&mut bench, 1)), [(vec![3, 4], 4, vec![(0, 4)])]);
}

#[test]
fn what_cant_be_read_any_more_is_said_to_be_lost() {
    let mut bench = Bench::new();
    for start in [0, BUCKET, 2 * BUCKET] {
        bench.cut(start, &[0]);
    }
    let actions = bench.on(Event::Lost { slice_no: 2 });
    assert_eq!(alarms(&actions), [&Alarm::Dropped { slices: 1, lost: Loss { events: 1, bytes: 100 } }]);
    assert!(bench.on(Event::Lost { slice_no: 2 }).is_empty(), "it is known");
    bench.connect(1);
    let actions = bench.welcome(1, &[0], &[(0, 0)]);
    let stones: Vec<_> = tombstones(&actions).iter().map(|one| (one.first_seq, one.last_seq, one.prev)).collect();
    assert_eq!((stones, batches(&actions)), (vec![(2, 2, 1)], vec![(0, 1, 0), (0, 3, 2)]));
}

/// Without a spool there is nothing to merge in: what owners have is given up first, and is no loss once it is committed.
#[test]
fn without_merging_the_oldest_goes() {
    let mut bench = Bench::with(CoreOptions { merges: false, ..options() });
    for slice in 0..3 {
        bench.cut(slice * 10_000, &[0]);
    }
    let actions = over(&mut bench, 1);
    assert!(merges(&actions).is_empty());
    assert!(matches!(alarms(&actions)[..], [Alarm::Dropped { slices: 1, .. }]), "{actions:?}");
}
