//! Bounded dimensions of a site, like the service port: every share of the site counts in one window of its value, by
//! counters only. The heaviest values have windows of their own, the rest shares that of `(other)`; together they are the
//! site's window, to the byte.
//!
//! A baseline needs its value there in every bucket, so who has a window is decided between buckets, never within one:
//! what was among the heaviest `limit` of a bucket has one from the next bucket on, and keeps it for as long as it stays
//! among the heaviest `2 × limit`. Only the first bucket, of which nothing is known before, decides slice by slice.

use std::{collections::BTreeMap, hash::Hash};

use hashbrown::HashMap;
use rapidhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use spikewatch_domain::{
    key::{Dimension, SiteName, Subject},
    record::EventMillis,
    shard::shard_of,
    span::Span,
    top::EVENT_WEIGHT,
    window::{Counters, Window},
};

use crate::summarise::Slice;

/// Counts held at once, over all slices that are not taken; beyond, shares count in `(other)` at once. Four slices in
/// which each of the 65,536 ports occurs, in 16 MiB.
const MOST_HELD: usize = 1 << 18;

/// A value of a bounded dimension.
pub trait Value: Copy + Ord + Hash {
    /// Its dimension.
    const DIMENSION: Dimension;

    /// The key of its window.
    fn subject(self) -> Subject;
}

/// The service port.
impl Value for u16 {
    const DIMENSION: Dimension = Dimension::Port;

    fn subject(self) -> Subject {
        Subject::Port(self)
    }
}

/// One slice, as far as it is filled: exact counts of each value.
#[derive(Debug)]
struct Open<V> {
    counts: HashMap<V, Counters, RandomState>,
    /// What came past [`MOST_HELD`].
    other: Option<Counters>,
}

impl<V> Default for Open<V> {
    fn default() -> Self {
        Self { counts: HashMap::default(), other: None }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Values<V: Eq + Hash> {
    site: SiteName,
    shards: u32,
    bucket: Span,
    limit: usize,
    /// The slice that the last share was of: the next one is too, but for stragglers.
    filling: (EventMillis, Open<V>),
    /// All others.
    open: BTreeMap<EventMillis, Open<V>>,
    /// Counts in `filling` and `open`.
    held: usize,
    overflowed: u64,
    standing: Standing<V>,
}

/// Who has a window, and what decides who will have one: all that is remembered from slice to slice.
#[derive(Debug, Deserialize, Serialize)]
#[serde(bound(serialize = "V: Serialize", deserialize = "V: Deserialize<'de> + Eq + Hash"))]
pub struct Standing<V: Eq + Hash> {
    /// Values with windows of their own, in order.
    admitted: Vec<V>,
    /// What the values weighed in the bucket so far.
    #[serde(with = "crate::saved_map")]
    weights: HashMap<V, u64, RandomState>,
    /// The bucket that `weights` are of.
    current: Option<EventMillis>,
    /// A bucket has ended, and what it held decides.
    settled: bool,
}

impl<V: Eq + Hash> Default for Standing<V> {
    fn default() -> Self {
        Self { admitted: Vec::new(), weights: HashMap::default(), current: None, settled: false }
    }
}

impl<V: Value> Values<V> {
    /// Gives windows to the `limit` heaviest values; counts nothing at all if it is 0.
    #[must_use]
    pub fn new(site: SiteName, shards: u32, bucket: Span, limit: usize) -> Self {
        Self {
            site,
            shards,
            bucket,
            limit,
            filling: (0, Open::default()),
            open: BTreeMap::new(),
            held: 0,
            overflowed: 0,
            standing: Standing::default(),
        }
    }

    /// Counts a share of the site.
    pub fn add(&mut self, slice: EventMillis, value: V, counters: &Counters) {
        if self.limit == 0 {
            return;
        }
        if self.filling.0 != slice {
            let next = self.open.remove(&slice).unwrap_or_default();
            let (start, last) = std::mem::replace(&mut self.filling, (slice, next));
            self.open.insert(start, last);
        }
        let (_, filling) = &mut self.filling;
        if let Some(count) = filling.counts.get_mut(&value) {
            count.add(counters);
        } else if self.held < MOST_HELD {
            self.held += 1;
            filling.counts.insert(value, *counters);
        } else {
            self.overflowed += 1;
            filling.other.get_or_insert_default().add(counters);
        }
    }

    /// What is remembered from slice to slice. Between [`Values::take`] and the next share it is all there is.
    #[must_use]
    pub fn standing(&self) -> &Standing<V> {
        &self.standing
    }

    /// Goes on from what was remembered.
    pub fn restore(&mut self, standing: Standing<V>) {
        self.standing = standing;
    }

    /// Shares that were counted in `(other)` because too many values were held, since the beginning.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Adds the windows of all that was counted to the slices taken at the same time, whose site windows they are the
    /// parts of. `until` is the time up to which slices have ended.
    pub fn take(&mut self, slices: &mut Vec<Slice>, until: EventMillis) {
        let mut open = std::mem::take(&mut self.open);
        let (start, last) = std::mem::take(&mut self.filling);
        open.insert(start, last);
        self.held = 0;
        open.values()
            .flat_map(|slice| &slice.counts)
            .for_each(|(value, counters)| weigh(&mut self.standing.weights, *value, counters));
        if !self.standing.settled && !self.standing.weights.is_empty() {
            self.elect();
        }
        for (start, counted) in open {
            let rows = self.rows(counted);
            if rows.is_empty() {
                continue;
            }
            let at = slices.partition_point(|slice| slice.start < start);
            match slices.get_mut(at).filter(|slice| slice.start == start) {
                Some(slice) => slice.insert(rows),
                None => {
                    let mut slice = Slice { start, rows: Vec::new() };
                    slice.insert(rows);
                    slices.insert(at, slice);
                }
            }
        }
        let current = self.standing.current.unwrap_or_else(|| self.bucket.floor(until.saturating_sub(1)));
        let next = self.bucket.floor(until).max(current);
        self.standing.current = Some(next);
        if next > current && !self.standing.weights.is_empty() {
            self.elect();
            self.standing.settled = true;
            self.standing.weights.clear();
        }
    }

    /// The windows of one slice, in no order.
    fn rows(&self, counted: Open<V>) -> Vec<(u32, Subject, Window)> {
        let mut rest = counted.other;
        let mut rows = Vec::new();
        let mut push = |subject: Subject, counters| {
            let shard = shard_of(&self.site, &subject, self.shards);
            rows.push((shard, subject, Window { counters, ..Window::default() }));
        };
        for (value, counters) in counted.counts {
            if self.standing.admitted.binary_search(&value).is_ok() {
                push(value.subject(), counters);
            } else {
                rest.get_or_insert_default().add(&counters);
            }
        }
        if let Some(rest) = rest {
            push(Subject::Other(V::DIMENSION), rest);
        }
        rows
    }

    /// Ranks the values by weight, those without traffic that have a window after all others.
    fn elect(&mut self) {
        let mut ranked: Vec<(u64, V)> = self.standing.weights.iter().map(|(value, weight)| (*weight, *value)).collect();
        let silent = self.standing.admitted.iter().filter(|value| !self.standing.weights.contains_key(*value));
        ranked.extend(silent.map(|value| (0, *value)));
        ranked.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let places = ranked.into_iter().take(2 * self.limit).enumerate();
        let stays = |place: usize, value: &V| place < self.limit || self.standing.admitted.binary_search(value).is_ok();
        let mut admitted: Vec<V> =
            places.filter(|(place, (_, value))| stays(*place, value)).map(|(_, (_, value))| value).collect();
        admitted.sort_unstable();
        self.standing.admitted = admitted;
    }
}

fn weigh<V: Value>(weights: &mut HashMap<V, u64, RandomState>, value: V, counters: &Counters) {
    let weight = counters.bytes().saturating_add(counters.events.saturating_mul(EVENT_WEIGHT));
    if let Some(sum) = weights.get_mut(&value) {
        *sum = sum.saturating_add(weight);
    } else if weights.len() < MOST_HELD {
        weights.insert(value, weight);
    }
}

#[cfg(test)]
mod tests;
