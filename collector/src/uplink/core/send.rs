//! What a stream is sent, and when: batches and tombstones in the order of their numbers while there is credit, each
//! slice behind the watermark that it was cut after; the end of the replay; and the newest watermark for every shard
//! of which nothing waits.

use spikewatch_proto::v1::{self, collector_message::Message};

use super::{
    Action, LinkId, Outgoing, Part,
    lane::{Kept, Lane},
    line::Line,
    link::{Bound, Link, Promise},
};

impl Lane {
    /// Sends on every stream what it may have.
    pub(super) fn pump_all(&mut self, actions: &mut Vec<Action>) {
        let links: Vec<_> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.pump(link, actions));
    }

    /// Sends what the stream may have.
    pub(super) fn pump(&mut self, id: LinkId, actions: &mut Vec<Action>) {
        let Some(link) = self.links.get_mut(&id).filter(|link| !link.bound.is_empty()) else { return };
        let mut feed = Feed { id, link, lines: &mut self.lines, durable: self.durable, actions };
        // What was dropped is older than what is kept.
        let shards: Vec<u32> = feed.link.bound.keys().copied().collect();
        let mut waits = !shards.iter().all(|shard| feed.bury(*shard, feed.first_waiting(*shard)));
        while !waits && let Some((&slice_no, kept)) = self.slices.range(feed.link.next..).next() {
            let due: Vec<&Part> = kept.parts.iter().filter(|part| feed.is_due(part)).collect();
            if !due.is_empty() {
                // Back-fill goes a slice at a time, whatever the credit.
                let wanting = feed.link.credit == 0 || self.back_fill;
                waits = !feed.may_send(kept, &due) || (wanting && feed.link.is_busy());
                if waits {
                    break;
                }
                feed.promise(Promise { time_ms: kept.after, last: false }, false);
                if !due.iter().all(|part| feed.bury(part.shard, part.seq)) {
                    waits = true;
                    break;
                }
                feed.send(slice_no, &due);
            }
            feed.link.next = slice_no + 1;
        }
        if !waits {
            for shard in shards {
                feed.bury(shard, u64::MAX);
            }
        }
        feed.end_replays();
        feed.promise(self.watermark, true);
    }
}

/// One stream that is being filled.
struct Feed<'a> {
    id: LinkId,
    link: &'a mut Link,
    lines: &'a mut [Line],
    durable: u64,
    actions: &'a mut Vec<Action>,
}

impl Feed<'_> {
    fn line(&self, shard: u32) -> Option<&Line> {
        self.lines.get(shard as usize)
    }

    fn is_due(&self, part: &Part) -> bool {
        !part.committed && self.link.bound.get(&part.shard).is_some_and(|bound| part.seq > bound.sent)
    }

    /// The first batch of a shard that was not sent.
    fn first_waiting(&self, shard: u32) -> u64 {
        let sent = self.link.bound.get(&shard).map_or(0, |bound| bound.sent);
        let waiting = self.line(shard).and_then(|line| line.pending.range(sent.saturating_add(1)..).next());
        waiting.map_or(u64::MAX, |(seq, _)| *seq)
    }

    /// Nothing is sent before it is durable, nor before the mark that says so is.
    fn may_send(&self, kept: &Kept, due: &[&Part]) -> bool {
        let marked = |part: &&Part| self.line(part.shard).is_some_and(|line| part.seq <= line.sendable);
        kept.is_durable(self.durable) && due.iter().all(marked)
    }

    /// Sends the tombstones of a shard that lie before `seq`. False if one of them is not durable yet.
    fn bury(&mut self, shard: u32, seq: u64) -> bool {
        let (Some(line), Some(bound)) = (self.lines.get_mut(shard as usize), self.link.bound.get_mut(&shard)) else {
            return true;
        };
        for grave in line.graves.values_mut().filter(|grave| grave.stone.last_seq < seq) {
            let stone = &grave.stone;
            if stone.last_seq <= bound.sent {
                continue;
            }
            if grave.ticket > self.durable {
                return false;
            }
            let tombstone = v1::Tombstone {
                shard,
                first_seq: stone.first_seq.max(bound.sent + 1),
                last_seq: stone.last_seq,
                prev: bound.sent,
                bucket_start_ms: stone.buckets.clone(),
                events: stone.lost.events,
                bytes: stone.lost.bytes,
            };
            bound.sent = stone.last_seq;
            grave.told = true;
            self.actions.push(Action::Say { link: self.id, message: Box::new(Message::Tombstone(tombstone)) });
        }
        true
    }

    fn send(&mut self, slice_no: u64, due: &[&Part]) {
        let mut batches = Vec::with_capacity(due.len());
        for part in due {
            let Some(bound) = self.link.bound.get_mut(&part.shard) else { continue };
            batches.push(Outgoing { shard: part.shard, seq: part.seq, prev: bound.sent });
            bound.sent = part.seq;
            self.link.credit = self.link.credit.saturating_sub(u64::from(part.rows));
        }
        self.actions.push(Action::Send { link: self.id, slice_no, batches });
    }

    /// Says of which shards all is sent that was there when they were bound.
    fn end_replays(&mut self) {
        let mut end = v1::ReplayEnd::default();
        for (shard, bound) in &mut self.link.bound {
            let waits = |line: &Line| line.has_between(bound.sent, bound.replay_to);
            if !bound.replayed && !self.lines.get(*shard as usize).is_some_and(waits) {
                bound.replayed = true;
                end.shard.push(*shard);
                end.seq.push(bound.sent);
            }
        }
        if !end.shard.is_empty() {
            self.actions.push(Action::Say { link: self.id, message: Box::new(Message::ReplayEnd(end)) });
        }
    }

    /// Vouches that nothing older comes. For the `newest` watermark, shards of which something still waits are excepted;
    /// an earlier one comes in its place among the slices, so that nothing of what it covers waits.
    fn promise(&mut self, promise: Promise, newest: bool) {
        let waits = |(shard, bound): (&u32, &Bound)| {
            newest && self.line(*shard).is_some_and(|line| line.has_between(bound.sent, u64::MAX))
        };
        let except: Vec<u32> = self.link.bound.iter().filter(|one| waits(*one)).map(|(shard, _)| *shard).collect();
        let mut watermark = v1::Watermark { time_ms: promise.time_ms, last: promise.last, ..v1::Watermark::default() };
        let mut news = false;
        for (shard, bound) in self.link.bound.iter_mut().filter(|(shard, _)| except.binary_search(shard).is_err()) {
            news |= bound.told < promise;
            bound.told = bound.told.max(promise);
            if bound.sent > 0 {
                watermark.shard.push(*shard);
                watermark.seq.push(bound.sent);
            }
        }
        if news {
            watermark.except = except;
            self.actions.push(Action::Say { link: self.id, message: Box::new(Message::Watermark(watermark)) });
        }
    }
}
