//! What the core merges without looking inside: windows in production, a set of batch numbers under a model checker.

use std::{collections::BTreeMap, fmt};

use spikewatch_domain::{key::Subject, window::Window};

/// Contents of one collector for one bucket of a shard.
pub trait Content: Clone + Default + fmt::Debug {
    /// Adds what came later, or from the next collector in their order.
    fn absorb(&mut self, other: Self);
    /// Bytes it takes.
    fn bytes(&self) -> usize;
}

/// Windows of one site by subject.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Windows {
    by_subject: BTreeMap<Subject, Window>,
    bytes: usize,
}

/// What an entry of the map takes beside the window.
const ENTRY_BYTES: usize = size_of::<Subject>() + 16;

impl Windows {
    /// Adds one window.
    pub fn add(&mut self, subject: Subject, window: Window) {
        use std::collections::btree_map::Entry;
        match self.by_subject.entry(subject) {
            Entry::Vacant(place) => {
                self.bytes += ENTRY_BYTES + window.memory();
                place.insert(window);
            }
            Entry::Occupied(mut place) => {
                let before = place.get().memory();
                place.get_mut().merge(&window);
                self.bytes = (self.bytes + place.get().memory()).saturating_sub(before);
            }
        }
    }

    /// The windows in the order of their subjects.
    pub fn iter(&self) -> impl Iterator<Item = (&Subject, &Window)> {
        self.by_subject.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_subject.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_subject.is_empty()
    }
}

impl FromIterator<(Subject, Window)> for Windows {
    fn from_iter<I: IntoIterator<Item = (Subject, Window)>>(windows: I) -> Self {
        let mut all = Self::default();
        windows.into_iter().for_each(|(subject, window)| all.add(subject, window));
        all
    }
}

impl Content for Windows {
    fn absorb(&mut self, other: Self) {
        if self.by_subject.is_empty() {
            *self = other;
        } else {
            other.by_subject.into_iter().for_each(|(subject, window)| self.add(subject, window));
        }
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}
