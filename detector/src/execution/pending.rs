//! One rule between two executions: what it has yet to look at, and what its alerts may still have to say.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use spikewatch_domain::record::EventMillis;
use spikewatch_proto::convert::results::{Alert, AnomalyRecord, Stage, Term};

use super::{
    Execution,
    incident::{Incidents, Place, series},
};
use crate::{
    alert::{self, Finding, Occasion},
    rule::Rule,
    suppression::{Groups, Suppression},
};

/// Most records that wait; what comes beyond is given up and said.
const MOST_WAITING: usize = 100_000;
/// Records of one execution that make an alert or are folded into one, as a multiple of `max_signals`.
const FOLDED: usize = 5;

/// See the module.
pub(super) struct Pending {
    pub(super) rule: Rule,
    /// Up to when its executions have run; none before the first look at the clock.
    pub(super) last: Option<EventMillis>,
    /// By the ids that their alerts will have.
    pub(super) waiting: BTreeMap<String, Waiting>,
    /// Alerts made lately, and those that may still change; without their documents. Nothing of a record that was folded.
    pub(super) made: BTreeMap<String, (EventMillis, Option<Alert>)>,
    pub(super) incidents: Incidents,
    pub(super) groups: Groups,
    /// Executions since the last one with something to look at.
    pub(super) quiet: u64,
    /// No execution ran between these.
    pub(super) gap: Option<(EventMillis, EventMillis)>,
    /// What keeps the rule from working as meant, as it was told last.
    pub(super) told: Vec<String>,
    /// Alerts with something new to say.
    pub(super) changed: BTreeSet<String>,
    /// Alerts of open buckets that were made since the last execution, whose number they have.
    pub(super) early_made: usize,
    newest: EventMillis,
    counts: Counts,
}

/// What is counted until the next execution.
#[derive(Debug, Default)]
struct Counts {
    young: u64,
    excepted: u64,
    /// Records that the bound on false alerts held, and the highest score that one would have needed.
    bounded: (u64, f64),
    dropped: usize,
    /// Late records that came after the look-back, and the worst of them.
    belated: u64,
    worst: Option<AnomalyRecord>,
}

/// A record that waits for an execution.
pub(super) struct Waiting {
    pub(super) record: AnomalyRecord,
    pub(super) place: Place,
    /// When an execution first saw it.
    pub(super) seen: Option<EventMillis>,
}

/// How an execution is run.
pub(super) struct Run<'a> {
    pub(super) number: u64,
    pub(super) at: EventMillis,
    /// All buckets up to here are known.
    pub(super) scored: EventMillis,
    /// Of a manual run: the buckets it looks at.
    pub(super) manual: Option<(EventMillis, EventMillis)>,
    /// What keeps the rule from working as meant.
    pub(super) standing: &'a [String],
}

/// Which records get an alert, and which are folded into one.
#[derive(Default)]
struct Choice {
    /// Those that get an alert, with its id and their group.
    alone: Vec<(String, Waiting, Option<Vec<Term>>)>,
    /// Alerts that stand for more by now, with their groups.
    grown: BTreeMap<String, Vec<Term>>,
    folded: usize,
}

impl Pending {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            rule,
            last: None,
            waiting: BTreeMap::new(),
            made: BTreeMap::new(),
            incidents: Incidents::default(),
            groups: Groups::default(),
            quiet: 0,
            gap: None,
            told: Vec::new(),
            changed: BTreeSet::new(),
            early_made: 0,
            newest: 0,
            counts: Counts::default(),
        }
    }

    /// Takes a record if it is for this rule: of one of its jobs, over its threshold, and no exception covers it.
    pub(super) fn offer(&mut self, record: &AnomalyRecord) {
        let rule = &self.rule;
        if !rule.enabled || !rule.jobs.contains(&record.job) || (record.late && self.revise(record)) {
            return;
        }
        if record.record_score < self.rule.threshold {
            return;
        }
        if self.is_excepted(record) {
            self.counts.excepted += 1;
            return;
        }
        // No execution due before it was finalised can look at it. That may itself be an execution's time.
        let before = record.finalised_ms.saturating_sub(1);
        let last = self.last.get_or_insert(before);
        if self.waiting.is_empty() {
            *last = (*last).max(before);
        }
        self.newest = self.newest.max(record.bucket_start);
        if self.confirm(record) {
            return;
        }
        let (rule, place) = (&self.rule, self.incidents.extend(record));
        if record.buckets_seen < rule.minimum_buckets {
            self.counts.young += 1;
        } else if record.record_score < record.alert_from {
            let (bounded, from) = self.counts.bounded;
            self.counts.bounded = (bounded + 1, from.max(record.alert_from));
        } else if record.late && belated(record) > rule.look_back_ms() {
            self.counts.belated += 1;
            if self.counts.worst.as_ref().is_none_or(|worst| worst.record_score < record.record_score) {
                self.counts.worst = Some(record.clone());
            }
        } else {
            self.wait(record, place);
        }
    }

    /// True if an exception covers it.
    pub(super) fn is_excepted(&self, record: &AnomalyRecord) -> bool {
        self.rule.exceptions.iter().any(|exception| exception.covers(record))
    }

    fn wait(&mut self, record: &AnomalyRecord, place: Place) {
        let id = alert::id(&self.rule, record);
        if self.made.contains_key(&id) || self.waiting.contains_key(&id) {
            return;
        }
        if self.waiting.len() < MOST_WAITING {
            self.waiting.insert(id, Waiting { record: record.clone(), place, seen: None });
        } else {
            self.counts.dropped += 1;
        }
    }

    /// Takes a late record that tells of a bucket of which an alert was made, or is about to be. True if it did.
    fn revise(&mut self, record: &AnomalyRecord) -> bool {
        let id = alert::id(&self.rule, record);
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.record = never_lower(record, waiting.record.record_score);
            return true;
        }
        let Some((_, made)) = self.made.get_mut(&id) else { return false };
        // Else that version tells of it already: it was made before a restart.
        if let Some(alert) = made.as_mut().filter(|alert| record.finalised > alert.record) {
            self.incidents.extend(record);
            let record = never_lower(record, alert.record_score);
            (alert.record, alert.record_score) = (record.finalised, record.record_score);
            alert.finding = Some(record);
            if alert.stage == Stage::Early {
                alert.stage = Stage::Confirmed;
            }
            self.changed.insert(id);
        }
        true
    }

    /// True if an execution has something to look at or to say, with all buckets up to `scored` known.
    pub(super) fn has_work(&self, scored: EventMillis, standing: &[String]) -> bool {
        let Counts { young, excepted, bounded, belated, dropped, .. } = self.counts;
        !self.waiting.is_empty()
            || young + excepted + bounded.0 + belated > 0
            || dropped > 0
            || self.gap.is_some()
            || !self.changed.is_empty()
            || self.told != standing
            || self.incidents.has_news(scored)
    }

    /// When the next execution is due: a whole number of intervals since 1970.
    pub(super) fn due(&self) -> EventMillis {
        let interval = self.rule.interval_ms().max(1);
        let last = self.last.unwrap_or(0);
        (last / interval).saturating_add(1).saturating_mul(interval)
    }

    /// The execution before the one that runs or is being waited for at `at`.
    pub(super) fn last_due(&self, at: EventMillis) -> EventMillis {
        let interval = self.rule.interval_ms().max(1);
        at.saturating_sub(1) / interval * interval
    }

    /// Passes over the executions up to `now`, which have nothing to look at. Returns their number.
    pub(super) fn skip(&mut self, now: EventMillis) -> u64 {
        let interval = self.rule.interval_ms().max(1);
        let passed = match self.last.replace(self.last.unwrap_or(now).max(now)) {
            Some(last) => (now / interval).saturating_sub(last / interval),
            None => 0,
        };
        self.quiet += passed;
        passed
    }

    /// Runs an execution.
    pub(super) fn execute(&mut self, run: &Run<'_>) -> Execution {
        self.last = Some(run.at);
        let (look_back, before) = (self.rule.look_back_ms(), self.waiting.len());
        self.waiting.retain(|_, waiting| waiting.seen.is_none_or(|seen| run.at.saturating_sub(seen) <= look_back));
        let expired = before - self.waiting.len() + std::mem::take(&mut self.counts.dropped);
        let Choice { alone, grown, folded } = self.choose(run.at);
        self.incidents.end(run.scored);
        let alerts = self.make(alone, run);
        let updates = self.update(&alerts, &grown, run.at);
        self.made.extend(alerts.iter().map(|alert| (alert.id.clone(), (alert.bucket_start, Some(bare(alert))))));
        for waiting in self.waiting.values_mut() {
            waiting.seen.get_or_insert(run.at);
        }
        self.forget();
        self.told = run.standing.to_vec();
        Execution {
            number: run.number,
            rule_id: self.rule.id.clone(),
            rule_name: self.rule.name.clone(),
            at: run.at,
            manual: run.manual,
            alerts,
            updates,
            suppressed: folded,
            held_back: self.waiting.len(),
            expired,
            excepted: std::mem::take(&mut self.counts.excepted),
            young: std::mem::take(&mut self.counts.young),
            bounded: std::mem::take(&mut self.counts.bounded),
            belated: (std::mem::take(&mut self.counts.belated), self.counts.worst.take()),
            quiet: std::mem::take(&mut self.quiet),
            gap: self.gap.take(),
            standing: run.standing.to_vec(),
        }
    }

    /// The worst records first, as far as the limits go; the rest goes on waiting.
    fn choose(&mut self, at: EventMillis) -> Choice {
        let (before, rule, groups) = (self.last_due(at), &self.rule, &mut self.groups);
        groups.begin(rule.suppression.as_ref().and_then(Suppression::window_ms), before, at);
        let most = rule.max_signals.saturating_sub(std::mem::take(&mut self.early_made));
        let mut waiting: Vec<(String, Waiting)> = std::mem::take(&mut self.waiting).into_iter().collect();
        waiting.sort_by(|(_, a), (_, b)| by_score(&a.record, &b.record));
        let mut choice = Choice::default();
        for (id, waiting) in waiting {
            let full = choice.alone.len() + choice.folded >= rule.max_signals.saturating_mul(FOLDED);
            let group = rule.suppression.as_ref().and_then(|suppression| suppression.group(&waiting.record));
            let stands = group.as_ref().filter(|_| !full).and_then(|terms| groups.fold(terms, &waiting.record));
            if let (Some(alert), Some(terms)) = (stands.map(str::to_owned), &group) {
                choice.grown.insert(alert, terms.clone());
                choice.folded += 1;
                self.made.insert(id, (waiting.record.bucket_start, None));
            } else if !full && choice.alone.len() < most {
                if let Some(terms) = &group {
                    groups.open(terms.clone(), &id, at, &waiting.record);
                }
                choice.alone.push((id, waiting, group));
            } else {
                self.waiting.insert(id, waiting);
            }
        }
        choice
    }

    fn make(&mut self, alone: Vec<(String, Waiting, Option<Vec<Term>>)>, run: &Run<'_>) -> Vec<Alert> {
        let mut together: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
        let waiting = self.waiting.iter();
        for (id, waiting) in alone.iter().map(|(id, waiting, _)| (id, waiting)).chain(waiting) {
            together.entry(bucket_of(&waiting.record)).or_default().insert(id);
        }
        let mut by_time: Vec<_> = alone.iter().collect();
        by_time.sort_by_key(|(_, waiting, _)| waiting.record.bucket_start);
        for (id, waiting, _) in by_time {
            self.incidents.offer_head(&waiting.record, waiting.place, id);
        }
        let occasion = Occasion { execution: run.number, at: run.at, manual: run.manual.is_some() };
        let make = |(id, waiting, group): &(String, Waiting, Option<Vec<Term>>)| {
            let ids = together.get(&bucket_of(&waiting.record)).into_iter().flatten();
            let finding = Finding {
                record: &waiting.record,
                incident: self.incidents.of(&waiting.record, waiting.place, id),
                related: ids.filter(|other| *other != id).map(|other| (*other).to_owned()).collect(),
                suppression: group.as_ref().and_then(|terms| self.groups.of(terms)),
                stage: Stage::Final,
            };
            alert::make(&self.rule, id, finding, occasion)
        };
        alone.iter().map(make).collect()
    }

    /// New versions of older alerts that have something new to say.
    fn update(&mut self, fresh: &[Alert], grown: &BTreeMap<String, Vec<Term>>, at: EventMillis) -> Vec<Alert> {
        let mut changed = std::mem::take(&mut self.changed);
        for (id, terms) in grown {
            if let Some((_, Some(alert))) = self.made.get_mut(id) {
                alert.suppression = self.groups.of(terms);
                changed.insert(id.clone());
            }
        }
        for (id, incident) in self.incidents.news() {
            if let Some((_, Some(alert))) = self.made.get_mut(&id) {
                alert.incident = incident;
                changed.insert(id);
            }
        }
        let mut updates = Vec::new();
        for id in changed.iter().filter(|id| fresh.iter().all(|alert| alert.id != **id)) {
            if let Some((_, Some(alert))) = self.made.get_mut(id) {
                alert.version = alert.version.saturating_add(1);
                alert.updated = at;
                let mut update = alert.clone();
                alert::render(&self.rule, &mut update);
                updates.push(update);
            }
        }
        updates
    }

    /// Drops what no record to come can need.
    fn forget(&mut self) {
        let newest = self.newest;
        self.incidents.forget(newest);
        let keep = self.rule.look_back_ms().saturating_mul(4);
        let speaking: BTreeSet<&str> = self.incidents.heads().chain(self.groups.alerts()).collect();
        self.made.retain(|id, (bucket, _)| newest.saturating_sub(*bucket) <= keep || speaking.contains(id.as_str()));
    }
}

/// An alert without its document, which is made anew.
pub(super) fn bare(alert: &Alert) -> Alert {
    Alert { document: String::new(), ..alert.clone() }
}

/// How long after its bucket's end a record was finalised, ms.
fn belated(record: &AnomalyRecord) -> u64 {
    record.finalised_ms.saturating_sub(record.bucket_span.end(record.bucket_start))
}

/// What corrections add to a bucket makes it no less unusual, whatever has been learnt since.
fn never_lower(record: &AnomalyRecord, score: f64) -> AnomalyRecord {
    AnomalyRecord { record_score: record.record_score.max(score), ..record.clone() }
}

fn by_score(a: &AnomalyRecord, b: &AnomalyRecord) -> Ordering {
    b.record_score.total_cmp(&a.record_score).then_with(|| a.finalised.cmp(&b.finalised))
}

/// Records of one bucket and split value belong together, whatever their job.
fn bucket_of(record: &AnomalyRecord) -> (EventMillis, String, String) {
    let (_, site, value) = series(record);
    (record.bucket_start, site, value)
}
