//! Who owns which shard: rendezvous hashing over the aggregators that live. Pure: time comes in, what changed comes out.
//!
//! An aggregator lives while it is heard of within its lease; one whose stream ended lives on for a short grace, in which
//! the same process may come back. What a dead one owned moves at once: epochs fence it, wherever it is. What a living
//! one should give up (another joined, or it leaves) is first asked back; it lets go when nothing is in flight, or the
//! time for that runs out. Only shards whose best owner changed move.

use std::collections::BTreeMap;

use spikewatch_domain::shard::owner_of;

mod assignments;
#[cfg(test)]
mod tests;

pub use self::assignments::Assignments;
use self::assignments::Owner;

/// Most aggregators that may join.
pub const MAX_AGGREGATORS: usize = 1024;

/// How long what is waited for, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// An aggregator that was not heard of for that long is dead, whatever its connection says.
    pub lease_ms: u64,
    /// One whose stream ended is dead after that, unless it comes back.
    pub grace_ms: u64,
    /// A shard that was asked back and not let go by then moves all the same.
    pub handover_ms: u64,
}

impl Timing {
    /// Nobody dies of silence: for recorded traffic, where a busy machine is no reason to move anything.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { lease_ms: u64::MAX, ..self }
    }
}

impl Default for Timing {
    /// 6 s, 1 s, and 5 s.
    fn default() -> Self {
        Self { lease_ms: 6000, grace_ms: 1000, handover_ms: 5000 }
    }
}

/// Why an aggregator can't join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotJoin {
    /// Too many.
    #[error("{MAX_AGGREGATORS} aggregators are joined already")]
    TooMany,
    /// Two processes with one name would take the shards from each other for ever.
    #[error("another process joined as {0:?} and is alive; every aggregator needs a name of its own")]
    NameTaken(String),
}

/// What the cluster knows of one aggregator.
#[derive(Debug)]
struct Live {
    /// Tells its process from others of the same name; unknown until it joins this leader.
    instance: Option<Vec<u8>>,
    address: String,
    session: u64,
    /// Its stream is open.
    joined: bool,
    leaving: bool,
    /// Dead from then on, unless it is heard of.
    until_ms: u64,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    owner: Option<Owner>,
    /// It was asked back, and moves at the latest then.
    asked_until_ms: Option<u64>,
}

/// The aggregators, and what follows from them.
#[derive(Debug)]
pub struct Cluster {
    timing: Timing,
    live: BTreeMap<String, Live>,
    slots: Vec<Slot>,
    sessions: u64,
    assignments: Assignments,
    buried: Vec<String>,
}

impl Cluster {
    /// Goes on where the leader before stopped: `number` is that of the last assignment that was ever made, and `owners`
    /// are those who opened the shards last (empty: nobody). They have a lease to come back in before anything moves.
    #[must_use]
    pub fn new(timing: Timing, number: u64, owners: Vec<String>, now_ms: u64) -> Self {
        let expected = || Live {
            instance: None,
            address: String::new(),
            session: 0,
            joined: false,
            leaving: false,
            until_ms: now_ms.saturating_add(Timing::default().lease_ms.min(timing.lease_ms)),
        };
        let live = owners.iter().filter(|name| !name.is_empty()).map(|name| (name.clone(), expected())).collect();
        let owner = |name: String| (!name.is_empty()).then_some(Owner { name, since: number });
        let slots = owners.into_iter().map(|name| Slot { owner: owner(name), asked_until_ms: None }).collect();
        let assignments = Assignments { number, ..Assignments::default() };
        let mut cluster = Self { timing, live, slots, sessions: 0, assignments, buried: Vec::new() };
        cluster.assignments = cluster.show(number);
        cluster
    }

    /// Who owns what now.
    #[must_use]
    pub fn assignments(&self) -> &Assignments {
        &self.assignments
    }

    /// When time alone changes something next.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let deaths = self.live.values().map(|live| live.until_ms);
        deaths.chain(self.slots.iter().filter_map(|slot| slot.asked_until_ms)).min().filter(|at| *at != u64::MAX)
    }

    /// An aggregator's stream began. The same process may come again before its old stream is known to be gone; a
    /// process that takes a dead one's name has nothing of what that held. Returns its session.
    ///
    /// # Errors
    /// Too many aggregators, or the name belongs to another process that lives.
    pub fn join(&mut self, name: &str, address: &str, instance: &[u8], now_ms: u64) -> Result<u64, CannotJoin> {
        self.bury(now_ms);
        if self.live.len() >= MAX_AGGREGATORS && !self.live.contains_key(name) {
            return Err(CannotJoin::TooMany);
        }
        let before = self.live.get(name);
        let other = before.is_some_and(|live| live.instance.as_deref().is_some_and(|known| known != instance));
        if other && before.is_some_and(|live| live.joined) {
            return Err(CannotJoin::NameTaken(name.to_owned()));
        }
        self.sessions += 1;
        let live = Live {
            instance: Some(instance.to_vec()),
            address: address.to_owned(),
            session: self.sessions,
            joined: true,
            leaving: false,
            until_ms: now_ms.saturating_add(self.timing.lease_ms),
        };
        self.live.insert(name.to_owned(), live);
        self.settle(now_ms, other.then_some(name));
        Ok(self.sessions)
    }

    /// An aggregator showed that it lives, and said whether it leaves and which shards it has let go. False if it is
    /// dead, or has come again on another stream: this one means nothing any more.
    pub fn heard(&mut self, name: &str, session: u64, leaving: bool, released: &[u32], now_ms: u64) -> bool {
        self.bury(now_ms);
        let Some(live) = self.live.get_mut(name).filter(|live| live.session == session) else { return false };
        live.leaving |= leaving;
        live.until_ms = now_ms.saturating_add(self.timing.lease_ms);
        for shard in released {
            let slot = self.slots.get_mut(*shard as usize);
            let asked = |slot: &&mut Slot| {
                slot.asked_until_ms.is_some() && slot.owner.as_ref().is_some_and(|owner| owner.name == name)
            };
            if let Some(slot) = slot.filter(asked) {
                slot.owner = None;
            }
        }
        self.settle(now_ms, None);
        true
    }

    /// An aggregator's stream ended. A session that was replaced changes nothing.
    pub fn ended(&mut self, name: &str, session: u64, now_ms: u64) {
        if let Some(live) = self.live.get_mut(name).filter(|live| live.session == session) {
            live.joined = false;
            // One that said it leaves won't come back.
            let grace_ms = if live.leaving { 0 } else { self.timing.grace_ms };
            live.until_ms = live.until_ms.min(now_ms.saturating_add(grace_ms));
        }
        self.settle(now_ms, None);
    }

    /// Time passed.
    pub fn tick(&mut self, now_ms: u64) {
        self.settle(now_ms, None);
    }

    /// Names of those that died since this was asked last; they left, or were not heard of.
    pub fn take_buried(&mut self) -> Vec<String> {
        std::mem::take(&mut self.buried)
    }

    fn bury(&mut self, now_ms: u64) {
        let dead = self.live.extract_if(.., |_, live| now_ms >= live.until_ms);
        self.buried.extend(dead.map(|(name, _)| name));
    }

    /// Gives every shard the owner it should have. `anew` holds nothing any more of what it owned.
    fn settle(&mut self, now_ms: u64, anew: Option<&str>) {
        self.bury(now_ms);
        let next = self.assignments.number + 1;
        let stay: Vec<&str> =
            self.live.iter().filter(|(_, live)| !live.leaving).map(|(name, _)| name.as_str()).collect();
        for (slot, shard) in self.slots.iter_mut().zip(0u32..) {
            let best = owner_of(shard, stay.iter().copied());
            let current = slot.owner.as_ref().map(|owner| owner.name.as_str());
            let holds = current.filter(|name| self.live.contains_key(*name) && Some(*name) != anew);
            match holds {
                Some(name) if slot.asked_until_ms.is_none() && Some(name) == best => {}
                // Once asked back it moves, even if its owner has become the best again: it may have let go already.
                Some(_) if slot.asked_until_ms.is_none() => {
                    slot.asked_until_ms = Some(now_ms.saturating_add(self.timing.handover_ms));
                }
                Some(_) if slot.asked_until_ms.is_some_and(|until| now_ms < until) => {}
                _ => {
                    slot.owner = best.map(|name| Owner { name: name.to_owned(), since: next });
                    slot.asked_until_ms = None;
                }
            }
        }
        let now = self.show(self.assignments.number);
        if now != self.assignments {
            self.assignments = Assignments { number: next, ..now };
        }
    }

    fn show(&self, number: u64) -> Assignments {
        let asked = |(slot, shard): (&Slot, u32)| slot.asked_until_ms.map(|_| shard);
        let address = |(name, live): (&String, &Live)| (name.clone(), live.address.clone());
        Assignments {
            number,
            owners: self.slots.iter().map(|slot| slot.owner.clone()).collect(),
            asked: self.slots.iter().zip(0u32..).filter_map(asked).collect(),
            addresses: self.live.iter().filter(|(_, live)| live.instance.is_some()).map(address).collect(),
            settled: self.live.values().all(|live| live.instance.is_some()),
        }
    }
}
