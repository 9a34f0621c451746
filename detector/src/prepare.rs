//! A commit from its message: checked, digested, and compressed for the log; and windows back from the log.

use prost::Message as _;
use rapidhash::v3::rapidhash_v3;
use spikewatch_domain::key::SiteName;
use spikewatch_proto::{
    convert::{Invalid, cluster::Shape, commit::CommitParts, windows},
    v1,
};

use crate::{
    commit::Prepared,
    scoring::Row,
    store::{LogEntry, LogKind, StoreError},
};

/// Fast: the log is written once and read once or twice.
const LEVEL: i32 = 1;
/// Most bytes that one row of the log may decode to.
const MOST_BYTES: usize = 1 << 30;
/// Times and numbers beyond this can't be stored.
const MOST: u64 = i64::MAX as u64;

/// Checks a commit and makes it ready to be written.
///
/// # Errors
/// A field doesn't hold what it should.
pub fn commit(mut message: v1::Commit, shape: &Shape) -> Result<Prepared, Invalid> {
    let parts = CommitParts::read(&message, shape)?;
    if parts.bucket > MOST || parts.commit_no > MOST || parts.pairs.iter().any(|(_, pair)| pair.seq > MOST) {
        return Err(Invalid::new("Commit", "a number in it is beyond 63 bits"));
    }
    let missing: Vec<(String, String)> = parts.missing.iter().map(|name| member(name)).collect::<Result<_, _>>()?;
    let mut buckets: Vec<u64> = parts.windows.iter().map(|part| part.bucket).collect();
    buckets.push(parts.bucket);
    buckets.dedup();
    let missing = buckets
        .iter()
        .flat_map(|bucket| missing.iter().map(|(site, collector)| (*bucket, site.clone(), collector.clone())))
        .collect();
    message.traceparent.clear();
    let rows = parts.windows.iter().chain(&parts.corrections).map(|part| part.rows);
    let windows = std::mem::take(&mut message.windows).into_iter().map(|part| (LogKind::Windows, part));
    let corrections = std::mem::take(&mut message.corrections).into_iter().map(|part| (LogKind::Correction, part));
    // The digest is that of all parts in turn, each of which is encoded for the log anyhow.
    let mut digest = rapidhash_v3(&message.encode_to_vec());
    let mut log = Vec::with_capacity(windows.len() + corrections.len());
    for ((kind, part), rows) in windows.chain(corrections).zip(rows) {
        let bucket = part.bucket_start_ms;
        let bytes = part.windows.as_ref().map(v1::Windows::encode_to_vec).unwrap_or_default();
        for next in [u64::from(kind.is_correction()), bucket, rapidhash_v3(&bytes)] {
            digest = rapidhash_v3([digest.to_le_bytes(), next.to_le_bytes()].as_flattened());
        }
        if rows > 0 {
            let blob = zstd::bulk::compress(&bytes, LEVEL)
                .map_err(|error| Invalid::new("Commit.windows", format!("can't be compressed: {error}")))?;
            log.push(LogEntry { bucket, kind, windows: rows as u64, blob });
        }
    }
    Ok(Prepared {
        shard: parts.shard,
        epoch: parts.epoch,
        commit_no: parts.commit_no,
        bucket: parts.bucket,
        first_windows: parts.windows.first().map(|part| part.bucket),
        digest,
        pairs: parts.pairs,
        log,
        missing,
    })
}

/// "site/collector".
fn member(name: &str) -> Result<(String, String), Invalid> {
    let parts = name.split_once('/').filter(|(site, _)| site.parse::<SiteName>().is_ok());
    let (site, collector) = parts
        .ok_or_else(|| Invalid::new("Commit.missing", format!("{name:?} is not of the form \"site/collector\"")))?;
    Ok((site.to_owned(), collector.to_owned()))
}

/// The windows of one row of the log.
///
/// # Errors
/// The log is damaged.
pub fn rows(entry: &LogEntry) -> Result<Vec<Row>, StoreError> {
    let damaged = |why: String| StoreError::Damaged { what: "the commit log", why };
    let bytes = zstd::bulk::decompress(&entry.blob, MOST_BYTES).map_err(|error| damaged(error.to_string()))?;
    let message = v1::Windows::decode(bytes.as_slice()).map_err(|error| damaged(error.to_string()))?;
    let rows = windows::read(&message).map_err(|error| damaged(error.to_string()))?;
    rows.into_iter()
        .map(|row| {
            let windows::Row { site, subject, window, incomplete } = row;
            let site = site.ok_or_else(|| damaged("a window names no site".into()))?;
            Ok(Row { site, subject, window, incomplete })
        })
        .collect()
}
