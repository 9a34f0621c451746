//! Protocol names as logs write them → IANA protocol numbers
//! (<https://www.iana.org/assignments/protocol-numbers>).

use std::net::IpAddr;

/// ICMP for IPv4.
const ICMP: u8 = 1;
/// ICMP for IPv6.
const ICMPV6: u8 = 58;

/// The number of a protocol's keyword, in any case; a number in text is taken as it is. `None` for a name that is not
/// known: ECS and Zeek both have "unknown".
pub(super) fn number(name: &str) -> Option<u8> {
    const NAMES: [(&str, u8); 25] = [
        ("tcp", 6),
        ("udp", 17),
        ("icmp", ICMP),
        ("icmpv4", ICMP),
        ("ipv6-icmp", ICMPV6),
        ("icmp6", ICMPV6),
        ("icmpv6", ICMPV6),
        ("sctp", 132),
        ("gre", 47),
        ("esp", 50),
        ("ah", 51),
        ("igmp", 2),
        ("ipip", 4),
        ("ipv4", 4),
        ("ipv6", 41),
        ("dccp", 33),
        ("egp", 8),
        ("eigrp", 88),
        ("ospf", 89),
        ("ospfigp", 89),
        ("pim", 103),
        ("vrrp", 112),
        ("l2tp", 115),
        ("udplite", 136),
        ("rsvp", 46),
    ];
    let found = NAMES.iter().find(|(keyword, _)| keyword.eq_ignore_ascii_case(name));
    found.map(|(_, number)| *number).or_else(|| name.parse().ok())
}

/// ICMP of the addresses' family: Zeek and some firewalls write `icmp` for both.
pub(super) fn of_family(protocol: u8, source: IpAddr) -> u8 {
    if protocol == ICMP && source.is_ipv6() { ICMPV6 } else { protocol }
}

/// True if the protocol has no ports; logs then put ICMP's type and code in their place.
pub(super) fn is_icmp(protocol: u8) -> bool {
    matches!(protocol, ICMP | ICMPV6)
}

/// An address as logs write it: a zone (`fe80::1%eth0`) is left out, and an IPv4 address mapped into IPv6 is IPv4.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let bare = text.split_once('%').map_or(text, |(bare, _zone)| bare);
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_understood() {
        assert_eq!(number("TCP"), Some(6));
        assert_eq!(number("ipv6-icmp"), Some(58));
        assert_eq!(number("47"), Some(47));
        assert_eq!(number("unknown_transport"), None);
        assert_eq!(number("300"), None);
    }

    #[test]
    fn icmp_follows_the_address_family() {
        assert_eq!(of_family(1, "2001:db8::1".parse().unwrap()), 58);
        assert_eq!(of_family(1, "192.0.2.1".parse().unwrap()), 1);
    }

    #[test]
    fn zones_and_mapped_addresses_are_made_plain() {
        assert_eq!(address("fe80::1%eth0"), "fe80::1".parse().ok());
        assert_eq!(address("::ffff:192.0.2.1"), "192.0.2.1".parse().ok());
        assert_eq!(address("example.org"), None);
    }
}
