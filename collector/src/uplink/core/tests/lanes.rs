//! Far behind: a new incarnation for live traffic, the old one drains beside it.

use super::*;

fn rolled() -> Bench {
    let mut bench = Bench::with(CoreOptions { roll_after: Some(2), max_kept: 100, ..options() });
    for bucket in 0..3 {
        assert!(!bench.cut(bucket * BUCKET, &[0]).contains(&Action::Roll));
    }
    bench.pass(3 * BUCKET);
    let actions = bench.cut(3 * BUCKET, &[0]);
    assert!(actions.contains(&Action::Roll));
    assert_eq!(alarms(&actions), [&Alarm::FarBehind { buckets: 3 }]);
    assert!(!bench.cut(3 * BUCKET, &[0]).contains(&Action::Roll), "asked once");
    let actions = bench.on(Event::Rolled { incarnation: [9; 16] });
    assert_eq!(actions, [Action::Connect { lane: 0 }, Action::Connect { lane: 1 }]);
    bench
}

#[test]
fn live_traffic_goes_first_and_the_rest_a_slice_at_a_time() {
    let mut bench = rolled();
    let hello = bench.connect(5);
    let [Said::Hello(hello)] = said(&hello)[..] else { panic!("{hello:?}") };
    assert!(hello.incarnation == [9; 16] && !hello.back_fill && hello.draining == [vec![0; 16]]);
    bench.welcome(5, &[0], &[(0, 0)]);
    assert_eq!(batches(&bench.cut(3 * BUCKET, &[0])), [(0, 1, 0)], "numbers of its own");
    let hello = bench.on(Event::Connected { link: 6, lane: 0 });
    assert!(matches!(said(&hello)[..], [Said::Hello(hello)] if hello.back_fill && hello.draining.is_empty()));
    bench.hear(6, Heard::Credit(v1::Credit { rows: 1000 }));
    assert_eq!(batches(&bench.welcome(6, &[0], &[(0, 0)])), [(0, 1, 0)]);
    assert_eq!(batches(&bench.receive(6, 0, 1)), [(0, 2, 1)]);
    for seq in 2..5 {
        bench.receive(6, 0, seq);
    }
    let actions = bench.pass(4 * BUCKET);
    assert_eq!(watermarks(&actions).len(), 1, "the live one's: {actions:?}");
}

#[test]
fn a_late_slice_is_not_behind() {
    let mut bench = Bench::with(CoreOptions { roll_after: Some(2), max_kept: 100, ..options() });
    bench.now = 10 * BUCKET;
    assert!(!bench.cut(2 * BUCKET, &[0]).contains(&Action::Roll));
    assert!(!bench.cut(12 * BUCKET, &[0]).contains(&Action::Roll));
    assert!(bench.cut(13 * BUCKET, &[0]).contains(&Action::Roll), "it was cut three buckets ago");
}

#[test]
fn old_logs_are_read_without_a_roll() {
    let mut bench = Bench::with(CoreOptions { roll_after: Some(2), max_kept: 100, ..options() });
    bench.now = 1_000 * BUCKET;
    for bucket in 0..50 {
        assert!(!bench.cut(bucket * BUCKET, &[0]).contains(&Action::Roll));
    }
    bench.now = 1_003 * BUCKET;
    assert!(bench.cut(50 * BUCKET, &[0]).contains(&Action::Roll), "nothing was committed for three buckets");
}

#[test]
fn a_roll_that_is_refused_is_asked_for_again() {
    let mut bench = Bench::with(CoreOptions { roll_after: Some(2), max_kept: 100, ..options() });
    bench.cut(0, &[0]);
    assert!(bench.cut(3 * BUCKET, &[0]).contains(&Action::Roll));
    bench.on(Event::NotRolled);
    assert!(bench.cut(3 * BUCKET, &[0]).contains(&Action::Roll));
}

#[test]
fn the_last_word_of_back_fill_covers_all_it_had() {
    let mut bench = rolled();
    bench.on(Event::Connected { link: 6, lane: 0 });
    let mut actions = bench.welcome(6, &[0], &[(0, 0)]);
    for seq in 1..6 {
        actions = bench.receive(6, 0, seq);
    }
    drop(actions);
    let actions = bench.welcome_under(6, 2, &[0], &[(3 * BUCKET, 4)]);
    let watermark = watermarks(&actions).into_iter().next_back().unwrap();
    assert!(watermark.last && watermark.time_ms == 4 * BUCKET, "{watermark:?}");
    let actions = bench.trim(6, 0, 3 * BUCKET, 5);
    assert!(actions.contains(&Action::Drained { lane: 0 }), "{actions:?}");
    assert_eq!(bench.core.lanes().collect::<Vec<_>>(), [1]);
}

#[test]
fn all_incarnations_come_back_after_a_restart() {
    let live = RecoveredLane { incarnation: [9; 16], ..RecoveredLane::default() };
    let (core, _) = Core::recovered(options(), vec![spool::recovered(), live]);
    let mut bench = Bench { core, held: false, written: 0, now: 0 };
    assert_eq!(bench.core.lanes().collect::<Vec<_>>(), [0, 1]);
    let hello = bench.connect(1);
    assert!(matches!(said(&hello)[..], [Said::Hello(hello)] if hello.draining == [vec![7; 16]]));
    let hello = bench.on(Event::Connected { link: 2, lane: 0 });
    assert!(matches!(said(&hello)[..], [Said::Hello(hello)] if hello.back_fill));
}
