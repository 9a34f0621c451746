//! All jobs of one split.

use spikewatch_domain::{
    key::{SiteName, Subject},
    record::EventMillis,
    span::Span,
    window::Window,
};
use spikewatch_proto::convert::results::{AnomalyRecord, Companion, Contributor};

use super::{
    LEAST_SCORE, MAX_RECORDS, Presence, Scored, contributors,
    judge::{Judge, Verdict},
    series::SeriesSet,
};
use crate::{
    baseline::{Compact, multi_bucket_impact},
    job::{Job, Split},
};

/// From this score on, a record carries the other measures of its window.
const EXPLAIN_FROM: f64 = 25.0;

/// A key without a window for that long is forgotten: machines come and go, and their models would stay.
const FORGET_AFTER_MS: u64 = 30 * DAY_MS;
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
    pub(super) extra: &'a [Contributor],
}

#[derive(Debug)]
pub(super) struct Table {
    split: Split,
    span: Span,
    max_series: usize,
    judges: Vec<Judge>,
    series: SeriesSet,
    /// The models of one key as they were before the bucket; kept to save allocations.
    before: Vec<Compact>,
    /// The day, since 1970, of the last bucket.
    day: u64,
}

impl Table {
    pub(super) fn new(split: Split, jobs: Vec<Job>, span: Span, max_series: usize) -> Self {
        let series = SeriesSet::new(jobs.len());
        let judges = jobs.into_iter().map(Judge::new).collect();
        Self { split, span, max_series, judges, series, before: Vec::new(), day: 0 }
    }

    pub(super) fn split(&self) -> Split {
        self.split
    }

    pub(super) fn series(&self) -> u64 {
        (self.series.len() * self.judges.len()) as u64
    }

    /// Scores and learns one bucket. `inputs` are ordered by key.
    pub(super) fn score(
        &mut self,
        start: EventMillis,
        inputs: &[Input<'_>],
        presence: &[Presence],
        scored: &mut Scored,
    ) {
        if start / DAY_MS != self.day {
            self.day = start / DAY_MS;
            self.series.forget(start.saturating_sub(FORGET_AFTER_MS));
        }
        for judge in &mut self.judges {
            inputs.iter().for_each(|input| judge.fleet.add(judge.job.value(input.window)));
        }
        let fresh: Vec<Compact> = self.judges.iter().map(|judge| Compact::new(judge.fleet.prior())).collect();
        self.return_from_silence(presence);
        let mut records: Vec<Vec<AnomalyRecord>> = vec![Vec::new(); self.judges.len()];
        for input in inputs {
            let number = match self.series.find(input.site, input.subject) {
                Some(number) => number,
                None if self.series.len() < self.max_series => {
                    self.series.add(input.site, input.subject, start, &fresh)
                }
                None => {
                    scored.not_modelled += 1;
                    continue;
                }
            };
            let learn = matches!(presence.get(input.site as usize), Some(Presence::Present { complete: true, .. }));
            self.score_window(start, number, input, learn, &mut records);
        }
        self.learn_silence(start, presence);
        for judge in &mut self.judges {
            judge.close(self.series.len(), self.span);
        }
        for own in records {
            scored.cut += own.len().saturating_sub(MAX_RECORDS) as u64;
            scored.records.extend(cap(own));
        }
    }

    /// Series of sites that were silent for a while and are back were 0 meanwhile.
    fn return_from_silence(&mut self, presence: &[Presence]) {
        let zeros = |site: u32| match presence.get(site as usize) {
            Some(Presence::Present { zeros, .. }) => zeros.as_slice(),
            _ => &[],
        };
        if (0..presence.len()).all(|site| zeros(site as u32).is_empty()) {
            return;
        }
        for (known, models) in self.series.iter_mut() {
            for start in zeros(known.site) {
                for (model, judge) in models.iter_mut().zip(&mut self.judges) {
                    judge.judge(model, seconds(*start), 0.0, self.span, true);
                }
            }
        }
    }

    /// Series without a window in a bucket in which all of their site is known were 0. Silence makes no records.
    fn learn_silence(&mut self, start: EventMillis, presence: &[Presence]) {
        for (known, models) in self.series.iter_mut() {
            let complete = matches!(presence.get(known.site as usize), Some(Presence::Present { complete: true, .. }));
            if known.seen == start || !complete {
                continue;
            }
            for (model, judge) in models.iter_mut().zip(&mut self.judges) {
                judge.fleet.add(0.0);
                judge.judge(model, seconds(start), 0.0, self.span, true);
            }
        }
    }

    fn score_window(
        &mut self,
        start: EventMillis,
        number: usize,
        input: &Input<'_>,
        learn: bool,
        records: &mut [Vec<AnomalyRecord>],
    ) {
        let Some((known, models)) = self.series.get_mut(number) else { return };
        known.seen = start;
        self.before.clear();
        self.before.extend_from_slice(models);
        let t = seconds(start);
        let mut verdicts = Vec::with_capacity(self.judges.len());
        for (model, judge) in models.iter_mut().zip(&mut self.judges) {
            let value = judge.job.value(input.window);
            verdicts.push(judge.judge(model, t, value, self.span, learn));
        }
        if verdicts.iter().all(|verdict| verdict.score < LEAST_SCORE) {
            return;
        }
        let companions = if verdicts.iter().any(|verdict| verdict.score >= EXPLAIN_FROM) {
            self.companions(t, &verdicts)
        } else {
            Vec::new()
        };
        for (at, ((judge, before), verdict)) in self.judges.iter().zip(&self.before).zip(&verdicts).enumerate() {
            if verdict.score < LEAST_SCORE {
                continue;
            }
            let side = judge.job.function.side();
            let evidence = before.score(t, Some(verdict.actual), self.span.seconds(), side, true);
            // After a spike the run of buckets stays unusual for a while, though this one is not.
            if verdict.actual - evidence.typical < judge.job.minimum_effect {
                continue;
            }
            let others =
                companions.iter().filter(|companion| companion.job != judge.job.id && verdict.score >= EXPLAIN_FROM);
            let record = AnomalyRecord {
                job: judge.job.id.clone(),
                bucket_start: start,
                bucket_span: self.span,
                site: input.name.cloned(),
                dimension: self.split.dimension(),
                value: input.name.map(|site| value_text(site, input.subject)).unwrap_or_default(),
                function: judge.job.function.name().to_owned(),
                measure: judge.job.measure,
                actual: verdict.actual,
                typical: evidence.typical,
                lower: evidence.lower95,
                upper: evidence.upper95,
                record_score: verdict.score,
                initial_record_score: verdict.score,
                probability: libm::exp10(-verdict.l).clamp(0.0, 1.0),
                multi_bucket_impact: multi_bucket_impact(&evidence),
                finalised: 0,
                finalised_ms: 0,
                incomplete: !learn,
                late: false,
                buckets_seen: before.buckets(),
                contributors: input.extra.iter().cloned().chain(contributors::of(input.window)).collect(),
                companions: others.cloned().collect(),
            };
            if let Some(own) = records.get_mut(at) {
                own.push(record);
            }
        }
    }

    /// What all jobs say of the window whose models were copied to `before`.
    fn companions(&self, t: i64, verdicts: &[Verdict]) -> Vec<Companion> {
        let say = |((judge, before), verdict): ((&Judge, &Compact), &Verdict)| {
            let side = judge.job.function.side();
            let evidence = before.score(t, Some(verdict.actual), self.span.seconds(), side, true);
            Companion {
                job: judge.job.id.clone(),
                measure: judge.job.measure,
                actual: verdict.actual,
                typical: evidence.typical,
                record_score: verdict.score,
            }
        };
        self.judges.iter().zip(&self.before).zip(verdicts).map(say).collect()
    }
}

fn value_text(site: &SiteName, subject: &Subject) -> String {
    match subject {
        Subject::Site => site.as_str().to_owned(),
        other => other.to_string(),
    }
}

fn seconds(time: EventMillis) -> i64 {
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
