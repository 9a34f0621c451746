//! The durable state: epochs, frontiers, roster, commit log, baselines, anomaly records, alerts, outbox, executions.
//!
//! ```text
//! Store ◀─ database ─┬─ read, write, snapshot, outbox, prune, lineage   statements that both databases accept
//!                    ├─ sql        values, transactions, rows over either driver
//!                    └─ sqlite, postgres   how to open, begin, lead there
//! ```
//!
//! A collector forgets what is committed here, so the store's durability is the data's. A store that went back, because it
//! was restored or failed over to a standby that was behind, begins a new *lineage*, under which all epochs given out before
//! are void. PostgreSQL tells by its system identifier and timeline, which every transaction compares; an SQLite file by the
//! mark beside it. What neither shows, a plain copy of a whole PostgreSQL data folder or of an SQLite file together with its
//! mark, shows at the shards' owners: collectors have trimmed more than the store's pairs cover.

mod database;
mod error;
mod filesystem;
pub mod inspect;
mod lease;
mod lineage;
mod mark;
mod migrations;
mod outbox;
mod postgres;
mod prune;
mod read;
mod rules;
mod snapshot;
mod sql;
mod sqlite;
mod state;
mod write;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use spikewatch_domain::record::EventMillis;
use spikewatch_proto::{
    convert::{
        cluster::{Incarnation, Shape},
        results::{Alert, AnomalyRecord},
    },
    v1,
};

pub use self::{
    error::StoreError,
    lease::{Claim, Leader, Term},
    postgres::{LOCK_TERM, without_password},
    state::*,
};

/// How to open a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// "sqlite::memory:", "sqlite:///path/of/file.db" or "postgres://user:password@host/database".
    pub url: String,
    /// Commits survive a loss of power. Without it SQLite's survive only the end of the process, and PostgreSQL's settings
    /// aren't looked at.
    pub durable: bool,
    /// Fixed when the store is made.
    pub shape: Shape,
    /// Random; becomes the lineage if a new one begins.
    pub lineage: [u8; 16],
}

/// Opens a store, or makes it. That alone changes nothing for whoever leads: see [`Store::claim`].
///
/// # Errors
/// Not an address of a database, in use, of a newer schema, of another shape, not durable, or not readable.
pub async fn open(options: &StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(database::Database::open(options).await?))
}

/// The answer of a store.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The durable state. Every call with a term is one transaction that first locks and compares it; if another leader took
/// over, nothing is written and [`StoreError::is_deposed`] holds. If [`StoreError::is_unknown`] holds, it may have been
/// written; after any other error it was not.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// The shape it was made for.
    fn shape(&self) -> Shape;

    /// Who leads, if anybody does.
    fn leader(&self) -> Answer<'_, Option<Leader>>;
    /// Takes the next term, unless another holder's lease has not run out. One that this holder has already is taken
    /// over at once: a process that was restarted doesn't wait for itself. Holders are told apart by their text alone,
    /// which is where the leader is reached, and isn't empty. After an error, ask again: a write in flight was waited for
    /// in vain, say.
    fn claim<'a>(&'a self, holder: &'a str, ttl: Duration) -> Answer<'a, Claim>;
    /// Extends the lease of a term, also one that ran out, as long as nobody took over and it wasn't released.
    fn renew(&self, term: Term, ttl: Duration) -> Answer<'_, ()>;
    /// Ends the lease, so that others needn't wait. Without effect if another took over.
    fn release(&self, term: Term) -> Answer<'_, ()>;

    /// All that commits depend on, as of one moment. A leader reads it after it has its term.
    fn load(&self) -> Answer<'_, Loaded>;
    /// Applies opens and commits, all or none, by compare-and-set.
    fn apply(&self, term: Term, writes: Vec<Write>) -> Answer<'_, ()>;
    /// Notes the number of the newest assignment.
    fn assigned(&self, term: Term, number: u64) -> Answer<'_, ()>;
    /// Writes entries of the roster.
    fn enrol(&self, term: Term, members: Vec<(Incarnation, Enrolled)>) -> Answer<'_, ()>;

    /// Where scoring and executions stopped.
    fn resume(&self) -> Answer<'_, Resume>;
    /// Buckets after `after` and up to `up_to` of which anything is known, ascending, at most `limit`.
    fn buckets(&self, after: Option<EventMillis>, up_to: EventMillis, limit: u32) -> Answer<'_, Vec<EventMillis>>;
    /// The commit log of one bucket in (shard, commit) order, and the sites that it misses a member of.
    fn log(&self, bucket: EventMillis) -> Answer<'_, (Vec<LogEntry>, Vec<String>)>;
    /// Late rows after a position of which every shard had committed buckets before `passed` only, in the order of the log.
    fn late(&self, after: u64, passed: EventMillis, limit: u32) -> Answer<'_, Vec<LateEntry>>;
    /// The commit log of one bucket before a position, of one shard or of all, in (shard, commit) order.
    fn earlier(&self, bucket: EventMillis, shard: Option<u32>, position: u64) -> Answer<'_, Vec<LogEntry>>;
    /// Writes what scoring a bucket gave. An alert replaces an older version of itself only.
    fn finish(&self, term: Term, finished: Finished) -> Answer<'_, ()>;
    /// Anomaly records of the range after number `after`, in order of finalisation.
    fn records(&self, range: Range, after: u64, min_score: f64, limit: u32) -> Answer<'_, Vec<AnomalyRecord>>;
    /// Anomaly records that were finalised at or after `since_ms`, in order.
    fn recent_records(&self, since_ms: EventMillis, min_score: f64) -> Answer<'_, Vec<AnomalyRecord>>;
    /// Alerts of the range after number `after`, with their numbers, in the order they were made.
    fn alerts(&self, range: Range, after: u64, limit: u32) -> Answer<'_, Vec<(u64, Alert)>>;
    /// Those of these alerts that there are.
    fn alerts_of(&self, ids: Vec<String>) -> Answer<'_, Vec<Alert>>;
    /// The newest executions of a rule, or of all, oldest first.
    fn executions(&self, rule: Option<String>, limit: u32) -> Answer<'_, Vec<v1::Execution>>;
    /// What rules knew after their last execution: rule and encoded `RuleProgress`.
    fn rule_progress(&self) -> Answer<'_, Vec<(String, Vec<u8>)>>;

    /// Writes one part of a snapshot, compressed by the caller; its bytes should stay below some tens of MiB.
    fn put_snapshot_part(&self, term: Term, id: SnapshotId, part: u32, blob: Vec<u8>) -> Answer<'_, ()>;
    /// Makes a snapshot usable whose parts 0 to `parts` − 1 are written.
    fn finish_snapshot(&self, term: Term, id: SnapshotId, parts: u32) -> Answer<'_, ()>;
    /// The usable snapshots with the number of their parts, newest first.
    fn snapshots(&self) -> Answer<'_, Vec<(SnapshotId, u32)>>;
    /// One part of a snapshot.
    fn snapshot_part(&self, id: SnapshotId, part: u32) -> Answer<'_, Vec<u8>>;

    /// Takes the oldest alerts that wait for a sink and are due, at most `limit`. Nobody else gets them before `until_ms`;
    /// after it whoever asks does, so a sink gets an alert at least once.
    fn take_parcels(&self, term: Term, sink: String, now_ms: u64, until_ms: u64, limit: u32)
    -> Answer<'_, Vec<Parcel>>;
    /// Notes what became of a parcel that was taken under this term.
    fn settle(&self, term: Term, number: u64, settled: Settled, now_ms: u64) -> Answer<'_, ()>;

    /// Forgets what lies before `before`, ms; at most `limit` rows a call. Returns how many went; fewer than `limit` is
    /// the end of it.
    fn prune(&self, term: Term, kept: Kept, before: EventMillis, limit: u32) -> Answer<'_, u64>;

    /// Ends what is under way and closes all connections. After it everything fails.
    fn close(&self) -> Answer<'_, ()>;
}
