//! Statements that write, each within a transaction of the caller's.

use prost::Message as _;
use spikewatch_domain::record::EventMillis;
use spikewatch_proto::v1;
use sqlx::SqliteConnection;

use super::{CommitWrite, Finished, LogKind, OpenWrite, StoreError, rows::signed};
use crate::execution::Execution;

type Done = Result<(), StoreError>;

pub(super) async fn open(db: &mut SqliteConnection, open: &OpenWrite) -> Done {
    let OpenWrite { shard, epoch, owner, assignment } = open;
    let written = sqlx::query(
        "INSERT INTO shard (shard, epoch, owner, assignment, commit_no, bucket, digest) VALUES (?1, ?2, ?3, ?4, 0, NULL, 0)
         ON CONFLICT (shard) DO UPDATE SET epoch = ?2, owner = ?3, assignment = ?4 WHERE epoch = ?2 - 1",
    )
    .bind(*shard)
    .bind(signed(*epoch))
    .bind(owner)
    .bind(signed(*assignment))
    .execute(db)
    .await?;
    if written.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict(*shard)) }
}

pub(super) async fn commit(db: &mut SqliteConnection, commit: &CommitWrite) -> Done {
    let moved = sqlx::query(
        "UPDATE shard SET commit_no = ?3, bucket = ?4, digest = ?5 WHERE shard = ?1 AND epoch = ?2 AND commit_no = ?3 - 1",
    )
    .bind(commit.shard)
    .bind(signed(commit.epoch))
    .bind(signed(commit.commit_no))
    .bind(signed(commit.bucket))
    .bind(commit.digest.cast_signed())
    .execute(&mut *db)
    .await?;
    if moved.rows_affected() != 1 {
        return Err(StoreError::Conflict(commit.shard));
    }
    for (of, pair) in &commit.pairs {
        sqlx::query(
            "INSERT INTO pair (shard, site, collector, incarnation, bucket, seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET bucket = ?5, seq = ?6",
        )
        .bind(commit.shard)
        .bind(of.site.as_str())
        .bind(of.collector.as_str())
        .bind(of.id.as_slice())
        .bind(signed(pair.bucket))
        .bind(signed(pair.seq))
        .execute(&mut *db)
        .await?;
    }
    for (of, enrolled) in &commit.members {
        sqlx::query(
            "INSERT INTO member (site, collector, incarnation, last_bucket, retired) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET last_bucket = ?4, retired = ?5",
        )
        .bind(of.site.as_str())
        .bind(of.collector.as_str())
        .bind(of.id.as_slice())
        .bind(signed(enrolled.last_bucket))
        .bind(enrolled.retired)
        .execute(&mut *db)
        .await?;
    }
    for entry in &commit.log {
        sqlx::query("INSERT INTO commit_log (shard, commit_no, bucket, kind, windows, blob) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(commit.shard)
            .bind(signed(commit.commit_no))
            .bind(signed(entry.bucket))
            .bind(match entry.kind {
                LogKind::Windows => 0,
                LogKind::Correction => 1,
            })
            .bind(signed(entry.windows))
            .bind(entry.blob.as_slice())
            .execute(&mut *db)
            .await?;
    }
    for (bucket, site, collector) in &commit.missing {
        sqlx::query("INSERT OR IGNORE INTO missing (bucket, site, collector) VALUES (?, ?, ?)")
            .bind(signed(*bucket))
            .bind(site)
            .bind(collector)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// Sets a number in `meta`.
pub(super) async fn meta(db: &mut SqliteConnection, key: &'static str, number: u64) -> Done {
    sqlx::query("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2")
        .bind(key)
        .bind(signed(number))
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn finish(db: &mut SqliteConnection, finished: Finished) -> Done {
    if let Some(bucket) = finished.scored {
        meta(db, "scored", bucket).await?;
    }
    for record in finished.records {
        let insert = sqlx::query(
            "INSERT INTO anomaly_record (finalised, finalised_ms, bucket, job, score, message) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(signed(record.finalised))
        .bind(signed(record.finalised_ms))
        .bind(signed(record.bucket_start))
        .bind(record.job.clone())
        .bind(record.record_score);
        insert.bind(v1::AnomalyRecord::from(record).encode_to_vec()).execute(&mut *db).await?;
    }
    for execution in finished.executions {
        write_execution(db, execution).await?;
    }
    Ok(())
}

async fn write_execution(db: &mut SqliteConnection, execution: Execution) -> Done {
    sqlx::query(
        "INSERT INTO execution (number, rule, at_ms, alerts, held_back, expired, young, warning)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(signed(execution.number))
    .bind(execution.rule_id)
    .bind(signed(execution.at))
    .bind(signed(execution.alerts.len() as u64))
    .bind(signed(execution.held_back as u64))
    .bind(signed(execution.expired as u64))
    .bind(signed(execution.young))
    .bind(execution.warning)
    .execute(&mut *db)
    .await?;
    for alert in execution.alerts {
        let insert = sqlx::query(
            "INSERT INTO alert (id, version, bucket, created_ms, message) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET version = ?2, message = ?5 WHERE version < ?2",
        )
        .bind(alert.id.clone())
        .bind(alert.version)
        .bind(signed(alert.bucket_start))
        .bind(signed(alert.created));
        insert.bind(v1::Alert::from(alert).encode_to_vec()).execute(&mut *db).await?;
    }
    Ok(())
}

pub(super) async fn prune(db: &mut SqliteConnection, before: EventMillis, limit: u32) -> Result<u64, StoreError> {
    let gone = sqlx::query(
        "DELETE FROM commit_log WHERE id IN (SELECT id FROM commit_log WHERE bucket < ? ORDER BY bucket LIMIT ?)",
    )
    .bind(signed(before))
    .bind(limit)
    .execute(&mut *db)
    .await?
    .rows_affected();
    if gone < u64::from(limit) {
        sqlx::query("DELETE FROM missing WHERE bucket < ?").bind(signed(before)).execute(db).await?;
    }
    Ok(gone)
}
