//! What flow exports mean: templates and their life, counters of one and of both ways, sampling, times, events, losses.

mod export_builder;

use std::net::{IpAddr, Ipv4Addr};

use export_builder::{
    EXPORT_SECONDS, FLOW, Field, flow, ipfix, ipfix_options, netflow5, netflow9, netflow9_options, set, sflow, template,
};
use spikewatch_collector::export::{ExportDecoder, ExportFormat, ExportLimits, export_time, recognise, split};
use spikewatch_collector::fault::{Decoded, Reason};
use spikewatch_domain::record::{FlowRecord, Report};

const EXPORTER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));
const EXPORT_MS: u64 = EXPORT_SECONDS as u64 * 1000;
/// The enterprise number of reverse fields (RFC 5103).
const REVERSE: u32 = 29_305;

struct Listener(ExportDecoder);

impl Listener {
    fn new() -> Self {
        Self(ExportDecoder::new(ExportLimits::default()))
    }

    fn with(limits: ExportLimits) -> Self {
        Self(ExportDecoder::new(limits))
    }

    fn hear(&mut self, datagram: &[u8]) -> (Vec<FlowRecord>, Vec<Reason>) {
        self.hear_from(EXPORTER, datagram)
    }

    fn hear_from(&mut self, exporter: IpAddr, datagram: &[u8]) -> (Vec<FlowRecord>, Vec<Reason>) {
        let mut out = Decoded::default();
        self.0.decode(exporter, EXPORT_MS, datagram, &mut out);
        (out.records, out.faults.into_iter().map(|fault| fault.reason).collect())
    }
}

/// The only record of an IPFIX message with one template and one record of it.
fn ipfix_record(fields: &[Field], record: &[u8]) -> FlowRecord {
    let message = ipfix(0, 0, &[set(2, &template(256, fields)), set(256, record)]);
    let (mut records, faults) = Listener::new().hear(&message);
    assert_eq!(faults, []);
    records.pop().expect("a record")
}

#[test]
fn netflow_5_tells_ends_counters_and_times() {
    let (records, faults) = Listener::new().hear(&netflow5(0, 0, 2));
    assert_eq!(faults, []);
    let [record, _] = records.as_slice() else { panic!("two records expected: {records:?}") };
    assert_eq!((record.source.to_string(), record.source_port), ("10.0.0.0".to_owned(), 32_769));
    assert_eq!((record.destination.to_string(), record.destination_port), ("192.0.2.1".to_owned(), 443));
    assert_eq!((record.source_bytes, record.source_packets, record.protocol), (1000, 10, 6));
    assert_eq!((record.start, record.end), (EXPORT_MS - 5000, EXPORT_MS - 1000));
    assert!(!record.estimated && !record.initiator_known);
}

#[test]
fn netflow_5_sampling_is_applied_whatever_its_mode() {
    for mode in [0, 0x4000, 0x8000] {
        let (records, _) = Listener::new().hear(&netflow5(0, mode | 100, 1));
        assert_eq!((records[0].source_bytes, records[0].source_packets), (100_000, 1000));
        assert!(records[0].estimated);
    }
}

#[test]
fn a_cut_netflow_5_datagram_keeps_its_whole_records() {
    let datagram = netflow5(0, 0, 3);
    let (records, faults) = Listener::new().hear(&datagram[..datagram.len() - 1]);
    assert_eq!((records.len(), faults), (2, vec![Reason::Truncated]));
}

#[test]
fn data_before_its_template_is_counted_and_data_after_it_is_read() {
    let mut listener = Listener::new();
    let data = netflow9(1, &[set(256, &flow(500, 5))]);
    assert_eq!(listener.hear(&data), (vec![], vec![Reason::UnknownTemplate]));
    listener.hear(&netflow9(2, &[set(0, &template(256, FLOW))]));
    let (records, faults) = listener.hear(&data);
    assert_eq!((records[0].source_bytes, records[0].source_packets, faults), (500, 5, vec![]));
}

#[test]
fn templates_belong_to_one_exporter_and_domain() {
    let mut listener = Listener::new();
    listener.hear(&ipfix(1, 0, &[set(2, &template(256, FLOW))]));
    let data = |domain| ipfix(domain, 0, &[set(256, &flow(500, 5))]);
    assert_eq!(listener.hear(&data(1)).0.len(), 1);
    assert_eq!(listener.hear(&data(2)).1, [Reason::UnknownTemplate]);
    let other = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
    assert_eq!(listener.hear_from(other, &data(1)).1, [Reason::UnknownTemplate]);
}

#[test]
fn a_template_is_redefined_and_withdrawn() {
    let mut listener = Listener::new();
    let swap = |number| match number {
        1 => 2,
        2 => 1,
        other => other,
    };
    let swapped: Vec<Field> = FLOW.iter().map(|(pen, number, length)| (*pen, swap(*number), *length)).collect();
    let data = ipfix(0, 0, &[set(256, &flow(500, 5))]);
    listener.hear(&ipfix(0, 0, &[set(2, &template(256, FLOW))]));
    listener.hear(&ipfix(0, 0, &[set(2, &template(256, &swapped))]));
    assert_eq!(listener.hear(&data).0[0].source_bytes, 5);
    for withdrawal in [[1, 0, 0, 0], [0, 2, 0, 0]] {
        listener.hear(&ipfix(0, 0, &[set(2, &template(256, FLOW))]));
        assert_eq!(listener.0.stats().templates, 1);
        listener.hear(&ipfix(0, 0, &[set(2, &withdrawal)]));
        assert_eq!(listener.0.stats().templates, 0);
        assert_eq!(listener.hear(&data).1, [Reason::UnknownTemplate]);
    }
}

#[test]
fn unusable_templates_are_refused_and_the_rest_is_read() {
    let sets = [set(0, &template(256, &[(0, 8, 0)])), set(0, &template(257, FLOW)), set(257, &flow(1, 1))];
    let (records, faults) = Listener::new().hear(&netflow9(0, &sets));
    assert_eq!((records.len(), faults), (1, vec![Reason::BadTemplate]));
}

#[test]
fn variable_lengths_reduced_sizes_and_enterprise_fields_are_read_over() {
    let fields = [(0, 8, 4), (9, 12_235, 65_535), (0, 12, 4), (0, 96, 65_535), (0, 1, 3), (0, 2, 1), (4242, 1, 2)];
    let mut record = vec![10, 0, 0, 1, 3, b'a', b'b', b'c', 192, 0, 2, 1, 255, 1, 4];
    record.extend([b'x'; 260]);
    record.extend([1, 0, 0, 9, 7, 7]);
    let record = ipfix_record(&fields, &record);
    assert_eq!((record.source_bytes, record.source_packets), (65_536, 9));
}

#[test]
fn a_record_that_ends_after_its_set_is_malformed_and_what_came_before_is_kept() {
    let fields = [(0, 8, 4), (0, 12, 4), (0, 1, 4), (0, 96, 65_535)];
    let mut data = vec![10, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 7, 0];
    data.extend([10, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 7, 200]);
    let (records, faults) = Listener::new().hear(&ipfix(0, 0, &[set(2, &template(256, &fields)), set(256, &data)]));
    assert_eq!((records.len(), faults), (1, vec![Reason::Malformed]));
}

#[test]
fn of_two_address_families_the_one_in_use_counts() {
    let fields = [(0, 8, 4), (0, 12, 4), (0, 27, 16), (0, 28, 16), (0, 1, 4)];
    let v6 = [[0x20; 16], [0x30; 16]].concat();
    let record = ipfix_record(&fields, &[&[0; 8][..], &v6, &[0, 0, 0, 1]].concat());
    assert!(record.source.is_ipv6() && record.destination.is_ipv6());
    let record = ipfix_record(&fields, &[&[10, 0, 0, 1, 10, 0, 0, 2][..], &[0; 32], &[0, 0, 0, 1]].concat());
    assert_eq!(record.source.to_string(), "10.0.0.1");
}

#[test]
fn icmp_has_no_ports() {
    let mut record = flow(84, 1);
    record[12] = 1;
    let record = ipfix_record(FLOW, &record);
    assert_eq!((record.source_port, record.destination_port), (0, 0));
}

#[test]
fn a_biflow_counts_both_ways() {
    let fields = [(0, 8, 4), (0, 12, 4), (0, 1, 4), (REVERSE, 1, 4), (0, 86, 2), (REVERSE, 86, 2), (0, 239, 1)];
    let bytes =
        |direction| [&[10, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 5, 0, 0, 0, 9, 0, 2, 0, 3][..], &[direction]].concat();
    let counters = |record: &FlowRecord| {
        (record.source_bytes, record.destination_bytes, record.source_packets, record.destination_packets)
    };
    let record = ipfix_record(&fields, &bytes(1));
    assert_eq!((counters(&record), record.initiator_known), ((5, 9, 2, 3), true));
    let reversed = ipfix_record(&fields, &bytes(2));
    assert_eq!((counters(&reversed), reversed.source.to_string()), ((9, 5, 3, 2), "192.0.2.1".to_owned()));
    assert!(!ipfix_record(&fields, &bytes(3)).initiator_known);
}

#[test]
fn initiator_and_responder_counters_are_both_ways_too() {
    let fields = [(0, 8, 4), (0, 12, 4), (0, 231, 4), (0, 232, 4), (0, 298, 1), (0, 299, 1)];
    let record = ipfix_record(&fields, &[10, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 5, 0, 0, 0, 9, 2, 3]);
    assert_eq!((record.source_bytes, record.destination_bytes), (5, 9));
    assert_eq!((record.source_packets, record.destination_packets), (2, 3));
    assert!(record.initiator_known);
}

#[test]
fn counters_at_egress_count_where_there_are_none_at_ingress() {
    let fields = [(0, 8, 4), (0, 12, 4), (0, 1, 4), (0, 23, 4), (0, 24, 4)];
    let record = ipfix_record(&fields, &[10, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 3]);
    assert_eq!((record.source_bytes, record.source_packets), (9, 3));
}

#[test]
fn the_reason_of_the_end_says_whether_more_will_come() {
    let fields = [(0, 8, 4), (0, 12, 4), (0, 1, 1), (0, 136, 1)];
    for (reason, report) in [(1, Report::Complete), (2, Report::Partial), (3, Report::Complete)] {
        assert_eq!(ipfix_record(&fields, &[10, 0, 0, 1, 192, 0, 2, 1, 5, reason]).report, report);
    }
}

#[test]
fn what_was_dropped_or_denied_says_so() {
    for (field, value, denied) in [(89, 0x80, true), (89, 0x40, false), (233, 3, true), (233, 5, false)] {
        let fields = [(0, 8, 4), (0, 12, 4), (0, 1, 1), (0, field, 1)];
        assert_eq!(ipfix_record(&fields, &[10, 0, 0, 1, 192, 0, 2, 1, 5, value]).denied, denied, "{field} {value}");
    }
}

#[test]
fn a_firewall_opens_updates_and_closes_one_flow() {
    let fields = [(0, 148, 4), (0, 8, 4), (0, 12, 4), (0, 152, 8), (0, 323, 8), (0, 233, 1), (0, 231, 4), (0, 232, 4)];
    let event = |event: u8, bytes: u8| {
        let times = [(EXPORT_MS - 600_000).to_be_bytes(), EXPORT_MS.to_be_bytes()].concat();
        let ends = [0, 0, 0, 7, 10, 0, 0, 1, 192, 0, 2, 1];
        let record = [&ends[..], &times, &[event, 0, 0, 0, bytes, 0, 0, 0, bytes]].concat();
        ipfix_record(&fields, &record)
    };
    let (opened, updated, closed) = (event(1, 0), event(5, 9), event(2, 4));
    let (Report::Opened { flow: first }, Report::Closed { flow: last }) = (opened.report, closed.report) else {
        panic!("{:?} and {:?}", opened.report, closed.report)
    };
    assert_eq!(first, last);
    assert_eq!((closed.start, closed.end), (EXPORT_MS - 600_000, EXPORT_MS));
    assert_eq!((updated.report, updated.source_bytes, updated.destination_bytes), (Report::Continuation, 9, 9));
    // It tells when the flow began, but its counters are those of the last minute or so.
    assert_eq!((updated.start, updated.end), (EXPORT_MS - 60_000, EXPORT_MS));
}

#[test]
fn records_that_are_no_flows_are_counted_as_such() {
    for (fields, record, reason) in [
        (vec![(0, 80, 6), (0, 1, 4)], vec![1; 10], Reason::NotIp),
        (vec![(0, 8, 4), (0, 1, 4)], vec![1; 8], Reason::NotIp),
        (vec![(0, 8, 4), (0, 12, 4), (0, 230, 1)], vec![1; 9], Reason::NotFlow),
    ] {
        let message = ipfix(0, 0, &[set(2, &template(256, &fields)), set(256, &record)]);
        assert_eq!(Listener::new().hear(&message), (vec![], vec![reason]));
        assert!(reason.is_ordinary());
    }
}

#[test]
fn sampling_that_options_data_tell_is_applied() {
    let sampled = [FLOW, &[(0, 48, 1)]].concat();
    let mut listener = Listener::new();
    listener.hear(&netflow9(1, &[set(0, &template(256, FLOW)), set(0, &template(257, &sampled))]));
    // A sampler table, of which the records name a sampler.
    let options = netflow9_options(258, &[(0, 1, 4)], &[(0, 48, 1), (0, 49, 1), (0, 50, 2)]);
    let (_, faults) = listener.hear(&netflow9(2, &[set(1, &options), set(258, &[0, 0, 0, 0, 3, 2, 0, 50])]));
    assert_eq!(faults, [Reason::NotFlow]);
    let named = |sampler| set(257, &[flow(10, 1), vec![sampler]].concat());
    let (records, _) = listener.hear(&netflow9(3, &[named(3), named(4), set(256, &flow(10, 1))]));
    let bytes: Vec<_> = records.iter().map(|record| (record.source_bytes, record.estimated)).collect();
    assert_eq!(bytes, [(500, true), (10, false), (10, false)]);
    // One interval for the whole exporter.
    let options = netflow9_options(259, &[(0, 1, 4)], &[(0, 34, 4), (0, 35, 1)]);
    listener.hear(&netflow9(4, &[set(1, &options), set(259, &[0, 0, 0, 0, 0, 0, 0, 20, 2])]));
    assert_eq!(listener.hear(&netflow9(5, &[set(256, &flow(10, 1))])).0[0].source_bytes, 200);
}

#[test]
fn ipfix_selectors_tell_sampling_too() {
    let sampled = [FLOW, &[(0, 302, 8)]].concat();
    let options = ipfix_options(300, 1, &[(0, 302, 8), (0, 304, 2), (0, 305, 4), (0, 306, 4)]);
    let selector = [0, 0, 0, 0, 0, 0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 99];
    let mut listener = Listener::new();
    listener.hear(&ipfix(0, 0, &[set(3, &options), set(300, &selector), set(2, &template(256, &sampled))]));
    let record = [flow(10, 1), 5_u64.to_be_bytes().to_vec()].concat();
    let (records, _) = listener.hear(&ipfix(0, 1, &[set(256, &record)]));
    assert_eq!((records[0].source_bytes, records[0].source_packets, records[0].estimated), (1000, 100, true));
}

#[test]
fn sflow_samples_become_one_flow_with_its_counters_multiplied() {
    let words = |words: [u32; 8]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
    let packet = words([1500, 6, 0x0a00_0001, 0xc000_0201, 50_000, 443, 0x10, 0]);
    let (mut decoder, mut out) = (ExportDecoder::new(ExportLimits::default()), Decoded::default());
    for sequence in 0..3 {
        let datagram = sflow(sequence, 100, &[(1001, vec![0; 16]), (3, packet.clone())]);
        decoder.decode(EXPORTER, EXPORT_MS + u64::from(sequence), &datagram, &mut out);
    }
    decoder.flush(&mut out);
    assert!(out.faults.is_empty(), "{:?}", out.faults);
    let [record] = out.records.as_slice() else { panic!("one flow expected: {:?}", out.records) };
    assert_eq!((record.source_bytes, record.source_packets, record.estimated), (450_000, 300, true));
    assert_eq!((record.start, record.end), (EXPORT_MS, EXPORT_MS + 2));
    assert_eq!((decoder.stats().samples, decoder.stats().records), (3, 1));
}

#[test]
fn sflow_without_a_packet_that_we_know_says_so() {
    let frame_relay = [5_u32, 64, 0, 4, 0].iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
    let mut listener = Listener::new();
    assert_eq!(listener.hear(&sflow(1, 1, &[(1, frame_relay)])).1, [Reason::UnsupportedLink]);
    assert_eq!(listener.hear(&sflow(2, 1, &[(2, vec![0; 16])])).1, [Reason::NotIp]);
}

#[test]
fn what_was_lost_on_the_way_is_counted_by_exporter() {
    let mut listener = Listener::new();
    listener.hear(&netflow5(1000, 0, 30));
    listener.hear(&netflow5(1090, 0, 30));
    listener.hear(&netflow9(7, &[]));
    listener.hear(&netflow9(9, &[]));
    listener.hear(&ipfix(0, 50, &[set(2, &template(256, FLOW)), set(256, &[flow(1, 1), flow(1, 1)].concat())]));
    listener.hear(&ipfix(0, 62, &[set(256, &flow(1, 1))]));
    let stats = listener.0.stats().exporter(EXPORTER).expect("stats of the exporter");
    assert_eq!((stats.lost_records, stats.lost_datagrams), (60 + 10, 1));
    assert_eq!((stats.datagrams, stats.records), (6, 63));
    assert_eq!((listener.0.stats().lost_records, listener.0.stats().records), (70, 63));
}

#[test]
fn state_is_bounded_and_says_what_it_forgot() {
    let mut listener = Listener::with(ExportLimits { max_exporters: 2, max_templates: 3, ..ExportLimits::default() });
    let templates: Vec<_> = (256..260).map(|id| set(2, &template(id, FLOW))).collect();
    assert_eq!(listener.hear(&ipfix(0, 0, &templates)).1, [Reason::LimitReached]);
    assert_eq!(listener.0.stats().templates, 3);
    assert_eq!(listener.hear(&ipfix(1, 0, &templates[..1])).1, []);
    assert_eq!(listener.hear(&ipfix(2, 0, &templates[..1])).1, [Reason::LimitReached]);
    assert_eq!((listener.0.stats().domains, listener.0.stats().exporters().count()), (2, 1));
}

#[test]
fn formats_are_recognised_and_files_of_datagrams_split() {
    let datagrams = [
        (netflow5(0, 0, 2), ExportFormat::NetFlow5),
        (netflow9(0, &[set(0, &template(256, FLOW)), set(256, &flow(1, 1))]), ExportFormat::NetFlow9),
        (ipfix(0, 0, &[set(2, &template(256, FLOW))]), ExportFormat::Ipfix),
        (sflow(0, 1, &[(2, vec![0; 16])]), ExportFormat::Sflow5),
    ];
    for (first, format) in &datagrams {
        assert_eq!(recognise(first), Some(*format));
        assert_eq!(export_time(first), (*format != ExportFormat::Sflow5).then_some(EXPORT_MS));
        for (second, _) in &datagrams {
            let file = [&first[..], second].concat();
            assert_eq!(split(&file).collect::<Vec<_>>(), [first, second], "{format}");
        }
    }
    for other in [&b""[..], b"{\"a\":1}", &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0], &[0, 5, 0, 200, 1, 2, 3, 4]] {
        assert_eq!(recognise(other), None);
    }
}
