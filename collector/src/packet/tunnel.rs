//! Tunnels: where does the inner IP header begin?
//!
//! GRE (RFC 2784, 2890; with ERSPAN mirrors, and PPTP's version 1, RFC 2637), IP in IP (RFC 2003, 2473, 4213),
//! EtherIP (RFC 3378), Ethernet in IPv6 (RFC 8986), MPLS in IP (RFC 4023) and in UDP (RFC 7510), VXLAN (RFC 7348) and
//! Geneve (RFC 8926). What can't be entered, being encrypted, cut short or no IP, stays a packet of the outer flow.

use super::ip::IpHeader;
use super::link;
use super::wire::{be16, byte};

const IP_IN_IP: u8 = 4;
const UDP: u8 = 17;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;
const ETHER_IP: u8 = 97;
const MPLS_IN_IP: u8 = 137;
const ETHERNET: u8 = 143;

/// The offset of the IP header that the packet `outer` carries, if it is a tunnel's. `data` must end where `outer` does.
pub(super) fn inner(outer: &IpHeader, data: &[u8]) -> Option<usize> {
    let at = outer.payload.start;
    match outer.protocol {
        UDP => in_udp(data, at),
        IP_IN_IP | IPV6_IN_IP => Some(at),
        GRE => gre(data, at),
        ETHER_IP => link::ethernet(data, at + 2).ok(),
        ETHERNET => link::ethernet(data, at).ok(),
        MPLS_IN_IP => link::mpls(data, at).ok(),
        _ => None,
    }
}

/// VXLAN by its port (or Linux's older one) and its flag, Geneve by its port and version, MPLS by its port.
fn in_udp(data: &[u8], at: usize) -> Option<usize> {
    let port = be16(data, at + 2)?;
    let at = at + 8;
    match port {
        4789 | 8472 if byte(data, at)? & 0x08 != 0 => link::ethernet(data, at + 8).ok(),
        6635 => link::mpls(data, at).ok(),
        6081 => {
            let first = byte(data, at)?;
            let options = usize::from(first & 0x3f) * 4;
            (first >> 6 == 0).then_some(())?;
            bridged(be16(data, at + 2)?, data, at + 8 + options)
        }
        _ => None,
    }
}

fn gre(data: &[u8], at: usize) -> Option<usize> {
    let flags = be16(data, at)?;
    let kind = be16(data, at + 2)?;
    let (checksum, routing, key, sequence) = (flags & 0x8000, flags & 0x4000, flags & 0x2000, flags & 0x1000);
    let words = [checksum, key, sequence].into_iter().filter(|&bit| bit != 0).count();
    let at = at + 4 + 4 * words;
    match (flags & 0x7, kind) {
        // Source routes (RFC 1701) were withdrawn.
        (0, _) if routing != 0 => None,
        // ERSPAN: type I has no header of its own, nor a sequence number; type II has 8 bytes, type III 12 or 20.
        (0, 0x88be) => link::ethernet(data, if sequence == 0 { at } else { at + 8 }).ok(),
        (0, 0x22eb) => {
            let more = byte(data, at + 11)? & 1 != 0;
            link::ethernet(data, if more { at + 20 } else { at + 12 }).ok()
        }
        // WCCP: version 2 has put a redirect header of 4 bytes before the IP header of version 1.
        (0, 0x883e) => Some(if byte(data, at)? >> 4 == 4 { at } else { at + 4 }),
        (0, _) => bridged(kind, data, at),
        (1, 0x880b) => link::ppp(data, if flags & 0x0080 == 0 { at } else { at + 4 }).ok(),
        _ => None,
    }
}

/// An Ethertype of the tunnel: a whole Ethernet frame, or what an Ethernet frame would carry.
fn bridged(kind: u16, data: &[u8], at: usize) -> Option<usize> {
    match kind {
        0x6558 => link::ethernet(data, at).ok(),
        // As a length it would mean LLC, which is no protocol type.
        0..=1500 => None,
        _ => link::after_ethertype(kind, data, at).ok(),
    }
}
