//! Summaries: shares become windows of one slice each, until the slice is taken and sent.

use std::{collections::BTreeMap, hash::BuildHasher as _, net::IpAddr};

use hashbrown::HashTable;
use rapidhash::fast::RandomState;
use spikewatch_domain::{
    key::{SiteName, Subject},
    record::EventMillis,
    shard::shard_of,
    window::{Counters, Peer, Service, Share, Window},
};

/// One slice, ready to be sent: rows ordered by shard, then by key, so that equal traffic makes equal bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// Start of the slice, event time.
    pub start: EventMillis,
    /// (shard, key, window).
    pub rows: Vec<(u32, Subject, Window)>,
}

impl Slice {
    /// Adds rows in any order.
    pub(crate) fn insert(&mut self, rows: Vec<(u32, Subject, Window)>) {
        self.rows.extend(rows);
        // What was there is in order already, which a stable sort makes use of.
        self.rows.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    }
}

/// Parts of all hosts: one part's windows are to fit the processor's caches. A power of two.
const PARTS: usize = 64;
/// Shares of one part that are charged together.
const TOGETHER: usize = 1024;

/// What a window takes at most whose lists are complete, with its key and its place; and how much more one takes that is
/// cut.
const WINDOW_BYTES: usize = 1_000;
const CUT_BYTES: usize = 5_000;

/// Windows by slice and key.
///
/// With many hosts, every share would find its host's window gone from the processor's caches: that would cost more than
/// all else that is done for a record. So shares of hosts wait, by the part that their host belongs to, until there are
/// many of one part. These are charged together, each host's in their order.
#[derive(Debug)]
pub struct Summariser {
    site: SiteName,
    shards: u32,
    key_limit: usize,
    parts: Vec<Part>,
    keys: usize,
    /// Windows whose lists are cut, so that they have counters of their own.
    cut: usize,
    overflowed: u64,
    hasher: RandomState,
}

impl Summariser {
    /// `key_limit` bounds the windows held at once; shares of hosts past it go to the reserved host `(overflow)`.
    #[must_use]
    pub fn new(site: SiteName, shards: u32, key_limit: usize) -> Self {
        let parts = (0..PARTS).map(|_| Part::default()).collect();
        Self { site, shards, key_limit, parts, keys: 0, cut: 0, overflowed: 0, hasher: RandomState::default() }
    }

    /// Adds a share.
    pub fn add(&mut self, slice: EventMillis, subject: &Subject, share: &Share<'_>) {
        let number = part_of(subject);
        let named = share.annotations.is_some_and(|known| known.user.is_some() || known.process.is_some());
        if let Subject::Address(host) = subject
            && !named
        {
            let &Share { counters, peer, service, .. } = share;
            let waiting = &mut self.parts[number].waiting;
            waiting.push(Waiting { slice, host: *host, counters, peer, service });
            if waiting.len() == TOGETHER {
                self.settle(number);
            }
            return;
        }
        // All else is rare, or always at hand.
        self.settle(number);
        self.charge(number, slice, subject, share);
    }

    /// Charges what waits of a part.
    fn settle(&mut self, number: usize) {
        let mut waiting = std::mem::take(&mut self.parts[number].waiting);
        for Waiting { slice, host, counters, peer, service } in waiting.drain(..) {
            let share = Share { counters, peer, service, annotations: None };
            self.charge(number, slice, &Subject::Address(host), &share);
        }
        self.parts[number].waiting = waiting;
    }

    fn charge(&mut self, number: usize, slice: EventMillis, subject: &Subject, share: &Share<'_>) {
        if let Some(window) = self.parts[number].find(&self.hasher, slice, subject) {
            let was_cut = window.overflow.is_some();
            window.add(share);
            self.cut += usize::from(window.overflow.is_some() && !was_cut);
            return;
        }
        // The reserved keys always find room; they are few.
        let reserved = matches!(subject, Subject::Site | Subject::Transit | Subject::Overflow);
        if reserved || self.keys < self.key_limit {
            self.keys += 1;
            self.parts[number].open(&self.hasher, slice, subject, share);
        } else {
            self.overflowed += 1;
            self.charge(part_of(&Subject::Overflow), slice, &Subject::Overflow, share);
        }
    }

    /// Windows held now, those of hosts whose shares all wait not counted.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Bytes that the windows held now take at most, and shares that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let waiting = PARTS * TOGETHER * size_of::<Waiting>();
        self.keys * WINDOW_BYTES + self.cut * CUT_BYTES + waiting
    }

    /// Shares charged to `(overflow)` since the beginning.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Takes all slices, oldest first.
    pub fn take(&mut self) -> Vec<Slice> {
        (0..PARTS).for_each(|number| self.settle(number));
        (self.keys, self.cut) = (0, 0);
        let mut sizes: BTreeMap<EventMillis, usize> = BTreeMap::new();
        for (start, ..) in self.parts.iter().flat_map(|part| &part.windows) {
            *sizes.entry(*start).or_default() += 1;
        }
        let slice = |(start, size)| (start, Slice { start, rows: Vec::with_capacity(size) });
        let mut slices: BTreeMap<_, _> = sizes.into_iter().map(slice).collect();
        for part in &mut self.parts {
            part.index.clear();
            for (start, subject, window) in part.windows.drain(..) {
                let shard = shard_of(&self.site, &subject, self.shards);
                slices.entry(start).and_modify(|slice| slice.rows.push((shard, subject, window)));
            }
        }
        let mut slices: Vec<Slice> = slices.into_values().collect();
        for slice in &mut slices {
            // Rows are large: it is their keys that are sorted.
            slice.rows.sort_by_cached_key(|row| (row.0, row.1.clone()));
        }
        slices
    }
}

/// What belongs to a part of all keys.
#[derive(Debug, Default)]
struct Part {
    waiting: Vec<Waiting>,
    /// Places in `windows` by key.
    index: HashTable<u32>,
    windows: Vec<(EventMillis, Subject, Window)>,
}

/// A share that waits for others.
#[derive(Debug)]
struct Waiting {
    slice: EventMillis,
    host: IpAddr,
    counters: Counters,
    peer: Peer,
    service: Service,
}

impl Part {
    fn find(&mut self, hasher: &RandomState, slice: EventMillis, subject: &Subject) -> Option<&mut Window> {
        let windows = &self.windows;
        let is_it = |at: &u32| windows.get(*at as usize).is_some_and(|known| known.0 == slice && known.1 == *subject);
        let at = *self.index.find(hasher.hash_one((slice, subject)), is_it)?;
        self.windows.get_mut(at as usize).map(|known| &mut known.2)
    }

    /// Opens the window of a key that has none.
    fn open(&mut self, hasher: &RandomState, slice: EventMillis, subject: &Subject, share: &Share<'_>) {
        let (at, windows) = (self.windows.len() as u32, &self.windows);
        let rehash = |at: &u32| windows.get(*at as usize).map_or(0, |known| hasher.hash_one((known.0, &known.1)));
        self.index.insert_unique(hasher.hash_one((slice, subject)), at, rehash);
        let mut window = Window::default();
        window.add(share);
        self.windows.push((slice, subject.clone(), window));
    }
}

/// Where a key belongs. Hosts are spread over the parts as evenly as their addresses allow; an uneven spread costs time,
/// nothing else.
fn part_of(subject: &Subject) -> usize {
    let address = match subject {
        Subject::Address(IpAddr::V4(v4)) => u64::from(u32::from(*v4)),
        Subject::Address(IpAddr::V6(v6)) => {
            let bits = u128::from(*v6);
            (bits >> 64) as u64 ^ bits as u64
        }
        _ => return 0,
    };
    let mixed = address.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - PARTS.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use spikewatch_domain::record::Annotations;

    use super::*;

    fn share() -> Share<'static> {
        Share {
            counters: Counters { events: 1, ..Counters::default() },
            peer: Peer([7; 16]),
            service: Service { port: 1, protocol: 6 },
            annotations: None,
        }
    }

    #[test]
    fn no_window_takes_more_than_is_reckoned_with() {
        let mut summariser = Summariser::new("a".parse().unwrap(), 8, 1_000);
        for (host, peers) in [(1, 12u32), (2, 13), (3, 100_000)] {
            for number in 0..peers {
                let mut peer = [0; 16];
                peer[12..].copy_from_slice(&number.to_be_bytes());
                let service = Service { port: number as u16, protocol: 6 };
                let share = Share { peer: Peer(peer), service, ..share() };
                summariser.add(0, &Subject::Address([10, 0, 0, host].into()), &share);
            }
        }
        (0..PARTS).for_each(|number| summariser.settle(number));
        let (keys, cut) = (summariser.keys(), summariser.cut);
        assert_eq!(keys, 3);
        let empty = Summariser::new("a".parse().unwrap(), 8, 1).bytes();
        let reckoned = summariser.bytes() - empty;
        let key = size_of::<(EventMillis, Subject, Window)>() - size_of::<Window>() + 16;
        let taken: usize = summariser.take().iter().flat_map(|slice| &slice.rows).map(|row| row.2.memory() + key).sum();
        assert!(cut >= 2 && taken <= reckoned, "{taken} of {reckoned}, {cut} cut");
        assert_eq!(summariser.bytes(), empty);
    }

    #[test]
    fn past_the_key_limit_nothing_is_lost() {
        let mut summariser = Summariser::new("a".parse().unwrap(), 8, 3);
        for i in 0..10 {
            summariser.add(0, &Subject::Asn(i), &share());
            summariser.add(0, &Subject::Site, &share());
        }
        let slices = summariser.take();
        let total: u64 = slices[0].rows.iter().map(|row| row.2.counters.events).sum();
        let overflow = slices[0].rows.iter().find(|row| row.1 == Subject::Overflow).unwrap();
        assert_eq!((total, overflow.2.counters.events, summariser.overflowed()), (20, 8, 8));
        assert!(summariser.take().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// That shares wait shows in no window: few hosts, so that many shares of one part come together; and some that
        /// don't wait, as they name users.
        #[test]
        fn waiting_changes_nothing(
            shares in proptest::collection::vec((0..3u8, 0..2u64, any::<u8>(), 0..9u16, 0..2_000u64, 0..400u16), 0..6_000),
        ) {
            let site: SiteName = "a".parse().unwrap();
            let mut summariser = Summariser::new(site.clone(), 8, 100);
            let mut one_by_one: BTreeMap<EventMillis, BTreeMap<(u32, Subject), Window>> = BTreeMap::new();
            for (host, slice, peer, port, bytes, user) in shares {
                let known = Annotations { user: Some(user.to_string()), ..Annotations::default() };
                let share = Share {
                    counters: Counters { events: 1, bytes_out: bytes, ..Counters::default() },
                    peer: Peer([peer; 16]),
                    service: Service { port, protocol: 6 },
                    annotations: (user < 4).then_some(&known),
                };
                let address = if host == 2 { IpAddr::from([0; 16]) } else { IpAddr::from([10, 0, 0, host]) };
                for subject in [Subject::Address(address), Subject::Site] {
                    summariser.add(slice * 10_000, &subject, &share);
                    let key = (shard_of(&site, &subject, 8), subject);
                    one_by_one.entry(slice * 10_000).or_default().entry(key).or_default().add(&share);
                }
            }
            let slices = summariser.take();
            prop_assert_eq!(slices.len(), one_by_one.len());
            for (slice, (start, windows)) in slices.into_iter().zip(one_by_one) {
                prop_assert_eq!(slice.start, start);
                let expected: Vec<_> = windows.into_iter().map(|((shard, subject), window)| (shard, subject, window)).collect();
                prop_assert_eq!(slice.rows, expected);
            }
        }
    }

    #[test]
    fn past_the_key_limit_hosts_whose_shares_wait_overflow_too() {
        let mut summariser = Summariser::new("a".parse().unwrap(), 8, 3);
        (0..100).for_each(|host| summariser.add(0, &Subject::Address([10, 0, 0, host].into()), &share()));
        let slices = summariser.take();
        let overflow = slices[0].rows.iter().find(|row| row.1 == Subject::Overflow).unwrap();
        assert_eq!((slices[0].rows.len(), overflow.2.counters.events, summariser.overflowed()), (4, 97, 97));
    }

    #[test]
    fn slices_come_oldest_first_and_rows_by_shard() {
        let mut summariser = Summariser::new("a".parse().unwrap(), 8, 100);
        for i in (0..20).rev() {
            summariser.add(u64::from(i % 3) * 10_000, &Subject::Asn(i), &share());
        }
        let slices = summariser.take();
        assert_eq!(slices.iter().map(|slice| slice.start).collect::<Vec<_>>(), [0, 10_000, 20_000]);
        assert!(slices.iter().all(|slice| slice.rows.is_sorted_by_key(|row| row.0)));
    }
}
