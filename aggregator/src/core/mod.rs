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
mod message;
mod seal;
mod stream;
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
pub use message::{Action, Commit, Event, Message, Part, StreamId, Unbinding};
use seal::Parcel;
use stream::Stream;

/// Buckets that may be open below one that is newly opened, on a live clock.
const MAX_OPEN: usize = 4;
/// Messages that a stalled stream may leave waiting. Batches end sooner, with the credit; this bounds watermarks.
const MAX_PARKED: usize = 4096;

/// How a shard is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Time is what recorded traffic says: nothing is closed because time passed.
    pub event_time: bool,
    /// Nothing is sealed before that many collectors have been bound; for replays, where all are known.
    pub expected_collectors: usize,
    /// A bucket may end that much after the owner's clock and be sealed (live), ms.
    pub clock_allowance_ms: u64,
}

/// A collector that a close waits for.
#[derive(Debug, Clone, Copy)]
struct Member {
    /// When it was last heard of, ms; the open counts.
    heard_ms: u64,
    /// It was absent when the shard was opened and was not heard of since.
    absent: bool,
    /// A later incarnation took its place.
    retired: bool,
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
#[derive(Debug, Clone)]
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
}

impl<W: Content> Core<W> {
    /// A shard that was just opened.
    #[must_use]
    pub fn new(config: Config, opened: Opened, now_ms: u64) -> Self {
        let member = |absent| Member { heard_ms: now_ms, absent, retired: false };
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
            lost: BTreeSet::new(),
            frozen: VecDeque::new(),
            in_flight: None,
            in_flight_bytes: 0,
            sealed_bytes: 0,
            commit_no: opened.frontier.commit_no,
            progress_ms: now_ms,
            moved: false,
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
        let slots = self.open.values().flat_map(BTreeMap::values).chain(self.late.values());
        let open: usize = slots.flat_map(BTreeMap::values).map(Content::bytes).sum();
        Held { open: open as u64, sealed: self.sealed_bytes as u64 }
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
            Event::Bind { stream, of, epoch, lowest_seq } => {
                self.bind(stream, of, epoch, lowest_seq, now_ms, &mut actions);
            }
            Event::Said { stream, message } => self.said(stream, message, now_ms, &mut actions),
            Event::Gone { stream } => drop(self.unbind(stream)),
            Event::Acked { epoch, commit_no } => self.acked(epoch, commit_no, &mut actions),
            Event::Resend => actions.extend(self.in_flight.clone().map(Action::Commit)),
            Event::Tick => ticked = true,
        }
        self.settle(ticked, now_ms, &mut actions);
        actions
    }

    fn bind(
        &mut self,
        id: StreamId,
        of: Incarnation,
        epoch: Epoch,
        lowest_seq: u64,
        now_ms: u64,
        actions: &mut Vec<Action<W>>,
    ) {
        if epoch != self.opened.epoch {
            actions.push(Action::Unbind { stream: id, why: Unbinding::OtherEpoch });
            return;
        }
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
        for (other, member) in &mut self.members {
            member.retired |= *other != of && other.is_same_collector(&of);
        }
        let member = Member { heard_ms: now_ms, absent: false, retired: false };
        self.members.insert(of.clone(), member);
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

    /// A message of a bound stream: taken now, or after those of it that wait already.
    fn said(&mut self, id: StreamId, message: Message<W>, now_ms: u64, actions: &mut Vec<Action<W>>) {
        let rows = message.rows();
        let of = self.bound.get(&id).cloned();
        let Some((of, stream)) = of.and_then(|of| self.streams.get(&of).map(|stream| (of, stream))) else {
            actions.extend((rows > 0).then_some(Action::Credit { stream: id, rows }));
            return;
        };
        if let Some(member) = self.members.get_mut(&of) {
            (member.heard_ms, member.absent) = (now_ms, false);
        }
        let waits = !stream.parked.is_empty() || !self.has_room_for(&of, &message);
        let taken = match waits {
            false => self.take(&of, id, message, now_ms, actions),
            true => self.park(&of, message),
        };
        if let Err(why) = taken {
            self.expel(id, why, rows, actions);
        }
    }

    fn park(&mut self, of: &Incarnation, message: Message<W>) -> Result<(), Unbinding> {
        let Some(stream) = self.streams.get_mut(of) else { return Ok(()) };
        if stream.parked.len() >= MAX_PARKED {
            return Err(Unbinding::Overrun);
        }
        stream.parked.push_back(message);
        Ok(())
    }

    /// A new bucket is not opened while too many lie open below it: its stream waits, and no other. One that has not
    /// vouched for the bucket to be sealed next never waits: what it says next is what the seal needs.
    fn has_room_for(&self, of: &Incarnation, message: &Message<W>) -> bool {
        let Message::Batch { bucket, .. } = message else { return true };
        self.config.event_time
            || *bucket < self.sealed_until
            || self.streams.get(of).is_none_or(|stream| stream.passed <= self.sealed_until)
            || self.open.contains_key(bucket)
            || self.open.range(..bucket).count() < MAX_OPEN
    }

    /// Takes a message that is next in its stream.
    fn take(
        &mut self,
        of: &Incarnation,
        id: StreamId,
        message: Message<W>,
        now_ms: u64,
        actions: &mut Vec<Action<W>>,
    ) -> Result<(), Unbinding> {
        let span = self.opened.shape.bucket;
        let pair = self.pairs.get(of).copied().unwrap_or_default();
        let Some(stream) = self.streams.get_mut(of) else { return Ok(()) };
        match message {
            Message::Batch { bucket, seq, prev, rows, content } => {
                if prev > stream.received {
                    return Err(Unbinding::Gap);
                }
                if seq > stream.received {
                    if stream.replaying {
                        self.progress_ms = now_ms;
                    }
                    stream.heard = true;
                    if !pair.covers(bucket, seq) {
                        self.merge(of, bucket, content);
                    }
                    if let Some(stream) = self.streams.get_mut(of) {
                        self.moved |= stream.receive(seq, pair, span);
                    }
                }
                actions.push(Action::Receipt { stream: id, seq });
                actions.push(Action::Credit { stream: id, rows });
            }
            Message::Tombstone { last_seq, prev, buckets } => {
                if prev > stream.received {
                    return Err(Unbinding::Gap);
                }
                if last_seq > stream.received {
                    stream.heard = true;
                    self.moved |= stream.receive(last_seq, pair, span);
                    let open = buckets.into_iter().filter(|bucket| *bucket >= self.sealed_until);
                    self.lost.extend(open.map(|bucket| (bucket, of.site.clone())));
                }
                actions.push(Action::Receipt { stream: id, seq: last_seq });
            }
            Message::Watermark { time_ms, last, covers } => {
                if covers.is_some_and(|seq| seq > stream.received) {
                    return Err(Unbinding::Gap);
                }
                stream.heard = true;
                let lateness = if last { 0 } else { self.opened.allowed_lateness_ms };
                self.moved |= stream.pass(time_ms.saturating_sub(lateness), last, span);
            }
            Message::ReplayEnd { seq } => {
                if seq > stream.received {
                    return Err(Unbinding::Gap);
                }
                stream.replaying = false;
                self.moved |= stream.resume(span);
            }
        }
        Ok(())
    }

    /// Puts contents where they belong: into their open bucket, or among the corrections.
    fn merge(&mut self, of: &Incarnation, bucket: EventMillis, content: W) {
        let passed = if self.config.event_time { self.streams.get(of).map_or(0, |stream| stream.passed) } else { 0 };
        let slot = if bucket >= self.sealed_until.max(passed) {
            self.open.entry(bucket).or_default().entry(bucket).or_default()
        } else if self.releases() {
            self.late.entry(bucket).or_default()
        } else {
            self.open.entry(self.sealed_until.max(passed)).or_default().entry(bucket).or_default()
        };
        slot.entry(of.clone()).or_default().absorb(content);
    }

    /// Applies what waited, after a seal made room.
    fn unpark(&mut self, now_ms: u64, actions: &mut Vec<Action<W>>) {
        let waiting = self.streams.iter().filter(|(_, stream)| !stream.parked.is_empty());
        let waiting: Vec<_> = waiting.filter_map(|(of, stream)| Some((of.clone(), stream.id?))).collect();
        for (of, id) in waiting {
            loop {
                let next = self.streams.get(&of).and_then(|stream| stream.parked.front());
                if !next.is_some_and(|message| self.has_room_for(&of, message)) {
                    break;
                }
                let Some(message) = self.streams.get_mut(&of).and_then(|stream| stream.parked.pop_front()) else {
                    break;
                };
                let rows = message.rows();
                if let Err(why) = self.take(&of, id, message, now_ms, actions) {
                    self.expel(id, why, rows, actions);
                }
            }
        }
    }
}
