//! The lineages of a store: whatever was issued under an older one (epochs, above all) is void.

use super::{
    StoreError,
    error::damaged,
    sql::{Work, sql},
};

/// The newest one.
pub(super) async fn current(work: &mut Work) -> Result<[u8; 16], StoreError> {
    let row = work.row(sql("SELECT id FROM lineage ORDER BY number DESC LIMIT 1")).await?;
    let row = row.ok_or_else(|| damaged("the lineage", "there is none"))?;
    row.bytes("id")?.try_into().map_err(|_| damaged("the lineage", "it has not 16 bytes"))
}

/// True if the store ever had it.
pub(super) async fn is_known(work: &mut Work, id: [u8; 16]) -> Result<bool, StoreError> {
    Ok(work.row(sql("SELECT number FROM lineage WHERE id = $1").bind(id.as_slice())).await?.is_some())
}

/// Begins another one.
pub(super) async fn begin(work: &mut Work, id: [u8; 16], now_ms: u64, reason: &str) -> Result<(), StoreError> {
    let insert = "INSERT INTO lineage (number, id, began_ms, reason)
                  SELECT COALESCE(MAX(number), 0) + 1, $1, $2, $3 FROM lineage";
    work.execute(sql(insert).bind(id.as_slice()).bind(now_ms).bind(reason)).await?;
    Ok(())
}
