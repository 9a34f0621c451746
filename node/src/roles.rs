//! The roles, each behind its own port, from the configuration.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use spikewatch_actors::Seams;
use spikewatch_collector::{
    MemoryLimit, PlaceOptions, SourceOptions, SpoolOptions, charge::Aliases, log::ecs::EcsOptions,
    networks::InternalNetworks, source::file::Expected, spool::SpoolPlace,
};
use spikewatch_detector::{Retention, calendar::Calendars, cluster::Timing};
use spikewatch_proto::convert::cluster::Shape;
use spikewatch_proto::v1::{
    alerting_server, control_server, ingest_server, intake_server, results_server, roster_server, rules_server,
    windowing_server,
};

use crate::{
    config::{
        Collector, Config, Format, Keep, SourceKind, calendars, jobs,
        layers::Fault,
        rules,
        text::{Endpoint, OrEmpty},
    },
    failure::Failure,
    serving::{Port, show_leading},
    telemetry::{Telemetry, instruments, prometheus},
};

/// How long a collector that ends goes on delivering: an aggregator that is there needs far less.
const PARTING: Duration = Duration::from_secs(5);

/// What a process can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Learns, scores, alerts.
    Detector,
    /// Merges.
    Aggregator,
    /// Collects.
    Collector,
}

impl Role {
    /// All of them, in the order in which they start: each finds the one it talks to.
    pub(crate) const ALL: [Self; 3] = [Self::Detector, Self::Aggregator, Self::Collector];

    /// Its name, as in commands and tables of the configuration.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Detector => "detector",
            Self::Aggregator => "aggregator",
            Self::Collector => "collector",
        }
    }

    /// Full names of the gRPC services it has.
    #[must_use]
    pub(crate) fn services(self) -> &'static [&'static str] {
        match self {
            Self::Detector => &[
                windowing_server::SERVICE_NAME,
                control_server::SERVICE_NAME,
                results_server::SERVICE_NAME,
                alerting_server::SERVICE_NAME,
                roster_server::SERVICE_NAME,
                rules_server::SERVICE_NAME,
            ],
            Self::Aggregator => &[ingest_server::SERVICE_NAME, control_server::SERVICE_NAME],
            Self::Collector => &[intake_server::SERVICE_NAME],
        }
    }

    fn address(self, config: &Config) -> SocketAddr {
        match self {
            Self::Detector => config.detector.listen.0.0,
            Self::Aggregator => config.aggregator.listen.0.0,
            Self::Collector => config.collector.listen.0.0,
        }
    }
}

/// Binds the ports of these roles, then starts them, each talking to the one before it by its port. Each has seams of its
/// own, so that they can be ended one after another.
///
/// # Errors
/// A port can't be had, or a role can't start.
pub(crate) async fn start(
    config: &Config,
    roles: &[Role],
    telemetry: &Telemetry,
    node: &Seams,
    of_roles: &BTreeMap<Role, Seams>,
) -> Result<(), Failure> {
    let mut ports = BTreeMap::new();
    for role in roles {
        ports.insert(*role, Port::bind(role.name(), role.address(config)).await?);
    }
    let endpoints: BTreeMap<_, _> = ports.iter().map(|(role, port)| (*role, Endpoint::of(port.address()))).collect();
    instruments::node(&telemetry.meter(), &node.latencies);
    if let Some(listen) = config.telemetry.metrics_listen.0 {
        let address = prometheus::serve(listen.0, telemetry.registry().clone(), node).await?;
        tracing::info!(%address, "metrics");
    }
    for (role, port) in ports {
        let address = port.address();
        let seams = of_roles.get(&role).unwrap_or(node);
        let mut leads = None;
        let routes = match role {
            Role::Detector => {
                let started = spikewatch_detector::start(detector(config, address)?, seams).await;
                let (handle, routes) = started.map_err(refused_detector)?;
                instruments::detector(&telemetry.meter(), &handle);
                leads = Some(handle);
                routes
            }
            Role::Aggregator => {
                let options = aggregator(config, address, endpoints.get(&Role::Detector));
                let (handle, routes) = spikewatch_aggregator::start(options, seams).await.map_err(Failure::internal)?;
                instruments::aggregator(&telemetry.meter(), &handle);
                routes
            }
            Role::Collector => {
                let options = collector(config, endpoints.get(&Role::Aggregator));
                let started = spikewatch_collector::start(options, seams).await;
                let (handle, routes) = started.map_err(|error| match error {
                    spikewatch_collector::Error::Listen { .. }
                    | spikewatch_collector::Error::Intake { .. }
                    | spikewatch_collector::Error::Database(_)
                    | spikewatch_collector::Error::Spool(_) => Failure::Io(error.to_string()),
                    other => Failure::Usage(other.to_string()),
                })?;
                for listener in handle.listeners() {
                    tracing::info!(address = %listener.address(), receive_buffer = listener.receive_buffer(), "flows");
                }
                for address in handle.intakes() {
                    tracing::info!(%address, "records over HTTP");
                }
                instruments::collector(&telemetry.meter(), &handle);
                routes
            }
        };
        let health = port.serve(role.name(), routes, role.services(), seams).await?;
        if let Some(handle) = leads {
            show_leading(health, handle, role.services(), seams);
        }
        tracing::info!(role = role.name(), %address, "serving");
    }
    Ok(())
}

fn refused_detector(error: spikewatch_detector::Error) -> Failure {
    match error {
        error @ spikewatch_detector::Error::Store(_) => Failure::Io(error.to_string()),
        wrong => Failure::Usage(wrong.to_string()),
    }
}

fn detector(config: &Config, bound: SocketAddr) -> Result<spikewatch_detector::Options, Failure> {
    let detector = &config.detector;
    let usage = |faults: Vec<Fault>| {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        Failure::Usage(faults.join("\n"))
    };
    let jobs = jobs::load(detector, config.cluster.bucket.0.0).map_err(usage)?;
    let rules = rules::load(detector).map_err(usage)?;
    let calendars = Calendars::new(calendars::load(detector).map_err(usage)?);
    Ok(spikewatch_detector::Options {
        store_url: detector.store.clone(),
        durable: detector.durable,
        shape: Shape { shards: config.cluster.shards, bucket: config.cluster.bucket.0.0 },
        allowed_lateness: detector.allowed_lateness.0.0,
        max_wait: detector.max_wait.0.0,
        jobs,
        rules,
        calendars,
        retention: retention(&detector.keep),
        retire_after: detector.retire_after.0.0,
        snapshot_buckets: detector.snapshot_buckets,
        memory_limit: detector.memory_limit.0.0,
        false_alerts_a_day: detector.false_alerts_a_day,
        advertise: advertised(&detector.advertise, config, bound).url().to_owned(),
        name: config.node.name.clone(),
        lease: detector.lease.0.0,
        timing: Timing { lease_ms: millis(detector.aggregator_lease.0.0), ..Timing::default() },
    })
}

fn retention(keep: &Keep) -> Retention {
    Retention {
        windows: keep.windows.0.0,
        records: keep.records.0.0,
        alerts: keep.alerts.0.0,
        executions: keep.executions.0.0,
        outbox: keep.outbox.0.0,
        snapshots: keep.snapshots.0.0,
    }
}

/// Where others reach a port of this process: as configured, or the port's address. Nobody can reach one that stands for
/// all addresses; its machine goes by the node's name.
fn advertised(configured: &OrEmpty<Endpoint>, config: &Config, bound: SocketAddr) -> Endpoint {
    let own = || {
        if bound.ip().is_unspecified() { Endpoint::named(&config.node.name, bound.port()) } else { Endpoint::of(bound) }
    };
    configured.0.clone().unwrap_or_else(own)
}

fn millis(period: Duration) -> u64 {
    u64::try_from(period.as_millis()).unwrap_or(u64::MAX)
}

/// `beside` is the detector of this process, if it has one.
fn aggregator(config: &Config, bound: SocketAddr, beside: Option<&Endpoint>) -> spikewatch_aggregator::Options {
    let aggregator = &config.aggregator;
    let detectors = beside.map_or_else(|| aggregator.detector.urls(), |beside| vec![beside.url().to_owned()]);
    let advertise = match beside {
        // In one process nobody else has to reach it.
        Some(_) => aggregator.advertise.0.clone().unwrap_or_else(|| Endpoint::of(bound)),
        None => advertised(&aggregator.advertise, config, bound),
    };
    spikewatch_aggregator::Options {
        memory_limit: aggregator.memory_limit.0.0,
        max_skew: aggregator.max_skew.0.0,
        ..spikewatch_aggregator::Options::new(config.node.name.clone(), detectors, advertise.url())
    }
}

fn collector(config: &Config, beside: Option<&Endpoint>) -> spikewatch_collector::Options {
    let collector = &config.collector;
    let elsewhere = || collector.aggregators.iter().map(|endpoint| endpoint.0.url().to_owned()).collect();
    let name = if collector.name.is_empty() { &config.node.name } else { &collector.name };
    spikewatch_collector::Options {
        site: collector.site.0.clone(),
        name: name.clone(),
        aggregators: beside.map_or_else(elsewhere, |endpoint| vec![endpoint.url().to_owned()]),
        networks: networks(collector),
        aliases: aliases(collector),
        slice: collector.slice.0.0,
        bucket: config.cluster.bucket.0.0,
        shards: config.cluster.shards,
        key_limit: collector.key_limit,
        memory_limit: MemoryLimit(collector.memory_limit.0.0),
        port_values: collector.port_values,
        places: places(collector),
        sources: sources(collector),
        ecs: ecs(collector),
        spool: spool(config),
        tap: None,
        event_clock: None,
    }
}

fn spool(config: &Config) -> Option<SpoolOptions> {
    let collector = &config.collector;
    let directory = Some(&collector.spool).filter(|directory| !directory.as_os_str().is_empty())?;
    Some(SpoolOptions {
        place: SpoolPlace::Directory(directory.clone()),
        budget_bytes: collector.spool_budget.0.0,
        keep_trimmed: collector.keep_trimmed.0.0,
        // Others have to end within the deadline, too.
        parting: PARTING.min(config.node.shutdown_deadline.0.0 / 4),
    })
}

/// The addresses that are hosts.
#[must_use]
pub(crate) fn networks(collector: &Collector) -> InternalNetworks {
    InternalNetworks::new(collector.internal_networks.iter().map(|network| network.0).collect())
}

/// Addresses by the names that stand for them.
#[must_use]
pub(crate) fn aliases(collector: &Collector) -> Aliases {
    let named = |(name, addresses): (&String, &Vec<crate::config::text::Text<std::net::IpAddr>>)| {
        addresses.iter().map(|address| (address.0, name.clone().into_boxed_str())).collect::<Vec<_>>()
    };
    collector.aliases.iter().flat_map(named).collect()
}

/// Where peers are looked up.
#[must_use]
pub(crate) fn places(collector: &Collector) -> PlaceOptions {
    PlaceOptions {
        country_database: collector.country_database.clone(),
        asn_database: collector.asn_database.clone(),
        country_values: collector.country_values,
        asn_values: collector.asn_values,
    }
}

/// How ECS documents are read.
#[must_use]
pub(crate) fn ecs(collector: &Collector) -> EcsOptions {
    EcsOptions {
        exclude_shippers: collector.ecs.exclude_shippers,
        extra_excluded_processes: collector.ecs.excluded_processes.clone(),
        flow_reports_are_deltas: collector.ecs.flow_reports_are_deltas,
    }
}

/// What a file is expected to hold.
#[must_use]
pub(crate) fn expected(format: Format) -> Expected {
    match format {
        Format::Auto => Expected::Auto,
        Format::Pcap => Expected::Packets,
        Format::Netflow => Expected::Netflow,
        Format::Sflow => Expected::Sflow,
        Format::Ecs => Expected::Ecs,
        Format::Zeek => Expected::Zeek,
    }
}

fn sources(collector: &Collector) -> Vec<SourceOptions> {
    let source = |source: &crate::config::Source| match source.kind {
        SourceKind::Netflow | SourceKind::Sflow => source.listen.as_ref().map(|listen| SourceOptions::Listen {
            address: listen.0.0,
            receive_buffer: usize::try_from(collector.receive_buffer.0.0).unwrap_or(usize::MAX),
        }),
        SourceKind::Files if source.follow => Some(SourceOptions::Follow {
            globs: source.paths.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
            expected: expected(source.format.unwrap_or_default()),
        }),
        SourceKind::Files => Some(SourceOptions::Files {
            paths: source.paths.clone(),
            expected: expected(source.format.unwrap_or_default()),
        }),
        SourceKind::Http => source.listen.as_ref().map(|listen| SourceOptions::Http {
            address: listen.0.0,
            expected: expected(source.format.unwrap_or_default()),
        }),
        SourceKind::Grpc => Some(SourceOptions::Grpc),
    };
    collector.sources.iter().filter_map(source).collect()
}
