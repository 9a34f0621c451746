//! What calendars leave out of the series of one split in one bucket.

use std::ops::Range;

use spikewatch_domain::{
    key::{SiteName, Subject},
    record::EventMillis,
    span::Span,
};

use super::{
    judge::{Judge, Verdict},
    model::Model,
};
use crate::{
    calendar::{Calendars, Quiet, Skip},
    job::Job,
};

/// A bucket of a series.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) start: EventMillis,
    /// None of the global series.
    pub(super) site: Option<&'a SiteName>,
    pub(super) subject: &'a Subject,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Quietened<'a> {
    /// By job; empty if no calendar is on for any of them.
    jobs: Vec<Quiet<'a>>,
}

impl<'a> Quietened<'a> {
    /// What is left out of the bucket that starts then, by job in this order.
    pub(super) fn of<'j>(
        calendars: &'a Calendars,
        start: EventMillis,
        span: Span,
        jobs: impl Iterator<Item = &'j Job>,
    ) -> Self {
        let on = calendars.on(start, span.end(start));
        if on.is_empty() {
            return Self::default();
        }
        let jobs: Vec<Quiet<'a>> = jobs.map(|job| Quiet::of(&on, job)).collect();
        if jobs.iter().all(Quiet::is_empty) { Self::default() } else { Self { jobs } }
    }

    /// True if nothing is.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// What is left out for one job's series.
    pub(super) fn skip(&self, job: usize, site: Option<&SiteName>, subject: &Subject) -> Skip {
        self.jobs.get(job).map(|quiet| quiet.skip(site, subject)).unwrap_or_default()
    }

    /// True if one of these jobs is not to learn a series.
    pub(super) fn is_unlearnt(&self, mut jobs: Range<usize>, site: Option<&SiteName>, subject: &Subject) -> bool {
        !self.is_empty() && jobs.any(|job| self.skip(job, site, subject).model_update)
    }

    /// Leaves out of the verdicts what these calendars and the jobs' custom rules say.
    pub(super) fn hush(&self, judges: &[Judge], verdicts: &mut [Option<Verdict>], place: &Place<'_>) {
        for (job, (verdict, judge)) in verdicts.iter_mut().zip(judges).enumerate() {
            let Some(verdict) = verdict else { continue };
            judge.heed_rules(verdict, place);
            if !self.is_empty() {
                verdict.leave_out(self.skip(job, place.site, place.subject));
            }
        }
    }

    /// True if a job learns that a series was silent.
    pub(super) fn learns_silence(&self, job: usize, judge: &Judge, model: &Model, place: &Place<'_>) -> bool {
        (self.is_empty() || !self.skip(job, place.site, place.subject).model_update)
            && !judge.unlearns_silence(model, place)
    }
}
