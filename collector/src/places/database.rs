//! A database of addresses: a MaxMind DB file, and what is read of its records. Besides MaxMind's own layout
//! (GeoLite2 and GeoIP2, which DB-IP uses too), the flat one of IPinfo is known.

use std::{fmt::Debug, marker::PhantomData, net::IpAddr};

use serde::{Deserialize, Serialize};
use spikewatch_domain::{
    key::{Dimension, Subject},
    record::Place,
};

use super::{
    data::{Broken, Data, Value},
    tree::{InvalidFile, Tree},
};
use crate::values;

/// Places that a new file is asked for, until one of them answers: a file of another kind is found out.
const TRIED: usize = 10_000;

/// A country, by its ISO 3166-1 alpha-2 code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Country(pub [u8; 2]);

/// An autonomous system, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Asn(pub u32);

impl values::Value for Country {
    const DIMENSION: Dimension = Dimension::Country;

    fn subject(self) -> Subject {
        Subject::Country(self.0)
    }
}

impl values::Value for Asn {
    const DIMENSION: Dimension = Dimension::Asn;

    fn subject(self) -> Subject {
        Subject::Asn(self.0)
    }
}

/// What a database is asked for.
pub trait Answer: Debug + Copy + Send + Sync + 'static {
    /// Its key of the configuration.
    const KEY: &str;
    /// What its records must have.
    const EXPECTED: &str;

    /// Reads it from the record at this place, if it is there.
    #[doc(hidden)]
    fn read(record: Record<'_>) -> Result<Option<Self>, Broken>;
}

/// A record of a database.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    data: Data<'a>,
    at: usize,
}

impl<'a> Record<'a> {
    fn get(self, key: &str) -> Result<Option<Value<'a>>, Broken> {
        self.data.get(self.at, key)?.map(|at| self.data.value(at)).transpose()
    }
}

impl Answer for Country {
    const KEY: &str = "country_database";
    const EXPECTED: &str = "country.iso_code (GeoLite2-Country, -City and their like), country or country_code";

    fn read(record: Record<'_>) -> Result<Option<Self>, Broken> {
        let code = match record.get("country")? {
            Some(Value::Map(at)) => Record { at, ..record }.get("iso_code")?,
            // Of two texts, the name and the code, only the code is read.
            Some(Value::Text(text)) if Place::country_code(text).is_some() => Some(Value::Text(text)),
            _ => record.get("country_code")?,
        };
        Ok(match code {
            Some(Value::Text(text)) => Place::country_code(text).map(Self),
            _ => None,
        })
    }
}

impl Answer for Asn {
    const KEY: &str = "asn_database";
    const EXPECTED: &str = "autonomous_system_number (GeoLite2-ASN and its like) or asn";

    fn read(record: Record<'_>) -> Result<Option<Self>, Broken> {
        let number = match record.get("autonomous_system_number")? {
            Some(number) => Some(number),
            None => record.get("asn")?,
        };
        Ok(match number {
            Some(Value::Unsigned(number)) => u32::try_from(number).ok().filter(|number| *number != 0).map(Self),
            Some(Value::Text(text)) => Place::as_number(text).map(Self),
            _ => None,
        })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Database<A> {
    tree: Tree,
    answer: PhantomData<fn() -> A>,
}

impl<A: Answer> Database<A> {
    /// Takes the content of a file.
    ///
    /// # Errors
    /// It is no such file, is damaged, or has not what is asked for.
    pub fn new(content: Vec<u8>) -> Result<Self, InvalidFile> {
        let tree = Tree::new(content)?;
        let mut last = None;
        // Neighbours share their data more often than not.
        let mut places = tree.places().filter(|at| last.replace(*at) != Some(*at)).take(TRIED).peekable();
        let is_empty = places.peek().is_none();
        let answers = places.map(|at| A::read(Record { data: tree.data(), at }));
        let first = answers.filter_map(Result::transpose).next().transpose()?;
        if first.is_none() && !is_empty {
            return Err(InvalidFile::Other { kind: tree.kind().to_owned(), expected: A::EXPECTED });
        }
        Ok(Self { tree, answer: PhantomData })
    }

    /// What is known of an address. A record that is damaged says nothing.
    #[must_use]
    pub fn look_up(&self, address: IpAddr) -> Option<A> {
        let at = self.tree.find(address)?;
        A::read(Record { data: self.tree.data(), at }).ok().flatten()
    }

    /// What the file calls itself, as `GeoLite2-Country`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.tree.kind()
    }

    /// When it was made, seconds since 1970.
    #[must_use]
    pub fn built(&self) -> u64 {
        self.tree.built()
    }
}

#[cfg(test)]
mod tests;
