//! Who a close waits for.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    ops::RangeInclusive,
};

use spikewatch_domain::record::EventMillis;
use spikewatch_proto::convert::{cluster::Incarnation, ingest::MAX_INCARNATIONS};

use super::{Content, Core, Lane};

/// How an incarnation stands with closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    /// Waited for, and named missing.
    Waited,
    /// Back-fill: not waited for, but its site misses something until it has said its last word.
    Draining,
    /// Over: a later incarnation took its place.
    Retired,
}

/// A collector's incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Member {
    /// When it was last heard of, ms; the open counts.
    pub(super) heard_ms: u64,
    /// It was absent when the shard was opened and was not heard of since.
    pub(super) absent: bool,
    pub(super) standing: Standing,
}

/// All lives of a collector: they lie side by side.
fn lives(of: &Incarnation) -> RangeInclusive<Incarnation> {
    Incarnation { id: [0; 16], ..of.clone() }..=Incarnation { id: [u8::MAX; 16], ..of.clone() }
}

/// A member that seals wait for. Only a place to look first: with a thousand members, their watermarks would otherwise cost
/// a look at all thousand each. It decides nothing, so that cores which differ in nothing else are equal.
#[derive(Debug, Clone, Default)]
pub(super) struct Holdup(Option<Incarnation>);

impl PartialEq for Holdup {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Holdup {}

impl Hash for Holdup {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl<W: Content> Core<W> {
    /// A stream of that incarnation was bound.
    pub(super) fn enrol(&mut self, of: &Incarnation, lane: &Lane, now_ms: u64) {
        let member = |standing| Member { heard_ms: now_ms, absent: false, standing };
        let standing = match lane {
            Lane::Live { draining } => {
                for (other, member) in self.members.range_mut(lives(of)).filter(|(other, _)| *other != of) {
                    let drains = draining.contains(&other.id);
                    member.standing = if drains { Standing::Draining } else { Standing::Retired };
                }
                for id in draining {
                    let earlier = Incarnation { id: *id, ..of.clone() };
                    self.members.entry(earlier).or_insert_with(|| member(Standing::Draining));
                }
                Standing::Waited
            }
            // Until the live one is here, somebody has to be waited for.
            Lane::BackFill => {
                let mut others = self.members.range(lives(of)).filter(|(other, _)| *other != of);
                if others.any(|(_, member)| member.standing == Standing::Waited) {
                    Standing::Draining
                } else {
                    Standing::Waited
                }
            }
        };
        self.members.insert(of.clone(), member(standing));
        self.forget_retired(of);
    }

    /// Keeps the number of a collector's incarnations bounded: of those that are over, nothing has to be known.
    fn forget_retired(&mut self, of: &Incarnation) {
        let known = self.members.range(lives(of)).count();
        let over = |(other, member): &(&Incarnation, &Member)| {
            member.standing == Standing::Retired && !self.streams.contains_key(*other)
        };
        let over: Vec<_> = self.members.range(lives(of)).filter(over).map(|(other, _)| other.clone()).collect();
        for other in over.into_iter().take(known.saturating_sub(MAX_INCARNATIONS)) {
            self.members.remove(&other);
        }
    }

    /// Forgets streams of incarnations that are over, once all that was taken of them is covered by their pairs.
    pub(super) fn forget_streams(&mut self) {
        if self.config.event_time {
            return;
        }
        let open = self.open.values().flat_map(BTreeMap::values).chain(self.late.values());
        let held: Vec<&Incarnation> = open.flat_map(BTreeMap::keys).collect();
        let members = &self.members;
        let over = |of: &Incarnation| members.get(of).is_none_or(|member| member.standing == Standing::Retired);
        self.streams.retain(|of, stream| stream.id.is_some() || !over(of) || held.contains(&of));
    }

    /// Members that closes wait for, and how far each vouches.
    pub(super) fn waited(&self, now_ms: u64) -> impl Iterator<Item = (&Incarnation, EventMillis)> {
        let members = self.members.iter().filter(move |(_, member)| self.waits_for(member, now_ms));
        members.map(|(of, _)| (of, self.passed(of)))
    }

    fn waits_for(&self, member: &Member, now_ms: u64) -> bool {
        let patience = self.opened.max_wait_ms.saturating_mul(2);
        let gone = member.absent || now_ms.saturating_sub(member.heard_ms) > patience;
        member.standing == Standing::Waited && (self.config.event_time || !gone)
    }

    /// How far all members vouch that closes wait for; where that seals nothing, any bound that seals nothing either.
    pub(super) fn least_passed(&mut self, now_ms: u64) -> EventMillis {
        let behind = |(of, member): &(&Incarnation, &Member)| {
            self.waits_for(member, now_ms) && self.passed(of) <= self.sealed_until
        };
        // From the last one on, as watermarks may well come in the order of members.
        let next = match &self.holdup.0 {
            Some(last) => self.members.range(last..).chain(self.members.range(..last)).find(behind),
            None => self.members.iter().find(behind),
        };
        if let Some((of, _)) = next {
            let (passed, of) = (self.passed(of), of.clone());
            self.holdup = Holdup(Some(of));
            return passed;
        }
        self.waited(now_ms).map(|(_, passed)| passed).min().unwrap_or(0)
    }

    /// True if anybody is known that may be waited for.
    pub(super) fn has_members(&self) -> bool {
        self.members.values().any(|member| member.standing == Standing::Waited)
    }

    /// Members that do not vouch for all before `until`, and how far each does.
    pub(super) fn behind(&self, until: EventMillis) -> Vec<(Incarnation, EventMillis)> {
        let vouched = |(of, member): (&Incarnation, &Member)| {
            let passed = match member.standing {
                Standing::Waited => self.passed(of),
                Standing::Draining if self.streams.get(of).is_some_and(|stream| stream.last) => return None,
                Standing::Draining => self.passed(of),
                Standing::Retired => return None,
            };
            (passed < until).then(|| (of.clone(), passed))
        };
        self.members.iter().filter_map(vouched).collect()
    }

    fn passed(&self, of: &Incarnation) -> EventMillis {
        self.streams.get(of).map_or(0, |stream| stream.passed)
    }
}
