//! What calendars leave out of the series of one split in one bucket.

use std::ops::Range;

use spikewatch_domain::{
    key::{SiteName, Subject},
    record::EventMillis,
    span::Span,
};

use super::judge::Verdict;
use crate::{
    calendar::{Calendars, Quiet, Skip},
    job::Job,
};

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

    /// Takes the scores from the verdicts that are not wanted.
    pub(super) fn hush(&self, verdicts: &mut [Verdict], site: Option<&SiteName>, subject: &Subject) {
        if self.is_empty() {
            return;
        }
        for (job, verdict) in verdicts.iter_mut().enumerate() {
            if self.skip(job, site, subject).result {
                verdict.score = 0.0;
            }
        }
    }
}
