//! What a store holds, for people: read without taking anything, also while a detector runs on it.

use serde::Serialize;
use spikewatch_proto::convert::cluster::Shape;

use super::{
    StoreError,
    database::{self, Engine},
    error::damaged,
    migrations,
    postgres::{Server, without_password},
    read,
    sql::{Row, Work, sql},
    sqlite::Embedded,
};

/// A store in numbers. Times are in ms since 1970.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// "SQLite" or "PostgreSQL".
    pub database: &'static str,
    /// Number of the newest step of its tables.
    pub schema: i64,
    /// Shards that it was made for.
    pub shard_count: u32,
    /// Length of a bucket, seconds.
    pub bucket_seconds: u32,
    /// All its lineages, the one that counts last.
    pub lineages: Vec<Lineage>,
    /// Number of the last leader.
    pub term: u64,
    /// Who that was; empty if it left in good order.
    pub holder: String,
    /// Number of the last assignment.
    pub assignment: u64,
    /// Start of the last bucket that was scored.
    pub scored: Option<u64>,
    /// Rows by kind.
    pub kept: Rows,
    /// The shards.
    pub shards: Vec<Shard>,
    /// The roster.
    pub members: Vec<Member>,
    /// The newest buckets, ascending.
    pub buckets: Vec<Bucket>,
    /// The newest alerts, ascending.
    pub alerts: Vec<AlertLine>,
}

/// A span of a store's life in which it did not go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lineage {
    /// Its id, hexadecimal.
    pub id: String,
    /// When it began; 0 if that was not noted.
    pub began_ms: u64,
    /// Why.
    pub reason: String,
}

/// How many rows there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// Of the commit log.
    pub log: u64,
    /// Bytes of the commit log, compressed.
    pub log_bytes: u64,
    /// Anomaly records.
    pub records: u64,
    /// Alerts.
    pub alerts: u64,
    /// Executions.
    pub executions: u64,
    /// Alerts that wait for a sink.
    pub outbox: u64,
    /// Usable baseline snapshots.
    pub snapshots: u64,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shard {
    /// Its number.
    pub shard: u64,
    /// Number of its epoch.
    pub epoch: u64,
    /// Who opened it last.
    pub owner: String,
    /// Commits so far.
    pub commits: u64,
    /// Start of the last committed bucket.
    pub bucket: Option<u64>,
    /// Windows so far.
    pub windows: u64,
    /// Corrections so far.
    pub corrections: u64,
    /// Incarnations that something is counted of.
    pub pairs: u64,
}

/// One incarnation in the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its site.
    pub site: String,
    /// Its name.
    pub collector: String,
    /// Hexadecimal.
    pub incarnation: String,
    /// Start of the last bucket that it vouched for.
    pub last_bucket: u64,
    /// No close waits for it.
    pub absent: bool,
    /// Replaced, or retired.
    pub retired: bool,
    /// When it was last heard of; 0 if that was never noted.
    pub last_heard_ms: u64,
}

/// One bucket of the commit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Its start.
    pub bucket: u64,
    /// Windows.
    pub windows: u64,
    /// Corrections.
    pub corrections: u64,
    /// Bytes in the log, compressed.
    pub bytes: u64,
    /// Collectors that it misses.
    pub missing: u64,
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AlertLine {
    /// In the order they were made.
    pub number: u64,
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// Start of its bucket.
    pub bucket: u64,
    /// The record score.
    pub score: f64,
    /// Name of its rule.
    pub rule: String,
    /// In one sentence.
    pub reason: String,
}

/// Reads a store, at most `limit` of its newest buckets and alerts.
///
/// # Errors
/// It can't be opened, or is of another version.
pub async fn inspect(url: &str, limit: u32) -> Result<Report, StoreError> {
    let (engine, database, known) = match url.split_once(':') {
        Some(("sqlite", _)) => (Engine::Sqlite(Embedded::connect(url).await?), "SQLite", migrations::sqlite()),
        Some(("postgres" | "postgresql", _)) => {
            (Engine::Postgres(Server::connect(url, [0; 16], true).await?), "PostgreSQL", migrations::postgres())
        }
        _ => return Err(StoreError::Address(url.to_owned())),
    };
    let mut work = engine.read().await?;
    let foreign = |why| StoreError::Foreign { address: without_password(url), why };
    let (known, found) = (migrations::newest(&known), schema(&mut work).await.map_err(foreign)?);
    match found.cmp(&known) {
        std::cmp::Ordering::Less => return Err(StoreError::Older { found, known }),
        std::cmp::Ordering::Greater => return Err(StoreError::Newer { found, known }),
        std::cmp::Ordering::Equal => {}
    }
    let Shape { shards, bucket } = database::stored_shape(&mut work).await?;
    let lease = work.row(sql("SELECT term, holder FROM lease WHERE id = 1")).await?;
    let lease = lease.ok_or_else(|| damaged("the lease", "its row is gone"))?;
    Ok(Report {
        database,
        schema: found,
        shard_count: shards,
        bucket_seconds: bucket.seconds(),
        lineages: each(&mut work, "SELECT * FROM lineage ORDER BY number", lineage).await?,
        term: lease.number("term")?,
        holder: lease.text("holder")?.to_owned(),
        assignment: read::counter(&mut work, "assignment").await?.unwrap_or(0),
        scored: read::counter(&mut work, "scored").await?,
        kept: rows(&mut work).await?,
        shards: each(&mut work, SHARDS, shard).await?,
        members: each(&mut work, "SELECT * FROM member ORDER BY site, collector, last_bucket", member).await?,
        buckets: newest(&mut work, BUCKETS, limit, bucket_line).await?,
        alerts: newest(&mut work, "SELECT number, message FROM alert ORDER BY number DESC LIMIT $1", limit, alert)
            .await?,
    })
}

const SHARDS: &str = "SELECT shard.*, (SELECT COUNT(*) FROM pair WHERE pair.shard = shard.shard) AS pairs
    FROM shard ORDER BY shard";

const BUCKETS: &str = "SELECT bucket, CAST(SUM(CASE WHEN kind = 0 THEN windows ELSE 0 END) AS BIGINT) AS windows,
    CAST(SUM(CASE WHEN kind > 0 THEN windows ELSE 0 END) AS BIGINT) AS corrections,
    CAST(SUM(LENGTH(blob)) AS BIGINT) AS bytes,
    (SELECT COUNT(*) FROM missing WHERE missing.bucket = commit_log.bucket) AS missing
    FROM commit_log GROUP BY bucket ORDER BY bucket DESC LIMIT $1";

/// Number of the newest step of the tables, or why there is none.
async fn schema(work: &mut Work) -> Result<i64, String> {
    let row = work.row(sql("SELECT COALESCE(MAX(version), 0) AS version FROM _sqlx_migrations")).await;
    let version = row.and_then(|row| row.map_or(Ok(0), |row| row.number("version")));
    version.map(|version| i64::try_from(version).unwrap_or(i64::MAX)).map_err(|error| error.to_string())
}

type Line<T> = fn(&Row) -> Result<T, StoreError>;

async fn each<T>(work: &mut Work, text: &'static str, line: Line<T>) -> Result<Vec<T>, StoreError> {
    work.rows(sql(text)).await?.iter().map(line).collect()
}

/// What a descending statement gives, ascending.
async fn newest<T>(work: &mut Work, text: &'static str, limit: u32, line: Line<T>) -> Result<Vec<T>, StoreError> {
    work.rows(sql(text).bind(limit)).await?.iter().rev().map(line).collect()
}

async fn rows(work: &mut Work) -> Result<Rows, StoreError> {
    let counts = "SELECT (SELECT COUNT(*) FROM commit_log) AS log,
        (SELECT CAST(COALESCE(SUM(LENGTH(blob)), 0) AS BIGINT) FROM commit_log) AS log_bytes,
        (SELECT COUNT(*) FROM anomaly_record) AS records, (SELECT COUNT(*) FROM alert) AS alerts,
        (SELECT COUNT(*) FROM execution) AS executions,
        (SELECT COUNT(*) FROM outbox WHERE settled_ms IS NULL) AS outbox,
        (SELECT COUNT(*) FROM snapshot WHERE parts IS NOT NULL) AS snapshots";
    let Some(row) = work.row(sql(counts)).await? else { return Ok(Rows::default()) };
    Ok(Rows {
        log: row.number("log")?,
        log_bytes: row.number("log_bytes")?,
        records: row.number("records")?,
        alerts: row.number("alerts")?,
        executions: row.number("executions")?,
        outbox: row.number("outbox")?,
        snapshots: row.number("snapshots")?,
    })
}

fn lineage(row: &Row) -> Result<Lineage, StoreError> {
    let (id, reason) = (hexadecimal(row.bytes("id")?), row.text("reason")?.to_owned());
    Ok(Lineage { id, began_ms: row.number("began_ms")?, reason })
}

fn shard(row: &Row) -> Result<Shard, StoreError> {
    Ok(Shard {
        shard: row.number("shard")?,
        epoch: row.number("epoch")?,
        owner: row.text("owner")?.to_owned(),
        commits: row.number("commit_no")?,
        bucket: row.maybe_number("bucket")?,
        windows: row.number("windows")?,
        corrections: row.number("corrections")?,
        pairs: row.number("pairs")?,
    })
}

fn member(row: &Row) -> Result<Member, StoreError> {
    Ok(Member {
        site: row.text("site")?.to_owned(),
        collector: row.text("collector")?.to_owned(),
        incarnation: hexadecimal(row.bytes("incarnation")?),
        last_bucket: row.number("last_bucket")?,
        absent: row.truth("absent")?,
        retired: row.truth("retired")?,
        last_heard_ms: row.number("last_heard_ms")?,
    })
}

fn bucket_line(row: &Row) -> Result<Bucket, StoreError> {
    Ok(Bucket {
        bucket: row.number("bucket")?,
        windows: row.number("windows")?,
        corrections: row.number("corrections")?,
        bytes: row.number("bytes")?,
        missing: row.number("missing")?,
    })
}

fn alert(row: &Row) -> Result<AlertLine, StoreError> {
    let alert = read::alert(row)?;
    Ok(AlertLine {
        number: row.number("number")?,
        id: alert.id,
        version: alert.version,
        bucket: alert.bucket_start,
        score: alert.record_score,
        rule: alert.rule_name,
        reason: alert.reason,
    })
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
