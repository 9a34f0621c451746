//! Suppression: what shares an alert, for how long, and how much of it.

use super::*;
use crate::suppression::{Missing, Suppression};

fn suppressing(suppression: &str) -> Executions {
    let suppression: Suppression = toml::from_str(suppression).unwrap();
    let rule = Rule { suppression: Some(suppression), ..rule() };
    rule.check().unwrap();
    let mut executions = Executions::new(vec![rule], &Job::built_in(), 0);
    executions.advance(1000 * QUARTER);
    executions
}

#[test]
fn records_that_are_equal_in_the_fields_share_an_alert() {
    let mut executions = suppressing("by = [\"site\", \"host\"]");
    executions.offer(&record(1, 1000, 1, 80.0));
    executions.offer(&AnomalyRecord { job: "high_packets_in_by_host".into(), ..record(2, 1000, 1, 90.0) });
    executions.offer(&record(3, 1000, 2, 85.0));
    let done = executions.advance(1001 * QUARTER);
    assert_eq!((made(&done), done[0].suppressed), (vec![2], 1));
    let worst = &done[0].alerts[0];
    assert_eq!((worst.record_score, worst.suppression.as_ref().unwrap().count), (90.0, 1));
    assert!(worst.reason.contains("1 more of the same were suppressed"), "{}", worst.reason);
    let document: serde_json::Value = serde_json::from_str(&worst.document).unwrap();
    let terms = serde_json::json!([{"field": "site", "values": ["berlin"]}, {"field": "host", "values": ["10.0.0.1"]}]);
    assert_eq!(document["spikewatch"]["suppression"]["terms"], terms);
    // The next execution begins anew.
    executions.offer(&record(4, 1001, 1, 80.0));
    assert_eq!(made(&executions.advance(1002 * QUARTER)), [1]);
}

#[test]
fn within_its_window_an_alert_of_an_earlier_execution_absorbs() {
    let mut executions = suppressing("by = [\"host\"]\nwindow = \"1h\"");
    executions.offer(&record(1, 1000, 1, 80.0));
    let first = executions.advance(1001 * QUARTER);
    executions.offer(&record(2, 1001, 1, 99.0));
    let second = executions.advance(1002 * QUARTER);
    assert_eq!((made(&second), second[0].suppressed, second[0].updates.len()), (vec![0], 1, 1));
    let update = &second[0].updates[0];
    let suppressed = update.suppression.as_ref().unwrap();
    assert_eq!((&update.id, update.version), (&first[0].alerts[0].id, 2));
    assert_eq!((suppressed.count, suppressed.start, suppressed.end), (1, 1000 * QUARTER, 1002 * QUARTER));
    // The same record again is not counted again.
    executions.offer(&record(2, 1001, 1, 99.0));
    assert_eq!(executions.advance(1003 * QUARTER), []);
    executions.offer(&record(3, 1004, 1, 80.0));
    assert_eq!(made(&executions.advance(1005 * QUARTER)), [1], "an hour after it was made, it absorbs no more");
}

#[test]
fn a_missing_field_is_a_group_or_an_alert_each() {
    let run = |suppression: &str| {
        let mut executions = suppressing(suppression);
        (1..4).for_each(|host| executions.offer(&record(host, 1000, host, 80.0)));
        made(&executions.advance(1001 * QUARTER))
    };
    assert_eq!(run("by = [\"user\"]"), [1]);
    assert_eq!(run("by = [\"user\"]\nmissing = \"alert\""), [3]);
}

#[test]
fn five_times_the_limit_is_folded_and_no_more() {
    let mut executions = suppressing("by = [\"site\"]");
    (0..700).for_each(|host| executions.offer(&record(host + 1, 1000, host, 80.0)));
    let done = executions.advance(1001 * QUARTER);
    assert_eq!((made(&done), done[0].suppressed, done[0].held_back), (vec![1], 499, 200));
    let rest = executions.advance(1002 * QUARTER);
    assert_eq!((made(&rest), rest[0].suppressed, rest[0].held_back), (vec![1], 199, 0));
}

#[test]
fn what_does_not_fit_is_named() {
    let check = |by: Vec<crate::field::Field>| {
        let suppression = Suppression { by, window: None, missing: Missing::Suppress };
        Rule { suppression: Some(suppression), ..rule() }.check().unwrap_err().to_string()
    };
    use crate::field::Field::{Host, Job, Measure, Site};
    assert!(check(Vec::new()).contains("suppression is by 0 fields, expected 1 to 3"));
    assert!(check(vec![Host, Job, Measure, Site]).contains("by 4 fields"));
    assert!(check(vec![Host, Host]).contains("by host twice"));
}

proptest! {
    /// Whatever comes: every record is an alert, folded into one, waits, or was given up; limits hold; a group has one
    /// alert an execution.
    #[test]
    fn every_record_is_accounted_for(
        hosts in proptest::collection::vec((0u64..4, 0u64..40, 75.0..100.0f64), 1..600),
        limit in 1usize..20,
        window in any::<bool>(),
    ) {
        let mut hosts = hosts;
        hosts.sort_by_key(|(bucket, ..)| *bucket);
        hosts.dedup_by_key(|(bucket, host, _)| (*bucket, *host));
        let by = if window { "by = [\"value\"]\nwindow = \"1h\"" } else { "by = [\"value\"]" };
        let suppression: Suppression = toml::from_str(by).unwrap();
        let rule = Rule { suppression: Some(suppression), max_signals: limit, ..rule() };
        let mut executions = Executions::new(vec![rule], &Job::built_in(), 0);
        executions.advance(1000 * QUARTER);
        let (mut offered, mut alerts, mut folded, mut expired) = (BTreeSet::new(), 0, 0, 0);
        for quarter in 0..12 {
            for (at, (bucket, host, score)) in hosts.iter().enumerate().filter(|(_, (bucket, ..))| *bucket == quarter) {
                executions.offer(&record(at as u64 + 1, 1000 + quarter, *host, *score));
                offered.insert((*bucket, *host));
            }
            for done in executions.advance((1001 + quarter) * QUARTER) {
                prop_assert!(done.alerts.len() <= limit);
                prop_assert!(done.alerts.len() + done.suppressed <= 5 * limit);
                let values: BTreeSet<_> = done.alerts.iter().map(|alert| &alert.value).collect();
                prop_assert_eq!(values.len(), done.alerts.len());
                (alerts, folded) = (alerts + done.alerts.len(), folded + done.suppressed);
                expired += done.expired;
            }
        }
        prop_assert_eq!(alerts + folded + expired, offered.len());
    }
}
