//! All that scoring has learnt, as bytes and back, to the last bit: a head, and parts of bounded size.
//!
//! The head says which sites there are, and for each table what its jobs have learnt over all series; each part holds
//! some keys of one table with their models (`Model::to_bytes`), in the order in
//! which they were added. Everything is between two buckets: nothing is half counted.

use prost::Message;
use spikewatch_domain::key::Subject;

use super::{Scoring, series::Known, sites::Sites, table::Table, wide::Wide};
use crate::joint::Host;

/// Version of the whole encoding.
pub const VERSION: u32 = 5;
/// Keys of one part: with six jobs about 22 MB before compression.
const KEYS: usize = 2048;

/// Why bytes are not what scoring has learnt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub(super) String);

impl Unreadable {
    pub(super) fn because(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Head {
    #[prost(message, repeated, tag = "1")]
    pub(super) sites: Vec<SiteState>,
    #[prost(message, repeated, tag = "2")]
    pub(super) tables: Vec<TableState>,
    /// Of jobs with longer buckets.
    #[prost(message, repeated, tag = "3")]
    wide: Vec<WideState>,
}

/// Jobs with one length of longer buckets.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WideState {
    #[prost(message, optional, tag = "1")]
    head: Option<Head>,
    #[prost(message, optional, tag = "2")]
    open: Option<OpenState>,
}

/// A longer bucket of which parts are still to come; its windows follow.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OpenState {
    #[prost(bool, tag = "1")]
    pub(super) begun: bool,
    #[prost(uint64, optional, tag = "2")]
    pub(super) start: Option<u64>,
    #[prost(bool, tag = "3")]
    pub(super) partial: bool,
    #[prost(string, repeated, tag = "4")]
    pub(super) missing: Vec<String>,
    #[prost(uint64, tag = "5")]
    pub(super) keys: u64,
}

/// One site; the first is that of global series and has no name.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SiteState {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint64, optional, tag = "2")]
    pub(super) last: Option<u64>,
    #[prost(uint64, repeated, tag = "3")]
    pub(super) unknown: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TableState {
    #[prost(uint64, tag = "1")]
    pub(super) day: u64,
    #[prost(uint64, tag = "2")]
    pub(super) keys: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) judges: Vec<JudgeState>,
    #[prost(message, optional, tag = "4")]
    pub(super) joint: Option<JointState>,
    #[prost(message, repeated, tag = "5")]
    pub(super) rare: Vec<RareState>,
}

/// What one job has learnt of what sites hardly ever meet.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RareState {
    #[prost(string, tag = "1")]
    pub(super) job: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) sites: Vec<RareSite>,
}

/// One site, by number, and its values.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RareSite {
    #[prost(uint32, tag = "1")]
    pub(super) site: u32,
    #[prost(uint64, tag = "7")]
    pub(super) heard: u64,
    #[prost(uint64, tag = "2")]
    pub(super) buckets: u64,
    #[prost(uint64, repeated, tag = "3")]
    pub(super) met: Vec<u64>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(super) subject: Vec<Vec<u8>>,
    #[prost(uint32, repeated, tag = "5")]
    pub(super) count: Vec<u32>,
    #[prost(uint64, repeated, tag = "6")]
    pub(super) last: Vec<u64>,
}

/// What the joint jobs have learnt over all hosts.
#[derive(Clone, PartialEq, Message)]
pub(super) struct JointState {
    #[prost(uint64, repeated, tag = "1")]
    pub(super) rates: Vec<u64>,
}

/// What one job has learnt over all its series.
#[derive(Clone, PartialEq, Message)]
pub(super) struct JudgeState {
    #[prost(string, tag = "1")]
    pub(super) job: String,
    #[prost(uint64, tag = "2")]
    pub(super) memory: u64,
    #[prost(uint64, repeated, tag = "3")]
    pub(super) calibration: Vec<u64>,
    #[prost(uint64, repeated, tag = "4")]
    pub(super) fleet: Vec<u64>,
}

/// Keys of one table.
#[derive(Clone, PartialEq, Message)]
pub(super) struct KeysState {
    #[prost(uint32, tag = "1")]
    table: u32,
    #[prost(uint32, repeated, tag = "2")]
    site: Vec<u32>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    subject: Vec<Vec<u8>>,
    #[prost(uint64, repeated, tag = "4")]
    seen: Vec<u64>,
    /// All models of all keys, one after the other.
    #[prost(bytes = "vec", tag = "5")]
    models: Vec<u8>,
    #[prost(uint32, repeated, tag = "6")]
    active: Vec<u32>,
    /// What the joint jobs keep of all keys ([`Host::to_bytes`]), likewise; empty without such jobs.
    #[prost(bytes = "vec", tag = "7")]
    hosts: Vec<u8>,
    /// 0, or whose it is: the jobs with longer buckets by number, from 1.
    #[prost(uint32, tag = "8")]
    wide: u32,
    /// Instead of keys: windows of the bucket that is open there.
    #[prost(bytes = "vec", tag = "9")]
    windows: Vec<u8>,
}

/// One key as it is stored.
pub(super) struct StoredKey<'a> {
    pub(super) known: Known,
    pub(super) models: &'a [u8],
}

/// The keys of one table.
fn parts(table: &Table, number: u32, wide: u32) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..table.keys()).step_by(KEYS).map(move |first| {
        let mut part = KeysState { table: number, wide, ..KeysState::default() };
        table.store_keys(first..first + KEYS, |known, models| {
            let mut bytes = Vec::new();
            known.subject.encode(&mut bytes);
            part.site.push(known.site);
            part.subject.push(bytes);
            part.seen.push(known.seen);
            part.active.push(known.active);
            part.models.extend_from_slice(models);
            part.hosts.extend(known.host.iter().flat_map(|host| host.to_bytes()));
        });
        part.encode_to_vec()
    })
}

impl Scoring {
    /// The head and then the parts, each made when it is asked for.
    pub fn stored(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        let wide = self.wide.iter().zip(1u32..).flat_map(|(wide, number)| {
            let open = move |windows| KeysState { wide: number, windows, ..KeysState::default() }.encode_to_vec();
            wide.scoring.parts(number).chain(wide.stored_windows().map(open))
        });
        std::iter::once(self.head().encode_to_vec()).chain(self.parts(0)).chain(wide)
    }

    fn head(&self) -> Head {
        let (sites, tables) = (self.sites.stored(), self.tables.iter().map(Table::stored).collect());
        let wide = self.wide.iter();
        let wide = wide.map(|wide| WideState { head: Some(wide.scoring.head()), open: Some(wide.stored()) }).collect();
        Head { sites, tables, wide }
    }

    /// `wide`: its number among the jobs with longer buckets, from 1.
    fn parts(&self, wide: u32) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.tables.iter().zip(0u32..).flat_map(move |(table, number)| parts(table, number, wide))
    }

    /// Takes back one of what [`stored`](Self::stored) gave, in the same order, into scoring that has learnt nothing.
    ///
    /// # Errors
    /// It is damaged, or of other jobs. What was taken is then of no use.
    pub fn restore(&mut self, number: usize, bytes: &[u8]) -> Result<(), Unreadable> {
        if number > 0 {
            return self.restore_keys(bytes);
        }
        self.restore_head(&Head::decode(bytes).map_err(Unreadable::because)?)
    }

    fn restore_head(&mut self, head: &Head) -> Result<(), Unreadable> {
        if head.tables.len() != self.tables.len() || head.wide.len() != self.wide.len() {
            return Err(Unreadable::because("it is of other jobs"));
        }
        self.sites = Sites::restore(self.span, &head.sites)?;
        for (table, state) in self.tables.iter_mut().zip(&head.tables) {
            table.restore(state)?;
        }
        for (wide, state) in self.wide.iter_mut().zip(&head.wide) {
            let WideState { head: Some(head), open: Some(open) } = state else {
                return Err(Unreadable::because("it has not all of the jobs with longer buckets"));
            };
            wide.scoring.restore_head(head)?;
            wide.restore(open)?;
        }
        Ok(())
    }

    fn restore_keys(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        let part = KeysState::decode(bytes).map_err(Unreadable::because)?;
        let Some(number) = part.wide.checked_sub(1) else { return self.take_keys(&part) };
        let wide =
            self.wide.get_mut(number as usize).ok_or_else(|| Unreadable::because("no such length of buckets"))?;
        if part.windows.is_empty() { wide.scoring.take_keys(&part) } else { wide.restore_windows(&part.windows) }
    }

    fn take_keys(&mut self, part: &KeysState) -> Result<(), Unreadable> {
        let table = self.tables.get_mut(part.table as usize).ok_or_else(|| Unreadable::because("no such table"))?;
        let keys = part.site.len();
        let columns = [part.subject.len(), part.seen.len(), part.active.len()];
        if columns != [keys; 3]
            || keys == 0
            || !part.models.len().is_multiple_of(keys)
            || ![0, keys * Host::LENGTH].contains(&part.hosts.len())
        {
            return Err(Unreadable::because("its columns are of different lengths"));
        }
        let models = part.models.chunks_exact((part.models.len() / keys).max(1));
        let mut hosts = part.hosts.chunks_exact(Host::LENGTH).map(Host::from_bytes);
        let named = part.site.iter().zip(&part.subject);
        for (((&site, subject), (&seen, &active)), models) in named.zip(part.seen.iter().zip(&part.active)).zip(models)
        {
            let subject = Subject::decode(subject).map_err(Unreadable::because)?;
            let host = hosts.next().transpose().map_err(Unreadable::because)?.map(Box::new);
            table.restore_key(StoredKey { known: Known { site, subject, seen, active, host }, models })?;
        }
        Ok(())
    }

    /// True once all keys that the head promised have been taken back.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.tables.iter().all(Table::is_whole) && self.wide.iter().all(Wide::is_whole)
    }
}

#[cfg(test)]
mod tests;
