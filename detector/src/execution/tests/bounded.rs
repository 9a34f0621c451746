//! What the bound on false alerts holds: no alert of it, early, late or at its bucket's end; and it is said.

use super::*;

/// A record that needs a score of 90.
fn held(finalised: u64, bucket: u64, host: u64, score: f64) -> AnomalyRecord {
    AnomalyRecord { alert_from: 90.0, ..record(finalised, bucket, host, score) }
}

#[test]
fn what_it_holds_makes_no_alert_and_the_execution_says_how_many_and_from_where() {
    let mut executions = executions();
    executions.offer(&held(1, 1000, 1, 89.9));
    executions.offer(&held(2, 1000, 2, 90.0));
    executions.offer(&held(3, 1000, 3, 60.0));
    executions.offer(&AnomalyRecord { alert_from: 101.4, ..record(4, 1000, 4, 100.0) });
    executions.offer(&AnomalyRecord { buckets_seen: 95, ..held(5, 1000, 5, 80.0) });
    let done = executions.advance(1001 * QUARTER);
    assert_eq!((made(&done), done[0].bounded, done[0].young), (vec![1], (2, 101.4), 1));
    assert_eq!(done[0].alerts[0].value, "10.0.0.2");
    assert_eq!(done[0].status(), Status::Succeeded, "it works as meant");
    let told = v1::Execution::from(&done[0]);
    assert_eq!((told.bounded, told.alert_from), (2, 101.4));
    // An execution that has nothing else to say says that, once.
    executions.offer(&held(6, 1001, 1, 80.0));
    let done = executions.advance(1002 * QUARTER);
    assert_eq!((made(&done), done[0].bounded), (vec![0], (1, 90.0)));
    assert_eq!(executions.advance(1003 * QUARTER), []);
}

#[test]
fn a_rule_of_a_higher_threshold_keeps_its_own() {
    let mut executions = Executions::new(vec![Rule { threshold: 95.0, ..rule() }], &Job::built_in(), 0);
    executions.offer(&held(1, 1000, 1, 94.0));
    executions.offer(&held(2, 1000, 2, 95.0));
    let done = executions.advance(1001 * QUARTER);
    assert_eq!((made(&done), done[0].bounded), (vec![1], (0, 0.0)));
}

#[test]
fn early_it_makes_none_and_a_correction_that_lifts_it_over_makes_one() {
    let mut executions = executions();
    let early = |score| AnomalyRecord { early: true, ..held(0, 1000, 1, score) };
    assert_eq!(executions.early(&[early(89.0)], 1000 * QUARTER + 60_000), []);
    assert_eq!(executions.early(&[AnomalyRecord { value: "10.0.0.9".into(), ..early(91.0) }], 1000 * QUARTER).len(), 1);
    executions.offer(&held(1, 1000, 1, 89.0));
    let first = executions.advance(1001 * QUARTER);
    assert_eq!((made(&first), first[0].bounded.0), (vec![0], 1));
    executions.offer(&AnomalyRecord { alert_from: 90.0, ..late(2, 1000, 92.0) });
    assert_eq!(made(&executions.advance(1002 * QUARTER)), [1]);
}

#[test]
fn a_run_by_hand_heeds_it() {
    let mut executions = executions();
    let mut run = executions.begin_manual(&rule().id, (0, u64::MAX), []).unwrap();
    run.offer(&held(1, 1000, 1, 80.0));
    run.offer(&held(2, 1000, 2, 93.0));
    let done = executions.finish_manual(run, 1001 * QUARTER);
    assert_eq!((done.alerts.len(), done.bounded), (1, (1, 90.0)));
}
