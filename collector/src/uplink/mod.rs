//! The uplink actor: keeps streams to the aggregators that own our shards, and runs the delivery [`core`] over them.
//! Contents lie in a spool, which a thread of its own writes (`spooler`), or in memory.

mod contents;
pub mod core;
mod link;
mod outlet;
mod recovery;
mod routes;
mod skew;
mod spooler;
mod store;

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use spikewatch_actors::{
    Seams,
    mailbox::{Inbox, Mailbox, mailbox},
    task::Kind,
};
use spikewatch_proto::{trace::traceparent, v1};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Span;

use self::{
    contents::Contents,
    core::{Action, Core, CoreOptions, Event as Happened, LaneNo, LinkId, SliceNo},
    outlet::{Outlet, Pumped, Queued},
    skew::Skews,
    store::{Begun, Store},
};
use crate::{memory_limit::MemoryLimit, metrics::Metrics, pipeline::Flush, spool};

pub(crate) use self::store::SpoolOptions;

/// Messages a stream may have waiting: more than the core can have in flight, so a full one is a dead one.
const LINK_CAPACITY: usize = 4_096;

/// What happens to the uplink.
pub(crate) enum Event {
    /// Addresses of all aggregators.
    Routes(Vec<String>),
    /// A stream is open; what is sent into `outgoing` goes out on it.
    Connected { link: LinkId, lane: LaneNo, outgoing: mpsc::Sender<v1::CollectorMessage> },
    /// A message came in on a stream.
    Message { link: LinkId, message: v1::aggregator_message::Message },
    /// A stream ended.
    Disconnected { link: LinkId },
    /// The spool has done something.
    Spool(Happened),
    /// A slice was read back, or can't be.
    Read { slice_no: SliceNo, contents: Option<Box<Contents>> },
}

/// Where the uplink connects, and what it says of itself.
#[derive(Debug, Clone)]
pub(crate) struct UplinkOptions {
    /// Any aggregators of the cluster, "http://host:port".
    pub(crate) seeds: Vec<String>,
    /// What the core needs.
    pub(crate) core: CoreOptions,
    /// Where what is not committed is kept; in memory, if none.
    pub(crate) spool: Option<SpoolOptions>,
    /// What all of the collector may take.
    pub(crate) memory: MemoryLimit,
}

impl Delivery {
    /// One of what is kept nowhere.
    pub(crate) fn unkept(flush: Flush, made_by: Span) -> Self {
        Self { flush, checkpoint: None, durable: Vec::new(), made_by }
    }
}

/// The way into the uplink. When all of them are gone, nothing more comes.
#[derive(Debug, Clone)]
pub(crate) struct UplinkHandle {
    deliveries: mpsc::Sender<Delivery>,
}

/// What is to be delivered.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// What is due.
    pub(crate) flush: Flush,
    /// What sources go on from once this is durable.
    pub(crate) checkpoint: Option<Vec<u8>>,
    /// Told when it is; dropped if it never will be.
    pub(crate) durable: Vec<oneshot::Sender<()>>,
    /// The span that made it.
    pub(crate) made_by: Span,
}

impl UplinkHandle {
    /// Hands over what is due; waits while too much is uncommitted. False if the uplink has ended.
    pub(crate) async fn deliver(&self, delivery: Delivery) -> bool {
        self.deliveries.send(delivery).await.is_ok()
    }
}

/// Tells when the uplink has done its work.
#[derive(Debug, Clone)]
pub(crate) struct Finished(watch::Receiver<bool>);

impl Finished {
    /// Returns when all that was delivered is committed and the end was told, or the uplink has ended.
    pub(crate) async fn wait(&self) {
        let mut finished = self.0.clone();
        let _ = finished.wait_for(|finished| *finished).await;
    }
}

struct Uplink {
    core: Core,
    store: Store,
    seams: Seams,
    metrics: Metrics,
    events: Mailbox<Event>,
    streams: BTreeMap<LinkId, Outlet>,
    addresses: Vec<String>,
    /// Aggregators that link tasks try to reach, for each lane.
    wanted: BTreeMap<(LaneNo, String), CancellationToken>,
    /// Ends all link tasks, when the uplink does.
    links: DropGuard,
    next_link: LinkId,
    skews: Skews,
    /// How long what is spooled is delivered still when the collector ends.
    parting: Duration,
    finished: watch::Sender<bool>,
}

/// Starts the uplink. One with a spool goes on from what is in there (the sources from its check-point), and outlives the
/// sources until that is delivered, or the time for parting has passed.
///
/// # Errors
/// The spool can't be opened.
pub(crate) async fn start(
    options: UplinkOptions,
    metrics: Metrics,
    seams: &Seams,
) -> Result<(UplinkHandle, Finished, Option<spool::Checkpoint>), spool::Error> {
    let (deliveries, due) = mpsc::channel(1);
    let (events, inbox) = mailbox("uplink", 256);
    let (finished, watching) = watch::channel(false);
    let parting = options.spool.as_ref().map_or(Duration::ZERO, |spool| spool.parting);
    let Begun { core, store, first, checkpoint } = match options.spool {
        None => {
            let store = Store::memory(options.memory);
            Begun { core: Core::new(options.core), store, first: Vec::new(), checkpoint: None }
        }
        Some(spool) => store::open(spool, (options.core, options.memory), &events, &metrics, seams).await?,
    };
    // Without a spool there is nothing that could be saved in parting.
    let kind = if store.is_spool() { Kind::ROLE } else { Kind::BACKGROUND };
    routes::watch(options.seeds, events.clone(), seams);
    let mut uplink = Uplink {
        core,
        store,
        seams: seams.clone(),
        metrics,
        events,
        streams: BTreeMap::new(),
        addresses: Vec::new(),
        wanted: BTreeMap::new(),
        links: CancellationToken::new().drop_guard(),
        next_link: 1,
        skews: Skews::default(),
        parting,
        finished,
    };
    uplink.act(first, &mut None, &mut VecDeque::new());
    seams.tasks.spawn(kind, "uplink", uplink.run(due, inbox));
    Ok((UplinkHandle { deliveries }, Finished(watching), checkpoint))
}

impl Uplink {
    async fn run(mut self, mut due: mpsc::Receiver<Delivery>, mut inbox: Inbox<Event>) -> Result<(), Infallible> {
        let token = self.seams.tasks.token();
        let mut open = true;
        let mut parting: Option<Instant> = None;
        loop {
            let until = parting.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = token.cancelled(), if parting.is_none() => parting = Some(Instant::now() + self.parting),
                () = sleep_until(until), if parting.is_some() => break,
                () = self.store.pass_on() => {}
                event = inbox.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => break,
                },
                delivery = due.recv(), if open && self.core.has_room() && self.store.has_room() => match delivery {
                    Some(delivery) => self.on_delivery(delivery),
                    None => open = false,
                },
            }
            if self.core.is_finished() {
                self.finished.send_replace(true);
            }
            let delivered = || self.core.is_delivered() && self.streams.values().all(Outlet::is_empty);
            if parting.is_some() && !open && self.store.is_idle() && delivered() {
                break;
            }
        }
        // What comes now is from a source that missed the deadline.
        due.close();
        while let Ok(delivery) = due.try_recv() {
            self.on_delivery(delivery);
        }
        tracing::debug!(kept = self.core.kept(), delivered = self.core.is_delivered(), "the uplink ends");
        self.store.finish(inbox).await;
        Ok(())
    }

    fn on_delivery(&mut self, Delivery { flush, checkpoint, durable, made_by }: Delivery) {
        let span =
            tracing::info_span!(parent: &made_by, "slice", slices = flush.slices.len(), watermark_ms = flush.watermark);
        let parent = traceparent(&span);
        let _entered = span.enter();
        self.store.begin_group();
        for slice in flush.slices {
            let (contents, parts) = Contents::of(&slice, &parent);
            let (new, stored) = self.store.encode(contents);
            self.on_core(Happened::Cut { start: slice.start, parts, stored }, Some(new));
        }
        self.store.end_group(checkpoint, durable);
        // Most of it has been received, and will be counted: then the loss is taken back.
        let bytes = self.store.too_much();
        if bytes > 0 {
            self.on_core(Happened::OverBudget { bytes }, None);
        }
        self.on_core(Happened::Passed { time_ms: flush.watermark, last: flush.last }, None);
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Routes(addresses) => {
                self.addresses = addresses;
                self.reach();
            }
            Event::Connected { link, lane, outgoing } => {
                Metrics::add(&self.metrics.counters().streams, 1);
                self.streams.insert(link, Outlet::new(outgoing));
                self.skews.said(link, self.seams.clock.now_ms());
                self.on_core(Happened::Connected { link, lane }, None);
            }
            Event::Message { link, message } => {
                if self.streams.contains_key(&link) {
                    self.compare_clocks(link, &message);
                    self.on_core(Happened::Message { link, message }, None);
                }
            }
            Event::Disconnected { link } => {
                self.streams.remove(&link);
                self.skews.gone(link);
                self.on_core(Happened::Disconnected { link }, None);
            }
            Event::Spool(happened) => {
                if let Happened::Synced { ticket } = &happened {
                    self.store.was_synced(*ticket);
                }
                self.on_core(happened, None);
            }
            Event::Read { slice_no, contents } => self.on_read(slice_no, contents),
        }
    }

    /// The first welcome of a stream tells how far this clock is off the aggregator's.
    fn compare_clocks(&mut self, link: LinkId, message: &v1::aggregator_message::Message) {
        let v1::aggregator_message::Message::Welcome(welcome) = message else { return };
        let clock = &self.seams.clock;
        let Some(skew) = self.skews.heard(link, welcome.clock_ms, clock.now_ms()) else { return };
        if clock.is_event_time() {
            return;
        }
        self.metrics.counters().clock_skew.store(skew.ahead_ms, Relaxed);
        if skew.is_notable() {
            tracing::warn!(ahead_ms = skew.ahead_ms, within_ms = skew.within_ms, "this clock is off an aggregator's");
        }
    }

    /// What waits for these contents goes on. Where they can't be had, what was about to be sent was not, so that its streams
    /// have to begin anew.
    fn on_read(&mut self, slice_no: SliceNo, contents: Option<Box<Contents>>) {
        if let Some(contents) = contents {
            self.store.was_read(slice_no, *contents);
        } else {
            self.store.was_not_read();
            let waiting = self.streams.iter().filter(|(_, stream)| stream.waits_for(slice_no));
            for link in waiting.map(|(link, _)| *link).collect::<Vec<_>>() {
                self.cut_off(link);
            }
            self.on_core(Happened::Lost { slice_no }, None);
        }
        for link in self.streams.keys().copied().collect::<Vec<_>>() {
            self.pump(link);
        }
    }

    /// One link task for each aggregator and lane; those that are no longer wanted end.
    fn reach(&mut self) {
        let lanes: Vec<_> = self.core.lanes().collect();
        self.wanted.retain(|(lane, address), token| {
            let keep = lanes.contains(lane) && self.addresses.contains(address);
            if !keep {
                token.cancel();
            }
            keep
        });
        for (lane, address) in lanes.iter().flat_map(|lane| self.addresses.iter().map(move |to| (*lane, to.clone()))) {
            if !self.wanted.contains_key(&(lane, address.clone())) {
                let token = self.child_token();
                self.wanted.insert((lane, address.clone()), token.clone());
                // Each attempt to connect takes a number of its own from this range.
                let first = self.next_link;
                self.next_link += 1 << 32;
                link::start(address, lane, first, self.events.clone(), token, &self.seams);
            }
        }
    }

    fn child_token(&self) -> CancellationToken {
        self.links.token().child_token()
    }

    /// Runs the core, and does what it says. `new` is what it is about to give a number.
    fn on_core(&mut self, event: Happened, mut new: Option<store::New>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let actions = self.core.on(event, self.seams.clock.now_ms());
            self.act(actions, &mut new, &mut events);
        }
    }

    /// Does these; what comes of it at once goes to `events`.
    fn act(&mut self, actions: Vec<Action>, new: &mut Option<store::New>, events: &mut VecDeque<Happened>) {
        let mut written = None;
        for action in actions {
            match action {
                Action::Send { link, slice_no, batches } => self.queue(link, Queued::Batches { slice_no, batches }),
                Action::Say { link, message } => self.queue(link, Queued::Message(message)),
                Action::Connect { lane } => {
                    self.wanted.retain(|(of, _), token| {
                        if *of == lane {
                            token.cancel();
                        }
                        *of != lane
                    });
                    self.reach();
                }
                Action::Drained { .. } => self.reach(),
                Action::Alarm(alarm) => tracing::error!("{alarm}"),
                Action::Roll => events.extend(self.store.roll(self.seams.entropy.bytes16())),
                other => written = self.store.write(other, new).or(written),
            }
        }
        events.extend(written.map(|ticket| Happened::Synced { ticket }));
    }

    fn queue(&mut self, link: LinkId, queued: Queued) {
        if let Some(stream) = self.streams.get_mut(&link) {
            let goes_on = stream.is_empty();
            stream.push(queued);
            if goes_on {
                self.pump(link);
            }
        }
    }

    /// Sends what can be sent on a stream; what has to be read first is asked for.
    fn pump(&mut self, link: LinkId) {
        let Some(stream) = self.streams.get_mut(&link) else { return };
        // For latencies: the wall's clock, whatever clock the traffic plays on.
        let sent_ms = self.seams.clock.wall_ms();
        let mut sent = 0;
        let pumped = stream.pump(self.store.contents(), sent_ms, &mut sent);
        Metrics::add(&self.metrics.counters().batches_sent, sent);
        match pumped {
            Pumped::Done => {}
            Pumped::Wants(slice_no) => self.store.want(slice_no),
            Pumped::Dead => self.cut_off(link),
        }
    }

    /// Dropping the sender ends the stream; the link task connects anew, and all is sent again.
    fn cut_off(&mut self, link: LinkId) {
        self.streams.remove(&link);
        let nothing = self.core.on(Happened::Disconnected { link }, 0);
        debug_assert!(nothing.is_empty(), "a stream that is gone needs nothing");
    }
}
