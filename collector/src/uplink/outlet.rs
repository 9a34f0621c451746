//! What goes out on one stream, in the order in which the core said it, however long contents take to be read.

use std::collections::VecDeque;

use spikewatch_proto::v1::{CollectorMessage, collector_message::Message};
use tokio::sync::mpsc;

use super::{
    contents::Memory,
    core::{Outgoing, SliceNo},
};

/// One message.
pub(super) enum Queued {
    /// As it is.
    Message(Box<Message>),
    /// Batches of a slice, whose contents may have to be read first.
    Batches { slice_no: SliceNo, batches: Vec<Outgoing> },
}

/// How far it went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// All is on its way.
    Done,
    /// Contents of this slice are missing.
    Wants(SliceNo),
    /// The stream is dead.
    Dead,
}

/// See the module. What is queued is bounded by the credit of the stream: contents are not in it.
pub(super) struct Outlet {
    outgoing: mpsc::Sender<CollectorMessage>,
    queue: VecDeque<Queued>,
}

impl Outlet {
    /// One that has said nothing.
    pub(super) fn new(outgoing: mpsc::Sender<CollectorMessage>) -> Self {
        Self { outgoing, queue: VecDeque::new() }
    }

    /// Queues a message; [`Outlet::pump`] sends it.
    pub(super) fn push(&mut self, queued: Queued) {
        self.queue.push_back(queued);
    }

    /// True if nothing waits for contents.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// True if it waits for the contents of this slice.
    pub(super) fn waits_for(&self, slice_no: SliceNo) -> bool {
        matches!(self.queue.front(), Some(Queued::Batches { slice_no: wanted, .. }) if *wanted == slice_no)
    }

    /// Sends what it can; counts messages with batches. `sent_ms` is the wall's clock.
    pub(super) fn pump(&mut self, memory: &Memory, sent_ms: u64, batches_sent: &mut u64) -> Pumped {
        while let Some(next) = self.queue.pop_front() {
            let message = match next {
                Queued::Message(message) => *message,
                Queued::Batches { slice_no, batches } => match memory.message(slice_no, &batches, sent_ms) {
                    Some(message) => {
                        *batches_sent += 1;
                        Message::Batches(message)
                    }
                    None => {
                        self.queue.push_front(Queued::Batches { slice_no, batches });
                        return Pumped::Wants(slice_no);
                    }
                },
            };
            if self.outgoing.try_send(CollectorMessage { message: Some(message) }).is_err() {
                return Pumped::Dead;
            }
        }
        Pumped::Done
    }
}
