//! Deleting segments: those that hold nothing any more at once, those whose slices are all counted after a while.

use std::{collections::BTreeMap, io};

use super::{Spool, error::Error, file_layer::FileLayer, segment};

/// Slices of one segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Not wholly counted.
    pub(super) live: usize,
    /// Wholly counted.
    pub(super) trimmed: usize,
}

impl<L: FileLayer> Spool<L> {
    /// Syncs, and deletes segments whose slices were all found counted `keep_trimmed_ms` ago. `now_ms` is of any clock that
    /// does not go back; what was counted when the spool was opened counts from the first call.
    ///
    /// # Errors
    /// The file system's. What could not be deleted is tried again the next time.
    pub fn maintain(&mut self, now_ms: u64) -> Result<(), Error> {
        self.sync()?;
        self.delete_idle()?;
        let keep = self.options.keep_trimmed_ms;
        let tallies = self.tallies();
        let mut expired = Vec::new();
        for (number, segment) in &mut self.segments {
            let is_live = tallies.get(number).is_some_and(|tally| tally.live > 0);
            if is_live {
                segment.trimmed_at = None;
            } else if now_ms.saturating_sub(*segment.trimmed_at.get_or_insert(now_ms)) >= keep {
                expired.push(*number);
            }
        }
        self.delete(&expired)
    }

    /// Slices per segment that has any.
    pub(super) fn tallies(&self) -> BTreeMap<u64, Tally> {
        let mut tallies: BTreeMap<u64, Tally> = BTreeMap::new();
        for kept in self.state.slices.values() {
            let tally = tallies.entry(kept.place.segment).or_default();
            if kept.trimmed { tally.trimmed += 1 } else { tally.live += 1 }
        }
        tallies
    }

    /// Segments without a slice, but not the one that is written to.
    pub(super) fn idle(&self) -> Vec<u64> {
        let tallies = self.tallies();
        self.segments
            .keys()
            .copied()
            .filter(|number| !tallies.contains_key(number) && !self.is_active(*number))
            .collect()
    }

    /// Deletes them, if all that makes them idle is durable.
    pub(super) fn delete_idle(&mut self) -> Result<(), Error> {
        if !self.waiting.is_empty() {
            return Ok(());
        }
        let idle = self.idle();
        self.delete(&idle)
    }

    /// The newest segment has the newest head: it stays, whether or not more can be written to it.
    pub(super) fn is_active(&self, segment: u64) -> bool {
        segment == self.newest
    }

    /// Deletes segments and what is in them; the active one stays. Should a file come back after a crash, then the newest
    /// head either knows it and what was removed from it, or does not know it, and it does not count.
    pub(super) fn delete(&mut self, numbers: &[u64]) -> Result<(), Error> {
        let mut deleted = false;
        let newest = self.newest;
        for number in numbers.iter().filter(|number| **number != newest) {
            let name = segment::name(*number);
            match self.files.remove(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::Io { doing: "delete", path: self.files.path(&name), source: error });
                }
                _ => {}
            }
            self.state.slices.retain(|_, kept| kept.place.segment != *number);
            if let Some(segment) = self.segments.remove(number) {
                let (first, last) = segment.records;
                self.state.standing.removed.remove(first..=last);
                self.durable.removed.remove(first..=last);
            }
            self.counts.deleted_segments += 1;
            deleted = true;
        }
        if !deleted {
            return Ok(());
        }
        self.state.retire();
        if self.waiting.is_empty() {
            self.durable.numberings.clone_from(&self.state.standing.numberings);
        }
        let synced = self.files.sync_dir();
        synced.map_err(|source| Error::Io { doing: "sync the directory", path: self.files.path(""), source })
    }
}
