//! What calendars leave out.

use super::*;
use crate::calendar::Calendar;

/// The first bucket of the fifteenth day, which the calendar covers.
const COVERED: u64 = 96 * 14;

fn heeding(rest: &str) -> Scoring {
    let text = format!("name = \"c\"\n{rest}\nevents = [{{ start = \"1970-01-15\", duration = \"PT15M\" }}]");
    let calendar = Calendar::new(toml::from_str(&text).unwrap(), None).unwrap();
    let mut scoring = scoring();
    scoring.heed(Calendars::new(vec![calendar]));
    run(&mut scoring, 0..COVERED);
    scoring
}

fn spike(scoring: &mut Scoring, at: u64) -> Vec<AnomalyRecord> {
    scoring.score(bucket(at, |n| if n == 3 { 80_000 } else { usual(at, n) })).records
}

fn of_host(records: &[AnomalyRecord]) -> Option<&AnomalyRecord> {
    records.iter().find(|record| record.job == "high_count_network_events_by_host" && record.value == "10.0.0.3")
}

/// How many buckets host 3 had learnt before the one after the covered one.
fn learnt(scoring: &mut Scoring) -> u32 {
    of_host(&spike(scoring, COVERED + 1)).unwrap().buckets_seen
}

#[test]
fn a_result_that_is_skipped_is_learnt_and_only_where_the_calendar_says_so() {
    let mut scoring = heeding("effect = \"skip_result\"\nhosts = [\"10.0.0.2/31\"]");
    let records = spike(&mut scoring, COVERED);
    assert!(records.iter().all(|record| record.value != "10.0.0.3"), "{records:?}");
    assert!(records.iter().any(|record| record.job == "high_count_network_events" && record.record_score > 75.0));
    assert_eq!(u64::from(learnt(&mut scoring)), COVERED + 1);
}

#[test]
fn a_model_update_that_is_skipped_makes_a_record_all_the_same() {
    let mut scoring = heeding("effect = \"skip_model_update\"\njobs = [\"*_by_host\"]");
    assert!(of_host(&spike(&mut scoring, COVERED)).unwrap().record_score > 75.0);
    assert_eq!(u64::from(learnt(&mut scoring)), COVERED);
}

#[test]
fn what_is_skipped_leaves_no_trace() {
    let (mut one, mut other) = (heeding(""), heeding(""));
    assert_eq!(spike(&mut one, COVERED), []);
    other.score(bucket(COVERED, |n| usual(COVERED, n)));
    let after = spike(&mut one, COVERED + 1);
    assert!(of_host(&after).unwrap().record_score > 75.0);
    assert_eq!(after, spike(&mut other, COVERED + 1));
}

#[test]
fn silence_within_it_is_not_learnt_as_nothing() {
    let silent = |rest: &str| {
        let mut scoring = heeding(rest);
        let mut quiet = bucket(COVERED, |n| usual(COVERED, n));
        quiet.rows.retain(|row| row.subject != host(3));
        scoring.score(quiet);
        u64::from(learnt(&mut scoring))
    };
    assert_eq!((silent(""), silent("effect = \"skip_result\"")), (COVERED, COVERED + 1));
    // Nor is that of the whole site, which is known only when it is back.
    let mut scoring = heeding("");
    assert_eq!(u64::from(learnt(&mut scoring)), COVERED);
}

#[test]
fn a_correction_of_a_covered_bucket_makes_no_record() {
    let mut scoring = heeding("effect = \"skip_result\"");
    scoring.score(bucket(COVERED, |n| usual(COVERED, n)));
    let change = Change {
        site: "a".parse().unwrap(),
        subject: host(3),
        before: window(100),
        after: window(80_000),
        incomplete: false,
    };
    let correct = |start| Correction { start, changes: vec![change.clone()], sites: None };
    assert_eq!(scoring.correct(&correct(COVERED * QUARTER)).records, []);
    assert!(!scoring.correct(&correct((COVERED - 1) * QUARTER)).records.is_empty());
}

#[test]
fn a_calendar_may_be_about_a_joint_job_alone() {
    let of = |records: &[AnomalyRecord], job: &str| {
        records.iter().any(|record| record.job == job && record.value == "10.0.0.3" && record.record_score > 75.0)
    };
    let told = |rest: &str| {
        let records = spike(&mut heeding(rest), COVERED);
        (of(&records, "host_activity"), of(&records, "high_count_network_events_by_host"))
    };
    assert_eq!(told("jobs = [\"host_activity\"]\neffect = \"skip_result\""), (false, true));
    assert_eq!(told("jobs = [\"host_exfiltration\"]\neffect = \"skip_result\""), (true, true));
    assert_eq!(told("jobs = [\"*_by_host\"]\neffect = \"skip_result\""), (true, false));
}
