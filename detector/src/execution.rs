//! Executions: a rule takes the anomaly records finalised since its last execution and makes alerts of them.
//!
//! Records are taken in the order they were finalised, not by their bucket's time, so none falls between two executions.
//! Duplicates go before the cap. What the cap cuts waits for the next execution, and an execution says so.
//!
//! A late record, of a correction, makes an alert as any other, or updates the one that its bucket has: a new version with
//! the new numbers, which takes none of the execution's alerts and never has a lower score. One that comes later than the
//! look-back makes no alert; the execution tells of them in one sentence.

mod early;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use spikewatch_domain::record::EventMillis;
use spikewatch_proto::convert::results::{Alert, AnomalyRecord, Stage};

use crate::{
    alert::{self, Finding},
    rule::Rule,
};

/// Says which anomaly records a rule must not make alerts of.
pub trait Exceptions: Send + Sync {
    /// True if no alert is wanted.
    fn except(&self, rule: &Rule, record: &AnomalyRecord) -> bool;
}

/// No exceptions.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoExceptions;

impl Exceptions for NoExceptions {
    fn except(&self, _: &Rule, _: &AnomalyRecord) -> bool {
        false
    }
}

/// What one execution did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Execution {
    /// Grows by one with every execution, of any rule, that had something to look at.
    pub number: u64,
    /// The rule.
    pub rule_id: String,
    /// When it was due.
    pub at: EventMillis,
    /// Alerts made, by descending score, then in order of finalisation; then those updated, of higher versions.
    pub alerts: Vec<Alert>,
    /// Records that wait for the next execution because this one reached its limit.
    pub held_back: usize,
    /// Records that waited longer than the look-back and are given up.
    pub expired: usize,
    /// Records over the threshold whose series is too young, since the last execution.
    pub young: u64,
    /// What a person should know.
    pub warning: Option<String>,
}

impl Execution {
    /// Alerts made, without those that were only updated.
    #[must_use]
    pub fn made(&self) -> usize {
        self.alerts.iter().filter(|alert| alert.version == 1).count()
    }
}

/// All rules and what they have yet to look at.
pub struct Executions {
    exceptions: Box<dyn Exceptions>,
    rules: Vec<Pending>,
    /// Number of the last execution that had something to look at. It grows by those only: how far one step of the clock
    /// goes must not show in it.
    number: u64,
    /// Executions that fell due.
    passed: u64,
}

/// One rule's records.
struct Pending {
    rule: Rule,
    /// Up to when its executions have run; none before the first look at the clock.
    last: Option<EventMillis>,
    waiting: Vec<Waiting>,
    /// By id: the alerts made lately.
    made: BTreeMap<String, Made>,
    /// By id: what updates an alert that was made. At most one each.
    updates: BTreeMap<String, Waiting>,
    /// By id: the alerts of buckets that are still open.
    early: BTreeMap<String, Alert>,
    /// How many were made since the last execution, whose number they have.
    early_made: usize,
    /// Alerts that were early and are not confirmed, to be written by the next execution.
    unconfirmed: Vec<Alert>,
    /// Late records that came after the look-back, and the worst of them.
    belated: u64,
    worst: Option<AnomalyRecord>,
    runs: BTreeMap<Series, Run>,
    newest: EventMillis,
    young: u64,
}

struct Waiting {
    id: String,
    record: AnomalyRecord,
    since: EventMillis,
    /// When an execution first saw it.
    seen: Option<EventMillis>,
    stage: Stage,
}

/// An alert that was made.
#[derive(Debug, Clone, Copy)]
struct Made {
    bucket: EventMillis,
    version: u32,
    /// Number of the record that it tells of.
    record: u64,
    score: f64,
}

/// Job, site and split value.
type Series = (String, String, String);

/// Consecutive buckets over the threshold.
struct Run {
    since: EventMillis,
    last: EventMillis,
}

fn series(record: &AnomalyRecord) -> Series {
    (record.job.clone(), record.site.as_ref().map(ToString::to_string).unwrap_or_default(), record.value.clone())
}

impl Executions {
    /// No execution yet. `number` is that of the last one that a store remembers, 0 if none.
    #[must_use]
    pub fn new(rules: Vec<Rule>, exceptions: Box<dyn Exceptions>, number: u64) -> Self {
        let pending = |rule| Pending {
            rule,
            last: None,
            waiting: Vec::new(),
            made: BTreeMap::new(),
            updates: BTreeMap::new(),
            early: BTreeMap::new(),
            early_made: 0,
            unconfirmed: Vec::new(),
            belated: 0,
            worst: None,
            runs: BTreeMap::new(),
            newest: 0,
            young: 0,
        };
        Self { exceptions, rules: rules.into_iter().map(pending).collect(), number, passed: 0 }
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

    /// An alert that was made before a restart: its record makes no other.
    pub fn remember(&mut self, alert: &Alert) {
        for pending in self.rules.iter_mut().filter(|pending| pending.rule.id == alert.rule_id) {
            pending.made.insert(alert.id.clone(), Made::from(alert));
            if alert.stage == Stage::Early {
                pending.early.insert(alert.id.clone(), alert.clone());
            }
        }
    }

    /// Takes a finalised record. Records come in order of finalisation.
    pub fn offer(&mut self, record: &AnomalyRecord) {
        for pending in &mut self.rules {
            if pending.rule.jobs.contains(&record.job) && !self.exceptions.except(&pending.rule, record) {
                pending.offer(record);
            }
        }
    }

    /// Runs what fell due up to `now`, in order of time, then of rules. Executions that had nothing to look at are
    /// only counted.
    pub fn advance(&mut self, now: EventMillis) -> Vec<Execution> {
        let mut done = Vec::new();
        while let Some((at, due)) = self.next_due(now) {
            self.number += 1;
            self.passed += 1;
            if let Some(pending) = self.rules.get_mut(due) {
                done.push(pending.execute(self.number, at));
            }
        }
        for pending in &mut self.rules {
            self.passed += pending.skip(now);
        }
        done
    }

    /// The next execution that has something to look at.
    fn next_due(&self, now: EventMillis) -> Option<(EventMillis, usize)> {
        let due = |(at, pending): (usize, &Pending)| {
            let due = pending.due();
            (pending.has_work() && due <= now).then_some((due, at))
        };
        self.rules.iter().enumerate().filter_map(due).min()
    }
}

impl From<&Alert> for Made {
    fn from(alert: &Alert) -> Self {
        let Alert { bucket_start: bucket, version, record, record_score: score, .. } = *alert;
        Self { bucket, version, record, score }
    }
}

impl Pending {
    fn offer(&mut self, record: &AnomalyRecord) {
        if record.late && self.update(record) {
            return;
        }
        if record.record_score < self.rule.threshold {
            return;
        }
        // Before the first look at the clock, a record sets it: its finalisation may itself be an execution's time.
        self.last.get_or_insert_with(|| record.finalised_ms.saturating_sub(1));
        self.newest = self.newest.max(record.bucket_start);
        if self.confirm(record) {
            return;
        }
        let since = self.extend_run(record);
        if record.buckets_seen < self.rule.minimum_buckets {
            self.young += 1;
            return;
        }
        if record.late && self.is_belated(record) {
            self.belated += 1;
            if self.worst.as_ref().is_none_or(|worst| worst.record_score < record.record_score) {
                self.worst = Some(record.clone());
            }
            return;
        }
        let id = alert::id(&self.rule, record);
        if self.made.contains_key(&id) || self.waiting.iter().any(|waiting| waiting.id == id) {
            return;
        }
        self.waiting.push(Waiting { id, record: record.clone(), since, seen: None, stage: Stage::Final });
    }

    /// Takes a late record that tells of a bucket of which an alert was made, or is about to be. True if it did.
    fn update(&mut self, record: &AnomalyRecord) -> bool {
        let id = alert::id(&self.rule, record);
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) {
            waiting.record = never_lower(record, waiting.record.record_score);
            return true;
        }
        let Some(made) = self.made.get(&id).copied() else { return false };
        // Else that version tells of it already: it was made before a restart.
        if record.finalised > made.record {
            let since = self.extend_run(record);
            let record = never_lower(record, made.score);
            let stage = if self.early.remove(&id).is_some() { Stage::Confirmed } else { Stage::Final };
            self.updates.insert(id.clone(), Waiting { id, record, since, seen: None, stage });
        }
        true
    }

    fn is_belated(&self, record: &AnomalyRecord) -> bool {
        let end = record.bucket_span.end(record.bucket_start);
        record.finalised_ms.saturating_sub(end) > self.rule.look_back_ms()
    }

    /// Start of the first of the consecutive buckets over the threshold that end with this record's.
    fn extend_run(&mut self, record: &AnomalyRecord) -> EventMillis {
        let (start, span) = (record.bucket_start, record.bucket_span.millis());
        let run = self.runs.entry(series(record)).or_insert(Run { since: start, last: start });
        if start > run.last.saturating_add(span) {
            run.since = start;
        }
        run.last = run.last.max(start);
        run.since.min(start)
    }

    fn has_work(&self) -> bool {
        !self.waiting.is_empty()
            || self.young > 0
            || !self.updates.is_empty()
            || !self.unconfirmed.is_empty()
            || self.belated > 0
    }

    /// When the next execution is due: a whole number of intervals since 1970.
    fn due(&self) -> EventMillis {
        let interval = self.rule.interval_ms().max(1);
        let last = self.last.unwrap_or(0);
        (last / interval).saturating_add(1).saturating_mul(interval)
    }

    /// Passes over the executions up to `now`, which have nothing to look at. Returns their number.
    fn skip(&mut self, now: EventMillis) -> u64 {
        let interval = self.rule.interval_ms().max(1);
        match self.last.replace(self.last.unwrap_or(now).max(now)) {
            Some(last) => (now / interval).saturating_sub(last / interval),
            None => 0,
        }
    }

    fn execute(&mut self, number: u64, at: EventMillis) -> Execution {
        self.last = Some(at);
        let look_back = self.rule.look_back_ms();
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.seen.is_none_or(|seen| at.saturating_sub(seen) <= look_back));
        let expired = before - self.waiting.len();
        self.waiting.sort_by(by_score);
        let room = self.rule.max_signals.saturating_sub(std::mem::take(&mut self.early_made));
        let later = self.waiting.split_off(self.waiting.len().min(room));
        let now = std::mem::replace(&mut self.waiting, later);
        let mut together: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
        for waiting in now.iter().chain(&self.waiting) {
            together.entry(incident(&waiting.record)).or_default().insert(&waiting.id);
        }
        let make = |waiting: &Waiting| {
            let ids = together.get(&incident(&waiting.record)).into_iter().flatten();
            let related = ids.filter(|id| **id != waiting.id).map(|id| (*id).to_owned()).collect();
            let finding = Finding { record: &waiting.record, since: waiting.since, related, stage: waiting.stage };
            alert::make(&self.rule, &waiting.id, &finding, number, at)
        };
        let mut alerts: Vec<Alert> = now.iter().map(make).collect();
        let made = alerts.len();
        let updates = std::mem::take(&mut self.updates);
        alerts.extend(updates.values().map(|update| {
            let version = self.made.get(&update.id).map_or(1, |made| made.version);
            Alert { version: version.saturating_add(1), ..make(update) }
        }));
        drop(together);
        alerts.append(&mut self.unconfirmed);
        for waiting in &mut self.waiting {
            waiting.seen.get_or_insert(at);
        }
        self.made.extend(alerts.iter().map(|alert| (alert.id.clone(), Made::from(alert))));
        self.forget();
        let held_back = self.waiting.len();
        let mut warnings = warnings(made, held_back, expired);
        warnings.extend(digest(std::mem::take(&mut self.belated), self.worst.take().as_ref()));
        let warning = (!warnings.is_empty()).then(|| format!("{}: {}", self.rule.name, warnings.join(" ")));
        Execution {
            number,
            rule_id: self.rule.id.clone(),
            at,
            held_back,
            expired,
            young: std::mem::take(&mut self.young),
            warning,
            alerts,
        }
    }

    /// Drops what no record to come can need.
    fn forget(&mut self) {
        let newest = self.newest;
        self.runs.retain(|_, run| newest.saturating_sub(run.last) <= 2 * 86_400_000);
        let keep = self.rule.look_back_ms().saturating_mul(4);
        self.made.retain(|_, made| newest.saturating_sub(made.bucket) <= keep);
    }
}

fn by_score(a: &Waiting, b: &Waiting) -> Ordering {
    b.record.record_score.total_cmp(&a.record.record_score).then_with(|| a.record.finalised.cmp(&b.record.finalised))
}

/// Records of one bucket and split value belong together, whatever their job.
fn incident(record: &AnomalyRecord) -> (EventMillis, String, String) {
    let (_, site, value) = series(record);
    (record.bucket_start, site, value)
}

/// What corrections add to a bucket makes it no less unusual, whatever has been learnt since.
fn never_lower(record: &AnomalyRecord, score: f64) -> AnomalyRecord {
    AnomalyRecord { record_score: record.record_score.max(score), ..record.clone() }
}

/// What is said of late records that came after the look-back.
fn digest(belated: u64, worst: Option<&AnomalyRecord>) -> Option<String> {
    let worst = worst?;
    let (_, site, value) = series(worst);
    let (AnomalyRecord { job, record_score, bucket_start, .. }, value) = (worst, format!("{site} {value}"));
    let time = jiff::Timestamp::from_millisecond(i64::try_from(*bucket_start).ok()?).ok()?;
    Some(format!(
        "{belated} anomaly records of corrections came later than the look-back and made no alert; the worst is of {job}, \
         {}, in the bucket of {time}: score {record_score:.1}.",
        value.trim()
    ))
}

fn warnings(made: usize, held_back: usize, expired: usize) -> Vec<String> {
    let mut parts = Vec::new();
    if held_back > 0 {
        parts.push(format!(
            "This execution made {made} alerts and reached its limit; {held_back} more wait for the next."
        ));
    }
    if expired > 0 {
        parts.push(format!("{expired} anomaly records waited longer than the look-back and made no alert."));
    }
    parts
}

#[cfg(test)]
mod tests;
