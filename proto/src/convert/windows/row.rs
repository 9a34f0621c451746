//! One row as it lies in its columns.

use std::net::IpAddr;

use spikewatch_domain::{
    distinct::Distinct,
    key::Subject,
    top::{Tally, Top},
    window::{Counters, Names, Overflow, Peer, Service, TOP_NAMES, Window},
};

use super::rows::Weights;

/// One row, checked. What is small is read already; lists and distinct counts are where they came in.
#[derive(Debug, Clone)]
pub struct RowRef<'a> {
    /// Index of the site, where the message names sites; there is such a site.
    pub site: Option<u32>,
    /// What the window is about.
    pub subject: Subject,
    /// The window's counters.
    pub counters: Counters,
    /// A member of its site is missing.
    pub incomplete: bool,
    pub(super) peers: Listed<'a, u8>,
    pub(super) services: Listed<'a, u32>,
    /// Of peers and of ports.
    pub(super) overflow: Option<[&'a [u8]; 2]>,
    /// Users and processes.
    pub(super) names: Option<[NameList<'a>; 2]>,
}

impl RowRef<'_> {
    /// As [`Window::distinct_peers`].
    #[must_use]
    pub fn distinct_peers(&self) -> u64 {
        self.overflow.map_or(self.peers.count as u64, |[peers, _]| distinct(peers).count())
    }

    /// As [`Window::distinct_peer_ports`].
    #[must_use]
    pub fn distinct_peer_ports(&self) -> u64 {
        self.overflow.map_or(self.services.count as u64, |[_, ports]| distinct(ports).count())
    }

    /// The window itself.
    #[must_use]
    pub fn window(&self) -> Window {
        let mut window = Window::default();
        self.read(&mut window);
        window
    }

    /// Reads the window into the memory that another one has; what that held is gone.
    pub fn read(&self, window: &mut Window) {
        window.counters = self.counters;
        self.peers.read(&mut window.peers);
        self.services.read(&mut window.services);
        let overflow = |[peers, ports]: [&[u8]; 2]| Overflow { peers: distinct(peers), ports: distinct(ports) };
        window.overflow = self.overflow.map(|bytes| Box::new(overflow(bytes)));
        let names = |[users, processes]: &[NameList<'_>; 2]| Names { users: users.top(), processes: processes.top() };
        window.names = self.names.as_ref().map(|lists| Box::new(names(lists)));
    }
}

/// A row was checked, so this is what the sender counted.
fn distinct(bytes: &[u8]) -> Distinct {
    Distinct::decode(bytes).unwrap_or_default()
}

/// A list of contributors where it came in: checked, so that reading it again can't fail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed<'a, T> {
    /// How the ids are written.
    pub(super) ids: &'a [T],
    pub(super) count: usize,
    pub(super) weights: Weights<'a>,
    /// Bytes out of each; empty where they aren't told apart.
    pub(super) sent: &'a [u64],
}

impl Listed<'_, u8> {
    fn read<const N: usize>(&self, into: &mut Top<Peer, N>) {
        let mut ids = self.ids;
        let ids = (0..self.count).map(|_| next_peer(&mut ids).unwrap_or(Peer([0; 16])));
        into.restore(tallies(ids, self.weights, self.sent));
    }
}

impl Listed<'_, u32> {
    fn read<const N: usize>(&self, into: &mut Top<Service, N>) {
        let none = Service { port: 0, protocol: 0 };
        into.restore(tallies(self.ids.iter().map(|packed| unpack(*packed).unwrap_or(none)), self.weights, self.sent));
    }
}

/// The next peer of a list, each after its length; none if its bytes are no address.
pub(super) fn next_peer(rest: &mut &[u8]) -> Option<Peer> {
    let (length, after) = rest.split_first()?;
    let (bytes, after) = after.split_at_checked(usize::from(*length))?;
    *rest = after;
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        _ => bytes.try_into().ok().map(Peer),
    }
}

/// A service as it is written: its protocol over its port.
pub(super) fn unpack(packed: u32) -> Option<Service> {
    Some(Service { protocol: u8::try_from(packed >> 16).ok()?, port: packed as u16 })
}

/// Users, or processes.
#[derive(Debug, Clone)]
pub(super) struct NameList<'a> {
    pub(super) names: &'a [String],
    pub(super) weights: Weights<'a>,
}

impl NameList<'_> {
    /// Most names of a list.
    pub(super) const MOST: usize = TOP_NAMES;

    /// True if there are few enough, and none twice.
    pub(super) fn fits(&self) -> bool {
        let mut rest = self.names;
        while let Some((name, others)) = rest.split_first().filter(|(name, others)| !others.contains(name)) {
            let _ = name;
            rest = others;
        }
        self.names.len() <= Self::MOST && rest.is_empty()
    }

    fn top(&self) -> Top<Box<str>, TOP_NAMES> {
        Top::restored(tallies(self.names.iter().map(|name| name.as_str().into()), self.weights, &[]))
    }
}

fn tallies<I>(
    ids: impl ExactSizeIterator<Item = I>,
    (events, bytes, inherited): Weights<'_>,
    sent: &[u64],
) -> impl ExactSizeIterator<Item = Tally<I>> {
    let entries = ids.zip(events.iter().zip(bytes)).enumerate();
    entries.map(move |(at, (id, (events, bytes)))| {
        let (sent, inherited) = (sent.get(at).copied().unwrap_or(0), inherited.get(at).copied().unwrap_or(0));
        Tally::new(id, *events, *bytes, sent, inherited)
    })
}
