//! Networks in CIDR form.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::window::Peer;

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

impl Network {
    /// True if the address belongs to it; an IPv4 address is also an IPv6-mapped one.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        number(address) & self.mask == self.base
    }

    /// Base and mask, in the IPv6-mapped form.
    #[must_use]
    pub fn bits(&self) -> (u128, u128) {
        (self.base, self.mask)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses() {
        let holds =
            |network: &str, address: &str| network.parse::<Network>().unwrap().contains(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.1.2.3") && holds("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(holds("10.1.2.3/32", "10.1.2.3") && holds("fd00::/8", "fd00::1") && holds("0.0.0.0/0", "9.9.9.9"));
        assert!(!holds("10.0.0.0/8", "11.0.0.1") && !holds("fd00::/8", "fe80::1") && !holds("0.0.0.0/0", "::1"));
    }

    #[test]
    fn a_wrong_network_is_named() {
        for text in ["10.0.0.0", "10.0.0.0/33", "x/8", "::/129"] {
            assert!(text.parse::<Network>().unwrap_err().to_string().contains(text));
        }
    }
}
