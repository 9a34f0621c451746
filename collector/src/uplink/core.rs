//! The collector's side of delivery (DESIGN section 4) as a pure state machine: number, keep, send, resume, trim. No I/O,
//! no clock, no randomness: the uplink actor runs it, and a simulator may.
//!
//! Batches are numbered per shard, 1, 2, 3…, under one incarnation, and kept until committed. A stream is bound to
//! (shard, epoch), starts at the lowest batch kept, and every batch names the one sent before it. A watermark is sent
//! behind the batches it covers.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use spikewatch_domain::{record::EventMillis, span::Span};
use spikewatch_proto::{
    convert::windows::{push, read},
    v1,
};

use crate::{pipeline::Flush, summarise::Slice};

/// Names a stream to an aggregator, for as long as the collector lives.
pub type LinkId = u64;

/// What a stream must say first, and the bounds of what is kept.
#[derive(Debug, Clone)]
pub struct CoreOptions {
    /// First message of every stream; its clock is set when it is sent.
    pub hello: v1::Hello,
    /// Shards of the cluster.
    pub shards: u32,
    /// Base bucket.
    pub bucket: Span,
    /// Slices kept before the summariser has to wait.
    pub max_kept: usize,
}

/// Something for a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Send {
    /// Which stream.
    pub link: LinkId,
    /// What to send.
    pub message: v1::collector_message::Message,
}

/// See the module.
#[derive(Debug)]
pub struct Core {
    options: CoreOptions,
    next_seq: Vec<u64>,
    kept: VecDeque<Kept>,
    watermark: Option<(EventMillis, bool)>,
    links: BTreeMap<LinkId, Link>,
}

#[derive(Debug)]
struct Kept {
    start: EventMillis,
    bucket: EventMillis,
    parts: Vec<Part>,
    windows: v1::Windows,
    traceparent: String,
}

/// One shard's batch: its rows within the slice's windows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    shard: u32,
    seq: u64,
    rows: Range<usize>,
    committed: bool,
}

#[derive(Debug, Default)]
struct Link {
    bound: BTreeMap<u32, Bound>,
    /// Rows that may still be sent.
    credit: u64,
    replayed: bool,
    watermark: Option<(EventMillis, bool)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bound {
    sent: u64,
    received: u64,
}

impl Core {
    /// A core that has sent nothing.
    #[must_use]
    pub fn new(options: CoreOptions) -> Self {
        let shards = options.shards as usize;
        Self { options, next_seq: vec![1; shards], kept: VecDeque::new(), watermark: None, links: BTreeMap::new() }
    }

    /// False while so much is kept that the summariser has to wait.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.kept.len() < self.options.max_kept
    }

    /// Slices kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// True if everything is committed and every stream knows that nothing follows.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let told = |link: &Link| link.bound.is_empty() || link.watermark == self.watermark;
        self.kept.is_empty()
            && self.watermark.is_some_and(|(_, last)| last)
            && !self.links.is_empty()
            && self.links.values().all(told)
    }

    /// Takes what is due: numbers it, keeps it, and sends what may be sent.
    pub fn on_flush(&mut self, flush: Flush, traceparent: &str) -> Vec<Send> {
        for slice in flush.slices {
            self.keep(slice, traceparent);
        }
        let watermark = self.watermark.map_or(flush.watermark, |(time, _)| time.max(flush.watermark));
        self.watermark = Some((watermark, flush.last));
        let links: Vec<_> = self.links.keys().copied().collect();
        links.into_iter().flat_map(|link| self.pump(link)).collect()
    }

    fn keep(&mut self, slice: Slice, traceparent: &str) {
        let mut windows = v1::Windows::default();
        let mut parts: Vec<Part> = Vec::new();
        for (row, (shard, subject, window)) in slice.rows.iter().enumerate() {
            push(&mut windows, None, subject, window, false);
            match parts.last_mut() {
                Some(part) if part.shard == *shard => part.rows.end = row + 1,
                _ => {
                    let Some(next) = self.next_seq.get_mut(*shard as usize) else { continue };
                    parts.push(Part { shard: *shard, seq: *next, rows: row..row + 1, committed: false });
                    *next += 1;
                }
            }
        }
        if !parts.is_empty() {
            let bucket = self.options.bucket.floor(slice.start);
            let traceparent = traceparent.to_owned();
            self.kept.push_back(Kept { start: slice.start, bucket, parts, windows, traceparent });
        }
    }

    /// A stream is open: it begins with our name.
    pub fn on_connected(&mut self, link: LinkId, clock_ms: u64) -> Vec<Send> {
        self.links.insert(link, Link::default());
        let hello = v1::Hello { clock_ms, ..self.options.hello.clone() };
        vec![Send { link, message: v1::collector_message::Message::Hello(hello) }]
    }

    /// A stream is gone, and with it what it was bound to.
    pub fn on_disconnected(&mut self, link: LinkId) {
        self.links.remove(&link);
    }

    /// A message of the aggregator at the other end of `link`.
    pub fn on_message(&mut self, link: LinkId, message: v1::aggregator_message::Message) -> Vec<Send> {
        use v1::aggregator_message::Message;
        match message {
            Message::Welcome(welcome) => return self.bind(link, &welcome),
            Message::Receipt(receipt) => {
                if let Some(link) = self.links.get_mut(&link) {
                    for (shard, seq) in receipt.shard.iter().zip(&receipt.seq) {
                        if let Some(bound) = link.bound.get_mut(shard) {
                            bound.received = bound.received.max(*seq);
                        }
                    }
                }
            }
            Message::Credit(credit) => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.credit = link.credit.saturating_add(credit.rows);
                }
            }
            Message::Trim(trim) => {
                for ((shard, bucket), seq) in trim.shard.iter().zip(&trim.bucket_start_ms).zip(&trim.seq) {
                    self.committed(*shard, *bucket, *seq);
                }
                self.drop_committed();
            }
            Message::Unbound(unbound) => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.bound.retain(|shard, _| !unbound.shard.contains(shard));
                }
            }
        }
        self.pump(link)
    }

    /// The shards that an aggregator owns: what its pairs say is committed goes, the rest is sent from its beginning.
    fn bind(&mut self, link: LinkId, welcome: &v1::Welcome) -> Vec<Send> {
        for ((shard, bucket), seq) in welcome.shard.iter().zip(&welcome.bucket_start_ms).zip(&welcome.seq) {
            self.committed(*shard, *bucket, *seq);
        }
        self.drop_committed();
        let mut bind = v1::Bind::default();
        for (shard, epoch) in welcome.shard.iter().zip(&welcome.epoch) {
            let Some(next) = self.next_seq.get(*shard as usize) else { continue };
            let lowest =
                self.kept.iter().flat_map(|kept| &kept.parts).find(|part| part.shard == *shard && !part.committed);
            let lowest = lowest.map_or(*next, |part| part.seq);
            bind.shard.push(*shard);
            bind.epoch.push(epoch.clone());
            bind.lowest_seq.push(lowest);
            bind.trimmed_seq.push(lowest - 1);
        }
        let Some(state) = self.links.get_mut(&link) else { return Vec::new() };
        state.bound.extend(bind.shard.iter().map(|shard| (*shard, Bound::default())));
        (state.replayed, state.watermark) = (false, None);
        let mut sends = vec![Send { link, message: v1::collector_message::Message::Bind(bind) }];
        sends.extend(self.pump(link));
        sends
    }

    fn committed(&mut self, shard: u32, bucket: EventMillis, seq: u64) {
        for kept in self.kept.iter_mut().filter(|kept| kept.bucket <= bucket) {
            for part in kept.parts.iter_mut().filter(|part| part.shard == shard && part.seq <= seq) {
                part.committed = true;
            }
        }
    }

    fn drop_committed(&mut self) {
        self.kept.retain(|kept| kept.parts.iter().any(|part| !part.committed));
    }

    /// Sends what the stream may have: batches while there is credit (one is always allowed), then the end of the
    /// replay, then the watermark.
    fn pump(&mut self, id: LinkId) -> Vec<Send> {
        let Some(link) = self.links.get_mut(&id) else { return Vec::new() };
        if link.bound.is_empty() {
            return Vec::new();
        }
        let mut sends = Vec::new();
        for kept in &self.kept {
            let due = |part: &&Part| {
                !part.committed && link.bound.get(&part.shard).is_some_and(|bound| part.seq > bound.sent)
            };
            let parts: Vec<&Part> = kept.parts.iter().filter(due).collect();
            if parts.is_empty() {
                continue;
            }
            let in_flight = link.bound.values().any(|bound| bound.sent > bound.received);
            if link.credit == 0 && in_flight {
                return sends;
            }
            let message = kept.message(&parts, &link.bound);
            link.credit = link.credit.saturating_sub(message.rows.iter().map(|rows| u64::from(*rows)).sum());
            for part in parts {
                if let Some(bound) = link.bound.get_mut(&part.shard) {
                    bound.sent = part.seq;
                }
            }
            sends.push(Send { link: id, message: v1::collector_message::Message::Batches(message) });
        }
        let (shard, seq): (Vec<u32>, Vec<u64>) = link.bound.iter().map(|(shard, bound)| (*shard, bound.sent)).unzip();
        if !link.replayed {
            link.replayed = true;
            let end = v1::ReplayEnd { shard: shard.clone(), seq: seq.clone() };
            sends.push(Send { link: id, message: v1::collector_message::Message::ReplayEnd(end) });
        }
        if let Some((time_ms, last)) = self.watermark
            && link.watermark != self.watermark
        {
            link.watermark = self.watermark;
            let (shard, seq) = shard.into_iter().zip(seq).filter(|(_, seq)| *seq > 0).unzip();
            let watermark = v1::Watermark { time_ms, shard, seq, last };
            sends.push(Send { link: id, message: v1::collector_message::Message::Watermark(watermark) });
        }
        sends
    }
}

impl Kept {
    /// The wire form of some of its batches.
    fn message(&self, parts: &[&Part], bound: &BTreeMap<u32, Bound>) -> v1::SliceBatches {
        let windows = if parts.len() == self.parts.len() { self.windows.clone() } else { self.select(parts) };
        v1::SliceBatches {
            slice_start_ms: self.start,
            shard: parts.iter().map(|part| part.shard).collect(),
            seq: parts.iter().map(|part| part.seq).collect(),
            prev: parts.iter().map(|part| bound.get(&part.shard).map_or(0, |bound| bound.sent)).collect(),
            rows: parts.iter().map(|part| part.rows.len() as u32).collect(),
            windows: Some(windows),
            traceparent: self.traceparent.clone(),
            ..v1::SliceBatches::default()
        }
    }

    fn select(&self, parts: &[&Part]) -> v1::Windows {
        let mut selected = v1::Windows::default();
        // What was written by `push` can be read; were it not so, sending nothing would be found out by its row counts.
        let rows = read(&self.windows).unwrap_or_default();
        for row in parts.iter().filter_map(|part| rows.get(part.rows.clone())).flatten() {
            push(&mut selected, None, &row.subject, &row.window, row.incomplete);
        }
        selected
    }
}

#[cfg(test)]
mod tests;
