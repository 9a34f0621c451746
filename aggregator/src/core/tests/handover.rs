//! A planned move: what is sealed is committed, then the shard is let go.

use super::{super::Unbinding, *};

fn bench() -> Bench {
    let mut bench = Bench::new(LIVE, opened(1, Frontier::default()));
    bench.bind(1, 0, 1);
    bench
}

fn released(actions: &[Action<Bag>]) -> bool {
    actions.contains(&Action::Released)
}

#[test]
fn with_nothing_in_flight_it_is_let_go_at_once() {
    let mut bench = bench();
    bench.say(1, batch(0, 5, 1, 0));
    let actions = bench.on(Event::Handover);
    assert_eq!(actions, [Action::Unbind { stream: 1, why: Unbinding::Moved }, Action::Released]);
    assert!(!released(&bench.on(Event::Tick)), "said once");
    assert_eq!(bench.bind(2, 0, 1), [Action::Unbind { stream: 2, why: Unbinding::Moved }]);
}

#[test]
fn what_is_in_flight_is_finished_and_what_is_late_goes_too() {
    let mut bench = bench();
    bench.say(1, batch(0, 5, 1, 0));
    bench.say(1, watermark(6));
    bench.say(1, batch(0, 5, 2, 1));
    bench.say(1, batch(0, 7, 3, 2));
    assert!(!released(&bench.on(Event::Handover)));
    assert_eq!(bench.say(1, batch(0, 7, 4, 3)), [Action::Credit { stream: 1, rows: 1 }], "nothing more is taken");
    assert!(!released(&bench.ack()), "the correction is on its way");
    let commit = bench.commit();
    assert_eq!((batches(&commit.corrections), commit.windows.len()), (vec![(5, 0, 2)], 0));
    assert_eq!(commit.pairs[&collector(0)], pair(5, 3), "the open bucket's batch lies beyond the pair");
    let actions = bench.ack();
    assert!(actions.contains(&Action::Trim { stream: 1, pair: pair(5, 3) }) && released(&actions), "{actions:?}");
}
