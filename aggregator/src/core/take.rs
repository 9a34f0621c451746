//! What a stream says: taken now, or once there is room.

use std::collections::btree_map::Entry;

use spikewatch_domain::record::EventMillis;
use spikewatch_proto::convert::cluster::Incarnation;

use super::{Action, Content, Core, Message, StreamId, Unbinding};

/// Buckets that may be open below one that is newly opened, on a live clock.
const MAX_OPEN: usize = 4;
/// Messages that a stalled stream may leave waiting. Batches end sooner, with the credit; this bounds watermarks.
const MAX_PARKED: usize = 4096;

impl<W: Content> Core<W> {
    /// A message of a bound stream: taken now, or after those of it that wait already.
    pub(super) fn said(&mut self, id: StreamId, message: Message<W>, now_ms: u64, actions: &mut Vec<Action<W>>) {
        let rows = message.rows();
        let of = self.bound.get(&id).cloned();
        let Some((of, stream)) =
            of.filter(|_| !self.leaving).and_then(|of| self.streams.get(&of).map(|stream| (of, stream)))
        else {
            actions.extend((rows > 0).then_some(Action::Credit { stream: id, rows }));
            return;
        };
        if let Some(member) = self.members.get_mut(&of) {
            (member.heard_ms, member.absent) = (now_ms, false);
        }
        let waits = !stream.parked.is_empty() || !self.has_room_for(&of, &message, now_ms);
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

    /// A new bucket is not opened while too many lie open below it, nor before its time: its stream waits, and no other.
    /// One that has not vouched for the bucket to be sealed next never waits for others: what it says next is what the
    /// seal needs.
    fn has_room_for(&self, of: &Incarnation, message: &Message<W>, now_ms: u64) -> bool {
        let Message::Batch { bucket, .. } = message else { return true };
        if self.config.event_time || *bucket < self.sealed_until {
            return true;
        }
        *bucket <= now_ms.saturating_add(self.config.clock_allowance_ms)
            && (self.streams.get(of).is_none_or(|stream| stream.passed <= self.sealed_until)
                || self.open.contains_key(bucket)
                || self.open.range(..bucket).count() < MAX_OPEN)
    }

    /// True if the bucket ended so long ago that nothing more is counted in it.
    fn is_too_late(&self, bucket: EventMillis, now_ms: u64) -> bool {
        let horizon = now_ms.saturating_sub(self.config.late_horizon_ms);
        !self.config.event_time && self.opened.shape.bucket.end(bucket) < horizon
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
                    if self.is_too_late(bucket, now_ms) && !pair.covers(bucket, seq) {
                        actions.push(Action::TooLate { of: of.clone(), rows });
                    } else if !pair.covers(bucket, seq) {
                        self.merge(of, bucket, content);
                    }
                    if let Some(stream) = self.streams.get_mut(of) {
                        self.moved |= stream.receive(seq, pair, span);
                    }
                }
                actions.push(Action::Receipt { stream: id, seq });
                actions.push(Action::Credit { stream: id, rows });
            }
            Message::Tombstone { last_seq, prev, buckets, events } => {
                if prev > stream.received {
                    return Err(Unbinding::Gap);
                }
                if last_seq > stream.received {
                    stream.heard = true;
                    self.moved |= stream.receive(last_seq, pair, span);
                    // Had it been committed before it was dropped, nothing would be lost.
                    if !buckets.iter().all(|bucket| pair.covers(*bucket, last_seq)) {
                        actions.push(Action::Lost { of: of.clone(), events });
                    }
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
        let (before, now) = match slot.entry(of.clone()) {
            Entry::Vacant(place) => (0, place.insert(content).bytes()),
            Entry::Occupied(mut place) => {
                let before = place.get().bytes();
                place.get_mut().absorb(content);
                (before, place.get().bytes())
            }
        };
        self.open_bytes = (self.open_bytes + now).saturating_sub(before);
    }

    /// Applies what waited, after a seal made room.
    pub(super) fn unpark(&mut self, now_ms: u64, actions: &mut Vec<Action<W>>) {
        let waiting = self.streams.iter().filter(|(_, stream)| !stream.parked.is_empty());
        let waiting: Vec<_> = waiting.filter_map(|(of, stream)| Some((of.clone(), stream.id?))).collect();
        for (of, id) in waiting {
            loop {
                let next = self.streams.get(&of).and_then(|stream| stream.parked.front());
                if !next.is_some_and(|message| self.has_room_for(&of, message, now_ms)) {
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
