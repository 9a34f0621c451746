//! The middle: takes batches from collectors, merges them into windows by shard, and forwards these to the detector.
//! It owns no disk: until the detector has committed, the collectors' spools are the source of truth.
//!
//! `ingest` (a task a collector) → `shard` (an actor a shard, around the state machine in [`core`]) → `forward`.

mod control;
pub mod core;
mod detectors;
mod directory;
mod encode;
mod entitled;
mod feedback;
mod forward;
mod ingest;
mod metrics;
mod pressure;
mod shard;
mod skew;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use spikewatch_actors::{
    Seams,
    mailbox::{Mailbox, mailbox},
    supervise::Restarts,
    task::{Kind, Tasks},
};
use spikewatch_domain::shard::MAX_SHARDS;
use spikewatch_proto::{
    convert::cluster::Shape,
    v1::{self, control_server::ControlServer, ingest_server::IngestServer},
};
use tokio::sync::watch;
use tonic::service::Routes;

pub use metrics::AggregatorMetrics;

use crate::{
    control::RouteRelay,
    core::{Lane, StreamId},
    detectors::Detectors,
    directory::Directory,
    feedback::Feedback,
    forward::ForwardMessage,
    ingest::IngestService,
    metrics::Counters,
    pressure::Pressure,
};

/// How long its parts may take to end, once nothing is assigned any more.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest message taken from a peer.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// How an aggregator is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Where the detectors are, "http://host:port" each: the one that leads is found from any of them.
    pub detectors: Vec<String>,
    /// Where collectors reach this aggregator: "http://host:port".
    pub advertise: String,
    /// Bytes of open windows above which credit is withheld.
    pub memory_limit: u64,
    /// Rows that a collector may have on the way.
    pub credit_rows: u64,
    /// Streams of collectors taken at most.
    pub max_streams: usize,
    /// Nothing is sealed before that many collectors have bound a shard: in a replay, all that will play.
    pub expected_collectors: usize,
    /// A collector whose clock is off this one by more is refused.
    pub max_skew: Duration,
}

impl Options {
    /// The defaults, for an aggregator of that name between these addresses.
    #[must_use]
    pub fn new(name: impl Into<String>, detectors: Vec<String>, advertise: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            detectors,
            advertise: advertise.into(),
            memory_limit: 2 << 30,
            credit_rows: 1 << 18,
            max_streams: 4096,
            expected_collectors: 0,
            max_skew: Duration::from_secs(60),
        }
    }
}

/// Why an aggregator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The detector's address is none.
    #[error("the detector's address {0:?} is no \"http://host:port\": {1}")]
    Detector(String, tonic::transport::Error),
    /// There is no address.
    #[error("no detector is named")]
    NoDetector,
}

/// The one way into a running aggregator.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// The aggregator in numbers.
    #[must_use]
    pub fn metrics(&self) -> AggregatorMetrics {
        let shared = &self.0;
        let mailboxes: Vec<_> = shared.directory.all().iter().map(|(_, mailbox)| mailbox.stats()).collect();
        let restarts = &shared.restarts;
        AggregatorMetrics {
            streams: shared.sessions().len() as u64,
            shards_assigned: shared.counters.assigned.get(),
            shards_opening: shared.counters.opening.get(),
            window_bytes: shared.pressure.used(),
            slices: shared.counters.slices.get(),
            rows: shared.counters.rows.get(),
            invalid_messages: shared.counters.invalid.get(),
            skewed: shared.counters.skewed.get(),
            unbound: shared.counters.unbound.get(),
            lost_events: shared.counters.lost_events.get(),
            too_late_rows: shared.counters.too_late_rows.get(),
            commits: shared.counters.commits.get(),
            early_windows: shared.counters.early.get(),
            acks: shared.counters.acks.get(),
            refusals: shared.counters.refusals.get(),
            detector_connects: shared.counters.connects.get(),
            credit_withheld: shared.pressure.withheld(),
            shard_restarts: restarts.errors() + restarts.panics() + restarts.freezes(),
            mailbox_depth: mailboxes.iter().map(|stats| stats.depth as u64).sum(),
            mailbox_blocked_ns: mailboxes.iter().map(|stats| stats.blocked_ns).sum(),
        }
    }

    /// How far the clocks of connected collectors are ahead of this one, ms, by "site/collector". Those that play recorded
    /// traffic have none.
    #[must_use]
    pub fn clock_skews(&self) -> BTreeMap<String, i64> {
        let sessions = self.0.sessions();
        let skew = |session: &Arc<Feedback>| Some((session.of.to_string(), session.skew?.ahead_ms()));
        sessions.iter().filter_map(skew).collect()
    }

    /// Waits until all assigned shards are open.
    pub async fn ready(&self) {
        let mut readiness = self.0.readiness.subscribe();
        // The sender lives in `self`.
        let _ = readiness.wait_for(|readiness| readiness.open).await;
    }
}

/// Starts an aggregator. It keeps trying to reach the detector; what it returns has to be served. At shutdown it first
/// hands its shards over, then ends.
///
/// # Errors
/// The options are unusable.
pub async fn start(options: Options, seams: &Seams) -> Result<(Handle, Routes), Error> {
    let detectors = Detectors::new(&options.detectors)?;
    // One commit a shard is in flight, so that shards never wait for the connection.
    let (forward, inbox) = mailbox("forward", 2 * MAX_SHARDS as usize);
    // Its parts go on while shards are handed over: they are not cancelled with the node, but shut down below.
    let tasks = Tasks::new();
    let shared = Arc::new(Shared {
        pressure: Pressure::new(options.memory_limit),
        options,
        seams: Seams { tasks: tasks.clone(), ..seams.clone() },
        instance: seams.entropy.bytes16(),
        directory: Directory::default(),
        forward,
        counters: Counters::default(),
        restarts: Restarts::default(),
        readiness: watch::Sender::new(Readiness::default()),
        routes: watch::Sender::new(None),
        sessions: Mutex::default(),
        streams: AtomicU64::new(0),
    });
    let forwarding = forward::run(Arc::clone(&shared), detectors, inbox, seams.tasks.token());
    seams.tasks.spawn(Kind::ROLE, "aggregator", async move {
        let ended = tokio::select! {
            () = forwarding => Ok(()),
            failure = tasks.failed() => Err(failure),
        };
        tasks.shutdown(END_TIMEOUT).await;
        ended
    });
    let ingest = IngestServer::new(IngestService(Arc::clone(&shared))).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let routes = Routes::new(ingest).add_service(ControlServer::new(RouteRelay(Arc::clone(&shared))));
    Ok((Handle(shared), routes))
}

/// What the tasks of the role share.
#[derive(Debug)]
struct Shared {
    options: Options,
    seams: Seams,
    /// Tells this process from an earlier one of the same name.
    instance: [u8; 16],
    directory: Directory,
    forward: Mailbox<ForwardMessage>,
    pressure: Pressure,
    counters: Counters,
    restarts: Restarts,
    readiness: watch::Sender<Readiness>,
    routes: watch::Sender<Option<v1::Routes>>,
    sessions: Mutex<BTreeMap<StreamId, Arc<Feedback>>>,
    streams: AtomicU64,
}

/// What is known of the cluster, and whether all that is assigned is open.
#[derive(Debug, Clone, Copy, Default)]
struct Readiness {
    shape: Option<Shape>,
    open: bool,
}

impl Shared {
    fn next_stream(&self) -> StreamId {
        self.streams.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The cluster's shape, once a detector told it.
    async fn shape(&self) -> Shape {
        let mut readiness = self.readiness.subscribe();
        loop {
            if let Some(shape) = readiness.borrow_and_update().shape {
                return shape;
            }
            if readiness.changed().await.is_err() {
                // The sender lives in `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    fn sessions(&self) -> Vec<Arc<Feedback>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn enter(&self, feedback: &Arc<Feedback>) {
        self.pressure.enter(feedback.stream);
        if feedback.lane == Lane::BackFill {
            // No close needs what it sends: it never is the one that is furthest behind.
            self.pressure.advance(feedback.stream, u64::MAX);
        }
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(feedback.stream, Arc::clone(feedback));
    }

    fn leave(&self, feedback: &Feedback) {
        self.pressure.leave(feedback.stream);
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&feedback.stream);
    }
}
