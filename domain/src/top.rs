//! The heaviest contributors to a window: a bounded list with a bound on its error (Space-Saving, Metwally, Agrawal and
//! El Abbadi 2005). What is counted for an entry is counted since it entered the list, so it is a lower bound; adding
//! [`Tally::error`] gives the upper bound on its weight.

/// Weight of one event beside bytes, so that a flood of tiny packets and one large upload can both lead a list.
pub const EVENT_WEIGHT: u64 = 256;
/// Unit of inherited weight: fine enough that rounding up stays small beside one event, coarse enough for 274 GB.
const UNIT: u64 = 64;

/// What is known of one contributor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tally<I> {
    /// Who.
    pub id: I,
    /// Events counted since it entered the list (saturating).
    pub events: u32,
    /// In three parts, so that the entry needs no 8-byte alignment: these lists are most of a quiet host's memory.
    bytes: [u16; 3],
    /// Of these bytes, those that went out; counted for peers only.
    sent: [u16; 3],
    /// Weight it may have had before it entered the list, in units of 64 rounded up: the list's least weight at that
    /// time; 0 if nothing was lost. Whole numbers, so that ordering a list is cheap and equal on every machine.
    pub inherited: u32,
}

impl<I> Tally<I> {
    /// A tally as it came over a wire. `sent` are those of the bytes that went out, where that is counted.
    pub fn new(id: I, events: u32, bytes: u64, sent: u64, inherited: u32) -> Self {
        Self { id, events, bytes: in_parts(bytes), sent: in_parts(sent.min(bytes)), inherited }
    }

    /// Bytes, both directions, counted since it entered the list (saturating at 2^48 - 1, 281 TB).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        of_parts(self.bytes)
    }

    /// Those of the bytes that went out; 0 where that isn't counted.
    #[must_use]
    pub fn sent(&self) -> u64 {
        of_parts(self.sent)
    }

    /// What lists are ordered by: bytes + 256 × events, plus what may have been before.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let counted = self.bytes().saturating_add(EVENT_WEIGHT * u64::from(self.events));
        counted.saturating_add(self.error())
    }

    /// By how much its weight may be too high: what it inherited.
    #[must_use]
    pub fn error(&self) -> u64 {
        u64::from(self.inherited) * UNIT
    }

    fn inherit(&mut self, units: u32) {
        self.inherited = self.inherited.saturating_add(units);
    }

    fn add(&mut self, events: u64, bytes: u64, sent: u64) {
        self.events = self.events.saturating_add(u32::try_from(events).unwrap_or(u32::MAX));
        self.bytes = in_parts(self.bytes().saturating_add(bytes));
        self.sent = in_parts(self.sent().saturating_add(sent));
    }
}

fn in_parts(bytes: u64) -> [u16; 3] {
    let bytes = bytes.min((1 << 48) - 1);
    [(bytes >> 32) as u16, (bytes >> 16) as u16, bytes as u16]
}

fn of_parts([high, middle, low]: [u16; 3]) -> u64 {
    u64::from(high) << 32 | u64::from(middle) << 16 | u64::from(low)
}

fn in_units(weight: u64) -> u32 {
    u32::try_from(weight.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// What [`Top::add`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It was in the list.
    Known,
    /// It is new, and there was room.
    New,
    /// It is new, and the lightest entry made room.
    Evicted,
}

/// The `N` heaviest contributors.
#[derive(Debug, Clone, PartialEq)]
pub struct Top<I, const N: usize> {
    entries: Vec<Tally<I>>,
}

impl<I, const N: usize> Default for Top<I, N> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<I: Ord + Clone, const N: usize> Top<I, N> {
    /// How many are listed, at most `N`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True if `id` is listed.
    #[must_use]
    pub fn contains(&self, id: &I) -> bool {
        self.entries.iter().any(|tally| tally.id == *id)
    }

    /// How many different ids the two lists hold together.
    #[must_use]
    pub fn union_len(&self, other: &Self) -> usize {
        self.len() + other.entries.iter().filter(|tally| !self.contains(&tally.id)).count()
    }

    /// Entries in no particular order.
    pub fn entries(&self) -> &[Tally<I>] {
        &self.entries
    }

    /// Entries from the heaviest to the lightest, ties by id.
    #[must_use]
    pub fn ranked(&self) -> Vec<&Tally<I>> {
        let mut ranked: Vec<_> = self.entries.iter().collect();
        ranked.sort_by(|a, b| b.weight().cmp(&a.weight()).then_with(|| a.id.cmp(&b.id)));
        ranked
    }

    /// Counts `events` and `bytes` for `id`, and of the bytes those `sent`, where the list tells them apart.
    pub fn add(&mut self, id: I, events: u64, bytes: u64, sent: u64) -> Added {
        if let Some(tally) = self.entries.iter_mut().find(|tally| tally.id == id) {
            tally.add(events, bytes, sent);
            return Added::Known;
        }
        let mut tally = Tally::new(id, 0, 0, 0, 0);
        tally.add(events, bytes, sent);
        if self.entries.len() < N {
            // Room for 1, 3, 7 and N: most lists stay short, and there are millions of them.
            let listed = self.entries.len();
            if listed == self.entries.capacity() {
                self.entries.reserve_exact((listed + 1).min(N - listed));
            }
            self.entries.push(tally);
            return Added::New;
        }
        // Of several lightest the first in the list goes: the list's order follows from what was added.
        if let Some(lightest) = self.entries.iter_mut().min_by_key(|tally| tally.weight()) {
            tally.inherit(in_units(lightest.weight()));
            *lightest = tally;
        }
        Added::Evicted
    }

    /// Adds all of `other`; `ours_cut`/`theirs_cut` say whether the lists have lost entries before. Returns true if an
    /// entry was lost now. An id that one cut list lacks may have weighed as much there as that list's lightest.
    pub fn merge(&mut self, ours_cut: bool, other: &Self, theirs_cut: bool) -> bool {
        const { assert!(N <= 64) };
        let floor = |cut: bool, top: &Self| {
            let least = top.entries.iter().map(Tally::weight).min();
            least.filter(|_| cut).map_or(0, in_units)
        };
        let (our_floor, their_floor) = (floor(ours_cut, self), floor(theirs_cut, other));
        // A bit for each entry of ours that theirs has, and for each of theirs that ours lacks: no list is longer than 64.
        let (mut met, mut new) = (0u64, 0u64);
        for (place, theirs) in other.entries.iter().enumerate() {
            match self.entries.iter().position(|tally| tally.id == theirs.id) {
                Some(at) => {
                    met |= 1 << at;
                    self.entries[at].add(u64::from(theirs.events), theirs.bytes(), theirs.sent());
                    self.entries[at].inherit(theirs.inherited);
                }
                None => new |= 1 << place,
            }
        }
        if their_floor > 0 {
            let unmet = self.entries.iter_mut().enumerate().filter(|(at, _)| met >> at & 1 == 0);
            unmet.for_each(|(_, tally)| tally.inherit(their_floor));
        }
        self.entries.reserve_exact(new.count_ones() as usize);
        for (_, theirs) in other.entries.iter().enumerate().filter(|(place, _)| new >> place & 1 == 1) {
            let mut tally = theirs.clone();
            tally.inherit(our_floor);
            self.entries.push(tally);
        }
        let lost = self.entries.len() > N;
        if lost {
            self.entries.sort_by(|a, b| b.weight().cmp(&a.weight()).then_with(|| a.id.cmp(&b.id)));
            self.entries.truncate(N);
            self.entries.shrink_to(N);
        }
        lost
    }

    /// A list as it came over a wire: at most `N` entries, in their order there. Their ids must differ.
    #[must_use]
    pub fn restored(entries: impl ExactSizeIterator<Item = Tally<I>>) -> Self {
        let mut list = Vec::with_capacity(entries.len().min(N));
        list.extend(entries.take(N));
        Self { entries: list }
    }

    /// As [`Top::restored`], into the memory that this list has; what it held is gone.
    pub fn restore(&mut self, entries: impl ExactSizeIterator<Item = Tally<I>>) {
        self.entries.clear();
        self.entries.extend(entries.take(N));
    }

    /// Bytes on the heap, not counting what ids own.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Tally<I>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(stream: &[(u8, u64)]) -> (Top<u8, 4>, bool) {
        let mut top = Top::default();
        let cut =
            stream.iter().fold(false, |cut, (id, bytes)| (top.add(*id, 1, *bytes, *bytes / 2) == Added::Evicted) | cut);
        (top, cut)
    }

    proptest! {
        /// What an entry shows is never more than the truth, and never less than the truth by more than it inherited.
        #[test]
        fn the_truth_lies_within_the_bounds(
            a in proptest::collection::vec((0..12u8, 0..5_000u64), 0..60),
            b in proptest::collection::vec((0..12u8, 0..5_000u64), 0..60),
        ) {
            let ((mut top, cut), (other, other_cut)) = (of(&a), of(&b));
            top.merge(cut, &other, other_cut);
            for tally in top.entries() {
                let truth: u64 = a.iter().chain(&b).filter(|(id, _)| *id == tally.id)
                    .map(|(_, bytes)| bytes + EVENT_WEIGHT).sum();
                prop_assert!(tally.weight() - tally.error() <= truth);
                prop_assert!(tally.weight() >= truth);
                prop_assert!(tally.sent() <= tally.bytes() / 2);
            }
            prop_assert!(top.len() <= 4);
        }

        #[test]
        fn a_contributor_of_more_than_its_share_is_listed(noise in proptest::collection::vec(0..200u8, 1..300)) {
            let mut top = Top::<u8, 4>::default();
            for id in &noise {
                top.add(*id, 1, 0, 0);
                top.add(255, 1, 1, 0);
            }
            prop_assert!(top.contains(&255));
        }
    }
}
