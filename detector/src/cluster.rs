//! Who owns which shard: rendezvous hashing over the aggregators that are joined. Pure.

use std::collections::BTreeMap;

use spikewatch_domain::shard::owner_of;

/// Most aggregators that may join.
pub const MAX_AGGREGATORS: usize = 1024;

/// One shard's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    name: String,
    /// Number of the assignment that made it so.
    since: u64,
}

/// A snapshot of who owns what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignments {
    /// Grows with every change.
    pub number: u64,
    owners: Vec<Option<Owner>>,
    addresses: BTreeMap<String, String>,
}

impl Assignments {
    /// The owner of a shard and the number of the assignment that made it so.
    #[must_use]
    pub fn of(&self, shard: u32) -> Option<(&str, u64)> {
        let owner = self.owners.get(shard as usize)?.as_ref()?;
        Some((&owner.name, owner.since))
    }

    /// The shards of one aggregator, ascending.
    pub fn shards_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u32> + 'a {
        let owned = move |(owner, shard): (&Option<Owner>, u32)| {
            owner.as_ref().is_some_and(|owner| owner.name == name).then_some(shard)
        };
        self.owners.iter().zip(0u32..).filter_map(owned)
    }

    /// Shard, owner and the owner's address, for every shard that is owned.
    pub fn routes(&self) -> impl Iterator<Item = (u32, &str, &str)> {
        let route = |(owner, shard): (&'_ Option<Owner>, u32)| {
            let name = &owner.as_ref()?.name;
            let (name, address) = self.addresses.get_key_value(name)?;
            Some((shard, name.as_str(), address.as_str()))
        };
        self.owners.iter().zip(0u32..).filter_map(route)
    }
}

/// Why an aggregator can't join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotJoin {
    /// Too many.
    #[error("{MAX_AGGREGATORS} aggregators are joined already")]
    TooMany,
}

struct Live {
    instance: Vec<u8>,
    session: u64,
}

/// The aggregators that are joined, and what follows from it.
pub struct Cluster {
    live: BTreeMap<String, Live>,
    assignments: Assignments,
    sessions: u64,
}

impl Cluster {
    /// Nobody is joined. `number` is that of the last assignment that was ever made.
    #[must_use]
    pub fn new(shards: u32, number: u64) -> Self {
        let owners = vec![None; shards as usize];
        let assignments = Assignments { number, owners, addresses: BTreeMap::new() };
        Self { live: BTreeMap::new(), assignments, sessions: 0 }
    }

    /// Who owns what now.
    #[must_use]
    pub fn assignments(&self) -> &Assignments {
        &self.assignments
    }

    /// An aggregator's stream began. The same process may come again before its old stream is known to be gone; another
    /// process of the same name takes over too, since a restarted one can't wait for that. Returns its session.
    ///
    /// # Errors
    /// Too many aggregators.
    pub fn join(&mut self, name: &str, address: &str, instance: &[u8]) -> Result<u64, CannotJoin> {
        if self.live.len() >= MAX_AGGREGATORS && !self.live.contains_key(name) {
            return Err(CannotJoin::TooMany);
        }
        self.sessions += 1;
        let live = Live { instance: instance.to_vec(), session: self.sessions };
        let before = self.live.insert(name.to_owned(), live);
        let restarted = before.is_some_and(|before| before.instance != instance);
        let moved = self.assignments.addresses.insert(name.to_owned(), address.to_owned());
        // A restarted process holds nothing any more: it is entitled anew to all its shards.
        self.assign(restarted.then_some(name), moved.as_deref() != Some(address));
        Ok(self.sessions)
    }

    /// An aggregator's stream ended. A session that was replaced changes nothing.
    pub fn leave(&mut self, name: &str, session: u64) {
        if self.live.get(name).is_some_and(|live| live.session == session) {
            self.live.remove(name);
            self.assignments.addresses.remove(name);
            self.assign(None, false);
        }
    }

    fn assign(&mut self, anew: Option<&str>, mut changed: bool) {
        let next = self.assignments.number + 1;
        for (owner, shard) in self.assignments.owners.iter_mut().zip(0u32..) {
            let name = owner_of(shard, self.live.keys().map(String::as_str));
            let same = owner.as_ref().map(|owner| owner.name.as_str()) == name;
            if !same || (anew.is_some() && anew == name) {
                *owner = name.map(|name| Owner { name: name.to_owned(), since: next });
                changed = true;
            }
        }
        if changed {
            self.assignments.number = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(cluster: &Cluster, name: &str) -> usize {
        cluster.assignments().shards_of(name).count()
    }

    #[test]
    fn shards_are_shared_and_only_the_lost_ones_move() {
        let mut cluster = Cluster::new(64, 7);
        cluster.join("a1", "http://a1", &[1]).unwrap();
        assert_eq!((owned(&cluster, "a1"), cluster.assignments().number), (64, 8));
        let session = cluster.join("a2", "http://a2", &[2]).unwrap();
        assert_eq!(owned(&cluster, "a1") + owned(&cluster, "a2"), 64);
        assert!(owned(&cluster, "a2") > 10);
        let kept: Vec<u32> = cluster.assignments().shards_of("a1").collect();
        cluster.leave("a2", session);
        assert_eq!(owned(&cluster, "a1"), 64);
        assert!(kept.iter().all(|shard| cluster.assignments().of(*shard) == Some(("a1", 8))));
    }

    #[test]
    fn a_restarted_aggregator_is_entitled_anew_and_its_old_stream_means_nothing() {
        let mut cluster = Cluster::new(4, 0);
        let old = cluster.join("a1", "http://a1", &[1]).unwrap();
        cluster.join("a1", "http://a1", &[2]).unwrap();
        assert_eq!(cluster.assignments().of(0), Some(("a1", 2)));
        cluster.leave("a1", old);
        assert_eq!(owned(&cluster, "a1"), 4);
    }

    #[test]
    fn the_same_process_coming_again_changes_nothing() {
        let mut cluster = Cluster::new(4, 0);
        cluster.join("a1", "http://a1", &[1]).unwrap();
        cluster.join("a1", "http://a1", &[1]).unwrap();
        assert_eq!(cluster.assignments().number, 1);
    }
}
