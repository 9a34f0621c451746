//! What the core merges without looking inside: windows in production, a set of batch numbers under a model checker.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
};

use spikewatch_domain::{key::Subject, window::Window};
use spikewatch_proto::{
    convert::windows::{Columns, RowRef, push},
    v1,
};

use super::early::values;

/// Contents of one collector for one bucket of a shard.
pub trait Content: Clone + Default + fmt::Debug {
    /// Adds what came later, or from the next collector in their order.
    fn absorb(&mut self, other: Self);
    /// Bytes it takes.
    fn bytes(&self) -> usize;
}

/// Windows of one site by subject. While nothing has to be merged they stay in the columns that they came in.
#[derive(Debug, Clone)]
pub enum Windows {
    /// Rows of ascending subjects.
    Columns(Box<Columns>),
    /// Merged.
    Merged(Merged),
}

/// Windows that were merged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Merged {
    by_subject: BTreeMap<Subject, Window>,
    bytes: usize,
}

/// What an entry of the map takes beside the window.
const ENTRY_BYTES: usize = size_of::<Subject>() + 16;

impl Merged {
    /// Adds one window.
    fn add(&mut self, subject: Subject, window: Window) {
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

    /// Adds a row; `read` is memory to read it in.
    fn add_row(&mut self, row: &RowRef<'_>, read: &mut Window) {
        match self.by_subject.get_mut(&row.subject) {
            None => self.add(row.subject.clone(), row.window()),
            Some(window) => {
                let before = window.memory();
                row.read(read);
                window.merge(read);
                self.bytes = (self.bytes + window.memory()).saturating_sub(before);
            }
        }
    }

    fn add_all(&mut self, windows: Windows) {
        match windows {
            Windows::Columns(columns) => {
                let mut read = Window::default();
                columns.iter().for_each(|row| self.add_row(&row, &mut read));
            }
            Windows::Merged(merged) => {
                merged.by_subject.into_iter().for_each(|(subject, window)| self.add(subject, window))
            }
        }
    }
}

impl Windows {
    /// One window by itself.
    #[cfg(test)]
    pub(super) fn one(subject: Subject, window: Window) -> Self {
        let mut merged = Merged::default();
        merged.add(subject, window);
        Self::Merged(merged)
    }

    /// Tells every key with its measures, in the order of `Measure::ALL`.
    pub(super) fn each(&self, mut tell: impl FnMut(&Subject, [u64; 8])) {
        match self {
            Self::Columns(columns) => columns.iter().for_each(|row| {
                tell(&row.subject, values(&row.counters, row.distinct_peers(), row.distinct_peer_ports()));
            }),
            Self::Merged(merged) => merged.by_subject.iter().for_each(|(subject, window)| {
                tell(subject, values(&window.counters, window.distinct_peers(), window.distinct_peer_ports()));
            }),
        }
    }

    /// A copy of the windows of these keys.
    pub(super) fn only(&self, keys: &BTreeSet<Subject>) -> Self {
        let mut picked = Merged::default();
        match self {
            Self::Columns(columns) => {
                let rows = columns.iter().filter(|row| keys.contains(&row.subject));
                rows.for_each(|row| picked.add(row.subject.clone(), row.window()));
            }
            Self::Merged(merged) => {
                let windows = keys.iter().filter_map(|key| merged.by_subject.get_key_value(key));
                windows.for_each(|(subject, window)| picked.add(subject.clone(), window.clone()));
            }
        }
        Self::Merged(picked)
    }

    /// Appends all windows, in the order of their subjects, as rows of the site with that index.
    pub fn write(&self, message: &mut v1::Windows, site: u32, incomplete: bool) {
        match self {
            Self::Columns(columns) => columns.append(message, site, incomplete),
            Self::Merged(merged) => merged
                .by_subject
                .iter()
                .for_each(|(subject, window)| push(message, Some(site), subject, window, incomplete)),
        }
    }
}

impl Default for Windows {
    fn default() -> Self {
        Self::Columns(Box::default())
    }
}

impl From<Columns> for Windows {
    fn from(columns: Columns) -> Self {
        if columns.is_ascending() {
            return Self::Columns(Box::new(columns));
        }
        let mut merged = Merged::default();
        merged.add_all(Self::Columns(Box::new(columns)));
        Self::Merged(merged)
    }
}

impl Content for Windows {
    fn absorb(&mut self, other: Self) {
        match self {
            Self::Columns(columns) if columns.is_empty() => *self = other,
            Self::Columns(_) => {
                let mut merged = Merged::default();
                merged.add_all(std::mem::take(self));
                merged.add_all(other);
                *self = Self::Merged(merged);
            }
            Self::Merged(merged) => merged.add_all(other),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Columns(columns) => size_of::<Columns>() + columns.bytes(),
            Self::Merged(merged) => merged.bytes,
        }
    }
}

#[cfg(test)]
mod tests;
