//! A collector with its disk and its stream.

use std::collections::VecDeque;

use spikewatch_aggregator::core::{Lane, Message, StreamId};
use spikewatch_collector::uplink::core::{
    Action, Alarm, Core, CoreOptions, CutPart, Event, LinkId, Loss, SliceNo, Ticket,
};
use spikewatch_domain::span::Span;
use spikewatch_proto::{
    convert::{
        cluster::{Epoch, Incarnation, Shape},
        commit::Pair,
        ingest,
    },
    v1::{self, collector_message::Message as Said},
};

use crate::{
    bag::{Bag, Batch},
    disk::{Disk, Slice, Write},
};

/// One minute a bucket, so that times read easily.
pub(crate) const MINUTE: u64 = 60_000;

pub(crate) fn shape() -> Shape {
    Shape { shards: 1, bucket: Span::from_seconds(60).unwrap() }
}

pub(crate) fn incarnation(site: usize) -> Incarnation {
    let name = ["s0", "s1"][site];
    Incarnation { site: name.parse().unwrap(), collector: "c".parse().unwrap(), id: [site as u8 + 1; 16] }
}

/// What is on its way to an owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Up {
    Bind { epoch: Epoch, lowest_seq: u64 },
    Said(Message<Bag>),
}

/// A stream: first in, first out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Link {
    /// The aggregator.
    pub(crate) to: usize,
    pub(crate) id: StreamId,
    pub(crate) queue: VecDeque<Up>,
    /// What may be trimmed, on its way back.
    pub(crate) trim: Option<Pair>,
}

/// How a site departs from the protocol, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    None,
    /// It goes on after what it ever sent.
    ResumesAfterSent,
    /// Marks are not written.
    ForgetsMarks,
    /// What is dropped leaves no tombstone.
    DropsSilently,
}

/// A collector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Site {
    number: usize,
    pub(crate) core: Core,
    pub(crate) disk: Disk,
    pub(crate) link: Option<Link>,
    /// What half-open streams to the aggregators may still deliver.
    pub(crate) stale: [Option<(StreamId, Up)>; 2],
    /// Writes that wait to be synced; nothing waits where syncs are at once.
    pub(crate) unsynced: Vec<(Ticket, Write)>,
    slow_disk: bool,
    fault: Fault,
    /// The highest number that was ever sent; only for its fault.
    sent: u64,
    /// Batches that the disk budget dropped; how many drops were reported, and how many of them taken back.
    pub(crate) dropped: Bag,
    pub(crate) reported: u64,
    pub(crate) taken_back: u64,
}

fn options(site: usize) -> CoreOptions {
    let hello = v1::Hello { incarnation: incarnation(site).id.to_vec(), ..v1::Hello::default() };
    let bucket = shape().bucket;
    CoreOptions { hello, shards: 1, bucket, max_kept: 99, keep_trimmed: false, merges: true, roll_after: None }
}

impl Site {
    /// A collector that has cut slices of these buckets (minutes), and vouched for everything before `passed`.
    pub(crate) fn new(number: usize, buckets: &[u64], passed: Option<u64>, slow_disk: bool, fault: Fault) -> Self {
        let mut site = Self {
            number,
            core: Core::new(options(number)),
            disk: Disk { next_seq: 1, ..Disk::default() },
            link: None,
            stale: [None, None],
            unsynced: Vec::new(),
            slow_disk: false,
            fault,
            sent: 0,
            dropped: Bag::default(),
            reported: 0,
            taken_back: 0,
        };
        for (index, bucket) in (1..).zip(buckets) {
            let holds = Loss { events: 1, bytes: 0 };
            let parts = vec![CutPart { shard: 0, rows: 0, holds }];
            let batch = Batch { site: number as u8, number: index };
            site.on_with(Event::Cut { start: bucket * MINUTE, parts, stored: 1 }, Some(Bag::of(batch)));
        }
        if let Some(minute) = passed {
            site.on(Event::Passed { time_ms: minute * MINUTE, last: false });
        }
        site.slow_disk = slow_disk;
        site
    }

    /// The hello of its streams.
    pub(crate) fn lane() -> Lane {
        Lane::Live { draining: Vec::new() }
    }

    pub(crate) fn on(&mut self, event: Event) {
        self.on_with(event, None);
    }

    fn on_with(&mut self, event: Event, content: Option<Bag>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.core.on(event, 0) {
                if let Some((ticket, write)) = self.act(action, content.as_ref()) {
                    let merged = match &write {
                        Write::Merge(_, into, _) => Some(*into),
                        _ => None,
                    };
                    self.unsynced.push((ticket, write));
                    events.extend(merged.map(|slice_no| Event::Coarsened { slice_no, rows: vec![0], stored: 1 }));
                }
            }
            if !self.slow_disk {
                events.extend(self.write().map(|ticket| Event::Synced { ticket }));
            }
        }
    }

    /// What is to be written becomes durable; the ticket to report.
    fn write(&mut self) -> Option<Ticket> {
        let ticket = self.unsynced.last().map(|(ticket, _)| *ticket);
        for (_, write) in std::mem::take(&mut self.unsynced) {
            self.disk.write(write);
        }
        ticket
    }

    /// The disk has synced.
    pub(crate) fn sync(&mut self) {
        if let Some(ticket) = self.write() {
            self.on(Event::Synced { ticket });
        }
    }

    fn act(&mut self, action: Action, content: Option<&Bag>) -> Option<(Ticket, Write)> {
        match action {
            Action::Append { ticket, slice_no, start, parts, .. } => {
                let slice = Slice { start, seq: parts[0].seq, content: content.cloned().unwrap_or_default() };
                Some((ticket, Write::Append(slice_no, slice)))
            }
            Action::Mark { ticket, up_to, .. } => {
                let mark = if self.fault == Fault::ForgetsMarks { 0 } else { up_to[0].1 };
                Some((ticket, Write::Mark(mark)))
            }
            Action::Coarsen { ticket, sources, into, parts, .. } => {
                let mut merged = Slice { start: 0, seq: parts[0].seq, content: Bag::default() };
                for (source, _) in &sources {
                    let slice = self.slice(*source).expect("a source that is there");
                    merged.start = slice.start;
                    merged.content.add(&slice.content);
                }
                let sources = sources.into_iter().map(|(source, _)| source).collect();
                Some((ticket, Write::Merge(sources, into, merged)))
            }
            Action::Drop { ticket, slices, mut tombstones, .. } => {
                let dropped: Vec<Bag> = slices.iter().filter_map(|no| self.slice(*no)).map(|one| one.content).collect();
                dropped.iter().for_each(|content| self.dropped.add(content));
                if self.fault == Fault::DropsSilently {
                    tombstones.clear();
                }
                Some((ticket, Write::Drop(slices, tombstones)))
            }
            Action::TakenBack { lost } => {
                self.taken_back += lost.events;
                None
            }
            Action::Trimmed { pairs, .. } => {
                self.disk.trimmed = pairs[0].1;
                self.disk.tombstones.retain(|_, stone| !stone.is_covered(pairs[0].1));
                None
            }
            Action::Trim { slices, .. } => {
                slices.iter().for_each(|slice| drop(self.disk.slices.remove(slice)));
                None
            }
            Action::Send { link, slice_no, batches } => {
                let slice = self.slice(slice_no).expect("only what is there is sent");
                let batch = batches[0];
                assert_eq!(batch.seq, slice.seq, "a batch is sent under the number it has on disk");
                let bucket = shape().bucket.floor(slice.start);
                let (seq, prev, content) = (batch.seq, batch.prev, slice.content);
                self.send(link, Message::Batch { bucket, seq, prev, rows: 0, content });
                None
            }
            Action::Say { link, message } => {
                self.say(link, *message);
                None
            }
            Action::Alarm(Alarm::Dropped { lost, .. }) => {
                self.reported += lost.events;
                None
            }
            Action::Alarm(_) | Action::Roll | Action::Connect { .. } | Action::Drained { .. } => None,
        }
    }

    /// A slice on disk or on its way there.
    fn slice(&self, slice_no: SliceNo) -> Option<Slice> {
        let unsynced = self.unsynced.iter().rev().find_map(|(_, write)| match write {
            Write::Append(no, slice) | Write::Merge(_, no, slice) if *no == slice_no => Some(slice.clone()),
            _ => None,
        });
        unsynced.or_else(|| self.disk.slices.get(&slice_no).cloned())
    }

    fn say(&mut self, link: LinkId, message: Said) {
        match message {
            Said::Bind(bind) => {
                for bind in ingest::Bind::read(&bind, &shape()).expect("a bind that can be read") {
                    let skips = self.fault == Fault::ResumesAfterSent;
                    let lowest_seq = if skips { bind.lowest_seq.max(self.sent + 1) } else { bind.lowest_seq };
                    self.push(link, Up::Bind { epoch: bind.epoch, lowest_seq });
                }
            }
            Said::Watermark(watermark) => {
                let watermark = ingest::Watermark::read(&watermark, &shape()).expect("a watermark that can be read");
                if watermark.except.is_empty() {
                    let covers = watermark.covers.first().map(|(_, seq)| *seq);
                    let (time_ms, last) = (watermark.time_ms, watermark.last);
                    self.send(link, Message::Watermark { time_ms, last, covers });
                }
            }
            Said::ReplayEnd(end) => {
                let ends = ingest::read_replay_end(&end, &shape()).expect("an end that can be read");
                ends.into_iter().for_each(|(_, seq)| self.send(link, Message::ReplayEnd { seq }));
            }
            Said::Tombstone(_) if self.fault == Fault::DropsSilently => {}
            Said::Tombstone(stone) => {
                let stone = ingest::Tombstone::read(&stone, &shape()).expect("a tombstone that can be read");
                let ingest::Tombstone { last_seq, prev, buckets, events, .. } = stone;
                self.send(link, Message::Tombstone { last_seq, prev, buckets, events });
            }
            Said::Hello(_) | Said::Batches(_) => {}
        }
    }

    fn send(&mut self, link: LinkId, mut message: Message<Bag>) {
        if self.fault == Fault::ResumesAfterSent
            && let Message::Batch { seq, prev, .. } = &mut message
        {
            if *seq <= self.sent {
                return;
            }
            (self.sent, *prev) = (*seq, (*prev).min(self.sent));
        }
        self.push(link, Up::Said(message));
    }

    fn push(&mut self, link: LinkId, up: Up) {
        if let Some(open) = self.link.as_mut().filter(|open| open.id == link) {
            open.queue.push_back(up);
        }
    }

    /// Opens a stream to an aggregator.
    pub(crate) fn connect(&mut self, to: usize, id: StreamId) {
        self.link = Some(Link { to, id, queue: VecDeque::new(), trim: None });
        self.on(Event::Connected { link: id, lane: self.core.lanes().last().unwrap() });
        self.hear(v1::aggregator_message::Message::Credit(v1::Credit { rows: u64::MAX }));
    }

    /// Leaves its stream; what was sent first may still arrive.
    pub(crate) fn leave(&mut self, lingers: bool) -> Option<Link> {
        let link = self.link.take()?;
        let first = link.queue.front().filter(|_| lingers).cloned();
        self.stale[link.to] = first.map(|up| (link.id, up));
        self.on(Event::Disconnected { link: link.id });
        Some(link)
    }

    /// Takes what the aggregator at the other end says.
    pub(crate) fn hear(&mut self, message: v1::aggregator_message::Message) {
        if let Some(link) = self.link.as_ref().map(|link| link.id) {
            self.on(Event::Message { link, message });
        }
    }

    /// The spool is over its budget.
    pub(crate) fn fill(&mut self) {
        self.on(Event::OverBudget { bytes: 1 });
    }

    /// True if its spool holds the batch, or may come to.
    pub(crate) fn keeps(&self, batch: Batch) -> bool {
        self.disk.slices.values().any(|slice| slice.content.times(batch) > 0)
    }

    /// Stops at any instant, and begins again with what is on its disk.
    pub(crate) fn restart(&mut self) {
        for (_, write) in std::mem::take(&mut self.unsynced) {
            // What never reached the spool is not what it promised.
            if let Write::Drop(slices, _) = write {
                for slice in slices.iter().filter_map(|no| self.disk.slices.get(no)) {
                    self.dropped.remove(&slice.content);
                }
            }
        }
        let (core, actions) = Core::recovered(options(self.number), vec![self.disk.recovered(self.number)]);
        self.core = core;
        for action in actions {
            let write = self.act(action, None);
            assert!(write.is_none(), "a restart writes nothing");
        }
    }
}
