//! Slots of a slab in the order in which they were last put at the back: a doubly linked list within a vector, so that
//! moving, removing and finding the oldest take constant time.

/// No slot.
const NONE: u32 = u32::MAX;

/// A list of slots. A slot is in it at most once.
#[derive(Debug)]
pub(super) struct Order {
    links: Vec<Link>,
    front: u32,
    back: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    before: u32,
    after: u32,
}

/// A slot that is not in the list points to itself, which no slot in it does.
fn out(slot: u32) -> Link {
    Link { before: slot, after: slot }
}

impl Default for Order {
    fn default() -> Self {
        Self { links: Vec::new(), front: NONE, back: NONE }
    }
}

impl Order {
    /// The slot that was put at the back longest ago.
    pub(super) fn front(&self) -> Option<u32> {
        (self.front != NONE).then_some(self.front)
    }

    /// The slots, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        let after = |slot: &u32| self.links.get(*slot as usize).map(|link| link.after).filter(|slot| *slot != NONE);
        // No slot comes twice.
        std::iter::successors(self.front(), after).take(self.links.len())
    }

    /// Puts `slot` at the back, from wherever it is.
    pub(super) fn push_back(&mut self, slot: u32) {
        if self.back == slot {
            return;
        }
        self.remove(slot);
        let known = u32::try_from(self.links.len()).unwrap_or(NONE);
        self.links.extend((known..=slot).map(out));
        let before = self.back;
        self.set(slot, Link { before, after: NONE });
        match self.links.get_mut(before as usize) {
            Some(link) => link.after = slot,
            None => self.front = slot,
        }
        self.back = slot;
    }

    /// Takes `slot` out, if it is in.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(&Link { before, after }) = self.links.get(slot as usize) else { return };
        if before == slot {
            return;
        }
        match self.links.get_mut(before as usize) {
            Some(link) => link.after = after,
            None => self.front = after,
        }
        match self.links.get_mut(after as usize) {
            Some(link) => link.before = before,
            None => self.back = before,
        }
        self.set(slot, out(slot));
    }

    fn set(&mut self, slot: u32, link: Link) {
        if let Some(place) = self.links.get_mut(slot as usize) {
            *place = link;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::Order;

    proptest! {
        #[test]
        fn behaves_like_a_deque(steps in prop::collection::vec((0u32..12, any::<bool>()), 0..200)) {
            let mut order = Order::default();
            let mut model = VecDeque::new();
            for (slot, push) in steps {
                model.retain(|&other| other != slot);
                if push {
                    model.push_back(slot);
                    order.push_back(slot);
                } else {
                    order.remove(slot);
                }
                prop_assert_eq!(order.front(), model.front().copied());
            }
            while let Some(slot) = model.pop_front() {
                prop_assert_eq!(order.front(), Some(slot));
                order.remove(slot);
            }
            prop_assert_eq!(order.front(), None);
        }
    }
}
