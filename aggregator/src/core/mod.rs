//! One shard as its owner sees it: a state machine without I/O, clock or randomness. The actor around it runs it, tests
//! drive it, and nothing else decides what is counted.
//!
//! The invariant: a batch is counted exactly once if its bucket and number are covered by its collector's pair, and not
//! at all if not. Hence
//!
//! * within an epoch, what was received is not taken again;
//! * sealing ends a bucket and freezes its contents and the pairs in one step; what comes later is a correction;
//! * a pair moves only once its stream was received up to where the pair stood when the epoch began;
//! * one commit is in flight, under the next number, until it is acked; sent again, it is the same commit.
//!
//! On an event-time clock results must not depend on timing. A batch is then late by its own collector's watermark, not by
//! whether others kept its bucket open, and joins the corrections that go out with the bucket its collector is in.

mod content;
mod early;
mod member;
mod message;
mod seal;
mod stream;
mod take;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use spikewatch_domain::{key::SiteName, record::EventMillis};
use spikewatch_proto::convert::{
    cluster::{Epoch, Incarnation},
    commit::{Opened, Pair},
};

pub use content::{Content, Windows};
pub(crate) use early::Tripping;
use member::{Holdup, Member, Standing};
pub use message::{Action, Commit, Event, Lane, Message, Part, StreamId, Unbinding};
use seal::Parcel;
use stream::Stream;

/// How a shard is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// Time is what recorded traffic says: nothing is closed because time passed.
    pub event_time: bool,
    /// Nothing is sealed before that many collectors have been bound; for replays, where all are known.
    pub expected_collectors: usize,
    /// A bucket may end that much after the owner's clock and be sealed, or begin then and be opened (live), ms.
    pub clock_allowance_ms: u64,
    /// Buckets that ended that much before the owner's clock take nothing more (live), ms.
    pub late_horizon_ms: u64,
}

/// Bytes of contents that are not committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// In open buckets and corrections: freed by sealing, for which collectors have to go on.
    pub open: u64,
    /// Sealed: freed by acks of the detector.
    pub sealed: u64,
}

/// Contents of one bucket by collector.
type Slot<W> = BTreeMap<Incarnation, W>;

/// One open shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Core<W> {
    config: Config,
    opened: Opened,
    opened_ms: u64,
    /// All buckets that end by then are sealed.
    sealed_until: EventMillis,
    /// Pairs as frozen by the last seal, and as acked.
    pairs: BTreeMap<Incarnation, Pair>,
    acked: BTreeMap<Incarnation, Pair>,
    members: BTreeMap<Incarnation, Member>,
    streams: BTreeMap<Incarnation, Stream<W>>,
    bound: BTreeMap<StreamId, Incarnation>,
    /// By the bucket whose seal takes it, then by its own bucket (another one if it is late).
    open: BTreeMap<EventMillis, BTreeMap<EventMillis, Slot<W>>>,
    /// Corrections that may go out at once.
    late: BTreeMap<EventMillis, Slot<W>>,
    /// Bytes of both.
    open_bytes: usize,
    /// Whom the next seal was last seen to wait for.
    holdup: Holdup,
    /// Sites that lost something to a disk budget, by bucket.
    lost: BTreeSet<(EventMillis, SiteName)>,
    frozen: VecDeque<Parcel<W>>,
    in_flight: Option<Arc<Commit<W>>>,
    /// Bytes of what is in flight, and of that and what is frozen.
    in_flight_bytes: usize,
    sealed_bytes: usize,
    commit_no: u64,
    /// When a replaying collector last got further, ms.
    progress_ms: u64,
    /// A watermark, a member or the clock moved: it is time to see what can be sealed.
    moved: bool,
    /// Another will own the shard.
    leaving: bool,
    /// It was said that it may.
    released: bool,
}

impl<W: Content> Core<W> {
    /// A shard that was just opened.
    #[must_use]
    pub fn new(config: Config, opened: Opened, now_ms: u64) -> Self {
        let member = |absent| Member { heard_ms: now_ms, absent, standing: Standing::Waited };
        let members = opened.members.iter().map(|known| (known.of.clone(), member(known.absent))).collect();
        let bucket = opened.shape.bucket;
        Self {
            config,
            opened_ms: now_ms,
            sealed_until: opened.frontier.bucket.map_or(0, |start| start.saturating_add(bucket.millis())),
            pairs: opened.frontier.pairs.clone(),
            acked: opened.frontier.pairs.clone(),
            members,
            streams: BTreeMap::new(),
            bound: BTreeMap::new(),
            open: BTreeMap::new(),
            late: BTreeMap::new(),
            open_bytes: 0,
            holdup: Holdup::default(),
            lost: BTreeSet::new(),
            frozen: VecDeque::new(),
            in_flight: None,
            in_flight_bytes: 0,
            sealed_bytes: 0,
            commit_no: opened.frontier.commit_no,
            progress_ms: now_ms,
            moved: false,
            leaving: false,
            released: false,
            opened,
        }
    }

    /// The epoch it is owned under.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.opened.epoch
    }

    /// What is committed of a collector: what it may trim.
    #[must_use]
    pub fn pair(&self, of: &Incarnation) -> Pair {
        self.acked.get(of).copied().unwrap_or_default()
    }

    /// Bytes of all contents that are not committed, parked ones excepted.
    #[must_use]
    pub fn held(&self) -> Held {
        Held { open: self.open_bytes as u64, sealed: self.sealed_bytes as u64 }
    }

    /// True if nothing is in flight and nothing sealed waits to be sent.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_none() && self.frozen.is_empty()
    }

    /// Streams that are bound.
    pub fn bound(&self) -> impl Iterator<Item = StreamId> {
        self.bound.keys().copied()
    }

    /// Takes one event. `now_ms` is the owner's clock; it never decides what is counted, only when a bucket is closed.
    pub fn on(&mut self, event: Event<W>, now_ms: u64) -> Vec<Action<W>> {
        let mut actions = Vec::new();
        let mut ticked = false;
        match event {
            Event::Bind { stream, of, lane, epoch, lowest_seq } if epoch == self.opened.epoch && !self.leaving => {
                self.bind(stream, of, &lane, lowest_seq, now_ms, &mut actions);
            }
            Event::Bind { stream, .. } => {
                let why = if self.leaving { Unbinding::Moved } else { Unbinding::OtherEpoch };
                actions.push(Action::Unbind { stream, why });
            }
            Event::Said { stream, message } => self.said(stream, message, now_ms, &mut actions),
            Event::Gone { stream } => drop(self.unbind(stream)),
            Event::Acked { epoch, commit_no } => self.acked(epoch, commit_no, &mut actions),
            Event::Resend => actions.extend(self.in_flight.clone().map(Action::Commit)),
            Event::Tick => ticked = true,
            Event::Handover => self.leaving = true,
        }
        self.settle(ticked, now_ms, &mut actions);
        actions
    }

    fn bind(
        &mut self,
        id: StreamId,
        of: Incarnation,
        lane: &Lane,
        lowest_seq: u64,
        now_ms: u64,
        actions: &mut Vec<Action<W>>,
    ) {
        let pair = self.pairs.get(&of).copied().unwrap_or_default();
        let stream = self.streams.entry(of.clone()).or_insert_with(|| Stream::new(pair));
        if stream.id.is_some_and(|current| current > id) {
            actions.push(Action::Unbind { stream: id, why: Unbinding::Replaced });
            return;
        }
        if let Some(old) = stream.id.replace(id).filter(|old| *old != id) {
            self.bound.remove(&old);
            actions.push(Action::Unbind { stream: old, why: Unbinding::Replaced });
        }
        stream.parked.clear();
        stream.receive(lowest_seq.saturating_sub(1), pair, self.opened.shape.bucket);
        self.bound.insert(id, of.clone());
        self.enrol(&of, lane, now_ms);
        self.moved = true;
        let acked = self.pair(&of);
        if acked.seq > 0 {
            actions.push(Action::Trim { stream: id, pair: acked });
        }
    }

    /// Listens to a stream no longer. What waited of it will be sent again; gives the rows it had.
    fn unbind(&mut self, id: StreamId) -> u64 {
        let stream = self.bound.remove(&id).and_then(|of| self.streams.get_mut(&of));
        stream.map_or(0, |stream| {
            stream.id = None;
            std::mem::take(&mut stream.parked).iter().map(Message::rows).sum()
        })
    }

    fn expel(&mut self, id: StreamId, why: Unbinding, rows: u64, actions: &mut Vec<Action<W>>) {
        let rows = rows + self.unbind(id);
        actions.push(Action::Unbind { stream: id, why });
        if rows > 0 {
            actions.push(Action::Credit { stream: id, rows });
        }
    }
}
