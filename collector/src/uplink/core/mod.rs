//! The collector's side of delivery (DESIGN section 4) as a pure state machine: number, keep, coarsen, send, trim,
//! resume. No I/O, no clock, no randomness, and no contents: those lie in the spool under the numbers of their slices.
//!
//! Batches are numbered per shard, 1, 2, 3…, under one incarnation, and kept until committed. Nothing is sent before it
//! is durable, nor before a mark says durably that it may have been sent. A stream is bound to (shard, epoch), starts at
//! the lowest batch kept, and every batch names the one sent before it. A watermark is sent behind the batches it covers.
//!
//! An incarnation is a `lane.rs`. A collector that falls far behind begins a new one: live traffic goes on in it, while
//! what is kept drains beside it as back-fill.

mod budget;
mod lane;
mod line;
mod link;
mod message;
mod recovered;
mod send;
#[cfg(test)]
mod tests;

use spikewatch_domain::{record::EventMillis, span::Span};
use spikewatch_proto::v1::{self, aggregator_message::Message as Heard, collector_message::Message as Said};

use self::lane::Lane;
pub use self::{
    message::{Action, Alarm, CutPart, Event, LaneNo, LinkId, Loss, Outgoing, Part, SliceNo, Ticket, Tombstone},
    recovered::{RecoveredLane, RecoveredLine, RecoveredSlice},
};

/// Incarnations that may deliver at the same time: a quarter of what a frontier keeps of one collector.
const MAX_LANES: usize = 4;

/// What a stream must say first, and the bounds of what is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CoreOptions {
    /// First message of every stream; its clock and incarnation are set when it is sent.
    pub hello: v1::Hello,
    /// Shards of the cluster.
    pub shards: u32,
    /// Base bucket.
    pub bucket: Span,
    /// Slices kept before the summariser has to wait.
    pub max_kept: usize,
    /// Contents of committed slices are kept until they are [`Event::Forgotten`].
    pub keep_trimmed: bool,
    /// Slices that were not sent can be merged; else they are only dropped.
    pub merges: bool,
    /// A new incarnation begins when the oldest slice is that many buckets behind; never, if none.
    pub roll_after: Option<u32>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Core {
    options: CoreOptions,
    /// The last one is live.
    lanes: Vec<Lane>,
    next_lane: LaneNo,
    next_slice: SliceNo,
    /// The last one given out.
    ticket: Ticket,
    /// A spool for a new incarnation was asked for.
    rolling: bool,
}

impl Core {
    /// A core that has sent nothing, under the incarnation of the hello.
    #[must_use]
    pub fn new(options: CoreOptions) -> Self {
        let incarnation = <[u8; 16]>::try_from(options.hello.incarnation.as_slice()).unwrap_or_default();
        let mut core = Self { options, lanes: Vec::new(), next_lane: 0, next_slice: 1, ticket: 0, rolling: false };
        core.lanes.push(Lane::new(0, incarnation, core.options.shards, core.options.keep_trimmed));
        core.next_lane = 1;
        core
    }

    /// A core that goes on from what its spools have, oldest incarnation first; the last one is live. It may be that a
    /// spool has slices still that were committed meanwhile: what is to be done about them comes first.
    #[must_use]
    pub fn recovered(options: CoreOptions, spools: Vec<RecoveredLane>) -> (Self, Vec<Action>) {
        if spools.is_empty() {
            return (Self::new(options), Vec::new());
        }
        let last =
            spools.iter().map(|spool| spool.slices.last().map_or(0, |slice| slice.slice_no).max(spool.last_slice));
        let last = last.max().unwrap_or(0);
        let CoreOptions { shards, bucket, keep_trimmed, .. } = options;
        let mut actions = Vec::new();
        let lanes: Vec<_> = (0..)
            .zip(spools)
            .map(|(no, spool)| Lane::recovered(no, spool, (shards, bucket), keep_trimmed, &mut actions))
            .collect();
        let next_lane = lanes.len() as LaneNo;
        let mut core = Self { options, lanes, next_lane, next_slice: last + 1, ticket: 0, rolling: false };
        core.settle_lanes();
        (core, actions)
    }

    /// False while so much is kept that the summariser has to wait.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.kept() < self.options.max_kept
    }

    /// Slices kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.lanes.iter().map(|lane| lane.slices.len()).sum()
    }

    /// Incarnations that deliver, oldest first; the last one is live.
    pub fn lanes(&self) -> impl Iterator<Item = LaneNo> {
        self.lanes.iter().map(|lane| lane.number)
    }

    /// What was dropped and is not known to have been heard.
    pub fn tombstones(&self) -> impl Iterator<Item = &Tombstone> {
        self.lanes.iter().flat_map(Lane::tombstones)
    }

    /// True if everything is committed and every stream knows that nothing follows.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let told = |lane: &Lane| {
            let promise = lane.watermark;
            let mut bound = lane.links.values().flat_map(|link| link.bound.values());
            promise.last && !lane.links.is_empty() && bound.all(|bound| bound.told == promise)
        };
        self.lanes.iter().all(Lane::is_empty) && self.lanes.last().is_some_and(told)
    }

    /// True if owners have received all that is not committed: more can't be done but to wait.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        self.lanes.iter().all(Lane::is_delivered)
    }

    /// Takes one event. `now_ms` is told to aggregators, and says how old is what is kept; nothing else depends on it.
    pub fn on(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Cut { start, parts, stored } => self.cut(start, parts, stored, now_ms, &mut actions),
            Event::Passed { time_ms, last } => {
                if let Some(live) = self.lanes.last_mut() {
                    live.watermark.time_ms = live.watermark.time_ms.max(time_ms);
                    live.watermark.last |= last;
                    live.pump_all(&mut actions);
                }
            }
            Event::Synced { ticket } => {
                for lane in &mut self.lanes {
                    lane.synced(ticket);
                    lane.pump_all(&mut actions);
                }
            }
            Event::Connected { link, lane } => self.connected(link, lane, now_ms, &mut actions),
            Event::Disconnected { link } => self.lanes.iter_mut().for_each(|lane| drop(lane.links.remove(&link))),
            Event::Message { link, message } => self.heard(link, message, &mut actions),
            Event::OverBudget { bytes } => self.over_budget(bytes, &mut actions),
            Event::Coarsened { slice_no, rows, stored } => {
                for lane in &mut self.lanes {
                    lane.coarsened(slice_no, &rows, stored);
                    lane.pump_all(&mut actions);
                }
            }
            Event::Rolled { incarnation } => self.rolled(incarnation, &mut actions),
            Event::NotRolled => self.rolling = false,
            Event::Lost { slice_no } => {
                let ticket = self.ticket + 1;
                let news = self.lanes.iter_mut().any(|lane| lane.lose(slice_no, ticket, &mut actions));
                self.ticket += u64::from(news);
            }
            Event::Forgotten { slice_no } => self.lanes.iter_mut().for_each(|lane| lane.forget(slice_no)),
        }
        self.drained(&mut actions);
        actions
    }

    /// What is kept is behind by the time since it was cut: who reads old logs is not behind with them.
    fn cut(&mut self, start: EventMillis, parts: Vec<CutPart>, stored: u64, now_ms: u64, actions: &mut Vec<Action>) {
        let span = self.options.bucket;
        let bucket = span.floor(start);
        let Some(live) = self.lanes.last_mut().filter(|_| !parts.is_empty()) else { return };
        self.ticket += 1;
        let now_in = span.floor(now_ms);
        live.cut(self.next_slice, self.ticket, (start, bucket, now_in), parts, stored, actions);
        self.next_slice += 1;
        self.ticket += u64::from(live.mark(self.ticket + 1, actions));
        let behind = live.behind_since().map_or(0, |oldest| now_in.saturating_sub(oldest)) / span.millis();
        if self.options.roll_after.is_some_and(|buckets| behind > u64::from(buckets)) && self.roll(actions) {
            actions.push(Action::Alarm(Alarm::FarBehind { buckets: behind }));
        }
    }

    /// Asks for a new incarnation, unless that was done already or there are many.
    fn roll(&mut self, actions: &mut Vec<Action>) -> bool {
        let begins = !self.rolling && self.lanes.len() < MAX_LANES;
        self.rolling |= begins;
        actions.extend(begins.then_some(Action::Roll));
        begins
    }

    fn rolled(&mut self, incarnation: [u8; 16], actions: &mut Vec<Action>) {
        let number = self.next_lane;
        let mut live = Lane::new(number, incarnation, self.options.shards, self.options.keep_trimmed);
        live.durable = self.ticket;
        live.watermark = self.lanes.last().map(|before| before.watermark).unwrap_or_default();
        self.lanes.push(live);
        (self.next_lane, self.rolling) = (number + 1, false);
        self.settle_lanes();
        // The old one's streams come again, under a hello that says back-fill.
        let before = self.lanes.iter().rev().nth(1).map(|lane| lane.number);
        actions.extend(before.into_iter().chain([number]).map(|lane| Action::Connect { lane }));
    }

    /// All lanes but the last are back-fill, and their last word is said: nothing new will come in them.
    fn settle_lanes(&mut self) {
        let bucket = self.options.bucket;
        let Some((_, older)) = self.lanes.split_last_mut() else { return };
        for lane in older.iter_mut().filter(|lane| !lane.back_fill) {
            let newest = lane.slices.values().map(|kept| bucket.end(kept.bucket)).max().unwrap_or(0);
            lane.back_fill = true;
            lane.watermark.time_ms = lane.watermark.time_ms.max(newest);
            lane.watermark.last = true;
        }
    }

    /// Lanes of back-fill that have nothing left end.
    fn drained(&mut self, actions: &mut Vec<Action>) {
        if self.lanes.len() > 1 {
            let done: Vec<_> = self.lanes.extract_if(.., |lane| lane.back_fill && lane.is_empty()).collect();
            actions.extend(done.into_iter().map(|lane| Action::Drained { lane: lane.number }));
        }
    }

    /// A stream is open: it begins with our name.
    fn connected(&mut self, link: LinkId, lane: LaneNo, now_ms: u64, actions: &mut Vec<Action>) {
        let older: Vec<_> = self.lanes.iter().filter(|lane| lane.back_fill).map(|lane| lane.incarnation).collect();
        let Some(lane) = self.lanes.iter_mut().find(|known| known.number == lane) else { return };
        lane.links.insert(link, link::Link::default());
        let hello = v1::Hello {
            clock_ms: now_ms,
            incarnation: lane.incarnation.to_vec(),
            back_fill: lane.back_fill,
            draining: if lane.back_fill { Vec::new() } else { older.iter().map(|id| id.to_vec()).collect() },
            ..self.options.hello.clone()
        };
        actions.push(Action::Say { link, message: Box::new(Said::Hello(hello)) });
    }

    fn heard(&mut self, id: LinkId, message: Heard, actions: &mut Vec<Action>) {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.links.contains_key(&id)) else { return };
        let mut sound = true;
        match message {
            Heard::Welcome(welcome) => {
                sound = lane.welcome(id, &welcome, actions);
                self.ticket += u64::from(lane.mark(self.ticket + 1, actions));
            }
            Heard::Trim(trim) => lane.trimmed(&trim, actions),
            Heard::Receipt(receipt) => {
                if let Some(link) = lane.links.get_mut(&id) {
                    link.received(&receipt);
                }
            }
            Heard::Credit(credit) => {
                if let Some(link) = lane.links.get_mut(&id) {
                    link.credit = link.credit.saturating_add(credit.rows);
                }
            }
            Heard::Unbound(unbound) => {
                if let Some(link) = lane.links.get_mut(&id) {
                    link.bound.retain(|shard, _| !unbound.shard.contains(shard));
                }
            }
        }
        lane.pump(id, actions);
        if !sound {
            self.roll(actions);
        }
    }

    /// The oldest incarnation gives first: what it has is the least urgent.
    fn over_budget(&mut self, bytes: u64, actions: &mut Vec<Action>) {
        let ticket = self.ticket + 1;
        let merges = self.options.merges;
        if !(merges && self.lanes.iter_mut().any(|lane| lane.coarsen(ticket, actions)))
            && let Some(lane) = self.lanes.iter_mut().find(|lane| !lane.slices.is_empty())
        {
            lane.drop_oldest(bytes, ticket, actions);
        }
        self.ticket = ticket;
    }
}
