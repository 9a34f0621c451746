//! Scores ahead of a bucket's end: what its windows hold so far only grows, so what is unusual already will be.
//!
//! Nothing is learnt here. The models have learnt the buckets that were scored, perhaps not yet the one before the open
//! one; the finished bucket is scored again in any case, and its word is the last.

use std::collections::BTreeMap;

use spikewatch_domain::{
    key::{SiteName, Subject},
    record::EventMillis,
    shard::Sharding,
    window::Measure,
};
use spikewatch_proto::{
    convert::{
        early::{Limits, NO_LIMITS, push_wire},
        results::AnomalyRecord,
    },
    v1,
};

use super::{Global, Row, Scoring, sites, table};
use crate::job::{Job, Split};

/// Least share of the network's events that a site is looked at early for.
const LEAST_SHARE: f64 = 0.01;

/// From which score on a job's records make alerts, and after how many buckets of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) threshold: f64,
    pub(crate) buckets: u32,
}

impl Scoring {
    /// Anomaly records of open windows: those of `rows`, and of the whole network if its sites' windows so far, in
    /// `sites`, are more than is usual for all of the bucket.
    pub(crate) fn early(&self, start: EventMillis, rows: &[Row], sites: &[Row]) -> Vec<AnomalyRecord> {
        let mut records = Vec::new();
        let (global, bounds) = (Global::of(sites), self.bounds());
        let heeded = (&self.calendars, &bounds);
        for table in &self.tables {
            match table.split() {
                Split::Global => {
                    if let Some(Global { window, sites: extra }) = &global {
                        let input =
                            table::Input { site: sites::GLOBAL, name: None, subject: &Subject::Site, window, extra };
                        table.early(start, &input, heeded, &mut records);
                    }
                }
                split @ Split::By(_) => {
                    for row in rows.iter().filter(|row| split.takes(&row.subject)) {
                        let Some(site) = self.sites.number(&row.site) else { continue };
                        let (name, subject, window) = (Some(&row.site), &row.subject, &row.window);
                        let input = table::Input { site, name, subject, window, extra: &[] };
                        table.early(start, &input, heeded, &mut records);
                    }
                }
            }
        }
        records
    }

    /// By shard, the values at which the bucket that starts at `next` makes an alert; each but for shard and epoch.
    pub(crate) fn tripwires(
        &self,
        next: EventMillis,
        shards: u32,
        wanted: impl Fn(&Job) -> Option<Wanted>,
    ) -> Vec<v1::Tripwires> {
        let names: Vec<&SiteName> = self.sites.names();
        let mut shardings: Vec<Sharding> = names.iter().map(|name| Sharding::new(name, shards)).collect();
        let empty = || v1::Tripwires {
            bucket_start_ms: next,
            baseline_version: self.sites.newest().unwrap_or(0),
            sites: names.iter().map(ToString::to_string).collect(),
            ..v1::Tripwires::default()
        };
        let mut messages: Vec<v1::Tripwires> = (0..shards).map(|_| empty()).collect();
        let bounds = self.bounds();
        // A site's own series and its part of the global one are of one window.
        let mut of_sites: BTreeMap<u32, Limits> = BTreeMap::new();
        for table in &self.tables {
            table.limits((next, &bounds), &wanted, |site, subject, limits| match (table.split(), subject) {
                (Split::Global, _) => {
                    for (number, share) in self.shares() {
                        let own = of_sites.entry(number).or_insert(NO_LIMITS);
                        let part = |limit: u64| if limit == u64::MAX { limit } else { (limit as f64 * share) as u64 };
                        own.iter_mut().zip(limits).for_each(|(own, limit)| *own = part(*limit).min(*own));
                    }
                }
                (_, Subject::Site) => {
                    let own = of_sites.entry(site).or_insert(NO_LIMITS);
                    own.iter_mut().zip(limits).for_each(|(own, limit)| *own = (*limit).min(*own));
                }
                (_, subject) => wire(&mut shardings, &mut messages, site, subject, limits),
            });
        }
        for (site, limits) in of_sites {
            wire(&mut shardings, &mut messages, site, &Subject::Site, &limits);
        }
        messages
    }

    /// The sites that had a part in the network's events in the last bucket, by number, with their shares.
    fn shares(&self) -> impl Iterator<Item = (u32, f64)> {
        let total: u64 = self.last_events.iter().map(|(_, events)| events).sum();
        let share = move |events: u64| events as f64 / total.max(1) as f64;
        let shares = self.last_events.iter().map(move |(site, events)| (*site, share(*events)));
        shares.filter(|(_, share)| *share >= LEAST_SHARE)
    }
}

/// Appends to the message of the key's shard. Sites are numbered from 1: 0 stands for all of them.
fn wire(shardings: &mut [Sharding], messages: &mut [v1::Tripwires], site: u32, subject: &Subject, limits: &Limits) {
    let Some(index) = site.checked_sub(1) else { return };
    let shard = shardings.get_mut(index as usize).map(|sharding| sharding.shard_of(subject));
    if let Some(message) = shard.and_then(|shard| messages.get_mut(shard as usize)) {
        push_wire(message, index, subject, limits);
    }
}

/// Where a measure stands among limits.
pub(super) fn place(measure: Measure) -> usize {
    Measure::ALL.iter().position(|other| *other == measure).unwrap_or_default()
}
