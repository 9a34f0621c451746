//! Forgetting, in bounded steps.

use spikewatch_detector::store::{Kept, SnapshotId};

use super::tables::Tables;

/// How far behind its shard a pair has to stand to be forgotten, ms.
const PAIR_BEHIND_MS: u64 = 864_000_000;

impl Tables {
    /// Forgets at most `limit` rows of what lies before `before`; returns how many went.
    pub(super) fn prune(&mut self, kept: Kept, before: u64, limit: u32) -> u64 {
        let mut left = limit as usize;
        match kept {
            Kept::Windows => self.prune_windows(before, &mut left),
            Kept::Records => {
                let old = self.records.iter().filter(|(_, record)| record.bucket_start < before);
                for number in some(old.map(|(number, _)| *number), &mut left) {
                    self.records.remove(&number);
                }
            }
            Kept::Alerts => {
                let old = self.alerts.iter().filter(|(_, alert)| alert.created < before);
                let old = old.filter(|(_, alert)| !self.outbox.waits_for(&alert.id));
                for number in some(old.map(|(number, _)| *number), &mut left) {
                    self.drop_alert(number);
                }
            }
            Kept::Executions => {
                let old = self.executions.iter().filter(|(_, done)| done.at_ms < before);
                for number in some(old.map(|(number, _)| *number), &mut left) {
                    self.executions.remove(&number);
                }
            }
            Kept::Outbox => left -= self.outbox.prune(before, left),
            Kept::Snapshots => self.prune_snapshots(before, &mut left),
        }
        u64::from(limit) - left as u64
    }

    fn prune_windows(&mut self, before: u64, left: &mut usize) {
        // The newest row stays, as in the real ones.
        let old = |(bucket, _, _, position): &&(u64, u32, u64, u64)| *bucket < before && *position < self.last_row;
        for key in some(self.log.keys().filter(old).copied(), left) {
            self.log.remove(&key);
        }
        for row in some(self.missing.iter().filter(|(bucket, ..)| *bucket < before).cloned(), left) {
            self.missing.remove(&row);
        }
        for shard in &mut self.shards {
            let Some(frontier) = shard.bucket else { continue };
            let behind = |bucket: u64| bucket < before && bucket.saturating_add(PAIR_BEHIND_MS) < frontier;
            let old = shard.pairs.iter().filter(|(_, pair)| behind(pair.bucket)).map(|(of, _)| of.clone());
            for of in some(old, left) {
                shard.pairs.remove(&of);
            }
        }
        let gone = self.members.iter().filter(|(_, enrolled)| enrolled.retired && enrolled.last_bucket < before);
        for of in some(gone.map(|(of, _)| of.clone()), left) {
            self.members.remove(&of);
        }
    }

    fn prune_snapshots(&mut self, before: u64, left: &mut usize) {
        let newest = self.usable_snapshots().first().map_or(0, |(id, _)| id.bucket);
        let old = |id: &&SnapshotId| id.bucket < before && id.bucket < newest;
        for id in some(self.snapshots.keys().filter(old).cloned(), left) {
            self.snapshots.remove(&id);
        }
        let orphan = |(id, _): &&(SnapshotId, u32)| id.bucket < before && !self.snapshots.contains_key(id);
        for key in some(self.parts.keys().filter(orphan).cloned(), left) {
            self.parts.remove(&key);
        }
    }
}

/// As many as may still go.
fn some<T>(old: impl Iterator<Item = T>, left: &mut usize) -> Vec<T> {
    let taken: Vec<T> = old.take(*left).collect();
    *left -= taken.len();
    taken
}
