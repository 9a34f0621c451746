//! Looks peers up. Traffic meets the same peers again and again, so the last answer for each is at hand.

use std::{hash::BuildHasher as _, net::IpAddr, sync::Arc};

use rapidhash::fast::RandomState;
use spikewatch_domain::record::Place;

use super::database::{Asn, Country, Database};

/// Answers at hand: 40 bytes each. A power of two.
const AT_HAND: usize = 1 << 15;

/// The databases in use. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Databases {
    /// Tells countries.
    pub country: Option<Arc<Database<Country>>>,
    /// Tells autonomous systems.
    pub asn: Option<Arc<Database<Asn>>>,
}

impl Databases {
    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.country.is_none() && self.asn.is_none()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Locator {
    databases: Databases,
    /// By a hash of the address, the answer for the last such address.
    at_hand: Vec<Option<(IpAddr, Place)>>,
    hasher: RandomState,
    lookups: u64,
    misses: u64,
}

impl Locator {
    pub(crate) fn new(databases: Databases) -> Self {
        let mut locator = Self {
            databases: Databases::default(),
            at_hand: Vec::new(),
            hasher: RandomState::default(),
            lookups: 0,
            misses: 0,
        };
        locator.switch(databases);
        locator
    }

    /// Goes on with other databases.
    pub(crate) fn switch(&mut self, databases: Databases) {
        self.at_hand.clear();
        if !databases.is_empty() {
            self.at_hand.resize(AT_HAND, None);
        }
        self.databases = databases;
    }

    /// True if there is nothing to look up in.
    pub(crate) fn is_idle(&self) -> bool {
        self.at_hand.is_empty()
    }

    /// What the databases know of an address.
    pub(crate) fn look_up(&mut self, address: IpAddr) -> Place {
        let place = self.hasher.hash_one(address) as usize % AT_HAND;
        let Some(slot) = self.at_hand.get_mut(place) else { return Place::default() };
        self.lookups += 1;
        let found = match slot {
            Some((known, found)) if *known == address => *found,
            _ => {
                let Databases { country, asn } = &self.databases;
                let found = Place {
                    country: country.as_ref().and_then(|database| database.look_up(address)).map(|Country(code)| code),
                    asn: asn.as_ref().and_then(|database| database.look_up(address)).map(|Asn(number)| number),
                };
                *slot = Some((address, found));
                found
            }
        };
        self.misses += u64::from(found == Place::default());
        found
    }

    /// Addresses looked up, and those of which nothing was known, since the beginning.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.lookups, self.misses)
    }
}
