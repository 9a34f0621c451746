//! Who a close waits for.

use std::collections::BTreeMap;

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

impl<W: Content> Core<W> {
    /// A stream of that incarnation was bound.
    pub(super) fn enrol(&mut self, of: &Incarnation, lane: &Lane, now_ms: u64) {
        let of_same = |other: &Incarnation| other != of && other.is_same_collector(of);
        let member = |standing| Member { heard_ms: now_ms, absent: false, standing };
        let standing = match lane {
            Lane::Live { draining } => {
                for (other, member) in self.members.iter_mut().filter(|(other, _)| of_same(other)) {
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
                let waited =
                    |(other, member): (&Incarnation, &Member)| of_same(other) && member.standing == Standing::Waited;
                if self.members.iter().any(waited) { Standing::Draining } else { Standing::Waited }
            }
        };
        self.members.insert(of.clone(), member(standing));
        self.forget_retired(of);
    }

    /// Keeps the number of a collector's incarnations bounded: of those that are over, nothing has to be known.
    fn forget_retired(&mut self, of: &Incarnation) {
        let same = |(other, _): &(&Incarnation, &Member)| other.is_same_collector(of);
        let known = self.members.iter().filter(same).count();
        let over = |(other, member): &(&Incarnation, &Member)| {
            member.standing == Standing::Retired && !self.streams.contains_key(*other)
        };
        let over: Vec<_> = self.members.iter().filter(same).filter(over).map(|(other, _)| other.clone()).collect();
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
        let patience = self.opened.max_wait_ms.saturating_mul(2);
        let live = !self.config.event_time;
        let members = self.members.iter().filter(move |(_, member)| {
            let gone = live && (member.absent || now_ms.saturating_sub(member.heard_ms) > patience);
            member.standing == Standing::Waited && !gone
        });
        members.map(|(of, _)| (of, self.passed(of)))
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
