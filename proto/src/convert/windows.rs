//! Windows in columns ([`v1::Windows`]) from and to domain windows.

use std::net::IpAddr;

use spikewatch_domain::{
    distinct::Distinct,
    key::{SiteName, Subject},
    top::{Tally, Top},
    window::{Counters, Names, Overflow, Peer, Service, TOP_NAMES, Window},
};

use super::Invalid;
use crate::v1;

/// Most rows one message may hold.
pub const MAX_ROWS: usize = 1 << 20;
/// Longest user or process name, bytes.
pub const MAX_CONTRIBUTOR_NAME_BYTES: usize = 256;

const ESTIMATED: u32 = 1;
const OVERFLOW: u32 = 2;
const NAMES: u32 = 4;
const INCOMPLETE: u32 = 8;

/// One row of a [`v1::Windows`] message.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The site, where the message names sites.
    pub site: Option<SiteName>,
    /// What the window is about.
    pub subject: Subject,
    /// The window.
    pub window: Window,
    /// A member of its site is missing.
    pub incomplete: bool,
}

/// Appends one window. `site` is an index into `message.sites`, or `None` where the stream has one site.
pub fn push(message: &mut v1::Windows, site: Option<u32>, subject: &Subject, window: &Window, incomplete: bool) {
    let mut key = Vec::with_capacity(20);
    subject.encode(&mut key);
    append_sized(&mut message.keys, &key);
    message.site.extend(site);
    let counters = &window.counters;
    message.events.push(counters.events);
    message.bytes_out.push(counters.bytes_out);
    message.bytes_in.push(counters.bytes_in);
    message.packets_out.push(counters.packets_out);
    message.packets_in.push(counters.packets_in);
    message.denied.push(counters.denied);
    let bit = |set: bool, bit: u32| if set { bit } else { 0 };
    message.flags.push(
        bit(counters.estimated, ESTIMATED)
            | bit(window.overflow.is_some(), OVERFLOW)
            | bit(window.names.is_some(), NAMES)
            | bit(incomplete, INCOMPLETE),
    );
    push_lists(message, window);
    if let Some(overflow) = &window.overflow {
        for distinct in [&overflow.peers, &overflow.ports] {
            let mut bytes = Vec::new();
            distinct.encode(&mut bytes);
            message.distinct_length.push(bytes.len() as u32);
            message.distinct.extend(bytes);
        }
    }
    if let Some(names) = &window.names {
        for top in [&names.users, &names.processes] {
            message.name_count.push(top.len() as u32);
            for tally in top.entries() {
                message.names.push(tally.id.to_string());
                message.name_events.push(tally.events);
                message.name_bytes.push(tally.bytes());
                message.name_inherited.push(tally.inherited);
            }
        }
    }
}

fn push_lists(message: &mut v1::Windows, window: &Window) {
    let cut = window.overflow.is_some();
    message.peer_count.push(window.peers.len() as u32);
    for tally in window.peers.entries() {
        match IpAddr::from(tally.id) {
            IpAddr::V4(v4) => append_sized(&mut message.peers, &v4.octets()),
            IpAddr::V6(v6) => append_sized(&mut message.peers, &v6.octets()),
        }
        message.peer_events.push(tally.events);
        message.peer_bytes.push(tally.bytes());
        message.peer_inherited.extend(cut.then_some(tally.inherited));
    }
    message.service_count.push(window.services.len() as u32);
    for tally in window.services.entries() {
        message.services.push(u32::from(tally.id.protocol) << 16 | u32::from(tally.id.port));
        message.service_events.push(tally.events);
        message.service_bytes.push(tally.bytes());
        message.service_inherited.extend(cut.then_some(tally.inherited));
    }
}

fn append_sized(blob: &mut Vec<u8>, bytes: &[u8]) {
    blob.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    blob.extend_from_slice(bytes);
}

/// Reads all rows, in order.
///
/// # Errors
/// If a column is too short or too long, or holds what no window can hold; the error names the column.
pub fn read(message: &v1::Windows) -> Result<Vec<Row>, Invalid> {
    let rows = message.events.len();
    if rows > MAX_ROWS {
        return Err(Invalid::new("Windows.events", format!("{rows} rows (at most {MAX_ROWS})")));
    }
    let sites = read_sites(message, rows)?;
    let mut reader = Reader::over(message);
    let mut out = Vec::with_capacity(rows);
    for row in 0..rows {
        let site = match message.site.get(row) {
            None => None,
            Some(index) => Some(sites.get(*index as usize).cloned().ok_or_else(|| {
                Invalid::new("Windows.site", format!("row {row} names site {index} of {}", sites.len()))
            })?),
        };
        let subject = reader.subject()?;
        let (window, incomplete) = reader.window()?;
        out.push(Row { site, subject, window, incomplete });
    }
    reader.finish()?;
    Ok(out)
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

/// Walks all columns side by side. Every column is consumed to its exact end.
struct Reader<'a> {
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
    service_count: Column<'a, u32>,
    services: Column<'a, u32>,
    service_lists: Lists<'a>,
    distinct_length: Column<'a, u32>,
    distinct: Column<'a, u8>,
    name_count: Column<'a, u32>,
    names: Column<'a, String>,
    name_lists: Lists<'a>,
}

struct Lists<'a> {
    events: Column<'a, u32>,
    bytes: Column<'a, u64>,
    inherited: Column<'a, u32>,
}

impl Lists<'_> {
    fn tally<I>(&mut self, id: I, cut: bool) -> Result<Tally<I>, Invalid> {
        let inherited = if cut { self.inherited.one()? } else { 0 };
        Ok(Tally::new(id, self.events.one()?, self.bytes.one()?, inherited))
    }

    fn finish(&self) -> Result<(), Invalid> {
        self.events.finish()?;
        self.bytes.finish()?;
        self.inherited.finish()
    }
}

struct Column<'a, T> {
    name: &'static str,
    rest: &'a [T],
}

impl<'a, T: Clone> Column<'a, T> {
    fn new(name: &'static str, rest: &'a [T]) -> Self {
        Self { name, rest }
    }

    fn one(&mut self) -> Result<T, Invalid> {
        let (first, rest) = self.rest.split_first().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(first.clone())
    }

    fn take(&mut self, count: usize) -> Result<&'a [T], Invalid> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(taken)
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

impl Column<'_, u8> {
    fn sized(&mut self) -> Result<&[u8], Invalid> {
        let length = usize::from(self.one()?);
        self.take(length)
    }
}

impl<'a> Reader<'a> {
    fn over(message: &'a v1::Windows) -> Self {
        Self {
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
        }
    }

    fn subject(&mut self) -> Result<Subject, Invalid> {
        Subject::decode(self.keys.sized()?).map_err(|error| Invalid::new("Windows.keys", error.to_string()))
    }

    fn window(&mut self) -> Result<(Window, bool), Invalid> {
        let flags = self.flags.one()?;
        if flags > (ESTIMATED | OVERFLOW | NAMES | INCOMPLETE) {
            return Err(Invalid::new("Windows.flags", format!("{flags:#x} has unknown bits")));
        }
        let cut = flags & OVERFLOW != 0;
        let mut window = Window {
            counters: Counters {
                events: self.events.one()?,
                bytes_out: self.bytes_out.one()?,
                bytes_in: self.bytes_in.one()?,
                packets_out: self.packets_out.one()?,
                packets_in: self.packets_in.one()?,
                denied: self.denied.one()?,
                estimated: flags & ESTIMATED != 0,
            },
            ..Window::default()
        };
        for _ in 0..self.peer_count.one()? {
            let peer = self.peer()?;
            let tally = self.peer_lists.tally(peer, cut)?;
            restore(&mut window.peers, tally, "Windows.peers")?;
        }
        for _ in 0..self.service_count.one()? {
            let service = self.service()?;
            let tally = self.service_lists.tally(service, cut)?;
            restore(&mut window.services, tally, "Windows.services")?;
        }
        if cut {
            window.overflow = Some(Box::new(Overflow { peers: self.distinct()?, ports: self.distinct()? }));
        }
        if flags & NAMES != 0 {
            let mut names = Names::default();
            self.names(&mut names.users)?;
            self.names(&mut names.processes)?;
            window.names = Some(Box::new(names));
        }
        Ok((window, flags & INCOMPLETE != 0))
    }

    fn peer(&mut self) -> Result<Peer, Invalid> {
        let bytes = self.peers.sized()?;
        let four: Result<[u8; 4], _> = bytes.try_into();
        let sixteen: Result<[u8; 16], _> = bytes.try_into();
        match (four, sixteen) {
            (Ok(octets), _) => Ok(IpAddr::from(octets).into()),
            (_, Ok(octets)) => Ok(Peer(octets)),
            _ => Err(Invalid::new("Windows.peers", format!("an address of {} bytes", bytes.len()))),
        }
    }

    fn service(&mut self) -> Result<Service, Invalid> {
        let packed = self.services.one()?;
        let protocol = u8::try_from(packed >> 16)
            .map_err(|_| Invalid::new("Windows.services", format!("protocol {} is over 255", packed >> 16)))?;
        Ok(Service { protocol, port: packed as u16 })
    }

    fn distinct(&mut self) -> Result<Distinct, Invalid> {
        let length = self.distinct_length.one()? as usize;
        let bytes = self.distinct.take(length)?;
        Distinct::decode(bytes).map_err(|error| Invalid::new("Windows.distinct", error.to_string()))
    }

    fn names(&mut self, top: &mut Top<Box<str>, TOP_NAMES>) -> Result<(), Invalid> {
        for _ in 0..self.name_count.one()? {
            let name = self.names.one()?;
            if name.len() > MAX_CONTRIBUTOR_NAME_BYTES {
                return Err(Invalid::new("Windows.names", format!("a name of {} bytes", name.len())));
            }
            let tally = self.name_lists.tally(name.into_boxed_str(), true)?;
            restore(top, tally, "Windows.names")?;
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), Invalid> {
        self.keys.finish()?;
        for column in [&self.events, &self.bytes_out, &self.bytes_in, &self.packets_out, &self.packets_in] {
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

fn restore<I: Ord + Clone, const N: usize>(
    top: &mut Top<I, N>,
    tally: Tally<I>,
    field: &'static str,
) -> Result<(), Invalid> {
    let restored = top.restore(tally);
    restored.then_some(()).ok_or_else(|| Invalid::new(field, format!("a list of more than {N} or with one id twice")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use spikewatch_domain::{record::Annotations, window::Share};

    fn window(seed: u32, shares: u32) -> Window {
        let mut window = Window::default();
        for i in 0..shares {
            let n = seed.wrapping_mul(31).wrapping_add(i);
            let annotations = Annotations { user: Some(format!("u{}", n % 6)), ..Annotations::default() };
            let address =
                if n % 3 == 0 { IpAddr::from(u128::from(n).to_be_bytes()) } else { IpAddr::from(n.to_be_bytes()) };
            window.add(&Share {
                counters: Counters { events: 1, bytes_out: u64::from(n), estimated: n % 5 == 0, ..Counters::default() },
                peer: address.into(),
                service: Service { protocol: 6, port: (n % 300) as u16 },
                annotations: seed.is_multiple_of(2).then_some(&annotations),
            });
        }
        window
    }

    proptest! {
        #[test]
        fn windows_survive_the_wire(shapes in proptest::collection::vec((any::<u32>(), 0..120u32), 0..12)) {
            let mut message = v1::Windows { sites: vec!["a".into(), "b".into()], ..v1::Windows::default() };
            let windows: Vec<_> = shapes.iter().map(|(seed, shares)| window(*seed, *shares)).collect();
            for (i, window) in windows.iter().enumerate() {
                push(&mut message, Some(i as u32 % 2), &Subject::Asn(i as u32), window, i % 3 == 0);
            }
            let rows = read(&message).unwrap();
            prop_assert_eq!(rows.len(), windows.len());
            for (i, (row, window)) in rows.into_iter().zip(windows).enumerate() {
                prop_assert_eq!(row.site.as_ref().map(SiteName::as_str), Some(["a", "b"][i % 2]));
                prop_assert_eq!(row.subject, Subject::Asn(i as u32));
                prop_assert_eq!(row.window, window);
                prop_assert_eq!(row.incomplete, i % 3 == 0);
            }
        }

        #[test]
        fn a_hostile_message_is_refused_and_named(
            cut in 0..19usize, extra in any::<bool>(), shares in 1..60u32,
        ) {
            let mut message = v1::Windows::default();
            push(&mut message, None, &Subject::Site, &window(2, shares), false);
            let m = &mut message;
            macro_rules! spoil { ($($field:ident),*) => {{
                let spoilers: Vec<Box<dyn FnOnce(&mut v1::Windows)>> = vec![$(Box::new(move |m: &mut v1::Windows| {
                    if extra { let more = m.$field.first().cloned().unwrap_or_default(); m.$field.push(more); }
                    else { m.$field.pop(); }
                })),*];
                spoilers
            }} }
            let spoilers = spoil!(bytes_out, bytes_in, packets_out, packets_in, denied, flags, peer_count, peer_events,
                peer_bytes, service_count, services, service_events, service_bytes, name_count, names, name_events,
                name_bytes, name_inherited, distinct_length);
            let before = m.clone();
            spoilers.into_iter().nth(cut).unwrap()(m);
            if *m != before {
                let error = read(m).unwrap_err();
                prop_assert!(error.field.starts_with("Windows."));
            }
        }
    }
}
