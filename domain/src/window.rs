//! The window: all that is known of one key in one bucket (or, on its way, in one slice).
//!
//! Counters and distinct counts merge exactly, in any order and grouping. Lists of top contributors can't; they are
//! deterministic for a given order, so windows are kept per collector and folded in collector order.
//!
//! Memory decides how many hosts one machine carries: a quiet host's lists are complete (every peer and every port is in
//! them), so they are its distinct counts too. Only a host that outgrows them gets [`Overflow`].

use std::net::{IpAddr, Ipv6Addr};

use rapidhash::v3::rapidhash_v3;

use crate::{
    distinct::Distinct,
    record::Annotations,
    top::{Added, Top},
};

/// Peers listed.
pub const TOP_PEERS: usize = 12;
/// Services listed.
pub const TOP_SERVICES: usize = 8;
/// Users, and processes, listed.
pub const TOP_NAMES: usize = 4;

/// A peer's address; IPv4 in its IPv6-mapped form, so that the entry stays small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub [u8; 16]);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        })
    }
}

impl From<Peer> for IpAddr {
    fn from(peer: Peer) -> Self {
        Ipv6Addr::from(peer.0).to_canonical()
    }
}

/// A protocol and its service port (0 where the protocol has none).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Service port.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Flows and connections that began.
    Events,
    /// Bytes the key sent.
    BytesOut,
    /// Bytes the key received.
    BytesIn,
    /// Packets the key sent.
    PacketsOut,
    /// Packets the key received.
    PacketsIn,
    /// Different peers.
    DistinctPeers,
    /// Different service ports.
    DistinctPeerPorts,
    /// Events that were refused.
    Denied,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Events,
        Self::BytesOut,
        Self::BytesIn,
        Self::PacketsOut,
        Self::PacketsIn,
        Self::DistinctPeers,
        Self::DistinctPeerPorts,
        Self::Denied,
    ];

    /// Its name in documents and configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::BytesOut => "bytes_out",
            Self::BytesIn => "bytes_in",
            Self::PacketsOut => "packets_out",
            Self::PacketsIn => "packets_in",
            Self::DistinctPeers => "distinct_peers",
            Self::DistinctPeerPorts => "distinct_peer_ports",
            Self::Denied => "denied",
        }
    }
}

/// The counters of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Flows and connections that began.
    pub events: u64,
    /// Bytes the key sent.
    pub bytes_out: u64,
    /// Bytes the key received.
    pub bytes_in: u64,
    /// Packets the key sent.
    pub packets_out: u64,
    /// Packets the key received.
    pub packets_in: u64,
    /// Events that were refused.
    pub denied: u32,
    /// Some of it is an estimate from sampling.
    pub estimated: bool,
}

impl Counters {
    /// Adds `other`; saturating, which keeps addition commutative and associative.
    pub fn add(&mut self, other: &Self) {
        self.events = self.events.saturating_add(other.events);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.packets_out = self.packets_out.saturating_add(other.packets_out);
        self.packets_in = self.packets_in.saturating_add(other.packets_in);
        self.denied = self.denied.saturating_add(other.denied);
        self.estimated |= other.estimated;
    }

    /// Bytes in both directions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes_out.saturating_add(self.bytes_in)
    }
}

/// What a host needs once its lists no longer hold everything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Overflow {
    /// All peers ever seen in the window, the listed ones included.
    pub peers: Distinct,
    /// All (protocol, service port) pairs ever seen in the window.
    pub ports: Distinct,
}

/// Users and processes, which only some sources know.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Names {
    /// User names.
    pub users: Top<Box<str>, TOP_NAMES>,
    /// Process names.
    pub processes: Top<Box<str>, TOP_NAMES>,
}

/// All that is known of one key in one bucket.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Window {
    /// Exact counters.
    pub counters: Counters,
    /// Heaviest peers, with the bytes sent to each; all of them while there is no overflow.
    pub peers: Top<Peer, TOP_PEERS>,
    /// Heaviest services; all of them while there is no overflow.
    pub services: Top<Service, TOP_SERVICES>,
    /// Distinct counts, once the lists lost something.
    pub overflow: Option<Box<Overflow>>,
    /// Users and processes, where known.
    pub names: Option<Box<Names>>,
}

/// One share of a record, as charged to one key.
#[derive(Debug, Clone, Copy)]
pub struct Share<'a> {
    /// What is added to the counters.
    pub counters: Counters,
    /// The other end, unless the key is the site itself and both ends matter: then the source.
    pub peer: Peer,
    /// The service.
    pub service: Service,
    /// What else the source knows.
    pub annotations: Option<&'a Annotations>,
}

impl Window {
    /// Charges one share.
    pub fn add(&mut self, share: &Share<'_>) {
        self.counters.add(&share.counters);
        self.attribute(share.peer, share.service, &share.counters);
        if let Some(annotations) = share.annotations {
            self.add_names(annotations, share.counters.events, share.counters.bytes());
        }
    }

    /// Counts a share for its peer and service. Apart from [`Window::add`], so that a summary of many hosts can do it for
    /// several shares of one host at a time: the lists are most of what a share touches in memory.
    pub fn attribute(&mut self, peer: Peer, service: Service, counters: &Counters) {
        let (events, bytes) = (counters.events, counters.bytes());
        if self.would_outgrow(peer, service) {
            self.outgrow();
        }
        let listed_peer = self.peers.add(peer, events, bytes, counters.bytes_out);
        let listed_service = self.services.add(service, events, bytes, 0);
        if let Some(overflow) = &mut self.overflow {
            // What is listed was counted when it was listed.
            if listed_peer != Added::Known {
                overflow.peers.insert(hash_peer(peer));
            }
            if listed_service != Added::Known {
                overflow.ports.insert(hash_service(service));
            }
        }
    }

    fn would_outgrow(&self, peer: Peer, service: Service) -> bool {
        self.overflow.is_none()
            && ((self.peers.len() == TOP_PEERS && !self.peers.contains(&peer))
                || (self.services.len() == TOP_SERVICES && !self.services.contains(&service)))
    }

    /// Counts a share for the user and process that its source names.
    pub fn add_names(&mut self, annotations: &Annotations, events: u64, bytes: u64) {
        if annotations.user.is_none() && annotations.process.is_none() {
            return;
        }
        let names = self.names.get_or_insert_default();
        if let Some(user) = &annotations.user {
            names.users.add(user.as_str().into(), events, bytes, 0);
        }
        if let Some(process) = &annotations.process {
            names.processes.add(process.as_str().into(), events, bytes, 0);
        }
    }

    /// The lists stop being complete: from here on the distinct counts have counters of their own.
    fn outgrow(&mut self) -> &mut Overflow {
        let (peers, services) = (&self.peers, &self.services);
        self.overflow.get_or_insert_with(|| {
            let mut overflow = Box::<Overflow>::default();
            peers.entries().iter().for_each(|tally| overflow.peers.insert(hash_peer(tally.id)));
            services.entries().iter().for_each(|tally| overflow.ports.insert(hash_service(tally.id)));
            overflow
        })
    }

    /// Adds another window of the same key: the same bucket's part from another slice or collector.
    pub fn merge(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        let outgrown = other.overflow.is_some()
            || self.peers.union_len(&other.peers) > TOP_PEERS
            || self.services.union_len(&other.services) > TOP_SERVICES;
        let ours_cut = self.overflow.is_some();
        if outgrown || ours_cut {
            let overflow = self.outgrow();
            match &other.overflow {
                Some(theirs) => {
                    overflow.peers.merge(&theirs.peers);
                    overflow.ports.merge(&theirs.ports);
                }
                None => {
                    other.peers.entries().iter().for_each(|tally| overflow.peers.insert(hash_peer(tally.id)));
                    other.services.entries().iter().for_each(|tally| overflow.ports.insert(hash_service(tally.id)));
                }
            }
        }
        let theirs_cut = other.overflow.is_some();
        self.peers.merge(ours_cut, &other.peers, theirs_cut);
        self.services.merge(ours_cut, &other.services, theirs_cut);
        if let Some(theirs) = &other.names {
            let names = self.names.get_or_insert_default();
            // Names have no separate mark of a cut list; assuming the worst only widens the bounds.
            let cut = |top: &Top<Box<str>, TOP_NAMES>| top.len() == TOP_NAMES;
            let (users_cut, processes_cut) = (cut(&names.users), cut(&names.processes));
            names.users.merge(users_cut, &theirs.users, cut(&theirs.users));
            names.processes.merge(processes_cut, &theirs.processes, cut(&theirs.processes));
        }
    }

    /// Different peers: exact while no list was outgrown, else as [`Distinct::count`].
    #[must_use]
    pub fn distinct_peers(&self) -> u64 {
        self.overflow.as_ref().map_or(self.peers.len() as u64, |overflow| overflow.peers.count())
    }

    /// Different service ports, likewise.
    #[must_use]
    pub fn distinct_peer_ports(&self) -> u64 {
        self.overflow.as_ref().map_or(self.services.len() as u64, |overflow| overflow.ports.count())
    }

    /// The value of one measure.
    #[must_use]
    pub fn measure(&self, measure: Measure) -> u64 {
        match measure {
            Measure::Events => self.counters.events,
            Measure::BytesOut => self.counters.bytes_out,
            Measure::BytesIn => self.counters.bytes_in,
            Measure::PacketsOut => self.counters.packets_out,
            Measure::PacketsIn => self.counters.packets_in,
            Measure::DistinctPeers => self.distinct_peers(),
            Measure::DistinctPeerPorts => self.distinct_peer_ports(),
            Measure::Denied => u64::from(self.counters.denied),
        }
    }

    /// Bytes this window takes, itself and its heap (allocator overhead not included).
    #[must_use]
    pub fn memory(&self) -> usize {
        let overflow = self
            .overflow
            .as_ref()
            .map_or(0, |overflow| size_of::<Overflow>() + overflow.peers.heap_bytes() + overflow.ports.heap_bytes());
        let names = self.names.as_ref().map_or(0, |names| {
            let owned: usize = names.users.entries().iter().chain(names.processes.entries()).map(|t| t.id.len()).sum();
            size_of::<Names>() + names.users.heap_bytes() + names.processes.heap_bytes() + owned
        });
        size_of::<Self>() + self.peers.heap_bytes() + self.services.heap_bytes() + overflow + names
    }
}

fn hash_peer(peer: Peer) -> u32 {
    rapidhash_v3(&peer.0) as u32
}

fn hash_service(service: Service) -> u32 {
    let [high, low] = service.port.to_be_bytes();
    rapidhash_v3(&[service.protocol, high, low]) as u32
}

#[cfg(test)]
mod tests;
