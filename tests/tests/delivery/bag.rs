//! Contents that remember which batches they are made of.

use std::collections::BTreeMap;

use spikewatch_aggregator::core::Content;

/// A batch as it was cut, whatever number it has later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Batch {
    pub(crate) site: u8,
    pub(crate) number: u8,
}

/// Batches, and how often each was merged.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Bag(pub(crate) BTreeMap<Batch, u8>);

impl Bag {
    pub(crate) fn of(batch: Batch) -> Self {
        Self(BTreeMap::from([(batch, 1)]))
    }

    pub(crate) fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(batch, times)| *self.0.entry(*batch).or_default() += times);
    }

    pub(crate) fn remove(&mut self, other: &Self) {
        self.0.retain(|batch, _| !other.0.contains_key(batch));
    }

    pub(crate) fn times(&self, batch: Batch) -> u8 {
        self.0.get(&batch).copied().unwrap_or(0)
    }
}

impl Content for Bag {
    fn absorb(&mut self, other: Self) {
        self.add(&other);
    }

    fn bytes(&self) -> usize {
        self.0.len()
    }
}
