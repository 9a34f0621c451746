//! Several incarnations of one collector.

use super::*;

fn older() -> Incarnation {
    collector(0)
}

fn newer() -> Incarnation {
    Incarnation { id: [77; 16], ..collector(0) }
}

fn bind(bench: &mut Bench, stream: StreamId, of: Incarnation, lane: Lane) {
    bench.on(Event::Bind { stream, of, lane, epoch: epoch(1), lowest_seq: 1 });
}

fn bench() -> Bench {
    let mut bench = Bench::new(LIVE, opened(1, Frontier::default()));
    bind(&mut bench, 1, older(), live());
    bind(&mut bench, 2, newer(), Lane::Live { draining: vec![older().id] });
    bench
}

#[test]
fn back_fill_is_not_waited_for_but_its_site_misses_something() {
    let mut bench = bench();
    bench.say(2, Message::Batch { bucket: 40 * MINUTE, seq: 1, prev: 0, rows: 1, content: Bag::default() });
    bench.say(2, watermark(41));
    let commit = bench.commit();
    assert_eq!((commit.bucket, commit.windows[0].incomplete.len()), (40 * MINUTE, 1));
    assert_eq!(commit.missing.iter().collect::<Vec<_>>(), [&older()]);
    bench.ack();
    bench.say(1, batch(0, 40, 1, 0));
    bench.on(Event::Tick);
    assert_eq!(batches(&bench.commit().corrections), [(40, 0, 1)]);
}

#[test]
fn once_back_fill_has_said_its_last_word_nothing_is_missing() {
    let mut bench = bench();
    bench.say(1, batch(0, 30, 1, 0));
    bench.say(1, Message::Watermark { time_ms: 31 * MINUTE, last: true, covers: Some(1) });
    bench.say(2, Message::Batch { bucket: 40 * MINUTE, seq: 1, prev: 0, rows: 1, content: Bag::default() });
    bench.say(2, watermark(41));
    let commit = bench.commit();
    assert!(commit.missing.is_empty() && commit.windows.iter().all(|part| part.incomplete.is_empty()));
}

#[test]
fn back_fill_that_binds_again_does_not_take_the_live_ones_place() {
    let mut bench = bench();
    bind(&mut bench, 3, older(), Lane::BackFill);
    bench.say(3, watermark(50));
    assert!(!bench.actions.iter().any(|action| matches!(action, Action::Commit(_))), "the live one is waited for");
}

#[test]
fn back_fill_is_waited_for_until_the_live_one_is_here() {
    let mut bench = Bench::new(LIVE, opened(1, Frontier::default()));
    bind(&mut bench, 1, older(), Lane::BackFill);
    bench.bind(2, 1, 1);
    bench.say(2, watermark(41));
    assert!(!bench.actions.iter().any(|action| matches!(action, Action::Commit(_))));
    bind(&mut bench, 3, newer(), Lane::Live { draining: vec![older().id] });
    bench.say(3, watermark(41));
    assert_eq!(bench.commit().bucket, 40 * MINUTE);
}

#[test]
fn a_collector_that_begins_anew_again_and_again_takes_no_room() {
    let mut bench = Bench::new(LIVE, opened(1, Frontier::default()));
    for life in 0..200u8 {
        let of = Incarnation { id: [life; 16], ..collector(0) };
        let stream = StreamId::from(life) + 1;
        bind(&mut bench, stream, of, live());
        bench.say(stream, batch(0, 10 + u64::from(life), 1, 0));
        bench.say(stream, watermark(11 + u64::from(life)));
        bench.now_ms += MINUTE;
        bench.on(Event::Tick);
        bench.on(Event::Gone { stream });
        if bench.actions.iter().any(|action| matches!(action, Action::Commit(_))) {
            bench.ack();
        }
    }
    assert!(bench.core.members.len() <= 17, "{}", bench.core.members.len());
    assert!(bench.core.streams.len() <= 17, "{}", bench.core.streams.len());
}
