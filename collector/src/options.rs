//! What a collector is made of, and why one can't start.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use spikewatch_actors::clock::EventClock;
use spikewatch_domain::{key::SiteName, record::FlowRecord, span::Span};
use tokio::sync::mpsc;

use crate::{
    charge::Aliases,
    checkpoint::CheckpointError,
    log::ecs::EcsOptions,
    memory_limit::MemoryLimit,
    networks::InternalNetworks,
    places::{DatabaseError, PlaceOptions},
    source::{file::Expected, listener::Datagram},
    spool::{self, SpoolPlace},
};

/// What a collector is made of.
#[derive(Debug)]
pub struct Options {
    /// Its site.
    pub site: SiteName,
    /// Its own name, unique within the site.
    pub name: String,
    /// Any aggregators of the cluster, "http://host:port".
    pub aggregators: Vec<String>,
    /// Which addresses are hosts.
    pub networks: InternalNetworks,
    /// Names that stand for addresses.
    pub aliases: Aliases,
    /// How often windows are sent on.
    pub slice: Span,
    /// Base bucket of the cluster, a multiple of the slice.
    pub bucket: Span,
    /// Shards of the cluster.
    pub shards: u32,
    /// Most windows held at once.
    pub key_limit: usize,
    /// What all of it may take.
    pub memory_limit: MemoryLimit,
    /// Service ports that have windows of their own; none if 0.
    pub port_values: usize,
    /// Where peers are looked up, and how many countries and autonomous systems have windows of their own.
    pub places: PlaceOptions,
    /// Where traffic comes from.
    pub sources: Vec<SourceOptions>,
    /// How ECS documents are read.
    pub ecs: EcsOptions,
    /// Where slices are kept until they are committed; in memory, if none.
    pub spool: Option<SpoolOptions>,
    /// Gets a copy of every decoded record; a slow reader slows the source.
    pub tap: Option<mpsc::Sender<Vec<FlowRecord>>>,
    /// Set when recorded traffic is played: its time then comes from what is read.
    pub event_clock: Option<EventClock>,
}

/// A spool.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    /// Where it is.
    pub place: SpoolPlace,
    /// Bytes it may take: then old slices are merged, then dropped.
    pub budget_bytes: u64,
    /// How long slices that are committed are kept, should the store be restored from before.
    pub keep_trimmed: Duration,
    /// When the collector is told to end, how long it goes on delivering what aggregators have not received. All of it is
    /// delivered after the next start, too.
    pub parting: Duration,
}

/// A source.
#[derive(Debug)]
pub enum SourceOptions {
    /// Files, read to their ends.
    Files {
        /// Files and folders; `-` is standard input.
        paths: Vec<PathBuf>,
        /// What they hold.
        expected: Expected,
    },
    /// Files that are followed as they are written. Needs a spool.
    Follow {
        /// Paths, in which `*`, `?` and `[…]` stand for more than one.
        globs: Vec<String>,
        /// What they hold.
        expected: Expected,
    },
    /// A UDP socket for NetFlow v5, v9, IPFIX and sFlow v5, told apart by content.
    Listen {
        /// Where.
        address: SocketAddr,
        /// Bytes that the kernel is asked to hold.
        receive_buffer: usize,
    },
    /// HTTP: `POST /v1/records` with lines, answered when they are durable. Needs a spool.
    Http {
        /// Where.
        address: SocketAddr,
        /// What the lines are.
        expected: Expected,
    },
    /// The service `Intake` on the collector's own gRPC port. Needs a spool.
    Grpc,
    /// Datagrams handed over in the process; time is theirs if they are played, else the clock's.
    Channel(mpsc::Receiver<Datagram>),
}

/// Why a collector can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener's address can't be bound.
    #[error("cannot listen on udp {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// An intake's address can't be bound.
    #[error("cannot listen on tcp {address}: {error}")]
    Intake {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A collector either reads files to their ends, or listens, or is handed datagrams: one pipeline has one time.
    #[error(
        "files that are read once go with no other source, and are of one format; run another collector for the rest"
    )]
    MixedSources,
    /// A database of addresses can't be used.
    #[error("{0}")]
    Database(#[from] DatabaseError),
    /// The spool can't be opened.
    #[error("the spool: {0}")]
    Spool(#[from] spool::Error),
    /// Its check-point can't be used, so that what was counted is not known.
    #[error("the spool's check-point can't be used: {0}; start the version that wrote it, or move the spool away")]
    Checkpoint(#[from] CheckpointError),
    /// Without a spool it could not be told after a restart what was counted.
    #[error("files that are followed, and an intake, need a spool: it says after a restart what was counted")]
    Unkept,
    /// No pattern.
    #[error("{glob}: {error}")]
    Glob {
        /// What was given.
        glob: String,
        /// What is wrong with it.
        error: glob::PatternError,
    },
    /// A spool is for live traffic: recorded traffic is read again.
    #[error("recorded traffic has no spool: it is read again")]
    SpoolOfRecordedTraffic,
    /// Slices must tile buckets.
    #[error("the bucket ({bucket}) must be a multiple of the slice ({slice})")]
    Spans {
        /// The slice.
        slice: Span,
        /// The bucket.
        bucket: Span,
    },
}

impl SourceOptions {
    /// True if the clock is its time.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self, Self::Listen { .. }) || self.is_confirmed()
    }

    /// True if it has to know what is durable.
    pub(crate) fn is_confirmed(&self) -> bool {
        matches!(self, Self::Follow { .. } | Self::Http { .. } | Self::Grpc)
    }
}
