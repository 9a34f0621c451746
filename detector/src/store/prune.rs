//! Forgetting, in bounded steps.

use super::{
    Kept, StoreError,
    sql::{Work, sql},
};

/// Forgets at most `limit` rows of what lies before `before`. Returns how many went; less than `limit` is the end of it.
pub(super) async fn prune(work: &mut Work, kept: Kept, before: u64, limit: u32) -> Result<u64, StoreError> {
    let before = before.min(i64::MAX as u64);
    let mut gone = 0;
    for text in statements(kept) {
        let left = u64::from(limit).saturating_sub(gone);
        if left == 0 {
            break;
        }
        gone += work.execute(sql(text).bind(before).bind(left)).await?;
    }
    Ok(gone)
}

fn statements(kept: Kept) -> &'static [&'static str] {
    match kept {
        Kept::Windows => &[
            // The newest row stays, or SQLite would give its number to another.
            "DELETE FROM commit_log WHERE id IN (SELECT id FROM commit_log WHERE bucket < $1
             AND id < (SELECT MAX(id) FROM commit_log) ORDER BY bucket LIMIT $2)",
            "DELETE FROM missing WHERE (bucket, site, collector) IN
             (SELECT bucket, site, collector FROM missing WHERE bucket < $1 ORDER BY bucket LIMIT $2)",
            "DELETE FROM site_total WHERE (shard, bucket, site) IN
             (SELECT shard, bucket, site FROM site_total WHERE bucket < $1 ORDER BY bucket LIMIT $2)",
            // Ten days behind the frontier: owners count nothing that old, and the leader has forgotten it too.
            "DELETE FROM pair WHERE (shard, site, collector, incarnation) IN
             (SELECT p.shard, p.site, p.collector, p.incarnation FROM pair p JOIN shard s ON s.shard = p.shard
              WHERE p.bucket < $1 AND p.bucket < s.bucket - 864000000 ORDER BY p.bucket LIMIT $2)",
            "DELETE FROM member WHERE (site, collector, incarnation) IN
             (SELECT site, collector, incarnation FROM member WHERE retired = 1 AND last_bucket < $1
              ORDER BY last_bucket LIMIT $2)",
        ],
        Kept::Records => &["DELETE FROM anomaly_record WHERE finalised IN
             (SELECT finalised FROM anomaly_record WHERE bucket < $1 ORDER BY bucket LIMIT $2)"],
        // An alert that a sink still waits for is kept.
        Kept::Alerts => &["DELETE FROM alert WHERE number IN (SELECT number FROM alert WHERE created_ms < $1
             AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.alert_id = alert.id AND outbox.settled_ms IS NULL)
             ORDER BY created_ms LIMIT $2)"],
        Kept::Executions => &["DELETE FROM execution WHERE number IN
             (SELECT number FROM execution WHERE at_ms < $1 ORDER BY number LIMIT $2)"],
        Kept::Outbox => &["DELETE FROM outbox WHERE number IN
             (SELECT number FROM outbox WHERE settled_ms < $1 ORDER BY number LIMIT $2)"],
        // The newest usable snapshot stays, however old. A snapshot goes before its parts, so that none is half there.
        Kept::Snapshots => &[
            "DELETE FROM snapshot WHERE (bucket, jobs, version) IN
             (SELECT bucket, jobs, version FROM snapshot WHERE bucket < $1
              AND bucket < (SELECT COALESCE(MAX(bucket), 0) FROM snapshot WHERE parts IS NOT NULL)
              ORDER BY bucket LIMIT $2)",
            "DELETE FROM snapshot_part WHERE (bucket, jobs, version, part) IN
             (SELECT p.bucket, p.jobs, p.version, p.part FROM snapshot_part p WHERE p.bucket < $1 AND NOT EXISTS
              (SELECT 1 FROM snapshot s WHERE s.bucket = p.bucket AND s.jobs = p.jobs AND s.version = p.version)
              ORDER BY p.bucket LIMIT $2)",
        ],
    }
}
