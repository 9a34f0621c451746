//! Jobs that tell of split values which a site has hardly ever met: a country, a network, a port.

use std::collections::{BTreeMap, BTreeSet};

use spikewatch_domain::{key::Subject, record::EventMillis, span::Span};
use spikewatch_proto::convert::results::AnomalyRecord;

use super::{
    LEAST_SCORE, Presence,
    bound::Bound,
    contributors,
    joint::DECADES_TO_L,
    quiet::Quietened,
    state::{RareSite, RareState, Unreadable},
    table::{FORGET_AFTER_MS, Input},
};
use crate::{
    baseline::{Novelty, record_score},
    calendar::Skip,
    job::{Job, Split, custom_rule},
};

/// Buckets of a site after its first week from which on something is said.
const LEAST_BUCKETS: u64 = 20;
/// Values of a site; beyond, the one that was not met for the longest time is forgotten.
const MOST_VALUES: usize = 4096;
/// What a value takes, bytes.
const VALUE_BYTES: u64 = 96;

/// A job with what it learnt.
#[derive(Debug)]
pub(super) struct Rare {
    pub(super) job: Job,
    span: Span,
    /// By number.
    sites: BTreeMap<u32, Site>,
}

#[derive(Debug, Default)]
struct Site {
    novelty: Novelty,
    values: BTreeMap<Subject, Value>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Value {
    /// Buckets in which it was met.
    met: u32,
    /// Start of the last of them.
    last: EventMillis,
}

/// A bucket, and what is left out of it.
pub(super) struct Moment<'a> {
    pub(super) start: EventMillis,
    pub(super) split: Split,
    pub(super) presence: &'a [Presence],
    pub(super) quiet: &'a Quietened<'a>,
    /// The job's number among those of its table.
    pub(super) number: usize,
    /// What may alert.
    pub(super) bound: Bound,
}

impl Rare {
    pub(super) fn new(job: Job, span: Span) -> Self {
        Self { job, span, sites: BTreeMap::new() }
    }

    /// Sites that it knows values of.
    pub(super) fn sites(&self) -> u64 {
        self.sites.len() as u64
    }

    /// What it takes, bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.sites.values().map(|site| site.values.len() as u64 * VALUE_BYTES).sum()
    }

    /// Tells what is rare in a bucket, then learns it. `inputs` are ordered by key.
    pub(super) fn score(&mut self, bucket: &Moment<'_>, inputs: &[Input<'_>], records: &mut Vec<AnomalyRecord>) {
        let span_s = self.span.seconds();
        for own in inputs.chunk_by(|a, b| a.site == b.site) {
            let Some(first) = own.first() else { continue };
            let met = own.iter().filter(|input| input.window.counters.events > 0);
            let known = self.sites.entry(first.site).or_default();
            let mut learnt = Vec::new();
            for input in met {
                let value = known.values.get(input.subject).copied().unwrap_or_default();
                let skip = bucket.quiet.skip(bucket.number, input.name, input.subject);
                let skip = skip.or(heed_rules(&self.job, bucket.start, input, value.met));
                if !skip.result {
                    records.extend(tell(&self.job, self.span, bucket, &known.novelty, input, value.met));
                }
                if !skip.model_update {
                    learnt.push((input.subject, value.met));
                }
            }
            known.novelty.learn(learnt.iter().map(|(_, met)| *met), span_s);
            for (subject, _) in learnt {
                let value = known.values.entry(subject.clone()).or_default();
                (value.met, value.last) = (value.met.saturating_add(1), bucket.start);
            }
            known.make_room();
        }
        // A site of which nothing has a value was heard all the same.
        let learnt: BTreeSet<u32> = inputs.iter().map(|input| input.site).collect();
        for (number, site) in self.sites.iter_mut().filter(|(number, _)| !learnt.contains(number)) {
            if matches!(bucket.presence.get(*number as usize), Some(Presence::Present { complete: true, .. })) {
                site.novelty.learn([], span_s);
            }
        }
    }

    /// Forgets values that were not met for long.
    pub(super) fn forget(&mut self, now: EventMillis) {
        let before = now.saturating_sub(FORGET_AFTER_MS);
        self.sites.values_mut().for_each(|site| site.values.retain(|_, value| value.last >= before));
    }

    /// What it has learnt, between two buckets.
    pub(super) fn stored(&self) -> RareState {
        let site = |(number, site): (&u32, &Site)| RareSite {
            site: *number,
            heard: site.novelty.heard,
            buckets: site.novelty.buckets,
            met: site.novelty.met.to_vec(),
            subject: site.values.keys().map(encoded).collect(),
            count: site.values.values().map(|value| value.met).collect(),
            last: site.values.values().map(|value| value.last).collect(),
        };
        RareState { job: self.job.id.clone(), sites: self.sites.iter().map(site).collect() }
    }

    /// Takes back what [`stored`](Self::stored) gave.
    pub(super) fn restore(&mut self, state: &RareState) -> Result<(), Unreadable> {
        if state.job != self.job.id {
            return Err(Unreadable::because(format!("it is of job {:?}, not {:?}", state.job, self.job.id)));
        }
        self.sites.clear();
        for state in &state.sites {
            let met = state.met.as_slice().try_into().map_err(Unreadable::because)?;
            let mut site =
                Site { novelty: Novelty { heard: state.heard, buckets: state.buckets, met }, values: BTreeMap::new() };
            if [state.count.len(), state.last.len()] != [state.subject.len(); 2] || state.subject.len() > MOST_VALUES {
                return Err(Unreadable::because("a site's values are not one each"));
            }
            for (subject, (met, last)) in state.subject.iter().zip(state.count.iter().zip(&state.last)) {
                let subject = Subject::decode(subject).map_err(Unreadable::because)?;
                site.values.insert(subject, Value { met: *met, last: *last });
            }
            self.sites.insert(state.site, site);
        }
        Ok(())
    }
}

impl Site {
    fn make_room(&mut self) {
        let beyond = self.values.len().saturating_sub(MOST_VALUES);
        if beyond == 0 {
            return;
        }
        let mut oldest: Vec<_> =
            self.values.iter().map(|(subject, value)| (value.last, value.met, subject.clone())).collect();
        oldest.sort_unstable();
        oldest.truncate(beyond);
        oldest.iter().for_each(|(.., subject)| {
            self.values.remove(subject);
        });
    }
}

fn encoded(subject: &Subject) -> Vec<u8> {
    let mut bytes = Vec::new();
    subject.encode(&mut bytes);
    bytes
}

fn heed_rules(job: &Job, start: EventMillis, input: &Input<'_>, met: u32) -> Skip {
    let (site, subject, typical) = (input.name, input.subject, f64::from(met));
    let actual = input.window.counters.events as f64;
    let judged = custom_rule::Judged { site, subject, start, actual, typical };
    job.rules.iter().fold(Skip::default(), |skip, rule| skip.or(rule.skip(&judged)))
}

fn tell(
    job: &Job,
    span: Span,
    bucket: &Moment<'_>,
    novelty: &Novelty,
    input: &Input<'_>,
    met: u32,
) -> Option<AnomalyRecord> {
    let l = novelty.decades(met, span.seconds()) + DECADES_TO_L;
    let (score, actual) = (record_score(l), input.window.counters.events as f64);
    if novelty.buckets < LEAST_BUCKETS || score < LEAST_SCORE || actual < job.minimum_effect {
        return None;
    }
    let complete = matches!(bucket.presence.get(input.site as usize), Some(Presence::Present { complete: true, .. }));
    Some(AnomalyRecord {
        job: job.id.clone(),
        bucket_start: bucket.start,
        bucket_span: span,
        site: input.name.cloned(),
        dimension: bucket.split.dimension(),
        value: input.subject.to_string(),
        function: job.function.name().to_owned(),
        measure: job.measure,
        actual,
        typical: f64::from(met),
        lower: f64::from(met),
        upper: f64::from(met),
        record_score: score,
        initial_record_score: score,
        probability: libm::exp10(-l).clamp(0.0, 1.0),
        multi_bucket_impact: -5.0,
        finalised: 0,
        finalised_ms: 0,
        incomplete: !complete,
        late: false,
        early: false,
        buckets_seen: u32::try_from(novelty.heard).unwrap_or(u32::MAX),
        contributors: contributors::of(input.window).into_iter().map(|known| known.contributor).collect(),
        companions: Vec::new(),
        parts: Vec::new(),
        alert_from: bucket.bound.alert_from(l),
    })
}
