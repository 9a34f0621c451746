//! Randomness: the system's, or a seeded sequence that a test can repeat.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A source of random numbers for ids, jitter and seeds (not for keys). Clones draw from the same sequence.
#[derive(Debug, Clone)]
pub struct Entropy(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Seeded(Arc<AtomicU64>),
}

impl Entropy {
    /// The system's randomness.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A sequence that is the same for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(AtomicU64::new(seed))))
    }

    /// The next number.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn next_u64(&self) -> u64 {
        match &self.0 {
            // The standard library keys its hasher from the system; the hash of a constant is then as random as the key.
            Source::System => RandomState::new().hash_one(0u8),
            Source::Seeded(state) => {
                // SplitMix64 (Steele, Lea, Flood 2014).
                const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
                let z = state.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
                let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            }
        }
    }

    /// 16 random bytes: an incarnation, an instance, a lineage.
    #[must_use]
    pub fn bytes16(&self) -> [u8; 16] {
        (u128::from(self.next_u64()) << 64 | u128::from(self.next_u64())).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_the_system_does_not() {
        let draw = |entropy: &Entropy| [entropy.next_u64(), entropy.next_u64()];
        assert_eq!(draw(&Entropy::seeded(7)), draw(&Entropy::seeded(7)));
        assert_ne!(draw(&Entropy::seeded(7)), draw(&Entropy::seeded(8)));
        // First output of the published SplitMix64 for seed 0.
        assert_eq!(Entropy::seeded(0).next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_ne!(Entropy::system().bytes16(), Entropy::system().bytes16());
    }

    #[test]
    fn clones_share_one_sequence() {
        let entropy = Entropy::seeded(7);
        let clone = entropy.clone();
        assert_ne!(entropy.next_u64(), clone.next_u64());
    }
}
