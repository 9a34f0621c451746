//! What is stored, as plain values.

use std::collections::BTreeMap;

use spikewatch_domain::record::EventMillis;
use spikewatch_proto::convert::{
    cluster::Incarnation,
    commit::Pair,
    results::{Alert, AnomalyRecord},
};

use crate::execution::Execution;

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
    /// Another incarnation of the same collector came after it, or it was retired by command.
    pub retired: bool,
    /// It has been silent for so long that no close waits for it.
    pub absent: bool,
    /// When it was last heard of, ms since 1970; 0 if that was never noted.
    pub last_heard: u64,
}

/// All that commits depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Made with the store; another one after the store went back.
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

/// Totals over all commits.
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
    /// Position of the last late row that was scored.
    pub late: u64,
}

/// What a row of the commit log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    /// Windows of a bucket that the commit sealed.
    Windows,
    /// Deltas to a bucket that its shard had sealed before, and not every shard: they were scored with its windows.
    Correction,
    /// Deltas to a bucket that every shard had committed. It is scored without them, and they are scored by themselves.
    Late {
        /// The last bucket that every shard had committed when they came.
        passed: EventMillis,
    },
}

impl LogKind {
    /// Deltas of either kind.
    #[must_use]
    pub fn is_correction(self) -> bool {
        self != Self::Windows
    }
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

/// Late deltas, as they are taken up one row after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateEntry {
    /// Where in the log it lies: grows from commit to commit.
    pub position: u64,
    /// The shard.
    pub shard: u32,
    /// The row.
    pub entry: LogEntry,
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
    /// Position of the last late row that was scored, if any was.
    pub late: Option<u64>,
    /// What either gave, numbered.
    pub records: Vec<AnomalyRecord>,
    /// Alerts of buckets that are still open.
    pub early: Vec<Alert>,
    /// Executions with their alerts.
    pub executions: Vec<Execution>,
    /// What rules know after it: rule and encoded `RuleProgress`.
    pub progress: Vec<(String, Vec<u8>)>,
    /// The sinks that get every alert: one [`Parcel`] each.
    pub sinks: Vec<String>,
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

/// Which baselines a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotId {
    /// Start of the last bucket that they have learnt.
    pub bucket: EventMillis,
    /// Names the set of jobs; baselines of another set are of no use.
    pub jobs: String,
    /// Version of the encoding.
    pub version: u32,
}

/// An alert that waits for a sink.
#[derive(Debug, Clone, PartialEq)]
pub struct Parcel {
    /// Names it to [`settle`](super::Store::settle).
    pub number: u64,
    /// How often it has been tried, this time included.
    pub attempt: u64,
    /// The newest version of the alert. Its id and version make a repeat harmless to the receiver.
    pub alert: Alert,
}

/// What became of a [`Parcel`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The sink took it.
    Delivered,
    /// To be tried again at this time, ms since 1970.
    Retry(u64, String),
    /// The sink will never take it.
    Refused(String),
}

/// What is forgotten when it is old enough, each after a time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kept {
    /// The commit log, by the start of the bucket; and pairs and retired members that stand as far back.
    Windows,
    /// Anomaly records, by the start of the bucket.
    Records,
    /// Alerts, by the time they were made.
    Alerts,
    /// Executions, by their time.
    Executions,
    /// What sinks have taken or refused, by that time. What waits is kept.
    Outbox,
    /// Baseline snapshots, by their bucket. The newest usable one is kept.
    Snapshots,
}

impl Kept {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Windows, Self::Records, Self::Alerts, Self::Executions, Self::Outbox, Self::Snapshots];
}
