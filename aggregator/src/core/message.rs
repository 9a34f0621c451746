//! What happens to a shard, and what the core wants done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use spikewatch_domain::{key::SiteName, record::EventMillis};
use spikewatch_proto::convert::{
    cluster::{Epoch, Incarnation},
    commit::Pair,
};

/// One connection of a collector; a later one has a greater number.
pub type StreamId = u64;

/// How an incarnation stands among those of its collector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Lane {
    /// It carries the live traffic: closes wait for it.
    Live {
        /// Earlier incarnations that still deliver what they have. All others are over.
        draining: Vec<[u8; 16]>,
    },
    /// A later one carries the live traffic: nobody waits for this one.
    BackFill,
}

/// What happens to a shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event<W> {
    /// A stream is bound to the shard: from here on it starts at the lowest untrimmed batch.
    Bind {
        /// The stream.
        stream: StreamId,
        /// Whose it is.
        of: Incarnation,
        /// How that incarnation stands.
        lane: Lane,
        /// The epoch it believes in.
        epoch: Epoch,
        /// The first number that will come.
        lowest_seq: u64,
    },
    /// A bound stream said something.
    Said {
        /// The stream.
        stream: StreamId,
        /// What.
        message: Message<W>,
    },
    /// A stream ended.
    Gone {
        /// The stream.
        stream: StreamId,
    },
    /// The detector applied a commit.
    Acked {
        /// The epoch it was made under.
        epoch: Epoch,
        /// Its number.
        commit_no: u64,
    },
    /// An ack may have been lost: send the commit in flight again, if there is one.
    Resend,
    /// Time passed.
    Tick,
    /// Another will own the shard: nothing more is taken, what is sealed is committed, then it is [`Action::Released`].
    Handover,
}

/// What a collector's stream carries, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Message<W> {
    /// One slice's contents.
    Batch {
        /// Start of its bucket, ms.
        bucket: EventMillis,
        /// Its number.
        seq: u64,
        /// The number sent before it on this stream.
        prev: u64,
        /// Rows it has, for credit.
        rows: u64,
        /// The contents.
        content: W,
    },
    /// No record older than this will come, late ones excepted.
    Watermark {
        /// Event time, ms.
        time_ms: EventMillis,
        /// Nothing follows.
        last: bool,
        /// The last number it covers; `None` if there is none after the last batch.
        covers: Option<u64>,
    },
    /// The replay reached what was new when the stream began.
    ReplayEnd {
        /// The number up to which it went.
        seq: u64,
    },
    /// The disk budget dropped batches.
    Tombstone {
        /// The last number dropped.
        last_seq: u64,
        /// The number sent before.
        prev: u64,
        /// Starts of the buckets that lost something.
        buckets: Vec<EventMillis>,
        /// Events lost.
        events: u64,
    },
}

impl<W> Message<W> {
    /// Rows it has, for credit; control messages have none.
    #[must_use]
    pub fn rows(&self) -> u64 {
        match self {
            Self::Batch { rows, .. } => *rows,
            _ => 0,
        }
    }
}

/// Why a stream is no longer bound to a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unbinding {
    /// It believes in another epoch.
    OtherEpoch,
    /// What it said does not follow what was received.
    Gap,
    /// A newer stream of the same incarnation took its place.
    Replaced,
    /// It said too much while it was stalled.
    Overrun,
    /// The shard has no owner here (any more).
    NotOwned,
    /// Another will own the shard.
    Moved,
}

impl Unbinding {
    /// For the collector's log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::OtherEpoch => "the shard has another epoch",
            Self::Gap => "a message does not follow what was received",
            Self::Replaced => "a newer stream of this collector took its place",
            Self::Overrun => "too many messages while it had to wait",
            Self::NotOwned => "the shard is not owned here",
            Self::Moved => "the shard moves to another owner",
        }
    }
}

/// What the core wants done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action<W> {
    /// Tell the stream that everything up to `seq` was received.
    Receipt {
        /// The stream.
        stream: StreamId,
        /// The number.
        seq: u64,
    },
    /// The stream's rows were dealt with: it may be given as many more.
    Credit {
        /// The stream.
        stream: StreamId,
        /// How many.
        rows: u64,
    },
    /// Tell the stream what it may trim.
    Trim {
        /// The stream.
        stream: StreamId,
        /// What is counted of it.
        pair: Pair,
    },
    /// Tell the stream that it has to bind anew.
    Unbind {
        /// The stream.
        stream: StreamId,
        /// Why.
        why: Unbinding,
    },
    /// Send a commit to the detector.
    Commit(Arc<Commit<W>>),
    /// A collector's disk budget dropped events that were not counted.
    Lost {
        /// Whose.
        of: Incarnation,
        /// How many.
        events: u64,
    },
    /// A batch was too old to be counted. It may be trimmed all the same.
    TooLate {
        /// Whose.
        of: Incarnation,
        /// Rows it had.
        rows: u64,
    },
    /// The shard was handed over: nothing is in flight, no stream is bound, the next owner may open it.
    Released,
}

/// Contents of one bucket, folded in collector order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Part<W> {
    /// Start of the bucket, ms.
    pub bucket: EventMillis,
    /// Contents by site.
    pub sites: BTreeMap<SiteName, W>,
    /// Sites that miss a member's part of this bucket. May name sites without contents.
    pub incomplete: BTreeSet<SiteName>,
}

/// One commit, frozen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Commit<W> {
    /// The epoch it is made under.
    pub epoch: Epoch,
    /// Its number.
    pub commit_no: u64,
    /// The last bucket it seals; that of the frontier if it carries corrections only.
    pub bucket: EventMillis,
    /// Contents of the sealed buckets, ascending.
    pub windows: Vec<Part<W>>,
    /// Deltas to sealed buckets.
    pub corrections: Vec<Part<W>>,
    /// The pairs that move.
    pub pairs: BTreeMap<Incarnation, Pair>,
    /// Members that some windows miss.
    pub missing: BTreeSet<Incarnation>,
}
