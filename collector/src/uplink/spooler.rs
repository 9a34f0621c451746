//! The spooler: owns the spool, on a thread that may block (a simulated disk never
//! does). It writes what the core wants written, in order and many
//! orders to a sync, and says what became durable.
//!
//! While the disk refuses, it takes no more orders: the uplink then takes no more slices.

use std::time::Duration;

use spikewatch_actors::{latency::Latencies, mailbox::Mailbox};
use spikewatch_proto::convert::commit::Pair;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};

use super::{
    Event,
    contents::Contents,
    core::{Event as Happened, LaneNo, Part, SliceNo, Ticket},
    recovery,
};
use crate::{
    metrics::{Metrics, SpoolGauges},
    spool::{Error, Incarnation, Record, Relief, SliceMeta, Spool, Tombstone, file_layer::FileLayer, merge_windows},
};

/// Groups of orders that may wait.
pub(super) const WAITING_GROUPS: usize = 64;
/// Bytes to write beyond which no more groups join those that wait for a sync.
const SYNCED_TOGETHER: usize = 64 << 20;
/// How often the spool is tidied and looked at.
const TICK: Duration = Duration::from_secs(1);
/// Between attempts when the disk refuses.
const RETRY: Duration = Duration::from_millis(500);
/// A disk that goes on refusing is in the log once in so long.
const COMPLAINT: Duration = Duration::from_secs(60);

/// What becomes durable at once, or not at all.
pub(super) type Group = Vec<Order>;

/// What the uplink wants done.
pub(super) enum Order {
    /// Write a slice.
    Append { ticket: Ticket, lane: LaneNo, slice: NewSlice, payload: Vec<u8> },
    /// Write that batches up to these numbers may have been sent.
    Mark { ticket: Ticket, lane: LaneNo, up_to: Vec<(u32, u64)> },
    /// Merge slices into the last of them.
    Coarsen { ticket: Ticket, slices: Vec<SliceNo>, into: SliceNo },
    /// Drop slices, uncounted.
    Drop { ticket: Ticket, slices: Vec<SliceNo> },
    /// Write what is counted.
    Trimmed { lane: LaneNo, pairs: Vec<(u32, Pair)> },
    /// Write what sources go on from.
    Checkpoint(Vec<u8>),
    /// Tell these when all so far is durable.
    Tell(Vec<oneshot::Sender<()>>),
    /// Begin the next lane.
    Roll { incarnation: [u8; 16] },
    /// Read a slice back: [`Event::Read`].
    Read { slice_no: SliceNo },
}

/// A slice as the core numbered it.
pub(super) struct NewSlice {
    pub(super) slice_no: SliceNo,
    pub(super) start: u64,
    pub(super) bucket: u64,
    pub(super) parts: Vec<Part>,
}

/// See the module.
pub(super) struct Spooler<L: FileLayer> {
    spool: Spool<L>,
    /// By number.
    lanes: Vec<Incarnation>,
    events: Mailbox<Event>,
    metrics: Metrics,
    latencies: Latencies,
    /// The newest ticket that was written, and the newest that is durable.
    written: Ticket,
    synced: Ticket,
    begun: Instant,
    tidied: Instant,
    complained: Option<Instant>,
    /// A lane that begins with the next sync.
    rolled: Option<[u8; 16]>,
    /// Who wants to know of the next sync.
    told: Vec<oneshot::Sender<()>>,
    /// The core was asked to give something up, and did not yet.
    asked: bool,
    forgotten: SliceNo,
}

impl<L: FileLayer> Spooler<L> {
    /// The spooler of an opened spool, whose numberings were the first lanes.
    pub(super) fn new(
        spool: Spool<L>,
        lanes: Vec<Incarnation>,
        events: Mailbox<Event>,
        (metrics, latencies): (Metrics, Latencies),
    ) -> Self {
        Self {
            spool,
            lanes,
            events,
            metrics,
            latencies,
            written: 0,
            synced: 0,
            begun: Instant::now(),
            tidied: Instant::now(),
            complained: None,
            rolled: None,
            told: Vec::new(),
            asked: false,
            forgotten: 0,
        }
    }

    /// Works until there is no uplink any more, and all of its orders are durable.
    ///
    /// # Errors
    /// The disk refuses the last of them.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Group>) -> Result<(), Error> {
        self.show();
        loop {
            match timeout(TICK, orders.recv()).await {
                Ok(None) => return self.spool.sync(),
                Ok(Some(group)) => {
                    self.obey_all(group, &orders).await?;
                    while self.spool.waiting_bytes() < SYNCED_TOGETHER
                        && let Ok(group) = orders.try_recv()
                    {
                        self.obey_all(group, &orders).await?;
                    }
                }
                Err(_) => {}
            }
            if self.written > self.synced
                || self.rolled.is_some()
                || !self.told.is_empty()
                || self.spool.waiting_bytes() > 0
            {
                self.sync(&orders).await?;
            }
            if self.tidied.elapsed() >= TICK {
                self.tidied = Instant::now();
                self.tidy().await;
            }
        }
    }

    async fn obey_all(&mut self, group: Group, orders: &mpsc::Receiver<Group>) -> Result<(), Error> {
        for order in group {
            self.obey(order, orders).await?;
        }
        Ok(())
    }

    async fn obey(&mut self, order: Order, orders: &mpsc::Receiver<Group>) -> Result<(), Error> {
        match order {
            Order::Append { ticket, lane, slice, payload } => {
                self.append(lane, slice, &payload, orders).await?;
                self.written = ticket;
            }
            Order::Mark { ticket, lane, up_to } => {
                let known = self.incarnation(lane);
                if let Some(incarnation) = known
                    && !self.write(&Record::Mark { incarnation, sent: up_to }, orders).await?
                {
                    // What it is about must never be sent: a restart knows what is in the spool.
                    return Err(Error::Refused("a mark does not go with what is in the spool"));
                }
                self.written = ticket;
            }
            Order::Coarsen { ticket, slices, into } => {
                self.coarsen(&slices, into).await;
                (self.written, self.asked) = (ticket, false);
            }
            Order::Drop { ticket, slices } => {
                self.drop_slices(&slices);
                (self.written, self.asked) = (ticket, false);
            }
            Order::Checkpoint(bytes) => {
                self.write(&Record::Checkpoint(&bytes), orders).await?;
            }
            Order::Tell(told) => self.told.extend(told),
            Order::Trimmed { lane, pairs } => self.trimmed(lane, &pairs),
            Order::Roll { incarnation } => {
                // If the spool has too many still, all goes on as it is.
                if self.write(&Record::Rolled { incarnation: Incarnation(incarnation) }, orders).await? {
                    self.lanes.push(Incarnation(incarnation));
                    self.rolled = Some(incarnation);
                } else {
                    self.tell(Happened::NotRolled).await;
                }
            }
            Order::Read { slice_no } => self.read(slice_no).await,
        }
        Ok(())
    }

    fn incarnation(&self, lane: LaneNo) -> Option<Incarnation> {
        self.lanes.get(lane as usize).copied()
    }

    /// Appends a record; what waits is synced first where it must be. False if the spool refuses it.
    async fn write(&mut self, record: &Record<'_>, orders: &mpsc::Receiver<Group>) -> Result<bool, Error> {
        let mut written = self.spool.append(record);
        if let Err(Error::Full { .. }) = written {
            self.flush(orders).await?;
            written = self.spool.append(record);
        }
        Ok(written.inspect_err(|error| self.complain(error)).is_ok())
    }

    async fn append(
        &mut self,
        lane: LaneNo,
        slice: NewSlice,
        payload: &[u8],
        orders: &mpsc::Receiver<Group>,
    ) -> Result<(), Error> {
        let Some(incarnation) = self.incarnation(lane) else { return Ok(()) };
        let NewSlice { slice_no, start, bucket, parts } = slice;
        let parts: Vec<_> = parts.iter().map(recovery::part_for_spool).collect();
        let tombstones = parts.iter().map(|part| Tombstone::of(part, bucket)).collect();
        let meta = SliceMeta { slice_no, incarnation, start, bucket, parts };
        if !self.write(&Record::Slice { meta, payload }, orders).await? {
            // Its numbers are taken: that they are gone has to be known, or nothing could follow.
            self.write(&Record::Dropped { incarnation, slices: Vec::new(), tombstones }, orders).await?;
            self.tell(Happened::Lost { slice_no }).await;
        }
        Ok(())
    }

    async fn coarsen(&mut self, slices: &[SliceNo], into: SliceNo) {
        let merged = self.spool.coarsen(slices, &mut |slices| merge_windows(slices));
        match merged.inspect_err(|error| self.complain(error)) {
            Ok(Relief::Coarsened { into: meta, .. }) => {
                let rows = meta.parts.iter().map(|part| part.rows).collect();
                let stored = self.spool.stored_bytes(into).unwrap_or(0);
                self.tell(Happened::Coarsened { slice_no: into, rows, stored }).await;
            }
            _ => {
                self.drop_slices(slices);
                self.tell(Happened::Lost { slice_no: into }).await;
            }
        }
    }

    /// Drops those that are still there: what made room on a full disk is known to be gone.
    fn drop_slices(&mut self, slices: &[SliceNo]) {
        let present: Vec<SliceNo> =
            slices.iter().copied().filter(|slice_no| self.spool.is_uncounted(*slice_no)).collect();
        if !present.is_empty()
            && let Err(error) = self.spool.drop_slices(&present)
        {
            self.complain(&error);
        }
    }

    fn trimmed(&mut self, lane: LaneNo, pairs: &[(u32, Pair)]) {
        let Some(incarnation) = self.incarnation(lane) else { return };
        let pair = |(shard, pair): &(u32, Pair)| (*shard, recovery::pair_for_spool(*pair));
        let pairs: Vec<_> = pairs.iter().map(pair).collect();
        if self.spool.append(&Record::Trimmed { incarnation, pairs: pairs.clone() }).is_err() {
            // One of a store that knows more than we do keeps the others from nothing.
            for pair in pairs {
                let _ = self.spool.append(&Record::Trimmed { incarnation, pairs: vec![pair] });
            }
        }
    }

    async fn read(&mut self, slice_no: SliceNo) {
        let found = self
            .spool
            .slice(slice_no)
            .map(|meta| (meta.start, meta.parts.iter().map(|part| (part.shard, part.rows)).collect::<Vec<_>>()));
        let contents = match (found, self.spool.read(slice_no)) {
            (Some((start, parts)), Ok(payload)) => Contents::decode(start, parts.into_iter(), &payload)
                .inspect_err(|why| tracing::error!(slice_no, why, "a slice in the spool is not what it should be"))
                .ok()
                .map(Box::new),
            (_, Err(error)) => {
                tracing::error!(slice_no, %error, "a slice in the spool can't be read");
                None
            }
            (None, Ok(_)) => None,
        };
        self.send(Event::Read { slice_no, contents }).await;
    }

    /// Makes all durable, and says so.
    async fn sync(&mut self, orders: &mpsc::Receiver<Group>) -> Result<(), Error> {
        let began = Instant::now();
        self.flush(orders).await?;
        self.latencies.record("slice→disk", began.elapsed());
        self.synced = self.written;
        self.tell(Happened::Synced { ticket: self.synced }).await;
        for told in self.told.drain(..) {
            // Whoever asked may have gone.
            let _ = told.send(());
        }
        if let Some(incarnation) = self.rolled.take() {
            self.tell(Happened::Rolled { incarnation }).await;
        }
        Ok(())
    }

    /// Makes all durable, however long the disk needs; on a full one, room.
    async fn flush(&mut self, orders: &mpsc::Receiver<Group>) -> Result<(), Error> {
        while let Err(error) = self.spool.sync() {
            self.complain(&error);
            if error.is_no_space() {
                match self.spool.make_room() {
                    Ok(reliefs) => self.gone(&reliefs).await,
                    Err(error) => self.complain(&error),
                }
            }
            if orders.is_closed() {
                return Err(error);
            }
            sleep(RETRY).await;
        }
        Ok(())
    }

    async fn gone(&self, reliefs: &[Relief]) {
        for relief in reliefs {
            if let Relief::Dropped { slice } = relief {
                self.tell(Happened::Lost { slice_no: slice.slice_no }).await;
            }
        }
    }

    /// Deletes what was counted long ago, and sees to the budget.
    async fn tidy(&mut self) {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        match self.spool.maintain(now_ms).and_then(|()| self.spool.forget_counted()) {
            // Asked again each time: it may be that nothing could be given up then.
            Ok(bytes) if bytes > 0 && !std::mem::replace(&mut self.asked, true) => {
                self.tell(Happened::OverBudget { bytes }).await;
            }
            Ok(_) => self.asked = false,
            Err(error) => self.complain(&error),
        }
        let forgotten = self.spool.slices().next().map(|(meta, _)| meta.slice_no.saturating_sub(1));
        if let Some(slice_no) = forgotten.filter(|slice_no| *slice_no > self.forgotten) {
            self.forgotten = slice_no;
            self.tell(Happened::Forgotten { slice_no }).await;
        }
        self.show();
    }

    fn show(&self) {
        let oldest = self.spool.slices().find(|(_, trimmed)| !trimmed).map_or(0, |(meta, _)| meta.start);
        let (bytes, counts) = (self.spool.bytes(), self.spool.counts());
        self.metrics.show_spool(SpoolGauges { bytes, oldest, counts });
    }

    /// Counted by the spool; logged now and then.
    fn complain(&mut self, error: &Error) {
        if self.complained.is_none_or(|before| before.elapsed() >= COMPLAINT) {
            self.complained = Some(Instant::now());
            tracing::error!(%error, "the spool can't do what it should");
        }
    }

    async fn tell(&self, event: Happened) {
        self.send(Event::Spool(event)).await;
    }

    /// The uplink always goes on receiving, so this comes to an end; it may be gone.
    async fn send(&self, event: Event) {
        let _ = self.events.send(event).await;
    }
}
