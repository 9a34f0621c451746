//! What the owner knows of one collector incarnation within one epoch.

use std::collections::{BTreeMap, VecDeque};

use spikewatch_domain::{record::EventMillis, span::Span};
use spikewatch_proto::convert::commit::Pair;

use super::{Message, StreamId};

/// State of one incarnation. It outlives its connections: `received` holds for the whole epoch (a collector that
/// reconnects sends again what is untrimmed), and so does the watermark, which vouched for what was received by then.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Stream<W> {
    /// The connection that counts; older ones are not listened to.
    pub(super) id: Option<StreamId>,
    /// Everything up to this number was received, or trimmed before.
    pub(super) received: u64,
    /// The stream was received up to the pair that the epoch began with, so that its pair may move.
    pub(super) resumed: bool,
    /// It contributed a batch or a watermark in this epoch.
    pub(super) heard: bool,
    /// It has not said that its replay ended.
    pub(super) replaying: bool,
    /// Event time before which it vouches that nothing will come, lateness taken off: whole buckets.
    pub(super) passed: EventMillis,
    /// It said its last watermark.
    pub(super) last: bool,
    /// Messages that wait until a bucket is sealed.
    pub(super) parked: VecDeque<Message<W>>,
    /// A watermark that came before the stream was resumed.
    held: Option<(EventMillis, bool)>,
    /// Where the watermark crossed into new buckets: `passed` before the crossing, and `received` at that moment.
    cuts: BTreeMap<EventMillis, u64>,
}

impl<W> Stream<W> {
    /// A stream that starts after `pair`.
    pub(super) fn new(pair: Pair) -> Self {
        Self {
            id: None,
            received: 0,
            resumed: pair.seq == 0,
            heard: false,
            replaying: true,
            passed: 0,
            last: false,
            parked: VecDeque::new(),
            held: None,
            cuts: BTreeMap::new(),
        }
    }

    /// Notes that everything up to `seq` was received or trimmed. True if that moved the watermark, which may have waited
    /// for the stream to be resumed.
    pub(super) fn receive(&mut self, seq: u64, pair: Pair, bucket: Span) -> bool {
        self.received = self.received.max(seq);
        self.received >= pair.seq && self.resume(bucket)
    }

    /// Everything that was new to this epoch has come. True if that moved the watermark.
    pub(super) fn resume(&mut self, bucket: Span) -> bool {
        self.resumed = true;
        self.held.take().is_some_and(|(until, last)| self.pass(until, last, bucket))
    }

    /// The collector vouches for all that lies before `until`. True if that is a bucket more than before.
    pub(super) fn pass(&mut self, until: EventMillis, last: bool, bucket: Span) -> bool {
        if !self.resumed {
            let (held, held_last) = self.held.unwrap_or_default();
            self.held = Some((held.max(until), held_last | last));
            return false;
        }
        let until = bucket.floor(until);
        let ended = last && !self.last;
        self.last |= last;
        if until <= self.passed {
            return ended;
        }
        self.cuts.insert(self.passed, self.received);
        self.passed = until;
        true
    }

    /// The last number received before the watermark passed `until`: what came later is late by its own collector's word.
    pub(super) fn cut(&self, until: EventMillis) -> u64 {
        match self.cuts.range(..until).next_back() {
            Some((_, seq)) if until <= self.passed => *seq,
            _ => self.received,
        }
    }

    /// Forgets crossings that no later seal asks about.
    pub(super) fn sealed(&mut self, until: EventMillis) {
        if let Some((&first, _)) = self.cuts.range(..=until).next_back() {
            self.cuts = self.cuts.split_off(&first);
        }
    }
}
