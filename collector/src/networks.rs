//! Which addresses are ours: `internal_networks`.

use std::net::{IpAddr, Ipv4Addr};

use spikewatch_domain::{network::Network, window::Peer};

fn number(address: IpAddr) -> u128 {
    u128::from_be_bytes(Peer::from(address).0)
}

/// The networks whose addresses are hosts; all other addresses are only ever peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalNetworks {
    /// Base and mask of all, and of those that hold IPv4 addresses in the bits that tell these apart.
    all: Vec<(u128, u128)>,
    v4: Vec<(u32, u32)>,
}

impl Default for InternalNetworks {
    /// RFC 1918 (private IPv4), RFC 4193 (unique local IPv6), RFC 6598 (shared address space), and link-local.
    fn default() -> Self {
        const DEFAULT: [&str; 7] = [
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "fc00::/7",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "fe80::/10",
        ];
        Self::of(DEFAULT.iter().filter_map(|text| text.parse().ok()).collect())
    }
}

impl InternalNetworks {
    /// These networks, or the default ones if none is given.
    #[must_use]
    pub fn new(networks: Vec<Network>) -> Self {
        if networks.is_empty() { Self::default() } else { Self::of(networks) }
    }

    fn of(networks: Vec<Network>) -> Self {
        let mapped = number(Ipv4Addr::UNSPECIFIED.into());
        let all: Vec<(u128, u128)> = networks.iter().map(Network::bits).collect();
        let v4 = all.iter().filter(|(base, mask)| (mapped & mask) >> 32 == base >> 32);
        Self { v4: v4.map(|(base, mask)| (*base as u32, *mask as u32)).collect(), all }
    }

    /// True if the address is ours.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.v4.iter().any(|(base, mask)| u32::from(v4) & mask == *base),
            IpAddr::V6(_) => self.all.iter().any(|(base, mask)| number(address) & mask == *base),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_ours_by_default() {
        let ours = InternalNetworks::default();
        for inside in ["10.1.2.3", "172.31.0.1", "192.168.0.1", "fd00::1", "100.64.0.9", "169.254.1.1", "fe80::1"] {
            assert!(ours.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["8.8.8.8", "172.32.0.1", "2001:db8::1", "100.128.0.1", "11.0.0.1", "::1"] {
            assert!(!ours.contains(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn an_ipv4_address_is_also_an_ipv6_one() {
        let ours = |network: &str| InternalNetworks::new(vec![network.parse().unwrap()]);
        let (v4, mapped) = ("10.1.2.3".parse().unwrap(), "::ffff:10.1.2.3".parse().unwrap());
        for network in ["10.0.0.0/8", "::ffff:10.0.0.0/104", "::ffff:0:0/96", "::/0", "10.1.2.3/32"] {
            assert!(ours(network).contains(v4) && ours(network).contains(mapped), "{network}");
        }
        for network in ["11.0.0.0/8", "::ffff:11.0.0.0/104", "::fffe:0:0/96", "10.1.2.4/32", "fd00::/8"] {
            assert!(!ours(network).contains(v4) && !ours(network).contains(mapped), "{network}");
        }
    }

    #[test]
    fn all_of_ipv4_is_not_all_of_ipv6() {
        assert!(InternalNetworks::new(vec!["0.0.0.0/0".parse().unwrap()]).contains("9.9.9.9".parse().unwrap()));
        assert!(!InternalNetworks::new(vec!["0.0.0.0/0".parse().unwrap()]).contains("2001:db8::1".parse().unwrap()));
    }
}
