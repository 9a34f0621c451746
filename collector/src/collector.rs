//! The role: sources feed the pipeline, the pipeline feeds the uplink.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use spikewatch_actors::{Seams, clock::EventClock, mailbox::mailbox, task::Kind};
use spikewatch_domain::{key::SiteName, record::FlowRecord, span::Span};
use spikewatch_proto::{HASH_ID, PROTOCOL_VERSION, v1};
use tokio::sync::{mpsc, watch};
use tonic::service::Routes;

use crate::{
    charge::Aliases,
    checkpoint::{self, CheckpointError, Sources},
    live::Live,
    log::ecs::EcsOptions,
    metrics::Metrics,
    networks::InternalNetworks,
    pipeline::{Pipeline, PipelineOptions},
    recorded::Recorded,
    source::{
        channel,
        file::Expected,
        files::FileReport,
        follow::{Follower, Pattern},
        followed::Followed,
        listener::{Datagram, Listener, ListenerMetrics},
    },
    spool,
    uplink::{self, Finished, UplinkOptions, core::CoreOptions},
};

/// Datagrams that may wait for the decoder.
const WAITING_DATAGRAMS: usize = 65_536;
/// Chunks of lines that may wait for the decoder: what is in them can be read again.
const WAITING_INPUTS: usize = 4;
/// Slices kept in memory before the summariser waits.
const MAX_KEPT: usize = 256;
/// Slices kept in a spool before it does: more than the spool may have, which merges or drops some by then.
const MAX_SPOOLED: usize = 2 * spool::MAX_SLICES;
/// Live traffic goes first when what is kept in a spool is that many buckets behind.
const ROLL_AFTER: u32 = 2;

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
    /// Service ports that have windows of their own; none if 0.
    pub port_values: usize,
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
    /// Its directory, which is made if need be. One collector's only.
    pub directory: PathBuf,
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
    /// A collector either reads files to their ends, or listens, or is handed datagrams: one pipeline has one time.
    #[error(
        "files that are read once go with no other source, and are of one format; run another collector for the rest"
    )]
    MixedSources,
    /// The spool can't be opened.
    #[error("the spool: {0}")]
    Spool(#[from] spool::Error),
    /// Its check-point can't be used, so that what was counted is not known.
    #[error("the spool's check-point can't be used: {0}; start the version that wrote it, or move the spool away")]
    Checkpoint(#[from] CheckpointError),
    /// Without a spool it could not be told after a restart what was counted.
    #[error("files that are followed need a spool: it says after a restart how far they were read")]
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

/// The only way into a running collector. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    metrics: Metrics,
    uplink: Finished,
    listeners: Arc<[Arc<ListenerMetrics>]>,
    reports: watch::Receiver<Option<Arc<[FileReport]>>>,
}

impl Handle {
    /// Counters and faults.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The UDP listeners.
    #[must_use]
    pub fn listeners(&self) -> &[Arc<ListenerMetrics>] {
        &self.listeners
    }

    /// Returns when the sources have ended and all they gave is committed, with what became of each file.
    pub async fn finished(&self) -> Arc<[FileReport]> {
        let reports = self.read_to_end().await;
        self.uplink.wait().await;
        reports
    }

    /// Returns when the sources have ended.
    pub async fn read_to_end(&self) -> Arc<[FileReport]> {
        let mut reports = self.reports.clone();
        match reports.wait_for(Option::is_some).await {
            Ok(reports) => reports.clone().unwrap_or_default(),
            Err(_) => Arc::default(),
        }
    }
}

/// Starts a collector. Its gRPC side has no service of its own yet beside health, which the node serves.
///
/// # Errors
/// If it can't listen, its spool can't be opened, or its spans or sources don't fit together.
pub async fn start(options: Options, seams: &Seams) -> Result<(Handle, Routes), Error> {
    let (slice, bucket) = (options.slice, options.bucket);
    if !bucket.is_multiple_of(slice) {
        return Err(Error::Spans { slice, bucket });
    }
    if !of_one_kind(&options.sources) {
        return Err(Error::MixedSources);
    }
    if options.spool.is_some() && options.event_clock.is_some() {
        return Err(Error::SpoolOfRecordedTraffic);
    }
    let follows = options.sources.iter().any(|source| matches!(source, SourceOptions::Follow { .. }));
    if options.spool.is_none() && follows {
        return Err(Error::Unkept);
    }
    let metrics = Metrics::default();
    let spool = options.spool.as_ref().map(|spool| spooling(spool, &options));
    let hello = v1::Hello {
        site: options.site.as_str().to_owned(),
        collector: options.name,
        incarnation: seams.entropy.bytes16().to_vec(),
        shape: Some(v1::ClusterShape {
            shards: options.shards,
            bucket_seconds: bucket.seconds(),
            hash_id: HASH_ID,
            protocol_version: PROTOCOL_VERSION,
        }),
        clock_ms: 0,
        event_time: options.event_clock.is_some(),
        ..v1::Hello::default()
    };
    // What is kept in memory is too little to ever be far behind.
    let keep_trimmed = spool.is_some();
    let (max_kept, roll_after) = if keep_trimmed { (MAX_SPOOLED, Some(ROLL_AFTER)) } else { (MAX_KEPT, None) };
    let core = CoreOptions { hello, shards: options.shards, bucket, max_kept, keep_trimmed, roll_after };
    let mut pipeline = Pipeline::new(
        PipelineOptions {
            site: options.site,
            networks: options.networks,
            aliases: options.aliases,
            slice,
            bucket,
            shards: options.shards,
            key_limit: options.key_limit,
            port_values: options.port_values,
        },
        metrics.clone(),
    );
    if options.tap.is_some() {
        pipeline.tap();
    }
    let uplink = UplinkOptions { seeds: options.aggregators, core, spool };
    let keeps = uplink.spool.is_some();
    let (uplink, finished, checkpoint) = uplink::start(uplink, metrics.clone(), seams).await?;
    let sources = checkpoint.map_or_else(|| Ok(Sources::default()), |found| go_on(&found, &mut pipeline))?;
    let (waiting, inbox) = mailbox("datagrams", WAITING_DATAGRAMS);
    let mut listeners = Vec::new();
    let (mut paths, mut patterns) = (Vec::new(), Vec::new());
    let mut format = Expected::Auto;
    let mut channels = Vec::new();
    for source in options.sources {
        match source {
            SourceOptions::Files { paths: more, expected } => {
                paths.extend(more);
                format = expected;
            }
            SourceOptions::Follow { globs, expected } => {
                for glob in globs {
                    if let Err(error) = glob::Pattern::new(&glob) {
                        return Err(Error::Glob { glob, error });
                    }
                    patterns.push(Pattern { glob, expected });
                }
            }
            SourceOptions::Listen { address, receive_buffer } => {
                let bound = Listener::bind(address, receive_buffer);
                let listener = bound.map_err(|error| Error::Listen { address, error })?;
                listeners.push(Arc::clone(listener.metrics()));
                let clock = seams.clock.clone();
                let receive = listener.receive(move || clock.now_ms(), waiting.clone(), metrics.clone());
                seams.tasks.spawn(Kind::BACKGROUND, "listener", receive);
            }
            SourceOptions::Channel(channel) if options.event_clock.is_some() => channels.push(channel),
            SourceOptions::Channel(datagrams) => {
                seams.tasks.spawn(Kind::BACKGROUND, "channel", channel::pass_on(datagrams, waiting.clone()));
            }
        }
    }
    let (ended, reports) = watch::channel(None);
    let recorded = |pipeline| Recorded {
        pipeline,
        metrics: metrics.clone(),
        uplink: uplink.clone(),
        tap: options.tap.clone(),
        event_clock: options.event_clock.clone(),
        seams: seams.clone(),
        ended: ended.clone(),
    };
    if let Some(channel) = channels.pop() {
        recorded(pipeline).play(channel);
    } else if !paths.is_empty() {
        recorded(pipeline).read(paths, format, options.ecs);
    } else {
        let (inputs, came) = mpsc::channel(WAITING_INPUTS);
        let followed = (!patterns.is_empty()).then(|| Followed::new(options.ecs, sources.files));
        if let Some(followed) = &followed {
            let (clock, token) = (seams.clock.clone(), seams.tasks.token());
            let follower = Follower::new(patterns, followed, inputs, clock, token);
            seams.tasks.spawn_blocking(Kind::ROLE, "follower", move || follower.run());
        }
        let tap = options.tap;
        Live { pipeline, metrics: metrics.clone(), uplink, keeps, tap, slice, followed, seams: seams.clone() }
            .start(inbox, came);
    }
    let handle = Handle { metrics, uplink: finished, listeners: listeners.into(), reports };
    Ok((handle, Routes::default()))
}

/// The spool of this collector.
fn spooling(spool: &SpoolOptions, options: &Options) -> uplink::SpoolOptions {
    let shape = spool::Shape {
        shards: options.shards,
        bucket_seconds: options.bucket.seconds(),
        hash_id: HASH_ID,
        protocol_version: PROTOCOL_VERSION,
    };
    let owner = spool::Owner { site: options.site.as_str().to_owned(), collector: options.name.clone(), shape };
    let limits = spool::Options {
        budget_bytes: spool.budget_bytes,
        keep_trimmed_ms: u64::try_from(spool.keep_trimmed.as_millis()).unwrap_or(u64::MAX),
        // A group must never be torn apart, and is in memory anyway.
        max_waiting_bytes: usize::MAX,
        ..spool::Options::new(owner)
    };
    uplink::SpoolOptions { directory: spool.directory.clone(), parting: spool.parting, spool: limits }
}

/// Decoders remember what they knew when the last slice was spooled.
fn go_on(checkpoint: &spool::Checkpoint, pipeline: &mut Pipeline) -> Result<Sources, CheckpointError> {
    if !checkpoint.is_newest {
        tracing::error!(
            "the newest check-point is lost with what is damaged: what was read since may be counted twice"
        );
    }
    match checkpoint::restore(&checkpoint.bytes, pipeline) {
        Ok(()) => tracing::info!(bytes = checkpoint.bytes.len(), "decoders go on from the check-point"),
        Err(error) => tracing::warn!(%error, "the check-point can't be used: templates and flows are learnt anew"),
    }
    checkpoint::sources(&checkpoint.bytes)
}

impl SourceOptions {
    fn is_live(&self) -> bool {
        matches!(self, Self::Listen { .. } | Self::Follow { .. })
    }
}

/// True if one task can drive the pipeline for all of them.
fn of_one_kind(sources: &[SourceOptions]) -> bool {
    sources.windows(2).all(|pair| match pair {
        [SourceOptions::Files { expected: one, .. }, SourceOptions::Files { expected: other, .. }] => one == other,
        [one, other] if one.is_live() && other.is_live() => true,
        _ => false,
    })
}

#[cfg(test)]
mod tests;
