use proptest::prelude::*;
use spikewatch_domain::window::{Counters, Peer, Service, Share};

use super::*;

const QUARTER: u64 = 900_000;

/// A window with that many events of 1000 bytes out.
fn window(events: u64) -> Window {
    let mut window = Window::default();
    window.add(&Share {
        counters: Counters { events, bytes_out: 1000 * events, bytes_in: 300 * events, ..Counters::default() },
        peer: Peer::from("203.0.113.9".parse::<std::net::IpAddr>().unwrap()),
        service: Service { port: 443, protocol: 6 },
        annotations: None,
    });
    window
}

fn row(site: &str, subject: Subject, events: u64) -> Row {
    Row { site: site.parse().unwrap(), subject, window: window(events), incomplete: false }
}

fn host(number: u8) -> Subject {
    Subject::Address([10, 0, 0, number].into())
}

/// Traffic of a bucket, the same at every call: a daily rhythm with noise.
fn usual(bucket: u64, host: u64) -> u64 {
    let noise = (bucket * 7919 + host * 104_729) % 40;
    100 + noise + 10 * (bucket % 96)
}

fn bucket(at: u64, events: impl Fn(u64) -> u64) -> Bucket {
    let mut rows: Vec<Row> = (1..=5).map(|n| row("a", host(n as u8), events(n))).collect();
    rows.push(row("a", Subject::Site, (1..=5).map(&events).sum()));
    rows.push(row("a", Subject::Transit, 7));
    Bucket { start: at * QUARTER, rows, missing: BTreeSet::new() }
}

fn scoring() -> Scoring {
    Scoring::new(&Job::built_in(), Span::QUARTER_HOUR, 1000)
}

fn run(scoring: &mut Scoring, buckets: std::ops::Range<u64>) -> Vec<AnomalyRecord> {
    buckets.flat_map(|at| scoring.score(bucket(at, |n| usual(at, n))).records).collect()
}

#[test]
fn a_spike_is_found_with_its_numbers_and_contributors() {
    let mut scoring = scoring();
    run(&mut scoring, 0..96 * 14);
    let at = 96 * 14;
    let found = scoring.score(bucket(at, |n| if n == 3 { 80_000 } else { usual(at, n) })).records;
    let spike = found.iter().find(|record| record.job == "high_count_network_events_by_host").unwrap();
    assert_eq!((spike.value.as_str(), spike.actual, spike.buckets_seen), ("10.0.0.3", 80_000.0, 96 * 14));
    assert!(spike.record_score > 75.0, "{spike:?}");
    assert!((80.0..160.0).contains(&spike.typical) && spike.lower < spike.typical && spike.typical < spike.upper);
    assert_eq!(spike.contributors[0].value, "203.0.113.9");
    assert_eq!(spike.contributors[1].value, "443/tcp");
    assert_eq!(spike.companions.len(), 5);
    let global = found.iter().find(|record| record.job == "high_count_network_events").unwrap();
    assert_eq!((&global.site, global.value.as_str(), global.contributors[0].value.as_str()), (&None, "", "a"));
    let site = found.iter().find(|record| record.job == "high_count_network_events_by_site").unwrap();
    assert_eq!(site.value, "a");
    assert!(found.iter().all(|record| record.value != "(transit)"));
    assert!(found.is_sorted_by(|a, b| (&a.job, &a.value) <= (&b.job, &b.value)));
}

#[test]
fn incomplete_windows_are_scored_and_not_learnt() {
    let mut scoring = scoring();
    run(&mut scoring, 0..96 * 10);
    let at = 96 * 10;
    let mut partial = bucket(at, |n| if n == 3 { 80_000 } else { usual(at, n) });
    partial.missing.insert("a".parse().unwrap());
    let found = scoring.score(partial).records;
    let spike = found.iter().find(|record| record.job == "high_count_network_events_by_host").unwrap();
    assert!(spike.incomplete && spike.record_score > 75.0);
    let learnt = scoring.score(bucket(at + 1, |n| if n == 3 { 80_000 } else { usual(at + 1, n) })).records;
    let spike = learnt.iter().find(|record| record.job == "high_count_network_events_by_host").unwrap();
    assert_eq!(spike.buckets_seen, 96 * 10, "the bucket before left no trace");
}

#[test]
fn silence_is_learnt_as_zero_only_while_the_site_is_heard() {
    let seen = |silent: &[u64], missing: &[u64]| {
        let mut scoring = scoring();
        for at in 0..200 {
            let mut now = bucket(at, |n| usual(at, n));
            if silent.contains(&at) {
                now.rows.retain(|row| row.subject != host(3));
            }
            if missing.contains(&at) {
                now.missing.insert("a".parse().unwrap());
            }
            scoring.score(now);
        }
        let spike = scoring.score(bucket(200, |n| if n == 3 { 900_000 } else { usual(200, n) }));
        spike.records.iter().find(|record| record.value == "10.0.0.3").unwrap().buckets_seen
    };
    assert_eq!(seen(&[], &[]), 200);
    assert_eq!(seen(&[50, 51, 52], &[]), 200);
    assert_eq!(seen(&[50, 51, 52], &[51]), 199);
}

#[test]
fn a_long_gap_of_a_whole_site_teaches_nothing() {
    for (gap, learnt) in [(10, 200 + 10), (97, 200)] {
        let mut scoring = scoring();
        run(&mut scoring, 0..200);
        let at = 200 + gap;
        let found = scoring.score(bucket(at, |n| if n == 3 { 900_000 } else { usual(at, n) })).records;
        let spike = found.iter().find(|record| record.value == "10.0.0.3").unwrap();
        assert_eq!(u64::from(spike.buckets_seen), learnt);
    }
}

#[test]
fn series_have_a_limit_that_shows() {
    let mut scoring = Scoring::new(&Job::built_in(), Span::QUARTER_HOUR, 3);
    let scored = scoring.score(bucket(0, |n| usual(0, n)));
    assert_eq!(scored.not_modelled, 2);
    assert_eq!(scoring.series(), 3 * 6 + 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Rows come from several shards, in whatever order those committed.
    #[test]
    fn the_order_of_rows_does_not_matter(
        spikes in proptest::collection::vec((0u64..200, 1u64..6, 1u64..100_000), 1..20),
        order in proptest::collection::vec(any::<u64>(), 7),
    ) {
        let traffic = |at: u64| {
            bucket(at, |n| {
                let spike = spikes.iter().find(|(bucket, host, _)| (*bucket, *host) == (at, n));
                spike.map_or_else(|| usual(at, n), |(.., events)| *events)
            })
        };
        let (mut one, mut other) = (scoring(), scoring());
        for at in 0..200 {
            let straight = traffic(at);
            let mut shuffled = straight.clone();
            let mut keyed: Vec<_> = shuffled.rows.into_iter().zip(order.iter().cycle()).collect();
            keyed.sort_by_key(|(_, key)| *key ^ at);
            shuffled.rows = keyed.into_iter().map(|(row, _)| row).collect();
            prop_assert_eq!(one.score(straight), other.score(shuffled));
        }
    }
}
