//! Alerts on their way to sinks: written with the alert, sent at least once, in no transaction with the sink.

use super::{
    Parcel, Settled, StoreError,
    lease::Term,
    read,
    sql::{Value, Work, sql},
};

/// One parcel for each sink. What it replaces and no sink has taken yet isn't sent any more.
pub(super) async fn put(
    work: &mut Work,
    sinks: &[String],
    id: &str,
    version: u32,
    created_ms: u64,
) -> Result<(), StoreError> {
    if sinks.is_empty() {
        return Ok(());
    }
    let replaced = sql("DELETE FROM outbox WHERE alert_id = $1 AND version < $2 AND settled_ms IS NULL");
    work.execute(replaced.bind(id).bind(version)).await?;
    let head = "INSERT INTO outbox (sink, alert_id, version, created_ms)";
    let rows: Vec<[Value<'_>; 4]> =
        sinks.iter().map(|sink| [Value::Text(sink), id.into(), version.into(), created_ms.into()]).collect();
    work.insert(head, &rows, "ON CONFLICT DO NOTHING").await
}

/// Takes the oldest parcels of a sink that are due. Nobody else gets them before `until_ms`.
pub(super) async fn take(
    work: &mut Work,
    term: Term,
    sink: &str,
    now_ms: u64,
    until_ms: u64,
    limit: u32,
) -> Result<Vec<Parcel>, StoreError> {
    let due = sql("SELECT outbox.number AS number, outbox.attempts AS attempts, alert.message AS message
         FROM outbox JOIN alert ON alert.id = outbox.alert_id
         WHERE outbox.sink = $1 AND outbox.settled_ms IS NULL AND outbox.due_ms <= $2
         ORDER BY outbox.number LIMIT $3")
    .bind(sink)
    .bind(now_ms)
    .bind(limit);
    let mut parcels = Vec::new();
    for row in work.rows(due).await? {
        let parcel =
            Parcel { number: row.number("number")?, attempt: row.number("attempts")? + 1, alert: read::alert(&row)? };
        let claim = "UPDATE outbox SET attempts = $2, due_ms = $3, claimed_term = $4 WHERE number = $1";
        work.execute(sql(claim).bind(parcel.number).bind(parcel.attempt).bind(until_ms).bind(term.number())).await?;
        parcels.push(parcel);
    }
    Ok(parcels)
}

/// Notes what became of a parcel that this term took. One that was replaced meanwhile is gone, which is fine.
pub(super) async fn settle(
    work: &mut Work,
    term: Term,
    number: u64,
    settled: &Settled,
    now_ms: u64,
) -> Result<(), StoreError> {
    let (due, done, problem) = match settled {
        Settled::Delivered => (now_ms, Some(now_ms), None),
        Settled::Refused(problem) => (now_ms, Some(now_ms), Some(problem.as_str())),
        Settled::Retry(at, problem) => (*at, None, Some(problem.as_str())),
    };
    let update = "UPDATE outbox SET due_ms = $2, settled_ms = $3, problem = $4 WHERE number = $1 AND claimed_term = $5";
    let update = sql(update).bind(number).bind(due).bind(Value::Maybe(done)).bind(Value::MaybeText(problem));
    work.execute(update.bind(term.number())).await?;
    Ok(())
}
