//! Baselines of the series of one split, kept together: a key's models, one per job, lie side by side, since its window
//! feeds them all.

use hashbrown::HashMap;
use rapidhash::fast::GlobalState;
use spikewatch_domain::{key::Subject, record::EventMillis};

use super::model::Model;
use crate::joint::Host;

/// Keys of one block: the models never move, however many keys there are.
const BLOCK: usize = 256;

/// What is known of a key besides its models.
#[derive(Debug)]
pub(super) struct Known {
    /// Number of its site.
    pub(super) site: u32,
    /// What within the site.
    pub(super) subject: Subject,
    /// Start of the last bucket with a window of it.
    pub(super) seen: EventMillis,
    /// Buckets with a window of it.
    pub(super) active: u32,
    /// What joint jobs keep of it, where there are such.
    pub(super) host: Option<Box<Host>>,
}

#[derive(Debug)]
pub(super) struct SeriesSet {
    /// Models per key.
    jobs: usize,
    numbers: HashMap<(u32, Subject), usize, GlobalState>,
    known: Vec<Known>,
    blocks: Vec<Vec<Model>>,
}

impl SeriesSet {
    pub(super) fn new(jobs: usize) -> Self {
        Self { jobs, numbers: HashMap::with_hasher(GlobalState::new()), known: Vec::new(), blocks: Vec::new() }
    }

    /// Keys.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn find(&self, site: u32, subject: &Subject) -> Option<usize> {
        // The key is cloned only where its subject is a name.
        self.numbers.get(&(site, subject.clone())).copied()
    }

    /// All keys.
    pub(super) fn known(&self) -> &[Known] {
        &self.known
    }

    /// Adds a key whose models start as `fresh`, one per job.
    pub(super) fn add(&mut self, known: Known, fresh: &[Model]) -> usize {
        let number = self.known.len();
        let (site, subject) = (known.site, known.subject.clone());
        self.known.push(known);
        if number.is_multiple_of(BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK * self.jobs));
        }
        if let Some(block) = self.blocks.last_mut() {
            block.extend_from_slice(fresh);
        }
        self.numbers.insert((site, subject), number);
        number
    }

    /// Forgets keys without a window since `before`.
    pub(super) fn forget(&mut self, before: EventMillis) {
        for number in (0..self.known.len()).rev() {
            if self.known.get(number).is_some_and(|known| known.seen < before) {
                self.remove(number);
            }
        }
    }

    /// Removes a key; the last one takes its number.
    pub(super) fn remove(&mut self, number: usize) {
        let gone = self.known.swap_remove(number);
        self.numbers.remove(&(gone.site, gone.subject));
        let Some(block) = self.blocks.last_mut() else { return };
        let last = block.split_off(block.len().saturating_sub(self.jobs));
        if block.is_empty() {
            self.blocks.pop();
        }
        // Unless it was itself the last.
        if let Some((moved, place)) = self.get_mut(number) {
            place.iter_mut().zip(last).for_each(|(place, model)| *place = model);
            let key = (moved.site, moved.subject.clone());
            self.numbers.insert(key, number);
        }
    }

    /// A key, its subject, and its models.
    pub(super) fn get(&self, number: usize) -> Option<(&Known, &Subject, &[Model])> {
        let first = number % BLOCK * self.jobs;
        let models = self.blocks.get(number / BLOCK)?.get(first..first + self.jobs)?;
        let known = self.known.get(number)?;
        Some((known, &known.subject, models))
    }

    /// A key and its models.
    pub(super) fn get_mut(&mut self, number: usize) -> Option<(&mut Known, &mut [Model])> {
        let first = number % BLOCK * self.jobs;
        let models = self.blocks.get_mut(number / BLOCK)?.get_mut(first..first + self.jobs)?;
        Some((self.known.get_mut(number)?, models))
    }

    /// All keys with their models, in the order they were added.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&mut Known, &mut [Model])> {
        let jobs = self.jobs;
        let models = self.blocks.iter_mut().flat_map(move |block| block.chunks_exact_mut(jobs));
        self.known.iter_mut().zip(models)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job;

    fn subject(number: u32) -> Subject {
        Subject::Asn(number)
    }

    #[test]
    fn what_is_not_seen_any_more_is_forgotten_and_the_rest_keeps_its_models() {
        let mut set = SeriesSet::new(2);
        let host = |number: u32| {
            // Its last field is a number that may be anything.
            let mut bytes = Host::default().to_bytes();
            bytes.splice(Host::LENGTH - 4.., number.to_le_bytes());
            Some(Box::new(Host::from_bytes(&bytes).unwrap()))
        };
        let model = |number: u32, job: u32| Model::new(job::Model::Compact, f64::from(number * 2 + job));
        for number in 0..600 {
            let seen = if number % 3 == 0 || number > 590 { 5 } else { 50 };
            let known = Known { site: 1, subject: subject(number), seen, active: 1, host: host(number) };
            set.add(known, &[model(number, 0), model(number, 1)]);
        }
        set.forget(10);
        let kept: Vec<u32> = (0..600).filter(|number| number % 3 != 0 && *number <= 590).collect();
        assert_eq!(set.len(), kept.len());
        for number in 0..600 {
            let found = set.find(1, &subject(number));
            assert_eq!(found.is_some(), kept.contains(&number), "{number}");
            if let Some((known, models)) = found.and_then(|found| set.get_mut(found)) {
                assert_eq!((known.seen, &known.host), (50, &host(number)));
                assert_eq!(models, [model(number, 0), model(number, 1)]);
            }
        }
        assert_eq!(set.iter_mut().count(), kept.len());
        set.forget(100);
        assert_eq!((set.len(), set.iter_mut().count()), (0, 0));
        let known = Known { site: 1, subject: subject(7), seen: 200, active: 1, host: None };
        set.add(known, &[model(7, 0), model(7, 1)]);
        assert_eq!(set.find(1, &subject(7)), Some(0));
    }
}
