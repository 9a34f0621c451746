//! Series without a window: what that teaches.

use std::collections::{BTreeMap, BTreeSet};

use spikewatch_domain::record::EventMillis;

use super::{
    super::{
        Presence,
        joint::{Joint, Says},
        quiet::Quietened,
        series::Known,
    },
    Context, Table, seconds,
};

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
                    let learn = quiet.is_empty() || !quiet.skip(job, name, &known.subject).model_update;
                    self.said.push(judge.silence(model, seconds(*start), learn));
                }
                if !quiet.is_unlearnt(joint_jobs.clone(), name, &known.subject) {
                    learn_joint_silence(self.joint.as_mut(), known, &self.said, seconds(*start));
                }
            }
        }
    }

    /// Series without a window in a bucket in which all of their site is known were 0. Silence makes no records.
    pub(super) fn learn_silence(&mut self, start: EventMillis, context: &Context<'_>, quiet: &Quietened<'_>) {
        let (presence, joint_jobs) = (context.presence, self.joint_jobs());
        for (known, models) in self.series.iter_mut() {
            let complete = matches!(presence.get(known.site as usize), Some(Presence::Present { complete: true, .. }));
            if known.seen == start || !complete {
                continue;
            }
            let name = context.name(known.site);
            self.said.clear();
            for (job, (model, judge)) in models.iter_mut().zip(&mut self.judges).enumerate() {
                judge.fleet.add(0.0);
                let learn = quiet.is_empty() || !quiet.skip(job, name, &known.subject).model_update;
                self.said.push(judge.silence(model, seconds(start), learn));
            }
            if !quiet.is_unlearnt(joint_jobs.clone(), name, &known.subject) {
                learn_joint_silence(self.joint.as_mut(), known, &self.said, seconds(start));
            }
        }
    }
}

fn learn_joint_silence(joint: Option<&mut Joint>, known: &mut Known, said: &[Says], t: i64) {
    if let Some((joint, host)) = joint.zip(known.host.as_deref_mut()) {
        let measured = joint.measured(t, None, said);
        let judged = host.judge(&measured);
        joint.learn(host, &measured, &judged);
    }
}
