//! The configuration: one file for every role, each of which reads its own table.
//!
//! Where a value comes from, later over earlier: defaults, the TOML file, the environment
//! (`SPIKEWATCH__SECTION__KEY=value`), flags (`--set section.key=value`). Unknown keys are faults, and all faults are
//! reported at once ([`layers`]), before anything is started.

pub(crate) mod calendars;
pub(crate) mod check;
pub(crate) mod endpoints;
mod file;
pub(crate) mod jobs;
pub(crate) mod layers;
mod problems;
pub(crate) mod rules;
pub(crate) mod text;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use spikewatch_detector::{Retention, calendar};
use spikewatch_domain::{key::SiteName, network::Network, shard::DEFAULT_SHARDS, span::Span};

use self::endpoints::Endpoints;
use self::text::{Endpoint, Listen, LogFilter, OrEmpty, Period, Size, Slot, Text};

/// Everything that can be configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// What all roles of a process share.
    pub(crate) node: Node,
    /// Logs, traces, metrics.
    pub(crate) telemetry: Telemetry,
    /// What all processes of a cluster must agree on.
    pub(crate) cluster: Cluster,
    /// The edge.
    pub(crate) collector: Collector,
    /// The middle.
    pub(crate) aggregator: Aggregator,
    /// The centre.
    pub(crate) detector: Detector,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Node {
    /// Name of this process in logs, traces and the cluster; unique there. Default: the machine's name.
    pub(crate) name: String,
    /// How long a shutdown may take; what is not done by then is aborted.
    pub(crate) shutdown_deadline: Text<Period>,
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Telemetry {
    /// Level (error, warn, info, debug, trace), or directives as `info,spikewatch_detector=debug`.
    pub(crate) log: Text<LogFilter>,
    /// Form of the log on standard error.
    pub(crate) log_format: LogFormat,
    /// Where traces and metrics are pushed to by OTLP over gRPC, as `http://localhost:4317`; empty: nowhere.
    pub(crate) otlp_endpoint: OrEmpty<Endpoint>,
    /// Where `/metrics` is served for Prometheus, as `127.0.0.1:9464`; empty: nowhere.
    pub(crate) metrics_listen: OrEmpty<Listen>,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[cluster]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cluster {
    /// Base bucket: what is committed and scored, 10s to 1d. Fixed when the store is made.
    pub(crate) bucket: Text<Slot>,
    /// Shards that keys are spread over. Fixed when the store is made.
    pub(crate) shards: u32,
}

/// `[collector]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Collector {
    /// Where it serves gRPC (health, reflection).
    pub(crate) listen: Text<Listen>,
    /// The site it collects for.
    pub(crate) site: Text<SiteName>,
    /// Its name within the site; empty: the node's.
    pub(crate) name: String,
    /// Aggregators it sends to, as `http://host:7432`.
    pub(crate) aggregators: Vec<Text<Endpoint>>,
    /// Networks whose addresses are our hosts, as CIDRs. Empty: the private ones of RFC 1918, 4193 and 6598, and link-local.
    pub(crate) internal_networks: Vec<Text<Network>>,
    /// How often windows are sent on; the bucket must be a multiple of it.
    pub(crate) slice: Text<Slot>,
    /// Most windows held at once; beyond, traffic is charged to `(overflow)`.
    pub(crate) key_limit: usize,
    /// Memory for windows, datagrams that wait, and slices: beyond, slices are cut early, datagrams dropped, counted.
    pub(crate) memory_limit: Text<Size>,
    /// Service ports that have windows of their own, the heaviest of the site (up to twice as many while they change
    /// places); all others share the window `(other)`. 0: ports have no windows.
    pub(crate) port_values: usize,
    /// A MaxMind DB file (`.mmdb`) that tells the countries of peers, read again when it has changed; empty: none. What a
    /// source says of itself (ECS) wins.
    pub(crate) country_database: PathBuf,
    /// The same for their autonomous systems.
    pub(crate) asn_database: PathBuf,
    /// Countries that have windows of their own, as `port_values`. 0: countries have no windows.
    pub(crate) country_values: usize,
    /// Autonomous systems that have windows of their own, as `port_values`. 0: they have none.
    pub(crate) asn_values: usize,
    /// Folder of the spool, where what the detector has not committed outlives this process; empty: only in memory. Each
    /// collector needs one of its own.
    pub(crate) spool: PathBuf,
    /// What the spool may take on the disk, as `8GiB`: beyond, old slices are merged, then dropped.
    pub(crate) spool_budget: Text<Size>,
    /// How long committed slices stay in the spool, so that a store restored from a backup can be fed again.
    pub(crate) keep_trimmed: Text<Period>,
    /// What the kernel is asked to hold for each listener while we are busy, as `16MiB`; `net.core.rmem_max` bounds it.
    pub(crate) receive_buffer: Text<Size>,
    /// Names that stand for addresses: `web = ["10.0.0.5", "fd00::5"]`.
    pub(crate) aliases: BTreeMap<String, Vec<Text<IpAddr>>>,
    /// How ECS documents are read.
    pub(crate) ecs: Ecs,
    /// Where traffic comes from.
    pub(crate) sources: Vec<Source>,
}

/// `[collector.ecs]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Ecs {
    /// Leave out the traffic of Elastic's own shippers and agents.
    pub(crate) exclude_shippers: bool,
    /// More names of processes whose traffic is left out.
    pub(crate) excluded_processes: Vec<String>,
    /// Packetbeat's flow reports hold what is new (`enable_delta_flow_reports`), not totals.
    pub(crate) flow_reports_are_deltas: bool,
}

/// `[[collector.sources]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    /// What it is.
    pub(crate) kind: SourceKind,
    /// Address of a listener: UDP, but for kind `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<Text<Listen>>,
    /// Files to read, once, merged by time; or, with `follow`, patterns of files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) paths: Vec<PathBuf>,
    /// Go on reading files as they are written and rotated, and new ones that `paths` lead to (`*`, `?` and `[…]` stand
    /// for more than one): logs of Zeek and ECS documents. Needs a spool, which says after a restart how far they were read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) follow: bool,
    /// What the files, or the bodies of requests, hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<Format>,
}

/// Kind of a source. Both listeners tell NetFlow, IPFIX and sFlow by content; the kind says what is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SourceKind {
    /// NetFlow v5 and v9, and IPFIX, over UDP.
    Netflow,
    /// sFlow v5 over UDP.
    Sflow,
    /// Files.
    Files,
    /// Lines by HTTP, `POST /v1/records`, answered when they are durable. Needs a spool.
    Http,
    /// The service `Intake` at `collector.listen`. Needs a spool.
    Grpc,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Told from the content.
    #[default]
    Auto,
    /// Packets (pcap or pcapng), even if they carry exports.
    Pcap,
    /// NetFlow v5, v9 or IPFIX: raw datagrams, or a capture of them.
    Netflow,
    /// sFlow v5: raw datagrams, or a capture of them.
    Sflow,
    /// Elastic Common Schema documents, one a line (Elastic Defend, Packetbeat).
    Ecs,
    /// Zeek conn.log, TSV or JSON.
    Zeek,
}

/// `[aggregator]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Aggregator {
    /// Where it serves gRPC.
    pub(crate) listen: Text<Listen>,
    /// The address that collectors reach it by; empty: the node's name (or the listening address) with the port.
    pub(crate) advertise: OrEmpty<Endpoint>,
    /// The detectors, as `http://host:7433` or a list of these: whichever leads is found from any of them.
    pub(crate) detector: Endpoints,
    /// Memory for open windows; beyond, collectors get no credit.
    pub(crate) memory_limit: Text<Size>,
    /// A collector whose clock is off this aggregator's by more is refused.
    pub(crate) max_skew: Text<Period>,
}

/// `[detector]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Detector {
    /// Where it serves gRPC.
    pub(crate) listen: Text<Listen>,
    /// The address that others reach it by; empty: the listening address, or the node's name with its port.
    pub(crate) advertise: OrEmpty<Endpoint>,
    /// How long a detector that stands by on the same store waits for this one before it takes over.
    pub(crate) lease: Text<Period>,
    /// An aggregator that is silent for so long is dead: others get its shards.
    pub(crate) aggregator_lease: Text<Period>,
    /// The store: `sqlite://relative.db`, `sqlite:///absolute.db`, `sqlite::memory:` or `postgres://user@host/name`.
    pub(crate) store: String,
    /// A commit survives a loss of power; a PostgreSQL server whose settings don't allow for that is refused.
    pub(crate) durable: bool,
    /// How long a bucket stays open for late records.
    pub(crate) allowed_lateness: Text<Period>,
    /// How long a bucket waits for a silent collector.
    pub(crate) max_wait: Text<Period>,
    /// A collector that was not heard of for so long is taken out of the roster.
    pub(crate) retire_after: Text<Period>,
    /// Memory for baselines and a bucket's windows; beyond, the series that were active least are forgotten.
    pub(crate) memory_limit: Text<Size>,
    /// Buckets after which the baselines are saved, so that a restart needs not learn all again; 0: never.
    pub(crate) snapshot_buckets: u32,
    /// File of jobs, beside those that ship or in their place; empty: none.
    pub(crate) jobs: PathBuf,
    /// Folder of rules, one TOML file each; empty: the rules that ship.
    pub(crate) rules: PathBuf,
    /// File of exceptions that rules share, and of the lists they name; empty: none.
    pub(crate) exceptions: PathBuf,
    /// How long things are kept.
    pub(crate) keep: Keep,
    /// Times in which unusual traffic is expected.
    pub(crate) calendars: Vec<calendar::Written>,
}

/// `[detector.keep]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Keep {
    /// Windows: what baselines are rebuilt from.
    pub(crate) windows: Text<Period>,
    /// Anomaly records.
    pub(crate) records: Text<Period>,
    /// Alerts; one that a sink waits for is kept.
    pub(crate) alerts: Text<Period>,
    /// What each execution of a rule did.
    pub(crate) executions: Text<Period>,
    /// What was sent to sinks, and when.
    pub(crate) outbox: Text<Period>,
    /// Snapshots of baselines; the newest is kept.
    pub(crate) snapshots: Text<Period>,
}

impl Default for Node {
    fn default() -> Self {
        Self { name: machine_name(), shutdown_deadline: Text(Period(Duration::from_secs(20))) }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log: Text(LogFilter::info()),
            log_format: LogFormat::Text,
            otlp_endpoint: OrEmpty(None),
            metrics_listen: OrEmpty(None),
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self { bucket: Text(Slot(Span::QUARTER_HOUR)), shards: DEFAULT_SHARDS }
    }
}

impl Default for Collector {
    fn default() -> Self {
        let listener =
            |kind, port| Source { kind, listen: Some(loopback(port)), paths: Vec::new(), follow: false, format: None };
        Self {
            listen: loopback(7431),
            site: Text(default_site()),
            name: String::new(),
            aggregators: vec![Text(Endpoint::of(local(7432)))],
            internal_networks: Vec::new(),
            slice: Text(Slot(Span::TEN_SECONDS)),
            key_limit: 1_000_000,
            memory_limit: Text(Size(1 << 30)),
            port_values: 64,
            country_database: PathBuf::new(),
            asn_database: PathBuf::new(),
            country_values: 256,
            asn_values: 256,
            spool: "spikewatch.spool".into(),
            spool_budget: Text(Size(8 << 30)),
            keep_trimmed: Text(Period(Duration::from_secs(3_600))),
            receive_buffer: Text(Size(16 << 20)),
            aliases: BTreeMap::new(),
            ecs: Ecs::default(),
            sources: vec![
                listener(SourceKind::Netflow, 2055),
                listener(SourceKind::Netflow, 4739),
                listener(SourceKind::Sflow, 6343),
            ],
        }
    }
}

impl Default for Ecs {
    fn default() -> Self {
        Self { exclude_shippers: true, excluded_processes: Vec::new(), flow_reports_are_deltas: false }
    }
}

impl Default for Aggregator {
    fn default() -> Self {
        Self {
            listen: loopback(7432),
            advertise: OrEmpty(None),
            detector: Endpoints::one(Endpoint::of(local(7433))),
            memory_limit: Text(Size(2 << 30)),
            max_skew: Text(Period(Duration::from_secs(60))),
        }
    }
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            listen: loopback(7433),
            advertise: OrEmpty(None),
            lease: Text(Period(Duration::from_secs(10))),
            aggregator_lease: Text(Period(Duration::from_secs(6))),
            store: "sqlite://spikewatch.db".into(),
            durable: true,
            allowed_lateness: Text(Period(Duration::from_secs(60))),
            max_wait: Text(Period(Duration::from_secs(300))),
            retire_after: Text(Period(Duration::from_secs(7 * 86_400))),
            memory_limit: Text(Size(4 << 30)),
            snapshot_buckets: 16,
            jobs: PathBuf::new(),
            rules: PathBuf::new(),
            exceptions: PathBuf::new(),
            keep: Keep::default(),
            calendars: Vec::new(),
        }
    }
}

impl Default for Keep {
    fn default() -> Self {
        let Retention { windows, records, alerts, executions, outbox, snapshots } = Retention::default();
        let [windows, records, alerts, executions, outbox, snapshots] =
            [windows, records, alerts, executions, outbox, snapshots].map(|time| Text(Period(time)));
        Self { windows, records, alerts, executions, outbox, snapshots }
    }
}

/// The site of traffic whose site nobody named.
#[must_use]
pub(crate) fn default_site() -> SiteName {
    const NAME: &str = "main";
    #[expect(clippy::expect_used, reason = "a constant that a test reads")]
    NAME.parse().expect("the default site is a site name")
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn loopback(port: u16) -> Text<Listen> {
    Text(Listen(local(port)))
}

/// The kernel's name for this machine, which in a container is the container's.
fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".into() } else { name.into() }
}

#[cfg(test)]
mod tests;
