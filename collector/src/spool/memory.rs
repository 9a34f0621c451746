//! A [`FileLayer`] in memory that fails as disks do, the same way for the same seed: for tests and simulations.
//!
//! What was appended and not synced may, after a [`Memory::crash`], be there or not, page by page, whatever the order it was
//! written in; so may names that were made, changed or removed since the directory was synced. After a failed sync the
//! pages count as clean, though they never reach the disk: asking again says yes and means nothing, as Linux does it.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use spikewatch_actors::entropy::Entropy;

use super::file_layer::{FileLayer, LayerFile};

const PAGE: usize = 512;

/// What fails, and how often. Probabilities are in 1/1000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// A write fails after some of its bytes.
    pub write: u64,
    /// A sync fails.
    pub sync: u64,
    /// A read gives fewer bytes than asked for.
    pub short_read: u64,
    /// Bytes the disk has room for; 0 for no limit.
    pub capacity: u64,
    /// The machine dies after so many more changes: what it does then fails, without effect. 0 for never.
    pub dies_after: u64,
}

/// See the module. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct Memory {
    disk: Arc<Mutex<DiskState>>,
    /// The lock this one holds; clones hold none.
    holds: Option<Arc<()>>,
}

#[derive(Debug)]
struct DiskState {
    /// As programs see it.
    names: BTreeMap<String, usize>,
    /// As a crash leaves it, unless something newer happens to be there.
    durable_names: BTreeMap<String, usize>,
    files: Vec<Content>,
    lock: std::sync::Weak<()>,
    faults: Faults,
    random: Entropy,
}

#[derive(Debug, Clone, Default)]
struct Content {
    written: Vec<u8>,
    /// Bytes whose sync succeeded.
    durable: usize,
    /// Pages that a failed sync has lost: (from, to).
    lost: Vec<(usize, usize)>,
}

impl DiskState {
    /// True once in a while: `of` in 1000.
    fn strikes(&self, of: u64) -> bool {
        of > 0 && self.random.next_u64() % 1000 < of
    }

    /// Counts a change; fails if the machine is dead.
    fn change(&mut self) -> io::Result<()> {
        match self.faults.dies_after {
            0 => Ok(()),
            1 => Err(io::Error::other("injected: the machine is dead")),
            _ => {
                self.faults.dies_after -= 1;
                Ok(())
            }
        }
    }

    /// A number from 0 to `most`.
    fn upto(&self, most: usize) -> usize {
        (self.random.next_u64() % (most as u64 + 1)) as usize
    }

    fn used(&self) -> u64 {
        self.names.values().filter_map(|id| self.files.get(*id)).map(|file| file.written.len() as u64).sum()
    }
}

impl Memory {
    /// An empty disk without faults; `seed` decides what a crash leaves.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let disk = DiskState {
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            files: Vec::new(),
            lock: std::sync::Weak::new(),
            faults: Faults::default(),
            random: Entropy::seeded(seed),
        };
        Self { disk: Arc::new(Mutex::new(disk)), holds: None }
    }

    /// Another handle, without the lock.
    #[must_use]
    pub fn handle(&self) -> Self {
        Self { disk: Arc::clone(&self.disk), holds: None }
    }

    /// From now on, this fails.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// The machine goes down and comes up again, without faults.
    pub fn crash(&self) {
        let mut disk = self.state();
        disk.lock = std::sync::Weak::new();
        disk.faults = Faults::default();
        let mut names = BTreeMap::new();
        let all: Vec<String> = disk.names.keys().chain(disk.durable_names.keys()).cloned().collect();
        for name in all {
            let (now, durable) = (disk.names.get(&name).copied(), disk.durable_names.get(&name).copied());
            let found = if now == durable || disk.upto(1) == 0 { now } else { durable };
            if let Some(id) = found {
                names.insert(name, id);
            }
        }
        for id in 0..disk.files.len() {
            let content = disk.files.get(id).cloned().unwrap_or_default();
            let survived = survive(&disk, &content);
            if let Some(file) = disk.files.get_mut(id) {
                *file = Content { durable: survived.len(), written: survived, lost: Vec::new() };
            }
        }
        disk.durable_names.clone_from(&names);
        disk.names = names;
    }

    /// Flips a bit of a file; false if there is no such byte.
    pub fn flip(&self, name: &str, offset: u64, bit: u8) -> bool {
        let mut disk = self.state();
        let id = disk.names.get(name).copied();
        let file = id.and_then(|id| disk.files.get_mut(id));
        let byte = file.and_then(|file| file.written.get_mut(usize::try_from(offset).unwrap_or(usize::MAX)));
        byte.map(|byte| *byte ^= 1 << (bit % 8)).is_some()
    }

    /// Puts a file there, durably, whatever was there before.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut disk = self.state();
        let id = disk.files.len();
        disk.files.push(Content { written: bytes.to_vec(), durable: bytes.len(), lost: Vec::new() });
        disk.names.insert(name.to_owned(), id);
        disk.durable_names.insert(name.to_owned(), id);
    }

    /// The bytes of a file.
    #[must_use]
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.state();
        disk.names.get(name).and_then(|id| disk.files.get(*id)).map(|file| file.written.clone())
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a crash leaves of a file.
fn survive(disk: &DiskState, content: &Content) -> Vec<u8> {
    let length = content.durable + disk.upto(content.written.len() - content.durable);
    let mut survived: Vec<u8> = content.written.iter().take(length).copied().collect();
    let mut zero = |from: usize, to: usize| {
        survived.iter_mut().take(to).skip(from).for_each(|byte| *byte = 0);
    };
    let mut page = content.durable;
    while page < length {
        // Pages lie on their own borders, wherever the durable part ends.
        let next = (page / PAGE + 1) * PAGE;
        if disk.upto(3) == 0 {
            zero(page, next);
        }
        page = next;
    }
    for (from, to) in &content.lost {
        zero(*from, *to);
    }
    survived
}

impl FileLayer for Memory {
    type File = MemoryFile;

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("memory").join(name)
    }

    fn lock(&mut self, _: &str) -> io::Result<()> {
        let mut disk = self.state();
        if disk.lock.upgrade().is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let held = Arc::new(());
        disk.lock = Arc::downgrade(&held);
        drop(disk);
        self.holds = Some(held);
        Ok(())
    }

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
        let mut disk = self.state();
        disk.change()?;
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = disk.files.len();
        disk.files.push(Content::default());
        disk.names.insert(name.to_owned(), id);
        Ok(MemoryFile { disk: Arc::clone(&self.disk), id })
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        let id = self.state().names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(MemoryFile { disk: Arc::clone(&self.disk), id })
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let disk = self.state();
        let length = |id: &usize| disk.files.get(*id).map_or(0, |file| file.written.len() as u64);
        Ok(disk.names.iter().map(|(name, id)| (name.clone(), length(id))).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.state();
        disk.change()?;
        let id = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.state();
        disk.change()?;
        disk.names.remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.state();
        disk.change()?;
        if disk.strikes(disk.faults.sync) {
            return Err(io::Error::other("injected: the directory can't be synced"));
        }
        disk.durable_names = disk.names.clone();
        Ok(())
    }
}

/// A file of a [`Memory`].
#[derive(Debug)]
pub struct MemoryFile {
    disk: Arc<Mutex<DiskState>>,
    id: usize,
}

impl MemoryFile {
    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LayerFile for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.state();
        disk.change()?;
        let Faults { write, capacity, .. } = disk.faults;
        let room = if capacity == 0 { u64::MAX } else { capacity.saturating_sub(disk.used()) };
        let full = (bytes.len() as u64) > room;
        let failed = disk.strikes(write);
        let taken = match (failed, full) {
            (true, _) => disk.upto(bytes.len()).min(usize::try_from(room).unwrap_or(usize::MAX)),
            (false, true) => usize::try_from(room).unwrap_or(usize::MAX),
            (false, false) => bytes.len(),
        };
        let file = disk.files.get_mut(self.id).ok_or(io::ErrorKind::NotFound)?;
        file.written.extend(bytes.iter().take(taken));
        match (failed, full) {
            (true, _) => Err(io::Error::other("injected: the write fails")),
            (false, true) => Err(io::ErrorKind::StorageFull.into()),
            (false, false) => Ok(()),
        }
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let disk = self.state();
        let file = disk.files.get(self.id).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.written.len());
        let rest = file.written.get(start..).unwrap_or_default();
        let mut length = rest.len().min(into.len());
        if length > 1 && disk.strikes(disk.faults.short_read) {
            length = 1 + disk.upto(length - 2);
        }
        into.iter_mut().zip(rest).take(length).for_each(|(to, from)| *to = *from);
        Ok(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.state();
        disk.change()?;
        let failed = disk.strikes(disk.faults.sync);
        let lose: Vec<bool> = (0..64).map(|_| disk.upto(1) == 0).collect();
        let file = disk.files.get_mut(self.id).ok_or(io::ErrorKind::NotFound)?;
        if failed {
            let mut page = file.durable;
            for lost in lose.iter().cycle() {
                if page >= file.written.len() {
                    break;
                }
                let next = (page / PAGE + 1) * PAGE;
                if *lost {
                    file.lost.push((page, next.min(file.written.len())));
                }
                page = next;
            }
        }
        file.durable = file.written.len();
        if failed { Err(io::Error::other("injected: the sync fails")) } else { Ok(()) }
    }
}
