//! An exporter: collects the records of the flows it saw end, and sends them in datagrams.

use super::ipfix::Ipfix;
use super::netflow9::NetFlow9;
use super::random::Random;
use super::rhythm::{DAY_MS, START_MS};
use super::sflow::Sflow;
use super::traffic::Record;
use std::net::{IpAddr, Ipv4Addr};

/// A datagram on its way to a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Datagram {
    /// Index of the site whose collector gets it.
    pub(crate) site: usize,
    /// Who sent it.
    pub(crate) exporter: IpAddr,
    /// When it was sent, event time in milliseconds.
    pub(crate) time_ms: u64,
    /// UDP payload.
    pub(crate) payload: Vec<u8>,
}

/// The format that an exporter speaks.
#[derive(Debug, Clone)]
pub(crate) enum Format {
    /// A router with NetFlow version 9.
    NetFlow9(NetFlow9),
    /// A router with IPFIX.
    Ipfix(Ipfix),
    /// A switch with sFlow version 5.
    Sflow(Sflow),
}

/// Templates are repeated this often.
const TEMPLATE_EVERY_MS: u64 = 10 * 60 * 1000;
/// No record waits longer than this for its datagram to fill.
const LINGER_MS: u64 = 15_000;
/// Boot times differ, and lie some days before the history.
const UPTIME_AT_START_MS: u64 = 9 * DAY_MS + 1_234_567;

/// One exporter.
#[derive(Debug, Clone)]
pub(crate) struct Exporter {
    site: usize,
    address: Ipv4Addr,
    format: Format,
    template_due_ms: u64,
    /// Records that end after the step in which their flow began, or samples taken after it.
    waiting: Vec<Record>,
}

/// The exporters of the scenario. Each host's own conversations go through one of them, so nothing is counted twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Through {
    /// North's router, NetFlow version 9.
    NorthRouter,
    /// North's server-room switch, sFlow, one packet of [`SAMPLING_RATE`].
    NorthSwitch,
    /// South's router, IPFIX.
    SouthRouter,
}

/// One packet of this many is sampled by the switch.
pub(crate) const SAMPLING_RATE: u32 = 128;

impl Exporter {
    /// All exporters, in the order of [`Through`].
    #[must_use]
    pub(crate) fn all() -> [Self; 3] {
        let boot = START_MS - UPTIME_AT_START_MS;
        let [router, switch, south] =
            [Ipv4Addr::new(10, 10, 0, 1), Ipv4Addr::new(10, 10, 0, 2), Ipv4Addr::new(10, 20, 0, 1)];
        [
            Self::new(0, router, Format::NetFlow9(NetFlow9::new(boot, 1))),
            Self::new(0, switch, Format::Sflow(Sflow::new(switch, boot - DAY_MS, SAMPLING_RATE))),
            Self::new(1, south, Format::Ipfix(Ipfix::new(7))),
        ]
    }

    fn new(site: usize, address: Ipv4Addr, format: Format) -> Self {
        Self { site, address, format, template_due_ms: 0, waiting: Vec::new() }
    }

    /// Takes note of a flow. Where the exporter samples, `random` says which packets it sees.
    pub(crate) fn observe(&mut self, flow: &Record, random: &mut Random) {
        match &self.format {
            Format::Sflow(switch) => switch.sample(flow, random, &mut self.waiting),
            Format::NetFlow9(_) | Format::Ipfix(_) => self.waiting.push(*flow),
        }
    }

    /// Sends everything that ended before `until_ms`, in order of time.
    pub(crate) fn send(&mut self, until_ms: u64, out: &mut Vec<Datagram>) {
        self.waiting.sort_by_key(|record| record.end);
        let ready = self.waiting.partition_point(|record| record.end < until_ms);
        let due: Vec<Record> = self.waiting.drain(..ready).collect();
        let mut rest = due.as_slice();
        while let Some(first) = rest.first() {
            let in_time = rest.partition_point(|record| record.end <= first.end + LINGER_MS);
            let (batch, later) = rest.split_at(in_time.min(self.capacity()));
            rest = later;
            let time_ms = batch.last().map_or(first.end, |record| record.end);
            let payload = self.encode(time_ms, batch);
            out.push(Datagram { site: self.site, exporter: IpAddr::V4(self.address), time_ms, payload });
        }
    }

    /// Records that fit into a datagram of 1400 bytes beside headers and a template.
    fn capacity(&self) -> usize {
        match self.format {
            Format::NetFlow9(_) => 36,
            Format::Ipfix(_) => 23,
            Format::Sflow(_) => 10,
        }
    }

    fn encode(&mut self, time_ms: u64, batch: &[Record]) -> Vec<u8> {
        let with_template = time_ms >= self.template_due_ms;
        if with_template {
            self.template_due_ms = time_ms + TEMPLATE_EVERY_MS;
        }
        match &mut self.format {
            Format::NetFlow9(router) => router.datagram(time_ms, batch, with_template),
            Format::Ipfix(router) => router.datagram(time_ms, batch, with_template),
            Format::Sflow(switch) => switch.datagram(time_ms, batch),
        }
    }
}

/// Input and output interface of a flow: 1 leads out of the site, 2 and up are its inner networks.
#[must_use]
pub(crate) fn interfaces(record: &Record) -> (u16, u16) {
    let of = |address: Ipv4Addr| match address.octets() {
        [10, _, network, _] => 2 + u16::from(network) / 10,
        _ => 1,
    };
    (of(record.source.address), of(record.destination.address))
}

#[cfg(test)]
mod tests {
    use super::super::traffic::{Endpoint, TCP, UDP};
    use super::*;
    use spikewatch_collector::export::{ExportDecoder, ExportLimits};
    use spikewatch_collector::fault::Decoded;
    use spikewatch_domain::record::{FlowRecord, Report};

    fn flows(count: u64) -> Vec<Record> {
        let mut random = Random::stream(11, &[]);
        let mut endpoint = |network: u32| Endpoint {
            address: Ipv4Addr::from((network << 24) + random.below(1 << 20) as u32),
            port: random.below(65_536) as u16,
        };
        let ends: Vec<_> = (0..count).map(|_| (endpoint(10), endpoint(198))).collect();
        let mut random = Random::stream(12, &[]);
        ends.into_iter()
            .map(|(source, destination)| {
                let start = START_MS + random.below(800_000);
                let packets = 1 + random.below(2_000);
                let protocol = if random.chance(0.5) { TCP } else { UDP };
                let (end, bytes) = (start + random.below(60_000), packets * (40 + random.below(1_400)));
                let continues = random.chance(0.1);
                Record { start, end, source, destination, protocol, flags: 0x1a, bytes, packets, continues }
            })
            .collect()
    }

    /// What comes out of the collector's decoder for what goes into an exporter, and how many templates were needed.
    fn through(exporter: &mut Exporter, flows: &[Record]) -> Vec<FlowRecord> {
        let mut random = Random::stream(13, &[]);
        flows.iter().for_each(|flow| exporter.observe(flow, &mut random));
        let mut sent = Vec::new();
        exporter.send(START_MS + 400_000, &mut sent);
        exporter.send(u64::MAX, &mut sent);
        assert!(sent.is_sorted_by_key(|datagram| datagram.time_ms));
        let (mut decoder, mut decoded) = (ExportDecoder::new(ExportLimits::default()), Decoded::default());
        for datagram in &sent {
            decoder.expire(datagram.time_ms, &mut decoded);
            decoder.decode(datagram.exporter, datagram.time_ms, &datagram.payload, &mut decoded);
        }
        decoder.flush(&mut decoded);
        assert!(decoded.faults.is_empty(), "{:?}", decoded.faults);
        decoded.records
    }

    fn assert_equal(flow: &Record, record: &FlowRecord) {
        assert_eq!((flow.start, flow.end), (record.start, record.end));
        assert_eq!((IpAddr::V4(flow.source.address), flow.source.port), (record.source, record.source_port));
        let destination = (record.destination, record.destination_port);
        assert_eq!((IpAddr::V4(flow.destination.address), flow.destination.port), destination);
        let counters = (record.protocol, record.source_bytes, record.source_packets);
        assert_eq!((flow.protocol, flow.bytes, flow.packets), counters);
        assert!(!record.estimated);
    }

    #[test]
    fn routers_report_every_flow_as_it_was() {
        let [mut netflow9, _, mut ipfix] = Exporter::all();
        let mut flows = flows(3_000);
        flows.sort_by_key(|flow| flow.end);
        for (exporter, tells_cuts) in [(&mut netflow9, false), (&mut ipfix, true)] {
            let records = through(exporter, &flows);
            assert_eq!(records.len(), flows.len());
            for (flow, record) in flows.iter().zip(&records) {
                assert_equal(flow, record);
                let cut = tells_cuts && flow.continues;
                assert_eq!(record.report, if cut { Report::Partial } else { Report::Complete });
            }
        }
    }

    #[test]
    fn the_switch_samples_one_packet_of_so_many() {
        let [_, mut switch, _] = Exporter::all();
        let flows = flows(2_000);
        let records = through(&mut switch, &flows);
        let rate = u64::from(SAMPLING_RATE);
        let packets: u64 = records.iter().map(|record| record.source_packets + record.destination_packets).sum();
        let bytes: u64 = records.iter().map(|record| record.source_bytes + record.destination_bytes).sum();
        assert!(records.iter().all(|record| record.estimated && record.source_packets.is_multiple_of(rate)));
        let near = |estimate: u64, truth: u64| (estimate as f64 / truth as f64 - 1.0).abs() < 0.03;
        let (true_packets, true_bytes) =
            flows.iter().fold((0, 0), |(packets, bytes), flow| (packets + flow.packets, bytes + flow.bytes));
        assert!(near(packets, true_packets), "{packets} packets of {true_packets}");
        assert!(near(bytes, true_bytes), "{bytes} bytes of {true_bytes}");
    }

    #[test]
    fn templates_come_first_and_are_repeated() {
        let [mut netflow9, _, _] = Exporter::all();
        let mut random = Random::stream(1, &[]);
        flows(3_000).iter().for_each(|flow| netflow9.observe(flow, &mut random));
        let mut sent = Vec::new();
        netflow9.send(u64::MAX, &mut sent);
        // The first set of a datagram starts after 20 bytes of header; templates are in set 0.
        let with_template: Vec<_> =
            sent.iter().filter(|datagram| datagram.payload.get(20..22) == Some(&[0, 0])).collect();
        assert_eq!(with_template.first().map(|datagram| datagram.time_ms), sent.first().map(|d| d.time_ms));
        assert_eq!(with_template.len(), 2, "860 s at one every 600 s");
    }
}
