//! Link headers and what is stacked on them (VLAN tags, MPLS labels, PPPoE): where does the IP header begin?
//!
//! All functions give the offset of the IP header within `data`. What carries no IP is a fault with static text, since on
//! many links such frames are as frequent as packets.

use super::wire::{be16, be32, byte, bytes};
use crate::fault::{Fault, Reason};

/// Tags and labels that may be stacked on one packet; more are hostile.
const MAX_STACKED: usize = 16;

/// Finds the IP header behind the link header `link` (a LINKTYPE_ number, <https://www.tcpdump.org/linktypes.html>).
pub(super) fn network(link: u16, data: &[u8]) -> Result<usize, Fault> {
    match link {
        1 => ethernet(data, 0),
        0 | 108 => loopback(data),
        // Raw IP: as written by BSDs (12, 14), by everybody else (101), IPv4 only (228), IPv6 only (229).
        12 | 14 | 101 | 228 | 229 => Ok(0),
        9 | 50 => ppp(data, 0),
        51 => pppoe(data, 0),
        // Cisco HDLC: address, control, Ethertype.
        104 => ethertype(data, 2),
        // Linux cooked, version 1: the protocol is the last field of 16 bytes.
        113 => ethertype(data, 14),
        // Linux cooked, version 2: the protocol is the first field of 20 bytes.
        276 => after_ethertype(be16(data, 0).ok_or_else(cut)?, data, 20),
        _ => Err(Fault::new(Reason::UnsupportedLink, format!("link type {link} is not decoded"))),
    }
}

/// Ethernet II, or IEEE 802.3 with LLC/SNAP.
pub(super) fn ethernet(data: &[u8], at: usize) -> Result<usize, Fault> {
    ethertype(data, at.saturating_add(12))
}

/// The Ethertype stands at `at`.
fn ethertype(data: &[u8], at: usize) -> Result<usize, Fault> {
    after_ethertype(be16(data, at).ok_or_else(cut)?, data, at.saturating_add(2))
}

/// What follows the Ethertype `kind` begins at `at`.
pub(super) fn after_ethertype(kind: u16, data: &[u8], at: usize) -> Result<usize, Fault> {
    let (mut kind, mut at) = (kind, at);
    for _ in 0..MAX_STACKED {
        match kind {
            0x0800 | 0x86dd => return Ok(at),
            // IEEE 802.1Q, 802.1ad and the two pre-standard numbers of stacked tags.
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                kind = be16(data, at.saturating_add(2)).ok_or_else(cut)?;
                at = at.saturating_add(4);
            }
            0x8847 | 0x8848 => return mpls(data, at),
            0x8864 => return pppoe(data, at),
            // A length (IEEE 802.3): LLC; only SNAP (RFC 1042) carries IP.
            0..=1500 => match bytes(data, at).ok_or_else(cut)? {
                [0xaa, 0xaa, 0x03, 0, 0, 0] => {
                    kind = be16(data, at.saturating_add(6)).ok_or_else(cut)?;
                    at = at.saturating_add(8);
                }
                [0x42, 0x42, ..] => return Err(not_ip("spanning tree")),
                [0xfe, 0xfe, ..] => return Err(not_ip("OSI network layer")),
                _ => return Err(not_ip("an LLC frame")),
            },
            0x0806 => return Err(not_ip("ARP")),
            0x8863 => return Err(not_ip("PPPoE discovery")),
            0x88cc => return Err(not_ip("LLDP")),
            _ => return Err(not_ip("an Ethertype that carries no IP")),
        }
    }
    Err(Fault::new(Reason::Malformed, "more than 16 stacked tags"))
}

/// MPLS (RFC 3032): past the label that has the bottom-of-stack bit, the payload tells by its first nibble what it is.
pub(super) fn mpls(data: &[u8], at: usize) -> Result<usize, Fault> {
    let mut at = at;
    for _ in 0..MAX_STACKED {
        let label = be32(data, at).ok_or_else(cut)?;
        at = at.saturating_add(4);
        if label & 0x100 == 0 {
            continue;
        }
        return match byte(data, at).ok_or_else(cut)? >> 4 {
            4 | 6 => Ok(at),
            // A pseudowire control word (RFC 4385): Ethernet behind it, as far as anybody can tell.
            0 => ethernet(data, at.saturating_add(4)).map_err(|_| not_ip("an MPLS pseudowire")),
            _ => Err(not_ip("an MPLS payload that is no IP")),
        };
    }
    Err(Fault::new(Reason::Malformed, "more than 16 MPLS labels"))
}

/// PPPoE session (RFC 2516): six bytes, then PPP.
fn pppoe(data: &[u8], at: usize) -> Result<usize, Fault> {
    ppp(data, at.saturating_add(6))
}

/// PPP (RFC 1661): address and control may be left out, and the protocol's leading zero byte too.
pub(super) fn ppp(data: &[u8], at: usize) -> Result<usize, Fault> {
    let at = if bytes(data, at) == Some([0xff, 0x03]) { at.saturating_add(2) } else { at };
    match bytes(data, at).ok_or_else(cut)? {
        [0x00, 0x21 | 0x57] => Ok(at.saturating_add(2)),
        [0x21 | 0x57, _] => Ok(at.saturating_add(1)),
        [0x02, 0x81 | 0x83] => mpls(data, at.saturating_add(2)),
        _ => Err(not_ip("a PPP protocol that carries no IP")),
    }
}

/// BSD loopback: the address family in the byte order of the machine that captured, or in network byte order.
fn loopback(data: &[u8]) -> Result<usize, Fault> {
    let family = be32(data, 0).ok_or_else(cut)?;
    // No family needs more than 16 bits, so a bigger number is one in the other byte order.
    match if family > 0xffff { family.swap_bytes() } else { family } {
        // AF_INET; AF_INET6 of Linux, of BSD/OS and NetBSD, of FreeBSD, and of Darwin.
        2 | 10 | 24 | 28 | 30 => Ok(4),
        _ => Err(not_ip("a loopback address family that is no IP")),
    }
}

fn not_ip(what: &'static str) -> Fault {
    Fault::new(Reason::NotIp, what)
}

fn cut() -> Fault {
    Fault::new(Reason::Truncated, "ends before the network layer")
}
