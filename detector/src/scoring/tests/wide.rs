//! Jobs whose buckets are longer than the base bucket.

use super::*;

/// Three weeks of quarters.
const GROWN: u64 = 96 * 21;

fn jobs(span: &str) -> Vec<Job> {
    let job = |id: &str, measure: &str, function: &str, split: &str| {
        format!(
            "[[job]]\nid = \"{id}\"\nmeasure = \"{measure}\"\nfunction = \"{function}\"\nsplit = \"{split}\"\n\
             minimum_effect = 1\nbucket_span = \"{span}\"\n"
        )
    };
    let text = [
        job("hosts", "events", "high_count", "host"),
        job("peers", "distinct_peers", "high_distinct_count", "host"),
        job("network", "events", "high_count", "global"),
    ];
    Job::from_toml(&text.concat()).unwrap()
}

fn new(jobs: &[Job]) -> Scoring {
    Scoring::new(jobs, Span::QUARTER_HOUR, 64 << 20)
}

/// Twelve times the usual events of host 3 for an hour, in even parts, from 12 peers at a time.
fn busy(at: u64) -> Bucket {
    let mut now = bucket(at, |n| if n == 3 { 12 * usual(at, n) } else { usual(at, n) });
    for row in now.rows.iter_mut().filter(|row| row.subject == host(3)) {
        for peer in 0..12 {
            // Half of them are those of the quarter before.
            let peer = Peer::from(std::net::IpAddr::from([203, 0, (at * 6 + peer) as u8, 1]));
            row.window.attribute(peer, Service { port: 443, protocol: 6 }, &Counters::default());
        }
    }
    now
}

fn found(scoring: &mut Scoring, bucket: Bucket) -> Vec<AnomalyRecord> {
    scoring.score(bucket).records.into_iter().filter(|record| record.record_score >= 50.0).collect()
}

#[test]
fn an_hour_is_told_once_with_all_its_quarters() {
    let mut scoring = new(&jobs("1h"));
    assert_eq!(run(&mut scoring, 0..GROWN + 40).iter().filter(|record| record.record_score >= 75.0).count(), 0);
    let quarters = GROWN + 40..GROWN + 44;
    for at in quarters.clone().take(3) {
        assert_eq!(found(&mut scoring, busy(at)), [], "the hour is not over");
    }
    let records = found(&mut scoring, busy(GROWN + 43));
    let of = |job: &str| records.iter().find(|record| record.job == job && record.value != "10.0.0.1");
    let hosts = of("hosts").unwrap();
    let events: u64 = quarters.clone().map(|at| 12 * usual(at, 3)).sum();
    assert_eq!((hosts.value.as_str(), hosts.actual as u64), ("10.0.0.3", events));
    assert_eq!((hosts.bucket_start, hosts.bucket_span.seconds()), ((GROWN + 40) * QUARTER, 3600));
    assert_eq!(u64::from(hosts.buckets_seen), (GROWN + 40) / 4);
    assert!(hosts.record_score >= 75.0 && hosts.contributors[0].field == "peer", "{hosts:?}");
    let expected: u64 = quarters.map(|at| usual(at, 3)).sum();
    assert!((0.7..1.4).contains(&(hosts.typical / expected as f64)), "{hosts:?}");
    // Peers are counted once for the hour: 12, and 6 more with each quarter, beside the usual one.
    let peers = of("peers").unwrap().actual;
    assert!((28.0..34.0).contains(&peers), "{peers}");
    assert_eq!(of("network").map(|record| record.site.clone()), Some(None));
}

#[test]
fn a_bucket_whose_last_part_has_nothing_ends_with_what_comes_after_it() {
    let mut scoring = new(&jobs("1h"));
    run(&mut scoring, 0..GROWN + 40);
    for at in GROWN + 40..GROWN + 43 {
        assert_eq!(found(&mut scoring, busy(at)), []);
    }
    // Nothing was committed of the last quarter.
    let records = found(&mut scoring, bucket(GROWN + 44, |n| usual(GROWN + 44, n)));
    assert!(records.iter().any(|record| record.job == "hosts" && record.bucket_start == (GROWN + 40) * QUARTER));
    assert!(records.iter().all(|record| record.bucket_start == (GROWN + 40) * QUARTER));
}

#[test]
fn what_lacks_a_part_is_not_learnt() {
    // Begins in the middle of an hour, and lacks a collector in a quarter of another.
    let mut scoring = new(&jobs("1h"));
    for at in 2..GROWN + 40 {
        let mut now = bucket(at, |n| usual(at, n));
        if at == 21 {
            now.missing.insert("a".parse().unwrap());
        }
        scoring.score(now);
    }
    let records: Vec<_> = (GROWN + 40..GROWN + 44).flat_map(|at| found(&mut scoring, busy(at))).collect();
    let hosts = records.iter().find(|record| record.job == "hosts").unwrap();
    assert_eq!(u64::from(hosts.buckets_seen), (GROWN + 40) / 4 - 2);
    // Too much is told all the same, and said to be incomplete.
    let missing = |at: u64| {
        let mut now = busy(at);
        now.missing.extend((at == GROWN + 46).then(|| "a".parse().unwrap()));
        now
    };
    let records: Vec<_> = (GROWN + 44..GROWN + 48).flat_map(|at| found(&mut scoring, missing(at))).collect();
    assert!(records.iter().any(|record| record.job == "hosts" && record.incomplete), "{records:?}");
}

#[test]
fn jobs_of_several_lengths_do_not_see_each_other() {
    let several: Vec<Job> = [jobs("1h"), jobs("1d"), Job::built_in()].into_iter().flatten().collect();
    let several: Vec<Job> = several
        .into_iter()
        .map(|job| {
            let length = job.bucket_span.map_or(String::new(), |span| format!("_{span}"));
            Job { id: format!("{}{length}", job.id), ..job }
        })
        .collect();
    let (mut all, mut base, mut hours) = (new(&several), new(&Job::built_in()), new(&jobs("1h")));
    let mut days = BTreeSet::new();
    for at in 0..96 * 8 {
        let traffic = if at % 96 == 50 { busy(at) } else { bucket(at, |n| usual(at, n)) };
        let told = all.score(traffic.clone()).records;
        let of = |length: u32| told.iter().filter(move |record| record.bucket_span.seconds() == length);
        assert_eq!(of(900).cloned().collect::<Vec<_>>(), base.score(traffic.clone()).records);
        let strip = |record: &AnomalyRecord| AnomalyRecord {
            job: record.job.replace("_1h", ""),
            companions: Vec::new(),
            ..record.clone()
        };
        let ours: Vec<_> = of(3600).map(strip).collect();
        assert_eq!(ours, hours.score(traffic).records.iter().map(strip).collect::<Vec<_>>());
        days.extend(of(86_400).map(|record| record.bucket_start));
    }
    assert!(days.iter().all(|start| start % (96 * QUARTER) == 0), "{days:?}");
    assert_eq!(all.series(), base.series() + 2 * hours.series());
    let none = early::Wanted { threshold: 0.0, buckets: 0 };
    let early = all.early(96 * 8 * QUARTER, &busy(96 * 8).rows, &[]);
    assert!(early.iter().all(|record| record.bucket_span.seconds() == 900), "an hour is not told early");
    drop(all.tripwires(96 * 8 * QUARTER, 4, |_| Some(none)));
}

#[test]
fn the_windows_of_an_open_bucket_have_a_limit_that_shows() {
    let keys = |memory: u64| {
        let mut scoring = Scoring::new(&jobs("1d"), Span::QUARTER_HOUR, memory);
        let left_out: u64 = (0..3).map(|at| scoring.score(bucket(at, |n| usual(at, n))).not_modelled).sum();
        (scoring.wide[0].stored().keys, left_out)
    };
    assert_eq!(keys(64 << 20), (5 + 1, 0), "hosts and their site");
    // A quarter of it is for windows: the site and two hosts, here. And it is noted that the site has more.
    assert_eq!(keys(4 * 3 * 1700), (3 + 1, 3 * 3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Whenever it is stopped and goes on from what was stored, the same comes out.
    #[test]
    fn a_restart_in_the_middle_changes_nothing(
        cuts in proptest::collection::vec(1u64..300, 1..5),
        spikes in proptest::collection::vec((0u64..300, 1u64..6, 1u64..100_000), 1..10),
        silent in proptest::collection::vec(0u64..300, 0..20),
        doubtful in proptest::collection::vec(0u64..300, 0..5),
    ) {
        let jobs = [jobs("1h"), Job::built_in()].concat();
        let (mut one, mut other) = (new(&jobs), new(&jobs));
        for at in (3..300).filter(|at| !silent.contains(at)) {
            let mut traffic = bucket(at, |n| {
                let spike = spikes.iter().find(|(bucket, host, _)| (*bucket, *host) == (at, n));
                spike.map_or_else(|| usual(at, n), |(.., events)| *events)
            });
            if doubtful.contains(&at) {
                traffic.missing.insert("a".parse().unwrap());
            }
            prop_assert_eq!(one.score(traffic.clone()), other.score(traffic));
            if cuts.contains(&at) {
                let mut restored = new(&jobs);
                for (number, part) in other.stored().enumerate() {
                    prop_assert_eq!(restored.is_whole(), number == 0, "the head promises more");
                    restored.restore(number, &part).unwrap();
                }
                prop_assert!(restored.is_whole());
                other = restored;
            }
        }
    }
}
