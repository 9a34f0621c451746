//! Where stores of a test lie, and what is put into them.

use std::{sync::Arc, time::Duration};

use spikewatch_actors::clock::Clock;
use spikewatch_detector::{
    execution::Execution,
    store::{self, Claim, CommitWrite, LogEntry, LogKind, OpenWrite, Store, StoreOptions, Term, Write},
};
use spikewatch_domain::{span::Span, window::Measure};
use spikewatch_proto::convert::{
    cluster::{Incarnation, Shape},
    commit::Pair,
    results::{Alert, AnomalyRecord, Incident, Stage},
};
use spikewatch_tests::{memory_store::MemoryStore, postgres::PostgresServer};

pub(crate) const QUARTER: u64 = 900_000;
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// A database, or where to make one.
pub(crate) enum Place {
    Maps,
    Memory,
    Files(tempfile::TempDir, std::sync::atomic::AtomicU32),
    Postgres(Box<PostgresServer>),
}

impl Place {
    pub(crate) fn memory() -> Self {
        Self::Memory
    }

    pub(crate) fn files() -> Self {
        Self::Files(tempfile::tempdir().unwrap(), 0.into())
    }

    /// None if PostgreSQL isn't installed, which is said.
    pub(crate) fn postgres(settings: &[(&str, &str)]) -> Option<Self> {
        Some(Self::Postgres(Box::new(PostgresServer::start(settings)?)))
    }

    /// How to make a new, empty store.
    pub(crate) fn options(&self) -> StoreOptions {
        let url = match self {
            Self::Maps | Self::Memory => "sqlite::memory:".to_owned(),
            Self::Files(folder, number) => {
                let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                format!("sqlite://{}/store{number}.db", folder.path().display())
            }
            Self::Postgres(server) => server.new_database(),
        };
        let shape = Shape { shards: 4, bucket: Span::QUARTER_HOUR };
        StoreOptions { url, durable: false, shape, lineage: [9; 16] }
    }

    /// A new store.
    pub(crate) async fn store(&self) -> Arc<dyn Store> {
        let options = self.options();
        match self {
            Self::Maps => Arc::new(MemoryStore::new(options.shape, options.lineage, Clock::system())),
            _ => store::open(&options).await.unwrap(),
        }
    }

    /// A new store, and its first term.
    pub(crate) async fn led(&self) -> (Arc<dyn Store>, Term) {
        let store = self.store().await;
        let term = claim(&*store, "a").await;
        (store, term)
    }
}

pub(crate) async fn claim(store: &dyn Store, holder: &str) -> Term {
    match store.claim(holder, LEASE).await.unwrap() {
        Claim::Taken(term) => term,
        held @ Claim::HeldBy(_) => panic!("{held:?}"),
    }
}

pub(crate) fn incarnation(collector: &str, id: u8) -> Incarnation {
    Incarnation { site: "s".parse().unwrap(), collector: collector.parse().unwrap(), id: [id; 16] }
}

pub(crate) fn open(shard: u32, epoch: u64) -> Write {
    Write::Open(OpenWrite { shard, epoch, owner: "a1".into(), assignment: 1 })
}

pub(crate) fn commit(shard: u32, epoch: u64, commit_no: u64, bucket: u64) -> Write {
    Write::Commit(CommitWrite {
        shard,
        epoch,
        commit_no,
        bucket: bucket * QUARTER,
        digest: u64::MAX - commit_no,
        pairs: vec![(incarnation("c", 1), Pair { bucket: bucket * QUARTER, seq: commit_no })],
        members: Vec::new(),
        log: vec![entry(bucket, LogKind::Windows, &[1, 2, 3])],
        missing: Vec::new(),
    })
}

pub(crate) fn entry(bucket: u64, kind: LogKind, blob: &[u8]) -> LogEntry {
    LogEntry { bucket: bucket * QUARTER, kind, windows: 3, blob: blob.to_vec() }
}

pub(crate) fn record(finalised: u64, bucket: u64, score: f64) -> AnomalyRecord {
    AnomalyRecord {
        job: "j".into(),
        bucket_start: bucket * QUARTER,
        bucket_span: Span::QUARTER_HOUR,
        site: None,
        dimension: None,
        value: String::new(),
        function: "high_count".into(),
        measure: Measure::Events,
        actual: 9.0,
        typical: 1.0,
        lower: 0.0,
        upper: 2.0,
        record_score: score,
        initial_record_score: score,
        probability: 0.1,
        multi_bucket_impact: 0.0,
        finalised,
        finalised_ms: bucket * QUARTER + finalised,
        incomplete: false,
        late: false,
        early: false,
        buckets_seen: 100,
        contributors: Vec::new(),
        companions: Vec::new(),
        parts: Vec::new(),
        alert_from: 0.0,
    }
}

pub(crate) fn alert(id: u8, version: u32, reason: &str) -> Alert {
    Alert {
        id: format!("{id:064x}"),
        version,
        rule_id: "r".into(),
        rule_name: "R".into(),
        job: "j".into(),
        bucket_start: QUARTER,
        created: 1000 + u64::from(id),
        updated: 1000 + u64::from(id),
        site: None,
        value: String::new(),
        record_score: 80.0,
        reason: reason.into(),
        document: "{}".into(),
        record: 1,
        stage: Stage::Final,
        execution: 1,
        manual: false,
        finding: None,
        incident: Incident::default(),
        suppression: None,
        related: Vec::new(),
    }
}

pub(crate) fn execution(number: u64, alerts: Vec<Alert>) -> Execution {
    Execution { number, rule_id: "r".into(), at: number * 1000, alerts, ..Execution::default() }
}
