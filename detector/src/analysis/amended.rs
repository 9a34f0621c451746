//! What late corrections have made of windows, as far as it is remembered: a copy of what the log says, so that not every
//! correction has to read all of its bucket again. Whatever is forgotten is read from the log, to the same bit.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use spikewatch_domain::{
    key::{SiteName, Subject},
    record::EventMillis,
    window::Window,
};

use crate::{
    prepare,
    scoring::{Change, Correction, Row},
    store::{LateEntry, LogEntry, Store, StoreError},
};

/// Most windows that are remembered. The newest correction's are always.
const MOST_WINDOWS: usize = 20_000;
/// Most entries that are remembered.
const MOST_ENTRIES: usize = 256;

/// A site and what within it.
type Key = (SiteName, Subject);

/// Some windows of one bucket, as of the last correction that was looked at.
#[derive(Debug, Default)]
struct Known {
    windows: BTreeMap<Key, (Window, bool)>,
    /// Grows with every use.
    used: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Amended {
    /// By bucket and shard: windows that were corrected. Without a shard: all site windows of the bucket.
    known: BTreeMap<(EventMillis, Option<u32>), Known>,
    uses: u64,
}

impl Amended {
    /// Notes the rows that a bucket is scored with, so that its site windows need not be read for the first correction.
    pub(super) fn scored(&mut self, start: EventMillis, rows: &[Row]) {
        let mut known = Known { used: self.next_use(), ..Known::default() };
        rows.iter().filter(|row| row.subject == Subject::Site).for_each(|row| known.add(row));
        self.known.insert((start, None), known);
        self.forget();
    }

    /// What a row of late deltas changes. Rows come in the order of the log, each once. `global`: also the sum of all
    /// sites is asked for.
    pub(super) async fn correct(
        &mut self,
        store: &dyn Store,
        late: &LateEntry,
        global: bool,
    ) -> Result<Correction, StoreError> {
        let LateEntry { position, shard, entry } = late;
        let start = entry.bucket;
        let mut deltas = Known::default();
        prepare::rows(entry)?.iter().for_each(|row| deltas.add(row));
        let mut known = self.take(start, Some(*shard));
        let unknown: BTreeSet<&Key> = deltas.windows.keys().filter(|key| !known.windows.contains_key(key)).collect();
        if !unknown.is_empty() {
            let log = store.earlier(start, Some(*shard), *position).await?;
            known.read(&log, |row| unknown.contains(&(row.site.clone(), row.subject.clone())))?;
        }
        let sites = deltas.windows.iter().filter(|((_, subject), _)| *subject == Subject::Site);
        let sites: Vec<Row> = sites.map(row).collect();
        let mut correction = Correction { start, ..Correction::default() };
        for (key, (delta, incomplete)) in deltas.windows {
            let (window, doubt) = known.windows.entry(key.clone()).or_default();
            let before = window.clone();
            window.merge(&delta);
            *doubt |= incomplete;
            let ((site, subject), after, incomplete) = (key, window.clone(), *doubt);
            correction.changes.push(Change { site, subject, before, after, incomplete });
        }
        self.known.insert((start, Some(*shard)), known);
        if global && !sites.is_empty() {
            correction.sites = Some(self.correct_sites(store, late, &sites).await?);
        }
        self.forget();
        Ok(correction)
    }

    async fn correct_sites(
        &mut self,
        store: &dyn Store,
        late: &LateEntry,
        deltas: &[Row],
    ) -> Result<(Vec<Row>, Vec<Row>), StoreError> {
        let start = late.entry.bucket;
        let is_known = self.known.contains_key(&(start, None));
        let mut known = self.take(start, None);
        if !is_known {
            let log = store.earlier(start, None, late.position).await?;
            known.read(&log, |row| row.subject == Subject::Site)?;
        }
        let before = known.windows.iter().map(row).collect();
        deltas.iter().for_each(|row| known.add(row));
        let after = known.windows.iter().map(row).collect();
        self.known.insert((start, None), known);
        Ok((before, after))
    }

    fn take(&mut self, start: EventMillis, shard: Option<u32>) -> Known {
        let used = self.next_use();
        Known { used, ..self.known.remove(&(start, shard)).unwrap_or_default() }
    }

    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    /// Drops what was used the longest ago.
    fn forget(&mut self) {
        let mut held: usize = self.known.values().map(|known| known.windows.len()).sum();
        while (held > MOST_WINDOWS && self.known.len() > 2) || self.known.len() > MOST_ENTRIES {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used).map(|(key, _)| *key);
            let Some(Entry::Occupied(entry)) = oldest.map(|key| self.known.entry(key)) else { return };
            held -= entry.remove().windows.len();
        }
    }
}

impl Known {
    fn add(&mut self, row: &Row) {
        let (window, incomplete) = self.windows.entry((row.site.clone(), row.subject.clone())).or_default();
        window.merge(&row.window);
        *incomplete |= row.incomplete;
    }

    fn read(&mut self, log: &[LogEntry], wanted: impl Fn(&Row) -> bool) -> Result<(), StoreError> {
        for entry in log {
            prepare::rows(entry)?.iter().filter(|row| wanted(row)).for_each(|row| self.add(row));
        }
        Ok(())
    }
}

fn row(((site, subject), (window, incomplete)): (&Key, &(Window, bool))) -> Row {
    Row { site: site.clone(), subject: subject.clone(), window: window.clone(), incomplete: *incomplete }
}
