//! The durable state: epochs, frontiers, roster, commit log, anomaly records, alerts, executions.

mod read;
mod rows;
pub mod sqlite;
mod write;

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use spikewatch_domain::record::EventMillis;
use spikewatch_proto::convert::{
    cluster::{Incarnation, Shape},
    commit::Pair,
    results::{Alert, AnomalyRecord},
};

use crate::execution::Execution;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address is none that this program can open.
    #[error("store {0:?}: expected sqlite::memory: or sqlite:///path")]
    Address(String),
    /// The database refused or failed.
    #[error("store: {0}")]
    Database(#[from] sqlx::Error),
    /// The tables could not be made or brought up to date.
    #[error("store: {0}")]
    Migration(sqlx::migrate::MigrateError),
    /// Another process has it open.
    #[error("store {0} is in use by another process")]
    InUse(String),
    /// The lock beside the store's file can't be taken.
    #[error("store: cannot lock {path}: {source}")]
    Lock {
        /// The lock's file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Written by a newer program.
    #[error("the store's schema {found} is newer than the newest this program knows, {known}: run a newer program")]
    Newer {
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Made for another shape.
    #[error(
        "the store was made for {stored}, but {asked} is configured: both are fixed when a cluster is made; use another store"
    )]
    OtherShape {
        /// What it was made for.
        stored: String,
        /// What was asked for.
        asked: String,
    },
    /// Another leader took over.
    #[error("another detector has taken over (term {0} is no longer the newest)")]
    Deposed(i64),
    /// The compare-and-set of a shard failed: memory and store disagree.
    #[error("shard {0} is not where it was thought to be")]
    Conflict(u32),
    /// What is stored does not read back.
    #[error("store: {what} is damaged: {why}")]
    Damaged {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
}

/// One shard as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardState {
    /// Number of its epoch; 0 before the first open.
    pub epoch: u64,
    /// Who opened it last.
    pub owner: String,
    /// Number of the last commit; 0 before the first.
    pub commit_no: u64,
    /// Start of the last committed bucket.
    pub bucket: Option<EventMillis>,
    /// Digest of the last commit, to know an identical repeat.
    pub digest: u64,
    /// What is counted of each incarnation.
    pub pairs: BTreeMap<Incarnation, Pair>,
}

/// One incarnation in the roster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Enrolled {
    /// Start of the last bucket it vouched for.
    pub last_bucket: EventMillis,
    /// Another incarnation of the same collector came after it.
    pub retired: bool,
}

/// All that commits depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Made with the store.
    pub lineage: [u8; 16],
    /// The shards, by number.
    pub shards: Vec<ShardState>,
    /// The roster.
    pub members: BTreeMap<Incarnation, Enrolled>,
    /// Number of the last assignment.
    pub assignment: u64,
    /// Commits, windows and corrections so far.
    pub counts: Counts,
}

/// Totals over the commit log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commits.
    pub commits: u64,
    /// Windows.
    pub windows: u64,
    /// Corrections.
    pub corrections: u64,
}

/// Where scoring and executions stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// Start of the last bucket scored.
    pub scored: Option<EventMillis>,
    /// Number of the last anomaly record.
    pub finalised: u64,
    /// Alerts so far.
    pub alerts: u64,
    /// Number of the last execution.
    pub execution: u64,
}

/// What a row of the commit log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    /// Windows of a bucket that the commit sealed.
    Windows,
    /// Deltas to a bucket sealed before.
    Correction,
}

/// One row of the commit log: one bucket of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Start of the bucket.
    pub bucket: EventMillis,
    /// What it holds.
    pub kind: LogKind,
    /// How many windows.
    pub windows: u64,
    /// `v1.Windows`, encoded and compressed by zstd.
    pub blob: Vec<u8>,
}

/// An accepted open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenWrite {
    /// The shard.
    pub shard: u32,
    /// Its new epoch; the stored one is one less.
    pub epoch: u64,
    /// Who opened it.
    pub owner: String,
    /// The assignment that entitled to it.
    pub assignment: u64,
}

/// An accepted commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitWrite {
    /// The shard.
    pub shard: u32,
    /// The epoch it must have.
    pub epoch: u64,
    /// Number of the commit; the stored one must be one less.
    pub commit_no: u64,
    /// The new frontier.
    pub bucket: EventMillis,
    /// Digest of its content.
    pub digest: u64,
    /// The pairs that move.
    pub pairs: Vec<(Incarnation, Pair)>,
    /// Roster entries that change.
    pub members: Vec<(Incarnation, Enrolled)>,
    /// What goes into the log.
    pub log: Vec<LogEntry>,
    /// Buckets with the site and collector that they miss.
    pub missing: Vec<(EventMillis, String, String)>,
}

/// What one transaction may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A shard has a new owner.
    Open(OpenWrite),
    /// A shard moved on.
    Commit(CommitWrite),
}

/// A bucket was scored: what it gave, and the executions that followed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Finished {
    /// The bucket, if one was scored.
    pub scored: Option<EventMillis>,
    /// Its records, numbered.
    pub records: Vec<AnomalyRecord>,
    /// Executions with their alerts.
    pub executions: Vec<Execution>,
}

/// A range of buckets: those that start in `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First start.
    pub from: EventMillis,
    /// Beyond the last start.
    pub to: EventMillis,
}

impl Range {
    /// As queries carry it: 0 and 0 for all.
    #[must_use]
    pub fn of(from: EventMillis, to: EventMillis) -> Self {
        // Stored numbers have 63 bits.
        let most = i64::MAX as u64;
        Self { from: from.min(most), to: if to == 0 { most } else { to.min(most) } }
    }
}

/// The answer of a store.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The durable state. Every writing call is one transaction that first checks the leader's term.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// The shape it was made for.
    fn shape(&self) -> Shape;
    /// All that commits depend on.
    fn load(&self) -> Answer<'_, Loaded>;
    /// Applies opens and commits, all or none, by compare-and-set.
    fn apply(&self, writes: Vec<Write>) -> Answer<'_, ()>;
    /// Notes the number of the newest assignment.
    fn assigned(&self, number: u64) -> Answer<'_, ()>;
    /// Where scoring and executions stopped.
    fn resume(&self) -> Answer<'_, Resume>;
    /// Buckets after `after` and up to `up_to` of which anything is known, ascending, at most `limit`.
    fn buckets(&self, after: Option<EventMillis>, up_to: EventMillis, limit: u32) -> Answer<'_, Vec<EventMillis>>;
    /// The commit log of one bucket in (shard, commit) order, and the sites that it misses a member of.
    fn log(&self, bucket: EventMillis) -> Answer<'_, (Vec<LogEntry>, Vec<String>)>;
    /// Writes what scoring a bucket gave.
    fn finish(&self, finished: Finished) -> Answer<'_, ()>;
    /// Anomaly records of the range after number `after`, in order of finalisation.
    fn records(&self, range: Range, after: u64, min_score: f64, limit: u32) -> Answer<'_, Vec<AnomalyRecord>>;
    /// Anomaly records that were finalised at or after `since_ms`, in order.
    fn recent_records(&self, since_ms: EventMillis, min_score: f64) -> Answer<'_, Vec<AnomalyRecord>>;
    /// Alerts of the range after number `after`, with their numbers, in the order they were made.
    fn alerts(&self, range: Range, after: u64, limit: u32) -> Answer<'_, Vec<(u64, Alert)>>;
    /// Forgets the windows of buckets that start before `before`; at most `limit` rows a call. Returns how many went.
    fn prune(&self, before: EventMillis, limit: u32) -> Answer<'_, u64>;
}
