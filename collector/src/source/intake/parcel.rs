//! What one sender hands over at once: it counts as a whole, or not at all, and the sender is told when it is durable.

use serde::{Deserialize, Serialize};
use spikewatch_domain::record::{EventMillis, FlowRecord};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What became of the lines, or records, of a parcel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Tally {
    /// Records that count.
    pub(crate) accepted: u32,
    /// What is well-formed but no flow, or left out on purpose.
    pub(crate) ignored: u32,
    /// What could not be used.
    pub(crate) rejected: u32,
}

/// How a parcel is known if it is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tag {
    /// It isn't.
    None,
    /// Hashes of a key that the sender chose, and of what it sent.
    Key { key: u128, body: u64 },
    /// A number in the sequence of a client.
    Number { client: String, sequence: u64 },
}

/// What was done with a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It counts.
    Counted,
    /// It did already, with this tally if that is known.
    Repeated(Option<Tally>),
    /// It does not: its key was another's.
    KeyReused,
    /// It does not: another number has to come first.
    OutOfOrder { expected: u64 },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) tag: Tag,
    pub(crate) records: Vec<FlowRecord>,
    pub(crate) tally: Tally,
    /// By which clock the times of its records were judged.
    pub(crate) at_ms: EventMillis,
    /// Told at once.
    pub(crate) taken: oneshot::Sender<Taken>,
    /// Told when it, or what it repeats, is durable; dropped if it never will be.
    pub(crate) durable: oneshot::Sender<()>,
    /// Its place in memory.
    pub(crate) room: OwnedSemaphorePermit,
}
