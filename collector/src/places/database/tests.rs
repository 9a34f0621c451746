use crate::places::mmdb::{Mmdb, Value as Written};
use proptest::prelude::*;

use super::*;

const NETWORKS: [(&str, &str); 6] = [
    ("192.0.2.0/24", "DE"),
    ("192.0.2.128/25", "FR"),
    ("198.51.100.7/32", "US"),
    ("203.0.113.0/24", "US"),
    ("2001:db8::/32", "NL"),
    ("2001:db8:1::/48", "CH"),
];

const ASKED: [(&str, Option<&str>); 11] = [
    ("192.0.2.1", Some("DE")),
    ("192.0.2.127", Some("DE")),
    ("192.0.2.128", Some("FR")),
    ("192.0.2.255", Some("FR")),
    ("192.0.3.0", None),
    ("198.51.100.7", Some("US")),
    ("198.51.100.6", None),
    ("203.0.113.9", Some("US")),
    ("2001:db8::1", Some("NL")),
    ("2001:db8:1:ffff::", Some("CH")),
    ("2001:db9::1", None),
];

fn country(database: &Database<Country>, address: &str) -> Option<String> {
    database.look_up(address.parse().unwrap()).map(|Country(code)| String::from_utf8(code.to_vec()).unwrap())
}

fn invalid<A: Answer>(content: Vec<u8>) -> String {
    Database::<A>::new(content).unwrap_err().to_string()
}

fn file(bits: u32) -> Mmdb {
    let file = Mmdb::new("GeoLite2-Country", bits);
    NETWORKS.iter().fold(file, |file, (network, code)| file.with(network, Written::country(code)))
}

#[test]
fn every_size_of_record_tells_the_same() {
    for bits in [24, 28, 32] {
        let database = Database::<Country>::new(file(bits).bytes()).unwrap();
        for (address, expected) in ASKED {
            assert_eq!(country(&database, address).as_deref(), expected, "{address} in records of {bits} bits");
        }
        assert_eq!((database.kind(), database.built()), ("GeoLite2-Country", 1_767_225_600));
    }
}

#[test]
fn a_file_for_ipv4_knows_nothing_of_ipv6() {
    let file = Mmdb::new("Countries", 28).v4_only().with("0.0.0.0/1", Written::country("BR"));
    let database = Database::<Country>::new(file.bytes()).unwrap();
    assert_eq!(country(&database, "127.255.255.255").as_deref(), Some("BR"));
    assert_eq!(
        (country(&database, "128.0.0.0"), country(&database, "::1"), country(&database, "2001:db8::1")),
        (None, None, None)
    );
}

#[test]
fn large_files_have_large_pointers_and_sizes() {
    // Text that fills the data beyond where pointers of two, three and four bytes reach.
    let (mut file, mut filled) = (Mmdb::new("Large", 32), 0);
    for (number, length) in [20, 200, 2_000, 70_000, 500_000, 20_000, 20_000].into_iter().enumerate() {
        let filler = Written::text(&char::from(b'a' + number as u8).to_string().repeat(length));
        let record = Written::map([("filler", filler), ("country", Written::map([("iso_code", Written::text("SE"))]))]);
        file = file.with(&format!("10.{number}.0.0/16"), record);
        filled += length;
    }
    let database = Database::<Country>::new(file.bytes()).unwrap();
    assert!(filled > 526_336);
    for number in 0..7 {
        assert_eq!(country(&database, &format!("10.{number}.0.1")).as_deref(), Some("SE"), "{number}");
    }
}

#[test]
fn numbers_of_systems_come_as_numbers_or_text() {
    let text = |asn: &str| Written::map([("asn", Written::text(asn)), ("as_name", Written::text("Somebody"))]);
    let file = Mmdb::new("Systems", 24)
        .with("192.0.2.0/24", Written::asn(64_500))
        .with("198.51.100.0/24", text("AS64501"))
        .with("203.0.113.0/24", Written::asn(0));
    let database = Database::<Asn>::new(file.bytes()).unwrap();
    let asn = |address: &str| database.look_up(address.parse().unwrap());
    assert_eq!((asn("192.0.2.1"), asn("198.51.100.1")), (Some(Asn(64_500)), Some(Asn(64_501))));
    assert_eq!((asn("203.0.113.1"), asn("10.0.0.1")), (None, None), "system 0 is none");
}

#[test]
fn flat_records_have_the_code_under_either_name() {
    let flat = |fields: [(&str, &str); 2]| Written::map(fields.map(|(name, text)| (name, Written::text(text))));
    let file = Mmdb::new("Flat", 24)
        .with("192.0.2.0/24", flat([("continent", "EU"), ("country", "it")]))
        .with("198.51.100.0/24", flat([("country", "Italy"), ("country_code", "IT")]))
        .with("203.0.113.0/24", flat([("country", "Italy"), ("continent", "Europe")]));
    let database = Database::<Country>::new(file.bytes()).unwrap();
    let found = ["192.0.2.1", "198.51.100.1", "203.0.113.1"].map(|address| country(&database, address));
    assert_eq!(found, [Some("IT".into()), Some("IT".into()), None]);
}

#[test]
fn what_is_wrong_with_a_file_is_told() {
    assert!(invalid::<Country>(Vec::new()).starts_with("no MaxMind DB file"));
    assert!(invalid::<Country>(b"<html>Not found</html>".to_vec()).starts_with("no MaxMind DB file"));
    let swapped = invalid::<Country>(Mmdb::asns(&[("192.0.2.0/24", 64_500)]));
    assert!(swapped.starts_with("it is a \"GeoLite2-ASN\", of which no record has country.iso_code"), "{swapped}");
    let swapped = invalid::<Asn>(Mmdb::countries(&NETWORKS));
    assert!(swapped.contains("no record has autonomous_system_number"), "{swapped}");
    let odd = invalid::<Country>(Mmdb::new("Odd", 20).bytes());
    assert_eq!(odd, "its metadata say record_size = 20; expected 24, 28 or 32");
    // Cut at the front, as by a transfer that began too late: less before the metadata than the tree takes.
    let cut = invalid::<Country>(Mmdb::countries(&NETWORKS).split_off(600));
    assert!(cut.starts_with("it is cut: a tree of "), "{cut}");
    let mut astray = Mmdb::countries(&NETWORKS);
    astray[..3].copy_from_slice(&[0xff, 0xff, 0xff]);
    assert_eq!(
        invalid::<Country>(astray),
        "node 0 of its tree leads to 16777215, which is neither a node nor in the data"
    );
}

#[test]
fn a_file_that_knows_no_network_knows_nothing() {
    let database = Database::<Asn>::new(Mmdb::new("Empty", 24).bytes()).unwrap();
    assert_eq!(database.look_up("192.0.2.1".parse().unwrap()), None);
}

/// Values within values, as deep as a file can hold; one whose parts are too many.
#[test]
fn what_is_deep_or_wide_is_refused_not_followed() {
    let deep = (0..6_000).fold(Written::Bool(true), |inner, _| Written::Array(vec![inner]));
    let deep = Mmdb::new("Deep", 24).with("10.0.0.0/8", Written::Map(vec![("a".into(), deep)]));
    let said = invalid::<Country>(deep.bytes());
    assert!(said.contains("a value of too many parts"), "{said}");
}

fn asked(content: Vec<u8>) {
    let mut addresses: Vec<IpAddr> = ASKED.iter().map(|(address, _)| address.parse().unwrap()).collect();
    addresses.extend((0..=255).map(|n| IpAddr::from([n, n, n, n])));
    if let Ok(database) = Database::<Country>::new(content.clone()) {
        let known = addresses.iter().filter_map(|address| database.look_up(*address));
        assert!(known.count() <= addresses.len());
    }
    if let Ok(database) = Database::<Asn>::new(content) {
        let known = addresses.iter().filter_map(|address| database.look_up(*address));
        assert!(known.count() <= addresses.len());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_answered(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        asked(bytes);
    }

    /// Whatever follows the marker, and whatever stands before it.
    #[test]
    fn any_bytes_around_a_marker_are_refused_or_answered(
        before in proptest::collection::vec(any::<u8>(), 0..400),
        metadata in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        asked([before.as_slice(), b"\xab\xcd\xefMaxMind.com", &metadata].concat());
    }

    #[test]
    fn a_damaged_file_is_refused_or_answered(
        bits in prop_oneof![Just(24u32), Just(28), Just(32)],
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..20),
        length in any::<proptest::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut content = file(bits).bytes();
        for (place, byte) in damage {
            let place = place.index(content.len());
            content[place] = byte;
        }
        if is_cut {
            content.truncate(length.index(content.len()));
        }
        asked(content);
    }

    /// A tree holds what a list of networks says: of those that hold an address, the one that came last.
    #[test]
    fn a_tree_is_a_list_of_networks(
        networks in proptest::collection::vec((any::<u32>(), 1u32..=32, 1u32..1_000), 1..20),
        asked in proptest::collection::vec(any::<u32>(), 20),
        bits in prop_oneof![Just(24u32), Just(28), Just(32)],
    ) {
        // The writer replaces what was there, so that larger networks have to come first.
        let mut networks = networks;
        networks.sort_by_key(|(_, length, _)| *length);
        let mut file = Mmdb::new("Systems", bits);
        for (base, length, number) in &networks {
            file = file.with(&format!("{}/{length}", std::net::Ipv4Addr::from(*base)), Written::asn(*number));
        }
        let database = Database::<Asn>::new(file.bytes()).unwrap();
        let holds = |base: u32, length: u32, address: u32| (base ^ address) >> (32 - length) == 0;
        let near = networks.iter().map(|(base, _, _)| *base ^ 1);
        for address in asked.iter().copied().chain(near) {
            let last = networks.iter().rfind(|(base, length, _)| holds(*base, *length, address));
            let expected = last.map(|(_, _, number)| Asn(*number));
            prop_assert_eq!(database.look_up(std::net::Ipv4Addr::from(address).into()), expected);
        }
    }
}
