//! What happens to the delivery core, and what it wants done.

use spikewatch_domain::record::EventMillis;
use spikewatch_proto::{convert::commit::Pair, v1};

/// Names a stream to an aggregator, for as long as the collector lives.
pub type LinkId = u64;
/// Names an incarnation of this collector that still delivers; a later one has a greater number.
pub type LaneNo = u32;
/// Names a slice's contents, ascending in the order of their cuts.
pub type SliceNo = u64;
/// Numbers what has to be written, in order: all up to it becomes durable together.
pub type Ticket = u64;

/// What traffic a batch stands for: said of what the disk budget dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Loss {
    /// Events of the site.
    pub events: u64,
    /// Bytes of the site.
    pub bytes: u64,
}

impl Loss {
    /// Adds another loss.
    pub fn add(&mut self, other: Self) {
        self.events = self.events.saturating_add(other.events);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// One shard's part of a slice that was just cut.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CutPart {
    /// The shard.
    pub shard: u32,
    /// Rows it has.
    pub rows: u32,
    /// What it stands for.
    pub holds: Loss,
}

/// One shard's numbered part of a slice: a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Part {
    /// The shard.
    pub shard: u32,
    /// Its number.
    pub seq: u64,
    /// Rows it has.
    pub rows: u32,
    /// What it stands for.
    pub holds: Loss,
    /// The detector has it.
    pub committed: bool,
}

/// A range of batches of one shard that the disk budget dropped. It is sent like a batch, so that the loss is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tombstone {
    /// The shard.
    pub shard: u32,
    /// The first number dropped.
    pub first_seq: u64,
    /// The last number dropped.
    pub last_seq: u64,
    /// Starts of the buckets that lost something, ascending.
    pub buckets: Vec<EventMillis>,
    /// What was lost.
    pub lost: Loss,
}

impl Tombstone {
    /// True if all it stands for lies at or below the pair.
    #[must_use]
    pub fn is_covered(&self, pair: Pair) -> bool {
        self.last_seq <= pair.seq && self.buckets.iter().all(|bucket| *bucket <= pair.bucket)
    }
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A slice has ended.
    Cut {
        /// Its start, ms of event time.
        start: EventMillis,
        /// Its parts, ascending by shard.
        parts: Vec<CutPart>,
        /// What its contents take in the spool.
        stored: u64,
    },
    /// No record older than this will come, late ones excepted.
    Passed {
        /// Event time, ms.
        time_ms: EventMillis,
        /// Nothing will come at all.
        last: bool,
    },
    /// All that was to be written up to this ticket is durable.
    Synced {
        /// The ticket.
        ticket: Ticket,
    },
    /// A stream of a lane is open.
    Connected {
        /// The stream.
        link: LinkId,
        /// The lane.
        lane: LaneNo,
    },
    /// A stream is gone, and with it what it was bound to.
    Disconnected {
        /// The stream.
        link: LinkId,
    },
    /// A message of the aggregator at the other end.
    Message {
        /// The stream.
        link: LinkId,
        /// The message.
        message: v1::aggregator_message::Message,
    },
    /// The spool takes more than its budget, and has nothing that it may delete by itself.
    OverBudget {
        /// How much has to go.
        bytes: u64,
    },
    /// A merge that was asked for is written (and durable once its ticket is).
    Coarsened {
        /// The slice that holds the merged contents.
        slice_no: SliceNo,
        /// Rows of its parts, in their order.
        rows: Vec<u32>,
        /// What it takes in the spool.
        stored: u64,
    },
    /// The spool of the next incarnation is there.
    Rolled {
        /// Its id.
        incarnation: [u8; 16],
    },
    /// The spool takes no more incarnations: what is kept has to drain first.
    NotRolled,
    /// The contents of a slice can't be had any more: damage, or a disk that was full.
    Lost {
        /// The slice.
        slice_no: SliceNo,
    },
    /// The spool has deleted the contents of trimmed slices up to this one.
    Forgotten {
        /// The last of them.
        slice_no: SliceNo,
    },
}

/// One batch to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Outgoing {
    /// The shard.
    pub shard: u32,
    /// Its number.
    pub seq: u64,
    /// The number sent before it on this stream.
    pub prev: u64,
}

/// Something an operator has to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Alarm {
    /// The store has less than was trimmed: it was restored, or its replica was behind.
    #[error(
        "shard {shard}: trimmed up to ({}, {}), but the store has ({}, {}): was it restored? What is still kept is sent again",
        .trimmed.bucket, .trimmed.seq, .frontier.bucket, .frontier.seq
    )]
    StoreWentBack {
        /// The shard.
        shard: u32,
        /// What was trimmed.
        trimmed: Pair,
        /// What the store has.
        frontier: Pair,
    },
    /// The store has more than was ever numbered: the spool is an old copy.
    #[error(
        "shard {shard}: the store has batches up to {}, the next one here is {next_seq}: the spool is an old copy; what it re-numbered may be lost, a new incarnation begins",
        .frontier.seq
    )]
    SpoolWentBack {
        /// The shard.
        shard: u32,
        /// The next number.
        next_seq: u64,
        /// What the store has.
        frontier: Pair,
    },
    /// Slices were dropped, for the disk budget or because they can't be read.
    #[error("dropped {slices} slices with {} events, {} bytes", .lost.events, .lost.bytes)]
    Dropped {
        /// How many.
        slices: usize,
        /// What they stood for.
        lost: Loss,
    },
    /// So far behind that live traffic gets an incarnation of its own.
    #[error("{buckets} buckets behind: what is kept becomes back-fill, live traffic goes first")]
    FarBehind {
        /// How far.
        buckets: u64,
    },
}

/// What the core wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write a slice that was just cut.
    Append {
        /// To be reported when it is durable.
        ticket: Ticket,
        /// The lane.
        lane: LaneNo,
        /// The slice.
        slice_no: SliceNo,
        /// Start of the slice, ms.
        start: EventMillis,
        /// Start of its bucket, ms.
        bucket: EventMillis,
        /// The watermark when it was cut, ms; 0 if none.
        after: EventMillis,
        /// Its batches.
        parts: Vec<Part>,
    },
    /// Write that batches up to these numbers may have been sent.
    Mark {
        /// To be reported when it is durable.
        ticket: Ticket,
        /// The lane.
        lane: LaneNo,
        /// (shard, number).
        up_to: Vec<(u32, u64)>,
    },
    /// Merge contents of slices, and write the result in their stead; then say so.
    Coarsen {
        /// To be reported when it is durable.
        ticket: Ticket,
        /// The lane.
        lane: LaneNo,
        /// The slices, ascending, each with the shards whose parts are wanted.
        sources: Vec<(SliceNo, Vec<u32>)>,
        /// The slice that holds the result: the last of them.
        into: SliceNo,
        /// Its batches; their rows are not known yet.
        parts: Vec<Part>,
    },
    /// Write that slices are dropped, and delete their contents.
    Drop {
        /// To be reported when it is durable.
        ticket: Ticket,
        /// The lane.
        lane: LaneNo,
        /// The slices.
        slices: Vec<SliceNo>,
        /// What stands in their place, replacing earlier ones that begin at the same number.
        tombstones: Vec<Tombstone>,
    },
    /// What was dropped had been counted after all.
    TakenBack {
        /// What it stood for.
        lost: Loss,
    },
    /// Remember what is counted. Not urgent: it will be heard again.
    Trimmed {
        /// The lane.
        lane: LaneNo,
        /// (shard, pair).
        pairs: Vec<(u32, Pair)>,
    },
    /// Slices are wholly committed: their contents may go (now, or when they were kept long enough).
    Trim {
        /// The lane.
        lane: LaneNo,
        /// The slices.
        slices: Vec<SliceNo>,
    },
    /// Send batches of a slice.
    Send {
        /// The stream.
        link: LinkId,
        /// The slice.
        slice_no: SliceNo,
        /// Its batches.
        batches: Vec<Outgoing>,
    },
    /// Send a message without contents.
    Say {
        /// The stream.
        link: LinkId,
        /// The message.
        message: Box<v1::collector_message::Message>,
    },
    /// Make a spool for a new incarnation, then say so.
    Roll,
    /// Streams of this lane have to be opened (anew), under the hello that it has now.
    Connect {
        /// The lane.
        lane: LaneNo,
    },
    /// All of this lane is committed: its streams and spool can go.
    Drained {
        /// The lane.
        lane: LaneNo,
    },
    /// Tell the operator.
    Alarm(Alarm),
}
