//! Scoring: committed windows become evidence, evidence becomes anomaly records.
//!
//! It goes bucket by bucket over all shards in lockstep: a bucket is scored once every shard has committed past it, with
//! the calibration as it stood after the bucket before. So records don't depend on how shards, commits or threads are
//! interleaved, and replaying the commit log rebuilds the state exactly.

mod bound;
mod contributors;
mod early;
mod finding;
mod fleet;
mod joint;
mod judge;
mod late;
mod model;
mod quiet;
mod rare;
mod room;
mod series;
mod sites;
pub mod state;
mod table;
mod wide;

use std::collections::{BTreeMap, BTreeSet};

use spikewatch_domain::{
    key::{SiteName, Subject},
    record::EventMillis,
    span::Span,
    window::Window,
};
use spikewatch_proto::convert::results::AnomalyRecord;

pub(crate) use self::early::Wanted;
pub use self::late::{Change, Correction};
use self::{
    bound::{Bounds, Looks},
    sites::{Presence, Sites},
    table::{Context, Table},
    wide::Wide,
};
use crate::{
    calendar::Calendars,
    job::{Job, Split},
};

/// Least score that is kept.
pub const LEAST_SCORE: f64 = 1.0;
/// Most anomaly records of one job and bucket; the highest scores are kept and the rest is counted.
pub const MAX_RECORDS: usize = 10_000;

/// The part of the memory, one of so many, that hosts leave to all other series.
const RESERVED: u64 = 16;

/// One committed window.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The site.
    pub site: SiteName,
    /// What within it.
    pub subject: Subject,
    /// The window.
    pub window: Window,
    /// A member of the site was missing.
    pub incomplete: bool,
}

/// All that was committed of one bucket.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bucket {
    /// Its start.
    pub start: EventMillis,
    /// The windows, at most one per key, in any order.
    pub rows: Vec<Row>,
    /// Sites that a member was missing of.
    pub missing: BTreeSet<SiteName>,
}

/// What scoring one bucket gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scored {
    /// Anomaly records ordered by job, site and value; not numbered yet.
    pub records: Vec<AnomalyRecord>,
    /// Records beyond [`MAX_RECORDS`], which were left out.
    pub cut: u64,
    /// Windows whose key has no series: because there is no memory for it; and of a correction also because it is new.
    pub not_modelled: u64,
    /// Series that were forgotten to make room for others.
    pub shed: u64,
}

/// The state of all series.
#[derive(Debug)]
pub struct Scoring {
    span: Span,
    sites: Sites,
    tables: Vec<Table>,
    /// What baselines may take, and a bucket's windows while it is scored, bytes.
    memory: u64,
    /// Events of each site, by number, in the last bucket: how the network's limit is shared out. Not kept over a restart.
    last_events: Vec<(u32, u64)>,
    calendars: Calendars,
    /// Jobs with longer buckets, by length.
    wide: Vec<Wide>,
    /// False alerts a day that may be expected of all of it; 0: no bound.
    false_alerts_a_day: f64,
}

impl Scoring {
    /// Nothing learnt yet. Baselines, and a bucket's windows while it is scored, take at most `memory` bytes: beyond,
    /// those that were active least are forgotten. Jobs with longer buckets have half of it, if there are any.
    #[must_use]
    pub fn new(jobs: &[Job], span: Span, memory: u64) -> Self {
        let mut splits: BTreeMap<Split, Vec<Job>> = BTreeMap::new();
        let mut spans: BTreeMap<Span, Vec<Job>> = BTreeMap::new();
        for job in jobs {
            match job.bucket_span.filter(|own| *own != span) {
                None => splits.entry(job.split).or_default().push(job.clone()),
                Some(own) => spans.entry(own).or_default().push(job.clone()),
            }
        }
        let memory = if spans.is_empty() { memory } else { memory / 2 };
        let share = memory / (spans.len() as u64).max(1);
        let wide = spans.iter().map(|(span, jobs)| Wide::new(jobs, *span, share)).collect();
        let mut tables: Vec<_> = splits.into_iter().map(|(split, jobs)| Table::new(split, jobs, span)).collect();
        // Hosts have what the others leave.
        tables.sort_by_key(|table| table.split().is_by_host());
        let (sites, calendars, last_events) = (Sites::new(span), Calendars::default(), Vec::new());
        Self { span, sites, memory, tables, calendars, last_events, wide, false_alerts_a_day: 0.0 }
    }

    /// These calendars count for the buckets from now on.
    pub fn heed(&mut self, calendars: Calendars) {
        self.wide.iter_mut().for_each(|wide| wide.scoring.heed(calendars.clone()));
        self.calendars = calendars;
    }

    /// Of clean series rules may make at most so many alerts a day, as far as scores tell; 0: however many there are.
    pub fn bound(&mut self, false_alerts_a_day: f64) {
        self.false_alerts_a_day = false_alerts_a_day;
    }

    /// What the bound comes to for what is scored next. A function of what was learnt alone, so that it is the same after
    /// a restart.
    fn bounds(&self) -> Bounds {
        Bounds::of(self.false_alerts_a_day, self.looks())
    }

    /// What the jobs of each table look at.
    fn looks(&self) -> impl Iterator<Item = (Split, Looks)> {
        let wide = self.wide.iter().flat_map(|wide| &wide.scoring.tables);
        self.tables.iter().chain(wide).map(|table| (table.split(), table.looks()))
    }

    /// Series with a baseline, over all jobs.
    #[must_use]
    pub fn series(&self) -> u64 {
        let wide: u64 = self.wide.iter().map(|wide| wide.scoring.series()).sum();
        self.tables.iter().map(Table::series).sum::<u64>() + wide
    }

    /// What baselines take when they are grown, and their keys' windows while a bucket is scored, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let wide: u64 = self.wide.iter().map(|wide| wide.scoring.bytes()).sum();
        self.tables.iter().map(Table::bytes).sum::<u64>() + wide
    }

    #[cfg(test)]
    pub(super) fn bytes_of_a_host(&self) -> u64 {
        let by_host = self.tables.iter().find(|table| table.split().is_by_host());
        by_host.map_or(0, |table| table.bytes() / table.keys() as u64)
    }

    /// Scores and learns one bucket. Buckets come in order; those in which nothing was committed are left out.
    pub fn score(&mut self, bucket: Bucket) -> Scored {
        let bounds = self.bounds();
        self.score_within(bucket, &bounds)
    }

    fn score_within(&mut self, bucket: Bucket, bounds: &Bounds) -> Scored {
        let Bucket { start, mut rows, missing } = bucket;
        rows.sort_by(|a, b| a.site.cmp(&b.site).then_with(|| a.subject.cmp(&b.subject)));
        // A key belongs to one shard; should it come from two, both parts count.
        rows.dedup_by(|next, row| {
            let same = next.site == row.site && next.subject == row.subject;
            if same {
                row.window.merge(&next.window);
                row.incomplete |= next.incomplete;
            }
            same
        });
        let presence = self.sites.enter(start, &rows, &missing);
        let own = rows.iter().filter(|row| row.subject == Subject::Site);
        let own = own.filter_map(|row| Some((self.sites.number(&row.site)?, row.window.counters.events)));
        self.last_events = own.collect();
        let global =
            self.tables.iter().any(|table| table.split() == Split::Global).then(|| Global::of(&rows)).flatten();
        let mut scored = Scored::default();
        let overflowing = rows.iter().filter(|row| row.subject == Subject::Overflow);
        let overflowing: BTreeSet<u32> = overflowing.filter_map(|row| self.sites.number(&row.site)).collect();
        let (names, calendars) = (&self.sites.by_number(), &self.calendars);
        let context = Context { presence: &presence, names, calendars, overflowing: &overflowing, bounds };
        let mut taken: u64 = self.tables.iter().map(Table::bytes).sum();
        for table in &mut self.tables {
            // A table may have what the others leave; hosts, of which there are many, leave them something in any case.
            let before = table.bytes();
            let reserved = if table.split().is_by_host() { self.memory / RESERVED } else { 0 };
            let room = self.memory.saturating_sub(taken.saturating_sub(before).max(reserved));
            match table.split() {
                Split::Global => {
                    let whole = global.as_ref().map(|global| table::Input {
                        site: sites::GLOBAL,
                        name: None,
                        subject: &Subject::Site,
                        window: &global.window,
                        extra: &global.sites,
                    });
                    table.score((start, room), whole.as_slice(), &context, &mut scored);
                }
                split @ Split::By(_) => {
                    let own = rows.iter().filter(|row| split.takes(&row.subject));
                    let inputs: Vec<_> = own
                        .filter_map(|row| {
                            Some(table::Input {
                                site: self.sites.number(&row.site)?,
                                name: Some(&row.site),
                                subject: &row.subject,
                                window: &row.window,
                                extra: &[],
                            })
                        })
                        .collect();
                    table.score((start, room), &inputs, &context, &mut scored);
                }
            }
            taken = taken.saturating_sub(before).saturating_add(table.bytes());
        }
        for wide in &mut self.wide {
            wide.take((start, self.span.end(start)), &rows, &missing, bounds, &mut scored);
        }
        // Within a job they are in key order already, and the sort is stable.
        scored.records.sort_by(|a, b| a.job.cmp(&b.job));
        scored
    }

    /// Length of the buckets.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }
}

/// The sum of the site windows.
#[derive(Default)]
struct Global {
    window: Window,
    sites: Vec<contributors::Known>,
}

impl Global {
    fn of(rows: &[Row]) -> Option<Self> {
        let mut sites = rows.iter().filter(|row| row.subject == Subject::Site).peekable();
        sites.peek()?;
        let mut window = Window::default();
        let mut parts = Vec::new();
        for row in sites {
            window.merge(&row.window);
            parts.push(contributors::site(row));
        }
        Some(Self { window, sites: contributors::heaviest(parts) })
    }
}

#[cfg(test)]
mod tests;
