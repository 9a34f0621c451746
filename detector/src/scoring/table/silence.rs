//! Series without a window: what that teaches.

use std::collections::{BTreeMap, BTreeSet};

use spikewatch_domain::{
    key::{Dimension, SiteName},
    record::EventMillis,
    span::Span,
    window::Window,
};
use spikewatch_proto::convert::results::AnomalyRecord;

use super::{
    super::{
        LEAST_SCORE, Presence,
        bound::Bound,
        finding::Judged,
        joint::{Joint, Says},
        judge::{Judge, Verdict},
        model::Model,
        quiet::{Place, Quietened},
        series::Known,
    },
    Context, Input, Table, seconds,
};
use crate::job::Split;

impl Table {
    /// Series of sites that were silent for a while and are back were 0 meanwhile.
    pub(super) fn return_from_silence(&mut self, context: &Context<'_>) {
        let presence = context.presence;
        let zeros = |site: u32| match presence.get(site as usize) {
            Some(Presence::Present { zeros, .. }) => zeros.as_slice(),
            _ => &[],
        };
        if (0..presence.len()).all(|site| zeros(site as u32).is_empty()) {
            return;
        }
        let starts: BTreeSet<EventMillis> = (0..presence.len()).flat_map(|site| zeros(site as u32)).copied().collect();
        let quiet = |start| (start, self.quiet(context.calendars, start));
        let quiet: BTreeMap<EventMillis, _> = starts.into_iter().map(quiet).collect();
        let joint_jobs = self.joint_jobs();
        for (known, models) in self.series.iter_mut() {
            for (start, quiet) in zeros(known.site).iter().filter_map(|start| quiet.get_key_value(start)) {
                let name = context.name(known.site);
                self.said.clear();
                for (job, (model, judge)) in models.iter_mut().zip(&mut self.judges).enumerate() {
                    let place = Place { start: *start, site: name, subject: &known.subject };
                    let learn = quiet.learns_silence(job, judge, model, &place);
                    self.said.push(judge.silence(model, seconds(*start), learn));
                }
                if !quiet.is_unlearnt(joint_jobs.clone(), name, &known.subject) {
                    learn_joint_silence(self.joint.as_mut(), known, &self.said, seconds(*start));
                }
            }
        }
    }

    /// Series without a window in a bucket in which all of their site is known were 0: jobs that look for too little
    /// may tell that, then it is learnt. That a whole site was silent is told of its own series alone, and learnt when
    /// it is back.
    pub(super) fn learn_silence(
        &mut self,
        start: EventMillis,
        context: &Context<'_>,
        quiet: &Quietened<'_>,
        records: &mut [Vec<AnomalyRecord>],
    ) {
        let (presence, joint_jobs) = (context.presence, self.joint_jobs());
        let (span, split) = (self.span, self.split);
        let tells = self.judges.iter().any(Judge::tells_silence);
        let silence = Silence { start, span, split, quiet, bound: context.bounds.of_split(split) };
        let mut told = false;
        for (known, models) in self.series.iter_mut() {
            let (complete, vouched) = match presence.get(known.site as usize) {
                Some(Presence::Present { complete, .. }) => (*complete, *complete),
                Some(Presence::Silent { vouched }) => (false, *vouched && split == Split::By(Dimension::Site)),
                None => (false, false),
            };
            if known.seen == start || !vouched {
                continue;
            }
            let name = context.name(known.site);
            // Who found no room among a site's keys has no window, either.
            if tells && !(split.is_by_host() && context.overflowing.contains(&known.site)) {
                told |= silence.tell(&self.judges, models, known, name, records);
            }
            if !complete {
                continue;
            }
            self.said.clear();
            for (job, (model, judge)) in models.iter_mut().zip(&mut self.judges).enumerate() {
                judge.count_silence();
                let place = Place { start, site: name, subject: &known.subject };
                let learn = quiet.learns_silence(job, judge, model, &place);
                self.said.push(judge.silence(model, seconds(start), learn));
            }
            if !quiet.is_unlearnt(joint_jobs.clone(), name, &known.subject) {
                learn_joint_silence(self.joint.as_mut(), known, &self.said, seconds(start));
            }
        }
        if told {
            let key = |record: &AnomalyRecord| (record.site.clone(), record.value.clone());
            records.iter_mut().for_each(|own| own.sort_by_cached_key(key));
        }
    }
}

/// What silence is judged with.
struct Silence<'a> {
    start: EventMillis,
    span: Span,
    split: Split,
    quiet: &'a Quietened<'a>,
    bound: Bound,
}

impl Silence<'_> {
    /// Adds what is unusual of a series without a window. True if there may be something.
    fn tell(
        &self,
        judges: &[Judge],
        models: &[Model],
        known: &Known,
        name: Option<&SiteName>,
        records: &mut [Vec<AnomalyRecord>],
    ) -> bool {
        let &Self { start, span, split, quiet, bound } = self;
        let say = |(model, judge): (&Model, &Judge)| {
            let value = judge.silent().filter(|_| judge.tells_silence())?;
            Some(judge.judge(model, seconds(start), value))
        };
        let mut verdicts: Vec<Option<Verdict>> = models.iter().zip(judges).map(say).collect();
        quiet.hush(judges, &mut verdicts, &Place { start, site: name, subject: &known.subject });
        if !verdicts.iter().flatten().any(|verdict| verdict.score >= LEAST_SCORE) {
            return false;
        }
        let (window, verdicts) = (Window::default(), verdicts.as_slice());
        let input = &Input { site: known.site, name, subject: &known.subject, window: &window, extra: &[] };
        let (learn, so_far, before, joint) = (true, false, None, None);
        Judged { start, span, split, input, learn, judges, models, verdicts, before, so_far, joint, bound }
            .tell(records);
        true
    }
}

fn learn_joint_silence(joint: Option<&mut Joint>, known: &mut Known, said: &[Option<Says>], t: i64) {
    if let Some((joint, host)) = joint.zip(known.host.as_deref_mut()) {
        let measured = joint.measured(t, None, said);
        let judged = host.judge(&measured);
        joint.learn(host, &measured, &judged);
    }
}
