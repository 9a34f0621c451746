//! Who sent what: keys of parcels and sequences of clients, so that what is sent again counts once. It is check-pointed
//! with the records, and bounded: of keys and clients the longest unused are forgotten.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;
use rapidhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use super::parcel::{Taken, Tally};

/// Keys that are remembered; each costs 32 bytes in every check-point.
pub(crate) const MOST_KEYS: usize = 16_384;
/// Clients that are remembered.
pub(crate) const MOST_CLIENTS: usize = 1_024;

/// A parcel that was counted under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
struct Keyed {
    key: u128,
    /// Hash of what was sent.
    body: u64,
    tally: Tally,
}

/// As it is saved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct SavedSenders {
    /// Oldest first.
    keys: Vec<Keyed>,
    /// Name, and the last sequence number; longest unused first.
    clients: Vec<(String, u64)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    keys: HashMap<u128, (u64, Tally), RandomState>,
    /// In the order in which they came.
    order: VecDeque<u128>,
    /// Last sequence number, and when it was used.
    clients: BTreeMap<String, (u64, u64)>,
    uses: u64,
}

impl Remembered {
    /// Goes on from what was saved.
    pub(crate) fn of(saved: SavedSenders) -> Self {
        let mut remembered = Self::default();
        for Keyed { key, body, tally } in saved.keys {
            remembered.keep_key(key, body, tally);
        }
        for (name, sequence) in saved.clients {
            remembered.keep_client(name, sequence);
        }
        remembered
    }

    /// To be saved.
    pub(crate) fn save(&self) -> SavedSenders {
        let keyed = |key: &u128| self.keys.get(key).map(|&(body, tally)| Keyed { key: *key, body, tally });
        let mut clients: Vec<_> = self.clients.iter().collect();
        clients.sort_by_key(|(_, (_, used))| *used);
        let clients = clients.into_iter().map(|(name, (sequence, _))| (name.clone(), *sequence)).collect();
        SavedSenders { keys: self.order.iter().filter_map(keyed).collect(), clients }
    }

    /// Whether a parcel with this key is to be counted. From then on it was.
    pub(crate) fn keyed(&mut self, key: u128, body: u64, tally: Tally) -> Taken {
        match self.keys.get(&key) {
            Some((known, tally)) if *known == body => Taken::Repeated(Some(*tally)),
            Some(_) => Taken::KeyReused,
            None => {
                self.keep_key(key, body, tally);
                Taken::Counted
            }
        }
    }

    /// Whether a client's parcel of this number is to be counted. From then on it was. Who is not known begins wherever it
    /// likes; from there on numbers follow each other, so that two who go by one name are found out.
    pub(crate) fn numbered(&mut self, client: &str, sequence: u64) -> Taken {
        match self.last(client) {
            Some(last) if sequence <= last => {
                self.keep_client(client.to_owned(), last);
                Taken::Repeated(None)
            }
            Some(last) if sequence - 1 != last => Taken::OutOfOrder { expected: last + 1 },
            _ => {
                self.keep_client(client.to_owned(), sequence);
                Taken::Counted
            }
        }
    }

    /// The last number of a client.
    pub(crate) fn last(&self, client: &str) -> Option<u64> {
        self.clients.get(client).map(|(sequence, _)| *sequence)
    }

    fn keep_key(&mut self, key: u128, body: u64, tally: Tally) {
        if self.keys.insert(key, (body, tally)).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > MOST_KEYS
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }

    fn keep_client(&mut self, client: String, sequence: u64) {
        self.uses += 1;
        self.clients.insert(client, (sequence, self.uses));
        if self.clients.len() > MOST_CLIENTS {
            let longest = self.clients.iter().min_by_key(|(_, (_, used))| *used).map(|(name, _)| name.clone());
            longest.and_then(|name| self.clients.remove(&name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TALLY: Tally = Tally { accepted: 3, ignored: 1, rejected: 2 };

    #[test]
    fn a_key_counts_once_and_for_one_body() {
        let mut remembered = Remembered::default();
        assert_eq!(remembered.keyed(7, 1, TALLY), Taken::Counted);
        let mut restarted = Remembered::of(remembered.save());
        assert_eq!(restarted.save(), remembered.save());
        assert_eq!(restarted.keyed(7, 1, Tally::default()), Taken::Repeated(Some(TALLY)));
        assert_eq!(restarted.keyed(7, 2, TALLY), Taken::KeyReused);
        assert_eq!(restarted.keyed(8, 2, TALLY), Taken::Counted);
    }

    #[test]
    fn a_client_counts_each_number_once_and_leaves_out_none() {
        let mut remembered = Remembered::default();
        assert_eq!(remembered.numbered("a", 5), Taken::Counted);
        assert_eq!(remembered.numbered("a", 6), Taken::Counted);
        let mut restarted = Remembered::of(remembered.save());
        assert_eq!(restarted.numbered("a", 5), Taken::Repeated(None));
        assert_eq!(restarted.numbered("a", 8), Taken::OutOfOrder { expected: 7 });
        assert_eq!(restarted.numbered("a", 7), Taken::Counted);
        assert_eq!(restarted.numbered("b", 7), Taken::Counted, "another's numbers are its own");
        assert_eq!((restarted.last("a"), restarted.last("c")), (Some(7), None));
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_used() {
        let mut remembered = Remembered::default();
        remembered.numbered("used", 1);
        for number in 0..MOST_KEYS as u64 * 2 {
            remembered.keyed(u128::from(number), 0, TALLY);
            remembered.numbered(&format!("client {}", number % 3_000), 1);
            remembered.numbered("used", 1);
        }
        let saved = remembered.save();
        assert_eq!((saved.keys.len(), saved.clients.len()), (MOST_KEYS, MOST_CLIENTS));
        assert_eq!(remembered.keyed(0, 0, TALLY), Taken::Counted, "forgotten");
        assert_eq!(remembered.keyed(MOST_KEYS as u128 * 2 - 1, 0, TALLY), Taken::Repeated(Some(TALLY)));
        assert_eq!(remembered.last("used"), Some(1));
    }
}
