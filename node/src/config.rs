//! The configuration: one file for every role, each of which reads its own table.
//!
//! Where a value comes from, later over earlier: defaults, the TOML file, the environment
//! (`SPIKEWATCH__SECTION__KEY=value`), flags (`--set section.key=value`). Unknown keys are faults, and all faults are
//! reported at once ([`layers`]), before anything is started.

pub(crate) mod calendars;
pub(crate) mod check;
pub(crate) mod collector;
pub(crate) mod endpoints;
mod file;
pub(crate) mod jobs;
pub(crate) mod layers;
mod problems;
pub(crate) mod rules;
pub(crate) mod text;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use spikewatch_detector::{Retention, calendar};
use spikewatch_domain::{shard::DEFAULT_SHARDS, span::Span};

pub(crate) use self::collector::{Collector, Format, Source, SourceKind};
use self::{
    endpoints::Endpoints,
    text::{Endpoint, Listen, LogFilter, OrEmpty, Period, Size, Slot, Text},
};

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
    /// How many alerts a day clean traffic may give, over all series: many series need higher scores; 0: no bound.
    pub(crate) false_alerts_a_day: f64,
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
            false_alerts_a_day: 5.0,
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
