//! Open windows that crossed a tripwire: what they hold so far goes to the detector ahead of their bucket's end.
//!
//! Partial sums only grow, so what is over a limit stays over it. A window is sent when it crosses, and again when it has
//! grown by a quarter, so that a window that was not enough yet is looked at again, and no window is sent often.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use spikewatch_domain::{
    key::{SiteName, Subject},
    record::EventMillis,
    window::{Counters, Measure},
};
use spikewatch_proto::convert::early::{Limits, Tripwires};

use super::{Content as _, Core, Part, Slot, Windows};

/// Keys that are sent early of one shard and bucket, at most; the rest waits for the bucket's end.
const MOST_KEYS: usize = 1000;

/// A key's measures, in the order of [`Measure::ALL`].
type Values = [u64; Measure::ALL.len()];

/// The tripwires of a shard, and what crossed them.
#[derive(Debug, Default)]
pub(crate) struct Tripping {
    /// The bucket from which on they hold.
    from: EventMillis,
    versions: (u64, u64),
    /// Only ever looked up in, so that no order of it shows.
    limits: BTreeMap<SiteName, HashMap<Subject, Limits>>,
    /// What was sent of each key that crossed.
    sent: BTreeMap<EventMillis, BTreeMap<(SiteName, Subject), Values>>,
}

impl Tripping {
    /// Takes newer tripwires; those before are void.
    pub(crate) fn replace(&mut self, wires: Tripwires) {
        self.from = wires.bucket;
        self.versions = (wires.baseline_version, wires.rule_version);
        self.limits.clear();
        for (site, subject, limits) in wires.wires {
            self.limits.entry(site).or_default().insert(subject, limits);
        }
    }

    /// The versions of baselines and rules that the tripwires come from.
    pub(crate) fn versions(&self) -> (u64, u64) {
        self.versions
    }

    /// Nothing can trip.
    pub(crate) fn is_idle(&self) -> bool {
        self.limits.is_empty()
    }

    /// True if the values cross, and that is news.
    fn crosses(&self, bucket: EventMillis, site: &SiteName, subject: &Subject, values: &Values) -> bool {
        let Some(limits) = self.limits.get(site).and_then(|own| own.get(subject)) else { return false };
        let crossed = || values.iter().zip(limits).enumerate().filter(|(_, (value, limit))| value >= limit);
        if crossed().next().is_none() {
            return false;
        }
        let of_bucket = self.sent.get(&bucket);
        match of_bucket.and_then(|sent| sent.get(&(site.clone(), subject.clone()))) {
            Some(sent) => crossed().any(|(at, (value, _))| grown(sent.get(at).copied().unwrap_or(0), *value)),
            None => of_bucket.map_or(0, BTreeMap::len) < MOST_KEYS,
        }
    }
}

/// By a quarter.
fn grown(from: u64, to: u64) -> bool {
    to > from.saturating_add(from / 4)
}

impl Core<Windows> {
    /// Open windows that cross a tripwire and are news, by bucket.
    pub(crate) fn early(&self, tripping: &mut Tripping) -> Vec<Part<Windows>> {
        tripping.sent.retain(|bucket, _| *bucket >= self.sealed_until);
        let mut parts = Vec::new();
        for (bucket, slots) in self.open.range(tripping.from..) {
            let Some(slot) = slots.get(bucket) else { continue };
            let sites: BTreeMap<SiteName, Windows> = by_site(slot)
                .into_iter()
                .filter_map(|(site, contents)| {
                    let crossing = crossing(tripping, *bucket, site, &contents);
                    (!crossing.is_empty()).then(|| (site.clone(), pick(&contents, &crossing)))
                })
                .collect();
            if !sites.is_empty() {
                parts.push(Part { bucket: *bucket, sites, incomplete: BTreeSet::new() });
            }
        }
        parts
    }
}

/// Contents of each site in collector order.
fn by_site(slot: &Slot<Windows>) -> BTreeMap<&SiteName, Vec<&Windows>> {
    let mut sites: BTreeMap<&SiteName, Vec<&Windows>> = BTreeMap::new();
    slot.iter().for_each(|(of, content)| sites.entry(&of.site).or_default().push(content));
    sites
}

/// The keys of a site that cross, which are noted as sent.
fn crossing(tripping: &mut Tripping, bucket: EventMillis, site: &SiteName, contents: &[&Windows]) -> BTreeSet<Subject> {
    let mut found: BTreeMap<Subject, Values> = BTreeMap::new();
    if !tripping.limits.contains_key(site) {
        return BTreeSet::new();
    }
    match contents {
        // Most sites have one collector: nothing has to be added up.
        [only] => only.each(|subject, values| {
            if tripping.crosses(bucket, site, subject, &values) {
                found.insert(subject.clone(), values);
            }
        }),
        several => {
            let mut sums: BTreeMap<Subject, Values> = BTreeMap::new();
            for content in several {
                content.each(|subject, values| add(sums.entry(subject.clone()).or_default(), &values));
            }
            sums.retain(|subject, values| tripping.crosses(bucket, site, subject, values));
            found = sums;
        }
    }
    let sent = tripping.sent.entry(bucket).or_default();
    for (subject, values) in &found {
        sent.insert((site.clone(), subject.clone()), *values);
    }
    found.into_keys().collect()
}

/// Sums; of distinct counts the larger, which two collectors together reach at least.
fn add(sum: &mut Values, values: &Values) {
    for ((measure, sum), value) in Measure::ALL.iter().zip(sum).zip(values) {
        let distinct = matches!(measure, Measure::DistinctPeers | Measure::DistinctPeerPorts);
        *sum = if distinct { (*sum).max(*value) } else { sum.saturating_add(*value) };
    }
}

/// The windows of these keys, merged.
fn pick(contents: &[&Windows], keys: &BTreeSet<Subject>) -> Windows {
    let mut picked = Windows::default();
    contents.iter().for_each(|content| picked.absorb(content.only(keys)));
    picked
}

/// The measures of a window, told what it counts.
pub(super) fn values(counters: &Counters, peers: u64, ports: u64) -> Values {
    let Counters { events, bytes_out, bytes_in, packets_out, packets_in, denied, .. } = *counters;
    [events, bytes_out, bytes_in, packets_out, packets_in, peers, ports, u64::from(denied)]
}

#[cfg(test)]
mod tests {
    use spikewatch_domain::window::Window;
    use spikewatch_proto::convert::{cluster::Epoch, early::NO_LIMITS};

    use super::*;

    const BUCKET: EventMillis = 900_000;

    fn site() -> SiteName {
        "berlin".parse().unwrap()
    }

    fn windows(of: &[(u32, u64)]) -> Windows {
        let mut windows = Windows::default();
        for (asn, events) in of {
            let counters = Counters { events: *events, ..Counters::default() };
            windows.absorb(Windows::one(Subject::Asn(*asn), Window { counters, ..Window::default() }));
        }
        windows
    }

    fn tripping(limits: &[(u32, u64)]) -> Tripping {
        let mut tripping = Tripping::default();
        let wire = |(asn, events): &(u32, u64)| {
            let mut limits = NO_LIMITS;
            limits[0] = *events;
            (site(), Subject::Asn(*asn), limits)
        };
        tripping.replace(Tripwires {
            shard: 0,
            epoch: Epoch { lineage: [0; 16], number: 1 },
            bucket: BUCKET,
            baseline_version: 1,
            rule_version: 2,
            wires: limits.iter().map(wire).collect(),
        });
        tripping
    }

    fn crossed(tripping: &mut Tripping, contents: &[&Windows]) -> Vec<u32> {
        let keys = crossing(tripping, BUCKET, &site(), contents);
        keys.into_iter().map(|key| if let Subject::Asn(number) = key { number } else { 0 }).collect()
    }

    #[test]
    fn a_window_is_sent_when_it_crosses_and_when_it_has_grown_by_a_quarter() {
        let mut tripping = tripping(&[(1, 100), (2, 100)]);
        assert_eq!(crossed(&mut tripping, &[&windows(&[(1, 99), (2, 3), (3, 1_000)])]), Vec::<u32>::new());
        assert_eq!(crossed(&mut tripping, &[&windows(&[(1, 100), (2, 3)])]), [1]);
        assert_eq!(crossed(&mut tripping, &[&windows(&[(1, 125), (2, 101)])]), [2]);
        assert_eq!(crossed(&mut tripping, &[&windows(&[(1, 126), (2, 101)])]), [1]);
    }

    #[test]
    fn what_several_collectors_counted_is_added_up() {
        let mut tripping = tripping(&[(1, 100)]);
        let (one, other) = (windows(&[(1, 60)]), windows(&[(1, 60)]));
        assert_eq!(crossed(&mut tripping, &[&one]), Vec::<u32>::new());
        assert_eq!(crossed(&mut tripping, &[&one, &other]), [1]);
        let mut sum = 0;
        pick(&[&one, &other], &BTreeSet::from([Subject::Asn(1)])).each(|_, values| sum += values[0]);
        assert_eq!(sum, 120);
    }

    #[test]
    fn no_more_keys_than_a_thousand_are_sent_early() {
        let all: Vec<(u32, u64)> = (0..3_000).map(|asn| (asn, 10)).collect();
        let mut tripping = tripping(&all);
        assert!(crossed(&mut tripping, &[&windows(&all)]).len() >= MOST_KEYS);
        assert_eq!(crossed(&mut tripping, &[&windows(&[(5_000, 10)])]), Vec::<u32>::new());
    }
}
