//! Baselines as they stood after a bucket, in parts of bounded size. A snapshot is usable once all its parts are there.

use super::{
    SnapshotId, StoreError,
    error::damaged,
    sql::{Statement, Work, sql},
};

fn named<'a>(text: &'static str, id: &'a SnapshotId) -> Statement<'a> {
    sql(text).bind(id.bucket).bind(id.jobs.as_str()).bind(id.version)
}

/// Writes a part; one that was there is replaced, and the snapshot is unfinished until it is finished again.
pub(super) async fn put(work: &mut Work, id: &SnapshotId, part: u32, blob: &[u8]) -> Result<(), StoreError> {
    let begin = "INSERT INTO snapshot (bucket, jobs, version, parts) VALUES ($1, $2, $3, NULL)
                 ON CONFLICT (bucket, jobs, version) DO UPDATE SET parts = NULL";
    work.execute(named(begin, id)).await?;
    let insert = "INSERT INTO snapshot_part (bucket, jobs, version, part, blob) VALUES ($1, $2, $3, $4, $5)
                  ON CONFLICT (bucket, jobs, version, part) DO UPDATE SET blob = excluded.blob";
    work.execute(named(insert, id).bind(part).bind(blob)).await?;
    Ok(())
}

/// Makes it usable. Parts that are left from an attempt before are dropped.
pub(super) async fn finish(work: &mut Work, id: &SnapshotId, parts: u32) -> Result<(), StoreError> {
    let stale = "DELETE FROM snapshot_part WHERE bucket = $1 AND jobs = $2 AND version = $3 AND part >= $4";
    work.execute(named(stale, id).bind(parts)).await?;
    let count = "SELECT COUNT(*) AS parts FROM snapshot_part WHERE bucket = $1 AND jobs = $2 AND version = $3";
    let there = work.row(named(count, id)).await?.map_or(Ok(0), |row| row.number("parts"))?;
    if there != u64::from(parts) {
        return Err(damaged("a snapshot", format!("it has {there} parts, expected {parts}")));
    }
    let finish = "UPDATE snapshot SET parts = $4 WHERE bucket = $1 AND jobs = $2 AND version = $3";
    work.execute(named(finish, id).bind(parts)).await?;
    Ok(())
}

/// The usable ones with the number of their parts, newest first.
pub(super) async fn list(work: &mut Work) -> Result<Vec<(SnapshotId, u32)>, StoreError> {
    let usable =
        "SELECT bucket, jobs, version, parts FROM snapshot WHERE parts IS NOT NULL ORDER BY bucket DESC, version DESC";
    let small = |number: u64| u32::try_from(number).map_err(|error| damaged("a snapshot", error));
    let mut found = Vec::new();
    for row in work.rows(sql(usable)).await? {
        let (bucket, jobs, version) =
            (row.number("bucket")?, row.text("jobs")?.to_owned(), small(row.number("version")?)?);
        found.push((SnapshotId { bucket, jobs, version }, small(row.number("parts")?)?));
    }
    Ok(found)
}

/// One part.
pub(super) async fn get(work: &mut Work, id: &SnapshotId, part: u32) -> Result<Vec<u8>, StoreError> {
    let select = "SELECT blob FROM snapshot_part WHERE bucket = $1 AND jobs = $2 AND version = $3 AND part = $4";
    let row = work.row(named(select, id).bind(part)).await?;
    Ok(row.ok_or_else(|| damaged("a snapshot", format!("its part {part} is missing")))?.bytes("blob")?.to_vec())
}
