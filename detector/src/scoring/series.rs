//! Baselines of the series of one split, kept together: a key's models, one per job, lie side by side, since its window
//! feeds them all.

use hashbrown::HashMap;
use rapidhash::fast::GlobalState;
use spikewatch_domain::{key::Subject, record::EventMillis};

use crate::baseline::Compact;

/// Keys of one block: the models never move, however many keys there are.
const BLOCK: usize = 256;

/// What is known of a key besides its models.
#[derive(Debug)]
pub(super) struct Known {
    /// Number of its site.
    pub(super) site: u32,
    /// Start of the last bucket with a window of it.
    pub(super) seen: EventMillis,
}

#[derive(Debug)]
pub(super) struct SeriesSet {
    /// Models per key.
    jobs: usize,
    numbers: HashMap<(u32, Subject), usize, GlobalState>,
    known: Vec<Known>,
    blocks: Vec<Vec<Compact>>,
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

    /// Adds a key whose models start as `fresh`, one per job.
    pub(super) fn add(&mut self, site: u32, subject: &Subject, seen: EventMillis, fresh: &[Compact]) -> usize {
        let number = self.known.len();
        self.known.push(Known { site, seen });
        if number.is_multiple_of(BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK * self.jobs));
        }
        if let Some(block) = self.blocks.last_mut() {
            block.extend_from_slice(fresh);
        }
        self.numbers.insert((site, subject.clone()), number);
        number
    }

    /// A key and its models.
    pub(super) fn get_mut(&mut self, number: usize) -> Option<(&mut Known, &mut [Compact])> {
        let first = number % BLOCK * self.jobs;
        let models = self.blocks.get_mut(number / BLOCK)?.get_mut(first..first + self.jobs)?;
        Some((self.known.get_mut(number)?, models))
    }

    /// All keys with their models, in the order they were added.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&mut Known, &mut [Compact])> {
        let jobs = self.jobs;
        let models = self.blocks.iter_mut().flat_map(move |block| block.chunks_exact_mut(jobs));
        self.known.iter_mut().zip(models)
    }
}
