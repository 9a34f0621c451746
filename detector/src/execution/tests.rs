use proptest::prelude::*;
use spikewatch_domain::{key::Dimension, span::Span, window::Measure};
use spikewatch_proto::v1::execution::Status;

use super::*;

mod bounded;
mod lifecycle;
mod restart;
mod suppressing;

const QUARTER: u64 = 900_000;

fn rule() -> Rule {
    let rules = Rule::built_in().unwrap();
    rules.into_iter().find(|rule| rule.jobs.len() > 1).unwrap()
}

fn record(finalised: u64, bucket: u64, host: u64, score: f64) -> AnomalyRecord {
    AnomalyRecord {
        job: "high_bytes_out_by_host".into(),
        bucket_start: bucket * QUARTER,
        bucket_span: Span::QUARTER_HOUR,
        site: Some("berlin".parse().unwrap()),
        dimension: Some(Dimension::Host),
        value: format!("10.0.{}.{}", host / 256, host % 256),
        function: "high_sum".into(),
        measure: Measure::BytesOut,
        actual: 5e9,
        typical: 1e6,
        lower: 0.0,
        upper: 1e7,
        record_score: score,
        initial_record_score: score,
        probability: 1e-5,
        multi_bucket_impact: -5.0,
        finalised,
        finalised_ms: (bucket + 1) * QUARTER,
        incomplete: false,
        late: false,
        early: false,
        buckets_seen: 1000,
        contributors: Vec::new(),
        companions: Vec::new(),
        parts: Vec::new(),
        alert_from: 0.0,
    }
}

fn executions() -> Executions {
    let mut executions = Executions::new(vec![rule()], &Job::built_in(), 0);
    assert_eq!(executions.advance(1000 * QUARTER), []);
    executions
}

fn made(done: &[Execution]) -> Vec<usize> {
    done.iter().map(|execution| execution.alerts.len()).collect()
}

#[test]
fn a_flood_of_records_gives_a_hundred_alerts_a_warning_and_the_rest_later() {
    let mut executions = executions();
    for host in 0..250 {
        executions.offer(&record(host + 1, 1000, host, 75.0 + (host % 20) as f64));
    }
    let first = executions.advance(1001 * QUARTER);
    assert_eq!((made(&first), first[0].held_back), (vec![100], 150));
    let warning = first[0].warning().unwrap();
    assert_eq!(first[0].status(), Status::PartialFailure);
    assert!(
        warning.ends_with("This execution made 100 alerts and reached its limit; 150 more wait for the next."),
        "{warning}"
    );
    let scores: Vec<f64> = first[0].alerts.iter().map(|alert| alert.record_score).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b) && scores[99] >= 86.0, "the worst come first: {scores:?}");
    let second = executions.advance(1002 * QUARTER);
    assert_eq!((made(&second), second[0].held_back), (vec![100], 50));
    let third = executions.advance(1003 * QUARTER);
    assert_eq!((made(&third), third[0].held_back, third[0].status()), (vec![50], 0, Status::Succeeded));
    assert_eq!(executions.advance(1010 * QUARTER), []);
    let all = [first, second, third].concat();
    let ids: BTreeSet<_> = all.iter().flat_map(|done| &done.alerts).map(|alert| &alert.id).collect();
    assert_eq!(ids.len(), 250);
}

#[test]
fn what_waits_too_long_is_given_up_and_said() {
    let mut executions = executions();
    (0..450).for_each(|host| executions.offer(&record(host + 1, 1000, host, 80.0)));
    let done: Vec<_> = (1001..1006).flat_map(|quarter| executions.advance(quarter * QUARTER)).collect();
    assert_eq!(made(&done), [100, 100, 100, 0]);
    assert_eq!((done[3].expired, done[3].status()), (150, Status::Failed));
    assert!(done[3].warning().unwrap().contains("150 anomaly records waited longer than the look-back"));
}

#[test]
fn the_threshold_is_inclusive_and_young_series_are_only_counted() {
    let mut executions = executions();
    executions.offer(&record(1, 1000, 1, 75.0));
    executions.offer(&record(2, 1000, 2, 74.999));
    executions.offer(&AnomalyRecord { buckets_seen: 95, ..record(3, 1000, 3, 99.0) });
    executions.offer(&AnomalyRecord { job: "another".into(), ..record(4, 1000, 4, 99.0) });
    let done = executions.advance(1001 * QUARTER);
    assert_eq!((made(&done), done[0].young), (vec![1], 1));
    assert_eq!(done[0].alerts[0].value, "10.0.0.1");
}

#[test]
fn a_record_offered_again_makes_no_second_alert() {
    let mut executions = executions();
    executions.offer(&record(1, 1000, 1, 80.0));
    executions.offer(&record(1, 1000, 1, 80.0));
    let first = executions.advance(1001 * QUARTER);
    assert_eq!(made(&first), [1]);
    executions.offer(&record(1, 1000, 1, 80.0));
    assert_eq!(executions.advance(1002 * QUARTER), []);
    // Nor after a restart that remembers the alert.
    let mut restarted = Executions::new(vec![rule()], &Job::built_in(), 1);
    restarted.remember(&first[0].alerts[0]);
    restarted.offer(&record(1, 1000, 1, 80.0));
    assert_eq!(restarted.advance(1002 * QUARTER), []);
}

#[test]
fn an_alert_says_since_when() {
    let mut executions = executions();
    for bucket in 1000..1004 {
        executions.offer(&record(bucket, bucket, 1, 80.0));
        let done = executions.advance((bucket + 1) * QUARTER);
        let document: serde_json::Value = serde_json::from_str(&done[0].alerts[0].document).unwrap();
        assert_eq!(document["spikewatch"]["since"], "1970-01-11T10:00:00Z");
        let said = done[0].alerts[0].reason.contains("like this since 1970-01-11T10:00:00Z");
        assert_eq!(said, bucket > 1000, "{}", done[0].alerts[0].reason);
    }
    executions.offer(&record(9, 1006, 1, 80.0));
    let done = executions.advance(1007 * QUARTER);
    assert!(!done[0].alerts[0].reason.contains("like this since"));
}

#[test]
fn alerts_of_one_host_and_bucket_name_each_other() {
    let mut executions = executions();
    executions.offer(&record(1, 1000, 1, 80.0));
    executions.offer(&AnomalyRecord { job: "high_packets_in_by_host".into(), ..record(2, 1000, 1, 90.0) });
    executions.offer(&record(3, 1000, 2, 85.0));
    let done = executions.advance(1001 * QUARTER);
    let related = |at: usize| {
        let document: serde_json::Value = serde_json::from_str(&done[0].alerts[at].document).unwrap();
        document["spikewatch"]["related"].clone()
    };
    assert_eq!(related(0), serde_json::json!([done[0].alerts[2].id]));
    assert_eq!(related(1), serde_json::Value::Null);
    assert_eq!(related(2), serde_json::json!([done[0].alerts[0].id]));
}

#[test]
fn what_is_excepted_makes_no_alert_and_is_counted() {
    let condition = "{ field = \"host\", operator = \"in_network\", values = [\"10.0.0.0/30\"] }";
    let text = format!("[[exceptions]]\nname = \"known\"\nconditions = [{condition}]\n");
    let file = crate::exception::ExceptionFile::from_toml(&text, |_| Err(String::new())).unwrap();
    let mut rules = vec![rule()];
    file.apply(&mut rules).unwrap();
    let mut executions = Executions::new(rules, &Job::built_in(), 0);
    (1..6).for_each(|host| executions.offer(&record(host, 1000, host, 80.0)));
    let done = executions.advance(1001 * QUARTER);
    assert_eq!((made(&done), done[0].excepted, done[0].status()), (vec![2], 3, Status::Succeeded));
}

#[test]
fn a_rule_that_is_off_does_nothing() {
    let mut executions = Executions::new(vec![Rule { enabled: false, ..rule() }], &Job::built_in(), 0);
    executions.offer(&record(1, 1000, 1, 80.0));
    assert_eq!((executions.advance(1010 * QUARTER), executions.passed()), (Vec::new(), 0));
}

#[test]
fn a_job_that_is_not_there_is_a_warning_said_once() {
    let jobs: Vec<_> = Job::built_in().into_iter().filter(|job| job.id != "high_packets_in_by_host").collect();
    let mut executions = Executions::new(vec![rule()], &jobs, 0);
    executions.advance(1000 * QUARTER);
    let done = executions.advance(1001 * QUARTER);
    assert_eq!((made(&done), done[0].status()), (vec![0], Status::PartialFailure));
    assert_eq!(done[0].warnings(), ["Job \"high_packets_in_by_host\" does not exist."]);
    assert_eq!(executions.advance(1002 * QUARTER), []);
    executions.offer(&record(1, 1002, 1, 80.0));
    let done = executions.advance(1003 * QUARTER);
    assert_eq!((made(&done), done[0].status(), done[0].quiet), (vec![1], Status::PartialFailure, 1));
}

proptest! {
    /// However the clock steps, nothing is lost, nothing comes twice, no execution exceeds its limit, and the same
    /// alerts come out in the same executions.
    #[test]
    fn nothing_is_lost_or_doubled(
        hosts in proptest::collection::vec((0u64..6, 0u64..400, 70.0..100.0f64), 1..500),
        pause in any::<bool>(),
    ) {
        let mut hosts = hosts;
        hosts.sort_by_key(|(bucket, ..)| *bucket);
        let offer = |executions: &mut Executions, quarter: u64| {
            for (at, (_, host, score)) in hosts.iter().enumerate().filter(|(_, (bucket, ..))| *bucket == quarter) {
                executions.offer(&record(at as u64 + 1, 1000 + quarter, *host, *score));
            }
        };
        let run = |by_the_way: bool| {
            let mut executions = executions();
            let mut done = Vec::new();
            for quarter in 0..6 {
                let end = (1001 + quarter) * QUARTER;
                if by_the_way {
                    done.extend(executions.advance(end - 400_000));
                }
                done.extend(executions.advance(end - 1));
                offer(&mut executions, quarter);
                done.extend(executions.advance(end));
            }
            if pause {
                (1007..1020).for_each(|quarter| done.extend(executions.advance(quarter * QUARTER)));
            }
            done.extend(executions.advance(1100 * QUARTER));
            done
        };
        let done = run(false);
        prop_assert_eq!(&run(true), &done);
        let ids: Vec<&String> = done.iter().flat_map(|done| &done.alerts).map(|alert| &alert.id).collect();
        let unique: BTreeSet<_> = ids.iter().collect();
        prop_assert_eq!(unique.len(), ids.len());
        prop_assert!(done.iter().all(|done| done.alerts.len() <= 100));
        let wanted: BTreeSet<(u64, u64)> =
            hosts.iter().filter(|(.., score)| *score >= 75.0).map(|(bucket, host, _)| (*bucket, *host)).collect();
        let expired: usize = done.iter().map(|done| done.expired).sum();
        prop_assert_eq!(ids.len() + expired, wanted.len());
    }
}

fn late(finalised: u64, bucket: u64, score: f64) -> AnomalyRecord {
    AnomalyRecord { late: true, finalised_ms: (bucket + 2) * QUARTER, ..record(finalised, bucket, 1, score) }
}

#[test]
fn a_correction_raises_the_version_of_its_alert_takes_none_of_the_limit_and_never_lowers_it() {
    let mut executions = executions();
    executions.offer(&record(1, 1000, 1, 90.0));
    let first = executions.advance(1001 * QUARTER).remove(0).alerts.remove(0);
    assert_eq!((first.version, first.record), (1, 1));
    executions.offer(&late(2, 1000, 20.0));
    executions.offer(&AnomalyRecord { actual: 7e9, ..late(3, 1000, 60.0) });
    (0..120).for_each(|host| executions.offer(&record(host + 4, 1001, host + 2, 80.0)));
    let done = executions.advance(1002 * QUARTER).remove(0);
    assert_eq!((done.alerts.len(), done.updates.len(), done.held_back), (100, 1, 20));
    let second = &done.updates[0];
    assert_eq!((&second.id, second.version, second.record, second.record_score), (&first.id, 2, 3, 90.0));
    assert!(second.document.contains("\"late\":true") && second.document.contains("\"actual\":7000000000"));
    // After a restart the alert is known with what it tells of.
    let mut restarted = super::tests::executions();
    restarted.remember(second);
    restarted.offer(&late(3, 1000, 60.0));
    assert_eq!(restarted.advance(1003 * QUARTER), []);
    restarted.offer(&late(4, 1000, 95.0));
    let third = restarted.advance(1004 * QUARTER).remove(0).updates.remove(0);
    assert_eq!((third.version, third.record_score), (3, 95.0));
}

#[test]
fn a_late_record_makes_an_alert_within_the_look_back_and_is_told_of_in_a_sentence_beyond() {
    let mut executions = executions();
    executions.offer(&late(1, 1000, 90.0));
    let belated = |finalised, score| AnomalyRecord { finalised_ms: 1002 * QUARTER, ..late(finalised, 900, score) };
    executions.offer(&belated(2, 80.0));
    executions.offer(&AnomalyRecord { value: "10.9.9.9".into(), ..belated(3, 99.5) });
    executions.offer(&belated(4, 74.0));
    let done = executions.advance(1002 * QUARTER).remove(0);
    assert_eq!((done.alerts.len(), done.alerts[0].version), (1, 1));
    let warning = done.warning().unwrap();
    let said = ": 2 anomaly records of corrections came later than the look-back and made no alert; the worst is of \
                high_bytes_out_by_host, berlin 10.9.9.9, in the bucket of 1970-01-10T09:00:00Z: score 99.5.";
    assert!(warning.ends_with(said), "{warning}");
    assert_eq!(executions.advance(1003 * QUARTER), []);
}

#[test]
fn a_correction_before_the_execution_only_changes_the_numbers() {
    let mut executions = executions();
    executions.offer(&record(1, 1000, 1, 90.0));
    executions.offer(&AnomalyRecord { actual: 7e9, ..late(2, 1000, 85.0) });
    let alert = executions.advance(1001 * QUARTER).remove(0).alerts.remove(0);
    assert_eq!((alert.version, alert.record, alert.record_score), (1, 2, 90.0));
}
