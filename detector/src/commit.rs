//! The commit core: who may open a shard, which commits are applied, repeated or refused. Pure: the actor around it
//! writes what it decides and reloads it when the store says otherwise.

use std::collections::BTreeMap;

use spikewatch_domain::{key::SiteName, record::EventMillis};
use spikewatch_proto::{
    convert::{
        cluster::{Epoch, Incarnation, Shape},
        commit::{Frontier, Member, Opened, Pair},
        ingest::MAX_INCARNATIONS,
    },
    v1::{self, refusal::Reason},
};

use crate::{
    cluster::Assignments,
    store::{CommitWrite, Enrolled, Loaded, LogEntry, LogKind, OpenWrite, ShardState},
};

/// A commit, checked and ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The shard.
    pub shard: u32,
    /// The epoch it is made under.
    pub epoch: Epoch,
    /// Its number.
    pub commit_no: u64,
    /// The last bucket sealed by it.
    pub bucket: EventMillis,
    /// Start of the first bucket that it has windows of.
    pub first_windows: Option<EventMillis>,
    /// Digest of its content: equal for identical repeats.
    pub digest: u64,
    /// The pairs that move.
    pub pairs: Vec<(Incarnation, Pair)>,
    /// What goes into the log.
    pub log: Vec<LogEntry>,
    /// Buckets with the site and collector that they miss.
    pub missing: Vec<(EventMillis, String, String)>,
}

/// Why something was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The reason as the protocol names it.
    pub reason: Reason,
    /// The same in words.
    pub detail: String,
}

impl Refused {
    fn because<T>(reason: Reason, detail: impl Into<String>) -> Result<T, Self> {
        Err(Self { reason, detail: detail.into() })
    }

    /// The message that says so.
    #[must_use]
    pub fn message(self, shard: u32, epoch: Option<Epoch>, commit_no: u64) -> v1::Refusal {
        v1::Refusal { shard, reason: self.reason.into(), detail: self.detail, epoch: epoch.map(Into::into), commit_no }
    }
}

/// What becomes of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It follows: to be written, then acknowledged.
    Apply(CommitWrite),
    /// It was applied before: acknowledged without effect.
    Repeat,
}

/// Waiting times that every owner gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// Event time that a close waits beyond the bucket's end, ms.
    pub allowed_lateness_ms: u64,
    /// Time that a close waits at most for a member, ms.
    pub max_wait_ms: u64,
    /// Age at which owners count nothing more, so that pairs which stand there are never asked for again, ms of event
    /// time behind the frontier. None for recorded traffic, which has no such limit.
    pub late_horizon_ms: Option<u64>,
}

impl Closing {
    /// True if a member that vouched for `last` only, of a shard at `frontier`, is no longer waited for. Both are event
    /// time: no clock is asked, and an outage of the centre makes nobody absent.
    fn is_absent(&self, last: EventMillis, frontier: Option<EventMillis>) -> bool {
        frontier.is_some_and(|frontier| frontier.saturating_sub(last) > self.max_wait_ms.saturating_mul(2))
    }
}

/// All shards and the roster, as the store has them or is about to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commits {
    lineage: [u8; 16],
    shape: Shape,
    closing: Closing,
    shards: Vec<ShardState>,
    members: BTreeMap<Incarnation, Enrolled>,
}

impl Commits {
    /// Goes on from what the store holds.
    #[must_use]
    pub fn new(loaded: Loaded, shape: Shape, closing: Closing) -> Self {
        Self { lineage: loaded.lineage, shape, closing, shards: loaded.shards, members: loaded.members }
    }

    /// The least frontier: every bucket up to it is committed by all shards.
    #[must_use]
    pub fn frontier(&self) -> Option<EventMillis> {
        self.shards.iter().map(|shard| shard.bucket).min().flatten()
    }

    /// Opens a shard for its assignee: a new epoch.
    ///
    /// # Errors
    /// Whoever asks is not the assignee, or by an older assignment.
    pub fn open(&mut self, open: &v1::OpenShard, assignments: &Assignments) -> Result<OpenWrite, Refused> {
        let Some(shard) = self.shards.get_mut(open.shard as usize) else {
            return Refused::because(Reason::Invalid, format!("shard {} is beyond the last", open.shard));
        };
        entitled(open, assignments)?;
        shard.epoch += 1;
        shard.owner.clone_from(&open.owner);
        Ok(OpenWrite { shard: open.shard, epoch: shard.epoch, owner: open.owner.clone(), assignment: open.assignment })
    }

    /// What an assignee is told that holds the shard already, under the newest epoch: it goes on under it.
    #[must_use]
    pub fn resumed(&self, open: &v1::OpenShard, assignments: &Assignments) -> Option<Opened> {
        let held = Epoch::read("OpenShard.held", open.held.as_ref()).ok()?;
        let shard = self.shards.get(open.shard as usize)?;
        entitled(open, assignments).ok()?;
        let newest = Epoch { lineage: self.lineage, number: shard.epoch };
        (held == newest && shard.owner == open.owner).then(|| self.opened(open.shard)).flatten()
    }

    /// What the new owner of a shard is told.
    #[must_use]
    pub fn opened(&self, shard: u32) -> Option<Opened> {
        let state = self.shards.get(shard as usize)?;
        let member = |(of, enrolled): (&Incarnation, &Enrolled)| {
            let last_bucket = enrolled.last_bucket;
            let absent = self.closing.is_absent(last_bucket, state.bucket);
            (!enrolled.retired).then(|| Member { of: of.clone(), last_bucket, absent })
        };
        Some(Opened {
            shard,
            epoch: Epoch { lineage: self.lineage, number: state.epoch },
            frontier: Frontier { bucket: state.bucket, commit_no: state.commit_no, pairs: state.pairs.clone() },
            members: self.members.iter().filter_map(member).collect(),
            shape: self.shape,
            allowed_lateness_ms: self.closing.allowed_lateness_ms,
            max_wait_ms: self.closing.max_wait_ms,
        })
    }

    /// Decides on a commit. Buckets must end by `horizon`, if there is one. What is applied counts from here on, so the
    /// next commit of the shard may follow before it is written.
    ///
    /// # Errors
    /// It is refused.
    pub fn commit(&mut self, commit: Prepared, horizon: Option<EventMillis>) -> Result<Decision, Refused> {
        let (lineage, passed) = (self.lineage, self.frontier());
        let Some(shard) = self.shards.get_mut(commit.shard as usize) else {
            return Refused::because(Reason::Invalid, format!("shard {} is beyond the last", commit.shard));
        };
        if commit.epoch.lineage != lineage || commit.epoch.number != shard.epoch {
            let newest = Epoch { lineage, number: shard.epoch };
            return Refused::because(Reason::StaleEpoch, format!("the epoch is {newest}, not {}", commit.epoch));
        }
        if commit.commit_no == shard.commit_no && commit.digest == shard.digest {
            return Ok(Decision::Repeat);
        }
        if commit.commit_no != shard.commit_no + 1 {
            let detail = format!("commit {} does not follow {}", commit.commit_no, shard.commit_no);
            return Refused::because(Reason::OutOfOrder, detail);
        }
        let end = self.shape.bucket.end(commit.bucket);
        if horizon.is_some_and(|horizon| end > horizon) {
            return Refused::because(Reason::FutureBucket, format!("its bucket ends at {end} ms, after this clock"));
        }
        check(shard, &commit)?;
        shard.commit_no = commit.commit_no;
        shard.bucket = Some(commit.bucket);
        shard.digest = commit.digest;
        for (of, pair) in &commit.pairs {
            shard.pairs.insert(of.clone(), *pair);
            forget_oldest(&mut shard.pairs, of);
        }
        // Whatever owners still take lies above such a pair anyway.
        if let Some(horizon) = self.closing.late_horizon_ms.and_then(|age| commit.bucket.checked_sub(age)) {
            shard.pairs.retain(|_, pair| pair.bucket >= horizon);
        }
        let members = self.enrol(&commit.pairs);
        // What is late depends on the commits alone: when a bucket is scored must not show in what comes out.
        let mut log = commit.log;
        for entry in log.iter_mut().filter(|entry| entry.kind == LogKind::Correction) {
            if let Some(passed) = passed.filter(|passed| entry.bucket <= *passed) {
                entry.kind = LogKind::Late { passed };
            }
        }
        Ok(Decision::Apply(CommitWrite {
            shard: commit.shard,
            epoch: commit.epoch.number,
            commit_no: commit.commit_no,
            bucket: commit.bucket,
            digest: commit.digest,
            pairs: commit.pairs,
            members,
            log,
            missing: commit.missing,
        }))
    }

    /// Takes a collector out of the roster: owners don't wait for it until it connects again. Returns what changed.
    pub fn retire(&mut self, site: &SiteName, collector: &SiteName) -> Vec<(Incarnation, Enrolled)> {
        let known = self
            .members
            .iter_mut()
            .filter(|(of, enrolled)| of.site == *site && of.collector == *collector && !enrolled.retired);
        known
            .map(|(of, enrolled)| {
                enrolled.retired = true;
                (of.clone(), *enrolled)
            })
            .collect()
    }

    /// The roster.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<Incarnation, Enrolled> {
        &self.members
    }

    /// Takes entries of the roster that were written.
    pub fn note(&mut self, changed: impl IntoIterator<Item = (Incarnation, Enrolled)>) {
        self.members.extend(changed);
    }

    /// Notes who vouched. An incarnation that was never seen replaces the others of its collector. Returns what changed.
    fn enrol(&mut self, pairs: &[(Incarnation, Pair)]) -> Vec<(Incarnation, Enrolled)> {
        let mut changed: BTreeMap<Incarnation, Enrolled> = BTreeMap::new();
        for (of, pair) in pairs {
            if !self.members.contains_key(of) {
                let older = self.members.iter_mut().filter(|(other, _)| other.is_same_collector(of));
                for (other, enrolled) in older.filter(|(_, enrolled)| !enrolled.retired) {
                    enrolled.retired = true;
                    changed.insert(other.clone(), *enrolled);
                }
                self.members.insert(of.clone(), Enrolled::default());
                changed.insert(of.clone(), Enrolled::default());
            }
            if let Some(enrolled) = self.members.get_mut(of).filter(|enrolled| enrolled.last_bucket < pair.bucket) {
                enrolled.last_bucket = pair.bucket;
                changed.insert(of.clone(), *enrolled);
            }
        }
        changed.into_iter().collect()
    }
}

/// A collector that begins anew again and again must not fill the frontier: of its incarnations the one that was counted
/// last the longest ago is forgotten.
fn forget_oldest(pairs: &mut BTreeMap<Incarnation, Pair>, newest: &Incarnation) {
    let same = |of: &Incarnation| of.is_same_collector(newest);
    while pairs.keys().filter(|of| same(of)).count() > MAX_INCARNATIONS {
        let others = pairs.iter().filter(|(of, _)| same(of) && *of != newest);
        let Some(oldest) = others.min_by_key(|(_, pair)| pair.bucket).map(|(of, _)| of.clone()) else { return };
        pairs.remove(&oldest);
    }
}

/// Only the assignee may open, by the assignment that made it so or a later one.
fn entitled(open: &v1::OpenShard, assignments: &Assignments) -> Result<(), Refused> {
    let detail = match assignments.of(open.shard) {
        Some((owner, since)) if owner == open.owner && open.assignment >= since => return Ok(()),
        Some((owner, since)) => format!("shard {} is {owner}'s since assignment {since}", open.shard),
        None => format!("shard {} is nobody's", open.shard),
    };
    Refused::because(Reason::NotAssigned, detail)
}

/// What a commit may do to a frontier: only move it on.
fn check(shard: &ShardState, commit: &Prepared) -> Result<(), Refused> {
    if shard.bucket.is_some_and(|bucket| commit.bucket < bucket) {
        return Refused::because(Reason::Invalid, "its bucket lies before the frontier");
    }
    if shard.bucket.is_some_and(|bucket| commit.first_windows.is_some_and(|first| first <= bucket)) {
        return Refused::because(Reason::Invalid, "it has windows of a bucket that is sealed");
    }
    for (of, pair) in &commit.pairs {
        let old = shard.pairs.get(of).copied().unwrap_or_default();
        if pair.bucket < old.bucket || pair.seq < old.seq || pair.bucket > commit.bucket {
            return Refused::because(
                Reason::Invalid,
                format!("the pair of {of} goes from ({}, {}) to ({}, {})", old.bucket, old.seq, pair.bucket, pair.seq),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
