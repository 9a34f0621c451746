use proptest::prelude::*;
use spikewatch_domain::window::{Counters, Measure, Peer, Service, Share};

use super::*;
use crate::joint::Host;

mod bound;
mod calendars;
mod custom_rules;
mod functions;
mod rare;
mod wide;

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
    Scoring::new(&Job::built_in(), Span::QUARTER_HOUR, 64 << 20)
}

fn run(scoring: &mut Scoring, buckets: std::ops::Range<u64>) -> Vec<AnomalyRecord> {
    buckets.flat_map(|at| scoring.score(bucket(at, |n| usual(at, n))).records).collect()
}

#[test]
fn who_is_left_out_takes_his_part_of_the_score_along() {
    let mut scoring = scoring();
    run(&mut scoring, 0..96 * 14);
    let mut spike = bucket(96 * 14, |n| usual(96 * 14, n));
    let add = |last: u8, events: u64, bytes_out: u64| Share {
        counters: Counters { events, bytes_out, ..Counters::default() },
        peer: Peer::from(std::net::IpAddr::from([198, 51, 100, last])),
        service: Service { port: 8443, protocol: 6 },
        annotations: None,
    };
    let window = &mut spike.rows[2].window;
    window.add(&add(1, 20_000, 0));
    window.add(&add(2, 30, 900_000_000));
    let found = scoring.score(spike).records;
    let scores = |job: &str| {
        let record = found.iter().find(|record| record.job == job && record.value == "10.0.0.3").unwrap();
        let of = |value: &str| record.contributors.iter().find(|who| who.value == value).unwrap().influencer_score;
        (record.record_score, ["198.51.100.1", "198.51.100.2", "8443/tcp", "203.0.113.9"].map(of))
    };
    let (score, [many, large, service, usual]) = scores("high_count_network_events_by_host");
    assert!(score > 75.0 && many.unwrap() > 50.0 && service >= many, "{score} {many:?} {service:?}");
    assert!(large.unwrap() < 10.0 && usual.unwrap() < 10.0, "{large:?} {usual:?}");
    let (score, [many, large, ..]) = scores("high_bytes_out_by_host");
    assert!(score > 75.0 && large.unwrap() > 50.0 && many == Some(0.0), "{score} {many:?} {large:?}");
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
    // There is no other: without it, nothing is left to be unusual.
    assert_eq!(spike.contributors[0].influencer_score, Some(spike.record_score));
    let of_peers = found.iter().find(|record| record.job == "high_distinct_peers_by_host");
    assert!(of_peers.is_none_or(|record| record.contributors.iter().all(|who| who.influencer_score.is_none())));
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
fn the_memory_has_a_limit_that_shows() {
    let mut unbounded = scoring();
    unbounded.score(bucket(0, |n| usual(0, n)));
    let all = unbounded.bytes();
    assert_eq!(unbounded.series(), 5 * 6 + 3, "hosts; the site, its denied events, and the network");
    let mut scoring = Scoring::new(&Job::built_in(), Span::QUARTER_HOUR, all - 2 * unbounded.bytes_of_a_host());
    let scored = scoring.score(bucket(0, |n| usual(0, n)));
    assert_eq!((scored.not_modelled, scored.shed), (2, 0), "nobody has been silent");
    assert_eq!(scoring.series(), 3 * 6 + 3);
    // Newcomers that are silent make way; who was there before and has a window stays.
    let of = |at: u64, hosts: &[u8]| {
        let mut rows: Vec<Row> = hosts.iter().map(|n| row("a", host(*n), 10)).collect();
        rows.push(row("a", Subject::Site, 10));
        Bucket { start: at * QUARTER, rows, missing: BTreeSet::new() }
    };
    for at in 1..6 {
        scoring.score(of(at, &[1, 2]));
    }
    let scored = scoring.score(of(6, &[1, 2, 7, 8]));
    assert_eq!((scored.not_modelled, scored.shed), (1, 6), "host 3 went, and 8 found no room");
    // A host that is silent for less than a day stays, whatever comes; after a day it may go.
    let scored = scoring.score(of(7, &[1, 20, 21]));
    assert_eq!((scored.not_modelled, scored.shed), (1, 6), "7 went, and not 2");
    let scored = scoring.score(of(7 + 96, &[1, 30, 31]));
    assert_eq!((scored.not_modelled, scored.shed), (0, 12));
    assert!(scoring.bytes() <= all);
}

#[test]
fn what_joint_jobs_keep_of_a_host_counts_in_the_memory() {
    let kept = size_of::<Host>() as u64;
    assert!(Host::LENGTH as u64 <= kept, "all of it lies in one piece");
    let single: Vec<Job> = Job::built_in().into_iter().filter(|job| !job.function.is_joint()).collect();
    let mut without = Scoring::new(&single, Span::QUARTER_HOUR, 64 << 20);
    let mut with = scoring();
    for scoring in [&mut without, &mut with] {
        scoring.score(bucket(0, |n| usual(0, n)));
    }
    assert_eq!(with.bytes_of_a_host(), without.bytes_of_a_host() + kept);
    assert_eq!(with.bytes(), without.bytes() + 5 * kept, "of hosts alone");
    // Where that much is missing, one host finds no room.
    let mut tight = Scoring::new(&Job::built_in(), Span::QUARTER_HOUR, with.bytes() - kept);
    assert_eq!(tight.score(bucket(0, |n| usual(0, n))).not_modelled, 1);
    assert!(tight.bytes() < with.bytes());
}

/// A correction of host 3 and its site, from that many events to that many.
fn correction(at: u64, before: u64, after: u64) -> Correction {
    let change = |subject: Subject, more: u64| {
        let (before, after) = (before + more, after + more);
        let site = "a".parse().unwrap();
        Change { site, subject, before: window(before), after: window(after), incomplete: false }
    };
    let others = (1..=5).filter(|host| *host != 3).map(|host| usual(at, host)).sum();
    let sites = (vec![row("a", Subject::Site, before + others)], vec![row("a", Subject::Site, after + others)]);
    Correction {
        start: at * QUARTER,
        changes: vec![change(host(3), 0), change(Subject::Site, others)],
        sites: Some(sites),
    }
}

#[test]
fn a_spike_that_comes_late_is_found_as_it_would_have_been_and_not_learnt() {
    let (mut scoring, at) = (scoring(), 96 * 14 + 40);
    run(&mut scoring, 0..at);
    let spike = bucket(at, |n| if n == 3 { 80_000 } else { usual(at, n) });
    let mut in_time = super::tests::scoring();
    run(&mut in_time, 0..at);
    let expected = in_time.score(spike).records;
    // The bucket comes without the host, which is learnt as 0, and two more follow.
    let mut without = bucket(at, |n| usual(at, n));
    without.rows.retain(|row| row.subject != host(3));
    scoring.score(without);
    run(&mut scoring, at + 1..at + 3);
    let known: Vec<_> = scoring.stored().collect();
    let found = scoring.correct(&correction(at, 0, 80_000)).records;
    assert_eq!(known, scoring.stored().collect::<Vec<_>>(), "nothing is learnt");
    assert!(found.iter().all(|record| record.late));
    let key = |record: &AnomalyRecord| (record.job.clone(), record.value.clone());
    // Joint jobs go by the bucket that ends, and say nothing of what comes late.
    let joint = |record: &&AnomalyRecord| record.job.starts_with("host_");
    assert!(expected.iter().any(|record| joint(&record)) && !found.iter().any(|record| joint(&record)));
    for record in expected.iter().filter(|record| record.record_score > 20.0 && !joint(record)) {
        let late = found.iter().find(|late| key(late) == key(record)).unwrap();
        assert_eq!((late.actual, late.bucket_start), (record.actual, record.bucket_start));
        assert!((late.record_score - record.record_score).abs() < 8.0, "{late:?} {record:?}");
    }
    assert!(found.iter().any(|record| record.job == "high_count_network_events"), "the global series too");
}

#[test]
fn corrections_of_a_past_day_are_judged_at_their_time_of_day() {
    let (mut scoring, at) = (scoring(), 96 * 14);
    // A backup every night at 2: it is no news then, and it is at noon.
    let nightly = |at: u64, host: u64| if host == 3 && at % 96 == 8 { 50_000 } else { usual(at, host) };
    for at in 0..at {
        scoring.score(bucket(at, |host| nightly(at, host)));
    }
    let score = |slot: u64| {
        let found = scoring.correct(&correction(96 * 13 + slot, usual(0, 3), 50_000)).records;
        let by_host = found.into_iter().filter(|record| record.value == "10.0.0.3");
        by_host.map(|record| record.record_score).fold(0.0, f64::max)
    };
    assert!(score(8) < 30.0 && score(48) > 60.0, "{} {}", score(8), score(48));
}

#[test]
fn small_corrections_are_told_together_and_not_each() {
    let (mut scoring, at) = (scoring(), 96 * 14);
    run(&mut scoring, 0..at + 1);
    let mut told = Vec::new();
    for step in 0..90u64 {
        let (before, after) = (1000 * step, 1000 * (step + 1));
        let found = scoring.correct(&correction(at, before, after)).records;
        told.extend(found.into_iter().filter(|r| r.value == "10.0.0.3" && r.measure == Measure::Events));
    }
    assert!((10..60).contains(&told.len()), "{}", told.len());
    let last = told.last().unwrap();
    assert!(last.actual > 90_000.0 / 1.1 && last.record_score > 75.0, "{last:?}");
    let silent = scoring.correct(&correction(at, usual(at, 3), usual(at, 3) + 1)).records;
    assert_eq!(silent, []);
}

#[test]
fn corrections_of_what_has_no_series_are_counted() {
    let mut scoring = scoring();
    run(&mut scoring, 0..200);
    let mut unknown = correction(199, 0, 5);
    unknown.changes[0].subject = host(99);
    assert_eq!(scoring.correct(&unknown).not_modelled, 1);
    unknown.changes[1].site = "b".parse().unwrap();
    assert_eq!(scoring.correct(&unknown).not_modelled, 2);
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

/// Traffic of five hosts with peers of their own; `more` bytes out go from host 3 to another peer.
fn with_peers(at: u64, more: Option<(u8, u64)>) -> Bucket {
    let mut now = bucket(at, |n| usual(at, n));
    for row in now.rows.iter_mut().filter(|row| row.subject != Subject::Site) {
        let Subject::Address(std::net::IpAddr::V4(address)) = row.subject else { continue };
        let number = address.octets()[3];
        row.window = Window::default();
        let mut share = |peer: u8, bytes_out: u64| {
            let counters = Counters {
                events: usual(at, u64::from(number)) / 3,
                bytes_out,
                bytes_in: 3000 * usual(at, u64::from(number)),
                ..Counters::default()
            };
            let peer = Peer::from(std::net::IpAddr::from([203, 0, peer, 9]));
            let service = Service { port: 443, protocol: 6 };
            row.window.add(&Share { counters, peer, service, annotations: None });
        };
        (1..=3).for_each(|peer| share(10 * number + peer, 300 * usual(at + u64::from(peer), u64::from(number))));
        if let Some((peer, bytes)) = more.filter(|_| number == 3) {
            share(peer, bytes);
        }
    }
    now
}

#[test]
fn bytes_for_a_stranger_are_told_by_the_joint_job_alone() {
    let exfiltration = |peer: u8| {
        let mut scoring = scoring();
        (0..96 * 15).for_each(|at| drop(scoring.score(with_peers(at, None))));
        let buckets = (96 * 15..96 * 15 + 24).map(|at| scoring.score(with_peers(at, Some((peer, 400_000)))).records);
        buckets.flatten().filter(|record| record.value == "10.0.0.3").collect::<Vec<_>>()
    };
    let of = |records: &[AnomalyRecord], job: &str| {
        records
            .iter()
            .filter(|record| record.job == job)
            .max_by(|a, b| a.record_score.total_cmp(&b.record_score))
            .cloned()
    };
    let found = exfiltration(200);
    let strongest = of(&found, "host_exfiltration").expect("a stranger gets more than half of what the host sends");
    assert!(strongest.record_score >= 75.0, "{strongest:?}");
    assert_eq!((strongest.actual, strongest.function.as_str()), (400_000.0, "exfiltration"));
    assert_eq!((strongest.contributors[0].field.as_str(), strongest.contributors[0].bytes), ("new_peer", 400_000));
    assert_eq!(strongest.contributors[0].value, "203.0.200.9");
    let part = |name: &str| strongest.parts.iter().find(|part| part.name == name).unwrap().decades;
    assert!(part("new_peers_12h") > 1.0 && part("new_peers_share_12h") > 0.0, "{:?}", strongest.parts);
    // The same bytes to a peer that it always talks to.
    assert_eq!(of(&exfiltration(32), "host_exfiltration").filter(|record| record.record_score >= 25.0), None);
}

#[test]
fn activity_is_one_score_for_all_measures_of_a_host() {
    let mut scoring = scoring();
    run(&mut scoring, 0..96 * 14);
    let at = 96 * 14;
    let found = scoring.score(bucket(at, |n| if n == 3 { 80_000 } else { usual(at, n) })).records;
    let activity: Vec<_> = found.iter().filter(|record| record.job == "host_activity").collect();
    let spike = activity.iter().find(|record| record.value == "10.0.0.3").unwrap();
    assert!(spike.record_score >= 75.0 && spike.function == "activity", "{spike:?}");
    assert_eq!(spike.companions.len(), 6, "and what each measure says");
    assert!(activity.iter().all(|record| record.value == "10.0.0.3" || record.record_score < 25.0));
}
