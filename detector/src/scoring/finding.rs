//! From the verdicts on one window to its anomaly records.

use std::cell::LazyCell;

use spikewatch_domain::{
    key::{SiteName, Subject},
    record::EventMillis,
    span::Span,
};
use spikewatch_proto::convert::results::{AnomalyRecord, Companion, Contributor};

use super::{
    LEAST_SCORE,
    bound::Bound,
    contributors,
    joint::parts,
    judge::{Judge, Verdict},
    model::Model,
    table::{Input, seconds},
};
use crate::{
    baseline::record_score,
    job::{Function, Job, Split},
    joint::Evidence,
};

/// From this score on, a record carries the other measures of its window.
const EXPLAIN_FROM: f64 = 25.0;

/// A value that rose by this factor since it was last told is told again, though its score stays.
const NEWS: f64 = 1.1;

/// A window that all jobs of its split have judged and none has learnt.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    pub(super) start: EventMillis,
    pub(super) span: Span,
    pub(super) split: Split,
    pub(super) input: &'a Input<'a>,
    /// It is complete, so it will be learnt.
    pub(super) learn: bool,
    pub(super) judges: &'a [Judge],
    /// What each of them knows of the series.
    pub(super) models: &'a [Model],
    /// One per job; none where it has no value of the window.
    pub(super) verdicts: &'a [Option<Verdict>],
    /// If it is late: the verdicts on what was known of it before.
    pub(super) before: Option<&'a [Option<Verdict>]>,
    /// The bucket is still open: the values are what was counted so far.
    pub(super) so_far: bool,
    /// Joint evidence, where there are joint jobs.
    pub(super) joint: Option<&'a Evidence>,
    /// What may alert.
    pub(super) bound: Bound,
}

impl Judged<'_> {
    /// Adds what is unusual to `records`, one list per job.
    pub(super) fn tell(&self, records: &mut [Vec<AnomalyRecord>]) {
        let explained = self.verdicts.iter().flatten().any(|verdict| verdict.score >= EXPLAIN_FROM);
        let companions = if explained { self.companions() } else { Vec::new() };
        let contributors = LazyCell::new(|| self.contributors());
        for (((judge, verdict), own), job) in self.judges.iter().zip(self.verdicts).zip(records).zip(0..) {
            let Some(verdict) = verdict else { continue };
            let before = self.before.and_then(|before| before.get(job)).and_then(Option::as_ref);
            if verdict.score >= LEAST_SCORE && before.is_none_or(|before| is_news(before, verdict)) {
                let record =
                    self.record(judge, verdict, &companions, || self.influencers((judge, job), verdict, &contributors));
                own.extend(record.map(|record| AnomalyRecord {
                    late: self.before.is_some(),
                    initial_record_score: before.map_or(record.initial_record_score, |before| before.score),
                    ..record
                }));
            }
        }
    }

    fn record(
        &self,
        judge: &Judge,
        verdict: &Verdict,
        companions: &[Companion],
        contributors: impl FnOnce() -> Vec<Contributor>,
    ) -> Option<AnomalyRecord> {
        let others =
            companions.iter().filter(|companion| companion.job != judge.job.id && verdict.score >= EXPLAIN_FROM);
        let others = others.cloned().collect();
        let record = self.describe(judge, verdict, others, contributors);
        // After a spike the run of buckets stays unusual for a while, though this one is not.
        let effect = judge.job.function.effect(verdict.actual, record.typical);
        (effect >= judge.job.minimum_effect && self.holds(judge, &record)).then_some(record)
    }

    /// True unless what is still missing of the value may take back what is said of it: a part that is too little, or a
    /// mean of a part, says nothing of the whole.
    fn holds(&self, judge: &Judge, record: &AnomalyRecord) -> bool {
        let whole = self.learn && !self.so_far;
        whole || (judge.job.function.only_grows() && record.actual >= record.typical)
    }

    fn describe(
        &self,
        judge: &Judge,
        verdict: &Verdict,
        companions: Vec<Companion>,
        contributors: impl FnOnce() -> Vec<Contributor>,
    ) -> AnomalyRecord {
        let expected = verdict.foreseen.expected();
        let Input { name, subject, .. } = self.input;
        AnomalyRecord {
            job: judge.job.id.clone(),
            bucket_start: self.start,
            bucket_span: self.span,
            site: name.cloned(),
            dimension: self.split.dimension(),
            value: name.map(|site| value_text(site, subject)).unwrap_or_default(),
            function: judge.job.function.name().to_owned(),
            measure: judge.job.measure,
            actual: verdict.actual,
            typical: expected.typical,
            lower: expected.lower,
            upper: expected.upper,
            record_score: verdict.score,
            initial_record_score: verdict.score,
            probability: libm::exp10(-verdict.l).clamp(0.0, 1.0),
            multi_bucket_impact: expected.impact,
            finalised: 0,
            finalised_ms: 0,
            incomplete: !self.learn,
            late: false,
            early: false,
            buckets_seen: verdict.buckets,
            contributors: contributors(),
            companions,
            parts: self.joint.map_or_else(Vec::new, parts),
            alert_from: verdict.alert_from(self.bound),
        }
    }

    /// The record of a joint job, with the numbers of the measure that it shows in. `l`: -log10 of the probability.
    pub(super) fn joint_record(&self, judge: &Judge, verdict: &Verdict, job: &Job, l: f64) -> Option<AnomalyRecord> {
        let score = record_score(l);
        let companions = if score >= EXPLAIN_FROM { self.companions() } else { Vec::new() };
        let contributors = || self.contributors().into_iter().map(|known| known.contributor).collect();
        let record = self.describe(judge, verdict, companions, contributors);
        let effect = if job.function == Function::Activity { judge.job.minimum_effect } else { f64::NEG_INFINITY };
        (record.actual - record.typical >= effect).then(|| AnomalyRecord {
            job: job.id.clone(),
            function: job.function.name().to_owned(),
            record_score: score,
            initial_record_score: score,
            probability: libm::exp10(-l).clamp(0.0, 1.0),
            alert_from: self.bound.alert_from(l),
            ..record
        })
    }

    /// Who the window's traffic was with.
    fn contributors(&self) -> Vec<contributors::Known> {
        self.input.extra.iter().cloned().chain(contributors::of(self.input.window)).collect()
    }

    /// Each contributor with the points of the score that go when it is left out and what remains is scored again, of
    /// records worth explaining.
    fn influencers(
        &self,
        (judge, job): (&Judge, usize),
        verdict: &Verdict,
        contributors: &[contributors::Known],
    ) -> Vec<Contributor> {
        let model = self.models.get(job).filter(|_| verdict.score >= EXPLAIN_FROM);
        let weigh = |known: &contributors::Known| {
            let part = known.part(judge.job.measure);
            let influencer_score =
                model.zip(part).and_then(|(model, part)| judge.points_of(model, seconds(self.start), verdict, part));
            Contributor { influencer_score, ..known.contributor.clone() }
        };
        contributors.iter().map(weigh).collect()
    }

    /// What all jobs say of the window.
    fn companions(&self) -> Vec<Companion> {
        let say = |(judge, verdict): (&Judge, &Option<Verdict>)| {
            let verdict = verdict.as_ref().filter(|_| judge.job.function.only_grows())?;
            Some(Companion {
                job: judge.job.id.clone(),
                measure: judge.job.measure,
                actual: verdict.actual,
                typical: verdict.foreseen.expected().typical,
                record_score: verdict.score,
            })
        };
        self.judges.iter().zip(self.verdicts).filter_map(say).collect()
    }
}

/// A window is corrected many times, mostly by little. Whether a correction is told depends on its window before and
/// after it alone, and on steps that don't move, so that many small ones are told as well.
fn is_news(before: &Verdict, after: &Verdict) -> bool {
    let size = |verdict: &Verdict| (libm::log1p(verdict.actual) / libm::log1p(NEWS - 1.0)).floor();
    let (points, sizes) = ((before.score.floor(), after.score.floor()), (size(before), size(after)));
    after.score >= before.score && (points.1 > points.0 || sizes.1 > sizes.0)
}

fn value_text(site: &SiteName, subject: &Subject) -> String {
    match subject {
        Subject::Site => site.as_str().to_owned(),
        other => other.to_string(),
    }
}
