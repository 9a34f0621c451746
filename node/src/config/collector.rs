//! `[collector]`: the edge, and where its traffic comes from.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use spikewatch_domain::{key::SiteName, network::Network, span::Span};

use super::{
    local, loopback,
    text::{Endpoint, Listen, Period, Size, Slot, Text},
};

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
    /// Memory for windows, flows, datagrams that wait, and slices: beyond, slices are cut early, flows forgotten, datagrams
    /// dropped, counted.
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

/// The site of traffic whose site nobody named.
#[must_use]
pub(crate) fn default_site() -> SiteName {
    const NAME: &str = "main";
    #[expect(clippy::expect_used, reason = "a constant that a test reads")]
    NAME.parse().expect("the default site is a site name")
}
