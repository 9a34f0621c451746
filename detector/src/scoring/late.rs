//! Corrections of buckets that were learnt before: what is unusual now that wasn't before.
//!
//! A corrected window is judged by what its series knows when the correction comes, at the time of day and week of its
//! bucket, and isn't learnt again. Of a bucket that was incomplete nothing was learnt, so there that is what was known
//! before it; otherwise the series has learnt the lower value and what came since, each with bounded influence.

use spikewatch_domain::{
    key::{SiteName, Subject},
    record::EventMillis,
    window::Window,
};
use spikewatch_proto::convert::results::AnomalyRecord;

use super::{
    Global, Row, Scored, Scoring,
    bound::Bounds,
    sites,
    table::{Input, Table},
};
use crate::job::Split;

/// A window before and after a correction.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The site.
    pub site: SiteName,
    /// What within it.
    pub subject: Subject,
    /// All that was known of it before; empty if nothing was.
    pub before: Window,
    /// The same with the correction.
    pub after: Window,
    /// A member of the site was missing.
    pub incomplete: bool,
}

/// What one row of late deltas changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Correction {
    /// Start of the bucket.
    pub start: EventMillis,
    /// The windows that change, in key order.
    pub changes: Vec<Change>,
    /// All site windows of the bucket before and after, if one of them changes.
    pub sites: Option<(Vec<Row>, Vec<Row>)>,
}

impl Scoring {
    /// Scores what a correction changes and learns nothing. Its records are late, and ordered as those of a bucket.
    #[must_use]
    pub fn correct(&self, correction: &Correction) -> Scored {
        let (mut scored, bounds) = (Scored::default(), self.bounds());
        for table in &self.tables {
            match table.split() {
                Split::Global => {
                    if let Some((before, after)) = &correction.sites {
                        self.correct_global((table, &bounds), correction.start, before, after, &mut scored.records);
                    }
                }
                split @ Split::By(_) => {
                    for change in correction.changes.iter().filter(|change| split.takes(&change.subject)) {
                        let known = self.correct_one((table, &bounds), correction.start, change, &mut scored.records);
                        scored.not_modelled += u64::from(!known);
                    }
                }
            }
        }
        scored.records.sort_by(|a, b| a.job.cmp(&b.job));
        scored
    }

    /// True if jobs look at the sum of all sites.
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.tables.iter().any(|table| table.split() == Split::Global)
    }

    fn correct_one(
        &self,
        (table, bounds): (&Table, &Bounds),
        start: EventMillis,
        change: &Change,
        records: &mut Vec<AnomalyRecord>,
    ) -> bool {
        let Some(site) = self.sites.number(&change.site) else { return false };
        let (name, subject, window) = (Some(&change.site), &change.subject, &change.after);
        let input = Input { site, name, subject, window, extra: &[] };
        table.judge_again(
            start,
            &input,
            Some(&change.before),
            (!change.incomplete, false),
            (&self.calendars, bounds),
            records,
        )
    }

    fn correct_global(
        &self,
        (table, bounds): (&Table, &Bounds),
        start: EventMillis,
        before: &[Row],
        after: &[Row],
        records: &mut Vec<AnomalyRecord>,
    ) {
        let Some(now) = Global::of(after) else { return };
        let before = Global::of(before).unwrap_or_default();
        let complete = after.iter().all(|row| !row.incomplete);
        let (site, subject, window) = (sites::GLOBAL, &Subject::Site, &now.window);
        let input = Input { site, name: None, subject, window, extra: &now.sites };
        table.judge_again(start, &input, Some(&before.window), (complete, false), (&self.calendars, bounds), records);
    }
}
