//! What no single value can say: ranges, and values that must fit together.

use std::{collections::BTreeMap, time::Duration};

use spikewatch_collector::MemoryLimit;
use spikewatch_domain::shard::MAX_SHARDS;

use super::{Config, Format, Source, SourceKind};
use crate::roles::Role;

/// Which tables a command uses: only these are checked, so that one file may serve all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roles {
    /// `[collector]`
    pub(crate) collector: bool,
    /// `[aggregator]`
    pub(crate) aggregator: bool,
    /// `[detector]`
    pub(crate) detector: bool,
}

impl Roles {
    /// All of them.
    pub(crate) const ALL: Self = Self { collector: true, aggregator: true, detector: true };
    /// None: only what every command uses.
    pub(crate) const NONE: Self = Self { collector: false, aggregator: false, detector: false };

    /// These.
    #[must_use]
    pub(crate) fn of(roles: &[Role]) -> Self {
        let has = |role| roles.contains(&role);
        Self { collector: has(Role::Collector), aggregator: has(Role::Aggregator), detector: has(Role::Detector) }
    }
}

/// Faults as (key, problem).
#[must_use]
pub(crate) fn check(config: &Config, roles: Roles) -> Vec<(String, String)> {
    let mut faults = Faults::default();
    faults.node(config);
    if roles.collector {
        faults.collector(config);
    }
    if roles.detector {
        faults.detector(config);
    }
    faults.ports(config, roles);
    faults.0
}

#[derive(Default)]
struct Faults(Vec<(String, String)>);

impl Faults {
    fn unless(&mut self, holds: bool, key: &str, problem: impl Into<String>) {
        if !holds {
            self.0.push((key.to_owned(), problem.into()));
        }
    }

    fn node(&mut self, config: &Config) {
        let name = &config.node.name;
        let plain = (1..=253).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic() && c != '/');
        self.unless(
            plain,
            "node.name",
            format!("{name:?} must be 1 to 253 printable characters without blanks and '/'"),
        );
        let deadline = config.node.shutdown_deadline.0;
        let range = Duration::from_millis(100)..=Duration::from_secs(600);
        self.unless(range.contains(&deadline.0), "node.shutdown_deadline", format!("{deadline} must be 100ms to 10m"));
        let (bucket, shards) = (config.cluster.bucket.0, config.cluster.shards);
        self.unless(bucket.0.seconds() >= 10, "cluster.bucket", format!("{bucket} must be at least 10s"));
        let fits = (1..=MAX_SHARDS).contains(&shards);
        self.unless(fits, "cluster.shards", format!("{shards} must be 1 to {MAX_SHARDS}"));
    }

    fn collector(&mut self, config: &Config) {
        let collector = &config.collector;
        let (bucket, slice) = (config.cluster.bucket.0, collector.slice.0);
        let fits = bucket.0.is_multiple_of(slice.0);
        self.unless(
            fits,
            "collector.slice",
            format!("{slice} must divide cluster.bucket ({bucket}) without remainder"),
        );
        let limit = collector.key_limit;
        self.unless(limit >= 100, "collector.key_limit", format!("{limit} must be at least 100"));
        let (memory, least) = (collector.memory_limit.0.0, MemoryLimit::LEAST);
        self.unless(
            memory >= least,
            "collector.memory_limit",
            format!("{memory} must be at least {} MiB", least >> 20),
        );
        let values = [
            ("port_values", collector.port_values),
            ("country_values", collector.country_values),
            ("asn_values", collector.asn_values),
        ];
        for (key, values) in values {
            self.unless(values <= 4_096, &format!("collector.{key}"), format!("{values} must be 0 to 4096"));
        }
        let budget = collector.spool_budget.0;
        self.unless(budget.0 >= 256 << 20, "collector.spool_budget", format!("{budget} must be at least 256MiB"));
        let keep = collector.keep_trimmed.0;
        let week = Duration::from_secs(7 * 86_400);
        self.unless(keep.0 <= week, "collector.keep_trimmed", format!("{keep} must be at most 7d"));
        let buffer = collector.receive_buffer.0;
        let fits = (4 << 10..=1 << 30).contains(&buffer.0);
        self.unless(fits, "collector.receive_buffer", format!("{buffer} must be 4KiB to 1GiB"));
        let any = |empty: bool| !empty;
        self.unless(any(collector.aggregators.is_empty()), "collector.aggregators", "is empty; expected one or more");
        self.unless(any(collector.sources.is_empty()), "collector.sources", "is empty; expected one or more");
        let (mut once, mut live) = (false, false);
        for (index, source) in collector.sources.iter().enumerate() {
            let key = format!("collector.sources[{index}]");
            self.source(&key, source);
            let confirmed = source.follow || matches!(source.kind, SourceKind::Http | SourceKind::Grpc);
            let kept = !confirmed || !collector.spool.as_os_str().is_empty();
            let problem = "`follow`, kind = \"http\" and kind = \"grpc\" need `collector.spool`, which says after a \
                           restart what was counted";
            self.unless(kept, &key, problem);
            let reads = source.kind == SourceKind::Files && !source.follow;
            once |= reads;
            live |= !reads;
        }
        let problem = "files that are read once go with no other source; run another collector for the rest";
        self.unless(!(once && live), "collector.sources", problem);
        let mut named = BTreeMap::new();
        for (name, addresses) in &collector.aliases {
            let key = format!("collector.aliases.{name}");
            self.unless((1..=250).contains(&name.len()), &key, "must be 1 to 250 bytes long");
            for address in addresses {
                let other = named.insert(address.0, name);
                let twice = || format!("{} is also an address of {:?}", address.0, other.map_or("", String::as_str));
                self.unless(other.is_none(), &key, twice());
            }
        }
    }

    fn source(&mut self, key: &str, source: &Source) {
        match source.kind {
            SourceKind::Netflow | SourceKind::Sflow => {
                self.unless(source.listen.is_some(), key, "has no `listen`; expected a UDP address, like 0.0.0.0:2055");
                let stray = !source.paths.is_empty() || source.format.is_some() || source.follow;
                self.unless(!stray, key, "`paths`, `format` and `follow` are for kind = \"files\"");
            }
            SourceKind::Files => {
                self.unless(!source.paths.is_empty(), key, "has no `paths`; expected one or more files");
                let lines = matches!(source.format, None | Some(Format::Auto | Format::Ecs | Format::Zeek));
                self.unless(lines || !source.follow, key, "`follow` is for lines: expected format ecs, zeek or auto");
                self.unless(source.listen.is_none(), key, "`listen` is not for kind = \"files\"");
            }
            SourceKind::Http => {
                let expected = "has no `listen`; expected a TCP address, like 127.0.0.1:8081";
                self.unless(source.listen.is_some(), key, expected);
                let lines = matches!(source.format, None | Some(Format::Auto | Format::Ecs | Format::Zeek));
                self.unless(lines, key, "kind = \"http\" takes lines: expected format ecs, zeek or auto");
                let stray = !source.paths.is_empty() || source.follow;
                self.unless(!stray, key, "`paths` and `follow` are for kind = \"files\"");
            }
            SourceKind::Grpc => {
                let stray = source.listen.is_some() || source.format.is_some();
                self.unless(
                    !stray,
                    key,
                    "kind = \"grpc\" is served at `collector.listen`, and has no `listen` or `format`",
                );
                let stray = !source.paths.is_empty() || source.follow;
                self.unless(!stray, key, "`paths` and `follow` are for kind = \"files\"");
            }
        }
    }

    fn detector(&mut self, config: &Config) {
        let detector = &config.detector;
        let place =
            ["sqlite:", "postgres://", "postgresql://"].iter().find_map(|kind| detector.store.strip_prefix(kind));
        // It may hold a password, so it isn't repeated.
        let expected = "is no store: expected sqlite://relative.db, sqlite:///absolute/path.db, sqlite::memory: or \
                        postgres://user:password@host/database";
        self.unless(place.is_some_and(|place| !place.is_empty()), "detector.store", expected);
        let (lateness, wait) = (detector.allowed_lateness.0, detector.max_wait.0);
        let hour = Duration::from_secs(3_600);
        self.unless(lateness.0 <= hour, "detector.allowed_lateness", format!("{lateness} must be at most 1h"));
        self.unless(
            wait >= lateness,
            "detector.max_wait",
            format!("{wait} must be at least allowed_lateness ({lateness})"),
        );
        let leases =
            [("detector.lease", detector.lease.0, 1), ("detector.aggregator_lease", detector.aggregator_lease.0, 3)];
        for (key, lease, least) in leases {
            let range = Duration::from_secs(least)..=hour;
            self.unless(range.contains(&lease.0), key, format!("{lease} must be {least}s to 1h"));
        }
        let bound = detector.false_alerts_a_day;
        let fits = (0.0..=1e9).contains(&bound);
        self.unless(fits, "detector.false_alerts_a_day", format!("{bound} must be 0 (no bound) to 1000000000"));
        let keep = &detector.keep;
        let times = [
            ("windows", keep.windows),
            ("records", keep.records),
            ("alerts", keep.alerts),
            ("executions", keep.executions),
            ("outbox", keep.outbox),
            ("snapshots", keep.snapshots),
        ];
        let bucket = config.cluster.bucket.0;
        let least = Duration::from_millis(bucket.0.millis());
        for (kind, time) in times {
            let problem = format!("{} must be at least a bucket ({bucket})", time.0);
            self.unless(time.0.0 >= least, &format!("detector.keep.{kind}"), problem);
        }
    }

    /// No two things of one process can listen on one port.
    fn ports(&mut self, config: &Config, roles: Roles) {
        let mut tcp = Vec::new();
        if roles.collector {
            tcp.push(("collector.listen".to_owned(), config.collector.listen.0.0));
        }
        if roles.aggregator {
            tcp.push(("aggregator.listen".to_owned(), config.aggregator.listen.0.0));
        }
        if roles.detector {
            tcp.push(("detector.listen".to_owned(), config.detector.listen.0.0));
        }
        tcp.extend(config.telemetry.metrics_listen.0.map(|listen| ("telemetry.metrics_listen".to_owned(), listen.0)));
        let mut udp = Vec::new();
        for (index, source) in config.collector.sources.iter().enumerate().filter(|_| roles.collector) {
            let list = if source.kind == SourceKind::Http { &mut tcp } else { &mut udp };
            list.extend(source.listen.map(|listen| (format!("collector.sources[{index}].listen"), listen.0.0)));
        }
        for list in [tcp, udp] {
            for (index, (key, address)) in list.iter().enumerate() {
                let same = |(_, other): &&(String, std::net::SocketAddr)| other == address && address.port() != 0;
                if let Some((other, _)) = list.iter().take(index).find(same) {
                    self.unless(false, key, format!("{address} is {other} already"));
                }
            }
        }
    }
}
