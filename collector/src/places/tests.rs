use std::sync::Arc;

use crate::places::mmdb::Mmdb;
use spikewatch_domain::{
    key::{Dimension, Subject},
    record::Annotations,
};

use super::*;
use crate::{metrics::Metrics, pipeline::tests::pipeline};

const DAY: EventMillis = 1_767_225_600_000;

/// They know 192.0.2.0/24 and two more networks.
pub(crate) fn databases() -> Databases {
    let countries = Mmdb::countries(&[("192.0.2.0/24", "DE"), ("198.51.100.0/24", "FR"), ("2001:db8::/32", "NL")]);
    let asns = Mmdb::asns(&[("192.0.2.0/24", 64_500)]);
    Databases {
        country: Some(Arc::new(Database::new(countries).unwrap())),
        asn: Some(Arc::new(Database::new(asns).unwrap())),
    }
}

fn record(source: &str, destination: &str) -> FlowRecord {
    let mut record = FlowRecord::between(source.parse().unwrap(), destination.parse().unwrap(), DAY, DAY);
    (record.source_bytes, record.source_packets) = (1_000, 10);
    (record.destination_bytes, record.destination_packets) = (50, 3);
    record
}

/// Windows of countries and systems: value, events, bytes out and in.
fn windows(databases: Databases, mut records: Vec<FlowRecord>) -> Vec<(String, u64, u64, u64)> {
    let mut pipeline = pipeline();
    pipeline.switch(databases);
    pipeline.records(&mut records);
    let slices = pipeline.finish().slices;
    let rows = slices.iter().flat_map(|slice| &slice.rows);
    let places = rows.filter(|row| matches!(row.1.dimension(), Dimension::Country | Dimension::Asn));
    let mut found: Vec<_> = places
        .map(|(_, subject, window)| {
            let counters = &window.counters;
            let name = match subject {
                Subject::Other(dimension) => format!("(other {})", dimension.name()),
                subject => subject.to_string(),
            };
            (name, counters.events, counters.bytes_out, counters.bytes_in)
        })
        .collect();
    found.sort();
    found
}

fn row(name: &str, events: u64, bytes_out: u64, bytes_in: u64) -> (String, u64, u64, u64) {
    (name.to_owned(), events, bytes_out, bytes_in)
}

#[test]
fn what_goes_to_a_country_counts_there_whole() {
    let found = windows(databases(), vec![record("10.0.0.1", "192.0.2.1"), record("10.0.0.2", "192.0.2.9")]);
    assert_eq!(found, [row("AS64500", 2, 2_000, 100), row("DE", 2, 2_000, 100)]);
}

#[test]
fn what_comes_from_a_country_counts_but_for_its_events() {
    let found = windows(databases(), vec![record("192.0.2.1", "10.0.0.1")]);
    assert_eq!(found, [row("AS64500", 0, 50, 1_000), row("DE", 0, 50, 1_000)]);
}

#[test]
fn what_stays_inside_or_is_unknown_is_nowhere() {
    assert_eq!(windows(databases(), vec![record("10.0.0.1", "10.0.0.2"), record("10.0.0.1", "203.0.113.1")]), []);
    let transit = windows(databases(), vec![record("203.0.113.1", "198.51.100.1")]);
    assert_eq!(transit, [row("FR", 1, 1_000, 50)], "of what passes through, the destination");
    assert_eq!(windows(databases(), vec![record("fd00::1", "2001:db8::9")]), [row("NL", 1, 1_000, 50)]);
}

#[test]
fn beyond_the_limit_countries_are_others_together() {
    let told = |code: &str| {
        let destination_place = Place { country: Place::country_code(code), asn: None };
        let known = Annotations { destination_place, ..Annotations::default() };
        FlowRecord { annotations: Some(Box::new(known)), ..record("10.0.0.1", "203.0.113.1") }
    };
    let records = ["DE", "FR", "DE", "FR", "US", "NL"].map(told).to_vec();
    let found = windows(Databases::default(), records);
    assert_eq!(found, [row("(other country)", 2, 2_000, 100), row("DE", 2, 2_000, 100), row("FR", 2, 2_000, 100)]);
}

#[test]
fn what_the_source_says_wins_each_by_itself() {
    let source_place = Place { country: Some(*b"US"), asn: Some(1) };
    let destination_place = Place { country: Some(*b"CH"), asn: None };
    let known = Annotations { source_place, destination_place, ..Annotations::default() };
    let record = FlowRecord { annotations: Some(Box::new(known)), ..record("10.0.0.1", "192.0.2.1") };
    assert_eq!(windows(databases(), vec![record]), [row("AS64500", 1, 1_000, 50), row("CH", 1, 1_000, 50)]);
}

#[test]
fn other_databases_give_other_answers_at_once() {
    let mut locator = Locator::new(databases());
    let peer: IpAddr = [192, 0, 2, 1].into();
    let unknown: IpAddr = [203, 0, 113, 1].into();
    let found = [peer, peer, unknown].map(|address| locator.look_up(address));
    assert_eq!(found[0], Place { country: Some(*b"DE"), asn: Some(64_500) });
    assert_eq!((found[1], found[2], locator.counts()), (found[0], Place::default(), (3, 1)));
    let moved = Mmdb::countries(&[("192.0.2.0/24", "AT")]);
    locator.switch(Databases { country: Some(Arc::new(Database::new(moved).unwrap())), asn: None });
    assert_eq!(locator.look_up(peer), Place { country: Some(*b"AT"), asn: None });
}

/// The answers at hand are bounded, and are never those of another address.
#[test]
fn many_peers_are_told_apart() {
    let mut locator = Locator::new(databases());
    for n in 0..200_000u32 {
        let address = std::net::Ipv4Addr::from(0xc000_0200u32.wrapping_add(n.wrapping_mul(7)));
        let expected = address.octets()[..3] == [192, 0, 2];
        assert_eq!(locator.look_up(address.into()).country.is_some_and(|code| code == *b"DE"), expected, "{address}");
    }
}

#[test]
fn lookups_are_counted() {
    let metrics = Metrics::default();
    let mut pipeline = crate::pipeline::tests::counted_in(metrics.clone());
    pipeline.switch(databases());
    pipeline.records(&mut vec![
        record("10.0.0.1", "192.0.2.1"),
        record("10.0.0.1", "203.0.113.1"),
        record("10.0.0.1", "10.0.0.2"),
    ]);
    pipeline.finish();
    let counted = [&metrics.counters().place_lookups, &metrics.counters().place_misses];
    assert_eq!(counted.map(|counter| counter.load(std::sync::atomic::Ordering::Relaxed)), [2, 1]);
}
