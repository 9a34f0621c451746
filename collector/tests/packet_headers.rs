//! Dissection: what links, tunnels and fragments mean for the flow that a packet is charged to. `etherparse` builds the
//! packets and so is the oracle; the layers that it has not are put on by hand.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, PacketBuilder};
use proptest::prelude::*;
use spikewatch_collector::fault::Reason;
use spikewatch_collector::packet::headers::{Dissected, dissect};

const RAW: u16 = 101;
const ETHERNET: u16 = 1;

fn udp(payload: &[u8]) -> Vec<u8> {
    udp_to(53, payload)
}

fn udp_to(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(4000, port).write(&mut packet, payload).unwrap();
    packet
}

fn carried_by(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header = Ipv4Header::new(payload.len() as u16, 64, IpNumber(protocol), [192, 0, 2, 1], [192, 0, 2, 2]).unwrap();
    [&header.to_bytes()[..], payload].concat()
}

fn framed(layers: &[&[u8]], packet: &[u8]) -> Vec<u8> {
    [&[0; 12][..], &layers.concat(), packet].concat()
}

fn read(link: u16, data: &[u8]) -> Dissected {
    dissect(link, data.len() as u32, data).unwrap()
}

fn assert_is_the_udp_packet(found: &Dissected) {
    assert_eq!(found.source, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(found.destination, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)));
    assert_eq!((found.source_port, found.destination_port, found.protocol, found.bytes), (4000, 53, 17, 33));
}

#[test]
fn every_link_and_tag_is_passed() {
    let packet = udp(b"hello");
    let sll = |kind: [u8; 2]| [&[0; 14][..], &kind, &packet].concat();
    let cases: Vec<(u16, Vec<u8>)> = vec![
        (ETHERNET, framed(&[&[0x08, 0x00]], &packet)),
        (ETHERNET, framed(&[&[0x81, 0x00, 0, 5, 0x08, 0x00]], &packet)),
        (ETHERNET, framed(&[&[0x88, 0xa8, 0, 5, 0x81, 0x00, 0, 6, 0x08, 0x00]], &packet)),
        (ETHERNET, framed(&[&[0x88, 0x47, 0, 1, 0, 64, 0, 1, 1, 64]], &packet)),
        (ETHERNET, framed(&[&[0x88, 0x64, 0x11, 0, 0, 1, 0, 35, 0x00, 0x21]], &packet)),
        (ETHERNET, framed(&[&[0, 41, 0xaa, 0xaa, 3, 0, 0, 0, 0x08, 0x00]], &packet)),
        (RAW, packet.clone()),
        (12, packet.clone()),
        (228, packet.clone()),
        (0, [&2u32.to_le_bytes()[..], &packet].concat()),
        (0, [&2u32.to_be_bytes()[..], &packet].concat()),
        (108, [&2u32.to_be_bytes()[..], &packet].concat()),
        (113, sll([0x08, 0x00])),
        (276, [&[0x08, 0x00][..], &[0; 18], &packet].concat()),
    ];
    for (link, data) in cases {
        let found = read(link, &data);
        assert_is_the_udp_packet(&found);
        let (at, length) = found.udp_payload.unwrap();
        assert_eq!(&data[at..at + length], b"hello", "link {link}");
    }
}

#[test]
fn every_tunnel_is_entered() {
    let packet = udp(b"hello");
    let inner_frame = framed(&[&[0x08, 0x00]], &packet);
    let gre = |header: &[u8], inner: &[u8]| carried_by(47, &[header, inner].concat());
    let cases = [
        carried_by(4, &packet),
        carried_by(4, &carried_by(4, &packet)),
        gre(&[0, 0, 0x08, 0], &packet),
        gre(&[0xb0, 0, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2], &packet),
        gre(&[0, 0, 0x65, 0x58], &inner_frame),
        gre(&[0, 0, 0x88, 0xbe], &inner_frame),
        gre(&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], &inner_frame),
        udp_to(4789, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &inner_frame].concat()),
        udp_to(8472, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &inner_frame].concat()),
        udp_to(6081, &[&[1, 0, 0x65, 0x58, 0, 0, 1, 0, 1, 2, 3, 4][..], &inner_frame].concat()),
        udp_to(6635, &[&[0, 1, 1, 64][..], &packet].concat()),
        gre(&[0, 0, 0x88, 0x3e], &packet),
        gre(&[0, 0, 0x88, 0x3e, 0, 0, 0, 0], &packet),
        carried_by(143, &inner_frame),
        carried_by(97, &[&[0x30, 0][..], &inner_frame].concat()),
    ];
    for (number, data) in cases.iter().enumerate() {
        let found = read(RAW, data);
        assert_is_the_udp_packet(&found);
        let (at, length) = found.udp_payload.unwrap();
        assert_eq!(&data[at..at + length], b"hello", "case {number}");
    }
}

#[test]
fn a_tunnel_without_a_readable_ip_header_is_the_outer_flow() {
    // ARP in VXLAN, and a tunnel cut short by the snap length.
    let arp = udp_to(4789, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &framed(&[&[0x08, 0x06]], &[0; 28])].concat());
    assert_eq!((read(RAW, &arp).destination_port, read(RAW, &arp).bytes), (4789, arp.len() as u32));
    let tunnel = carried_by(4, &udp(b"hello"));
    let found = dissect(RAW, tunnel.len() as u32, &tunnel[..30]).unwrap();
    assert_eq!((found.protocol, found.bytes), (4, tunnel.len() as u32));
}

#[test]
fn a_length_of_zero_is_the_length_on_the_wire() {
    // As captured before segmentation by the network card.
    let mut packet = udp(&[0; 100]);
    (packet[2], packet[3]) = (0, 0);
    let data = framed(&[&[0x08, 0x00]], &packet);
    assert_eq!(dissect(ETHERNET, 40_014, &data).unwrap().bytes, 40_000);
    // Padding of short frames is not part of the packet.
    let padded = framed(&[&[0x08, 0x00]], &[&udp(b"x")[..], &[0; 17]].concat());
    assert_eq!(read(ETHERNET, &padded).bytes, 29);
}

#[test]
fn a_truncated_packet_tells_what_is_there() {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(4000, 443, 1, 1000).syn();
    builder.write(&mut packet, &[0; 1000]).unwrap();
    let length = packet.len() as u32;
    let at = |cut: usize| dissect(RAW, length, &packet[..cut]);
    assert_eq!(at(34).unwrap().tcp_flags, 0x02);
    let ports_only = at(24).unwrap();
    assert_eq!((ports_only.source_port, ports_only.tcp_flags, ports_only.bytes), (4000, 0, length));
    assert_eq!(at(20).unwrap().source_port, 0);
    assert_eq!(at(19).unwrap_err().reason, Reason::Truncated);
    assert_eq!(at(0).unwrap_err().reason, Reason::Truncated);
}

#[test]
fn what_is_no_ip_is_told_apart() {
    let reason = |link, data: &[u8]| dissect(link, data.len() as u32, data).unwrap_err().reason;
    assert_eq!(reason(ETHERNET, &framed(&[&[0x08, 0x06]], &[0; 28])), Reason::NotIp);
    assert_eq!(reason(ETHERNET, &framed(&[&[0x88, 0xcc]], &[0; 28])), Reason::NotIp);
    assert_eq!(reason(ETHERNET, &framed(&[&[0, 38, 0x42, 0x42, 3]], &[0; 35])), Reason::NotIp);
    assert_eq!(reason(127, &[0; 100]), Reason::UnsupportedLink);
    assert_eq!(reason(ETHERNET, &framed(&[&[0x08, 0x00]], &[0x44; 40])), Reason::Malformed);
    assert_eq!(reason(ETHERNET, &[0; 13]), Reason::Truncated);
    let endless = framed(&[&[0x81, 0, 0, 5].repeat(100)], &[]);
    assert_eq!(reason(ETHERNET, &endless), Reason::Malformed);
}

#[test]
fn ipv6_extension_headers_are_passed() {
    let mut packet = Vec::new();
    PacketBuilder::ipv6([1; 16], [2; 16], 64).udp(4000, 53).write(&mut packet, b"hello").unwrap();
    // Hop-by-hop options and a routing header, eight bytes each, put between.
    let (header, rest) = packet.split_at(40);
    let mut header = header.to_vec();
    (header[5], header[6]) = (13 + 16, 0);
    let data = [&header[..], &[43, 0, 1, 4, 0, 0, 0, 0], &[17, 0, 0, 0, 0, 0, 0, 0], rest].concat();
    let found = read(RAW, &data);
    assert_eq!((found.protocol, found.destination_port, found.bytes), (17, 53, 69));
    let (at, length) = found.udp_payload.unwrap();
    assert_eq!(&data[at..at + length], b"hello");
}

#[test]
fn a_later_fragment_is_not_read_as_headers() {
    let payload = [0x11; 64];
    let mut header = Ipv4Header::new(64, 64, IpNumber::UDP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
    header.fragment_offset = IpFragOffset::try_new(10).unwrap();
    let found = read(RAW, &[&header.to_bytes()[..], &payload].concat());
    assert_eq!((found.source_port, found.destination_port, found.udp_payload), (0, 0, None));

    let fragment =
        Ipv6FragmentHeader::new(IpNumber::IPV6_DESTINATION_OPTIONS, IpFragOffset::try_new(10).unwrap(), true, 7);
    let header = Ipv6Header {
        payload_length: 72,
        next_header: IpNumber::IPV6_FRAGMENTATION_HEADER,
        source: [1; 16],
        destination: [2; 16],
        ..Ipv6Header::default()
    };
    let data = [&header.to_bytes()[..], &fragment.to_bytes(), &payload].concat();
    assert_eq!(read(RAW, &data).protocol, 60);
}

proptest! {
    #[test]
    fn no_bytes_panic(link in prop::sample::select(vec![0u16, 1, 9, 12, 51, 101, 104, 108, 113, 228, 276]),
                      data in prop::collection::vec(any::<u8>(), 0..200), original in any::<u32>()) {
        if let Ok(found) = dissect(link, original, &data)
            && let Some((at, length)) = found.udp_payload {
            prop_assert!(at + length <= data.len());
        }
    }

    /// Valid packets with some bytes changed and the end cut off: deeper than random bytes ever come.
    #[test]
    fn no_damage_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
                        cut in any::<prop::sample::Index>(), tunnel in 0usize..6) {
        let frame = framed(&[&[0x08, 0x00]], &udp(b"hello"));
        let mut data = match tunnel {
            0 => carried_by(4, &udp(b"hello")),
            1 => carried_by(47, &[&[0xb0, 0, 0x65, 0x58, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2][..], &frame].concat()),
            2 => carried_by(47, &[&[0x10, 0, 0x22, 0xeb][..], &[0; 16], &frame].concat()),
            3 => udp_to(4789, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &frame].concat()),
            4 => udp_to(6081, &[&[1, 0, 0x65, 0x58, 0, 0, 1, 0, 1, 2, 3, 4][..], &frame].concat()),
            _ => carried_by(41, &[&[0x60, 0, 0, 0, 0, 24, 0, 64][..], &[1; 32], &[43, 0, 1, 4, 0, 0, 0, 0],
                                  &[44, 0, 0, 0, 0, 0, 0, 0], &[17, 0, 0, 1, 0, 0, 0, 0]].concat()),
        };
        for (place, value) in changes {
            let place = place.index(data.len());
            data[place] = value;
        }
        data.truncate(cut.index(data.len() + 1));
        if let Ok(found) = dissect(RAW, data.len() as u32, &data)
            && let Some((at, length)) = found.udp_payload {
            prop_assert!(at + length <= data.len());
        }
    }

    #[test]
    fn agrees_with_etherparse(source in any::<[u8; 16]>(), destination in any::<[u8; 16]>(), ports in any::<(u16, u16)>(),
                              version_4 in any::<bool>(), tcp in any::<bool>(), flags in any::<(bool, bool, bool)>(),
                              payload in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assume!(![4789, 8472, 6081, 6635].contains(&ports.1));
        let first_four = |address: [u8; 16]| [address[0], address[1], address[2], address[3]];
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]);
        let builder = if version_4 {
            builder.ipv4(first_four(source), first_four(destination), 64)
        } else {
            builder.ipv6(source, destination, 64)
        };
        let mut data = Vec::new();
        let mut expected_flags = 0;
        if tcp {
            let mut builder = builder.tcp(ports.0, ports.1, 1, 2);
            for (set, bit) in [(flags.0, 0x02), (flags.1, 0x01), (flags.2, 0x04)] {
                builder = match (set, bit) {
                    (false, _) => builder,
                    (true, 0x02) => builder.syn(),
                    (true, 0x01) => builder.fin(),
                    (true, _) => builder.rst(),
                };
                expected_flags |= if set { bit } else { 0 };
            }
            builder.write(&mut data, &payload).unwrap();
        } else {
            builder.udp(ports.0, ports.1).write(&mut data, &payload).unwrap();
        }
        let found = read(ETHERNET, &data);
        let (from, to): (IpAddr, IpAddr) = if version_4 {
            (first_four(source).into(), first_four(destination).into())
        } else {
            (source.into(), destination.into())
        };
        prop_assert_eq!((found.source, found.destination), (from, to));
        prop_assert_eq!((found.source_port, found.destination_port), ports);
        prop_assert_eq!(found.protocol, if tcp { 6 } else { 17 });
        prop_assert_eq!(found.bytes as usize, data.len() - 14);
        prop_assert_eq!(found.tcp_flags, expected_flags);
        prop_assert_eq!(found.udp_payload, (!tcp).then_some((data.len() - payload.len(), payload.len())));
    }
}
