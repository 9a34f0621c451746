//! Statements that read.

use std::collections::BTreeMap;

use prost::Message as _;
use spikewatch_domain::record::EventMillis;
use spikewatch_proto::{
    convert::{
        cluster::{Incarnation, Shape},
        commit::Pair,
        results::{Alert, AnomalyRecord},
    },
    v1,
};

use super::{
    Counts, Enrolled, LateEntry, Loaded, LogEntry, LogKind, Range, Resume, ShardState, StoreError,
    error::damaged,
    lineage,
    sql::{Row, Value, Work, sql},
};

type Read<T> = Result<T, StoreError>;

/// Most anomaly records that are taken up at once.
const MOST_RECENT: u32 = 100_000;

pub(super) async fn load(work: &mut Work, shape: Shape) -> Read<Loaded> {
    let mut shards = vec![ShardState::default(); shape.shards as usize];
    let mut counts = Counts::default();
    for row in work.rows(sql("SELECT * FROM shard")).await? {
        let number = row.number("shard")?;
        let shard = shards.get_mut(usize::try_from(number).unwrap_or(usize::MAX));
        let shard = shard.ok_or_else(|| damaged("a shard", format!("its number {number} is beyond the last")))?;
        *shard = ShardState {
            epoch: row.number("epoch")?,
            owner: row.text("owner")?.to_owned(),
            commit_no: row.number("commit_no")?,
            bucket: row.maybe_number("bucket")?,
            digest: row.bits("digest")?,
            pairs: BTreeMap::new(),
        };
        counts.commits += shard.commit_no;
        counts.windows += row.number("windows")?;
        counts.corrections += row.number("corrections")?;
    }
    for row in work.rows(sql("SELECT * FROM pair")).await? {
        let number = usize::try_from(row.number("shard")?).unwrap_or(usize::MAX);
        let pair = Pair { bucket: row.number("bucket")?, seq: row.number("seq")? };
        if let Some(shard) = shards.get_mut(number) {
            shard.pairs.insert(incarnation(&row)?, pair);
        }
    }
    let mut members = BTreeMap::new();
    for row in work.rows(sql("SELECT * FROM member")).await? {
        let enrolled = Enrolled {
            last_bucket: row.number("last_bucket")?,
            retired: row.truth("retired")?,
            absent: row.truth("absent")?,
            last_heard: row.number("last_heard_ms")?,
        };
        members.insert(incarnation(&row)?, enrolled);
    }
    let lineage = lineage::current(work).await?;
    Ok(Loaded { lineage, shards, members, assignment: counter(work, "assignment").await?.unwrap_or(0), counts })
}

fn incarnation(row: &Row) -> Read<Incarnation> {
    let (site, collector, id) = (row.text("site")?, row.text("collector")?, row.bytes("incarnation")?);
    Incarnation::read("incarnation", site, collector, id).map_err(|error| damaged("a collector's identity", error))
}

pub(super) async fn counter(work: &mut Work, name: &'static str) -> Read<Option<u64>> {
    let row = work.row(sql("SELECT value FROM counter WHERE name = $1").bind(name)).await?;
    row.map(|row| row.number("value")).transpose()
}

pub(super) async fn resume(work: &mut Work) -> Read<Resume> {
    let last = "SELECT (SELECT COALESCE(MAX(finalised), 0) FROM anomaly_record) AS finalised,
                (SELECT COUNT(*) FROM alert) AS alerts, (SELECT COALESCE(MAX(number), 0) FROM execution) AS execution";
    let scored = counter(work, "scored").await?;
    let Some(row) = work.row(sql(last)).await? else { return Ok(Resume { scored, ..Resume::default() }) };
    let late = counter(work, "late").await?.unwrap_or(0);
    // What was pruned leaves its number behind.
    let finalised = counter(work, "finalised").await?.unwrap_or(0).max(row.number("finalised")?);
    let execution = counter(work, "execution").await?.unwrap_or(0).max(row.number("execution")?);
    Ok(Resume { scored, finalised, alerts: row.number("alerts")?, execution, late })
}

pub(super) async fn buckets(
    work: &mut Work,
    after: Option<EventMillis>,
    up_to: EventMillis,
    limit: u32,
) -> Read<Vec<EventMillis>> {
    let statement = sql("SELECT bucket FROM (SELECT bucket FROM commit_log WHERE bucket >= $1 AND bucket <= $2
         UNION SELECT bucket FROM missing WHERE bucket >= $1 AND bucket <= $2) AS known ORDER BY bucket LIMIT $3")
    .bind(after.map_or(0, |after| after.saturating_add(1)))
    .bind(up_to.min(i64::MAX as u64))
    .bind(limit);
    work.rows(statement).await?.iter().map(|row| row.number("bucket")).collect()
}

pub(super) async fn log(work: &mut Work, bucket: EventMillis) -> Read<(Vec<LogEntry>, Vec<String>)> {
    let statement =
        sql("SELECT kind, passed, windows, blob FROM commit_log WHERE bucket = $1 ORDER BY shard, commit_no, id");
    let entries = work.rows(statement.bind(bucket)).await?;
    let entries = entries.iter().map(|row| entry(row, bucket)).collect::<Read<_>>()?;
    let missing =
        work.rows(sql("SELECT DISTINCT site FROM missing WHERE bucket = $1 ORDER BY site").bind(bucket)).await?;
    Ok((entries, missing.iter().map(|row| Ok(row.text("site")?.to_owned())).collect::<Read<_>>()?))
}

pub(super) async fn late(work: &mut Work, after: u64, passed: EventMillis, limit: u32) -> Read<Vec<LateEntry>> {
    let statement = sql("SELECT id, shard, bucket, kind, passed, windows, blob FROM commit_log
         WHERE kind = 2 AND id > $1 AND passed < $2 ORDER BY id LIMIT $3")
    .bind(after)
    .bind(passed.min(i64::MAX as u64))
    .bind(limit);
    let late = |row: &Row| {
        let shard = row.number("shard")?;
        let shard = u32::try_from(shard).map_err(|_| damaged("a shard", format!("its number {shard} is too large")))?;
        let entry = entry(row, row.number("bucket")?)?;
        Ok(LateEntry { position: row.number("id")?, shard, entry })
    };
    work.rows(statement).await?.iter().map(late).collect()
}

pub(super) async fn earlier(
    work: &mut Work,
    bucket: EventMillis,
    shard: Option<u32>,
    position: u64,
) -> Read<Vec<LogEntry>> {
    let (first, last) = shard.map_or((0, u32::MAX), |shard| (shard, shard));
    let statement = sql("SELECT kind, passed, windows, blob FROM commit_log
         WHERE bucket = $1 AND shard >= $2 AND shard <= $3 AND id < $4 ORDER BY shard, commit_no, id")
    .bind(bucket)
    .bind(first)
    .bind(last)
    .bind(position);
    work.rows(statement).await?.iter().map(|row| entry(row, bucket)).collect()
}

fn entry(row: &Row, bucket: EventMillis) -> Read<LogEntry> {
    let kind = match row.number("kind")? {
        0 => LogKind::Windows,
        1 => LogKind::Correction,
        2 => LogKind::Late { passed: row.number("passed")? },
        other => return Err(damaged("the commit log", format!("a row is of kind {other}"))),
    };
    Ok(LogEntry { bucket, kind, windows: row.number("windows")?, blob: row.bytes("blob")?.to_vec() })
}

pub(super) async fn records(
    work: &mut Work,
    range: Range,
    after: u64,
    min_score: f64,
    limit: u32,
) -> Read<Vec<AnomalyRecord>> {
    let statement = sql("SELECT message FROM anomaly_record
         WHERE finalised > $1 AND bucket >= $2 AND bucket < $3 AND score >= $4 ORDER BY finalised LIMIT $5")
    .bind(after)
    .bind(range.from)
    .bind(range.to)
    .bind(Value::Real(min_score))
    .bind(limit);
    work.rows(statement).await?.iter().map(record).collect()
}

pub(super) async fn recent_records(work: &mut Work, since_ms: EventMillis, min_score: f64) -> Read<Vec<AnomalyRecord>> {
    let statement = sql("SELECT message FROM anomaly_record WHERE finalised_ms >= $1 AND score >= $2
         ORDER BY finalised LIMIT $3")
    .bind(since_ms)
    .bind(Value::Real(min_score))
    .bind(MOST_RECENT);
    work.rows(statement).await?.iter().map(record).collect()
}

pub(super) async fn alerts(work: &mut Work, range: Range, after: u64, limit: u32) -> Read<Vec<(u64, Alert)>> {
    let statement = sql("SELECT number, message FROM alert
         WHERE number > $1 AND bucket >= $2 AND bucket < $3 ORDER BY number LIMIT $4")
    .bind(after)
    .bind(range.from)
    .bind(range.to)
    .bind(limit);
    work.rows(statement).await?.iter().map(|row| Ok((row.number("number")?, alert(row)?))).collect()
}

fn record(row: &Row) -> Read<AnomalyRecord> {
    let message = v1::AnomalyRecord::decode(row.bytes("message")?);
    let message = message.map_err(|error| damaged("an anomaly record", error))?;
    message.try_into().map_err(|error| damaged("an anomaly record", error))
}

pub(super) fn alert(row: &Row) -> Read<Alert> {
    let message = v1::Alert::decode(row.bytes("message")?).map_err(|error| damaged("an alert", error))?;
    message.try_into().map_err(|error| damaged("an alert", error))
}
