//! Whatever bytes come, the decoder neither panics nor hangs, and what it remembers stays bounded.

mod export_builder;

use std::net::{IpAddr, Ipv4Addr};

use export_builder::{FLOW, flow, ipfix, ipfix_options, netflow5, netflow9, netflow9_options, set, sflow, template};
use proptest::prelude::*;
use spikewatch_collector::export::{ExportDecoder, ExportLimits, export_time, recognise, split};
use spikewatch_collector::fault::Decoded;

const EXPORTER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));
const LIMITS: ExportLimits = ExportLimits {
    max_exporters: 3,
    max_templates: 4,
    max_template_fields: 64,
    flow_table: spikewatch_collector::packet::flow_table::FlowTableLimits {
        idle_ms: 1000,
        active_ms: 1000,
        max_flows: 8,
    },
};

/// Gives datagrams to a decoder and checks what must hold of any.
fn survive(datagrams: &[Vec<u8>]) {
    let mut decoder = ExportDecoder::new(LIMITS);
    let mut out = Decoded::default();
    let (mut records, mut sent) = (0, 0);
    for (now, datagram) in (0..).zip(datagrams) {
        decoder.decode(EXPORTER, now, datagram, &mut out);
        decoder.expire(now, &mut out);
        // A record needs its addresses at least, a fault a byte or (of limits) an entry.
        assert!(out.records.len() <= datagram.len() + 16, "{} records", out.records.len());
        assert!(out.faults.len() <= 2 * datagram.len() + 16, "{} faults", out.faults.len());
        records += out.records.len();
        sent += 1;
        out.records.clear();
        out.faults.clear();
        assert!(decoder.stats().domains <= LIMITS.max_exporters);
        assert!(decoder.stats().templates <= LIMITS.max_exporters * LIMITS.max_templates);
        assert!(decoder.stats().exporters().count() <= LIMITS.max_exporters);
        let parts: Vec<_> = split(datagram).collect();
        assert_eq!(parts.concat(), *datagram);
        let _ = (recognise(datagram), export_time(datagram));
    }
    decoder.flush(&mut out);
    assert_eq!(decoder.stats().datagrams, sent);
    assert_eq!(decoder.stats().records, (records + out.records.len()) as u64);
}

/// One well-formed datagram of each kind.
fn well_formed() -> Vec<Vec<u8>> {
    let variable = [FLOW, &[(0, 96, 65_535), (29_305, 1, 8)]].concat();
    let record = [flow(1, 1), vec![2, b'a', b'b'], vec![0; 8]].concat();
    let packet = [1500_u32, 6, 1, 2, 3, 4, 5, 6].iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
    let header =
        [&[1_u32, 100, 4, 20].iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>()[..], &[8; 20]].concat();
    let options = netflow9_options(257, &[(0, 1, 4)], &[(0, 34, 4)]);
    vec![
        netflow5(0, 100, 3),
        netflow9(0, &[set(0, &template(256, FLOW)), set(1, &options), set(257, &[1; 8]), set(256, &flow(1, 1))]),
        ipfix(0, 0, &[set(2, &template(256, &variable)), set(256, &record)]),
        ipfix(0, 0, &[set(3, &ipfix_options(258, 1, &[(0, 302, 8), (0, 311, 8)])), set(258, &[1; 16])]),
        sflow(0, 100, &[(1, header), (3, packet)]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(
        start in prop::sample::select(vec![vec![], vec![0, 5], vec![0, 9], vec![0, 10], vec![0, 0, 0, 5]]),
        tails in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4),
    ) {
        survive(&tails.into_iter().map(|tail| [start.clone(), tail].concat()).collect::<Vec<_>>());
    }

    #[test]
    fn well_formed_datagrams_with_some_bytes_changed_or_cut(
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..24),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let kinds = well_formed();
        let mut datagrams: Vec<_> = order.iter().map(|kind| kind.get(&kinds).clone()).collect();
        for (which, at, value) in changes {
            let datagram = which.index(datagrams.len());
            let at = at.index(datagrams[datagram].len());
            datagrams[datagram][at] = value;
        }
        if is_cut && let Some(last) = datagrams.last_mut() {
            last.truncate(cut.index(last.len() + 1));
        }
        survive(&datagrams);
    }
}

#[test]
fn a_flood_of_templates_and_exporters_stays_bounded() {
    let datagrams: Vec<_> = (0..500_u32)
        .map(|n| ipfix(n % 7, n, &[set(2, &template(256 + u16::try_from(n % 90).unwrap(), FLOW))]))
        .collect();
    survive(&datagrams);
}

#[test]
fn the_smallest_records_fill_the_largest_datagram_without_harm() {
    let small = set(2, &template(256, &[(0, 4, 1)]));
    let message = ipfix(0, 0, &[small, set(256, &vec![1; 65_000])]);
    survive(&[message]);
}
