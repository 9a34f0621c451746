//! Incidents from their first alert to their end, gaps, manual runs.

use serde_json::Value;

use super::*;

fn document(alert: &Alert) -> Value {
    serde_json::from_str(&alert.document).unwrap()
}

/// Offers records of one bucket and runs what is due at its end.
fn bucket(executions: &mut Executions, bucket: u64, records: &[AnomalyRecord]) -> Vec<Execution> {
    let end = (bucket + 1) * QUARTER;
    let mut done = executions.advance(end - 1);
    records.iter().for_each(|record| executions.offer(record));
    executions.scored(end);
    done.extend(executions.advance(end));
    done
}

#[test]
fn the_first_alert_tells_how_long_it_lasts_and_when_it_ended() {
    let mut executions = executions();
    let first = bucket(&mut executions, 1000, &[record(1, 1000, 1, 80.0)]);
    let head = &first[0].alerts[0];
    assert_eq!((head.version, head.incident.id == head.id, head.incident.ended), (1, true, false));
    let second = bucket(&mut executions, 1001, &[record(2, 1001, 1, 95.0)]);
    let next = &second[0].alerts[0];
    assert_eq!((&next.incident.id, next.incident.start, next.incident.buckets), (&head.id, 1000 * QUARTER, 2));
    let update = &second[0].updates[0];
    assert_eq!((&update.id, update.version, update.created), (&head.id, 2, 1001 * QUARTER));
    assert_eq!((update.incident.buckets, update.incident.peak_score), (2, 95.0));
    assert!(update.reason.contains("It has lasted 30m by now"), "{}", update.reason);
    let third = bucket(&mut executions, 1002, &[]);
    assert_eq!((made(&third), third[0].updates.len()), (vec![0], 1));
    let ended = &third[0].updates[0];
    assert_eq!((&ended.id, ended.version, ended.incident.ended), (&head.id, 3, true));
    assert!(ended.reason.contains("It ended at 1970-01-11T10:30:00Z and lasted 30m."), "{}", ended.reason);
    let incident = &document(ended)["spikewatch"]["incident"];
    assert_eq!((&incident["status"], &incident["duration_s"]), (&"ended".into(), &1800.into()));
    assert_eq!(bucket(&mut executions, 1003, &[]), [], "nothing more is told");
    // What comes later is another incident.
    let again = bucket(&mut executions, 1004, &[record(3, 1004, 1, 80.0)]);
    assert_eq!(again[0].alerts[0].incident.start, 1004 * QUARTER);
}

#[test]
fn a_late_record_that_is_worse_makes_a_newer_version_and_never_a_better_one() {
    let mut executions = executions();
    let first = bucket(&mut executions, 1000, &[record(1, 1000, 1, 80.0)]);
    let id = first[0].alerts[0].id.clone();
    let late = |finalised, score| AnomalyRecord { late: true, ..record(finalised, 1000, 1, score) };
    let better = bucket(&mut executions, 1001, &[late(2, 79.0)]);
    assert!(
        better.iter().all(|done| done.alerts.is_empty() && !done.updates.iter().any(|alert| alert.record_score < 80.0))
    );
    let worse = bucket(&mut executions, 1002, &[late(3, 99.0)]);
    let update = worse.iter().flat_map(|done| &done.updates).find(|alert| alert.record_score == 99.0).unwrap();
    assert_eq!((&update.id, document(update)["spikewatch"]["late"].as_bool()), (&id, Some(true)));
}

#[test]
fn missed_executions_are_caught_up_with_and_a_longer_gap_is_said() {
    let live = || {
        let mut executions = executions();
        executions.follow_clock(u64::MAX);
        (0..450).for_each(|host| executions.offer(&record(host + 1, 1000, host, 80.0)));
        executions
    };
    // Three are missed: each has its own limit, as if it had run in time.
    let done = live().advance(1004 * QUARTER);
    assert_eq!((made(&done), done.iter().any(|done| done.gap.is_some())), (vec![100, 100, 100, 0], false));
    let done = live().advance(1020 * QUARTER);
    assert_eq!(done[0].gap, Some((1000 * QUARTER, 1016 * QUARTER)));
    assert_eq!((done[0].at, done.len()), (1016 * QUARTER, 4));
    assert!(
        done[0].warnings()[1].starts_with("No execution ran between 1970-01-11T10:00:00Z and 1970-01-11T14:00:00Z")
    );
    assert_eq!((done[0].status(), done[0].alerts.len()), (Status::PartialFailure, 100), "nothing of it is lost");
}

#[test]
fn scoring_that_stands_still_is_a_warning() {
    let mut executions = executions();
    executions.follow_clock(4 * QUARTER);
    executions.scored(1000 * QUARTER);
    assert_eq!(executions.advance(1004 * QUARTER), []);
    let done = executions.advance(1005 * QUARTER);
    assert!(done[0].warnings()[0].starts_with("Nothing is scored any more"), "{done:?}");
    executions.scored(1005 * QUARTER);
    let done = executions.advance(1006 * QUARTER);
    assert_eq!((done.len(), done[0].status()), (1, Status::Succeeded), "that it goes on is said, too");
}

#[test]
fn a_manual_run_makes_what_is_missing_and_nothing_twice() {
    let mut executions = executions();
    let records: Vec<_> = (0..150).map(|host| record(host + 1, 1000 + host / 60, host, 80.0)).collect();
    let range = (1000 * QUARTER, 1002 * QUARTER);
    let run = |executions: &mut Executions, made: Vec<String>| {
        let mut run = executions.begin_manual("Spike in a Host's Traffic", range, made).unwrap();
        records.iter().for_each(|record| run.offer(record));
        executions.finish_manual(run, 2000 * QUARTER)
    };
    let first = run(&mut executions, Vec::new());
    assert_eq!((first.alerts.len(), first.held_back, first.manual), (100, 20, Some(range)));
    assert!(first.warnings()[0].contains("20 are left; run it again"), "{:?}", first.warnings());
    let alert = &first.alerts[0];
    assert_eq!((alert.manual, &document(alert)["spikewatch"]["execution_type"]), (true, &"manual".into()));
    let ids: Vec<String> = first.alerts.iter().map(|alert| alert.id.clone()).collect();
    let second = run(&mut executions, ids.clone());
    assert_eq!((second.alerts.len(), second.status()), (20, Status::Succeeded));
    assert!(second.alerts.iter().all(|alert| !ids.contains(&alert.id)));
    // The schedule knows of them: only the last bucket is left for it.
    records.iter().for_each(|record| executions.offer(record));
    assert_eq!(made(&executions.advance(2001 * QUARTER)), [30]);
    assert!(executions.begin_manual("no such rule", range, Vec::new()).is_none());
}
