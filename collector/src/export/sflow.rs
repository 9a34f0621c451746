//! sFlow v5 (sflow.org, "sFlow Version 5", July 2004): samples of single packets, which the flow table joins to flows.
//!
//! A datagram is a header and samples; a sample of a packet is a header and records, each with a type and a length. Types hold
//! an enterprise number in their upper 20 bits; those of other enterprises are skipped, as are counter samples. Everything
//! is a multiple of four bytes, big-endian.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::cursor::Cursor;
use super::flow;
use crate::fault::{Decoded, Fault, Reason};
use crate::packet::headers::{Dissected, dissect};

/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;
/// LINKTYPE_RAW: an IP header first, of either version.
const RAW_IP: u16 = 101;

/// The header of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The exporter, wherever the datagram was relayed.
    pub(super) agent: IpAddr,
    pub(super) sub_agent: u32,
    pub(super) sequence: u32,
    pub(super) uptime_ms: u32,
    /// Number of samples.
    pub(super) samples: u32,
}

impl Header {
    /// Reads the header, version and all.
    pub(super) fn read(from: &mut Cursor<'_>) -> Option<Self> {
        let _version = from.u32()?;
        let agent = match from.u32()? {
            1 => IpAddr::from(from.array::<4>()?),
            2 => IpAddr::from(from.array::<16>()?),
            _ => return None,
        };
        let (sub_agent, sequence) = (from.u32()?, from.u32()?);
        let (uptime_ms, samples) = (from.u32()?, from.u32()?);
        Some(Self { agent, sub_agent, sequence, uptime_ms, samples })
    }
}

/// A packet that was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) packet: Dissected,
    /// One packet in this many was sampled; never 0.
    pub(super) rate: u32,
}

/// Reads the samples that follow `header`; gives each sampled packet to `on_sample`.
pub(super) fn samples(
    header: &Header,
    mut from: Cursor<'_>,
    out: &mut Decoded,
    mut on_sample: impl FnMut(Sample, &mut Decoded),
) {
    for index in 0..header.samples {
        let offset = from.offset();
        let Some((kind, length)) = from.u32().zip(from.u32()) else {
            let detail =
                format!("sample {} of {} expected, the datagram ends, offset {offset}", index + 1, header.samples);
            out.fault(Reason::Truncated, detail);
            return;
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(body) = from.part(length) else {
            let left = from.rest().len();
            let detail = format!("a sample says that {length} bytes follow, {left} do, offset {offset}");
            out.fault(Reason::Truncated, detail);
            return;
        };
        match sample(kind, body, offset) {
            Ok(sample) => on_sample(sample, out),
            Err(fault) => out.faults.push(fault),
        }
    }
}

fn sample(kind: u32, mut body: Cursor<'_>, offset: usize) -> Result<Sample, Fault> {
    // Words of the sample before and after its rate, up to the number of records.
    let (before, after) = match kind {
        1 => (2, 4),
        3 => (3, 6),
        2 | 4 => return Err(Fault::new(Reason::NotFlow, format!("counters, offset {offset}"))),
        5 => return Err(Fault::new(Reason::NotFlow, format!("notice of a discarded packet, offset {offset}"))),
        _ => {
            let (enterprise, format) = (kind >> 12, kind & 0xfff);
            let detail = format!("sample of enterprise {enterprise}, format {format}, offset {offset}");
            return Err(Fault::new(Reason::NotFlow, detail));
        }
    };
    let truncated = || Fault::new(Reason::Truncated, format!("flow sample ends within its header, offset {offset}"));
    body.part(4 * before).ok_or_else(truncated)?;
    let rate = body.u32().ok_or_else(truncated)?.max(1);
    body.part(4 * after).ok_or_else(truncated)?;
    let count = body.u32().ok_or_else(truncated)?;
    let packet = sampled_packet(count, body, offset)?;
    Ok(Sample { packet, rate })
}

/// The packet that a sample's records describe: by its header if there is one, else by what the agent read from it.
fn sampled_packet(count: u32, mut records: Cursor<'_>, sample: usize) -> Result<Dissected, Fault> {
    let mut read_by_agent = None;
    for _ in 0..count {
        let offset = records.offset();
        let record = records.u32().zip(records.u32()).and_then(|(kind, length)| {
            let body = records.part(usize::try_from(length).ok()?)?;
            Some((kind, body))
        });
        let Some((kind, mut body)) = record else {
            return Err(Fault::new(
                Reason::Truncated,
                format!("record of a flow sample ends after it, offset {offset}"),
            ));
        };
        let truncated = || Fault::new(Reason::Truncated, format!("sampled packet is cut, offset {offset}"));
        match kind {
            1 => return raw_header(&mut body, offset).ok_or_else(truncated)?,
            3 => read_by_agent = Some(sampled_ip::<4>(&mut body).ok_or_else(truncated)?),
            4 => read_by_agent = Some(sampled_ip::<16>(&mut body).ok_or_else(truncated)?),
            _ => {}
        }
    }
    read_by_agent.ok_or_else(|| Fault::new(Reason::NotIp, format!("flow sample without an IP packet, offset {sample}")))
}

/// A record with the first bytes of the packet.
fn raw_header(body: &mut Cursor<'_>, offset: usize) -> Option<Result<Dissected, Fault>> {
    let (protocol, frame_length, stripped, length) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
    let link = match protocol {
        1 => ETHERNET,
        11 | 12 => RAW_IP,
        _ => {
            let detail = format!("sampled packet of header protocol {protocol}, offset {offset}");
            return Some(Err(Fault::new(Reason::UnsupportedLink, detail)));
        }
    };
    let header = body.part_or_rest(usize::try_from(length).ok()?);
    let position = header.offset();
    let packet = dissect(link, frame_length.saturating_sub(stripped), header.rest());
    Some(packet.map_err(|fault| Fault::new(fault.reason, format!("{}, packet at offset {position}", fault.detail))))
}

/// A record with what the agent read from the packet: addresses of `N` bytes, ports, flags.
fn sampled_ip<const N: usize>(body: &mut Cursor<'_>) -> Option<Dissected>
where
    [u8; N]: Address,
{
    let (bytes, protocol) = (body.u32()?, body.u32()?);
    let (source, destination) = (body.array::<N>()?.address(), body.array::<N>()?.address());
    let (source_port, destination_port, tcp_flags) = (body.u32()?, body.u32()?, body.u32()?);
    let protocol = u8::try_from(protocol).unwrap_or(0);
    let mut packet = Dissected::between(source, destination, protocol, bytes);
    if flow::has_ports(protocol) {
        packet.source_port = u16::try_from(source_port).unwrap_or(0);
        packet.destination_port = u16::try_from(destination_port).unwrap_or(0);
    }
    packet.tcp_flags = u8::try_from(tcp_flags & 0xff).unwrap_or(0);
    Some(packet)
}

trait Address {
    fn address(self) -> IpAddr;
}

impl Address for [u8; 4] {
    fn address(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self))
    }
}

impl Address for [u8; 16] {
    fn address(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(self))
    }
}
