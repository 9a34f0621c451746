//! What a collector's stream is told. Shards write here without waiting, the stream's own task sends it on: a collector
//! that does not read can't hold a shard up, and what it is behind with coalesces to a few numbers a shard.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use spikewatch_proto::{
    convert::{
        cluster::{Epoch, Incarnation, Shape},
        commit::Pair,
    },
    v1::{self, aggregator_message::Message},
};
use tokio::sync::Notify;

use crate::{
    core::{Lane, StreamId, Unbinding},
    skew::Skew,
};

/// The way back to one stream.
#[derive(Debug)]
pub(crate) struct Feedback {
    /// The stream.
    pub(crate) stream: StreamId,
    /// Whose it is.
    pub(crate) of: Incarnation,
    /// How that incarnation stands among its collector's.
    pub(crate) lane: Lane,
    /// How far its clock was off when it said hello; none if it plays recorded traffic.
    pub(crate) skew: Option<Skew>,
    pending: Mutex<Pending>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    unbound: BTreeMap<u32, Unbinding>,
    opened: BTreeMap<u32, (Epoch, Pair)>,
    receipts: BTreeMap<u32, u64>,
    trims: BTreeMap<u32, Pair>,
    rows: u64,
}

impl Feedback {
    /// Nothing to tell yet.
    pub(crate) fn new(stream: StreamId, of: Incarnation, lane: Lane, skew: Option<Skew>) -> Self {
        Self { stream, of, lane, skew, pending: Mutex::default(), wake: Notify::new() }
    }

    /// The shard can be bound under that epoch; the pair is what is counted already.
    pub(crate) fn opened(&self, shard: u32, epoch: Epoch, pair: Pair) {
        self.pending().opened.insert(shard, (epoch, pair));
        self.wake.notify_one();
    }

    /// The shard has to be bound anew; what was to be said of it is void.
    pub(crate) fn unbound(&self, shard: u32, why: Unbinding) {
        let mut pending = self.pending();
        pending.opened.remove(&shard);
        pending.receipts.remove(&shard);
        pending.trims.remove(&shard);
        pending.unbound.insert(shard, why);
        drop(pending);
        self.wake.notify_one();
    }

    /// Everything up to `seq` was received.
    pub(crate) fn received(&self, shard: u32, seq: u64) {
        let mut pending = self.pending();
        let known = pending.receipts.entry(shard).or_default();
        *known = (*known).max(seq);
        drop(pending);
        self.wake.notify_one();
    }

    /// What the pair covers may be trimmed.
    pub(crate) fn trim(&self, shard: u32, pair: Pair) {
        self.pending().trims.insert(shard, pair);
        self.wake.notify_one();
    }

    /// That many rows were dealt with.
    pub(crate) fn credit(&self, rows: u64) {
        let mut pending = self.pending();
        pending.rows = pending.rows.saturating_add(rows);
        drop(pending);
        self.wake.notify_one();
    }

    /// Rows whose credit was not given back yet.
    pub(crate) fn rows(&self) -> u64 {
        self.pending().rows
    }

    /// Waits until there is something to tell.
    pub(crate) async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Takes what is to be told, in the order in which it has to be sent. Credit of fewer than `least_rows` rows waits.
    pub(crate) fn take(&self, least_rows: u64, shape: &Shape, clock_ms: u64) -> Vec<Message> {
        let mut pending = self.pending();
        let mut messages = Vec::new();
        let mut unbound: BTreeMap<&'static str, Vec<u32>> = BTreeMap::new();
        for (shard, why) in std::mem::take(&mut pending.unbound) {
            unbound.entry(why.reason()).or_default().push(shard);
        }
        messages.extend(
            unbound
                .into_iter()
                .map(|(reason, shard)| Message::Unbound(v1::Unbound { shard, reason: reason.to_owned() })),
        );
        let opened = std::mem::take(&mut pending.opened);
        if !opened.is_empty() {
            messages.push(Message::Welcome(v1::Welcome {
                shape: Some((*shape).into()),
                shard: opened.keys().copied().collect(),
                epoch: opened.values().map(|(epoch, _)| (*epoch).into()).collect(),
                bucket_start_ms: opened.values().map(|(_, pair)| pair.bucket).collect(),
                seq: opened.values().map(|(_, pair)| pair.seq).collect(),
                clock_ms,
            }));
        }
        let receipts = std::mem::take(&mut pending.receipts);
        if !receipts.is_empty() {
            let (shard, seq) = receipts.into_iter().unzip();
            messages.push(Message::Receipt(v1::Receipt { shard, seq }));
        }
        let trims = std::mem::take(&mut pending.trims);
        if !trims.is_empty() {
            messages.push(Message::Trim(v1::Trim {
                shard: trims.keys().copied().collect(),
                bucket_start_ms: trims.values().map(|pair| pair.bucket).collect(),
                seq: trims.values().map(|pair| pair.seq).collect(),
            }));
        }
        if pending.rows > 0 && pending.rows >= least_rows {
            messages.push(Message::Credit(v1::Credit { rows: std::mem::take(&mut pending.rows) }));
        }
        messages
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
