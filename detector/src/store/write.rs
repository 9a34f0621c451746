//! Statements that write, each within a transaction of the caller's.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use spikewatch_proto::{
    convert::{cluster::Incarnation, commit::Pair, results::AnomalyRecord},
    v1,
};

use super::{
    CommitWrite, Enrolled, Finished, LogEntry, LogKind, OpenWrite, StoreError, Write, rules,
    sql::{Value, Work, sql},
};

type Done = Result<(), StoreError>;

/// Applies opens and commits in their order. What they have in common is written together, so that a transaction has a
/// few statements per shard however many collectors there are.
pub(super) async fn apply(work: &mut Work, writes: &[Write]) -> Done {
    let mut pairs: BTreeMap<(u32, &Incarnation), Pair> = BTreeMap::new();
    let mut members: BTreeMap<&Incarnation, Enrolled> = BTreeMap::new();
    let mut missing = BTreeSet::new();
    let mut entries: Vec<(&CommitWrite, &LogEntry)> = Vec::new();
    for write in writes {
        match write {
            Write::Open(write) => open(work, write).await?,
            Write::Commit(write) => {
                move_on(work, write).await?;
                pairs.extend(write.pairs.iter().map(|(of, pair)| ((write.shard, of), *pair)));
                members.extend(write.members.iter().map(|(of, enrolled)| (of, *enrolled)));
                missing.extend(write.missing.iter().map(|(bucket, site, collector)| (*bucket, site, collector)));
                entries.extend(write.log.iter().map(|entry| (write, entry)));
            }
        }
    }
    let pairs: Vec<_> = pairs.iter().map(|((shard, of), pair)| row_of_pair(*shard, of, pair)).collect();
    work.insert(
        "INSERT INTO pair (shard, site, collector, incarnation, bucket, seq)",
        &pairs,
        "ON CONFLICT (shard, site, collector, incarnation) DO UPDATE SET bucket = excluded.bucket, seq = excluded.seq",
    )
    .await?;
    enrol(work, &members).await?;
    let entries: Vec<_> = entries.into_iter().map(|(commit, entry)| row_of_entry(commit, entry)).collect();
    work.insert("INSERT INTO commit_log (shard, commit_no, bucket, kind, passed, windows, blob)", &entries, "").await?;
    let missing: Vec<[Value<'_>; 3]> = missing
        .into_iter()
        .map(|(bucket, site, collector)| [bucket.into(), Value::Text(site), Value::Text(collector)])
        .collect();
    work.insert("INSERT INTO missing (bucket, site, collector)", &missing, "ON CONFLICT DO NOTHING").await
}

fn row_of_pair<'a>(shard: u32, of: &'a Incarnation, pair: &Pair) -> [Value<'a>; 6] {
    let [site, collector, id] = identity(of);
    [shard.into(), site, collector, id, pair.bucket.into(), pair.seq.into()]
}

fn row_of_entry<'a>(commit: &CommitWrite, entry: &'a LogEntry) -> [Value<'a>; 7] {
    let (kind, passed) = match entry.kind {
        LogKind::Windows => (0u32, None),
        LogKind::Correction => (1, None),
        LogKind::Late { passed } => (2, Some(passed)),
    };
    let (bucket, windows) = (entry.bucket.into(), entry.windows.into());
    let (shard, commit_no) = (commit.shard.into(), commit.commit_no.into());
    [shard, commit_no, bucket, kind.into(), Value::Maybe(passed), windows, Value::Bytes(&entry.blob)]
}

fn row_of_member<'a>(of: &'a Incarnation, enrolled: &Enrolled) -> [Value<'a>; 7] {
    let [site, collector, id] = identity(of);
    let Enrolled { last_bucket, retired, absent, last_heard } = *enrolled;
    [site, collector, id, last_bucket.into(), retired.into(), absent.into(), last_heard.into()]
}

fn row_of_record<'a>(record: &'a AnomalyRecord, message: &'a [u8]) -> [Value<'a>; 6] {
    let AnomalyRecord { finalised, finalised_ms, bucket_start, job, record_score, .. } = record;
    let (number, at, bucket) = ((*finalised).into(), (*finalised_ms).into(), (*bucket_start).into());
    [number, at, bucket, Value::Text(job), Value::Real(*record_score), Value::Bytes(message)]
}

fn identity(of: &Incarnation) -> [Value<'_>; 3] {
    [of.site.as_str().into(), of.collector.as_str().into(), of.id.as_slice().into()]
}

/// A new epoch. It must be the one that follows: whoever thought of it knew the newest one.
async fn open(work: &mut Work, open: &OpenWrite) -> Done {
    let OpenWrite { shard, epoch, owner, assignment } = open;
    let raised = sql("UPDATE shard SET epoch = epoch + 1, owner = $3, assignment = $4
         WHERE shard = $1 AND epoch = $2 - 1 RETURNING epoch")
    .bind(*shard)
    .bind(*epoch)
    .bind(owner.as_str())
    .bind(*assignment);
    if work.row(raised).await?.is_none() {
        return Err(StoreError::Conflict(*shard));
    }
    // Running totals of the owner before mean nothing any more.
    work.execute(sql("DELETE FROM site_total WHERE shard = $1 AND epoch < $2").bind(*shard).bind(*epoch)).await?;
    Ok(())
}

async fn move_on(work: &mut Work, commit: &CommitWrite) -> Done {
    let all = |correction| commit.log.iter().filter(move |entry| entry.kind.is_correction() == correction);
    let sum = |correction| all(correction).map(|entry| entry.windows).sum::<u64>();
    let moved = sql("UPDATE shard SET commit_no = $3, bucket = $4, digest = $5, windows = windows + $6,
         corrections = corrections + $7 WHERE shard = $1 AND epoch = $2 AND commit_no = $3 - 1")
    .bind(commit.shard)
    .bind(commit.epoch)
    .bind(commit.commit_no)
    .bind(commit.bucket)
    .bind(Value::Bits(commit.digest))
    .bind(sum(false))
    .bind(sum(true));
    if work.execute(moved).await? == 1 { Ok(()) } else { Err(StoreError::Conflict(commit.shard)) }
}

/// Writes roster entries.
pub(super) async fn enrol(work: &mut Work, members: &BTreeMap<&Incarnation, Enrolled>) -> Done {
    let members: Vec<_> = members.iter().map(|(of, enrolled)| row_of_member(of, enrolled)).collect();
    work.insert(
        "INSERT INTO member (site, collector, incarnation, last_bucket, retired, absent, last_heard_ms)",
        &members,
        "ON CONFLICT (site, collector, incarnation) DO UPDATE SET last_bucket = excluded.last_bucket,
         retired = excluded.retired, absent = excluded.absent, last_heard_ms = excluded.last_heard_ms",
    )
    .await
}

/// Sets a single number.
pub(super) async fn counter(work: &mut Work, name: &'static str, number: u64) -> Done {
    let set =
        "INSERT INTO counter (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    work.execute(sql(set).bind(name).bind(number)).await?;
    Ok(())
}

pub(super) async fn finish(work: &mut Work, finished: Finished) -> Done {
    if let Some(bucket) = finished.scored {
        counter(work, "scored", bucket).await?;
    }
    if let Some(position) = finished.late {
        counter(work, "late", position).await?;
    }
    if let Some(last) = finished.records.last() {
        counter(work, "finalised", last.finalised).await?;
    }
    let encoded = |record: &AnomalyRecord| v1::AnomalyRecord::from(record.clone()).encode_to_vec();
    let messages: Vec<Vec<u8>> = finished.records.iter().map(encoded).collect();
    let head = "INSERT INTO anomaly_record (finalised, finalised_ms, bucket, job, score, message)";
    let rows: Vec<_> =
        finished.records.iter().zip(&messages).map(|(record, message)| row_of_record(record, message)).collect();
    work.insert(head, &rows, "").await?;
    if let Some(last) = finished.executions.last() {
        counter(work, "execution", last.number).await?;
    }
    rules::alerts(work, finished.early, &finished.sinks).await?;
    for execution in finished.executions {
        rules::execution(work, execution, &finished.sinks).await?;
    }
    rules::put_progress(work, &finished.progress).await
}
