//! What goes over a stream, and in which order.

use super::*;

#[test]
fn a_slice_goes_out_in_one_message_and_the_watermark_behind_it() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.welcome(1, &[0, 1, 2, 3], &[(0, 0); 4]);
    assert_eq!(batches(&bench.cut(0, &[0, 2, 3])), [(0, 1, 0), (2, 1, 0), (3, 1, 0)]);
    let actions = bench.pass(10_000);
    let [watermark] = watermarks(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!((watermark.time_ms, watermark.shard.as_slice()), (10_000, [0, 2, 3].as_slice()));
    assert_eq!(batches(&bench.cut(10_000, &[2])), [(2, 2, 1)]);
}

#[test]
fn what_is_not_committed_is_sent_again_from_its_beginning() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.welcome(1, &[0, 1], &[(0, 0); 2]);
    bench.cut(0, &[0, 1]);
    bench.cut(BUCKET, &[0]);
    bench.trim(1, 0, 0, 1);
    bench.on(Event::Disconnected { link: 1 });
    bench.connect(2);
    let actions = bench.welcome(2, &[0, 1], &[(0, 1), (0, 0)]);
    let [bind] = binds(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!((bind.lowest_seq.as_slice(), bind.trimmed_seq.as_slice()), ([2, 1].as_slice(), [1, 0].as_slice()));
    assert_eq!(batches(&actions), [(1, 1, 0), (0, 2, 0)]);
    assert!(said(&actions).iter().any(|said| matches!(said, Said::ReplayEnd(end) if end.seq == [2, 1])));
}

#[test]
fn a_commit_of_a_later_number_but_an_earlier_bucket_trims_nothing_of_a_later_bucket() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.welcome(1, &[0], &[(0, 0)]);
    bench.cut(BUCKET, &[0]);
    bench.cut(0, &[0]);
    bench.trim(1, 0, 0, 2);
    assert_eq!(bench.core.kept(), 1, "seq 1 belongs to the second bucket, which is not committed");
    let actions = bench.welcome(1, &[0], &[(0, 2)]);
    assert_eq!((binds(&actions)[0].lowest_seq[0], binds(&actions)[0].trimmed_seq[0]), (1, 0));
}

#[test]
fn without_credit_one_batch_is_on_its_way_and_its_shard_is_excepted_from_the_watermark() {
    let mut bench = Bench::new();
    let lane = bench.core.lanes().last().unwrap();
    bench.on(Event::Connected { link: 1, lane });
    bench.welcome(1, &[0, 1], &[(0, 0); 2]);
    assert_eq!(batches(&bench.cut(0, &[0])).len(), 1);
    let mut actions = bench.cut(10_000, &[0]);
    assert!(batches(&actions).is_empty(), "{actions:?}");
    actions = bench.pass(20_000);
    assert_eq!(watermarks(&actions)[0].except, [0], "shard 1 has nothing that waits");
    let actions = bench.receive(1, 0, 1);
    assert_eq!(batches(&actions), [(0, 2, 1)]);
    assert_eq!((watermarks(&actions)[0].time_ms, watermarks(&actions)[0].except.len()), (20_000, 0));
}

#[test]
fn a_replay_repeats_watermarks_where_they_were() {
    let mut bench = Bench::new();
    bench.cut(0, &[0]);
    bench.pass(BUCKET);
    bench.cut(0, &[0]);
    bench.cut(BUCKET, &[0]);
    bench.pass(2 * BUCKET);
    bench.connect(1);
    let actions = bench.welcome(1, &[0], &[(0, 0)]);
    let order: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Send { batches, .. } => Some(batches[0].seq),
            Action::Say { message, .. } => match &**message {
                Said::Watermark(watermark) => Some(watermark.time_ms),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(order, [1, BUCKET, 2, 3, 2 * BUCKET], "the second slice was late, and is late again");
}

#[test]
fn the_end_of_a_replay_does_not_wait_for_what_comes_meanwhile() {
    let mut bench = Bench::new();
    bench.cut(0, &[0]);
    let lane = bench.core.lanes().last().unwrap();
    bench.on(Event::Connected { link: 1, lane });
    let actions = bench.welcome(1, &[0], &[(0, 0)]);
    assert!(said(&actions).iter().any(|said| matches!(said, Said::ReplayEnd(end) if end.seq == [1])), "{actions:?}");
    assert!(batches(&bench.cut(10_000, &[0])).is_empty());
}

#[test]
fn an_owner_that_was_replaced_is_not_bound() {
    let mut bench = Bench::new();
    bench.cut(0, &[0]);
    bench.connect(1);
    bench.connect(2);
    assert_eq!(batches(&bench.welcome_under(1, 5, &[0], &[(0, 0)])).len(), 1);
    assert!(bench.welcome_under(2, 4, &[0], &[(0, 0)]).is_empty());
    assert_eq!(batches(&bench.welcome_under(2, 6, &[0], &[(0, 0)])), [(0, 1, 0)]);
    assert!(batches(&bench.cut(10_000, &[0])).len() == 1, "only the newest owner gets more");
}

#[test]
fn it_says_when_all_is_committed() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.welcome(1, &[0], &[(0, 0)]);
    bench.cut(0, &[0]);
    bench.on(Event::Passed { time_ms: BUCKET, last: true });
    assert!(!bench.core.is_finished());
    let actions = bench.trim(1, 0, 0, 1);
    assert!(actions.contains(&Action::Trim { lane: 0, slices: vec![1] }), "{actions:?}");
    assert!(bench.core.is_finished());
}

#[test]
fn too_much_kept_makes_the_summariser_wait() {
    let mut bench = Bench::new();
    for slice in 0..8 {
        assert!(bench.core.has_room());
        bench.cut(slice * 10_000, &[1]);
    }
    assert!(!bench.core.has_room());
}

#[test]
fn a_store_that_went_back_gets_again_what_is_still_there() {
    let mut bench = Bench::with(CoreOptions { keep_trimmed: true, ..options() });
    bench.connect(1);
    bench.welcome(1, &[0, 1], &[(0, 0); 2]);
    bench.cut(0, &[0, 1]);
    bench.cut(BUCKET, &[0]);
    bench.trim(1, 0, BUCKET, 2);
    bench.trim(1, 1, 0, 1);
    assert_eq!(bench.core.kept(), 0);
    bench.on(Event::Forgotten { slice_no: 0 });
    let actions = bench.welcome_under(1, 2, &[0, 1], &[(0, 1), (0, 1)]);
    assert!(matches!(alarms(&actions)[..], [Alarm::StoreWentBack { shard: 0, .. }]), "{actions:?}");
    assert_eq!(batches(&actions), [(0, 2, 0)]);
    bench.trim(1, 0, BUCKET, 2);
    bench.on(Event::Forgotten { slice_no: 2 });
    let actions = bench.welcome_under(1, 3, &[0, 1], &[(0, 1), (0, 1)]);
    assert!(batches(&actions).is_empty(), "it is deleted: {actions:?}");
}
