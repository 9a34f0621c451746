//! A map that never grows past its limit: the entry that has not been used for long makes room (second chance, so that
//! an insertion takes constant time on average, whatever a hostile sender does).

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// A map with a limit.
#[derive(Debug, Deserialize, Serialize)]
#[serde(bound(deserialize = "K: Deserialize<'de> + Ord, V: Deserialize<'de>"))]
pub(super) struct Bounded<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    queue: VecDeque<K>,
    limit: usize,
}

#[derive(Debug, Deserialize, Serialize)]
struct Entry<V> {
    value: V,
    used: bool,
}

impl<K: Ord + Copy, V> Bounded<K, V> {
    /// An empty map of at most `limit` entries, and at least one.
    pub(super) fn new(limit: usize) -> Self {
        Self { entries: BTreeMap::new(), queue: VecDeque::new(), limit: limit.max(1) }
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry, without marking it used.
    pub(super) fn peek(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// The entry; it counts as used.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        entry.used = true;
        Some(&mut entry.value)
    }

    /// Adds or replaces. Returns what had to go: the old value of the key, or another entry that made room.
    pub(super) fn insert(&mut self, key: K, value: V) -> Displaced<K, V> {
        if let Some(entry) = self.entries.get_mut(&key) {
            return Displaced::Replaced(std::mem::replace(&mut entry.value, value));
        }
        let evicted = if self.entries.len() >= self.limit { self.evict() } else { None };
        self.entries.insert(key, Entry { value, used: false });
        self.queue.push_back(key);
        evicted.map_or(Displaced::Nothing, |(key, value)| Displaced::Evicted(key, value))
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.queue.retain(|queued| queued != key);
        Some(entry.value)
    }

    /// Takes out the entry that has not been used for long.
    pub(super) fn evict(&mut self) -> Option<(K, V)> {
        loop {
            let key = self.queue.pop_front()?;
            match self.entries.get_mut(&key) {
                Some(entry) if entry.used => {
                    entry.used = false;
                    self.queue.push_back(key);
                }
                _ => return self.entries.remove(&key).map(|entry| (key, entry.value)),
            }
        }
    }

    /// Keeps the entries that `keep` says.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        self.entries.retain(|_, entry| keep(&entry.value));
        let entries = &self.entries;
        self.queue.retain(|key| entries.contains_key(key));
    }
}

/// What an insertion displaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Displaced<K, V> {
    /// Nothing: there was room.
    Nothing,
    /// The key's own old value.
    Replaced(V),
    /// Another entry, for the limit was reached.
    Evicted(K, V),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_not_used_makes_room() {
        let mut map = Bounded::new(2);
        assert_eq!(map.insert(1, "a"), Displaced::Nothing);
        assert_eq!(map.insert(2, "b"), Displaced::Nothing);
        assert!(map.get_mut(&1).is_some());
        assert_eq!(map.insert(3, "c"), Displaced::Evicted(2, "b"));
        assert_eq!(map.insert(3, "d"), Displaced::Replaced("c"));
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn removal_leaves_no_trace() {
        let mut map = Bounded::new(2);
        for round in 0..100 {
            map.insert(round, ());
            assert_eq!(map.remove(&round), Some(()));
        }
        assert_eq!((map.len(), map.queue.len()), (0, 0));
        assert_eq!(map.evict(), None);
    }
}
