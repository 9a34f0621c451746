//! The flow table: what is one flow, when it is reported, and that nothing is lost or counted twice.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, PacketBuilder};
use proptest::prelude::*;
use spikewatch_collector::packet::flow_table::{FlowTable, FlowTableLimits};
use spikewatch_collector::packet::headers::{Dissected, dissect};
use spikewatch_domain::record::{FlowRecord, Report};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

fn host(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

/// 100 bytes from `from` to `to`.
fn packet(from: (u8, u16), to: (u8, u16), protocol: u8, tcp_flags: u8) -> Dissected {
    let mut packet = Dissected::between(host(from.0), host(to.0), protocol, 100);
    (packet.source_port, packet.destination_port, packet.tcp_flags) = (from.1, to.1, tcp_flags);
    packet
}

const CLIENT: (u8, u16) = (1, 50_000);
const SERVER: (u8, u16) = (2, 443);

fn asks(flags: u8) -> Dissected {
    packet(CLIENT, SERVER, 6, flags)
}

fn answers(flags: u8) -> Dissected {
    packet(SERVER, CLIENT, 6, flags)
}

/// Feeds packets at their times (s), then lets time pass until `until`.
fn play(packets: &[(u64, Dissected)], until: u64) -> Vec<FlowRecord> {
    let mut table = FlowTable::new(FlowTableLimits::default());
    let mut out = Vec::new();
    for (seconds, packet) in packets {
        table.on_packet(seconds * 1000, packet, 1, &mut out);
    }
    table.expire(until * 1000, &mut out);
    out
}

fn flush(mut table: FlowTable) -> Vec<FlowRecord> {
    let mut out = Vec::new();
    table.flush(&mut out);
    assert!(table.is_empty());
    out
}

#[test]
fn both_directions_are_one_flow_opened_by_the_first_sender() {
    let flows = play(&[(1, asks(SYN)), (2, answers(SYN | ACK)), (3, asks(ACK))], 33);
    let [flow] = &flows[..] else { panic!("{flows:?}") };
    assert_eq!((flow.source, flow.destination_port, flow.initiator_known), (host(1), 443, true));
    assert_eq!((flow.source_packets, flow.source_bytes), (2, 200));
    assert_eq!((flow.destination_packets, flow.destination_bytes), (1, 100));
    assert_eq!((flow.start, flow.end, flow.report), (1000, 3000, Report::Complete));
}

#[test]
fn an_answer_seen_first_names_the_other_end_as_opener() {
    let flows = play(&[(1, answers(SYN | ACK)), (2, asks(ACK))], 100);
    assert_eq!((flows[0].source, flows[0].source_packets, flows[0].destination_packets), (host(1), 1, 1));
    assert_eq!(flows.len(), 1);
}

#[test]
fn a_flow_is_reported_when_idle_and_not_before() {
    assert_eq!(play(&[(1, asks(SYN))], 30), []);
    assert_eq!(play(&[(1, asks(SYN))], 31).len(), 1);
}

#[test]
fn a_long_flow_is_reported_in_parts_of_which_the_first_is_the_event() {
    let packets: Vec<_> = (0..150).map(|second| (second, asks(ACK))).collect();
    let flows = play(&packets, 1000);
    let parts: Vec<_> = flows.iter().map(|flow| (flow.report, flow.start, flow.end, flow.source_packets)).collect();
    assert_eq!(
        parts,
        [
            (Report::Partial, 0, 59_000, 60),
            (Report::Continuation, 60_000, 119_000, 60),
            (Report::Continuation, 120_000, 149_000, 30)
        ]
    );
}

#[test]
fn a_flow_that_falls_silent_after_a_part_is_not_reported_again() {
    let mut packets: Vec<_> = (0..60).map(|second| (second, asks(ACK))).collect();
    let silent = play(&packets, 1000);
    assert_eq!(silent.iter().map(|flow| flow.report).collect::<Vec<_>>(), [Report::Partial]);
    // But goes on as the same flow if it speaks within the idle time …
    packets.push((80, answers(ACK)));
    assert_eq!(play(&packets, 1000).last().map(|flow| flow.report), Some(Report::Continuation));
    // … and is a new one after that.
    packets.pop();
    packets.push((100, answers(ACK)));
    assert_eq!(play(&packets, 1000).last().map(|flow| flow.report), Some(Report::Complete));
}

#[test]
fn a_connection_ends_soon_after_both_fins_and_takes_its_last_acknowledgement_with_it() {
    let packets =
        [(0, asks(SYN)), (1, answers(SYN | ACK)), (2, asks(FIN | ACK)), (3, answers(FIN | ACK)), (4, asks(ACK))];
    assert_eq!(play(&packets, 5), []);
    let flows = play(&packets, 6);
    assert_eq!(flows.iter().map(|flow| flow.source_packets + flow.destination_packets).collect::<Vec<_>>(), [5]);
    // One FIN alone ends nothing.
    assert_eq!(play(&packets[..3], 10), []);
    assert_eq!(play(&[(0, asks(SYN)), (0, answers(RST | ACK))], 2).len(), 1);
}

#[test]
fn a_port_used_again_after_the_end_is_a_new_connection() {
    let flows = play(&[(0, asks(SYN)), (0, answers(RST | ACK)), (1, asks(SYN)), (1, answers(RST | ACK))], 3);
    assert_eq!(flows.iter().map(|flow| flow.report).collect::<Vec<_>>(), [Report::Complete; 2]);
    // A repeated SYN within a connection is not.
    assert_eq!(play(&[(0, asks(SYN)), (1, asks(SYN)), (3, asks(SYN))], 100).len(), 1);
}

#[test]
fn icmp_is_one_flow_whatever_its_types() {
    let flows = play(&[(0, packet((1, 0), (2, 0), 1, 0)), (1, packet((2, 0), (1, 0), 1, 0))], 100);
    assert_eq!(flows.len(), 1);
    assert_eq!((flows[0].source_packets, flows[0].destination_packets), (1, 1));
}

#[test]
fn a_packet_to_oneself_is_counted_as_sent() {
    let flows = play(&[(0, packet(CLIENT, CLIENT, 6, SYN)), (1, packet(CLIENT, CLIENT, 6, SYN))], 100);
    assert_eq!((flows[0].source_packets, flows[0].destination_packets), (2, 0));
}

#[test]
fn samples_are_multiplied_but_are_one_event() {
    let mut table = FlowTable::new(FlowTableLimits::default());
    let mut out = Vec::new();
    table.on_packet(0, &asks(ACK), 1000, &mut out);
    table.on_packet(1, &asks(ACK), 1000, &mut out);
    let flows = flush(table);
    assert_eq!(flows.len(), 1);
    assert_eq!((flows[0].source_packets, flows[0].source_bytes, flows[0].estimated), (2000, 200_000, true));
}

#[test]
fn a_full_table_reports_the_oldest_early() {
    let mut table = FlowTable::new(FlowTableLimits { max_flows: 2, ..FlowTableLimits::default() });
    let mut out = Vec::new();
    let from = |port| packet((1, port), SERVER, 17, 0);
    for port in [1, 2, 1, 3] {
        table.on_packet(0, &from(port), 1, &mut out);
    }
    assert_eq!(out.iter().map(|flow| flow.source_port).collect::<Vec<_>>(), [2]);
    assert_eq!((table.len(), table.evicted()), (2, 1));
}

#[test]
fn time_that_goes_backwards_ends_nothing() {
    let mut table = FlowTable::new(FlowTableLimits::default());
    let mut out = Vec::new();
    for time in [1_000_000, 0, 999_999, u64::MAX, 5] {
        table.on_packet(time, &packet(CLIENT, SERVER, 17, 0), 1, &mut out);
        table.expire(0, &mut out);
    }
    // Only the jump to the end of time does.
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].start, out[0].end, out[0].source_packets), (0, 1_000_000, 3));
    let rest = flush(table);
    assert_eq!((rest[0].start, rest[0].end), (5, u64::MAX));
}

/// The fragments of one UDP datagram of 100 bytes, the first with 40 of them, by way of `tunnel`.
fn fragments(tunnel: bool) -> [Dissected; 2] {
    let mut whole = Vec::new();
    PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(4000, 53).write(&mut whole, &[0; 72]).unwrap();
    let (protocol, content) = if tunnel { (IpNumber(4), whole) } else { (IpNumber::UDP, whole.split_off(20)) };
    let part = |from: usize, to: usize| {
        let content = &content[from..to.min(content.len())];
        let mut header = Ipv4Header::new(content.len() as u16, 64, protocol, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
        (header.identification, header.more_fragments) = (77, from == 0);
        header.fragment_offset = IpFragOffset::try_new(from as u16 / 8).unwrap();
        let data = [&header.to_bytes()[..], content].concat();
        dissect(101, data.len() as u32, &data).unwrap()
    };
    [part(0, 40), part(40, 1000)]
}

#[test]
fn fragments_are_charged_to_the_flow_of_the_first() {
    for tunnel in [false, true] {
        let [first, later] = fragments(tunnel);
        let flows = play(&[(0, first), (0, later)], 100);
        assert_eq!(flows.len(), 1, "{flows:?}");
        assert_eq!((flows[0].destination_port, flows[0].source_packets), (53, 2));
        // Without the first nobody knows the ports; nor after the time that a host would wait.
        assert_eq!(play(&[(0, later)], 100)[0].destination_port, 0);
        assert_eq!(play(&[(0, first), (61, later)], 100).len(), 2);
    }
}

proptest! {
    /// Whatever happens, reports add up to packets, events to flows that were seen, and two runs are equal.
    #[test]
    fn nothing_is_lost_or_counted_twice(
        steps in prop::collection::vec(((0u8..4, 0u16..3), (0u8..4, 0u16..3), any::<bool>(), 0u8..32, 0u64..70_000, 0u8..4), 0..120),
        max_flows in 1usize..6, idle_ms in 0u64..50_000, active_ms in 0u64..80_000,
    ) {
        let run = || {
            let mut table = FlowTable::new(FlowTableLimits { idle_ms, active_ms, max_flows });
            let (mut out, mut time) = (Vec::new(), 100_000u64);
            for &(from, to, tcp, flags, step, kind) in &steps {
                time = if kind == 3 { time.saturating_sub(step / 2) } else { time + step / 8 };
                table.on_packet(time, &packet(from, to, if tcp { 6 } else { 17 }, if tcp { flags } else { 0 }), 1, &mut out);
                assert!(table.len() <= max_flows);
                if kind == 2 {
                    table.expire(time + step, &mut out);
                }
            }
            table.flush(&mut out);
            assert!(table.is_empty());
            out
        };
        let flows = run();
        let packets: u64 = flows.iter().map(|flow| flow.source_packets + flow.destination_packets).sum();
        let bytes: u64 = flows.iter().map(|flow| flow.source_bytes + flow.destination_bytes).sum();
        prop_assert_eq!(packets, steps.len() as u64);
        prop_assert_eq!(bytes, 100 * steps.len() as u64);
        for (number, flow) in flows.iter().enumerate() {
            prop_assert!(flow.start <= flow.end);
            let ends = |flow: &FlowRecord| (flow.source, flow.destination, flow.source_port, flow.destination_port, flow.protocol);
            if flow.report == Report::Continuation {
                let earlier = flows[..number].iter().rev().find(|other| ends(other) == ends(flow));
                prop_assert!(earlier.is_some_and(|earlier| earlier.report != Report::Complete));
            }
        }
        prop_assert_eq!(&flows, &run());
    }
}
