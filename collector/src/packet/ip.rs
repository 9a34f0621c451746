//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers, with IPv6 extension headers and authentication headers skipped.
//!
//! By hand, since what is wanted of a packet that was cut short is all that its headers tell, and since the payload of a
//! later fragment must not be read as headers. The tests compare with `etherparse`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use rapidhash::v3::rapidhash_v3;
use serde::{Deserialize, Serialize};

use super::wire::{be16, be32, byte, bytes};
use crate::fault::{Fault, Reason};

/// Extension headers that are followed; more are hostile, and what was found by then is used.
const MAX_EXTENSIONS: usize = 16;

impl Datagram {
    /// Equal for equal datagrams, on every machine and in every run.
    pub(super) fn hash(&self) -> u64 {
        let mut bytes = [0; 37];
        let octets = |address| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        bytes[..16].copy_from_slice(&octets(self.source));
        bytes[16..32].copy_from_slice(&octets(self.destination));
        bytes[32..36].copy_from_slice(&self.identification.to_be_bytes());
        bytes[36] = self.protocol;
        rapidhash_v3(&bytes)
    }
}

/// What an IP header tells.
#[derive(Debug, Clone)]
pub(super) struct IpHeader {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Of the payload, past extension headers.
    pub(super) protocol: u8,
    /// Length as sent, headers included.
    pub(super) bytes: u32,
    /// Where the payload lies in the data, as far as it was captured; empty for a fragment other than the first.
    pub(super) payload: Range<usize>,
    /// If this is a fragment: of which datagram.
    pub(super) fragment: Option<Fragment>,
}

/// A part of a datagram that was too long for a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) datagram: Datagram,
    /// It is the first part, which has the ports.
    pub(super) first: bool,
}

/// What the fragments of one datagram have in common (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub(super) struct Datagram {
    source: IpAddr,
    destination: IpAddr,
    /// As the IPv4 header has it; for IPv6, where it is no part of the identity, that of the fragment header.
    protocol: u8,
    identification: u32,
}

/// Reads the IP header at `at`. `wire_end` is where the packet ended on the wire, counted from the start of `data`; it
/// stands in for a missing length.
pub(super) fn read(data: &[u8], at: usize, wire_end: usize) -> Result<IpHeader, Fault> {
    match byte(data, at).map(|first| first >> 4) {
        Some(4) => version_4(data, at, wire_end),
        Some(6) => version_6(data, at, wire_end),
        Some(_) => Err(Fault::new(Reason::Malformed, "an IP version that is neither 4 nor 6")),
        None => Err(Fault::new(Reason::Truncated, "ends before the IP header")),
    }
}

fn version_4(data: &[u8], at: usize, wire_end: usize) -> Result<IpHeader, Fault> {
    let cut = || Fault::new(Reason::Truncated, "ends within the IPv4 header");
    let header: [u8; 20] = bytes(data, at).ok_or_else(cut)?;
    let header_length = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_length < 20 {
        return Err(Fault::new(Reason::Malformed, "an IPv4 header length under 20 bytes"));
    }
    if total != 0 && total < header_length {
        return Err(Fault::new(Reason::Malformed, "an IPv4 total length under the header's"));
    }
    let length = if total == 0 { wire_end.saturating_sub(at) } else { total };
    let flags = u16::from_be_bytes([header[6], header[7]]);
    let (more, offset) = (flags & 0x2000 != 0, flags & 0x1fff);
    let identification = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let mut found = IpHeader {
        source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
        destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
        protocol: header[9],
        bytes: length.try_into().unwrap_or(u32::MAX),
        payload: captured(data, at, header_length, length),
        fragment: None,
    };
    if more || offset != 0 {
        found.fragment = Some(found.part(identification, offset == 0));
    }
    if offset == 0 {
        found.skip_extensions(data);
    } else {
        found.payload.start = found.payload.end;
    }
    Ok(found)
}

fn version_6(data: &[u8], at: usize, wire_end: usize) -> Result<IpHeader, Fault> {
    let cut = || Fault::new(Reason::Truncated, "ends within the IPv6 header");
    let header: [u8; 40] = bytes(data, at).ok_or_else(cut)?;
    let (fixed, addresses) = header.split_at(8);
    let next = fixed[6];
    let payload_length = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    // 0 with something behind it is a jumbogram (RFC 2675) or a packet captured before segmentation.
    let length = match (payload_length, next) {
        (0, NO_NEXT_HEADER) => 40,
        (0, _) => wire_end.saturating_sub(at).max(40),
        (length, _) => 40 + length,
    };
    let address = |from| bytes::<16>(addresses, from).map(Ipv6Addr::from).ok_or_else(cut);
    let mut found = IpHeader {
        source: address(0)?.into(),
        destination: address(16)?.into(),
        protocol: next,
        bytes: length.try_into().unwrap_or(u32::MAX),
        payload: captured(data, at, 40, length),
        fragment: None,
    };
    found.skip_extensions(data);
    Ok(found)
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;

impl IpHeader {
    /// This packet as a part of a datagram, while `protocol` is still that of the header which says so.
    fn part(&self, identification: u32, first: bool) -> Fragment {
        let &Self { source, destination, protocol, .. } = self;
        Fragment { datagram: Datagram { source, destination, protocol, identification }, first }
    }

    /// Moves `protocol` and `payload` past extension headers, as far as they were captured and belong to this packet.
    fn skip_extensions(&mut self, data: &[u8]) {
        let version_6 = self.source.is_ipv6();
        for _ in 0..MAX_EXTENSIONS {
            let here = data.get(self.payload.clone()).unwrap_or_default();
            let (Some(next), Some(units)) = (byte(here, 0), byte(here, 1).map(usize::from)) else { return };
            let length = match self.protocol {
                AUTHENTICATION => (units + 2) * 4,
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS if version_6 => (units + 1) * 8,
                FRAGMENT if version_6 => 8,
                _ => return,
            };
            if length > here.len() {
                return;
            }
            self.payload.start += length;
            if self.protocol == FRAGMENT
                && let (Some(position), Some(identification)) = (be16(here, 2), be32(here, 4))
            {
                let (more, offset) = (position & 1 != 0, position >> 3);
                // An "atomic" fragment (RFC 6946) is a whole packet.
                if more || offset != 0 {
                    self.fragment = Some(self.part(identification, offset == 0));
                }
                if offset != 0 {
                    self.protocol = next;
                    self.payload.start = self.payload.end;
                    return;
                }
            }
            self.protocol = next;
        }
    }
}

/// The payload of a packet of `length` bytes at `at`, as far as it was captured.
fn captured(data: &[u8], at: usize, header_length: usize, length: usize) -> Range<usize> {
    let end = at.saturating_add(length).min(data.len());
    at.saturating_add(header_length).min(end)..end
}
