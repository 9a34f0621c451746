//! Which shard a key belongs to, and which aggregator a shard belongs to. Both rest on rapidhash v3, whose output is
//! frozen: every collector and aggregator of every version must agree, for as long as a cluster lives.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

use crate::key::{SiteName, Subject};

/// Shards of a cluster unless it says otherwise.
pub const DEFAULT_SHARDS: u32 = 64;
/// Most shards a cluster may have.
pub const MAX_SHARDS: u32 = 4096;

static KEY_SECRETS: RapidSecrets = RapidSecrets::seed(0x5350_494b_4557_4b31);
static OWNER_SECRETS: RapidSecrets = RapidSecrets::seed(0x5350_494b_4557_4f31);

/// The shard of a key among `shards` of them: equal ranges of the key's hash. For many keys use [`Sharding`].
#[must_use]
pub fn shard_of(site: &SiteName, subject: &Subject, shards: u32) -> u32 {
    Sharding::new(site, shards).shard_of(subject)
}

/// Tells the shards of one site's keys; for many keys in a row, as it allocates once.
#[derive(Debug, Clone)]
pub struct Sharding {
    shards: u32,
    /// The site and a zero, then what is left of the last subject.
    bytes: Vec<u8>,
    site: usize,
}

impl Sharding {
    /// For the keys of `site` among `shards` shards.
    #[must_use]
    pub fn new(site: &SiteName, shards: u32) -> Self {
        let mut bytes = Vec::with_capacity(48);
        bytes.extend_from_slice(site.as_str().as_bytes());
        bytes.push(0);
        Self { shards, site: bytes.len(), bytes }
    }

    /// The shard of (site, `subject`).
    #[must_use]
    pub fn shard_of(&mut self, subject: &Subject) -> u32 {
        self.bytes.truncate(self.site);
        subject.encode(&mut self.bytes);
        let hash = rapidhash_v3_seeded(&self.bytes, &KEY_SECRETS);
        ((u128::from(hash) * u128::from(self.shards)) >> 64) as u32
    }
}

/// The owner of a shard among `candidates`: highest random weight (rendezvous hashing, Thaler and Ravishankar 1998), so
/// that a candidate that comes or goes moves only its own shards. Ties go to the smaller name.
#[must_use]
pub fn owner_of<'a>(shard: u32, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates.into_iter().max_by_key(|name| {
        let mut bytes = Vec::with_capacity(name.len() + 4);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&shard.to_be_bytes());
        (rapidhash_v3_seeded(&bytes, &OWNER_SECRETS), std::cmp::Reverse(*name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(text: &str) -> Subject {
        Subject::Address(text.parse().unwrap())
    }

    /// Golden vectors: if this test fails, the change would scatter every running cluster's keys.
    #[test]
    fn shards_are_frozen() {
        let site: SiteName = "main".parse().unwrap();
        let shards: Vec<u32> =
            ["10.0.0.1", "10.0.0.2", "192.168.1.77", "fd00::1"].map(|text| shard_of(&site, &subject(text), 64)).into();
        assert_eq!(shards, GOLDEN_SHARDS);
        assert_eq!(shard_of(&site, &Subject::Site, 64), GOLDEN_SITE);
        let mut sharding = Sharding::new(&site, 64);
        let again = ["10.0.0.1", "10.0.0.2", "192.168.1.77", "fd00::1"].map(|text| sharding.shard_of(&subject(text)));
        assert_eq!((again, sharding.shard_of(&Subject::Site)), (GOLDEN_SHARDS, GOLDEN_SITE));
        let owners: Vec<_> = (0..6).map(|shard| owner_of(shard, ["a1", "a2", "a3"]).unwrap()).collect();
        assert_eq!(owners, GOLDEN_OWNERS);
    }
    const GOLDEN_SHARDS: [u32; 4] = [39, 0, 45, 25];
    const GOLDEN_SITE: u32 = 22;
    const GOLDEN_OWNERS: [&str; 6] = ["a1", "a3", "a3", "a3", "a3", "a2"];

    #[test]
    fn only_the_lost_owners_shards_move() {
        for shard in 0..512 {
            let before = owner_of(shard, ["a1", "a2", "a3"]).unwrap();
            let after = owner_of(shard, ["a1", "a3"]).unwrap();
            assert!(before == after || before == "a2");
        }
    }

    #[test]
    fn keys_spread_over_all_shards() {
        let site: SiteName = "main".parse().unwrap();
        let mut counts = [0u32; 64];
        for i in 0..64_000u32 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + i);
            counts[shard_of(&site, &Subject::Address(address.into()), 64) as usize] += 1;
        }
        assert!(counts.iter().all(|c| (850..1150).contains(c)), "{counts:?}");
    }
}
