//! Statements that read.

use std::collections::BTreeMap;

use prost::Message as _;
use spikewatch_domain::record::EventMillis;
use spikewatch_proto::{
    convert::{
        cluster::Shape,
        commit::Pair,
        results::{Alert, AnomalyRecord},
    },
    v1,
};
use sqlx::{Row as _, SqlitePool};

use super::{
    Counts, Enrolled, Loaded, LogEntry, LogKind, Range, Resume, ShardState, StoreError,
    rows::{column, damaged, incarnation, record, signed, unsigned},
};

type Read<T> = Result<T, StoreError>;

pub(super) async fn load(db: &SqlitePool, shape: Shape) -> Read<Loaded> {
    let mut shards = vec![ShardState::default(); shape.shards as usize];
    for row in sqlx::query("SELECT * FROM shard").fetch_all(db).await? {
        let number = column(&row, "shard")?;
        let shard = shards.get_mut(usize::try_from(number).unwrap_or(usize::MAX));
        let shard = shard.ok_or_else(|| damaged("a shard", format!("its number {number} is beyond the last")))?;
        *shard = ShardState {
            epoch: column(&row, "epoch")?,
            owner: row.try_get("owner")?,
            commit_no: column(&row, "commit_no")?,
            bucket: row.try_get::<Option<i64>, _>("bucket")?.map(unsigned),
            digest: row.try_get::<i64, _>("digest")?.cast_unsigned(),
            pairs: BTreeMap::new(),
        };
    }
    for row in sqlx::query("SELECT * FROM pair").fetch_all(db).await? {
        let number = usize::try_from(column(&row, "shard")?).unwrap_or(usize::MAX);
        let pair = Pair { bucket: column(&row, "bucket")?, seq: column(&row, "seq")? };
        if let Some(shard) = shards.get_mut(number) {
            shard.pairs.insert(incarnation(&row)?, pair);
        }
    }
    let mut members = BTreeMap::new();
    for row in sqlx::query("SELECT * FROM member").fetch_all(db).await? {
        let enrolled = Enrolled { last_bucket: column(&row, "last_bucket")?, retired: row.try_get("retired")? };
        members.insert(incarnation(&row)?, enrolled);
    }
    let lineage: Vec<u8> = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'lineage'").fetch_one(db).await?;
    let lineage = lineage.try_into().map_err(|_| damaged("the lineage", "it has not 16 bytes"))?;
    let mut counts = Counts { commits: shards.iter().map(|shard| shard.commit_no).sum(), ..Counts::default() };
    for row in sqlx::query("SELECT kind, SUM(windows) AS windows FROM commit_log GROUP BY kind").fetch_all(db).await? {
        let windows = column(&row, "windows")?;
        if column(&row, "kind")? == 0 { counts.windows = windows } else { counts.corrections = windows }
    }
    Ok(Loaded { lineage, shards, members, assignment: number(db, "assignment").await?.unwrap_or(0), counts })
}

async fn number(db: &SqlitePool, key: &'static str) -> Read<Option<u64>> {
    let value: Option<i64> =
        sqlx::query_scalar("SELECT value FROM meta WHERE key = ?").bind(key).fetch_optional(db).await?;
    Ok(value.map(unsigned))
}

pub(super) async fn resume(db: &SqlitePool) -> Read<Resume> {
    let finalised: i64 =
        sqlx::query_scalar("SELECT COALESCE(MAX(finalised), 0) FROM anomaly_record").fetch_one(db).await?;
    let execution: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(number), 0) FROM execution").fetch_one(db).await?;
    let alerts: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM alert").fetch_one(db).await?;
    Ok(Resume {
        scored: number(db, "scored").await?,
        finalised: unsigned(finalised),
        alerts: unsigned(alerts),
        execution: unsigned(execution),
    })
}

pub(super) async fn buckets(
    db: &SqlitePool,
    after: Option<EventMillis>,
    up_to: EventMillis,
    limit: u32,
) -> Read<Vec<EventMillis>> {
    let buckets: Vec<i64> = sqlx::query_scalar(
        "SELECT bucket FROM (SELECT DISTINCT bucket FROM commit_log WHERE bucket > ?1 AND bucket <= ?2
         UNION SELECT bucket FROM missing WHERE bucket > ?1 AND bucket <= ?2) ORDER BY bucket LIMIT ?3",
    )
    .bind(after.map_or(-1, signed))
    .bind(signed(up_to))
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(buckets.into_iter().map(unsigned).collect())
}

pub(super) async fn log(db: &SqlitePool, bucket: EventMillis) -> Read<(Vec<LogEntry>, Vec<String>)> {
    let rows = sqlx::query("SELECT kind, windows, blob FROM commit_log WHERE bucket = ? ORDER BY shard, commit_no, id")
        .bind(signed(bucket))
        .fetch_all(db)
        .await?;
    let entry = |row| {
        let kind = if column(row, "kind")? == 0 { LogKind::Windows } else { LogKind::Correction };
        Ok(LogEntry { bucket, kind, windows: column(row, "windows")?, blob: row.try_get("blob")? })
    };
    let entries = rows.iter().map(entry).collect::<Read<Vec<_>>>()?;
    let missing = sqlx::query_scalar("SELECT DISTINCT site FROM missing WHERE bucket = ? ORDER BY site")
        .bind(signed(bucket))
        .fetch_all(db)
        .await?;
    Ok((entries, missing))
}

pub(super) async fn records(
    db: &SqlitePool,
    range: Range,
    after: u64,
    min_score: f64,
    limit: u32,
) -> Read<Vec<AnomalyRecord>> {
    let rows = sqlx::query(
        "SELECT message FROM anomaly_record
         WHERE finalised > ? AND bucket >= ? AND bucket < ? AND score >= ? ORDER BY finalised LIMIT ?",
    )
    .bind(signed(after))
    .bind(signed(range.from))
    .bind(signed(range.to))
    .bind(min_score)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter().map(record).collect()
}

pub(super) async fn recent_records(db: &SqlitePool, since_ms: EventMillis, min_score: f64) -> Read<Vec<AnomalyRecord>> {
    let rows = sqlx::query(
        "SELECT message FROM anomaly_record WHERE finalised_ms >= ? AND score >= ? ORDER BY finalised LIMIT 100000",
    )
    .bind(signed(since_ms))
    .bind(min_score)
    .fetch_all(db)
    .await?;
    rows.iter().map(record).collect()
}

pub(super) async fn alerts(db: &SqlitePool, range: Range, after: u64, limit: u32) -> Read<Vec<(u64, Alert)>> {
    let rows = sqlx::query(
        "SELECT number, message FROM alert WHERE number > ? AND bucket >= ? AND bucket < ? ORDER BY number LIMIT ?",
    )
    .bind(signed(after))
    .bind(signed(range.from))
    .bind(signed(range.to))
    .bind(limit)
    .fetch_all(db)
    .await?;
    let alert = |row| {
        let message = v1::Alert::decode(sqlx::Row::try_get::<&[u8], _>(row, "message")?);
        let message = message.map_err(|error| damaged("an alert", error))?;
        let alert = message.try_into().map_err(|error| damaged("an alert", error))?;
        Ok((column(row, "number")?, alert))
    };
    rows.iter().map(alert).collect()
}
