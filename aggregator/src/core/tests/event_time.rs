//! On an event-time clock, what is committed depends on what each collector said, never on when it was heard.

use proptest::prelude::*;

use super::*;

const EVENT: Config = Config { event_time: true, expected_collectors: 2, clock_allowance_ms: 0, late_horizon_ms: 0 };

/// What one collector says: batches (minute of their bucket) and watermarks, in order; late ones included.
#[derive(Debug, Clone, Copy)]
enum Say {
    Batch(u64),
    Watermark(u64),
}

fn script() -> impl Strategy<Value = Vec<Say>> {
    let step = prop_oneof![(0..4u64).prop_map(Say::Batch), Just(Say::Watermark(1))];
    // Relative to a time that advances: batches up to 3 minutes old.
    proptest::collection::vec(step, 0..30).prop_map(|steps| {
        let mut now = 5;
        let mut absolute = |step| match step {
            Say::Batch(age) => Say::Batch(now - age.min(now)),
            Say::Watermark(by) => {
                now += by;
                Say::Watermark(now)
            }
        };
        steps.into_iter().map(&mut absolute).collect()
    })
}

/// Everything committed, in order: the windows, the corrections.
type Outcome = (Vec<(u64, usize, u64)>, Vec<(u64, usize, u64)>, Vec<Pair>);

fn play(scripts: &[Vec<Say>; 2], order: &[bool], acks: &[bool]) -> Outcome {
    let mut bench = Bench::new(EVENT, opened(1, Frontier::default()));
    let mut messages = [0, 1].map(|number: usize| {
        let mut seq = 0;
        let mut told: Vec<_> = scripts[number]
            .iter()
            .map(|step| match *step {
                Say::Batch(minute) => {
                    seq += 1;
                    batch(number, minute, seq, seq - 1)
                }
                Say::Watermark(minute) => watermark(minute),
            })
            .collect();
        told.push(Message::Watermark { time_ms: 50 * MINUTE, last: true, covers: None });
        told.into_iter()
    });
    let (mut windows, mut corrections) = (Vec::new(), Vec::new());
    let mut pairs = BTreeMap::new();
    let mut taken = 0;
    let mut collect = |bench: &mut Bench, ack: bool| {
        let commit = |action: &Action<Bag>| matches!(action, Action::Commit(c) if c.commit_no == taken + 1);
        if ack && bench.actions.iter().any(commit) {
            let commit = bench.commit();
            taken = commit.commit_no;
            windows.extend(batches(&commit.windows));
            corrections.extend(batches(&commit.corrections));
            pairs.extend(commit.pairs);
            check_invariant(scripts, &windows, &corrections, &pairs);
            bench.ack();
            return true;
        }
        false
    };
    let mut bound = [false; 2];
    let rest = std::iter::repeat_n([true, false], 80).flatten();
    for (at, second) in order.iter().copied().chain(rest).enumerate() {
        let number = usize::from(second);
        let Some(message) = messages[number].next() else { continue };
        if !std::mem::replace(&mut bound[number], true) {
            bench.bind(number as u64, number, 1);
        }
        bench.say(number as u64, message);
        collect(&mut bench, acks.get(at).copied().unwrap_or(true));
    }
    while collect(&mut bench, true) {}
    (windows, corrections, pairs.into_values().collect())
}

/// What the pairs cover is counted once, and nothing else is.
fn check_invariant(
    scripts: &[Vec<Say>; 2],
    windows: &[(u64, usize, u64)],
    corrections: &[(u64, usize, u64)],
    pairs: &BTreeMap<Incarnation, Pair>,
) {
    let mut counted: Vec<_> = windows.iter().chain(corrections).copied().collect();
    let mut covered = Vec::new();
    for (number, script) in scripts.iter().enumerate() {
        let pair = pairs.get(&collector(number)).copied().unwrap_or_default();
        let minutes = script.iter().filter_map(|say| match say {
            Say::Batch(minute) => Some(*minute),
            Say::Watermark(_) => None,
        });
        let numbered = (1..).zip(minutes).map(|(seq, minute)| (minute, number, seq));
        covered.extend(numbered.filter(|(minute, _, seq)| pair.covers(minute * MINUTE, *seq)));
    }
    counted.sort_unstable();
    covered.sort_unstable();
    assert_eq!(counted, covered, "{pairs:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn results_do_not_depend_on_timing(
        one in script(),
        two in script(),
        order in proptest::collection::vec(any::<bool>(), 0..70),
        acks in proptest::collection::vec(any::<bool>(), 0..70),
    ) {
        let total = [&one, &two].into_iter().flatten().filter(|step| matches!(step, Say::Batch(_))).count();
        let scripts = [one, two];
        let outcome = play(&scripts, &order, &acks);
        prop_assert_eq!(outcome.0.len() + outcome.1.len(), total);
        prop_assert_eq!(outcome, play(&scripts, &[], &[]));
    }
}

#[test]
fn a_late_batch_leaves_with_the_bucket_its_collector_is_in() {
    let scripts = [vec![Say::Batch(5), Say::Watermark(6), Say::Batch(5), Say::Watermark(7)], vec![Say::Batch(6)]];
    let (windows, corrections, _) = play(&scripts, &[], &[]);
    assert_eq!(windows, [(5, 0, 1), (6, 1, 1)]);
    assert_eq!(corrections, [(5, 0, 2)]);
}

#[test]
fn nothing_is_sealed_before_all_are_there() {
    let mut bench = Bench::new(EVENT, opened(1, Frontier::default()));
    bench.bind(1, 0, 1);
    bench.say(1, batch(0, 5, 1, 0));
    assert!(bench.say(1, watermark(9)).is_empty());
    bench.now_ms += 10_000 * MINUTE;
    assert!(bench.on(Event::Tick).is_empty(), "time that passes closes nothing");
    bench.bind(2, 1, 1);
    bench.say(2, watermark(7));
    assert_eq!(bench.commit().bucket, 6 * MINUTE);
}
