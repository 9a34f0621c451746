//! A snapshot of who owns what: what commits are checked against, aggregators are told, and routes are made of.

use std::collections::{BTreeMap, BTreeSet};

/// One shard's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) name: String,
    /// Number of the assignment that made it so.
    pub(super) since: u64,
}

/// Who owns what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignments {
    /// Grows with every change.
    pub number: u64,
    pub(super) owners: Vec<Option<Owner>>,
    /// Shards that their owners are asked to let go.
    pub(super) asked: BTreeSet<u32>,
    pub(super) addresses: BTreeMap<String, String>,
    pub(super) settled: bool,
}

/// One aggregator's part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// Its shards, ascending, each with the number of the assignment that made it its owner.
    pub shards: Vec<(u32, u64)>,
    /// Those among them that it is asked to let go.
    pub release: Vec<u32>,
}

impl Assignments {
    /// The owner of a shard and the number of the assignment that made it so.
    #[must_use]
    pub fn of(&self, shard: u32) -> Option<(&str, u64)> {
        let owner = self.owners.get(shard as usize)?.as_ref()?;
        Some((&owner.name, owner.since))
    }

    /// What belongs to one aggregator.
    #[must_use]
    pub fn share(&self, name: &str) -> Share {
        let owned = |(owner, shard): (&Option<Owner>, u32)| {
            let owner = owner.as_ref().filter(|owner| owner.name == name)?;
            Some((shard, owner.since))
        };
        let shards: Vec<_> = self.owners.iter().zip(0u32..).filter_map(owned).collect();
        let release = shards.iter().map(|(shard, _)| *shard).filter(|shard| self.asked.contains(shard)).collect();
        Share { shards, release }
    }

    /// Shard, owner and the owner's address, for every shard whose owner has joined.
    pub fn routes(&self) -> impl Iterator<Item = (u32, &str, &str)> {
        let route = |(owner, shard): (&'_ Option<Owner>, u32)| {
            let name = &owner.as_ref()?.name;
            let (name, address) = self.addresses.get_key_value(name)?;
            Some((shard, name.as_str(), address.as_str()))
        };
        self.owners.iter().zip(0u32..).filter_map(route)
    }

    /// False while a new leader waits for the owners of before to come back: routes would miss them, and collectors
    /// would leave them.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled
    }
}
