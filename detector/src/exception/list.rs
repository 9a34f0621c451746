//! Value lists: names, addresses and networks that several exceptions share.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use spikewatch_domain::network::Network;

/// Lists by name.
pub type Lists = BTreeMap<String, Arc<ValueList>>;

/// Most values of a list.
const MOST_VALUES: usize = 1_000_000;

/// Texts and networks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ValueList {
    texts: BTreeSet<String>,
    networks: Vec<Network>,
}

impl ValueList {
    /// A list of these values. One with a slash is a network if it reads as one.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut list = Self::default();
        for value in values {
            match value.as_ref().parse() {
                Ok(network) => list.networks.push(network),
                Err(_) => drop(list.texts.insert(value.as_ref().to_owned())),
            }
        }
        list
    }

    /// Reads a file with one value a line; what follows a `#` is a comment.
    ///
    /// # Errors
    /// There are too many values.
    pub fn from_lines(text: &str) -> Result<Self, String> {
        let values = text.lines().map(|line| line.split_once('#').map_or(line, |(value, _)| value).trim());
        let values: Vec<&str> = values.filter(|value| !value.is_empty()).take(MOST_VALUES + 1).collect();
        if values.len() > MOST_VALUES {
            return Err(format!("has more than {MOST_VALUES} values"));
        }
        Ok(Self::of(values))
    }

    /// True if the value is in it, or an address of one of its networks.
    #[must_use]
    pub fn contains(&self, value: &str) -> bool {
        if self.texts.contains(value) {
            return true;
        }
        let address: Option<IpAddr> = if self.networks.is_empty() { None } else { value.parse().ok() };
        address.is_some_and(|address| self.networks.iter().any(|network| network.contains(address)))
    }

    /// How many values it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.texts.len() + self.networks.len()
    }

    /// True if it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
