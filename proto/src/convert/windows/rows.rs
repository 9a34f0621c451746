//! All columns side by side, walked row by row. Every column is consumed to its exact end, and what a row holds is
//! checked before it is given out.

use spikewatch_domain::{
    distinct::Distinct,
    key::{SiteName, Subject},
    window::{Counters, Peer, Service, TOP_PEERS, TOP_SERVICES},
};

use super::{
    ESTIMATED, INCOMPLETE, Invalid, MAX_CONTRIBUTOR_NAME_BYTES, MAX_ROWS, NAMES, OVERFLOW,
    row::{Listed, NameList, RowRef, next_peer, unpack},
};
use crate::v1;

/// The rows of a message.
#[derive(Debug)]
pub struct Rows<'a> {
    sites: Vec<SiteName>,
    left: usize,
    site: Column<'a, u32>,
    keys: Column<'a, u8>,
    events: Column<'a, u64>,
    bytes_out: Column<'a, u64>,
    bytes_in: Column<'a, u64>,
    packets_out: Column<'a, u64>,
    packets_in: Column<'a, u64>,
    denied: Column<'a, u32>,
    flags: Column<'a, u32>,
    peer_count: Column<'a, u32>,
    peers: Column<'a, u8>,
    peer_lists: Lists<'a>,
    peer_bytes_out: Column<'a, u64>,
    service_count: Column<'a, u32>,
    services: Column<'a, u32>,
    service_lists: Lists<'a>,
    distinct_length: Column<'a, u32>,
    distinct: Column<'a, u8>,
    name_count: Column<'a, u32>,
    names: Column<'a, String>,
    name_lists: Lists<'a>,
}

#[derive(Debug)]
struct Lists<'a> {
    events: Column<'a, u32>,
    bytes: Column<'a, u64>,
    inherited: Column<'a, u32>,
}

/// Events, bytes and inherited weight of the entries of one list; no inherited weight if the list was never cut.
pub(super) type Weights<'a> = (&'a [u32], &'a [u64], &'a [u32]);

impl<'a> Lists<'a> {
    fn take(&mut self, count: usize, cut: bool) -> Result<Weights<'a>, Invalid> {
        let inherited = self.inherited.take(if cut { count } else { 0 })?;
        Ok((self.events.take(count)?, self.bytes.take(count)?, inherited))
    }

    fn finish(&self) -> Result<(), Invalid> {
        self.events.finish()?;
        self.bytes.finish()?;
        self.inherited.finish()
    }
}

#[derive(Debug)]
struct Column<'a, T> {
    name: &'static str,
    /// All since the last cut, and what of it is not read.
    whole: &'a [T],
    rest: &'a [T],
}

impl<'a, T: Clone> Column<'a, T> {
    fn new(name: &'static str, whole: &'a [T]) -> Self {
        Self { name, whole, rest: whole }
    }

    fn one(&mut self) -> Result<&'a T, Invalid> {
        let (first, rest) = self.rest.split_first().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(first)
    }

    fn take(&mut self, count: usize) -> Result<&'a [T], Invalid> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(taken)
    }

    fn cut(&mut self) -> Vec<T> {
        let (read, rest) = self.whole.split_at(self.whole.len() - self.rest.len());
        self.whole = rest;
        read.to_vec()
    }

    fn short(&self) -> Invalid {
        Invalid::new(self.name, "ends before the last row")
    }

    fn finish(&self) -> Result<(), Invalid> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(Invalid::new(self.name, format!("{left} entries after the last row"))),
        }
    }
}

impl<'a> Column<'a, u8> {
    fn sized(&mut self) -> Result<&'a [u8], Invalid> {
        let length = usize::from(*self.one()?);
        self.take(length)
    }
}

impl<'a> Rows<'a> {
    /// Begins at the first row.
    ///
    /// # Errors
    /// Too many rows, or sites without their form.
    pub fn over(message: &'a v1::Windows) -> Result<Self, Invalid> {
        let left = message.events.len();
        if left > MAX_ROWS {
            return Err(Invalid::new("Windows.events", format!("{left} rows (at most {MAX_ROWS})")));
        }
        Ok(Self {
            sites: read_sites(message, left)?,
            left,
            site: Column::new("Windows.site", &message.site),
            keys: Column::new("Windows.keys", &message.keys),
            events: Column::new("Windows.events", &message.events),
            bytes_out: Column::new("Windows.bytes_out", &message.bytes_out),
            bytes_in: Column::new("Windows.bytes_in", &message.bytes_in),
            packets_out: Column::new("Windows.packets_out", &message.packets_out),
            packets_in: Column::new("Windows.packets_in", &message.packets_in),
            denied: Column::new("Windows.denied", &message.denied),
            flags: Column::new("Windows.flags", &message.flags),
            peer_count: Column::new("Windows.peer_count", &message.peer_count),
            peers: Column::new("Windows.peers", &message.peers),
            peer_lists: Lists {
                events: Column::new("Windows.peer_events", &message.peer_events),
                bytes: Column::new("Windows.peer_bytes", &message.peer_bytes),
                inherited: Column::new("Windows.peer_inherited", &message.peer_inherited),
            },
            peer_bytes_out: Column::new("Windows.peer_bytes_out", &message.peer_bytes_out),
            service_count: Column::new("Windows.service_count", &message.service_count),
            services: Column::new("Windows.services", &message.services),
            service_lists: Lists {
                events: Column::new("Windows.service_events", &message.service_events),
                bytes: Column::new("Windows.service_bytes", &message.service_bytes),
                inherited: Column::new("Windows.service_inherited", &message.service_inherited),
            },
            distinct_length: Column::new("Windows.distinct_length", &message.distinct_length),
            distinct: Column::new("Windows.distinct", &message.distinct),
            name_count: Column::new("Windows.name_count", &message.name_count),
            names: Column::new("Windows.names", &message.names),
            name_lists: Lists {
                events: Column::new("Windows.name_events", &message.name_events),
                bytes: Column::new("Windows.name_bytes", &message.name_bytes),
                inherited: Column::new("Windows.name_inherited", &message.name_inherited),
            },
        })
    }

    /// The sites that rows name by their index.
    #[must_use]
    pub fn sites(&self) -> &[SiteName] {
        &self.sites
    }

    /// Rows that are still to come.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }

    /// The next row. It borrows from the message, not from this.
    ///
    /// # Errors
    /// If a column is too short or, after the last row, too long; or holds what no window can hold. The error names it.
    #[expect(clippy::should_implement_trait, reason = "an iterator over results would have to be asked to stop")]
    pub fn next(&mut self) -> Result<Option<RowRef<'a>>, Invalid> {
        if self.left == 0 {
            return self.finish().map(|()| None);
        }
        self.left -= 1;
        let site = if self.sites.is_empty() { None } else { Some(self.site()?) };
        let subject = Subject::decode(self.keys.sized()?);
        let subject = subject.map_err(|error| Invalid::new("Windows.keys", error.to_string()))?;
        let flags = *self.flags.one()?;
        if flags > (ESTIMATED | OVERFLOW | NAMES | INCOMPLETE) {
            return Err(Invalid::new("Windows.flags", format!("{flags:#x} has unknown bits")));
        }
        let cut = flags & OVERFLOW != 0;
        let counters = Counters {
            events: *self.events.one()?,
            bytes_out: *self.bytes_out.one()?,
            bytes_in: *self.bytes_in.one()?,
            packets_out: *self.packets_out.one()?,
            packets_in: *self.packets_in.one()?,
            denied: *self.denied.one()?,
            estimated: flags & ESTIMATED != 0,
        };
        Ok(Some(RowRef {
            site,
            subject,
            counters,
            incomplete: flags & INCOMPLETE != 0,
            peers: self.peers(cut)?,
            services: self.services(cut)?,
            overflow: if cut { Some([self.distinct()?, self.distinct()?]) } else { None },
            names: if flags & NAMES != 0 { Some([self.names()?, self.names()?]) } else { None },
        }))
    }

    /// A message of its own with the rows read since the last cut, without their sites.
    pub fn cut(&mut self) -> v1::Windows {
        self.site.whole = self.site.rest;
        v1::Windows {
            keys: self.keys.cut(),
            sites: Vec::new(),
            site: Vec::new(),
            events: self.events.cut(),
            bytes_out: self.bytes_out.cut(),
            bytes_in: self.bytes_in.cut(),
            packets_out: self.packets_out.cut(),
            packets_in: self.packets_in.cut(),
            denied: self.denied.cut(),
            flags: self.flags.cut(),
            peer_count: self.peer_count.cut(),
            peers: self.peers.cut(),
            peer_events: self.peer_lists.events.cut(),
            peer_bytes: self.peer_lists.bytes.cut(),
            peer_inherited: self.peer_lists.inherited.cut(),
            peer_bytes_out: self.peer_bytes_out.cut(),
            service_count: self.service_count.cut(),
            services: self.services.cut(),
            service_events: self.service_lists.events.cut(),
            service_bytes: self.service_lists.bytes.cut(),
            service_inherited: self.service_lists.inherited.cut(),
            distinct_length: self.distinct_length.cut(),
            distinct: self.distinct.cut(),
            name_count: self.name_count.cut(),
            names: self.names.cut(),
            name_events: self.name_lists.events.cut(),
            name_bytes: self.name_lists.bytes.cut(),
            name_inherited: self.name_lists.inherited.cut(),
        }
    }

    fn site(&mut self) -> Result<u32, Invalid> {
        let (index, known) = (*self.site.one()?, self.sites.len());
        let problem = || Invalid::new("Windows.site", format!("a row names site {index} of {known}"));
        ((index as usize) < known).then_some(index).ok_or_else(problem)
    }

    fn peers(&mut self, cut: bool) -> Result<Listed<'a, u8>, Invalid> {
        let count = *self.peer_count.one()? as usize;
        let begin = self.peers.rest;
        let mut known = [Peer([0; 16]); TOP_PEERS];
        for place in 0..count {
            let mut bytes = self.peers.rest;
            let length = self.peers.sized()?.len();
            let peer = next_peer(&mut bytes)
                .ok_or_else(|| Invalid::new("Windows.peers", format!("an address of {length} bytes")))?;
            list(&mut known, place, peer, "Windows.peers")?;
        }
        let (ids, _) = begin.split_at(begin.len() - self.peers.rest.len());
        let (weights, sent) = (self.peer_lists.take(count, cut)?, self.peer_bytes_out.take(count)?);
        Ok(Listed { ids, count, weights, sent })
    }

    fn services(&mut self, cut: bool) -> Result<Listed<'a, u32>, Invalid> {
        let count = *self.service_count.one()? as usize;
        let ids = self.services.take(count)?;
        let mut known = [Service { port: 0, protocol: 0 }; TOP_SERVICES];
        for (place, packed) in ids.iter().enumerate() {
            let service = unpack(*packed)
                .ok_or_else(|| Invalid::new("Windows.services", format!("protocol {} is over 255", packed >> 16)))?;
            list(&mut known, place, service, "Windows.services")?;
        }
        Ok(Listed { ids, count, weights: self.service_lists.take(count, cut)?, sent: &[] })
    }

    fn distinct(&mut self) -> Result<&'a [u8], Invalid> {
        let length = *self.distinct_length.one()? as usize;
        let bytes = self.distinct.take(length)?;
        Distinct::check(bytes).map_err(|error| Invalid::new("Windows.distinct", error.to_string()))?;
        Ok(bytes)
    }

    fn names(&mut self) -> Result<NameList<'a>, Invalid> {
        let count = *self.name_count.one()? as usize;
        let names = self.names.take(count)?;
        if let Some(long) = names.iter().find(|name| name.len() > MAX_CONTRIBUTOR_NAME_BYTES) {
            return Err(Invalid::new("Windows.names", format!("a name of {} bytes", long.len())));
        }
        let list = NameList { names, weights: self.name_lists.take(count, true)? };
        if list.fits() { Ok(list) } else { Err(unlistable("Windows.names", NameList::MOST)) }
    }

    fn finish(&self) -> Result<(), Invalid> {
        self.keys.finish()?;
        let longs = [&self.events, &self.bytes_out, &self.bytes_in, &self.packets_out, &self.packets_in];
        for column in longs.into_iter().chain([&self.peer_bytes_out]) {
            column.finish()?;
        }
        for column in [&self.denied, &self.flags, &self.peer_count, &self.service_count, &self.services] {
            column.finish()?;
        }
        for column in [&self.peers, &self.distinct] {
            column.finish()?;
        }
        for column in [&self.distinct_length, &self.name_count] {
            column.finish()?;
        }
        for lists in [&self.peer_lists, &self.service_lists, &self.name_lists] {
            lists.finish()?;
        }
        self.names.finish()
    }
}

fn read_sites(message: &v1::Windows, rows: usize) -> Result<Vec<SiteName>, Invalid> {
    let expected = if message.sites.is_empty() { 0 } else { rows };
    if message.site.len() != expected {
        let found = message.site.len();
        return Err(Invalid::new("Windows.site", format!("{found} entries (expected {expected})")));
    }
    let parse = |name: &String| name.parse().map_err(|error| Invalid::new("Windows.sites", format!("{error}")));
    message.sites.iter().map(parse).collect()
}

/// Puts the next id of a list into its place.
fn list<I: PartialEq, const N: usize>(
    ids: &mut [I; N],
    place: usize,
    id: I,
    field: &'static str,
) -> Result<(), Invalid> {
    match ids.split_at_mut_checked(place) {
        Some((before, [next, ..])) if !before.contains(&id) => {
            *next = id;
            Ok(())
        }
        _ => Err(unlistable(field, N)),
    }
}

fn unlistable(field: &'static str, most: usize) -> Invalid {
    Invalid::new(field, format!("a list of more than {most} or with one id twice"))
}
