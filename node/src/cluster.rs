//! All roles in one process on an event-time clock, each behind a loopback port and reached only by its gRPC client:
//! what `replay` and `demo` run. The store is a temporary file that isn't synced.

use std::{net::Ipv4Addr, time::Duration};

use spikewatch_actors::{
    Seams,
    clock::{Clock, EventClock},
    entropy::Entropy,
};
use spikewatch_collector::{
    PlaceOptions, SourceOptions, charge::Aliases, log::ecs::EcsOptions, networks::InternalNetworks,
};
use spikewatch_detector::{calendar::Calendars, job::Job, rule::Rule};
use spikewatch_domain::{key::SiteName, record::FlowRecord, span::Span};
use spikewatch_proto::{convert::cluster::Shape, v1::Progress};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::{
    config::text::Endpoint,
    failure::Failure,
    results::Results,
    roles::Role,
    serving::Port,
    telemetry::{Telemetry, instruments},
};

/// Shards: few, since one process owns them all.
const SHARDS: u32 = 8;
/// Buckets of event time that a bucket stays open for late records.
const LATENESS_BUCKETS: u64 = 2;
/// A drain has nothing to save here.
const DEADLINE: Duration = Duration::from_secs(2);

/// What is started.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Base bucket, and slice.
    pub(crate) bucket: Span,
    /// Rules; those that ship if empty.
    pub(crate) rules: Vec<Rule>,
    /// Jobs; those that ship if empty.
    pub(crate) jobs: Vec<Job>,
    /// Times in which unusual traffic is expected.
    pub(crate) calendars: Calendars,
    /// Randomness of ids, so that one plan does one thing.
    pub(crate) seed: u64,
    /// One collector each.
    pub(crate) sites: Vec<Site>,
}

/// One collector.
#[derive(Debug)]
pub(crate) struct Site {
    /// Its site, and its name.
    pub(crate) name: SiteName,
    /// Which addresses are hosts.
    pub(crate) networks: InternalNetworks,
    /// Names that stand for addresses.
    pub(crate) aliases: Aliases,
    /// Most windows held at once.
    pub(crate) key_limit: usize,
    /// Service ports with windows of their own.
    pub(crate) port_values: usize,
    /// Where peers are looked up.
    pub(crate) places: PlaceOptions,
    /// How ECS documents are read.
    pub(crate) ecs: EcsOptions,
    /// What it reads.
    pub(crate) source: SourceOptions,
    /// Gets a copy of every decoded record.
    pub(crate) tap: Option<mpsc::Sender<Vec<FlowRecord>>>,
}

/// A running cluster.
pub(crate) struct Cluster {
    /// What its roles run on.
    pub(crate) seams: Seams,
    /// Its collectors, in the order of the plan.
    pub(crate) collectors: Vec<spikewatch_collector::Handle>,
    /// What it found.
    pub(crate) results: Results,
    bucket: Span,
    /// Removed when dropped.
    _folder: TempDir,
}

impl Cluster {
    /// Starts it.
    ///
    /// # Errors
    /// No ports, no temporary folder, or a role that can't start.
    pub(crate) async fn start(plan: Plan, telemetry: &Telemetry) -> Result<Self, Failure> {
        let folder =
            tempfile::tempdir().map_err(|error| Failure::Io(format!("can't make a temporary folder: {error}")))?;
        let (clock, event_clock) = Clock::event();
        let seams = Seams::new(clock, Entropy::seeded(plan.seed));
        let meter = telemetry.meter();
        instruments::node(&meter, &seams.latencies);
        let (bucket, expected_collectors) = (plan.bucket, plan.sites.len());

        let port = Port::bind("detector", (Ipv4Addr::LOCALHOST, 0).into()).await?;
        let detector = Endpoint::of(port.address());
        let options = spikewatch_detector::Options {
            store_url: format!("sqlite://{}", folder.path().join("spikewatch.db").display()),
            durable: false,
            shape: Shape { shards: SHARDS, bucket },
            allowed_lateness: Duration::from_millis(LATENESS_BUCKETS * bucket.millis()),
            rules: plan.rules,
            jobs: plan.jobs,
            calendars: plan.calendars,
            snapshot_buckets: 0,
            ..spikewatch_detector::Options::default()
        };
        let (handle, routes) = spikewatch_detector::start(options, &seams).await.map_err(Failure::internal)?;
        instruments::detector(&meter, &handle);
        port.serve("detector", routes, Role::Detector.services(), &seams).await?;

        let port = Port::bind("aggregator", (Ipv4Addr::LOCALHOST, 0).into()).await?;
        let aggregator = Endpoint::of(port.address());
        let options = spikewatch_aggregator::Options {
            expected_collectors,
            ..spikewatch_aggregator::Options::new("aggregator", vec![detector.url().to_owned()], aggregator.url())
        };
        let (handle, routes) = spikewatch_aggregator::start(options, &seams).await.map_err(Failure::internal)?;
        instruments::aggregator(&meter, &handle);
        port.serve("aggregator", routes, Role::Aggregator.services(), &seams).await?;

        let results = Results::connect(&detector).await?;
        let mut cluster = Self { seams, collectors: Vec::new(), results, bucket, _folder: folder };
        for site in plan.sites {
            cluster.collect(site, &aggregator, &event_clock, telemetry).await?;
        }
        Ok(cluster)
    }

    async fn collect(
        &mut self,
        site: Site,
        aggregator: &Endpoint,
        event_clock: &EventClock,
        telemetry: &Telemetry,
    ) -> Result<(), Failure> {
        let port = Port::bind("collector", (Ipv4Addr::LOCALHOST, 0).into()).await?;
        let options = spikewatch_collector::Options {
            name: site.name.as_str().to_owned(),
            site: site.name,
            aggregators: vec![aggregator.url().to_owned()],
            networks: site.networks,
            aliases: site.aliases,
            slice: self.bucket,
            bucket: self.bucket,
            shards: SHARDS,
            key_limit: site.key_limit,
            memory_limit: spikewatch_collector::MemoryLimit::default(),
            port_values: site.port_values,
            places: site.places,
            sources: vec![site.source],
            ecs: site.ecs,
            spool: None,
            tap: site.tap,
            event_clock: Some(event_clock.clone()),
        };
        let (handle, routes) =
            spikewatch_collector::start(options, &self.seams).await.map_err(|error| match error {
                spikewatch_collector::Error::Database(error) => Failure::Io(error.to_string()),
                other => Failure::internal(other),
            })?;
        instruments::collector(&telemetry.meter(), &handle);
        port.serve("collector", routes, Role::Collector.services(), &self.seams).await?;
        self.collectors.push(handle);
        Ok(())
    }

    /// Waits until everything up to `until_ms` is committed and scored, then runs the executions that are due.
    /// To be called when the collectors have finished, or gone on past it.
    ///
    /// # Errors
    /// The detector doesn't answer.
    pub(crate) async fn settle(&mut self, until_ms: u64) -> Result<Progress, Failure> {
        let last = self.bucket.floor(until_ms).saturating_sub(self.bucket.millis());
        let any = |progress: &Progress| last == 0 || progress.commits >= u64::from(SHARDS);
        self.results
            .progress(|progress| {
                any(progress) && progress.frontier_ms >= last && progress.scored_ms >= progress.frontier_ms
            })
            .await
    }

    /// Ends it.
    pub(crate) async fn shutdown(self) {
        self.seams.tasks.shutdown(DEADLINE).await;
    }
}
