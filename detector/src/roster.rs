//! Which collectors there are, and which have fallen silent. Pure: who is silent is judged by event time behind the
//! frontier, as owners judge it; when one was last heard of, by when its newest bucket was first seen here.

use std::collections::BTreeMap;

use spikewatch_domain::record::EventMillis;
use spikewatch_proto::convert::cluster::Incarnation;

use crate::store::Enrolled;

/// What became of a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It vouches for nothing any more: the operational event `collector_silent`.
    Silent,
    /// It is back.
    Back,
    /// It was silent for so long that it is taken out of the roster.
    Retired,
}

/// When members are judged how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// A member whose newest bucket lies so far behind the frontier is silent, ms of event time.
    pub silent_ms: u64,
    /// One that was not heard of for so long is retired, ms.
    pub retire_ms: u64,
}

/// When each member was last heard of.
#[derive(Debug, Default)]
pub struct Roster {
    heard: BTreeMap<Incarnation, (EventMillis, u64)>,
}

impl Roster {
    /// Looks at all members. Returns those that changed, as they are to be stored; not all changes are turns.
    pub fn review(
        &mut self,
        members: &BTreeMap<Incarnation, Enrolled>,
        frontier: Option<EventMillis>,
        patience: Patience,
        now_ms: u64,
    ) -> Vec<(Incarnation, Enrolled, Option<Turn>)> {
        self.heard.retain(|of, _| members.get(of).is_some_and(|member| !member.retired));
        let mut changed = Vec::new();
        for (of, member) in members.iter().filter(|(_, member)| !member.retired) {
            let stored = if member.last_heard == 0 { now_ms } else { member.last_heard.min(now_ms) };
            let (bucket, heard) = self.heard.entry(of.clone()).or_insert((member.last_bucket, stored));
            if *bucket < member.last_bucket {
                (*bucket, *heard) = (member.last_bucket, now_ms);
            }
            let behind = frontier.map_or(0, |frontier| frontier.saturating_sub(member.last_bucket));
            let absent = behind > patience.silent_ms;
            let retired = now_ms.saturating_sub(*heard) > patience.retire_ms;
            let turn = match (member.absent, absent) {
                _ if retired => Some(Turn::Retired),
                (false, true) => Some(Turn::Silent),
                (true, false) => Some(Turn::Back),
                _ => None,
            };
            // That a member lives is no news for the store; when it fell silent, is.
            if turn.is_some() || member.last_heard == 0 {
                changed.push((of.clone(), Enrolled { absent, retired, last_heard: *heard, ..*member }, turn));
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { silent_ms: 600, retire_ms: 10_000 };

    fn of(name: &str) -> Incarnation {
        Incarnation { site: "s".parse().unwrap(), collector: name.parse().unwrap(), id: [1; 16] }
    }

    struct Bench {
        roster: Roster,
        members: BTreeMap<Incarnation, Enrolled>,
    }

    impl Bench {
        fn review(&mut self, frontier: u64, now_ms: u64) -> Vec<(String, Turn)> {
            let changed = self.roster.review(&self.members, Some(frontier), PATIENCE, now_ms);
            let mut turns = Vec::new();
            for (of, member, turn) in changed {
                turns.extend(turn.map(|turn| (of.collector.to_string(), turn)));
                self.members.insert(of, member);
            }
            turns
        }

        fn vouches(&mut self, name: &str, bucket: u64) {
            self.members.get_mut(&of(name)).unwrap().last_bucket = bucket;
        }
    }

    #[test]
    fn one_that_falls_silent_is_told_once_and_comes_back_or_is_retired() {
        let members = ["a", "b"].map(|name| (of(name), Enrolled { last_bucket: 1000, ..Enrolled::default() }));
        let mut bench = Bench { roster: Roster::default(), members: members.into() };
        assert_eq!(bench.review(1000, 5000), []);
        assert_eq!(bench.members[&of("a")].last_heard, 5000);
        bench.vouches("b", 1700);
        assert_eq!(bench.review(1600, 6000), []);
        assert_eq!(bench.review(1700, 7000), [("a".to_owned(), Turn::Silent)]);
        assert_eq!(bench.review(1700, 8000), []);
        bench.vouches("a", 1700);
        assert_eq!(bench.review(1700, 9000), [("a".to_owned(), Turn::Back)]);
        bench.vouches("b", 2500);
        assert_eq!(bench.review(2500, 9500), [("a".to_owned(), Turn::Silent)]);
        assert_eq!(bench.members[&of("a")].last_heard, 9000);
        bench.vouches("b", 9000);
        assert_eq!(bench.review(9000, 19_001), [("a".to_owned(), Turn::Retired)]);
        assert_eq!(bench.review(9000, 99_000), [("b".to_owned(), Turn::Retired)], "and what is retired is left alone");
    }

    #[test]
    fn a_new_leader_knows_from_the_store_how_long_one_has_been_silent() {
        let silent = Enrolled { last_bucket: 100, absent: true, last_heard: 2000, ..Enrolled::default() };
        let mut bench = Bench { roster: Roster::default(), members: BTreeMap::from([(of("a"), silent)]) };
        assert_eq!(bench.review(9000, 11_000), []);
        assert_eq!(bench.review(9000, 12_001), [("a".to_owned(), Turn::Retired)]);
    }
}
