//! The core driven by hand and at random, with contents that remember which batches they are made of.

mod event_time;
mod handover;
mod lanes;
mod random;
mod table;

use std::collections::BTreeMap;

use spikewatch_domain::span::Span;
use spikewatch_proto::convert::{
    cluster::{Epoch, Incarnation, Shape},
    commit::{Frontier, Opened, Pair},
};

use super::{Action, Commit, Config, Content, Core, Event, Lane, Message, StreamId};

/// One minute, so that times read easily.
pub(super) const MINUTE: u64 = 60_000;

/// Batches by collector and number, and how often each was merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bag(pub(super) BTreeMap<(usize, u64), u32>);

impl Content for Bag {
    fn absorb(&mut self, other: Self) {
        other.0.into_iter().for_each(|(batch, times)| *self.0.entry(batch).or_default() += times);
    }

    fn bytes(&self) -> usize {
        // An empty one takes something, too.
        50 + self.0.len() * 100
    }
}

/// A collector of its own site.
pub(super) fn collector(number: usize) -> Incarnation {
    Incarnation {
        site: format!("s{number}").parse().unwrap(),
        collector: "c".parse().unwrap(),
        id: [number as u8 + 1; 16],
    }
}

/// The only incarnation of its collector.
pub(super) fn live() -> Lane {
    Lane::Live { draining: Vec::new() }
}

pub(super) fn epoch(number: u64) -> Epoch {
    Epoch { lineage: [9; 16], number }
}

pub(super) fn opened(number: u64, frontier: Frontier) -> Opened {
    let members = frontier.pairs.keys().cloned();
    Opened {
        shard: 0,
        epoch: epoch(number),
        members: members
            .map(|of| spikewatch_proto::convert::commit::Member { of, last_bucket: 0, absent: false })
            .collect(),
        frontier,
        shape: Shape { shards: 1, bucket: Span::from_seconds(60).unwrap() },
        allowed_lateness_ms: 0,
        max_wait_ms: 10 * MINUTE,
    }
}

pub(super) const LIVE: Config =
    Config { event_time: false, expected_collectors: 0, clock_allowance_ms: 10_000, late_horizon_ms: 600 * MINUTE };

/// A batch of collector `number` for the bucket that starts at that minute.
pub(super) fn batch(number: usize, minute: u64, seq: u64, prev: u64) -> Message<Bag> {
    let content = Bag(BTreeMap::from([((number, seq), 1)]));
    Message::Batch { bucket: minute * MINUTE, seq, prev, rows: 1, content }
}

pub(super) fn watermark(minute: u64) -> Message<Bag> {
    Message::Watermark { time_ms: minute * MINUTE, last: false, covers: None }
}

/// A core and what came out of it, at a fixed clock an hour after the epoch.
pub(super) struct Bench {
    pub(super) core: Core<Bag>,
    pub(super) now_ms: u64,
    pub(super) actions: Vec<Action<Bag>>,
}

impl Bench {
    pub(super) fn new(config: Config, opened: Opened) -> Self {
        let now_ms = 60 * MINUTE;
        Self { core: Core::new(config, opened, now_ms), now_ms, actions: Vec::new() }
    }

    /// Takes an event; what came out of it is also kept.
    pub(super) fn on(&mut self, event: Event<Bag>) -> Vec<Action<Bag>> {
        let actions = self.core.on(event, self.now_ms);
        self.actions.extend(actions.clone());
        actions
    }

    pub(super) fn bind(&mut self, stream: StreamId, number: usize, lowest_seq: u64) -> Vec<Action<Bag>> {
        let epoch = self.core.epoch();
        self.on(Event::Bind { stream, of: collector(number), lane: live(), epoch, lowest_seq })
    }

    pub(super) fn say(&mut self, stream: StreamId, message: Message<Bag>) -> Vec<Action<Bag>> {
        self.on(Event::Said { stream, message })
    }

    /// The last commit that came out.
    pub(super) fn commit(&self) -> Commit<Bag> {
        let commit = |action: &Action<Bag>| match action {
            Action::Commit(commit) => Some((**commit).clone()),
            _ => None,
        };
        self.actions.iter().rev().find_map(commit).expect("no commit")
    }

    pub(super) fn ack(&mut self) -> Vec<Action<Bag>> {
        let commit = self.commit();
        self.on(Event::Acked { epoch: commit.epoch, commit_no: commit.commit_no })
    }
}

/// Batches in parts: (minute of the bucket, collector, seq), each as often as it was merged.
pub(super) fn batches(parts: &[super::Part<Bag>]) -> Vec<(u64, usize, u64)> {
    let contents = |part: &super::Part<Bag>| -> Vec<_> {
        let minute = part.bucket / MINUTE;
        let all = part.sites.values().flat_map(|bag| bag.0.clone());
        all.flat_map(|((number, seq), times)| vec![(minute, number, seq); times as usize]).collect()
    };
    parts.iter().flat_map(contents).collect()
}

pub(super) fn pair(minute: u64, seq: u64) -> Pair {
    Pair { bucket: minute * MINUTE, seq }
}
