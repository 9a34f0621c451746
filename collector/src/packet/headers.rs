//! One packet → the innermost IP flow that it belongs to.

use std::net::IpAddr;

use crate::fault::{Fault, Reason};

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
    /// Offset and length, within the given data, of the payload of an unfragmented UDP datagram.
    pub udp_payload: Option<(usize, usize)>,
}

/// Reads one packet. `link` is a LINKTYPE_ number, `original_length` the length on the wire, of which `data` may be a part.
///
/// # Errors
/// A [`Fault`] if the packet holds no readable IP header, or has a link type that is not decoded.
pub fn dissect(link: u16, original_length: u32, data: &[u8]) -> Result<Dissected, Fault> {
    let _ = (original_length, data);
    Err(Fault::new(Reason::UnsupportedLink, format!("link type {link} is not decoded")))
}
