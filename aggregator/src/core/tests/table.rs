//! Each rule of delivery by itself.

use std::collections::{BTreeMap, BTreeSet};

use spikewatch_proto::convert::commit::Frontier;

use super::{super::Unbinding, *};

/// One collector, bound as stream 1 under epoch 1.
fn bench() -> Bench {
    let mut bench = Bench::new(LIVE, opened(1, Frontier::default()));
    bench.bind(1, 0, 1);
    bench
}

#[test]
fn a_batch_goes_into_its_open_bucket_and_out_with_its_seal() {
    let mut bench = bench();
    let actions = bench.say(1, batch(0, 5, 1, 0));
    assert_eq!(actions, [Action::Receipt { stream: 1, seq: 1 }, Action::Credit { stream: 1, rows: 1 }]);
    bench.say(1, batch(0, 6, 2, 1));
    bench.say(1, watermark(6));
    let commit = bench.commit();
    assert_eq!((commit.commit_no, commit.bucket), (1, 5 * MINUTE));
    assert_eq!(batches(&commit.windows), [(5, 0, 1)]);
    assert_eq!(commit.pairs, BTreeMap::from([(collector(0), pair(5, 2))]));
    assert!(commit.missing.is_empty() && commit.windows[0].incomplete.is_empty());
    assert_eq!(bench.ack(), [Action::Trim { stream: 1, pair: pair(5, 2) }]);
}

#[test]
fn what_was_counted_before_this_epoch_is_skipped() {
    let pairs = BTreeMap::from([(collector(0), pair(5, 2))]);
    let frontier = Frontier { bucket: Some(5 * MINUTE), commit_no: 7, pairs };
    let mut bench = Bench::new(LIVE, opened(2, frontier));
    assert_eq!(bench.bind(1, 0, 1), [Action::Trim { stream: 1, pair: pair(5, 2) }]);
    bench.say(1, batch(0, 5, 1, 0));
    bench.say(1, batch(0, 6, 2, 1));
    bench.say(1, batch(0, 5, 3, 2));
    bench.say(1, watermark(7));
    let commit = bench.commit();
    assert_eq!(commit.commit_no, 8);
    assert_eq!(batches(&commit.windows), [(6, 0, 2)]);
    assert_eq!(batches(&commit.corrections), [(5, 0, 3)]);
}

#[test]
fn what_comes_after_the_seal_is_a_correction_even_before_the_ack() {
    let mut bench = bench();
    bench.say(1, batch(0, 5, 1, 0));
    bench.say(1, watermark(6));
    assert_eq!(bench.commit().pairs[&collector(0)], pair(5, 1));
    bench.say(1, batch(0, 5, 2, 1));
    bench.on(Event::Tick);
    assert_eq!(bench.commit().commit_no, 1, "one commit in flight");
    bench.ack();
    bench.on(Event::Tick);
    let commit = bench.commit();
    assert_eq!((commit.commit_no, commit.bucket, commit.windows.len()), (2, 5 * MINUTE, 0));
    assert_eq!(batches(&commit.corrections), [(5, 0, 2)]);
    assert_eq!(commit.pairs[&collector(0)], pair(5, 2));
}

#[test]
fn a_reconnected_collector_repeats_and_nothing_counts_twice() {
    let mut bench = bench();
    bench.say(1, batch(0, 5, 1, 0));
    bench.say(1, batch(0, 5, 2, 1));
    bench.on(Event::Gone { stream: 1 });
    bench.bind(2, 0, 1);
    bench.say(2, batch(0, 5, 1, 0));
    bench.say(1, batch(0, 5, 2, 1));
    bench.say(2, batch(0, 5, 2, 1));
    bench.say(2, watermark(6));
    assert_eq!(batches(&bench.commit().windows), [(5, 0, 1), (5, 0, 2)]);
}

#[test]
fn a_newer_stream_takes_the_place_of_an_older_one() {
    let mut bench = bench();
    let replaced = |stream| Action::Unbind { stream, why: Unbinding::Replaced };
    assert_eq!(bench.bind(3, 0, 1), [replaced(1)]);
    assert_eq!(bench.bind(2, 0, 1), [replaced(2)]);
    assert_eq!(bench.say(1, batch(0, 5, 1, 0)), [Action::Credit { stream: 1, rows: 1 }], "dealt with: not listened to");
}

#[test]
fn a_gap_unbinds_the_stream() {
    let unbound = vec![Action::Unbind { stream: 1, why: Unbinding::Gap }];
    let credited = [unbound.clone(), vec![Action::Credit { stream: 1, rows: 1 }]].concat();
    assert_eq!(bench().say(1, batch(0, 5, 3, 2)), credited);
    let covers = Message::Watermark { time_ms: MINUTE, last: false, covers: Some(4) };
    assert_eq!(bench().say(1, covers), unbound);
    assert_eq!(bench().say(1, Message::ReplayEnd { seq: 1 }), unbound);
    assert_eq!(bench().say(1, Message::Tombstone { last_seq: 4, prev: 3, buckets: vec![], events: 1 }), unbound);
}

#[test]
fn another_epoch_is_not_bound() {
    let mut bench = bench();
    let event = Event::Bind { stream: 5, of: collector(1), lane: live(), epoch: epoch(7), lowest_seq: 1 };
    assert_eq!(bench.on(event), [Action::Unbind { stream: 5, why: Unbinding::OtherEpoch }]);
}

/// The one that lost data silently: a bucket closed after a hand-over, before its collector was back.
#[test]
fn a_pair_stays_until_its_stream_is_resumed() {
    let pairs = BTreeMap::from([(collector(0), pair(5, 2)), (collector(1), pair(5, 1))]);
    let frontier = Frontier { bucket: Some(5 * MINUTE), commit_no: 1, pairs };
    let mut bench = Bench::new(LIVE, opened(2, frontier));
    bench.bind(2, 1, 2);
    bench.say(2, watermark(7));
    bench.now_ms += 10 * MINUTE;
    bench.on(Event::Tick);
    let commit = bench.commit();
    assert!(!commit.pairs.contains_key(&collector(0)), "{:?}", commit.pairs);
    assert!(commit.missing.contains(&collector(0)));
    bench.ack();
    bench.bind(1, 0, 2);
    bench.say(1, batch(0, 6, 2, 0));
    bench.on(Event::Tick);
    let commit = bench.commit();
    assert_eq!(batches(&commit.corrections), [(6, 0, 2)]);
    assert_eq!(commit.pairs[&collector(0)].seq, 2);
}

#[test]
fn the_end_of_a_replay_stands_for_what_is_trimmed() {
    let frontier =
        Frontier { bucket: Some(5 * MINUTE), commit_no: 1, pairs: BTreeMap::from([(collector(0), pair(5, 9))]) };
    let mut bench = Bench::new(LIVE, opened(2, frontier));
    bench.bind(1, 0, 4);
    bench.say(1, watermark(7));
    assert!(bench.actions.iter().all(|action| !matches!(action, Action::Commit(_))), "not resumed: no vote");
    bench.say(1, Message::ReplayEnd { seq: 3 });
    assert_eq!(bench.commit().pairs[&collector(0)], pair(6, 9));
}

#[test]
fn a_lost_ack_is_mended_by_the_same_commit() {
    let mut bench = bench();
    bench.say(1, batch(0, 5, 1, 0));
    bench.say(1, watermark(6));
    let first = bench.commit();
    bench.say(1, batch(0, 6, 2, 1));
    bench.say(1, watermark(7));
    bench.on(Event::Resend);
    assert_eq!(bench.commit(), first);
    assert!(bench.on(Event::Acked { epoch: epoch(1), commit_no: 2 }).is_empty());
    assert!(bench.on(Event::Acked { epoch: epoch(2), commit_no: 1 }).is_empty());
    bench.ack();
    assert_eq!(bench.commit().commit_no, 2);
    assert_eq!(batches(&bench.commit().windows), [(6, 0, 2)]);
}

#[test]
fn seals_pile_up_behind_a_commit_and_leave_together() {
    let mut bench = bench();
    for minute in 5..9 {
        bench.say(1, batch(0, minute, minute - 4, minute - 5));
        bench.say(1, watermark(minute + 1));
    }
    assert_eq!(batches(&bench.commit().windows), [(5, 0, 1)]);
    bench.ack();
    let commit = bench.commit();
    assert_eq!((commit.commit_no, commit.bucket), (2, 8 * MINUTE));
    assert_eq!(batches(&commit.windows), [(6, 0, 2), (7, 0, 3), (8, 0, 4)]);
    assert_eq!(commit.pairs[&collector(0)], pair(8, 4));
}

#[test]
fn a_seal_waits_for_all_members_but_not_for_ever() {
    let mut bench = bench();
    bench.bind(2, 1, 1);
    bench.say(1, batch(0, 58, 1, 0));
    bench.say(1, watermark(59));
    bench.now_ms = 68 * MINUTE;
    assert!(bench.on(Event::Tick).is_empty());
    bench.now_ms = 70 * MINUTE;
    bench.on(Event::Tick);
    let commit = bench.commit();
    assert_eq!(commit.bucket, 59 * MINUTE);
    assert_eq!(commit.missing, BTreeSet::from([collector(0), collector(1)]), "neither vouched for the last bucket");
    assert_eq!(commit.windows[0].incomplete, BTreeSet::from([collector(1).site]), "the first was complete of one");
}

#[test]
fn one_that_is_gone_for_long_is_named_but_not_waited_for() {
    let mut bench = bench();
    bench.bind(2, 1, 1);
    bench.now_ms += 21 * MINUTE;
    bench.say(1, watermark(80));
    let commit = bench.commit();
    assert_eq!(commit.bucket, 79 * MINUTE);
    assert_eq!(commit.missing, BTreeSet::from([collector(1)]));
    assert!(!commit.pairs.contains_key(&collector(1)));
}

#[test]
fn a_new_incarnation_takes_the_place_of_the_old_one() {
    let mut bench = bench();
    let renewed = Incarnation { id: [77; 16], ..collector(0) };
    bench.on(Event::Bind { stream: 2, of: renewed.clone(), lane: live(), epoch: epoch(1), lowest_seq: 1 });
    bench.say(2, watermark(6));
    let commit = bench.commit();
    assert_eq!(commit.bucket, 5 * MINUTE);
    assert_eq!(commit.pairs.keys().collect::<Vec<_>>(), [&renewed]);
    assert!(commit.missing.is_empty());
}

#[test]
fn nobody_known_nothing_sealed() {
    let mut bench = Bench::new(LIVE, opened(1, Frontier::default()));
    bench.now_ms += 600 * MINUTE;
    assert!(bench.on(Event::Tick).is_empty());
}

#[test]
fn a_clock_that_runs_ahead_does_not_drag_the_frontier() {
    let mut bench = bench();
    bench.say(1, batch(0, 59, 1, 0));
    bench.say(1, watermark(24 * 60));
    assert_eq!(bench.commit().bucket, 59 * MINUTE);
}

#[test]
fn a_stream_too_far_ahead_waits_and_no_other() {
    let mut bench = bench();
    bench.bind(2, 1, 1);
    for seq in 1..=4 {
        assert!(!bench.say(1, batch(0, 10 + seq, seq, seq - 1)).is_empty());
        bench.say(1, watermark(11 + seq));
    }
    assert!(bench.say(1, batch(0, 15, 5, 4)).is_empty(), "neither merged nor given credit");
    assert!(bench.say(1, watermark(16)).is_empty(), "what follows waits too");
    assert!(!bench.say(2, batch(1, 11, 1, 0)).is_empty());
    let actions = bench.say(2, watermark(12));
    assert!(actions.contains(&Action::Credit { stream: 1, rows: 1 }), "{actions:?}");
    bench.ack();
    bench.say(2, watermark(16));
    let commit = bench.commit();
    assert_eq!((commit.bucket, commit.pairs[&collector(0)].seq), (15 * MINUTE, 5));
}

#[test]
fn one_that_the_seal_waits_for_is_never_made_to_wait() {
    let mut bench = bench();
    bench.bind(2, 1, 1);
    bench.say(2, watermark(50));
    for seq in 1..=20 {
        assert!(!bench.say(1, batch(0, 10 + seq, seq, seq - 1)).is_empty());
    }
    bench.say(1, watermark(31));
    let commit = bench.commit();
    assert_eq!((commit.windows.len(), commit.missing.len()), (20, 0), "a replay without watermarks in between");
}

#[test]
fn what_a_disk_budget_dropped_makes_its_bucket_incomplete() {
    let mut bench = bench();
    bench.say(1, batch(0, 5, 1, 0));
    let actions =
        bench.say(1, Message::Tombstone { last_seq: 3, prev: 1, buckets: vec![5 * MINUTE, 6 * MINUTE], events: 7 });
    assert!(actions.contains(&Action::Lost { of: collector(0), events: 7 }), "{actions:?}");
    bench.say(1, batch(0, 6, 4, 3));
    bench.say(1, batch(0, 7, 5, 4));
    bench.say(1, watermark(8));
    let commit = bench.commit();
    let incomplete: Vec<_> = commit.windows.iter().map(|part| part.incomplete.len()).collect();
    assert_eq!(incomplete, [1, 1, 0]);
    assert_eq!(commit.pairs[&collector(0)].seq, 5);
}

#[test]
fn lateness_is_allowed_for() {
    let mut opened = opened(1, Frontier::default());
    opened.allowed_lateness_ms = 2 * MINUTE;
    let mut bench = Bench::new(LIVE, opened);
    bench.bind(1, 0, 1);
    bench.say(1, batch(0, 5, 1, 0));
    bench.say(1, watermark(7));
    assert_eq!((bench.commit().bucket, bench.commit().windows.len()), (4 * MINUTE, 0));
    bench.ack();
    bench.say(1, batch(0, 5, 2, 1));
    bench.say(1, watermark(8));
    assert_eq!(batches(&bench.commit().windows), [(5, 0, 1), (5, 0, 2)]);
    bench.ack();
    bench.say(1, Message::Watermark { time_ms: 8 * MINUTE, last: true, covers: Some(2) });
    assert_eq!(bench.commit().bucket, 7 * MINUTE, "the last word needs no allowance");
}

#[test]
fn what_was_committed_before_it_was_dropped_is_not_lost() {
    let pairs = BTreeMap::from([(collector(0), pair(5, 2))]);
    let frontier = Frontier { bucket: Some(5 * MINUTE), commit_no: 1, pairs };
    let mut bench = Bench::new(LIVE, opened(2, frontier));
    bench.bind(1, 0, 1);
    let actions = bench.say(1, Message::Tombstone { last_seq: 2, prev: 0, buckets: vec![5 * MINUTE], events: 7 });
    assert_eq!(actions, [Action::Receipt { stream: 1, seq: 2 }]);
}

#[test]
fn a_batch_from_the_future_waits_for_its_time_and_no_other_stream_does() {
    let mut bench = bench();
    bench.bind(2, 1, 1);
    assert!(bench.say(1, batch(0, 61, 1, 0)).is_empty());
    assert!(!bench.say(2, batch(1, 60, 1, 0)).is_empty());
    bench.now_ms += MINUTE;
    assert!(bench.on(Event::Tick).contains(&Action::Receipt { stream: 1, seq: 1 }));
}

#[test]
fn a_batch_beyond_the_late_horizon_is_not_counted_but_trimmed() {
    let config = Config { late_horizon_ms: 50 * MINUTE, ..LIVE };
    let mut bench = Bench::new(config, opened(1, Frontier::default()));
    bench.bind(1, 0, 1);
    let actions = bench.say(1, batch(0, 8, 1, 0));
    assert!(actions.contains(&Action::TooLate { of: collector(0), rows: 1 }), "{actions:?}");
    assert!(actions.contains(&Action::Credit { stream: 1, rows: 1 }));
    bench.say(1, batch(0, 9, 2, 1));
    bench.say(1, watermark(10));
    assert_eq!(batches(&bench.commit().windows), [(9, 0, 2)]);
    assert_eq!(bench.commit().pairs[&collector(0)], pair(9, 2));
}

/// A frontier's entries can only be seen to age if nothing moves them for collectors that are gone.
#[test]
fn the_pair_of_one_that_is_gone_and_gave_nothing_stays() {
    let mut bench = bench();
    bench.bind(2, 1, 1);
    bench.say(1, batch(0, 5, 1, 0));
    bench.say(1, batch(0, 7, 2, 1));
    bench.on(Event::Gone { stream: 1 });
    bench.now_ms = 90 * MINUTE;
    bench.on(Event::Tick);
    assert_eq!(bench.commit().pairs[&collector(0)].seq, 2);
    bench.ack();
    bench.now_ms = 100 * MINUTE;
    bench.on(Event::Tick);
    assert_eq!(bench.commit().commit_no, 2);
    assert!(!bench.commit().pairs.contains_key(&collector(0)), "{:?}", bench.commit().pairs);
}
