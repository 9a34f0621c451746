//! What must be durable before something is sent, and what a restart finds.

use spikewatch_proto::convert::commit::Pair;

use super::*;

#[test]
fn nothing_is_sent_before_it_and_its_mark_are_durable() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.welcome(1, &[0], &[(0, 0)]);
    bench.held = true;
    let actions = bench.cut(0, &[0, 1]);
    let marked = |action: &Action| matches!(action, Action::Mark { up_to, .. } if *up_to == [(0, 1)]);
    assert!(actions.iter().any(marked), "bound: marked with the slice, and only that shard: {actions:?}");
    assert!(batches(&actions).is_empty());
    let ticket = bench.written - 1;
    assert!(bench.core.on(Event::Synced { ticket }, 0).is_empty(), "the slice is durable, the mark is not");
    assert_eq!(batches(&bench.sync()), [(0, 1, 0)]);
}

#[test]
fn during_an_outage_nothing_is_marked_until_a_stream_is_bound() {
    let mut bench = Bench::new();
    let actions = [bench.cut(0, &[0]), bench.cut(10_000, &[0])].concat();
    assert!(!actions.iter().any(|action| matches!(action, Action::Mark { .. })));
    bench.connect(1);
    bench.held = true;
    let actions = bench.welcome(1, &[0], &[(0, 0)]);
    assert!(batches(&actions).is_empty());
    assert_eq!(batches(&bench.sync()), [(0, 1, 0), (0, 2, 1)]);
}

fn part(shard: u32, seq: u64) -> Part {
    Part { shard, seq, rows: 1, holds: Loss { events: 1, bytes: 100 }, committed: false }
}

pub(super) fn recovered() -> RecoveredLane {
    let line = |next_seq, marked, trimmed| RecoveredLine { next_seq, marked, trimmed };
    let slice = |slice_no, start, parts| RecoveredSlice { slice_no, start, parts, stored: 10 };
    RecoveredLane {
        incarnation: [7; 16],
        lines: vec![line(5, 3, Pair { bucket: 0, seq: 2 }), line(2, 0, Pair::default())],
        slices: vec![
            slice(11, 0, vec![part(0, 2)]),
            slice(12, 10_000, vec![part(0, 3), part(1, 1)]),
            slice(13, BUCKET, vec![part(0, 4)]),
        ],
        last_slice: 0,
        tombstones: Vec::new(),
    }
}

#[test]
fn a_restart_goes_on_where_the_spool_ends() {
    let (core, actions) = Core::recovered(options(), vec![recovered()]);
    assert_eq!(actions, [Action::Trim { lane: 0, slices: vec![11] }], "a crash came before it was trimmed");
    let mut bench = Bench { core, held: false, written: 0, now: 0 };
    let hello = bench.connect(1);
    assert!(
        matches!(said(&hello)[..], [Said::Hello(hello)] if hello.incarnation == [7; 16] && hello.draining.is_empty())
    );
    bench.held = true;
    let actions = bench.welcome(1, &[0, 1], &[(0, 2), (0, 0)]);
    assert_eq!(binds(&actions)[0].lowest_seq, [3, 1]);
    bench.held = false;
    assert_eq!(batches(&bench.sync()), [(0, 3, 0), (1, 1, 0), (0, 4, 3)]);
    assert_eq!(batches(&bench.cut(BUCKET, &[0])), [(0, 5, 4)]);
    assert_eq!(bench.core.kept(), 3);
}

#[test]
fn a_spool_that_is_an_old_copy_begins_anew() {
    let (core, _) = Core::recovered(options(), vec![recovered()]);
    let mut bench = Bench { core, held: false, written: 0, now: 0 };
    bench.connect(1);
    let actions = bench.welcome(1, &[0, 1], &[(BUCKET, 9), (0, 0)]);
    assert!(matches!(alarms(&actions)[..], [Alarm::SpoolWentBack { shard: 0, next_seq: 5, .. }]));
    assert!(actions.contains(&Action::Roll));
    assert_eq!(batches(&actions).len(), 1, "the other shard goes on");
    let actions = bench.on(Event::Rolled { incarnation: [8; 16] });
    assert!(actions.contains(&Action::Connect { lane: 0 }) && actions.contains(&Action::Connect { lane: 1 }));
    bench.on(Event::Disconnected { link: 1 });
    bench.on(Event::Connected { link: 2, lane: 0 });
    bench.welcome(2, &[0, 1], &[(BUCKET, 9), (0, 0)]);
    let actions = bench.trim(2, 1, 0, 1);
    assert!(actions.contains(&Action::Drained { lane: 0 }), "{actions:?}");
}

#[test]
fn numbers_of_slices_that_are_gone_are_not_used_again() {
    let known = RecoveredLane { last_slice: 20, ..recovered() };
    let (core, _) = Core::recovered(options(), vec![known]);
    let mut bench = Bench { core, held: false, written: 0, now: 0 };
    let actions = bench.cut(2 * BUCKET, &[0]);
    assert!(matches!(actions[0], Action::Append { slice_no: 21, .. }), "{actions:?}");
}

#[test]
fn delivered_is_what_owners_have_received() {
    let mut bench = Bench::new();
    assert!(bench.core.is_delivered());
    bench.cut(0, &[0, 1]);
    bench.connect(1);
    bench.welcome(1, &[0, 1], &[(0, 0); 2]);
    assert!(!bench.core.is_delivered());
    let receipt = |shard| v1::Receipt { shard: vec![shard], seq: vec![1] };
    bench.on(Event::Message { link: 1, message: Heard::Receipt(receipt(0)) });
    assert!(!bench.core.is_delivered());
    bench.on(Event::Message { link: 1, message: Heard::Receipt(receipt(1)) });
    assert!(bench.core.is_delivered());
    bench.on(Event::Disconnected { link: 1 });
    assert!(!bench.core.is_delivered(), "who had it may be gone");
}
