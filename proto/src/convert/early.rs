//! What makes alerts early: the detector's tripwires, and open windows that crossed them.

use spikewatch_domain::{
    key::{SiteName, Subject},
    record::EventMillis,
    window::Measure,
};

use super::{
    Invalid,
    cluster::{Epoch, Shape, at_most},
    windows::{self, MAX_ROWS, Row, append_sized},
};
use crate::v1;

/// Most sites that the tripwires of a shard may name.
const MAX_SITES: usize = 65_536;

/// By measure, in the order of [`Measure::ALL`], the least value that crosses; `u64::MAX` where none does.
pub type Limits = [u64; Measure::ALL.len()];

/// No value crosses.
pub const NO_LIMITS: Limits = [u64::MAX; Measure::ALL.len()];

/// The tripwires of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tripwires {
    /// The shard.
    pub shard: u32,
    /// The epoch of the owner that they are meant for.
    pub epoch: Epoch,
    /// The first bucket that they hold for, start in ms.
    pub bucket: EventMillis,
    /// The bucket that the baselines had learnt last, start in ms.
    pub baseline_version: u64,
    /// The rules' version.
    pub rule_version: u64,
    /// The keys that have some.
    pub wires: Vec<(SiteName, Subject, Limits)>,
}

impl Tripwires {
    /// Reads them.
    ///
    /// # Errors
    /// A field is missing, too long or too short, or holds what is no key.
    pub fn read(message: &v1::Tripwires) -> Result<Self, Invalid> {
        at_most("Tripwires.site", message.site.len(), MAX_ROWS)?;
        at_most("Tripwires.sites", message.sites.len(), MAX_SITES)?;
        let sites: Vec<SiteName> = message
            .sites
            .iter()
            .map(|name| {
                name.parse().map_err(|_| Invalid::new("Tripwires.sites", format!("{name:?} is no site's name")))
            })
            .collect::<Result<_, _>>()?;
        if message.measures.len() != message.site.len() {
            let problem = format!("{} for {} keys", message.measures.len(), message.site.len());
            return Err(Invalid::new("Tripwires.measures", problem));
        }
        let (mut keys, mut values) = (message.keys.as_slice(), message.value.iter());
        let mut wires = Vec::with_capacity(message.site.len());
        for (site, measures) in message.site.iter().zip(&message.measures) {
            let site = sites.get(*site as usize);
            let site = site.ok_or_else(|| Invalid::new("Tripwires.site", "names no site"))?;
            let subject = take_key(&mut keys)?;
            if measures >> Measure::ALL.len() != 0 {
                return Err(Invalid::new("Tripwires.measures", format!("{measures:#x} has bits of no measure")));
            }
            let mut limits = NO_LIMITS;
            for (bit, limit) in limits.iter_mut().enumerate() {
                if measures >> bit & 1 == 1 {
                    let value = values.next();
                    *limit = *value.ok_or_else(|| Invalid::new("Tripwires.value", "ends before the last measure"))?;
                }
            }
            wires.push((site.clone(), subject, limits));
        }
        if !keys.is_empty() || values.next().is_some() {
            return Err(Invalid::new("Tripwires.keys", "or its values go on after the last key"));
        }
        Ok(Self {
            shard: message.shard,
            epoch: Epoch::read("Tripwires.epoch", message.epoch.as_ref())?,
            bucket: message.bucket_start_ms,
            baseline_version: message.baseline_version,
            rule_version: message.rule_version,
            wires,
        })
    }
}

fn take_key(keys: &mut &[u8]) -> Result<Subject, Invalid> {
    let ends = || Invalid::new("Tripwires.keys", "ends before the last key");
    let (length, rest) = keys.split_first().ok_or_else(ends)?;
    let (key, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(ends)?;
    *keys = rest;
    Subject::decode(key).map_err(|error| Invalid::new("Tripwires.keys", error.to_string()))
}

/// Appends the limits of one key; `site` is an index into the message's sites.
pub fn push_wire(message: &mut v1::Tripwires, site: u32, subject: &Subject, limits: &Limits) {
    let crossed = limits.iter().enumerate().filter(|(_, limit)| **limit != u64::MAX);
    let mut measures = 0;
    for (bit, limit) in crossed {
        measures |= 1 << bit;
        message.value.push(*limit);
    }
    if measures != 0 {
        append_sized(&mut message.keys, |keys| subject.encode(keys));
        message.site.push(site);
        message.measures.push(measures);
    }
}

/// Open windows that crossed a tripwire.
#[derive(Debug, Clone, PartialEq)]
pub struct Early {
    /// The shard.
    pub shard: u32,
    /// The epoch that it is owned under.
    pub epoch: Epoch,
    /// The bucket, start in ms.
    pub bucket: EventMillis,
    /// What the windows hold so far; each names its site.
    pub rows: Vec<Row>,
}

impl Early {
    /// Reads them.
    ///
    /// # Errors
    /// A field is missing or out of its range.
    pub fn read(message: &v1::EarlyWindows, shape: &Shape) -> Result<Self, Invalid> {
        let part = message.windows.as_ref().ok_or_else(|| Invalid::new("EarlyWindows.windows", "is missing"))?;
        let inner = part.windows.as_ref().ok_or_else(|| Invalid::new("BucketWindows.windows", "is missing"))?;
        let rows = windows::read(inner)?;
        if rows.iter().any(|row| row.site.is_none()) {
            return Err(Invalid::new("EarlyWindows.windows", "has a window that names no site"));
        }
        Ok(Self {
            shard: shape.shard("EarlyWindows.shard", message.shard)?,
            epoch: Epoch::read("EarlyWindows.epoch", message.epoch.as_ref())?,
            bucket: shape.bucket_start("BucketWindows.bucket_start_ms", part.bucket_start_ms)?,
            rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn epoch() -> v1::Epoch {
        Epoch { lineage: [7; 16], number: 3 }.into()
    }

    fn limits() -> impl Strategy<Value = Limits> {
        let limit = prop_oneof![Just(u64::MAX), any::<u64>()];
        prop::array::uniform8(limit).prop_filter("one at least", |limits| limits.iter().any(|limit| *limit != u64::MAX))
    }

    proptest! {
        #[test]
        fn tripwires_come_back_as_they_were(wires in prop::collection::vec((0u32..3, any::<u32>(), limits()), 0..50)) {
            let sites = ["a", "b", "c"];
            let mut message = v1::Tripwires { shard: 5, epoch: Some(epoch()), ..v1::Tripwires::default() };
            message.sites.extend(sites.map(str::to_owned));
            for (site, asn, limits) in &wires {
                push_wire(&mut message, *site, &Subject::Asn(*asn), limits);
            }
            let read = Tripwires::read(&message).unwrap();
            let expected: Vec<_> = wires
                .into_iter()
                .map(|(site, asn, limits)| (sites[site as usize].parse().unwrap(), Subject::Asn(asn), limits))
                .collect();
            prop_assert_eq!(read.wires, expected);
        }

        #[test]
        fn whatever_a_message_holds_is_read_or_refused(
            keys in prop::collection::vec(any::<u8>(), 0..40),
            site in prop::collection::vec(0u32..3, 0..6),
            measures in prop::collection::vec(any::<u32>(), 0..6),
            value in prop::collection::vec(any::<u64>(), 0..20),
        ) {
            let sites = vec!["a".to_owned(), "b".to_owned()];
            let message = v1::Tripwires { keys, site, measures, value, sites, epoch: Some(epoch()), ..Default::default() };
            let _ = Tripwires::read(&message);
        }
    }

    #[test]
    fn a_key_without_limits_is_left_out() {
        let mut message = v1::Tripwires { epoch: Some(epoch()), ..v1::Tripwires::default() };
        push_wire(&mut message, 0, &Subject::Site, &NO_LIMITS);
        assert!(message.keys.is_empty() && message.site.is_empty());
    }
}
