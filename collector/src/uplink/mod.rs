//! The uplink actor: keeps streams to the aggregators that own our shards, and runs the delivery [`core`] over them.

mod contents;
pub mod core;
mod link;
mod routes;

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
};

use spikewatch_actors::{
    Seams,
    clock::Clock,
    mailbox::{Inbox, Mailbox, mailbox},
    task::Kind,
};
use spikewatch_proto::{trace::traceparent, v1};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use self::{
    contents::{Contents, Memory},
    core::{Action, Core, CoreOptions, Event as Happened, LaneNo, LinkId, Outgoing, SliceNo, Ticket},
};
use crate::{metrics::Metrics, pipeline::Flush};

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
}

/// Where the uplink connects, and what it says of itself.
#[derive(Debug, Clone)]
pub(crate) struct UplinkOptions {
    /// Any aggregators of the cluster, "http://host:port".
    pub(crate) seeds: Vec<String>,
    /// What the core needs.
    pub(crate) core: CoreOptions,
}

/// The way into the uplink.
#[derive(Debug, Clone)]
pub(crate) struct UplinkHandle {
    flushes: mpsc::Sender<(Flush, Span)>,
    finished: watch::Receiver<bool>,
}

impl UplinkHandle {
    /// Hands over what is due, and the span that made it; waits while too much is uncommitted. False if the uplink has
    /// ended.
    pub(crate) async fn deliver(&self, flush: Flush, made_by: Span) -> bool {
        self.flushes.send((flush, made_by)).await.is_ok()
    }

    /// Returns when all that was delivered is committed and the end was told, or the uplink has ended.
    pub(crate) async fn finished(&self) {
        let mut finished = self.finished.clone();
        let _ = finished.wait_for(|finished| *finished).await;
    }
}

struct Uplink {
    core: Core,
    /// Contents of what is kept: in memory, so that whatever is written is as durable as it gets.
    memory: Memory,
    seams: Seams,
    metrics: Metrics,
    events: Mailbox<Event>,
    streams: BTreeMap<LinkId, mpsc::Sender<v1::CollectorMessage>>,
    addresses: Vec<String>,
    /// Aggregators that link tasks try to reach, for each lane.
    wanted: BTreeMap<(LaneNo, String), CancellationToken>,
    next_link: LinkId,
    finished: watch::Sender<bool>,
}

/// Starts the uplink.
pub(crate) fn start(options: UplinkOptions, metrics: Metrics, seams: &Seams) -> UplinkHandle {
    let (flushes, due) = mpsc::channel(1);
    let (events, inbox) = mailbox("uplink", 256);
    let (finished, watching) = watch::channel(false);
    routes::watch(options.seeds, events.clone(), seams);
    let uplink = Uplink {
        core: Core::new(options.core),
        memory: Memory::default(),
        seams: seams.clone(),
        metrics,
        events,
        streams: BTreeMap::new(),
        addresses: Vec::new(),
        wanted: BTreeMap::new(),
        next_link: 1,
        finished,
    };
    seams.tasks.spawn(Kind::BACKGROUND, "uplink", uplink.run(due, inbox));
    UplinkHandle { flushes, finished: watching }
}

impl Uplink {
    async fn run(mut self, mut due: mpsc::Receiver<(Flush, Span)>, mut inbox: Inbox<Event>) -> Result<(), Infallible> {
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                event = inbox.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => return Ok(()),
                },
                flush = due.recv(), if open && self.core.has_room() => match flush {
                    Some((flush, made_by)) => self.on_flush(flush, &made_by),
                    None => open = false,
                },
            }
            if self.core.is_finished() {
                self.finished.send_replace(true);
            }
        }
    }

    fn on_flush(&mut self, flush: Flush, made_by: &Span) {
        let span =
            tracing::info_span!(parent: made_by, "slice", slices = flush.slices.len(), watermark_ms = flush.watermark);
        let parent = traceparent(&span);
        let _entered = span.enter();
        for slice in flush.slices {
            let (contents, parts) = Contents::of(&slice, &parent);
            self.on_core(Happened::Cut { start: slice.start, parts, stored: 0 }, Some(contents));
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
                self.streams.insert(link, outgoing);
                self.on_core(Happened::Connected { link, lane }, None);
            }
            Event::Message { link, message } => {
                if self.streams.contains_key(&link) {
                    self.on_core(Happened::Message { link, message }, None);
                }
            }
            Event::Disconnected { link } => {
                self.streams.remove(&link);
                self.on_core(Happened::Disconnected { link }, None);
            }
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
                let token = self.seams.tasks.token().child_token();
                self.wanted.insert((lane, address.clone()), token.clone());
                // Each attempt to connect takes a number of its own from this range.
                let first = self.next_link;
                self.next_link += 1 << 32;
                link::start(address, lane, first, self.events.clone(), token, &self.seams);
            }
        }
    }

    /// Runs the core, and does what it says. What it wants written is kept in memory, and thereby done.
    fn on_core(&mut self, event: Happened, mut contents: Option<Contents>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut written: Option<Ticket> = None;
            for action in self.core.on(event, self.seams.clock.now_ms()) {
                match action {
                    Action::Append { ticket, slice_no, .. } => {
                        written = Some(ticket);
                        if let Some(contents) = contents.take() {
                            self.memory.keep(slice_no, contents);
                        }
                    }
                    Action::Mark { ticket, .. } => written = Some(ticket),
                    Action::Drop { ticket, slices, .. } => {
                        written = Some(ticket);
                        self.memory.forget(&slices);
                    }
                    Action::Trim { slices, .. } => self.memory.forget(&slices),
                    // The source waits before there is too much: no budget is ever exceeded.
                    Action::Coarsen { .. } | Action::TakenBack { .. } | Action::Trimmed { .. } => {}
                    Action::Send { link, slice_no, batches } => self.send(link, slice_no, &batches),
                    Action::Say { link, message } => {
                        self.say(link, *message);
                    }
                    Action::Roll => {
                        events.push_back(Happened::Rolled { incarnation: self.seams.entropy.bytes16() });
                    }
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
                }
            }
            if let Some(ticket) = written {
                events.push_back(Happened::Synced { ticket });
            }
        }
    }

    fn send(&mut self, link: LinkId, slice_no: SliceNo, batches: &[Outgoing]) {
        // For latencies: the wall's clock, whatever clock the traffic plays on.
        let sent_ms = Clock::system().now_ms();
        let Some(message) = self.memory.message(slice_no, batches, sent_ms) else { return };
        if self.say(link, v1::collector_message::Message::Batches(message)) {
            Metrics::add(&self.metrics.counters().batches_sent, 1);
        }
    }

    /// True if it is on its way.
    fn say(&mut self, link: LinkId, message: v1::collector_message::Message) -> bool {
        let Some(stream) = self.streams.get(&link) else { return false };
        let sent = stream.try_send(v1::CollectorMessage { message: Some(message) }).is_ok();
        if !sent {
            // Dropping the sender ends the stream; the link task connects anew, and all is sent again.
            self.streams.remove(&link);
            let nothing = self.core.on(Happened::Disconnected { link }, 0);
            debug_assert!(nothing.is_empty(), "a stream that is gone needs nothing");
        }
        sent
    }
}
