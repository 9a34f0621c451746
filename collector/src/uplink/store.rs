//! Where contents of slices are: in a spool that a thread of its own writes, with the newest in memory too; or in memory
//! only, where whatever is written is as durable as it will ever be.

use std::{collections::VecDeque, time::Duration};

use spikewatch_actors::{
    Seams,
    entropy::Entropy,
    latency::Latencies,
    mailbox::{Inbox, Mailbox},
    task::Kind,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::{
    Event,
    contents::{Contents, Memory},
    core::{Action, Core, CoreOptions, Event as Happened, SliceNo, Ticket},
    recovery,
    spooler::{Group, NewSlice, Order, Spooler, WAITING_GROUPS},
};
use crate::{
    memory_limit::MemoryLimit,
    metrics::Metrics,
    spool::{self, Recovered, Spool, SpoolPlace, disk::Disk, file_layer::FileLayer},
};

/// Groups for the spooler that may wait here before no more slices are taken.
const MAX_WAITING: usize = 64;

/// A spool on the disk.
#[derive(Debug, Clone)]
pub(crate) struct SpoolOptions {
    /// Where it is.
    pub(crate) place: SpoolPlace,
    /// How long it is delivered still when the collector ends.
    pub(crate) parting: Duration,
    /// Whose it is, and what it may take.
    pub(crate) spool: spool::Options,
}

/// Contents that have no number yet, and as the spool keeps them.
pub(super) struct New {
    contents: Contents,
    payload: Vec<u8>,
}

/// See the module.
pub(super) struct Store {
    contents: Memory,
    spooler: Option<Orders>,
    /// What contents may take where there is no spool.
    most_bytes: usize,
}

/// The way to the spooler. The uplink must never wait for it, as it waits for the uplink.
struct Orders {
    sender: mpsc::Sender<Group>,
    waiting: VecDeque<Group>,
    /// One that is not complete.
    group: Option<Group>,
    /// The last thing that is to be written, and that is known to be durable.
    written: Ticket,
    synced: Ticket,
    /// What is being read. One slice at a time.
    reading: Option<SliceNo>,
    /// Bytes of slices that are not known to be durable, by ticket; and how many there may be.
    unwritten: VecDeque<(Ticket, usize)>,
    unwritten_bytes: usize,
    most_unwritten: usize,
}

impl Orders {
    fn push(&mut self, order: Order) {
        match &mut self.group {
            Some(group) => group.push(order),
            None => self.waiting.push_back(vec![order]),
        }
    }
}

impl Store {
    /// One without a spool.
    pub(super) fn memory(limit: MemoryLimit) -> Self {
        Self { contents: Memory::default(), spooler: None, most_bytes: limit.slices(false) }
    }

    /// True if it has a spool.
    pub(super) fn is_spool(&self) -> bool {
        self.spooler.is_some()
    }

    /// What is in memory.
    pub(super) fn contents(&self) -> &Memory {
        &self.contents
    }

    /// What a slice takes in the spool is what it takes encoded, or less; without one, what it takes in memory.
    pub(super) fn encode(&self, contents: Contents) -> (New, u64) {
        let payload = if self.is_spool() { contents.encode() } else { Vec::new() };
        let stored = if self.is_spool() { payload.len() } else { contents.bytes() } as u64;
        (New { contents, payload }, stored)
    }

    /// Writes what the core wants written. What is durable at once is returned.
    pub(super) fn write(&mut self, action: Action, new: &mut Option<New>) -> Option<Ticket> {
        let (ticket, order) = match action {
            Action::Append { ticket, lane, slice_no, start, bucket, parts, .. } => {
                let New { contents, payload } = new.take()?;
                self.contents.keep(slice_no, contents);
                if let Some(spooler) = &mut self.spooler {
                    spooler.unwritten.push_back((ticket, payload.len()));
                    spooler.unwritten_bytes += payload.len();
                }
                let slice = NewSlice { slice_no, start, bucket, parts };
                (ticket, Order::Append { ticket, lane, slice, payload })
            }
            Action::Mark { ticket, lane, up_to } => (ticket, Order::Mark { ticket, lane, up_to }),
            Action::Coarsen { ticket, sources, into, .. } => {
                let slices: Vec<_> = sources.into_iter().map(|(slice_no, _)| slice_no).collect();
                self.contents.forget(&slices);
                (ticket, Order::Coarsen { ticket, slices, into })
            }
            Action::Drop { ticket, slices, .. } => {
                self.contents.forget(&slices);
                (ticket, Order::Drop { ticket, slices })
            }
            Action::Trimmed { lane, pairs } => {
                if let Some(spooler) = &mut self.spooler {
                    spooler.push(Order::Trimmed { lane, pairs });
                }
                return None;
            }
            Action::Trim { slices, .. } => {
                self.contents.forget(&slices);
                return None;
            }
            _ => return None,
        };
        let Some(spooler) = &mut self.spooler else { return Some(ticket) };
        spooler.written = ticket;
        spooler.push(order);
        None
    }

    /// What is written from now on becomes durable at once, with what [`Store::end_group`] adds.
    pub(super) fn begin_group(&mut self) {
        if let Some(spooler) = &mut self.spooler {
            spooler.group = Some(Group::new());
        }
    }

    /// Ends the group. Without a spool nothing is durable, and `durable` is not told so.
    pub(super) fn end_group(&mut self, checkpoint: Option<Vec<u8>>, durable: Vec<oneshot::Sender<()>>) {
        let Some(spooler) = &mut self.spooler else { return };
        let mut group = spooler.group.take().unwrap_or_default();
        group.extend(checkpoint.map(Order::Checkpoint));
        if !durable.is_empty() {
            group.push(Order::Tell(durable));
        }
        if !group.is_empty() {
            spooler.waiting.push_back(group);
        }
    }

    /// Begins a lane: what happened if it is there at once.
    pub(super) fn roll(&mut self, incarnation: [u8; 16]) -> Option<Happened> {
        let Some(spooler) = &mut self.spooler else { return Some(Happened::Rolled { incarnation }) };
        spooler.push(Order::Roll { incarnation });
        None
    }

    /// Has a slice read back, unless one is being read.
    pub(super) fn want(&mut self, slice_no: SliceNo) {
        if let Some(spooler) = self.spooler.as_mut().filter(|spooler| spooler.reading.is_none()) {
            spooler.reading = Some(slice_no);
            spooler.push(Order::Read { slice_no });
        }
    }

    /// It was read.
    pub(super) fn was_read(&mut self, slice_no: SliceNo, contents: Contents) {
        self.was_not_read();
        self.contents.keep(slice_no, contents);
    }

    /// It can't be read.
    pub(super) fn was_not_read(&mut self) {
        if let Some(spooler) = &mut self.spooler {
            spooler.reading = None;
        }
    }

    /// What was written up to the ticket is durable.
    pub(super) fn was_synced(&mut self, ticket: Ticket) {
        if let Some(spooler) = &mut self.spooler {
            spooler.synced = spooler.synced.max(ticket);
            while let Some((_, bytes)) = spooler.unwritten.pop_front_if(|(written, _)| *written <= ticket) {
                spooler.unwritten_bytes -= bytes;
            }
        }
    }

    /// False while the disk is so slow that no more slices are taken.
    pub(super) fn has_room(&self) -> bool {
        let fits = |spooler: &Orders| spooler.unwritten_bytes < spooler.most_unwritten;
        self.spooler.as_ref().is_none_or(|spooler| spooler.waiting.len() < MAX_WAITING && fits(spooler))
    }

    /// Bytes of contents beyond what they may take where there is no spool.
    pub(super) fn too_much(&self) -> u64 {
        self.contents.bytes().saturating_sub(self.most_bytes) as u64
    }

    /// True if all is durable.
    pub(super) fn is_idle(&self) -> bool {
        self.spooler.as_ref().is_none_or(|spooler| spooler.waiting.is_empty() && spooler.synced >= spooler.written)
    }

    /// Passes a group on to the spooler, once it takes one. Never returns if there is none. Safe to cancel.
    pub(super) async fn pass_on(&mut self) {
        match &mut self.spooler {
            Some(spooler) if !spooler.waiting.is_empty() => match spooler.sender.reserve().await {
                Ok(permit) => {
                    if let Some(group) = spooler.waiting.pop_front() {
                        permit.send(group);
                    }
                }
                // It has failed, and takes the node down with it.
                Err(_) => std::future::pending().await,
            },
            _ => std::future::pending().await,
        }
    }

    /// Passes on all that waits, while nobody listens to what comes of it.
    pub(super) async fn finish(self, inbox: Inbox<Event>) {
        drop(inbox);
        let Some(Orders { sender, waiting, .. }) = self.spooler else { return };
        for group in waiting {
            if sender.send(group).await.is_err() {
                tracing::error!("the spool ended before all was written");
                return;
            }
        }
    }
}

/// What an uplink begins with.
pub(super) struct Begun {
    pub(super) core: Core,
    pub(super) store: Store,
    /// To be done before all else.
    pub(super) first: Vec<Action>,
    /// What the sources go on from.
    pub(super) checkpoint: Option<spool::Checkpoint>,
}

/// What a spooler is made of, but for the disk.
struct Opening {
    options: spool::Options,
    entropy: Entropy,
    events: Mailbox<Event>,
    seen: (Metrics, Latencies),
}

impl Opening {
    fn open<L: FileLayer>(self, files: L) -> Result<(Spooler<L>, Recovered), spool::Error> {
        let (spool, recovered) = Spool::open(self.options, files, || self.entropy.bytes16())?;
        let lanes = recovered.numberings.iter().map(|numbering| numbering.incarnation).collect();
        Ok((Spooler::new(spool, lanes, self.events, self.seen), recovered))
    }
}

/// Opens the spool on the thread that will write it, and makes the core of what is in there.
pub(super) async fn open(
    options: SpoolOptions,
    (core, limit): (CoreOptions, MemoryLimit),
    events: &Mailbox<Event>,
    metrics: &Metrics,
    seams: &Seams,
) -> Result<Begun, spool::Error> {
    let (sender, orders) = mpsc::channel(WAITING_GROUPS);
    let opening = Opening {
        options: options.spool,
        entropy: seams.entropy.clone(),
        events: events.clone(),
        seen: (metrics.clone(), seams.latencies.clone()),
    };
    let recovered = match options.place {
        SpoolPlace::Directory(directory) => {
            let (answer, opened) = oneshot::channel::<Result<Recovered, spool::Error>>();
            let runtime = Handle::current();
            seams.tasks.spawn_blocking(Kind::ROLE, "spooler", move || {
                let disk = Disk::new(&directory).map_err(|source| spool::Error::Io {
                    doing: "make the directory",
                    path: directory,
                    source,
                });
                match disk.and_then(|disk| opening.open(disk)) {
                    Ok((spooler, recovered)) => {
                        // Whoever asked may be gone; then there are no orders either.
                        let _ = answer.send(Ok(recovered));
                        runtime.block_on(spooler.run(orders))
                    }
                    Err(error) => {
                        let _ = answer.send(Err(error));
                        Ok(())
                    }
                }
            });
            opened.await.unwrap_or(Err(spool::Error::Refused("the thread that opens it has ended")))?
        }
        SpoolPlace::Memory(disk) => {
            let (spooler, recovered) = opening.open(disk)?;
            seams.tasks.spawn(Kind::ROLE, "spooler", spooler.run(orders));
            recovered
        }
    };
    recovery::log(&recovered);
    let (core, first) = Core::recovered(core, recovery::lanes(&recovered));
    let orders = Orders {
        sender,
        waiting: VecDeque::new(),
        group: None,
        written: 0,
        synced: 0,
        reading: None,
        unwritten: VecDeque::new(),
        unwritten_bytes: 0,
        most_unwritten: limit.unwritten(),
    };
    let contents = Memory::bounded(limit.slices(true));
    let store = Store { contents, spooler: Some(orders), most_bytes: usize::MAX };
    Ok(Begun { core, store, first, checkpoint: recovered.checkpoint })
}
