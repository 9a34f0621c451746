//! One row as it lies in its columns.

use spikewatch_domain::{
    distinct::Distinct,
    key::Subject,
    top::{Tally, Top},
    window::{Counters, Names, Overflow, Peer, Service, TOP_NAMES, TOP_PEERS, TOP_SERVICES, Window},
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
    pub(super) peers: Listed<'a, Peer, TOP_PEERS>,
    pub(super) services: Listed<'a, Service, TOP_SERVICES>,
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
        let overflow = |[peers, ports]: [&[u8]; 2]| Overflow { peers: distinct(peers), ports: distinct(ports) };
        let names = |[users, processes]: &[NameList<'_>; 2]| Names { users: users.top(), processes: processes.top() };
        Window {
            counters: self.counters,
            peers: self.peers.top(),
            services: self.services.top(),
            overflow: self.overflow.map(|bytes| Box::new(overflow(bytes))),
            names: self.names.as_ref().map(|lists| Box::new(names(lists))),
        }
    }
}

/// A row was checked, so this is what the sender counted.
fn distinct(bytes: &[u8]) -> Distinct {
    Distinct::decode(bytes).unwrap_or_default()
}

/// A list of contributors.
#[derive(Debug, Clone)]
pub(super) struct Listed<'a, I, const N: usize> {
    /// The first `count` of them are listed; they differ.
    pub(super) ids: [I; N],
    pub(super) count: usize,
    pub(super) weights: Weights<'a>,
    /// Bytes out of each; empty where they aren't told apart.
    pub(super) sent: &'a [u64],
}

impl<I: Ord + Copy, const N: usize> Listed<'_, I, N> {
    fn top(&self) -> Top<I, N> {
        top(self.ids.iter().take(self.count).copied(), self.weights, self.sent)
    }
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
        top(self.names.iter().map(|name| name.as_str().into()), self.weights, &[])
    }
}

fn top<I: Ord + Clone, const N: usize>(
    ids: impl ExactSizeIterator<Item = I>,
    (events, bytes, inherited): Weights<'_>,
    sent: &[u64],
) -> Top<I, N> {
    let entries = ids.zip(events.iter().zip(bytes)).enumerate();
    Top::restored(entries.map(|(at, (id, (events, bytes)))| {
        let (sent, inherited) = (sent.get(at).copied().unwrap_or(0), inherited.get(at).copied().unwrap_or(0));
        Tally::new(id, *events, *bytes, sent, inherited)
    }))
}
