//! The uplink actor: keeps streams to the aggregators that own our shards, and runs the delivery [`core`] over them.

pub mod core;
mod link;
mod routes;

use std::{collections::BTreeMap, convert::Infallible};

use spikewatch_actors::{
    Seams,
    clock::Clock,
    mailbox::{Inbox, Mailbox, mailbox},
    task::Kind,
};
use spikewatch_proto::v1;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::core::{Core, CoreOptions, LinkId, Send};
use crate::{metrics::Metrics, pipeline::Flush, trace::traceparent};

/// Messages a stream may have waiting: more than the core can have in flight, so a full one is a dead one.
const LINK_CAPACITY: usize = 4_096;

/// What happens to the uplink.
pub(crate) enum Event {
    /// Addresses of all aggregators.
    Routes(Vec<String>),
    /// A stream is open; what is sent into `outgoing` goes out on it.
    Connected { link: LinkId, outgoing: mpsc::Sender<v1::CollectorMessage> },
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
    flushes: mpsc::Sender<Flush>,
    finished: watch::Receiver<bool>,
}

impl UplinkHandle {
    /// Hands over what is due; waits while too much is uncommitted. False if the uplink has ended.
    pub(crate) async fn deliver(&self, flush: Flush) -> bool {
        self.flushes.send(flush).await.is_ok()
    }

    /// Returns when all that was delivered is committed and the end was told, or the uplink has ended.
    pub(crate) async fn finished(&self) {
        let mut finished = self.finished.clone();
        let _ = finished.wait_for(|finished| *finished).await;
    }
}

struct Uplink {
    core: Core,
    seams: Seams,
    metrics: Metrics,
    events: Mailbox<Event>,
    streams: BTreeMap<LinkId, mpsc::Sender<v1::CollectorMessage>>,
    /// Aggregators that a link task tries to reach.
    wanted: BTreeMap<String, CancellationToken>,
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
        seams: seams.clone(),
        metrics,
        events,
        streams: BTreeMap::new(),
        wanted: BTreeMap::new(),
        next_link: 1,
        finished,
    };
    seams.tasks.spawn(Kind::BACKGROUND, "uplink", uplink.run(due, inbox));
    UplinkHandle { flushes, finished: watching }
}

impl Uplink {
    async fn run(mut self, mut due: mpsc::Receiver<Flush>, mut inbox: Inbox<Event>) -> Result<(), Infallible> {
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                event = inbox.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => return Ok(()),
                },
                flush = due.recv(), if open && self.core.has_room() => match flush {
                    Some(flush) => self.on_flush(flush),
                    None => open = false,
                },
            }
            if self.core.is_finished() {
                self.finished.send_replace(true);
            }
        }
    }

    fn on_flush(&mut self, flush: Flush) {
        let span = tracing::info_span!("slice", slices = flush.slices.len(), watermark_ms = flush.watermark);
        let parent = traceparent(&span);
        let _entered = span.enter();
        let sends = self.core.on_flush(flush, &parent);
        self.send(sends);
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Routes(addresses) => self.on_routes(addresses),
            Event::Connected { link, outgoing } => {
                Metrics::add(&self.metrics.counters().streams, 1);
                self.streams.insert(link, outgoing);
                let sends = self.core.on_connected(link, self.seams.clock.now_ms());
                self.send(sends);
            }
            Event::Message { link, message } => {
                if self.streams.contains_key(&link) {
                    let sends = self.core.on_message(link, message);
                    self.send(sends);
                }
            }
            Event::Disconnected { link } => {
                self.streams.remove(&link);
                self.core.on_disconnected(link);
            }
        }
    }

    /// One link task for each aggregator; those no longer named end.
    fn on_routes(&mut self, addresses: Vec<String>) {
        self.wanted.retain(|address, token| {
            let keep = addresses.contains(address);
            if !keep {
                token.cancel();
            }
            keep
        });
        for address in addresses {
            if !self.wanted.contains_key(&address) {
                let token = self.seams.tasks.token().child_token();
                self.wanted.insert(address.clone(), token.clone());
                // Each attempt to connect takes a number of its own from this range.
                let first = self.next_link;
                self.next_link += 1 << 32;
                link::start(address, first, self.events.clone(), token, &self.seams);
            }
        }
    }

    fn send(&mut self, sends: Vec<Send>) {
        for Send { link, message } in sends {
            let batches = matches!(message, v1::collector_message::Message::Batches(_));
            let message = match message {
                v1::collector_message::Message::Batches(batches) => {
                    // For latencies: the wall's clock, whatever clock the traffic plays on.
                    let sent_ms = Clock::system().now_ms();
                    v1::collector_message::Message::Batches(v1::SliceBatches { sent_ms, ..batches })
                }
                other => other,
            };
            let Some(stream) = self.streams.get(&link) else { continue };
            if stream.try_send(v1::CollectorMessage { message: Some(message) }).is_err() {
                // Dropping the sender ends the stream; the link task connects anew, and all is sent again.
                self.streams.remove(&link);
                self.core.on_disconnected(link);
            } else if batches {
                Metrics::add(&self.metrics.counters().batches_sent, 1);
            }
        }
    }
}
