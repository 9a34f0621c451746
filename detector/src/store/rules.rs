//! What rules did and know: executions with their alerts, and what they keep between two of them.

use prost::Message as _;
use spikewatch_proto::{convert::results::Alert, v1};

use super::{
    StoreError,
    error::damaged,
    outbox, read,
    sql::{Row, Value, Work, sql},
};
use crate::execution::Execution;

/// Writes an execution and its alerts.
pub(super) async fn execution(work: &mut Work, execution: Execution, sinks: &[String]) -> Result<(), StoreError> {
    let (message, warning) = (v1::Execution::from(&execution).encode_to_vec(), execution.warning());
    let insert = sql("INSERT INTO execution (number, rule, at_ms, alerts, held_back, expired, young, warning, message)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)")
    .bind(execution.number)
    .bind(execution.rule_id.as_str())
    .bind(execution.at)
    .bind(execution.alerts.len() as u64)
    .bind(execution.held_back as u64)
    .bind(execution.expired as u64)
    .bind(execution.young)
    .bind(Value::MaybeText(warning.as_deref()))
    .bind(message.as_slice());
    work.execute(insert).await?;
    alerts(work, execution.alerts, sinks).await?;
    alerts(work, execution.updates, sinks).await
}

/// Writes alerts. Older ones are replaced by newer versions only.
pub(super) async fn alerts(work: &mut Work, alerts: Vec<Alert>, sinks: &[String]) -> Result<(), StoreError> {
    for alert in alerts {
        let (id, version, at) = (alert.id.clone(), alert.version, alert.updated);
        let (bucket, created) = (alert.bucket_start, alert.created);
        let message = v1::Alert::from(alert).encode_to_vec();
        let upsert = sql("INSERT INTO alert (id, version, bucket, created_ms, message) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO UPDATE SET version = excluded.version, message = excluded.message
             WHERE alert.version < excluded.version")
        .bind(id.as_str())
        .bind(version)
        .bind(bucket)
        .bind(created)
        .bind(message.as_slice());
        // An older version, or the same again, changes nothing and is sent nowhere.
        if work.execute(upsert).await? > 0 {
            outbox::put(work, sinks, &id, version, at).await?;
        }
    }
    Ok(())
}

/// Writes what rules know.
pub(super) async fn put_progress(work: &mut Work, progress: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
    let rows: Vec<[Value<'_>; 2]> =
        progress.iter().map(|(rule, message)| [rule.as_str().into(), message.as_slice().into()]).collect();
    let tail = "ON CONFLICT (rule) DO UPDATE SET message = excluded.message";
    work.insert("INSERT INTO rule_progress (rule, message)", &rows, tail).await
}

/// What rules know.
pub(super) async fn progress(work: &mut Work) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let rows = work.rows(sql("SELECT rule, message FROM rule_progress ORDER BY rule")).await?;
    rows.iter().map(|row| Ok((row.text("rule")?.to_owned(), row.bytes("message")?.to_vec()))).collect()
}

/// Those of these alerts that there are.
pub(super) async fn alerts_of(work: &mut Work, ids: &[String]) -> Result<Vec<Alert>, StoreError> {
    let mut alerts = Vec::new();
    for id in ids {
        let row = work.row(sql("SELECT message FROM alert WHERE id = $1").bind(id.as_str())).await?;
        alerts.extend(row.as_ref().map(read::alert).transpose()?);
    }
    Ok(alerts)
}

/// The newest executions, oldest first.
pub(super) async fn executions(
    work: &mut Work,
    rule: Option<&str>,
    limit: u32,
) -> Result<Vec<v1::Execution>, StoreError> {
    let statement = match rule {
        Some(rule) => {
            sql("SELECT * FROM execution WHERE rule = $1 ORDER BY number DESC LIMIT $2").bind(rule).bind(limit)
        }
        None => sql("SELECT * FROM execution ORDER BY number DESC LIMIT $1").bind(limit),
    };
    work.rows(statement).await?.iter().rev().map(shown).collect()
}

fn shown(row: &Row) -> Result<v1::Execution, StoreError> {
    if let Some(message) = row.maybe_bytes("message")? {
        return v1::Execution::decode(message).map_err(|error| damaged("an execution", error));
    }
    // One of an older version.
    Ok(v1::Execution {
        number: row.number("number")?,
        rule_id: row.text("rule")?.to_owned(),
        at_ms: row.number("at_ms")?,
        alerts: row.number("alerts")?,
        held_back: row.number("held_back")?,
        expired: row.number("expired")?,
        young: row.number("young")?,
        ..v1::Execution::default()
    })
}
