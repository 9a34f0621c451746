//! What each function of a job finds, from its TOML to its anomaly records.

use prost::Message as _;

use super::*;

/// Buckets after which all models have seen two weeks.
const GROWN: u64 = 96 * 14;

/// A job of that function, measure and split, alone.
fn job(function: &str, measure: &str, split: &str) -> Scoring {
    let text = format!(
        "[[job]]\nid = \"j\"\nmeasure = \"{measure}\"\nfunction = \"{function}\"\nsplit = \"{split}\"\nminimum_effect = 1\n"
    );
    Scoring::new(&Job::from_toml(&text).unwrap(), Span::QUARTER_HOUR, 64 << 20)
}

/// The strongest record of a value.
fn strongest(records: &[AnomalyRecord], value: &str) -> Option<AnomalyRecord> {
    let own = records.iter().filter(|record| record.value == value);
    own.max_by(|a, b| a.record_score.total_cmp(&b.record_score)).cloned()
}

fn score(records: &[AnomalyRecord], value: &str) -> f64 {
    strongest(records, value).map_or(0.0, |record| record.record_score)
}

fn without(mut bucket: Bucket, subject: &Subject) -> Bucket {
    bucket.rows.retain(|row| row.subject != *subject);
    bucket
}

#[test]
fn a_host_that_falls_silent_is_told_by_low_and_two_sided_counts_while_its_site_is_heard() {
    for (function, tells) in
        [("low_count", true), ("count", true), ("high_count", false), ("low_non_zero_count", false)]
    {
        let mut scoring = job(function, "events", "host");
        run(&mut scoring, 0..GROWN + 40);
        let at = GROWN + 40;
        let found = scoring.score(without(bucket(at, |n| usual(at, n)), &host(3))).records;
        let silent = strongest(&found, "10.0.0.3").filter(|record| record.record_score >= 50.0);
        assert_eq!(silent.is_some(), tells, "{function}: {found:?}");
        if let Some(record) = silent {
            assert_eq!((record.actual, record.function.as_str(), record.buckets_seen), (0.0, function, at as u32));
            assert!(record.typical > 400.0 && record.contributors.is_empty(), "{record:?}");
        }
        assert!(["10.0.0.1", "10.0.0.5"].iter().all(|other| score(&found, other) < 50.0), "{function}: {found:?}");
    }
}

#[test]
fn absence_is_no_dip_where_it_is_not_known_to_be_silence() {
    let fall_silent = |change: fn(&mut Bucket)| {
        let mut scoring = job("low_count", "events", "host");
        run(&mut scoring, 0..GROWN + 40);
        let mut now = without(bucket(GROWN + 40, |n| usual(GROWN + 40, n)), &host(3));
        change(&mut now);
        scoring.score(now).records
    };
    assert!(score(&fall_silent(|_| ()), "10.0.0.3") >= 50.0);
    // A collector of the site is missing.
    let missing = fall_silent(|now| now.missing.extend(["a".parse().unwrap()]));
    assert_eq!(missing, [], "nor is a part of what there was a dip");
    // Some hosts of the site found no room in its windows.
    assert_eq!(strongest(&fall_silent(|now| now.rows.push(row("a", Subject::Overflow, 5))), "10.0.0.3"), None);
    // The whole site is silent, and another is heard.
    let elsewhere = fall_silent(|now| {
        now.rows.clear();
        now.rows.push(row("b", Subject::Site, 5));
    });
    assert_eq!(elsewhere, []);
}

#[test]
fn a_site_that_falls_silent_is_told_of_the_site() {
    let mut scoring = job("low_count", "events", "site");
    let traffic = |at: u64| {
        let mut now = bucket(at, |n| usual(at, n));
        now.rows.push(row("b", Subject::Site, usual(at, 9)));
        now
    };
    (0..GROWN + 40).for_each(|at| drop(scoring.score(traffic(at))));
    let silent = |at: u64| {
        let mut now = traffic(at);
        now.rows.retain(|row| row.site.as_str() == "b");
        now
    };
    let found = scoring.score(silent(GROWN + 40)).records;
    let record = strongest(&found, "a").expect("a member vouched that there was nothing");
    assert!(record.record_score >= 75.0 && record.actual == 0.0, "{record:?}");
    assert_eq!(strongest(&found, "b").filter(|record| record.record_score >= 25.0), None);
    let mut doubtful = silent(GROWN + 41);
    doubtful.missing.insert("a".parse().unwrap());
    assert_eq!(strongest(&scoring.score(doubtful).records, "a"), None);
}

#[test]
fn two_sided_functions_tell_spikes_and_dips_and_the_others_one_of_them() {
    for (function, spikes, dips) in [("count", true, true), ("high_count", true, false), ("low_count", false, true)] {
        let mut scoring = job(function, "events", "host");
        run(&mut scoring, 0..GROWN + 40);
        let at = GROWN + 40;
        let found = scoring.score(bucket(at, |n| match n {
            2 => 3,
            3 => 80_000,
            n => usual(at, n),
        }));
        let told = |value: &str| score(&found.records, value) >= 50.0;
        assert_eq!((told("10.0.0.3"), told("10.0.0.2")), (spikes, dips), "{function}: {:?}", found.records);
    }
}

#[test]
fn a_mean_is_that_of_the_events_and_missing_without_them() {
    for function in ["high_mean", "mean", "low_mean"] {
        let mut scoring = job(function, "bytes_out", "host");
        let quiet = |at: u64| at % 7 == 3;
        for at in 0..GROWN {
            // Now and then host 3 has bytes of an older connection, and no event.
            let mut now = bucket(at, |n| usual(at, n));
            for row in now.rows.iter_mut().filter(|row| row.subject == host(3)) {
                row.window.counters.bytes_out += row.window.counters.bytes_out * (at % 5) / 50;
                row.window.counters.events *= u64::from(!quiet(at));
            }
            scoring.score(now);
        }
        // As many events as ever, each of a tenth or of ten times as many bytes.
        let told = |scoring: &mut Scoring, at: u64, times: f64| {
            let mut now = bucket(at, |n| usual(at, n));
            for row in now.rows.iter_mut().filter(|row| row.subject == host(3)) {
                row.window.counters.bytes_out = (row.window.counters.bytes_out as f64 * times) as u64;
            }
            strongest(&scoring.score(now).records, "10.0.0.3").filter(|record| record.record_score >= 50.0)
        };
        let much = told(&mut scoring, GROWN + 1, 10.0);
        assert_eq!(much.is_some(), function != "low_mean", "{function}");
        if let Some(record) = much {
            assert_eq!(record.actual, 10_000.0);
            assert!((1000.0..1100.0).contains(&record.typical), "{record:?}");
            let with_events = (0..GROWN).filter(|at| !quiet(*at)).count();
            assert_eq!(record.buckets_seen as usize, with_events);
        }
        let little = told(&mut scoring, GROWN + 2, 0.1);
        assert_eq!(little.map(|record| record.actual), (function != "high_mean").then_some(100.0), "{function}");
    }
}

#[test]
fn a_non_zero_count_knows_nothing_of_pauses() {
    // A host that has something every fourth bucket only: a count learns the pauses, a non-zero count does not.
    let learnt = |function: &str| {
        let mut scoring = job(function, "events", "host");
        let traffic = |at: u64, spike: Option<u64>| {
            let now = bucket(at, |n| if n == 3 { spike.unwrap_or(100 + at * 31 % 17) } else { usual(at, n) });
            if at.is_multiple_of(4) || spike.is_some() { now } else { without(now, &host(3)) }
        };
        (0..GROWN).for_each(|at| drop(scoring.score(traffic(at, None))));
        let ordinary = scoring.score(traffic(GROWN, None)).records;
        let spike = strongest(&scoring.score(traffic(GROWN + 1, Some(90_000))).records, "10.0.0.3").unwrap();
        (score(&ordinary, "10.0.0.3"), spike)
    };
    let (ordinary, spike) = learnt("high_non_zero_count");
    assert!(ordinary < 25.0 && spike.record_score >= 75.0, "{ordinary} {spike:?}");
    assert_eq!(u64::from(spike.buckets_seen), GROWN / 4 + 1);
    assert!((90.0..130.0).contains(&spike.typical), "that of buckets with something: {spike:?}");
    let (_, spike) = learnt("high_count");
    assert_eq!(u64::from(spike.buckets_seen), GROWN + 1);
}

#[test]
fn what_is_too_little_or_a_mean_so_far_is_not_told_early() {
    let at = GROWN + 40;
    for (function, measure, early) in
        [("low_count", "events", false), ("mean", "bytes_out", false), ("count", "events", true)]
    {
        let mut scoring = job(function, measure, "host");
        run(&mut scoring, 0..at);
        let mut rows = bucket(at, |n| if n == 3 { 90_000 } else { 1 }).rows;
        rows.iter_mut().filter(|row| row.subject == host(2)).for_each(|row| row.window.counters.bytes_out = 9_000_000);
        let found = scoring.early(at * QUARTER, &rows, &[]);
        let values: BTreeSet<&str> = found.iter().map(|record| record.value.as_str()).collect();
        assert_eq!(values, if early { BTreeSet::from(["10.0.0.3"]) } else { BTreeSet::new() }, "{function}: {found:?}");
        assert!(found.iter().all(|record| record.early));
        // And owners are told nothing to look for.
        let wanted = |_: &Job| Some(early::Wanted { threshold: 75.0, buckets: 96 });
        let limits: usize = scoring.tripwires(at * QUARTER, 1, wanted)[0].encoded_len();
        let none: usize = scoring.tripwires(at * QUARTER, 1, |_| None)[0].encoded_len();
        assert_eq!(limits > none, early, "{function}");
    }
}

#[test]
fn a_job_may_ask_for_another_model() {
    let new = |name: &str| {
        let text = "[[job]]\nid = \"j\"\nmeasure = \"events\"\nfunction = \"count\"\nsplit = \"host\"\nmodel = ";
        let jobs = Job::from_toml(&format!("{text}\"{name}\"\n")).unwrap();
        Scoring::new(&jobs, Span::QUARTER_HOUR, 64 << 20)
    };
    let grown = |name: &str| {
        let mut scoring = new(name);
        run(&mut scoring, 0..GROWN);
        scoring
    };
    let (compact, mut rich, mut restored) = (grown("compact"), grown("rich"), new("rich"));
    assert!(rich.bytes() > compact.bytes() + 5 * 17_000, "{} {}", rich.bytes(), compact.bytes());
    rich.stored().enumerate().for_each(|(number, part)| restored.restore(number, &part).unwrap());
    let next = bucket(GROWN, |n| if n == 3 { 80_000 } else { usual(GROWN, n) });
    let found = restored.score(next.clone()).records;
    assert_eq!(rich.score(next).records, found);
    assert!(score(&found, "10.0.0.3") >= 75.0, "{found:?}");
}

fn any_function() -> impl Strategy<Value = (&'static str, &'static str)> {
    let of = |measure: &'static str, names: [&'static str; 3]| {
        prop_oneof![Just((names[0], measure)), Just((names[1], measure)), Just((names[2], measure))]
    };
    prop_oneof![
        of("events", ["count", "low_count", "high_count"]),
        of("denied", ["non_zero_count", "low_non_zero_count", "high_non_zero_count"]),
        of("bytes_out", ["sum", "low_sum", "high_sum"]),
        of("bytes_in", ["mean", "low_mean", "high_mean"]),
        of("distinct_peers", ["distinct_count", "low_distinct_count", "high_distinct_count"]),
    ]
}

/// A host with its events and bytes.
fn any_host() -> impl Strategy<Value = (u8, u64, u64)> {
    (1u8..5, 0u64..100_000, 0u64..1_000_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever comes, a record is on its function's side, and its numbers are numbers.
    #[test]
    fn records_are_on_the_side_that_was_asked_for(
        (function, measure) in any_function(),
        split in prop_oneof![Just("host"), Just("site"), Just("global")],
        traffic in prop::collection::vec((1u64..40, prop::collection::vec(any_host(), 0..5)), 1..150),
    ) {
        let mut scoring = job(function, measure, split);
        let mut at = 0;
        for (gap, hosts) in traffic {
            at += if gap < 38 { 1 } else { gap * 3 };
            let make = |(number, events, bytes): (u8, u64, u64)| {
                let mut row = row("a", host(number), events % 50);
                let (bytes_out, bytes_in, denied) = (bytes, bytes / 3, number.into());
                row.window.counters = Counters { events, bytes_out, bytes_in, denied, ..Counters::default() };
                row
            };
            let mut rows: Vec<Row> = hosts.into_iter().map(make).collect();
            let mut whole = row("a", Subject::Site, 0);
            rows.iter().for_each(|row| whole.window.merge(&row.window));
            rows.push(whole);
            for record in scoring.score(Bucket { start: at * QUARTER, rows, missing: BTreeSet::new() }).records {
                let AnomalyRecord { actual, typical, lower, upper, probability, multi_bucket_impact, .. } = record;
                let numbers = [actual, typical, lower, upper, probability, multi_bucket_impact];
                prop_assert!(numbers.iter().all(|number| number.is_finite()), "{record:?}");
                prop_assert!((LEAST_SCORE..=100.0).contains(&record.record_score), "{record:?}");
                let difference = record.actual - record.typical;
                let effect = match function.split_once('_').map(|(side, _)| side) {
                    Some("low") => -difference,
                    Some("high") => difference,
                    _ => difference.abs(),
                };
                prop_assert!(effect >= 1.0, "{record:?}");
            }
        }
    }
}
