//! Where the other end of a record is: the country and the autonomous system of a peer, told by the source or looked up
//! in databases, as bounded dimensions of the site.
//!
//! Looked at is the end that is not ours; of records with no internal end, the destination. Its bytes and packets count
//! whichever way they went. Events (and denied ones) count where they went *to*, as in Elastic's jobs by
//! `destination.geo`: what comes in from everywhere is no traffic to a country.

mod data;
mod database;
pub(crate) mod file;
mod locator;
/// As a file, not as a crate: that one needs the detector, which this one's tests would have to wait for.
#[cfg(test)]
#[path = "../../../tests/src/mmdb.rs"]
#[expect(unreachable_pub, reason = "it is public in its crate")]
mod mmdb;
mod tree;

use std::net::IpAddr;

use spikewatch_domain::{
    key::SiteName,
    record::{EventMillis, FlowRecord, Place},
    span::Span,
    window::Counters,
};

use self::locator::Locator;
pub use self::{
    data::Broken,
    database::{Answer, Asn, Country, Database, Record},
    file::{DatabaseError, MAX_DATABASE_BYTES, PlaceOptions},
    locator::Databases,
    tree::InvalidFile,
};
use crate::{
    summarise::Slice,
    values::{Standing, Values},
};

/// The end of a record that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// Its address.
    pub address: IpAddr,
    /// It is the record's destination.
    pub is_destination: bool,
}

/// Where a record's outer end is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Located {
    place: Place,
    is_destination: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Places {
    locator: Locator,
    countries: Values<Country>,
    asns: Values<Asn>,
}

impl Places {
    /// Gives windows to so many countries and autonomous systems; counts nothing of a dimension with 0.
    pub(crate) fn new(
        site: &SiteName,
        shards: u32,
        bucket: Span,
        limits: (usize, usize),
        databases: Databases,
    ) -> Self {
        Self {
            locator: Locator::new(databases),
            countries: Values::new(site.clone(), shards, bucket, limits.0),
            asns: Values::new(site.clone(), shards, bucket, limits.1),
        }
    }

    /// Goes on with other databases.
    pub(crate) fn switch(&mut self, databases: Databases) {
        self.locator.switch(databases);
    }

    /// Where the outer end of a record is, if it has one and anything is known of it. What the source says wins.
    pub(crate) fn locate(&mut self, record: &FlowRecord, outer: impl FnOnce() -> Option<Outer>) -> Option<Located> {
        let told = record.annotations.as_deref();
        if told.is_none() && self.locator.is_idle() {
            return None;
        }
        let Outer { address, is_destination } = outer()?;
        let told = told.map(|known| if is_destination { known.destination_place } else { known.source_place });
        let place = match told.unwrap_or_default() {
            whole @ Place { country: Some(_), asn: Some(_) } => whole,
            told => told.or(self.locator.look_up(address)),
        };
        (place != Place::default()).then_some(Located { place, is_destination })
    }

    /// Counts a share of the site.
    pub(crate) fn add(&mut self, slice: EventMillis, located: Located, counters: &Counters) {
        let counters = match located.is_destination {
            true => *counters,
            false => Counters { events: 0, denied: 0, ..*counters },
        };
        if let Some(code) = located.place.country {
            self.countries.add(slice, Country(code), &counters);
        }
        if let Some(number) = located.place.asn {
            self.asns.add(slice, Asn(number), &counters);
        }
    }

    /// Adds the windows of all that was counted to the slices; see [`Values::take`].
    pub(crate) fn take(&mut self, slices: &mut Vec<Slice>, until: EventMillis) {
        self.countries.take(slices, until);
        self.asns.take(slices, until);
    }

    /// What is remembered from slice to slice.
    pub(crate) fn standing(&self) -> (&Standing<Country>, &Standing<Asn>) {
        (self.countries.standing(), self.asns.standing())
    }

    /// Goes on from what was remembered.
    pub(crate) fn restore(&mut self, (countries, asns): (Standing<Country>, Standing<Asn>)) {
        self.countries.restore(countries);
        self.asns.restore(asns);
    }

    /// Shares counted in `(other)` because too many values were held, since the beginning.
    pub(crate) fn overflowed(&self) -> u64 {
        self.countries.overflowed() + self.asns.overflowed()
    }

    /// Addresses looked up, and those of which nothing was known, since the beginning.
    pub(crate) fn lookups(&self) -> (u64, u64) {
        self.locator.counts()
    }
}

#[cfg(test)]
pub(crate) mod tests;
