//! Which peers a host knows: those it met at least a day or so ago and not longer than seven days ago, in 504 bytes.
//!
//! A set-associative table of fingerprints that ages in steps of half a day. A peer is *new* for two steps from its first
//! sighting on, so that a transfer of many hours stays one to a new peer; then it is known, until it was not seen for 14
//! steps. In a full set the oldest of those that are still new make room first, then the oldest of all: a scan doesn't wash
//! out what is known.
//!
//! A peer never met is taken for a known one if its fingerprint is in its set: with 11 bits and at most 8 entries with a
//! probability of 8/2048, under 0.4 %. A known one is taken for a new one when it had to make room, which begins where a host
//! has over about 150 peers a week among its heaviest.

use std::net::IpAddr;

use rapidhash::v3::rapidhash_v3;
use spikewatch_domain::window::Peer;

/// Length of a step, in seconds.
const STEP_S: i64 = 43_200;
/// Steps without a sighting after which a peer is forgotten.
const REMEMBERED: u32 = 14;
/// Steps from the first sighting until a peer counts as known.
const NEW: u32 = 2;
const SETS: usize = 31;
const WAYS: usize = 8;
const AGE: u16 = 0b1111;
const KNOWN: u16 = 0b1_0000;
const FINGERPRINT: u32 = 5;

/// See the module. A slot is a fingerprint (11 bits), whether the peer is known (1 bit), and 1 + the steps since it was last
/// seen or, while it is new, first seen (4 bits); or 0.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerMemory {
    pub(super) slots: [u16; SETS * WAYS],
    /// Step of the newest sighting.
    pub(super) step: u32,
    /// Step from which on it has been told all peers.
    pub(super) since: u32,
}

impl Default for PeerMemory {
    /// No peer is known.
    fn default() -> Self {
        Self { slots: [0; SETS * WAYS], step: 0, since: 0 }
    }
}

/// Where a peer would be.
#[derive(Debug, Clone, Copy)]
struct Place {
    set: usize,
    fingerprint: u16,
}

impl Place {
    fn of(peer: Peer) -> Self {
        let hash = rapidhash_v3(&network(peer));
        let set = ((hash & 0xffff_ffff) * SETS as u64) >> 32;
        Self { set: set as usize * WAYS, fingerprint: (hash >> 53) as u16 }
    }

    fn is_in(self, slot: u16) -> bool {
        slot != 0 && slot >> FINGERPRINT == self.fingerprint
    }
}

/// What stands for a peer: a public one's network (/24, /48), since services answer from changing addresses of one; an
/// internal one's address.
fn network(Peer(mut octets): Peer) -> [u8; 16] {
    match IpAddr::from(Peer(octets)) {
        IpAddr::V4(v4) if v4.is_private() || v4.is_link_local() || v4.is_loopback() => {}
        // RFC 6598.
        IpAddr::V4(v4) if v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64 => {}
        IpAddr::V4(_) => octets[15] = 0,
        IpAddr::V6(v6) if v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback() => {}
        IpAddr::V6(_) => octets[6..].fill(0),
    }
    octets
}

fn step_of(t: i64) -> u32 {
    u32::try_from(t.div_euclid(STEP_S)).unwrap_or(0)
}

impl PeerMemory {
    /// True once it has been told a host's peers for seven days, so that "not known" says something.
    #[must_use]
    pub fn is_grown(&self, t: i64) -> bool {
        self.step > 0 && step_of(t).saturating_sub(self.since) >= REMEMBERED
    }

    /// Whether a peer is known at `t` (s).
    #[must_use]
    pub fn knows(&self, peer: Peer, t: i64) -> bool {
        let (place, passed) = (Place::of(peer), step_of(t).saturating_sub(self.step));
        let mut set = self.set(place.set).iter().map(|slot| aged(*slot, passed));
        set.any(|slot| place.is_in(slot) && slot & KNOWN != 0)
    }

    /// Tells it the peers of the bucket that starts at `t` (s). Buckets come in order.
    pub fn learn(&mut self, peers: impl IntoIterator<Item = Peer>, t: i64) {
        let step = step_of(t);
        let passed = step.saturating_sub(self.step);
        if passed > 0 {
            if passed > REMEMBERED {
                self.since = step;
            }
            self.slots.iter_mut().for_each(|slot| *slot = aged(*slot, passed));
            self.step = step;
        }
        for peer in peers {
            self.see(Place::of(peer));
        }
    }

    fn see(&mut self, place: Place) {
        let Some(set) = self.slots.get_mut(place.set..place.set + WAYS) else { return };
        if let Some(slot) = set.iter_mut().find(|slot| place.is_in(**slot)) {
            if *slot & KNOWN != 0 {
                *slot = *slot & !AGE | 1;
            }
            return;
        }
        // Free ones first, then new ones, then known ones; the oldest of each.
        let key = |slot: &u16| (*slot != 0, *slot & KNOWN != 0, AGE - (*slot & AGE));
        if let Some(slot) = set.iter_mut().min_by_key(|slot| key(slot)) {
            *slot = place.fingerprint << FINGERPRINT | 1;
        }
    }

    fn set(&self, first: usize) -> &[u16] {
        self.slots.get(first..first + WAYS).unwrap_or_default()
    }
}

/// A slot after that many steps.
fn aged(slot: u16, passed: u32) -> u16 {
    if slot == 0 || passed == 0 {
        return slot;
    }
    let age = u32::from(slot & AGE).saturating_sub(1) + passed.min(REMEMBERED + 1);
    if age > REMEMBERED {
        return 0;
    }
    let known = if age >= NEW { KNOWN } else { 0 };
    slot & !AGE | known | (age as u16 + 1)
}

const _: () = assert!(size_of::<PeerMemory>() <= 512);
const _: () = assert!(REMEMBERED < AGE as u32);

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const START: i64 = 20_000 * DAY;

    fn peer(number: u32) -> Peer {
        // One in each /24, all of them public.
        Peer::from(IpAddr::from((0x1400_0000 + (number << 8)).to_be_bytes()))
    }

    #[test]
    fn a_peer_is_new_for_a_day_and_known_for_a_week() {
        let mut memory = PeerMemory::default();
        memory.learn([peer(1)], START);
        assert!(!memory.knows(peer(1), START));
        // Seen again and again, it stays new through the night.
        for bucket in 1..90 {
            memory.learn([peer(1)], START + bucket * 900);
            assert!(!memory.knows(peer(1), START + bucket * 900));
        }
        assert!(memory.knows(peer(1), START + DAY));
        memory.learn([peer(1)], START + DAY);
        assert!(memory.knows(peer(1), START + 8 * DAY) && !memory.knows(peer(1), START + 9 * DAY));
        assert!(!memory.is_grown(START + DAY * 13 / 2));
        memory.learn([], START + 8 * DAY);
        assert!(memory.knows(peer(1), START + 8 * DAY));
        memory.learn([], START + 9 * DAY);
        assert!(!memory.knows(peer(1), START + 9 * DAY));
    }

    #[test]
    fn a_week_has_to_pass_before_unknown_says_anything() {
        let mut memory = PeerMemory::default();
        assert!(!memory.is_grown(START));
        for day in 0..7 {
            memory.learn([peer(1)], START + day * DAY);
            assert!(!memory.is_grown(START + day * DAY));
        }
        assert!(memory.is_grown(START + 7 * DAY));
        // After a gap that forgot everybody it begins again.
        memory.learn([peer(1)], START + 40 * DAY);
        assert!(!memory.is_grown(START + 41 * DAY));
    }

    /// The rate that the module states, for the fullest memory there can be.
    #[test]
    fn strangers_are_seldom_taken_for_known() {
        let mut memory = PeerMemory::default();
        for day in 0..3 {
            memory.learn((0..2000).map(peer), START + day * DAY);
        }
        let now = START + 3 * DAY;
        let full = memory.slots.iter().filter(|slot| aged(**slot, 2) & KNOWN != 0).count();
        assert!(full * 10 > 9 * SETS * WAYS, "{full} known");
        let strangers = 100_000u32;
        let taken = (0..strangers).filter(|number| memory.knows(peer(100_000 + number), now)).count();
        let rate = taken as f64 / f64::from(strangers);
        println!("false positives with all {} slots full: {:.3} %", SETS * WAYS, 100.0 * rate);
        assert!((0.001..0.005).contains(&rate), "{rate}");
    }

    #[test]
    fn usual_peers_outlast_a_scan() {
        let mut memory = PeerMemory::default();
        for day in 0..8 {
            memory.learn((0..100).map(peer), START + day * DAY);
        }
        for bucket in 0..40u32 {
            let strangers = 1000 + 12 * bucket..1012 + 12 * bucket;
            memory.learn(strangers.map(peer), START + 8 * DAY + i64::from(bucket) * 900);
        }
        let kept = (0..100).filter(|number| memory.knows(peer(*number), START + 8 * DAY + 40_000)).count();
        assert!(kept >= 95, "{kept} of 100 are still known");
    }

    #[test]
    fn a_public_peer_is_its_network_and_an_internal_one_itself() {
        let network = |text: &str| network(Peer::from(text.parse::<IpAddr>().unwrap()));
        assert_eq!(network("203.0.113.9"), network("203.0.113.77"));
        assert_ne!(network("203.0.113.9"), network("203.0.114.9"));
        assert_ne!(network("10.0.0.9"), network("10.0.0.10"));
        assert_ne!(network("100.64.0.9"), network("100.64.0.10"));
        assert_eq!(network("2001:db8:1:2::3"), network("2001:db8:1:9::4"));
        assert_ne!(network("fd00::1"), network("fd00::2"));
    }
}
