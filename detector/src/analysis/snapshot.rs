//! Snapshots of the baselines: what they were after a bucket, so that whoever begins later has only the log after it to
//! follow. One that can't be read costs time, not truth: an older one is taken, or the whole log.

use spikewatch_domain::record::EventMillis;

use super::baselines::{Baselines, Origin};
use crate::{
    scoring::{Scoring, state},
    store::{Kept, SnapshotId, Store, StoreError, Term},
};

/// Fast: it is written often and read seldom.
const LEVEL: i32 = 1;
/// Most bytes that one part may decode to.
const MOST_BYTES: usize = 256 << 20;
/// Usable snapshots that are kept.
const KEPT: usize = 2;
/// Rows of one call of pruning.
const PRUNED: u32 = 500;

/// Names the set of jobs, and what else the state depends on.
fn jobs(origin: &Origin) -> String {
    let all = format!("{:?} {}", origin.jobs, origin.span);
    format!("{:016x}", rapidhash::v3::rapidhash_v3(all.as_bytes()))
}

impl Baselines {
    /// Writes what they have learnt by now. Returns the bytes written.
    ///
    /// # Errors
    /// The store can't be written; what was written is of no use and goes with the next pruning.
    pub(crate) async fn keep(&self, store: &dyn Store, term: Term) -> Result<u64, StoreError> {
        let Some(bucket) = self.scored() else { return Ok(0) };
        let id = SnapshotId { bucket, jobs: jobs(self.origin()), version: state::VERSION };
        let (mut number, mut written) = (0, 0);
        for part in self.scoring().stored() {
            let damaged = |error: std::io::Error| StoreError::Damaged { what: "a snapshot", why: error.to_string() };
            let blob = zstd::bulk::compress(&part, LEVEL).map_err(damaged)?;
            drop(part);
            written += blob.len() as u64;
            store.put_snapshot_part(term, id.clone(), number, blob).await?;
            number += 1;
            tokio::task::yield_now().await;
        }
        store.finish_snapshot(term, id.clone(), number).await?;
        let all = store.snapshots().await?;
        let ours = all.iter().filter(|(other, _)| other.jobs == id.jobs && other.version == id.version);
        if let Some((oldest, _)) = ours.take(KEPT).last() {
            while store.prune(term, Kept::Snapshots, oldest.bucket, PRUNED).await? >= u64::from(PRUNED) {}
        }
        Ok(written)
    }

    /// Takes up the newest usable snapshot of a bucket up to `until`; without one, nothing is learnt yet.
    ///
    /// # Errors
    /// The store doesn't say which there are.
    pub(crate) async fn restore(origin: Origin, store: &dyn Store, until: EventMillis) -> Result<Self, StoreError> {
        let jobs = jobs(&origin);
        for (id, parts) in store.snapshots().await? {
            if id.bucket > until {
                continue;
            }
            if id.jobs != jobs || id.version != state::VERSION {
                tracing::warn!(
                    bucket = id.bucket,
                    version = id.version,
                    "a snapshot is of other jobs or another version"
                );
                continue;
            }
            match read(&origin, store, &id, parts).await {
                Ok(scoring) => {
                    tracing::info!(bucket = id.bucket, series = scoring.series(), "baselines begin at a snapshot");
                    return Ok(Self::at(origin, scoring, id.bucket));
                }
                Err(why) => tracing::warn!(bucket = id.bucket, why, "a snapshot can't be used"),
            }
        }
        Ok(Self::new(origin))
    }
}

async fn read(origin: &Origin, store: &dyn Store, id: &SnapshotId, parts: u32) -> Result<Scoring, String> {
    let mut scoring = origin.scoring();
    for number in 0..parts {
        let blob = store.snapshot_part(id.clone(), number).await.map_err(|error| error.to_string())?;
        let bytes = zstd::bulk::decompress(&blob, MOST_BYTES).map_err(|error| format!("part {number}: {error}"))?;
        scoring.restore(number as usize, &bytes).map_err(|error| format!("part {number}: {error}"))?;
        tokio::task::yield_now().await;
    }
    if scoring.is_whole() { Ok(scoring) } else { Err("keys are missing".into()) }
}
