//! A bounded memory of recent things, for filters that must not grow with the traffic.

use hashbrown::HashMap;
use rapidhash::fast::RandomState;
use serde::{Deserialize, Serialize};

/// Remembers the last `capacity / 2` to `capacity` keys touched, in two generations: when the younger one is full, the
/// older one is forgotten. No clock, no list to keep in order, and a flood of keys costs only memory that is bounded.
#[derive(Debug, Deserialize, Serialize)]
pub struct Recent<V> {
    #[serde(with = "crate::saved_map", bound(serialize = "V: Serialize", deserialize = "V: Deserialize<'de>"))]
    young: HashMap<u64, V, RandomState>,
    #[serde(with = "crate::saved_map", bound(serialize = "V: Serialize", deserialize = "V: Deserialize<'de>"))]
    old: HashMap<u64, V, RandomState>,
    half: usize,
    forgotten: u64,
}

impl<V> Recent<V> {
    /// An empty memory of at most `capacity` keys.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), half: (capacity / 2).max(1), forgotten: 0 }
    }

    /// Remembers at most `capacity` keys from now on.
    pub(crate) fn keep(&mut self, capacity: usize) {
        self.half = (capacity / 2).max(1);
    }

    /// What is remembered of `key`. Looking keeps it young.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        if let Some(value) = self.old.remove(&key) {
            self.insert(key, value);
        }
        self.young.get_mut(&key)
    }

    /// Remembers `key`.
    pub fn insert(&mut self, key: u64, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.forgotten += self.old.len() as u64;
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Forgets `key`, and says what was remembered.
    pub fn remove(&mut self, key: u64) -> Option<V> {
        let young = self.young.remove(&key);
        let old = self.old.remove(&key);
        young.or(old)
    }

    /// Keys forgotten for want of room, since the beginning.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// True if nothing is remembered: a cheap way past the look-ups of filters that a source never uses.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_size_is_bounded() {
        let mut recent = Recent::new(8);
        for key in 0..1000 {
            recent.insert(key, key);
            assert!(recent.get_mut(0).is_some(), "after {key}");
            assert!(recent.young.len() + recent.old.len() <= 8);
        }
        assert!(recent.get_mut(500).is_none());
        assert!(recent.forgotten() > 900);
        assert_eq!(recent.remove(0), Some(0));
        assert_eq!(recent.remove(0), None);
    }
}
