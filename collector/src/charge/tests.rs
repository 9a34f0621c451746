use proptest::prelude::*;
use spikewatch_domain::record::Report;

use super::*;
use crate::ledger::{Ledger, LedgerLimits};

const MINUTE: u64 = 60_000;

fn charger() -> Charger {
    let aliases = Aliases::from_iter([("10.0.0.9".parse().unwrap(), "printer".into())]);
    let slice = Span::from_seconds(10).unwrap();
    Charger::new(InternalNetworks::default(), aliases, slice, Span::QUARTER_HOUR)
}

fn record(source: &str, destination: &str, start: u64, end: u64) -> FlowRecord {
    let mut record = FlowRecord::between(source.parse().unwrap(), destination.parse().unwrap(), start, end);
    (record.source_bytes, record.source_packets) = (1_000, 10);
    (record.destination_bytes, record.destination_packets) = (50, 3);
    record
}

fn charged(record: &FlowRecord) -> BTreeMap<(String, u64), Counters> {
    let entry = Ledger::new(LedgerLimits::default()).enter(record).unwrap();
    let mut sums: BTreeMap<(String, u64), Counters> = BTreeMap::new();
    charger().charge(record, &entry, |slice, subject, share| {
        sums.entry((subject.to_string(), Span::QUARTER_HOUR.floor(slice))).or_default().add(&share.counters);
    });
    sums
}

fn hosts(record: &FlowRecord) -> Vec<String> {
    charged(record).into_keys().map(|(subject, _)| subject).filter(|subject| subject != "(site)").collect()
}

#[test]
fn a_record_is_charged_to_its_internal_ends() {
    assert_eq!(hosts(&record("10.0.0.1", "8.8.8.8", 0, 1)), ["10.0.0.1"]);
    assert_eq!(hosts(&record("8.8.8.8", "10.0.0.1", 0, 1)), ["10.0.0.1"]);
    assert_eq!(hosts(&record("10.0.0.1", "10.0.0.2", 0, 1)), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(hosts(&record("8.8.8.8", "1.1.1.1", 0, 1)), ["(transit)"]);
    assert_eq!(hosts(&record("10.0.0.9", "1.1.1.1", 0, 1)), ["printer"]);
}

#[test]
fn directions_are_the_hosts() {
    let sums = charged(&record("10.0.0.1", "10.0.0.2", 0, 1));
    let of = |host: &str| sums[&(host.to_string(), 0)];
    assert_eq!((of("10.0.0.1").bytes_out, of("10.0.0.1").bytes_in), (1_000, 50));
    assert_eq!((of("10.0.0.2").bytes_out, of("10.0.0.2").bytes_in), (50, 1_000));
    assert_eq!((of("(site)").events, of("(site)").packets_out), (1, 10));
}

#[test]
fn a_sensors_name_is_not_the_name_of_what_it_sees() {
    let named = |addresses: &[&str]| {
        let mut record = record("10.0.0.1", "8.8.8.8", 0, 1);
        record.annotations = Some(Box::new(Annotations {
            host_name: Some("web-1".into()),
            host_addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ..Annotations::default()
        }));
        hosts(&record)
    };
    assert_eq!(named(&["10.0.0.1"]), ["web-1"]);
    assert_eq!(named(&["10.0.0.77"]), ["10.0.0.1"]);
}

#[test]
fn the_event_belongs_to_the_bucket_of_the_start_and_the_bytes_to_all() {
    let sums = charged(&record("10.0.0.1", "8.8.8.8", 10 * MINUTE, 40 * MINUTE));
    let of = |bucket: u64| sums[&("10.0.0.1".to_string(), bucket * MINUTE)];
    assert_eq!((of(0).events, of(15).events, of(30).events), (1, 0, 0));
    assert_eq!((of(0).bytes_out, of(15).bytes_out, of(30).bytes_out), (166, 500, 334));
    let within = charged(&record("10.0.0.1", "8.8.8.8", 0, 15 * MINUTE));
    assert_eq!(within.len(), 2, "a flow that ends with its bucket stays in it: {within:?}");
}

proptest! {
    #[test]
    fn shares_sum_to_the_record(
        (start, length) in (0..3_000_000_000_000u64, prop_oneof![0..5_000u64, 0..100_000_000u64, 0..90_000_000_000u64]),
        bytes in any::<(u64, u64)>(),
        packets in any::<(u32, u32)>(),
        report in prop_oneof![Just(Report::Complete), Just(Report::Continuation)],
        ends in prop_oneof![Just(("10.0.0.1", "8.8.8.8")), Just(("8.8.8.8", "10.0.0.1")), Just(("10.0.0.1", "10.0.0.2")),
            Just(("1.1.1.1", "8.8.8.8"))],
    ) {
        let mut record = record(ends.0, ends.1, start, start + length);
        record.report = report;
        (record.source_bytes, record.destination_bytes) = bytes;
        (record.source_packets, record.destination_packets) = (u64::from(packets.0), u64::from(packets.1));
        let mut sums: BTreeMap<String, [u128; 5]> = BTreeMap::new();
        let entry = Ledger::new(LedgerLimits::default()).enter(&record).unwrap();
        charger().charge(&record, &entry, |_, subject, share| {
            let c = &share.counters;
            let sum = sums.entry(subject.to_string()).or_default();
            for (sum, more) in sum.iter_mut().zip([c.events, c.bytes_out, c.bytes_in, c.packets_out, c.packets_in]) {
                *sum += u128::from(more);
            }
        });
        let events = u128::from(report == Report::Complete);
        for (subject, sum) in sums {
            prop_assert_eq!(sum[0], events, "{}", subject);
            prop_assert_eq!(sum[1] + sum[2], u128::from(bytes.0) + u128::from(bytes.1), "{}", subject);
            prop_assert_eq!(sum[3] + sum[4], u128::from(packets.0) + u128::from(packets.1), "{}", subject);
        }
    }
}
