//! Random histories: two collectors, owners that come and go, a detector, and a network that loses, delays and repeats.
//! After each applied commit the invariant holds, and in the end every batch is counted exactly once.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The collector sends its next batch.
    Send(usize),
    /// It vouches for everything before that minute (wrongly, often: what comes then is late).
    Watermark(usize, u64),
    /// It connects anew and starts at its lowest untrimmed batch; the old stream stays half open.
    Reconnect(usize),
    /// The half-open stream delivers something again.
    Stale(usize, u64),
    /// The detector gets one of the commits on the way, which may come again later.
    Deliver(usize),
    /// The owner gets one of the acks on the way.
    Ack(usize),
    /// All acks on the way are lost.
    LoseAcks,
    /// What may be trimmed is not heard, or is heard again.
    Deaf,
    Resend,
    /// Minutes pass.
    Tick(u64),
    /// Another owner opens the shard, and the streams have to bind to it.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..2usize).prop_map(Step::Send),
        4 => (0..2usize, 0..9u64).prop_map(|(c, minute)| Step::Watermark(c, minute)),
        2 => (0..2usize).prop_map(Step::Reconnect),
        2 => (0..2usize, 0..12u64).prop_map(|(c, seq)| Step::Stale(c, seq)),
        6 => (0..4usize).prop_map(Step::Deliver),
        5 => (0..3usize).prop_map(Step::Ack),
        1 => Just(Step::LoseAcks),
        1 => Just(Step::Deaf),
        1 => Just(Step::Resend),
        2 => (0..12u64).prop_map(Step::Tick),
        1 => Just(Step::Reopen),
    ]
}

struct Collector {
    /// Minute of each batch; number i + 1.
    buckets: Vec<u64>,
    trimmed: Vec<bool>,
    stream: StreamId,
    /// The last number sent on the current stream.
    sent: u64,
    bound: bool,
}

#[derive(Default)]
struct Detector {
    epoch: u64,
    frontier: Frontier,
    counted: BTreeMap<(usize, u64), u32>,
}

struct World {
    bench: Bench,
    collectors: [Collector; 2],
    detector: Detector,
    commits: Vec<Arc<Commit<Bag>>>,
    acks: Vec<(u64, u64)>,
    next_stream: StreamId,
    deaf: bool,
}

impl World {
    fn new(buckets: [Vec<u64>; 2]) -> Self {
        let collectors = buckets.map(|buckets| {
            let trimmed = vec![false; buckets.len()];
            Collector { buckets, trimmed, stream: 0, sent: 0, bound: false }
        });
        let detector = Detector { epoch: 1, ..Detector::default() };
        let bench = Bench::new(LIVE, opened(1, Frontier::default()));
        Self { bench, collectors, detector, commits: Vec::new(), acks: Vec::new(), next_stream: 1, deaf: false }
    }

    fn event(&mut self, event: Event<Bag>) {
        let actions = self.bench.core.on(event, self.bench.now_ms);
        assert_eq!(self.bench.core.open_bytes, self.bench.core.bytes_of_open());
        for action in actions {
            match action {
                Action::Commit(commit) => self.commits.push(commit),
                Action::Trim { stream, pair } if !self.deaf => self.trim(stream, pair),
                Action::Unbind { stream, .. } => {
                    self.collectors.iter_mut().filter(|c| c.stream == stream).for_each(|c| c.bound = false);
                }
                Action::Lost { .. } | Action::TooLate { .. } | Action::Released => {
                    panic!("nothing is lost: {action:?}")
                }
                Action::Trim { .. } | Action::Receipt { .. } | Action::Credit { .. } => {}
            }
        }
    }

    fn trim(&mut self, stream: StreamId, pair: Pair) {
        for collector in self.collectors.iter_mut().filter(|c| c.stream == stream) {
            for (index, bucket) in collector.buckets.iter().enumerate() {
                collector.trimmed[index] |= pair.covers(bucket * MINUTE, index as u64 + 1);
            }
        }
    }

    fn reconnect(&mut self, number: usize) {
        let collector = &mut self.collectors[number];
        (collector.stream, collector.sent, collector.bound) = (self.next_stream, 0, true);
        self.next_stream += 1;
        let lowest = collector.trimmed.iter().position(|trimmed| !trimmed).unwrap_or(collector.buckets.len());
        let stream = collector.stream;
        let epoch = epoch(self.detector.epoch);
        self.event(Event::Bind {
            stream,
            of: super::collector(number),
            lane: live(),
            epoch,
            lowest_seq: lowest as u64 + 1,
        });
    }

    /// True if there was something to send.
    fn send(&mut self, number: usize) -> bool {
        if !self.collectors[number].bound {
            self.reconnect(number);
        }
        let collector = &mut self.collectors[number];
        let next = (collector.sent as usize..collector.buckets.len()).find(|index| !collector.trimmed[*index]);
        let Some(index) = next else { return false };
        let (seq, prev) = (index as u64 + 1, collector.sent);
        let message = batch(number, collector.buckets[index], seq, prev);
        collector.sent = seq;
        let stream = collector.stream;
        self.event(Event::Said { stream, message });
        true
    }

    fn deliver(&mut self, index: usize) {
        let Some(commit) = self.commits.get(index).cloned() else { return };
        let detector = &mut self.detector;
        if commit.epoch.number != detector.epoch {
            return;
        }
        if commit.commit_no == detector.frontier.commit_no + 1 {
            detector.frontier.commit_no += 1;
            assert!(detector.frontier.bucket <= Some(commit.bucket), "the frontier went back");
            detector.frontier.bucket = Some(commit.bucket);
            for (of, pair) in &commit.pairs {
                let old = detector.frontier.pairs.insert(of.clone(), *pair).unwrap_or_default();
                assert!(old.bucket <= pair.bucket && old.seq <= pair.seq, "a pair went back");
            }
            for (_, number, seq) in batches(&commit.windows).into_iter().chain(batches(&commit.corrections)) {
                *detector.counted.entry((number, seq)).or_default() += 1;
            }
            self.check_invariant();
        } else if commit.commit_no != self.detector.frontier.commit_no {
            return;
        }
        self.acks.push((commit.epoch.number, commit.commit_no));
    }

    fn check_invariant(&self) {
        for (number, collector) in self.collectors.iter().enumerate() {
            let pair = self.detector.frontier.pairs.get(&super::collector(number)).copied().unwrap_or_default();
            for (index, bucket) in collector.buckets.iter().enumerate() {
                let seq = index as u64 + 1;
                let counted = self.detector.counted.get(&(number, seq)).copied().unwrap_or(0);
                let covered = pair.covers(bucket * MINUTE, seq);
                assert_eq!(counted, u32::from(covered), "collector {number}, seq {seq}, {pair:?}");
                assert!(covered || !collector.trimmed[index], "trimmed before it was counted");
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send(number) => drop(self.send(number)),
            Step::Watermark(number, minute) => {
                let stream = self.collectors[number].stream;
                self.event(Event::Said { stream, message: watermark(minute) });
            }
            Step::Reconnect(number) => self.reconnect(number),
            Step::Stale(number, seq) => {
                let collector = &self.collectors[number];
                let (stream, buckets) = (collector.stream.saturating_sub(1), &collector.buckets);
                if let Some(bucket) = (seq as usize).checked_sub(1).and_then(|index| buckets.get(index)) {
                    let message = batch(number, *bucket, seq, 0);
                    // The other collector's stream may have that number: then it is somebody else's.
                    if self.collectors.iter().all(|c| c.stream != stream) {
                        self.event(Event::Said { stream, message });
                    }
                }
            }
            Step::Deliver(index) => self.deliver(index),
            Step::Ack(index) => {
                if index < self.acks.len() {
                    let (number, commit_no) = self.acks.remove(index);
                    self.event(Event::Acked { epoch: epoch(number), commit_no });
                }
            }
            Step::LoseAcks => self.acks.clear(),
            Step::Deaf => self.deaf = !self.deaf,
            Step::Resend => self.event(Event::Resend),
            Step::Tick(minutes) => {
                self.bench.now_ms += minutes * MINUTE;
                self.event(Event::Tick);
            }
            Step::Reopen => {
                self.detector.epoch += 1;
                let opened = opened(self.detector.epoch, self.detector.frontier.clone());
                self.bench.core = Core::new(LIVE, opened, self.bench.now_ms);
                self.collectors.iter_mut().for_each(|collector| collector.bound = false);
            }
        }
    }

    /// From here on nothing is lost any more.
    fn settle(&mut self) {
        self.deaf = false;
        (0..2).for_each(|number| self.reconnect(number));
        for round in 0..60 {
            for number in 0..2 {
                while self.send(number) {}
                let stream = self.collectors[number].stream;
                let (last_seq, time_ms) = (self.collectors[number].sent, 60 * MINUTE);
                let covers = (last_seq > 0).then_some(last_seq);
                self.event(Event::Said { stream, message: Message::ReplayEnd { seq: 0 } });
                self.event(Event::Said { stream, message: Message::Watermark { time_ms, last: true, covers } });
            }
            self.event(Event::Tick);
            self.event(Event::Resend);
            (0..self.commits.len()).for_each(|index| self.deliver(index));
            for (number, commit_no) in std::mem::take(&mut self.acks) {
                self.event(Event::Acked { epoch: epoch(number), commit_no });
            }
            if round > 20 && self.collectors.iter().all(|c| c.trimmed.iter().all(|trimmed| *trimmed)) {
                return;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_batch_is_counted_exactly_once(
        one in proptest::collection::vec(0..8u64, 0..12),
        two in proptest::collection::vec(0..8u64, 0..12),
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new([one, two]);
        steps.into_iter().for_each(|step| world.step(step));
        world.settle();
        world.check_invariant();
        for (number, collector) in world.collectors.iter().enumerate() {
            for (index, trimmed) in collector.trimmed.iter().enumerate() {
                prop_assert!(*trimmed, "collector {number} can't trim batch {}", index + 1);
                prop_assert_eq!(world.detector.counted.get(&(number, index as u64 + 1)), Some(&1));
            }
        }
    }
}
