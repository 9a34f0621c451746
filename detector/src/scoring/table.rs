//! All jobs of one split.

mod silence;
mod stored;

use std::{collections::BTreeSet, ops::Range};

use spikewatch_domain::{
    key::{SiteName, Subject},
    record::EventMillis,
    span::Span,
    window::Window,
};
use spikewatch_proto::convert::{
    early::{Limits, NO_LIMITS},
    results::AnomalyRecord,
};

use super::{
    LEAST_SCORE, MAX_RECORDS, Presence, Scored,
    bound::{Bound, Bounds, Looks},
    contributors,
    early::{self, Wanted},
    finding::Judged,
    joint::{Joint, Says},
    judge::{Judge, Value, Verdict},
    model::Model,
    quiet::{Place, Quietened},
    rare::{Moment, Rare},
    room,
    series::{Known, SeriesSet},
};
use crate::{
    calendar::Calendars,
    job::{self, Function, Job, Split},
    joint::Host,
};

/// A key without a window for that long is forgotten: machines come and go, and their models would stay.
pub(super) const FORGET_AFTER_MS: u64 = 30 * DAY_MS;
const DAY_MS: u64 = 86_400_000;

/// One window that has a series in the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a> {
    /// Number of its site.
    pub(super) site: u32,
    /// The site, unless global.
    pub(super) name: Option<&'a SiteName>,
    pub(super) subject: &'a Subject,
    pub(super) window: &'a Window,
    /// Contributors besides the window's own.
    pub(super) extra: &'a [contributors::Known],
}

/// What is known of a bucket besides its windows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    /// By number of the site.
    pub(super) presence: &'a [Presence],
    pub(super) names: &'a [Option<SiteName>],
    pub(super) calendars: &'a Calendars,
    /// Numbers of the sites that had more keys than they may have, so that some have no window.
    pub(super) overflowing: &'a BTreeSet<u32>,
    /// What may alert.
    pub(super) bounds: &'a Bounds,
}

impl Context<'_> {
    fn name(&self, site: u32) -> Option<&SiteName> {
        self.names.get(site as usize)?.as_ref()
    }
}

#[derive(Debug)]
pub(super) struct Table {
    split: Split,
    span: Span,
    judges: Vec<Judge>,
    /// Jobs over what these say together of a host.
    joint: Option<Joint>,
    /// Jobs over which values there are at all.
    rare: Vec<Rare>,
    series: SeriesSet,
    /// The jobs' values of all windows, and their verdicts on one; kept to save allocations.
    values: Vec<Option<Value>>,
    verdicts: Vec<Option<Verdict>>,
    said: Vec<Option<Says>>,
    /// Keys that a snapshot has, while it is taken back; 0 otherwise.
    promised: usize,
    /// The day, since 1970, of the last bucket.
    day: u64,
}

impl Table {
    pub(super) fn new(split: Split, jobs: Vec<Job>, span: Span) -> Self {
        let (rare, jobs): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.function == Function::Rare);
        let rare = rare.into_iter().map(|job| Rare::new(job, span)).collect();
        let (joint, single): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.function.is_joint());
        let series = SeriesSet::new(single.len());
        let judges: Vec<_> = single.into_iter().map(|job| Judge::new(job, span)).collect();
        let joint = Joint::new(joint, &judges, span.seconds());
        let (values, verdicts, said) = (Vec::new(), Vec::new(), Vec::new());
        Self { split, span, judges, joint, rare, series, values, verdicts, said, promised: 0, day: 0 }
    }

    /// Keys it has.
    pub(super) fn keys(&self) -> usize {
        self.series.len()
    }

    /// What they take, bytes, grown.
    pub(super) fn bytes(&self) -> u64 {
        let rare: u64 = self.rare.iter().map(Rare::bytes).sum();
        self.series.len() as u64 * room::key_bytes(self.model_bytes()) + rare
    }

    /// What the models of one key take, bytes, grown; and what joint jobs keep of it.
    fn model_bytes(&self) -> u64 {
        let joint = if self.joint.is_some() { size_of::<Host>() } else { 0 };
        let models: u64 = self.judges.iter().map(|judge| Model::bytes(judge.job.model)).sum();
        models + joint as u64
    }

    pub(super) fn split(&self) -> Split {
        self.split
    }

    pub(super) fn series(&self) -> u64 {
        (self.series.len() * self.judges.len()) as u64
    }

    /// What its jobs look at: series, hosts of joint jobs, and sites of those over rare values.
    pub(super) fn looks(&self) -> Looks {
        let joint = self.joint.as_ref().map_or(0, |joint| joint.jobs().len() * self.series.len());
        let all = self.series() + joint as u64 + self.rare.iter().map(Rare::sites).sum::<u64>();
        let rich = self.judges.iter().filter(|judge| judge.job.model == job::Model::Rich).count() * self.series.len();
        Looks { a_day: all as f64 * 86_400.0 / f64::from(self.span.seconds()).max(1.0), rich: rich as f64 }
    }

    /// Its jobs: those of single measures, then the joint ones, then those over rare values.
    fn jobs(&self) -> impl Iterator<Item = &Job> {
        let joint = self.joint.as_ref().map_or(&[][..], Joint::jobs);
        self.judges.iter().map(|judge| &judge.job).chain(joint).chain(self.rare.iter().map(|rare| &rare.job))
    }

    /// Which of its jobs are joint. They share what they learn, so what one is not to learn neither learns.
    fn joint_jobs(&self) -> Range<usize> {
        self.judges.len()..self.jobs().count() - self.rare.len()
    }

    /// What calendars leave out of the bucket that starts then.
    fn quiet<'a>(&self, calendars: &'a Calendars, start: EventMillis) -> Quietened<'a> {
        Quietened::of(calendars, start, self.span, self.jobs())
    }

    /// Scores and learns one bucket, within so many bytes. `inputs` are ordered by key.
    pub(super) fn score(
        &mut self,
        (start, bytes): (EventMillis, u64),
        inputs: &[Input<'_>],
        context: &Context<'_>,
        scored: &mut Scored,
    ) {
        let (presence, bound) = (context.presence, context.bounds.of_split(self.split));
        if start / DAY_MS != self.day {
            self.day = start / DAY_MS;
            self.series.forget(start.saturating_sub(FORGET_AFTER_MS));
            self.rare.iter_mut().for_each(|rare| rare.forget(start));
        }
        let mut values = std::mem::take(&mut self.values);
        values.clear();
        for input in inputs {
            values.extend(self.judges.iter_mut().map(|judge| judge.count(input.window)));
        }
        let fresh: Vec<Model> = self.judges.iter().map(Judge::fresh).collect();
        self.return_from_silence(context);
        let most = self.admit(start, bytes, inputs, scored);
        let quiet = self.quiet(context.calendars, start);
        let mut records: Vec<Vec<AnomalyRecord>> = vec![Vec::new(); self.jobs().count()];
        for (input, values) in inputs.iter().zip(values.chunks_exact(self.judges.len().max(1))) {
            let number = match self.series.find(input.site, input.subject) {
                Some(number) => number,
                None if self.series.len() < most => {
                    let (site, subject) = (input.site, input.subject.clone());
                    let host = self.joint.as_ref().map(|_| Box::default());
                    self.series.add(Known { site, subject, seen: start, active: 1, host }, &fresh)
                }
                None => {
                    scored.not_modelled += 1;
                    continue;
                }
            };
            let learn = matches!(presence.get(input.site as usize), Some(Presence::Present { complete: true, .. }));
            self.score_window(start, number, input, values, (learn, bound), &quiet, &mut records);
        }
        self.values = values;
        self.learn_silence(start, context, &quiet, &mut records);
        let first = records.len() - self.rare.len();
        for ((number, rare), own) in (first..).zip(&mut self.rare).zip(records.iter_mut().skip(first)) {
            let moment = Moment { start, split: self.split, presence, quiet: &quiet, number, bound };
            rare.score(&moment, inputs, own);
        }
        for judge in &mut self.judges {
            judge.close(self.series.len());
        }
        if let Some(joint) = &mut self.joint {
            joint.close();
        }
        for own in records {
            scored.cut += own.len().saturating_sub(MAX_RECORDS) as u64;
            scored.records.extend(cap(own));
        }
    }

    /// Judges a window of a bucket that was learnt before, as it was and as a correction made it, or (`so_far`) one of
    /// a bucket that is still open; learns nothing. `learn`: it is complete. Joint jobs and those over rare values say
    /// nothing of it: what they know has gone on, or not come this far. False if its key has no series.
    pub(super) fn judge_again(
        &self,
        start: EventMillis,
        input: &Input<'_>,
        before: Option<&Window>,
        (learn, so_far): (bool, bool),
        (calendars, bounds): (&Calendars, &Bounds),
        records: &mut Vec<AnomalyRecord>,
    ) -> bool {
        let found = self.series.find(input.site, input.subject).and_then(|number| self.series.get(number));
        let Some((_, _, models)) = found else { return false };
        let judge = |window: &Window| -> Vec<Option<Verdict>> {
            let say = |(model, judge): (&Model, &Judge)| Some(judge.judge(model, seconds(start), judge.value(window)?));
            models.iter().zip(&self.judges).map(say).collect()
        };
        let (mut verdicts, before) = (judge(input.window), before.map(judge));
        let place = Place { start, site: input.name, subject: input.subject };
        self.quiet(calendars, start).hush(&self.judges, &mut verdicts, &place);
        let (span, split, judges) = (self.span, self.split, self.judges.as_slice());
        let before = before.as_deref();
        let (joint, verdicts, bound) = (None, verdicts.as_slice(), bounds.of_split(split));
        let judged =
            Judged { start, span, split, input, learn, judges, models, verdicts, before, so_far, joint, bound };
        let mut own = vec![Vec::new(); judges.len()];
        judged.tell(&mut own);
        records.extend(own.into_iter().flatten());
        true
    }

    /// Judges a window that is still open. A key that is new has to wait for its bucket's end.
    pub(super) fn early(
        &self,
        start: EventMillis,
        input: &Input<'_>,
        (calendars, bounds): (&Calendars, &Bounds),
        records: &mut Vec<AnomalyRecord>,
    ) {
        let mut own = Vec::new();
        self.judge_again(start, input, None, (true, true), (calendars, bounds), &mut own);
        records.extend(own.into_iter().map(|record| AnomalyRecord { early: true, ..record }));
    }

    /// Tells each key's limits in the bucket that starts at `next`: of its wanted jobs, and where it is old enough.
    pub(super) fn limits(
        &self,
        (next, bounds): (EventMillis, &Bounds),
        wanted: impl Fn(&Job) -> Option<Wanted>,
        mut tell: impl FnMut(u32, &Subject, &Limits),
    ) {
        let wanted: Vec<_> = self.judges.iter().map(|judge| wanted(&judge.job)).collect();
        if wanted.iter().all(Option::is_none) {
            return;
        }
        let bound = bounds.of_split(self.split);
        for (known, subject, models) in (0..self.series.len()).map_while(|number| self.series.get(number)) {
            let mut limits = NO_LIMITS;
            for ((model, judge), wanted) in models.iter().zip(&self.judges).zip(&wanted) {
                let Some(wanted) = wanted.filter(|wanted| model.buckets() >= wanted.buckets) else { continue };
                if let Some(limit) = limits.get_mut(early::place(judge.job.measure)) {
                    *limit = judge.limit(model, seconds(next), wanted.threshold, bound).min(*limit);
                }
            }
            tell(known.site, subject, &limits);
        }
    }

    /// Notes who has a window in this bucket, and makes room for those that are new. Returns the most keys there may be.
    fn admit(&mut self, start: EventMillis, bytes: u64, inputs: &[Input<'_>], scored: &mut Scored) -> usize {
        let mut new = 0usize;
        for input in inputs {
            let number = self.series.find(input.site, input.subject);
            match number.and_then(|number| self.series.get_mut(number)) {
                Some((known, _)) => (known.seen, known.active) = (start, known.active.saturating_add(1)),
                None => new += 1,
            }
        }
        let most = room::keys(bytes, self.model_bytes());
        let wanted = self.series.len().saturating_add(new).saturating_sub(most);
        if wanted > 0 {
            scored.shed += (self.series.make_room(wanted, start) * self.judges.len()) as u64;
        }
        most
    }

    /// Judges a window, tells what is unusual, and only then learns it.
    fn score_window(
        &mut self,
        start: EventMillis,
        number: usize,
        input: &Input<'_>,
        values: &[Option<Value>],
        (learn, bound): (bool, Bound),
        quiet: &Quietened<'_>,
        records: &mut [Vec<AnomalyRecord>],
    ) {
        let joint_jobs = self.joint_jobs();
        let Some((known, models)) = self.series.get_mut(number) else { return };
        self.verdicts.clear();
        let judged = models.iter().zip(&self.judges).zip(values);
        self.verdicts.extend(judged.map(|((model, judge), value)| Some(judge.judge(model, seconds(start), (*value)?))));
        let place = Place { start, site: input.name, subject: input.subject };
        quiet.hush(&self.judges, &mut self.verdicts, &place);
        self.said.clear();
        self.said.extend(self.verdicts.iter().map(|verdict| Some(Says::from(&verdict.as_ref()?.foreseen))));
        let mut together = self.joint.as_mut().zip(known.host.as_deref_mut()).map(|(joint, host)| {
            let measured = joint.measured(seconds(start), Some(input.window), &self.said);
            let said = host.judge(&measured);
            (joint, host, measured, said)
        });
        let evidence = together.as_ref().map(|(.., said)| said.evidence);
        let (judges, verdicts, joint) = (&self.judges, &self.verdicts, evidence.as_ref());
        let (span, split, before, so_far) = (self.span, self.split, None, false);
        let judged =
            Judged { start, span, split, input, learn, judges, models, verdicts, before, so_far, joint, bound };
        if self.verdicts.iter().flatten().any(|verdict| verdict.score >= LEAST_SCORE) {
            judged.tell(records);
        }
        if let Some((joint, host, measured, said)) = &mut together {
            let own = records.get_mut(joint_jobs.clone()).unwrap_or_default();
            let wanted = |job| !quiet.skip(joint_jobs.start + job, input.name, input.subject).result;
            joint.tell(&judged, host, measured, said, own, wanted);
            if learn && !quiet.is_unlearnt(joint_jobs, input.name, input.subject) {
                joint.learn(host, measured, said);
            }
        }
        if learn {
            let judged = models.iter_mut().zip(&mut self.judges).zip(&self.verdicts);
            for ((model, judge), verdict) in judged {
                if let Some(verdict) = verdict.as_ref().filter(|verdict| !verdict.skip.model_update) {
                    judge.learn(model, &verdict.foreseen);
                }
            }
        }
    }
}

pub(super) fn seconds(time: EventMillis) -> i64 {
    i64::try_from(time / 1000).unwrap_or(i64::MAX)
}

/// The highest scores of one job, still in key order.
fn cap(mut records: Vec<AnomalyRecord>) -> Vec<AnomalyRecord> {
    if records.len() > MAX_RECORDS {
        let mut scores: Vec<f64> = records.iter().map(|record| record.record_score).collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        let least = scores.get(MAX_RECORDS - 1).copied().unwrap_or_default();
        let above = scores.iter().filter(|score| **score > least).count();
        let mut ties = MAX_RECORDS - above;
        records.retain(|record| {
            let tie = record.record_score == least;
            let kept = record.record_score > least || (tie && ties > 0);
            ties -= usize::from(tie && kept);
            kept
        });
    }
    records
}
