//! Executions: a rule takes the anomaly records finalised since its last execution and makes alerts of them.
//!
//! Records are taken in the order they were finalised, not by their bucket's time, so none falls between two executions.
//! Exceptions and duplicates go before the cap. What the cap cuts waits for the next execution, and an execution says so.
//! What a rule knows between two executions is written with the execution's alerts, so a restart neither misses a record
//! nor looks at one twice.
//!
//! A late record, of a correction, makes an alert as any other, or updates the one that its bucket has: a new version with
//! the new numbers, which takes none of the execution's alerts and never has a lower score. One that comes later than the
//! look-back makes no alert; the execution tells of them in one sentence.

mod early;
mod incident;
mod log;
mod pending;
mod progress;

use std::collections::BTreeSet;

use spikewatch_domain::record::EventMillis;
use spikewatch_proto::{
    convert::results::{Alert, AnomalyRecord},
    v1,
};

pub use self::log::Execution;
use self::pending::{Pending, Run, bare};
pub use self::progress::{Resumption, alerts_in};
use crate::{job::Job, rule::Rule};

/// Missed executions that are caught up with; what was missed before them is a gap.
const CATCH_UP: u64 = 4;

/// All rules and what they have yet to look at.
pub struct Executions {
    rules: Vec<Pending>,
    /// Ids of the jobs that there are.
    jobs: BTreeSet<String>,
    /// Number of the last execution that had something to look at. It grows by those only: how far one step of the clock
    /// goes must not show in it.
    number: u64,
    /// Executions that fell due.
    passed: u64,
    /// Number of the newest record that was offered.
    cursor: u64,
    /// All buckets up to here are known.
    scored: EventMillis,
    /// On the clock, not on the time of recorded traffic: how far scoring may lag behind it before rules say so, ms.
    live: Option<u64>,
    /// Rules whose progress was not written since it changed.
    unwritten: BTreeSet<String>,
}

/// A run of one rule over past buckets, on its way.
pub struct ManualRun {
    rule: usize,
    pending: Pending,
    range: (EventMillis, EventMillis),
}

impl Executions {
    /// No execution yet. `number` is that of the last one that a store remembers, 0 if none.
    #[must_use]
    pub fn new(rules: Vec<Rule>, jobs: &[Job], number: u64) -> Self {
        Self {
            rules: rules.into_iter().map(Pending::new).collect(),
            jobs: jobs.iter().map(|job| job.id.clone()).collect(),
            number,
            passed: 0,
            cursor: 0,
            scored: 0,
            live: None,
            unwritten: BTreeSet::new(),
        }
    }

    /// Executions follow the clock: missed ones are caught up with, and scoring that lags by more is said.
    pub fn follow_clock(&mut self, lag_ms: u64) {
        self.live = Some(lag_ms);
    }

    /// Executions that fell due so far, those with nothing to look at included.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// The longest look-back of all rules, ms.
    #[must_use]
    pub fn longest_look_back_ms(&self) -> u64 {
        self.rules.iter().map(|pending| pending.rule.look_back_ms()).max().unwrap_or(0)
    }

    /// The rule of an id.
    #[must_use]
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().map(|pending| &pending.rule).find(|rule| rule.id == id)
    }

    /// An alert that was made before a restart: its record makes no other.
    pub fn remember(&mut self, alert: &Alert) {
        for pending in self.rules.iter_mut().filter(|pending| pending.rule.id == alert.rule_id) {
            pending.made.insert(alert.id.clone(), (alert.bucket_start, Some(bare(alert))));
        }
    }

    /// Takes a finalised record. Records come in order of finalisation.
    pub fn offer(&mut self, record: &AnomalyRecord) {
        self.cursor = self.cursor.max(record.finalised);
        self.rules.iter_mut().for_each(|pending| pending.offer(record));
    }

    /// All buckets that end up to then are known, and what was found in them was offered.
    pub fn scored(&mut self, end: EventMillis) {
        self.scored = self.scored.max(end);
    }

    /// All executions up to then have run: on recorded traffic's time they are written together with the bucket.
    pub fn caught_up(&mut self, until: EventMillis) {
        for pending in &mut self.rules {
            pending.last = pending.last.map(|last| last.max(until));
        }
    }

    /// Runs what fell due up to `now`, in order of time, then of rules. Executions that had nothing to look at are
    /// only counted.
    pub fn advance(&mut self, now: EventMillis) -> Vec<Execution> {
        if self.live.is_some() {
            self.rules.iter_mut().for_each(|pending| note_gap(pending, now));
        }
        let mut done = Vec::new();
        while let Some((at, due)) = self.next_due(now) {
            self.number += 1;
            self.passed += 1;
            let (number, scored, standing) = (self.number, self.scored, self.standing(due, at));
            if let Some(pending) = self.rules.get_mut(due) {
                done.push(pending.execute(&Run { number, at, scored, manual: None, standing: &standing }));
                self.unwritten.insert(pending.rule.id.clone());
            }
        }
        for pending in self.rules.iter_mut().filter(|pending| pending.rule.enabled) {
            let passed = pending.skip(now);
            self.passed += passed;
            if passed > 0 && self.live.is_some() {
                self.unwritten.insert(pending.rule.id.clone());
            }
        }
        done
    }

    /// The next execution that has something to look at.
    fn next_due(&self, now: EventMillis) -> Option<(EventMillis, usize)> {
        let due = |(at, pending): (usize, &Pending)| {
            let due = pending.due();
            let may = pending.rule.enabled && pending.last.is_some() && due <= now;
            (may && pending.has_work(self.scored, &self.standing(at, due))).then_some((due, at))
        };
        self.rules.iter().enumerate().filter_map(due).min()
    }

    /// What keeps a rule from working as meant.
    fn standing(&self, rule: usize, at: EventMillis) -> Vec<String> {
        let Some(pending) = self.rules.get(rule) else { return Vec::new() };
        let missing = pending.rule.jobs.iter().filter(|job| !self.jobs.contains(*job));
        let mut standing: Vec<String> = missing.map(|job| format!("Job {job:?} does not exist.")).collect();
        let lags = |lag: &u64| self.scored > 0 && at > self.scored.saturating_add(*lag);
        if self.live.as_ref().is_some_and(lags) {
            standing.push("Nothing is scored any more: its jobs wait for windows of every shard.".to_owned());
        }
        standing
    }

    /// Begins a run of a rule, by id or name, over the buckets that start in `[from, to)`. Records follow in order of
    /// finalisation; those in `made` have an alert already. Nothing if there is no such rule.
    #[must_use]
    pub fn begin_manual(
        &self,
        rule: &str,
        range: (EventMillis, EventMillis),
        made: impl IntoIterator<Item = String>,
    ) -> Option<ManualRun> {
        let named = |pending: &Pending| pending.rule.id == rule || pending.rule.name == rule;
        let at = self.rules.iter().position(named)?;
        // Whoever asks for it wants it, also of a rule that is off.
        let mut pending = Pending::new(Rule { enabled: true, ..self.rules.get(at)?.rule.clone() });
        pending.made.extend(made.into_iter().map(|id| (id, (EventMillis::MAX, None))));
        Some(ManualRun { rule: at, pending, range })
    }

    /// Ends a manual run and makes its alerts.
    pub fn finish_manual(&mut self, run: ManualRun, at: EventMillis) -> Execution {
        let ManualRun { rule, mut pending, range } = run;
        self.number += 1;
        let standing = self.standing(rule, 0);
        let (number, scored) = (self.number, EventMillis::MAX);
        let done = pending.execute(&Run { number, at, scored, manual: Some(range), standing: &standing });
        if let Some(scheduled) = self.rules.get_mut(rule) {
            for alert in &done.alerts {
                scheduled.waiting.remove(&alert.id);
            }
            scheduled.made.extend(pending.made.into_iter().filter(|(_, (bucket, _))| *bucket != EventMillis::MAX));
            self.unwritten.insert(scheduled.rule.id.clone());
        }
        done
    }

    /// The rules as they stand.
    #[must_use]
    pub fn rules(&self, now: EventMillis) -> Vec<v1::Rule> {
        let state = |(at, pending): (usize, &Pending)| {
            let rule = &pending.rule;
            v1::Rule {
                id: rule.id.clone(),
                name: rule.name.clone(),
                version: rule.version,
                enabled: rule.enabled,
                severity: rule.severity.name().to_owned(),
                risk_score: rule.risk_score.into(),
                jobs: rule.jobs.clone(),
                threshold: rule.threshold,
                interval_ms: rule.interval_ms(),
                look_back_ms: rule.look_back_ms(),
                max_signals: u32::try_from(rule.max_signals).unwrap_or(u32::MAX),
                exceptions: u32::try_from(rule.exceptions.len()).unwrap_or(u32::MAX),
                last_ms: pending.last.map_or(0, |last| last / rule.interval_ms().max(1) * rule.interval_ms()),
                next_ms: if rule.enabled { pending.due() } else { 0 },
                waiting: pending.waiting.len() as u64,
                warnings: if rule.enabled { self.standing(at, now) } else { Vec::new() },
            }
        };
        self.rules.iter().enumerate().map(state).collect()
    }
}

impl ManualRun {
    /// Takes a record.
    pub fn offer(&mut self, record: &AnomalyRecord) {
        let (from, to) = self.range;
        if (from..to).contains(&record.bucket_start) {
            self.pending.offer(record);
        }
    }

    /// The least score of the records that it wants.
    #[must_use]
    pub fn threshold(&self) -> f64 {
        self.pending.rule.threshold
    }
}

/// Executions that were missed beyond those that are caught up with are a gap.
fn note_gap(pending: &mut Pending, now: EventMillis) {
    let interval = pending.rule.interval_ms().max(1);
    let (Some(last), newest) = (pending.last, now / interval) else { return };
    if pending.rule.enabled && newest - newest.min(last / interval) > CATCH_UP + 1 {
        let to = (newest - CATCH_UP) * interval;
        let from = last / interval * interval;
        pending.gap = Some((pending.gap.map_or(from, |(from, _)| from), to));
        pending.last = Some(to - interval);
    }
}

#[cfg(test)]
mod tests;
