//! Between database rows and the state's types. SQLite's integers have 63 bits and a sign.

use spikewatch_proto::convert::{cluster::Incarnation, results::AnomalyRecord};
use spikewatch_proto::v1;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::StoreError;
use prost::Message as _;

/// A number as SQLite stores it.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number as it was stored.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn column(row: &SqliteRow, name: &str) -> Result<u64, StoreError> {
    Ok(unsigned(row.try_get::<i64, _>(name)?))
}

pub(super) fn incarnation(row: &SqliteRow) -> Result<Incarnation, StoreError> {
    let (site, collector): (&str, &str) = (row.try_get("site")?, row.try_get("collector")?);
    let id: &[u8] = row.try_get("incarnation")?;
    Incarnation::read("incarnation", site, collector, id).map_err(|error| damaged("a collector's identity", error))
}

pub(super) fn record(row: &SqliteRow) -> Result<AnomalyRecord, StoreError> {
    let message = v1::AnomalyRecord::decode(row.try_get::<&[u8], _>("message")?);
    let message = message.map_err(|error| damaged("an anomaly record", error))?;
    message.try_into().map_err(|error| damaged("an anomaly record", error))
}

pub(super) fn damaged(what: &'static str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged { what, why: why.to_string() }
}
