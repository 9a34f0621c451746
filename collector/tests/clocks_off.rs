//! Exporters whose clocks are off by years.

use std::net::IpAddr;

use spikewatch_collector::{
    charge::Aliases,
    fault::Reason,
    metrics::Metrics,
    networks::InternalNetworks,
    pipeline::{Pipeline, PipelineOptions},
};
use spikewatch_domain::{key::Subject, span::Span};

/// 2026-11-24T12:00:00Z, ms.
const NOW: u64 = 1_795_521_600_000;

/// NetFlow v5: that many records of 100 bytes, by an exporter whose clock shows `seconds`.
fn datagram(seconds: u32, records: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend([0, 5]);
    bytes.extend(records.to_be_bytes());
    bytes.extend(1_000_000u32.to_be_bytes()); // uptime, ms
    bytes.extend(seconds.to_be_bytes());
    bytes.extend([0; 12]); // nanoseconds, sequence, engine, sampling
    for number in 0..records {
        bytes.extend([10, 0, 0, 1, 198, 51, 100, 7]);
        bytes.extend([0; 8]); // next hop, interfaces
        bytes.extend(1u32.to_be_bytes());
        bytes.extend(100u32.to_be_bytes());
        bytes.extend(999_000u32.to_be_bytes()); // first and last packet, by uptime
        bytes.extend(999_000u32.to_be_bytes());
        bytes.extend((40_000 + number).to_be_bytes());
        bytes.extend(443u16.to_be_bytes());
        bytes.extend([0, 0x1b, 6, 0]); // padding, flags, protocol, class
        bytes.extend([0; 8]);
    }
    bytes
}

#[test]
fn records_of_other_ages_count_when_they_come_and_are_counted_by_exporter() {
    let metrics = Metrics::default();
    let slice = Span::from_seconds(10).unwrap();
    let mut pipeline = Pipeline::new(
        PipelineOptions {
            site: "berlin".parse().unwrap(),
            networks: InternalNetworks::default(),
            aliases: Aliases::new(),
            slice,
            bucket: Span::QUARTER_HOUR,
            shards: 4,
            key_limit: 1_000,
            flows: 1 << 18,
            port_values: 0,
            country_values: 0,
            asn_values: 0,
            databases: Default::default(),
        },
        metrics.clone(),
    );
    assert!(pipeline.advance(NOW).is_none());
    let now = (NOW / 1000) as u32;
    let exporters = [
        ("192.0.2.1", 2_085_978_496, 3, 3), // 2036
        ("192.0.2.2", 5_000_000, 2, 2),     // 1970
        ("192.0.2.3", now + 90, 1, 1),
        ("192.0.2.4", now + 30, 1, 0),
        ("192.0.2.5", now - 6 * 86_400, 1, 0),
        ("192.0.2.6", now - 8 * 86_400, 1, 1),
        ("192.0.2.7", now, 4, 0),
    ];
    for (exporter, seconds, records, off) in exporters {
        let exporter: IpAddr = exporter.parse().unwrap();
        let mut faults = Vec::new();
        pipeline.datagram(exporter, NOW + 1_000, &datagram(seconds, records), &mut faults);
        assert_eq!(
            faults.iter().filter(|fault| fault.reason == Reason::ClockOff).count(),
            off,
            "{exporter} {faults:?}"
        );
        assert_eq!(faults.len(), off);
        if let Some(first) = faults.first() {
            assert!(first.detail.contains(" its receipt; expected at most 60 s ahead and 7 days behind"), "{first}");
        }
        faults.iter().for_each(|fault| metrics.fault(&exporter.to_string(), || "a datagram".into(), fault));
    }
    let flush = pipeline.advance(NOW + 10_000).unwrap();
    assert_eq!(flush.watermark, NOW + 10_000, "nobody's clock moves the watermark");
    let events = |start: u64| -> u64 {
        let slices = flush.slices.iter().filter(|cut| cut.start == start);
        let rows = slices.flat_map(|cut| &cut.rows).filter(|row| matches!(row.1, Subject::Address(_)));
        rows.map(|row| row.2.counters.events).sum()
    };
    let (ahead, behind) = (slice.floor(NOW + 29_000), slice.floor(NOW - 6 * 86_400_000 - 1_000));
    assert_eq!((events(NOW), events(ahead), events(behind)), (3 + 2 + 1 + 1, 1, 1));
    // Those on time are stamped a second before they came.
    assert_eq!(events(NOW - 10_000), 4);
    assert_eq!(metrics.counters().times_replaced.load(std::sync::atomic::Ordering::Relaxed), 7);
    let named: Vec<_> = metrics.faults().into_iter().map(|fault| (fault.source, fault.count)).collect();
    let expected = [("192.0.2.1", 3), ("192.0.2.2", 2), ("192.0.2.3", 1), ("192.0.2.6", 1)];
    assert_eq!(named, expected.map(|(source, count)| (source.to_owned(), count)));
}
