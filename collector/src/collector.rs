//! The role: sources feed the pipeline, the pipeline feeds the uplink.

use std::{net::SocketAddr, sync::Arc};

use spikewatch_actors::{Seams, mailbox::mailbox, task::Kind};
use spikewatch_proto::{
    HASH_ID, PROTOCOL_VERSION,
    v1::{self, intake_server::IntakeServer},
};
use tokio::sync::{mpsc, watch};
use tonic::service::Routes;

use crate::{
    checkpoint::{self, CheckpointError, Sources},
    live::Live,
    memory_limit::{MemoryLimit, Said},
    metrics::Metrics,
    options::{Error, Options, SourceOptions, SpoolOptions},
    pipeline::{Pipeline, PipelineOptions},
    places::file::Files,
    recorded::{Fresh, Recorded},
    source::{
        channel,
        file::Expected,
        files::FileReport,
        follow::{Follower, Pattern},
        followed::Followed,
        intake::{
            Desk,
            grpc::{IntakeService, MAX_MESSAGE},
            http::HttpIntake,
            remembered::Remembered,
        },
        listener::{Listener, ListenerMetrics},
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

/// The only way into a running collector. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    metrics: Metrics,
    uplink: Finished,
    listeners: Arc<[Arc<ListenerMetrics>]>,
    intakes: Arc<[SocketAddr]>,
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

    /// Where records are taken over HTTP.
    #[must_use]
    pub fn intakes(&self) -> &[SocketAddr] {
        &self.intakes
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

/// Starts a collector. Its gRPC side is the intake, which is closed if no source says otherwise.
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
    if options.spool.is_none() && options.sources.iter().any(SourceOptions::is_confirmed) {
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
    let files = Files::open(&options.places)?;
    let core =
        CoreOptions { hello, shards: options.shards, bucket, max_kept, keep_trimmed, merges: keep_trimmed, roll_after };
    let shape = PipelineOptions {
        site: options.site,
        networks: options.networks,
        aliases: options.aliases,
        slice,
        bucket,
        shards: options.shards,
        key_limit: options.key_limit,
        flows: options.memory_limit.flows(),
        port_values: options.port_values,
        country_values: options.places.country_values,
        asn_values: options.places.asn_values,
        databases: files.databases(),
    };
    let (tapped, seen) = (options.tap.is_some(), metrics.clone());
    let fresh: Fresh = Box::new(move || {
        let mut pipeline = Pipeline::new(shape.clone(), seen.clone());
        if tapped {
            pipeline.tap();
        }
        pipeline
    });
    let mut pipeline = fresh();
    let reads = options.sources.iter().any(|source| matches!(source, SourceOptions::Files { .. }));
    // What is read from files can wait until there is room: nothing of it is ever given up.
    let waits = reads || options.event_clock.is_some();
    let memory = if waits { MemoryLimit(u64::MAX) } else { options.memory_limit };
    let uplink = UplinkOptions { seeds: options.aggregators, core, spool, memory };
    let keeps = uplink.spool.is_some();
    let (uplink, finished, checkpoint) = uplink::start(uplink, metrics.clone(), seams).await?;
    let sources = checkpoint.map_or_else(
        || Ok(Sources::default()),
        |found| match reads {
            // Files are read again from their beginnings.
            true => checkpoint::sources(&found.bytes),
            false => go_on(&found, &mut pipeline),
        },
    )?;
    let limit = options.memory_limit;
    let (waiting, inbox) = mailbox("datagrams", WAITING_DATAGRAMS);
    let mut listeners = Vec::new();
    let (mut paths, mut patterns) = (Vec::new(), Vec::new());
    let (mut intakes, mut by_grpc) = (Vec::new(), false);
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
                let receive =
                    listener.receive(move || clock.now_ms(), (waiting.clone(), limit.datagrams()), metrics.clone());
                seams.tasks.spawn(Kind::BACKGROUND, "listener", receive);
            }
            SourceOptions::Http { address, expected } => {
                let bound = HttpIntake::bind(address, expected).await;
                intakes.push(bound.map_err(|error| Error::Intake { address, error })?);
            }
            SourceOptions::Grpc => by_grpc = true,
            SourceOptions::Channel(channel) if options.event_clock.is_some() => channels.push(channel),
            SourceOptions::Channel(datagrams) => {
                seams.tasks.spawn(
                    Kind::BACKGROUND,
                    "channel",
                    channel::pass_on(datagrams, waiting.clone(), metrics.clone()),
                );
            }
        }
    }
    let (ended, reports) = watch::channel(None);
    let recorded = |pipeline, kept| Recorded {
        pipeline,
        fresh,
        kept,
        metrics: metrics.clone(),
        uplink: uplink.clone(),
        tap: options.tap.clone(),
        event_clock: options.event_clock.clone(),
        seams: seams.clone(),
        ended: ended.clone(),
    };
    let addresses = intakes.iter().map(HttpIntake::address).collect();
    let mut desk = None;
    if let Some(channel) = channels.pop() {
        recorded(pipeline, None).play(channel);
    } else if !paths.is_empty() {
        recorded(pipeline, keeps.then_some(sources)).read(paths, format, options.ecs);
    } else {
        let (inputs, came) = mpsc::channel(WAITING_INPUTS);
        let open = || Desk::new(inputs.clone(), limit.intake(), options.ecs.clone(), metrics.clone(), seams.clone());
        desk = (by_grpc || !intakes.is_empty()).then(open);
        if let Some(desk) = &desk {
            intakes.into_iter().for_each(|intake| intake.serve(desk.clone(), metrics.clone(), seams));
        }
        let followed = (!patterns.is_empty()).then(|| Followed::new(options.ecs, sources.files));
        if let Some(followed) = &followed {
            let (clock, token) = (seams.clock.clone(), seams.tasks.token());
            let follower = Follower::new(patterns, followed, inputs, clock, token);
            seams.tasks.spawn_blocking(Kind::ROLE, "follower", move || follower.run());
        }
        let tap = options.tap;
        Live {
            pipeline,
            metrics: metrics.clone(),
            uplink,
            keeps,
            databases: files.follow(metrics.clone(), seams),
            tap,
            slice,
            followed,
            remembered: Remembered::of(sources.senders),
            once: sources.once,
            most_bytes: limit.windows(),
            said: Said::default(),
            waiting: Vec::new(),
            seams: seams.clone(),
        }
        .start(inbox, came);
    }
    let service = IntakeService::new(desk.filter(|_| by_grpc), metrics.clone(), seams.clone());
    let service = IntakeServer::new(service).max_decoding_message_size(MAX_MESSAGE);
    let handle = Handle { metrics, uplink: finished, listeners: listeners.into(), intakes: addresses, reports };
    Ok((handle, Routes::new(service)))
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
    uplink::SpoolOptions { place: spool.place.clone(), parting: spool.parting, spool: limits }
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
