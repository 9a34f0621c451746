//! One incarnation: its batches are numbered, kept, and trimmed.

use std::collections::BTreeMap;

use spikewatch_domain::{record::EventMillis, span::Span};
use spikewatch_proto::{
    convert::{cluster::Epoch, commit::Pair},
    v1::{self, collector_message::Message as Said},
};

use super::{
    Action, Alarm, CutPart, LaneNo, LinkId, Loss, Part, SliceNo, Ticket, Tombstone,
    line::{Grave, Line},
    link::{Link, Promise},
    recovered::RecoveredLane,
};

/// A slice whose contents are in the spool.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kept {
    /// Start of its bucket.
    pub(super) bucket: EventMillis,
    /// Durable once this ticket is.
    pub(super) ticket: Ticket,
    /// Its contents are being merged: it can't be sent until they are written.
    pub(super) merging: bool,
    /// The watermark when it was cut.
    pub(super) after: EventMillis,
    /// The bucket that was under way when it was cut, whatever it is of; its own, if that is not known any more.
    pub(super) cut_in: EventMillis,
    /// Its batches, ascending by shard.
    pub(super) parts: Vec<Part>,
    /// What it takes in the spool.
    pub(super) stored: u64,
}

impl Kept {
    /// True if its contents are in the spool for good, given what is durable.
    pub(super) fn is_durable(&self, durable: Ticket) -> bool {
        !self.merging && self.ticket <= durable
    }

    fn is_committed(&self) -> bool {
        self.parts.iter().all(|part| part.committed)
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    pub(super) number: LaneNo,
    pub(super) incarnation: [u8; 16],
    /// Another incarnation is the live one; this one only delivers what it has.
    pub(super) back_fill: bool,
    pub(super) lines: Vec<Line>,
    /// Slices that are not wholly committed.
    pub(super) slices: BTreeMap<SliceNo, Kept>,
    /// Committed slices that the spool has still, should the store go back.
    trimmed: BTreeMap<SliceNo, Kept>,
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) watermark: Promise,
    /// All up to this ticket is durable.
    pub(super) durable: Ticket,
    keep_trimmed: bool,
}

impl Lane {
    /// A lane that has sent nothing.
    pub(super) fn new(number: LaneNo, incarnation: [u8; 16], shards: u32, keep_trimmed: bool) -> Self {
        Self {
            number,
            incarnation,
            back_fill: false,
            lines: vec![Line::new(); shards as usize],
            slices: BTreeMap::new(),
            trimmed: BTreeMap::new(),
            links: BTreeMap::new(),
            watermark: Promise::default(),
            durable: 0,
            keep_trimmed,
        }
    }

    /// A lane as its spool has it.
    pub(super) fn recovered(
        number: LaneNo,
        from: RecoveredLane,
        (shards, bucket): (u32, Span),
        keep_trimmed: bool,
        actions: &mut Vec<Action>,
    ) -> Self {
        let mut lane = Self::new(number, from.incarnation, shards, keep_trimmed);
        for (line, known) in lane.lines.iter_mut().zip(from.lines) {
            *line = Line::recovered(known.next_seq.max(1), known.marked, known.trimmed);
        }
        for stone in from.tombstones {
            let Some(line) = lane.lines.get_mut(stone.shard as usize) else { continue };
            if !stone.is_covered(line.trimmed) {
                // Whether an owner heard of it is not known any more.
                line.graves.insert(stone.first_seq, Grave { stone, ticket: 0, told: true });
            }
        }
        let mut done = Vec::new();
        let mut cut_in = 0;
        for slice in from.slices {
            let bucket = bucket.floor(slice.start);
            cut_in = bucket.max(cut_in);
            let (ticket, merging, stored) = (0, false, slice.stored);
            let mut kept = Kept { bucket, ticket, merging, after: 0, cut_in, parts: slice.parts, stored };
            for part in &mut kept.parts {
                let Some(line) = lane.lines.get_mut(part.shard as usize) else { continue };
                part.committed = line.trimmed.covers(bucket, part.seq);
                if !part.committed {
                    line.next_seq = line.next_seq.max(part.seq + 1);
                    line.pending.insert(part.seq, slice.slice_no);
                }
            }
            if !kept.is_committed() {
                lane.slices.insert(slice.slice_no, kept);
            } else {
                done.push(slice.slice_no);
                if keep_trimmed {
                    lane.trimmed.insert(slice.slice_no, kept);
                }
            }
        }
        actions.extend((!done.is_empty()).then_some(Action::Trim { lane: number, slices: done }));
        lane
    }

    /// Numbers a slice and keeps it.
    pub(super) fn cut(
        &mut self,
        slice_no: SliceNo,
        ticket: Ticket,
        (start, bucket, cut_in): (EventMillis, EventMillis, EventMillis),
        parts: Vec<CutPart>,
        stored: u64,
        actions: &mut Vec<Action>,
    ) {
        let mut numbered = Vec::with_capacity(parts.len());
        for CutPart { shard, rows, holds } in parts {
            let Some(line) = self.lines.get_mut(shard as usize) else { continue };
            let seq = line.next_seq;
            line.next_seq += 1;
            line.pending.insert(seq, slice_no);
            numbered.push(Part { shard, seq, rows, holds, committed: false });
        }
        let (lane, after) = (self.number, self.watermark.time_ms);
        let kept = Kept { bucket, ticket, merging: false, after, cut_in, parts: numbered.clone(), stored };
        self.slices.insert(slice_no, kept);
        actions.push(Action::Append { ticket, lane, slice_no, start, bucket, after, parts: numbered });
    }

    /// Marks all batches of the shards that are bound to some stream: they are about to be sent. While a shard is not
    /// bound, its batches are not marked, so that they may be coarsened.
    pub(super) fn mark(&mut self, ticket: Ticket, actions: &mut Vec<Action>) -> bool {
        let mut up_to = Vec::new();
        for (shard, line) in (0u32..).zip(&mut self.lines) {
            if line.marked + 1 < line.next_seq && self.links.values().any(|link| link.bound.contains_key(&shard)) {
                up_to.extend(line.mark(ticket).map(|mark| (shard, mark)));
            }
        }
        let news = !up_to.is_empty();
        actions.extend(news.then_some(Action::Mark { ticket, lane: self.number, up_to }));
        news
    }

    /// What was written up to the ticket is durable.
    pub(super) fn synced(&mut self, ticket: Ticket) {
        self.durable = self.durable.max(ticket);
        self.lines.iter_mut().for_each(|line| line.synced(ticket));
    }

    /// The shards that an aggregator owns: what its pairs say is committed goes, the rest is sent from its beginning.
    /// False if the spool turns out to be an old copy.
    pub(super) fn welcome(&mut self, id: LinkId, welcome: &v1::Welcome, actions: &mut Vec<Action>) -> bool {
        let mut bind = v1::Bind::default();
        let mut sound = true;
        let columns = welcome.shard.iter().zip(&welcome.epoch).zip(welcome.bucket_start_ms.iter().zip(&welcome.seq));
        let mut pairs = Vec::new();
        for ((&shard, epoch), (&bucket, &seq)) in columns {
            let (Some(line), Ok(epoch)) =
                (self.lines.get_mut(shard as usize), Epoch::read("Welcome.epoch", Some(epoch)))
            else {
                continue;
            };
            let pair = Pair { bucket, seq };
            // An owner that has been replaced can't commit any more.
            if line.is_stale(epoch) {
                continue;
            }
            if pair.seq >= line.next_seq {
                let alarm = Alarm::SpoolWentBack { shard, next_seq: line.next_seq, frontier: pair };
                actions.push(Action::Alarm(alarm));
                if !self.back_fill {
                    sound = false;
                    continue;
                }
                line.next_seq = pair.seq + 1;
            }
            line.epoch = Some(epoch);
            if line.is_ahead_of(pair) {
                let alarm = Alarm::StoreWentBack { shard, trimmed: line.trimmed, frontier: pair };
                actions.push(Action::Alarm(alarm));
                line.trimmed = pair;
                self.offer_again(shard, pair);
            }
            pairs.push((shard, pair));
            bind.shard.push(shard);
            bind.epoch.push(epoch.into());
        }
        self.committed(&pairs, actions);
        for &shard in &bind.shard {
            let Some(line) = self.lines.get(shard as usize) else { continue };
            let lowest = line.lowest();
            bind.lowest_seq.push(lowest);
            bind.trimmed_seq.push(line.trimmed.seq.min(lowest - 1));
            let first = line.pending.first_key_value().map_or(SliceNo::MAX, |(_, slice)| *slice);
            // A shard has one owner: a stream to an earlier one has nothing more to get.
            for (other, link) in &mut self.links {
                if *other == id {
                    link.bind(shard, line.next_seq - 1, first);
                } else {
                    link.bound.remove(&shard);
                }
            }
        }
        if self.links.contains_key(&id) && !bind.shard.is_empty() {
            actions.push(Action::Say { link: id, message: Box::new(Said::Bind(bind)) });
        }
        sound
    }

    /// Takes back what was trimmed of a shard and lies above the pair, as far as the spool has it still.
    fn offer_again(&mut self, shard: u32, pair: Pair) {
        let Some(line) = self.lines.get_mut(shard as usize) else { return };
        for (slice_no, kept) in &mut self.trimmed {
            let uncovered = |part: &&mut Part| part.shard == shard && !pair.covers(kept.bucket, part.seq);
            for part in kept.parts.iter_mut().filter(uncovered) {
                part.committed = false;
                line.pending.insert(part.seq, *slice_no);
            }
        }
        // Slices of which other shards are not committed yet are kept anyway.
        for (slice_no, kept) in &mut self.slices {
            let uncovered = |part: &&mut Part| part.shard == shard && !pair.covers(kept.bucket, part.seq);
            for part in kept.parts.iter_mut().filter(uncovered) {
                part.committed = false;
                line.pending.insert(part.seq, *slice_no);
            }
        }
        let again: Vec<_> = self.trimmed.extract_if(.., |_, kept| !kept.is_committed()).collect();
        self.slices.extend(again);
    }

    /// What a trim covers is counted.
    pub(super) fn trimmed(&mut self, trim: &v1::Trim, actions: &mut Vec<Action>) {
        let columns = trim.shard.iter().zip(trim.bucket_start_ms.iter().zip(&trim.seq));
        let pairs: Vec<_> = columns.map(|(&shard, (&bucket, &seq))| (shard, Pair { bucket, seq })).collect();
        self.committed(&pairs, actions);
    }

    /// What these pairs cover is counted.
    fn committed(&mut self, pairs: &[(u32, Pair)], actions: &mut Vec<Action>) {
        let mut done = Vec::new();
        let mut news = Vec::new();
        let mut taken_back = Loss::default();
        for &(shard, pair) in pairs {
            let Some(line) = self.lines.get_mut(shard as usize) else { continue };
            news.extend(line.trim(pair).then_some((shard, pair)));
            let slices = &self.slices;
            let covered = |seq: &u64, slice_no: &mut SliceNo| {
                slices.get(slice_no).is_none_or(|kept| pair.covers(kept.bucket, *seq))
            };
            let covered: Vec<_> = line.pending.extract_if(..=pair.seq, covered).map(|(_, slice_no)| slice_no).collect();
            for slice_no in covered {
                let Some(kept) = self.slices.get_mut(&slice_no) else { continue };
                if let Some(part) = kept.parts.iter_mut().find(|part| part.shard == shard) {
                    part.committed = true;
                }
                done.extend(kept.is_committed().then_some(slice_no));
            }
            // Nobody heard of the drop, so that it is the batches that were counted.
            line.graves.retain(|_, grave| {
                let covered = grave.stone.is_covered(pair);
                if covered && !grave.told {
                    taken_back.add(grave.stone.lost);
                }
                !covered
            });
        }
        let lane = self.number;
        if taken_back != Loss::default() {
            actions.push(Action::TakenBack { lost: taken_back });
        }
        if !news.is_empty() {
            actions.push(Action::Trimmed { lane, pairs: news });
        }
        if !done.is_empty() {
            for slice_no in &done {
                if let Some(kept) = self.slices.remove(slice_no).filter(|_| self.keep_trimmed) {
                    self.trimmed.insert(*slice_no, kept);
                }
            }
            actions.push(Action::Trim { lane, slices: done });
        }
    }

    /// The spool has deleted trimmed slices up to this one.
    pub(super) fn forget(&mut self, slice_no: SliceNo) {
        self.trimmed = self.trimmed.split_off(&slice_no.saturating_add(1));
    }

    /// True if the spool has no slice between these two.
    pub(super) fn are_neighbours(&self, one: SliceNo, next: SliceNo) -> bool {
        self.trimmed.range(one..next).next().is_none()
    }

    /// True if owners have received all that is not committed.
    pub(super) fn is_delivered(&self) -> bool {
        let received = |shard: u32| {
            self.links.values().filter_map(|link| link.bound.get(&shard)).map(|bound| bound.received).max()
        };
        (0u32..).zip(&self.lines).all(|(shard, line)| !line.has_between(received(shard).unwrap_or(0), u64::MAX))
    }

    /// The bucket that was under way when its oldest slice was cut.
    pub(super) fn behind_since(&self) -> Option<EventMillis> {
        self.slices.first_key_value().map(|(_, kept)| kept.cut_in)
    }

    /// True if everything it had is committed or known to be lost.
    pub(super) fn is_empty(&self) -> bool {
        self.slices.is_empty() && self.lines.iter().all(|line| line.graves.is_empty())
    }

    /// Tombstones that are not committed.
    pub(super) fn tombstones(&self) -> impl Iterator<Item = &Tombstone> {
        self.lines.iter().flat_map(|line| line.graves.values()).map(|grave| &grave.stone)
    }
}
