//! Which addresses are ours: `internal_networks`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use spikewatch_domain::window::Peer;

/// One network in CIDR form; IPv4 networks are kept as their IPv6-mapped form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: u128,
    mask: u128,
    shown: (IpAddr, u8),
}

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network: expected an address and a prefix length, like 10.0.0.0/8 or fd00::/8")]
pub struct InvalidNetwork(String);

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork(text.chars().take(80).collect());
        let (address, length) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let length: u8 = length.parse().map_err(|_| invalid())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if length > bits {
            return Err(invalid());
        }
        let mask = u128::MAX.checked_shl(u32::from(bits - length)).unwrap_or(0);
        Ok(Self { base: number(address) & mask, mask, shown: (address, length) })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.shown.0, self.shown.1)
    }
}

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
        let v4 = networks.iter().filter(|network| (mapped & network.mask) >> 32 == network.base >> 32);
        Self {
            v4: v4.map(|network| (network.base as u32, network.mask as u32)).collect(),
            all: networks.iter().map(|network| (network.base, network.mask)).collect(),
        }
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
    fn a_wrong_network_is_named() {
        for text in ["10.0.0.0", "10.0.0.0/33", "x/8", "::/129"] {
            assert!(text.parse::<Network>().unwrap_err().to_string().contains(text));
        }
        assert!(InternalNetworks::new(vec!["0.0.0.0/0".parse().unwrap()]).contains("9.9.9.9".parse().unwrap()));
        assert!(!InternalNetworks::new(vec!["0.0.0.0/0".parse().unwrap()]).contains("2001:db8::1".parse().unwrap()));
    }
}
