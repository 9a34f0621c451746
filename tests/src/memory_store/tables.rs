//! What is in the store, and what is done to it at one instant.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use spikewatch_detector::{
    execution::Execution,
    store::{
        Claim, CommitWrite, Counts, Enrolled, Finished, LateEntry, Leader, Loaded, LogEntry, LogKind, Parcel, Range,
        Resume, ShardState, SnapshotId, StoreError, Term, Write,
    },
};
use spikewatch_proto::{
    convert::{
        cluster::{Incarnation, Shape},
        results::{Alert, AnomalyRecord},
    },
    v1,
};

use super::outbox::Outbox;

/// A row of the log: its bucket, shard, commit and position.
type LogKey = (u64, u32, u64, u64);

#[derive(Debug)]
pub(super) struct Tables {
    lineage: [u8; 16],
    pub(super) shards: Vec<ShardState>,
    pub(super) members: BTreeMap<Incarnation, Enrolled>,
    pub(super) assignment: u64,
    counts: Counts,
    pub(super) log: BTreeMap<LogKey, LogEntry>,
    /// Position of the newest row.
    pub(super) last_row: u64,
    pub(super) missing: BTreeSet<(u64, String, String)>,
    term: u64,
    /// Who holds the lease, and until when.
    pub(super) lease: Option<(String, u64)>,
    resume: Resume,
    pub(super) records: BTreeMap<u64, AnomalyRecord>,
    /// What each execution did, as it is shown.
    pub(super) executions: BTreeMap<u64, v1::Execution>,
    /// What rules knew after their last execution.
    pub(super) progress: BTreeMap<String, Vec<u8>>,
    pub(super) alerts: BTreeMap<u64, Alert>,
    alert_numbers: BTreeMap<String, u64>,
    pub(super) outbox: Outbox,
    /// How many parts each has, once it is finished.
    pub(super) snapshots: BTreeMap<SnapshotId, Option<u32>>,
    pub(super) parts: BTreeMap<(SnapshotId, u32), Vec<u8>>,
}

impl Tables {
    pub(super) fn new(shape: Shape, lineage: [u8; 16]) -> Self {
        Self {
            lineage,
            shards: vec![ShardState::default(); shape.shards as usize],
            members: BTreeMap::new(),
            assignment: 0,
            counts: Counts::default(),
            log: BTreeMap::new(),
            last_row: 0,
            missing: BTreeSet::new(),
            term: 0,
            lease: None,
            resume: Resume::default(),
            records: BTreeMap::new(),
            executions: BTreeMap::new(),
            progress: BTreeMap::new(),
            alerts: BTreeMap::new(),
            alert_numbers: BTreeMap::new(),
            outbox: Outbox::default(),
            snapshots: BTreeMap::new(),
            parts: BTreeMap::new(),
        }
    }

    pub(super) fn check(&self, term: Term) -> Result<(), StoreError> {
        if term.number() == self.term { Ok(()) } else { Err(StoreError::Deposed(term.number())) }
    }

    pub(super) fn leader(&self, now_ms: u64) -> Option<Leader> {
        let (holder, until) = self.lease.as_ref().filter(|(_, until)| *until > now_ms)?;
        let remaining = Duration::from_millis(until - now_ms);
        Some(Leader { term: Term::of(self.term), holder: holder.clone(), remaining })
    }

    pub(super) fn claim(&mut self, holder: &str, ttl: Duration, now_ms: u64) -> Claim {
        if let Some(leader) = self.leader(now_ms).filter(|leader| leader.holder != holder) {
            return Claim::HeldBy(leader);
        }
        self.term += 1;
        self.lease = Some((holder.to_owned(), now_ms + ttl.as_millis() as u64));
        Claim::Taken(Term::of(self.term))
    }

    pub(super) fn renew(&mut self, ttl: Duration, now_ms: u64) -> Result<(), StoreError> {
        let term = self.term;
        let (_, until) = self.lease.as_mut().ok_or(StoreError::Deposed(term))?;
        *until = now_ms + ttl.as_millis() as u64;
        Ok(())
    }

    pub(super) fn load(&self) -> Loaded {
        Loaded {
            lineage: self.lineage,
            shards: self.shards.clone(),
            members: self.members.clone(),
            assignment: self.assignment,
            counts: self.counts,
        }
    }

    /// All or none.
    pub(super) fn apply(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let mut shards = self.shards.clone();
        for write in writes {
            let (number, follows) = match write {
                Write::Open(open) => (open.shard, open_shard(&mut shards, open.shard, open.epoch, &open.owner)),
                Write::Commit(commit) => {
                    storable(commit)?;
                    (commit.shard, move_on(&mut shards, commit))
                }
            };
            follows.ok_or(StoreError::Conflict(number))?;
        }
        self.shards = shards;
        for commit in
            writes.iter().filter_map(|write| if let Write::Commit(commit) = write { Some(commit) } else { None })
        {
            self.counts.commits += 1;
            self.members.extend(commit.members.iter().cloned());
            self.missing.extend(commit.missing.iter().cloned());
            for entry in &commit.log {
                if entry.kind.is_correction() {
                    self.counts.corrections += entry.windows;
                } else {
                    self.counts.windows += entry.windows;
                }
                self.last_row += 1;
                self.log.insert((entry.bucket, commit.shard, commit.commit_no, self.last_row), entry.clone());
            }
        }
        Ok(())
    }

    pub(super) fn resume(&self) -> Resume {
        Resume { alerts: self.alerts.len() as u64, ..self.resume.clone() }
    }

    pub(super) fn buckets(&self, after: Option<u64>, up_to: u64, limit: u32) -> Vec<u64> {
        let logged = self.log.keys().map(|(bucket, ..)| *bucket);
        let known: BTreeSet<u64> = logged.chain(self.missing.iter().map(|(bucket, ..)| *bucket)).collect();
        let from = after.map_or(0, |after| after.saturating_add(1));
        known.into_iter().filter(|bucket| (from..=up_to).contains(bucket)).take(limit as usize).collect()
    }

    pub(super) fn log_of(&self, bucket: u64) -> (Vec<LogEntry>, Vec<String>) {
        let entries = self.log.range((bucket, 0, 0, 0)..(bucket + 1, 0, 0, 0)).map(|(_, entry)| entry.clone());
        let missing = self.missing.iter().filter(|(of, ..)| *of == bucket).map(|(_, site, _)| site.clone());
        (entries.collect(), missing.collect::<BTreeSet<_>>().into_iter().collect())
    }

    pub(super) fn late(&self, after: u64, passed_before: u64, limit: u32) -> Vec<LateEntry> {
        let late = |((_, shard, _, position), entry): (&LogKey, &LogEntry)| {
            let is_due = matches!(entry.kind, LogKind::Late { passed } if passed < passed_before);
            (is_due && *position > after).then(|| LateEntry {
                position: *position,
                shard: *shard,
                entry: entry.clone(),
            })
        };
        let mut found: Vec<_> = self.log.iter().filter_map(late).collect();
        found.sort_by_key(|late| late.position);
        found.truncate(limit as usize);
        found
    }

    pub(super) fn earlier(&self, bucket: u64, shard: Option<u32>, before: u64) -> Vec<LogEntry> {
        let wanted = |((_, of, _, position), _): &(&LogKey, &LogEntry)| {
            shard.is_none_or(|shard| shard == *of) && *position < before
        };
        let bucket = self.log.range((bucket, 0, 0, 0)..(bucket + 1, 0, 0, 0));
        bucket.filter(wanted).map(|(_, entry)| entry.clone()).collect()
    }

    pub(super) fn finish(&mut self, finished: Finished) {
        let Finished { scored, late, records, early, executions, sinks, progress } = finished;
        self.resume.scored = scored.or(self.resume.scored);
        self.resume.late = late.unwrap_or(self.resume.late);
        for record in records {
            self.resume.finalised = record.finalised;
            self.records.insert(record.finalised, record);
        }
        early.into_iter().for_each(|alert| self.put_alert(alert, &sinks));
        for execution in executions {
            self.resume.execution = execution.number;
            self.executions.insert(execution.number, (&execution).into());
            let Execution { alerts, updates, .. } = execution;
            alerts.into_iter().chain(updates).for_each(|alert| self.put_alert(alert, &sinks));
        }
        self.progress.extend(progress);
    }

    pub(super) fn alert(&self, id: &str) -> Option<Alert> {
        self.alert_numbers.get(id).and_then(|number| self.alerts.get(number)).cloned()
    }

    pub(super) fn executions_of(&self, rule: Option<&str>, limit: u32) -> Vec<v1::Execution> {
        let wanted = |done: &&v1::Execution| rule.is_none_or(|rule| rule == done.rule_id);
        let newest = self.executions.values().rev().filter(wanted).take(limit as usize);
        let mut found: Vec<_> = newest.cloned().collect();
        found.reverse();
        found
    }

    fn put_alert(&mut self, alert: Alert, sinks: &[String]) {
        let next = self.alert_numbers.values().max().map_or(1, |last| last + 1);
        let number = *self.alert_numbers.entry(alert.id.clone()).or_insert(next);
        if self.alerts.get(&number).is_none_or(|old| old.version < alert.version) {
            self.outbox.put(sinks, &alert);
            self.alerts.insert(number, alert);
        }
    }

    pub(super) fn records(&self, range: Range, after: u64, min_score: f64, limit: u32) -> Vec<AnomalyRecord> {
        let wanted = |record: &&AnomalyRecord| {
            (range.from..range.to).contains(&record.bucket_start) && record.record_score >= min_score
        };
        let beyond = self.records.range(after + 1..).map(|(_, record)| record);
        beyond.filter(wanted).take(limit as usize).cloned().collect()
    }

    pub(super) fn recent_records(&self, since_ms: u64, min_score: f64) -> Vec<AnomalyRecord> {
        let wanted = |record: &&AnomalyRecord| record.finalised_ms >= since_ms && record.record_score >= min_score;
        self.records.values().filter(wanted).cloned().collect()
    }

    pub(super) fn alerts(&self, range: Range, after: u64, limit: u32) -> Vec<(u64, Alert)> {
        let wanted = |(_, alert): &(&u64, &Alert)| (range.from..range.to).contains(&alert.bucket_start);
        let beyond = self.alerts.range(after + 1..).filter(wanted).take(limit as usize);
        beyond.map(|(number, alert)| (*number, alert.clone())).collect()
    }

    pub(super) fn finish_snapshot(&mut self, id: SnapshotId, parts: u32) -> Result<(), StoreError> {
        self.parts.retain(|(of, part), _| *of != id || *part < parts);
        let there = self.parts.keys().filter(|(of, _)| *of == id).count();
        if there != parts as usize {
            let why = format!("it has {there} parts, expected {parts}");
            return Err(StoreError::Damaged { what: "a snapshot", why });
        }
        self.snapshots.insert(id, Some(parts));
        Ok(())
    }

    pub(super) fn usable_snapshots(&self) -> Vec<(SnapshotId, u32)> {
        let mut usable: Vec<_> =
            self.snapshots.iter().filter_map(|(id, parts)| parts.map(|parts| (id.clone(), parts))).collect();
        usable.sort_by_key(|(id, _)| std::cmp::Reverse((id.bucket, id.version)));
        usable
    }

    pub(super) fn take_parcels(
        &mut self,
        term: Term,
        sink: &str,
        now_ms: u64,
        until_ms: u64,
        limit: u32,
    ) -> Vec<Parcel> {
        let (alerts, numbers) = (&self.alerts, &self.alert_numbers);
        let alert = |id: &str| numbers.get(id).and_then(|number| alerts.get(number)).cloned();
        self.outbox.take(term, sink, now_ms, until_ms, limit, alert)
    }

    /// Forgets an alert.
    pub(super) fn drop_alert(&mut self, number: u64) {
        if let Some(alert) = self.alerts.remove(&number) {
            self.alert_numbers.remove(&alert.id);
        }
    }
}

fn open_shard(shards: &mut [ShardState], number: u32, epoch: u64, owner: &str) -> Option<()> {
    let shard = shards.get_mut(number as usize).filter(|shard| shard.epoch + 1 == epoch)?;
    (shard.epoch, shard.owner) = (epoch, owner.to_owned());
    Some(())
}

fn move_on(shards: &mut [ShardState], commit: &CommitWrite) -> Option<()> {
    let CommitWrite { epoch, commit_no, .. } = *commit;
    let follows = |shard: &&mut ShardState| shard.epoch == epoch && shard.commit_no + 1 == commit_no;
    let shard = shards.get_mut(commit.shard as usize).filter(follows)?;
    (shard.commit_no, shard.bucket, shard.digest) = (commit_no, Some(commit.bucket), commit.digest);
    shard.pairs.extend(commit.pairs.iter().cloned());
    Some(())
}

/// What the real stores can't hold is refused here too.
fn storable(commit: &CommitWrite) -> Result<(), StoreError> {
    let pairs = commit.pairs.iter().flat_map(|(_, pair)| [pair.bucket, pair.seq]);
    let too_large = [commit.commit_no, commit.bucket].into_iter().chain(pairs).find(|number| *number > i64::MAX as u64);
    match too_large {
        Some(number) => Err(StoreError::TooLarge { number, statement: "a commit".into() }),
        None => Ok(()),
    }
}
