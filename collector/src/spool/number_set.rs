//! A set of numbers that come mostly in runs, kept as the runs.

use std::{collections::BTreeMap, ops::RangeInclusive};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NumberSet {
    /// First number of a run → its last. Runs neither touch nor overlap.
    runs: BTreeMap<u64, u64>,
}

impl NumberSet {
    pub(super) fn contains(&self, number: u64) -> bool {
        self.runs.range(..=number).next_back().is_some_and(|(_, last)| number <= *last)
    }

    pub(super) fn insert(&mut self, numbers: RangeInclusive<u64>) {
        let (mut first, mut last) = numbers.into_inner();
        if first > last {
            return;
        }
        // Every run that begins at or before the number after `last`, and reaches the one before `first`.
        while let Some((&start, &end)) = self.runs.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            self.runs.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.runs.insert(first, last);
    }

    pub(super) fn remove(&mut self, numbers: RangeInclusive<u64>) {
        let (first, last) = numbers.into_inner();
        while let Some((&start, &end)) = self.runs.range(..=last).next_back() {
            if end < first {
                break;
            }
            self.runs.remove(&start);
            if end > last {
                self.runs.insert(last + 1, end);
            }
            if start < first {
                self.runs.insert(start, first - 1);
                break;
            }
        }
    }

    /// (first, last) of each run, ascending.
    pub(super) fn runs(&self) -> Vec<(u64, u64)> {
        self.runs.iter().map(|(first, last)| (*first, *last)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(changes in proptest::collection::vec((any::<bool>(), 0u64..40, 0u64..6), 1..40)) {
            let (mut set, mut model) = (NumberSet::default(), BTreeSet::new());
            for (insert, first, length) in changes {
                let numbers = first..=first + length;
                if insert {
                    model.extend(numbers.clone());
                    set.insert(numbers);
                } else {
                    model.retain(|number| !numbers.contains(number));
                    set.remove(numbers);
                }
                prop_assert!((0..50).all(|number| set.contains(number) == model.contains(&number)));
                prop_assert!(set.runs().windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{set:?}");
            }
        }
    }
}
