//! One packet → the innermost IP flow that it belongs to.

use std::net::IpAddr;

use super::ip::{self, Fragment, IpHeader};
use super::wire::{be16, byte};
use super::{link, tunnel};
use crate::fault::Fault;

/// Tunnels within tunnels that are entered; a packet nested deeper counts for the flow found by then.
const MAX_TUNNELS: usize = 8;

/// What one packet says: the innermost IP flow (tunnels GRE, VXLAN, Geneve and IP-in-IP are entered).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dissected {
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// Port of the sender; 0 where the protocol has none or the packet does not tell.
    pub source_port: u16,
    /// Port of the receiver; 0 where the protocol has none or the packet does not tell.
    pub destination_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Layer-3 length as sent: the IP total length; where that is 0 (segmentation offload) or absent, the length on the
    /// wire less what precedes the IP header.
    pub bytes: u32,
    /// TCP flags (RFC 9293 section 3.1, the byte that ends in SYN and FIN); 0 for other protocols.
    pub tcp_flags: u8,
    /// Offset and length, within the given data, of the payload of an unfragmented UDP datagram, as far as captured.
    pub udp_payload: Option<(usize, usize)>,
    /// If the packet is a fragment: of which datagram.
    pub(super) fragment: Option<Fragment>,
}

impl Dissected {
    /// A packet of which only these are known, for sources that tell them without a header.
    #[must_use]
    pub fn between(source: IpAddr, destination: IpAddr, protocol: u8, bytes: u32) -> Self {
        Self {
            source,
            destination,
            source_port: 0,
            destination_port: 0,
            protocol,
            bytes,
            tcp_flags: 0,
            udp_payload: None,
            fragment: None,
        }
    }
}

/// Reads one packet. `link` is a LINKTYPE_ number, `original_length` the length on the wire, of which `data` may be a part.
///
/// # Errors
/// A [`Fault`] if the packet holds no readable IP header, or has a link type that is not decoded.
pub fn dissect(link: u16, original_length: u32, data: &[u8]) -> Result<Dissected, Fault> {
    let wire_end = usize::try_from(original_length).unwrap_or(usize::MAX).max(data.len());
    let mut at = link::network(link, data)?;
    let mut header = ip::read(data, at, wire_end)?;
    let mut fragment = None;
    for _ in 0..MAX_TUNNELS {
        fragment = header.fragment.or(fragment);
        let end = at.saturating_add(header.bytes as usize);
        let data = data.get(..header.payload.end).unwrap_or(data);
        let Some(inner_at) = tunnel::inner(&header, data) else { break };
        let Ok(inner) = ip::read(data, inner_at, end) else { break };
        (at, header) = (inner_at, inner);
    }
    Ok(transport(header, fragment, data))
}

/// Adds what the transport header tells, as far as it was captured.
fn transport(header: IpHeader, fragment: Option<Fragment>, data: &[u8]) -> Dissected {
    let mut found = Dissected::between(header.source, header.destination, header.protocol, header.bytes);
    found.fragment = fragment;
    let payload = data.get(header.payload.clone()).unwrap_or_default();
    // TCP, UDP, DCCP, SCTP and UDP-Lite begin with their ports.
    if let (6 | 17 | 33 | 132 | 136, Some(from), Some(to)) = (header.protocol, be16(payload, 0), be16(payload, 2)) {
        (found.source_port, found.destination_port) = (from, to);
    }
    match header.protocol {
        6 => found.tcp_flags = byte(payload, 13).unwrap_or(0),
        17 if fragment.is_none() => {
            found.udp_payload = be16(payload, 4).filter(|_| payload.len() >= 8).map(|length| {
                // 0 is a datagram too long for the field (RFC 2675) or not yet segmented.
                let length = if length == 0 { usize::MAX } else { usize::from(length).saturating_sub(8) };
                (header.payload.start + 8, length.min(payload.len() - 8))
            });
        }
        _ => {}
    }
    found
}
