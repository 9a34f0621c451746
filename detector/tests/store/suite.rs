//! What a store does, wherever it lies.

use std::time::Duration;

use spikewatch_detector::execution::Execution;
use spikewatch_detector::store::{
    Claim, CommitWrite, Enrolled, Finished, Kept, LogEntry, LogKind, Range, Settled, SnapshotId, StoreError, Write,
};
use spikewatch_proto::convert::{cluster::Incarnation, commit::Pair};

use super::place::*;

/// Runs every case, each on a new store.
pub(crate) async fn all(place: &Place) {
    commits_are_applied_by_compare_and_set(place).await;
    what_is_committed_together_is_applied_together_or_not_at_all(place).await;
    thousands_of_pairs_and_rows_are_written_as_they_are(place).await;
    the_log_is_read_in_order_with_what_is_missing(place).await;
    what_is_late_is_read_in_the_order_of_the_log(place).await;
    a_number_that_cannot_be_stored_is_refused(place).await;
    a_leader_that_was_replaced_writes_nothing(place).await;
    a_lease_runs_out_or_is_released_and_only_then_passes_on(place).await;
    the_roster_is_kept(place).await;
    records_are_read_by_range_score_and_time(place).await;
    an_alert_is_replaced_by_a_higher_version_only_and_sinks_get_each_once(place).await;
    what_rules_did_and_know_is_kept(place).await;
    a_parcel_is_tried_again_and_given_up(place).await;
    a_snapshot_is_usable_when_it_is_finished(place).await;
    what_is_old_is_forgotten_in_steps_by_kind(place).await;
    incarnations_that_are_long_gone_are_forgotten(place).await;
}

async fn commits_are_applied_by_compare_and_set(place: &Place) {
    let (store, term) = place.led().await;
    store.apply(term, vec![open(1, 1), commit(1, 1, 1, 5), commit(1, 1, 2, 6)]).await.unwrap();
    let conflict =
        |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::Conflict(1))), "{result:?}");
    conflict(store.apply(term, vec![commit(1, 1, 2, 7)]).await);
    conflict(store.apply(term, vec![commit(1, 1, 4, 7)]).await);
    conflict(store.apply(term, vec![commit(1, 2, 3, 7)]).await);
    conflict(store.apply(term, vec![open(1, 3)]).await);
    store.apply(term, vec![open(1, 2)]).await.unwrap();
    conflict(store.apply(term, vec![commit(1, 1, 3, 7)]).await);
    conflict(store.apply(term, vec![open(1, 1)]).await);
    let loaded = store.load().await.unwrap();
    let shard = &loaded.shards[1];
    assert_eq!((shard.epoch, shard.commit_no, shard.bucket, shard.digest), (2, 2, Some(6 * QUARTER), u64::MAX - 2));
    assert_eq!(shard.owner, "a1");
    assert_eq!(shard.pairs.values().collect::<Vec<_>>(), [&Pair { bucket: 6 * QUARTER, seq: 2 }]);
    assert_eq!((loaded.counts.commits, loaded.counts.windows), (2, 6));
    assert_eq!(loaded.lineage, [9; 16]);
    assert_eq!((&loaded.shards[0].epoch, loaded.shards.len()), (&0, 4));
}

async fn what_is_committed_together_is_applied_together_or_not_at_all(place: &Place) {
    let (store, term) = place.led().await;
    store.apply(term, vec![open(0, 1), open(1, 1)]).await.unwrap();
    let failed = store.apply(term, vec![commit(0, 1, 1, 5), commit(1, 1, 7, 5)]).await;
    assert!(matches!(failed, Err(StoreError::Conflict(1))));
    assert_eq!(store.load().await.unwrap().shards[0].commit_no, 0);
    assert_eq!(store.buckets(None, u64::MAX, 10).await.unwrap(), Vec::<u64>::new());
    store.apply(term, vec![commit(0, 1, 1, 5), commit(1, 1, 1, 5)]).await.unwrap();
    assert_eq!(store.buckets(None, u64::MAX, 10).await.unwrap(), [5 * QUARTER]);
    assert_eq!(store.log(5 * QUARTER).await.unwrap().0.len(), 2);
}

async fn thousands_of_pairs_and_rows_are_written_as_they_are(place: &Place) {
    let (store, term) = place.led().await;
    let pairs: Vec<_> = (0..3000u64)
        .map(|number| {
            let mut of = incarnation(&format!("c{}", number % 1000), 1);
            of.id[..8].copy_from_slice(&number.to_be_bytes());
            (of, Pair { bucket: 5 * QUARTER, seq: number })
        })
        .collect();
    let log: Vec<_> = (0..100u8).map(|number| entry(5, LogKind::Windows, &[number; 3])).collect();
    let write = |commit_no, log| {
        let mut write = commit(2, 1, commit_no, 5);
        let Write::Commit(commit) = &mut write else { unreachable!() };
        (commit.pairs, commit.log) = (pairs.clone(), log);
        write
    };
    store.apply(term, vec![open(2, 1), write(1, log.clone())]).await.unwrap();
    // Again, so that every pair is there already.
    store.apply(term, vec![write(2, Vec::new())]).await.unwrap();
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.shards[2].pairs, pairs.into_iter().collect());
    assert_eq!(store.log(5 * QUARTER).await.unwrap().0, log);
    assert_eq!(loaded.counts.windows, 300);
}

async fn the_log_is_read_in_order_with_what_is_missing(place: &Place) {
    let (store, term) = place.led().await;
    let write = |shard, commit_no, log, missing: &[(u64, &str)]| {
        let named = |(bucket, site): &(u64, &str)| (bucket * QUARTER, (*site).to_owned(), "c".to_owned());
        let mut write = commit(shard, 1, commit_no, 5);
        let Write::Commit(commit) = &mut write else { unreachable!() };
        (commit.log, commit.missing) = (log, missing.iter().map(named).collect());
        write
    };
    let early = entry(5, LogKind::Windows, b"shard 0");
    let late = entry(5, LogKind::Correction, b"shard 0, later");
    let other = entry(5, LogKind::Windows, b"shard 1");
    store.apply(term, vec![open(0, 1), open(1, 1)]).await.unwrap();
    store.apply(term, vec![write(1, 1, vec![other.clone()], &[(5, "y"), (5, "x")])]).await.unwrap();
    store.apply(term, vec![write(0, 1, vec![early.clone()], &[(5, "x"), (7, "z")])]).await.unwrap();
    store.apply(term, vec![write(0, 2, vec![late.clone()], &[])]).await.unwrap();
    assert_eq!(store.log(5 * QUARTER).await.unwrap(), (vec![early, late, other], vec!["x".into(), "y".into()]));
    // A bucket that nothing but a missing member is known of is one all the same.
    assert_eq!(store.buckets(None, 9 * QUARTER, 10).await.unwrap(), [5 * QUARTER, 7 * QUARTER]);
    assert_eq!(store.buckets(Some(5 * QUARTER), 9 * QUARTER, 10).await.unwrap(), [7 * QUARTER]);
    assert_eq!(store.buckets(None, 6 * QUARTER, 10).await.unwrap(), [5 * QUARTER]);
    assert_eq!(store.buckets(None, 9 * QUARTER, 1).await.unwrap(), [5 * QUARTER]);
    let counts = store.load().await.unwrap().counts;
    assert_eq!((counts.commits, counts.windows, counts.corrections), (3, 6, 3));
}

async fn what_is_late_is_read_in_the_order_of_the_log(place: &Place) {
    let (store, term) = place.led().await;
    store.apply(term, vec![open(0, 1), open(1, 1)]).await.unwrap();
    let write = |shard, commit_no, log: &[LogEntry]| {
        let mut write = commit(shard, 1, commit_no, 9);
        let Write::Commit(commit) = &mut write else { unreachable!() };
        commit.log = log.to_vec();
        write
    };
    let late = |bucket: u64, passed: u64, blob: &[u8]| entry(bucket, LogKind::Late { passed: passed * QUARTER }, blob);
    let (first, second, third) = (late(5, 6, b"1"), late(4, 6, b"2"), late(5, 8, b"3"));
    let (windows, correction) = (entry(5, LogKind::Windows, b"w"), entry(5, LogKind::Correction, b"c"));
    store
        .apply(
            term,
            vec![write(1, 1, &[windows.clone(), correction.clone()]), write(0, 1, std::slice::from_ref(&windows))],
        )
        .await
        .unwrap();
    store.apply(term, vec![write(1, 2, &[first.clone(), second.clone()])]).await.unwrap();
    store.apply(term, vec![write(0, 2, std::slice::from_ref(&third))]).await.unwrap();
    let all = store.late(0, u64::MAX, 10).await.unwrap();
    let found: Vec<_> = all.iter().map(|late| (late.shard, late.entry.clone())).collect();
    assert_eq!(found, [(1, first.clone()), (1, second.clone()), (0, third)]);
    assert_eq!(store.late(0, 7 * QUARTER, 10).await.unwrap(), all[..2]);
    assert_eq!(store.late(all[0].position, u64::MAX, 1).await.unwrap(), all[1..2]);
    let earlier = async |shard, position| store.earlier(5 * QUARTER, shard, position).await.unwrap();
    assert_eq!(earlier(Some(1), all[0].position).await, [windows.clone(), correction.clone()]);
    assert_eq!(earlier(None, all[2].position).await, [windows.clone(), windows, correction, first]);
    assert_eq!(store.load().await.unwrap().counts.corrections, 12);
    let position = all[1].position;
    store.finish(term, Finished { late: Some(position), ..Finished::default() }).await.unwrap();
    assert_eq!(store.resume().await.unwrap().late, position);
}

async fn a_number_that_cannot_be_stored_is_refused(place: &Place) {
    let (store, term) = place.led().await;
    store.apply(term, vec![open(0, 1)]).await.unwrap();
    let mut write = commit(0, 1, 1, 5);
    if let Write::Commit(CommitWrite { pairs, .. }) = &mut write {
        pairs[0].1.seq = 1 << 63;
    }
    let refused = store.apply(term, vec![write]).await.unwrap_err();
    assert!(refused.to_string().contains("9223372036854775808 is too large to be stored"), "{refused}");
    assert_eq!(store.load().await.unwrap().shards[0].commit_no, 0);
}

async fn a_leader_that_was_replaced_writes_nothing(place: &Place) {
    let (store, old) = place.led().await;
    store.apply(old, vec![open(0, 1)]).await.unwrap();
    store.release(old).await.unwrap();
    let new = claim(&*store, "b").await;
    assert!(new > old);
    let deposed = |result: Result<(), StoreError>| {
        let error = result.unwrap_err();
        assert!(error.is_deposed() && matches!(error, StoreError::Deposed(_)), "{error}");
    };
    deposed(store.apply(old, vec![commit(0, 1, 1, 5)]).await);
    deposed(store.assigned(old, 7).await);
    deposed(store.enrol(old, vec![(incarnation("c", 1), Enrolled::default())]).await);
    deposed(store.finish(old, Finished { scored: Some(QUARTER), ..Finished::default() }).await);
    deposed(store.finish_snapshot(old, SnapshotId { bucket: 1, jobs: "j".into(), version: 1 }, 0).await);
    deposed(store.take_parcels(old, "s".into(), 0, 1, 1).await.map(|_| ()));
    deposed(store.prune(old, Kept::Windows, 0, 1).await.map(|_| ()));
    deposed(store.renew(old, LEASE).await);
    let loaded = store.load().await.unwrap();
    assert_eq!((loaded.shards[0].commit_no, loaded.assignment, loaded.members.len()), (0, 0, 0));
    assert_eq!(store.resume().await.unwrap().scored, None);
    // It may try to leave in good order; its successor stays.
    store.release(old).await.unwrap();
    assert_eq!(store.leader().await.unwrap().unwrap().holder, "b");
    store.apply(new, vec![commit(0, 1, 1, 5)]).await.unwrap();
}

async fn a_lease_runs_out_or_is_released_and_only_then_passes_on(place: &Place) {
    let store = place.store().await;
    assert_eq!(store.leader().await.unwrap(), None, "opening is not leading");
    let first = claim(&*store, "a").await;
    assert_eq!(first.number(), 1);
    let Claim::HeldBy(leader) = store.claim("b", LEASE).await.unwrap() else { panic!("two leaders") };
    assert_eq!((leader.term, leader.holder.as_str()), (first, "a"));
    assert!(leader.remaining > LEASE / 2 && leader.remaining <= LEASE, "{leader:?}");
    assert_eq!(store.leader().await.unwrap().unwrap().term, first);
    // A restarted process doesn't wait for itself, but its old self is deposed.
    let second = claim(&*store, "a").await;
    assert!(store.renew(first, LEASE).await.unwrap_err().is_deposed());
    store.renew(second, Duration::from_millis(300)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(store.leader().await.unwrap(), None, "it ran out");
    // Nobody took over, so it may go on.
    store.renew(second, LEASE).await.unwrap();
    assert!(matches!(store.claim("b", LEASE).await.unwrap(), Claim::HeldBy(_)));
    store.release(second).await.unwrap();
    assert!(store.renew(second, LEASE).await.unwrap_err().is_deposed(), "released is released");
    assert_eq!(claim(&*store, "b").await.number(), 3);
}

async fn the_roster_is_kept(place: &Place) {
    let (store, term) = place.led().await;
    let (one, two) = (incarnation("c", 1), incarnation("d", 2));
    let enrolled = Enrolled { last_bucket: 5 * QUARTER, last_heard: 77, ..Enrolled::default() };
    store.enrol(term, vec![(one.clone(), enrolled), (two.clone(), enrolled)]).await.unwrap();
    let retired = Enrolled { retired: true, absent: true, ..enrolled };
    store.enrol(term, vec![(two.clone(), retired)]).await.unwrap();
    store.assigned(term, 12).await.unwrap();
    store.assigned(term, 13).await.unwrap();
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.members, [(one, enrolled), (two, retired)].into());
    assert_eq!(loaded.assignment, 13);
}

async fn records_are_read_by_range_score_and_time(place: &Place) {
    let (store, term) = place.led().await;
    let records = vec![record(1, 5, 10.0), record(2, 5, 90.0), record(3, 6, 50.0)];
    let executions = vec![execution(4, Vec::new())];
    let finished = Finished { scored: Some(6 * QUARTER), records: records.clone(), executions, ..Finished::default() };
    store.finish(term, finished).await.unwrap();
    let all = Range::of(0, 0);
    assert_eq!(store.records(all, 0, 0.0, 10).await.unwrap(), records);
    assert_eq!(store.records(all, 1, 60.0, 10).await.unwrap(), [records[1].clone()]);
    assert_eq!(store.records(Range::of(6 * QUARTER, 0), 0, 0.0, 10).await.unwrap(), [records[2].clone()]);
    assert_eq!(store.records(Range::of(0, 6 * QUARTER), 0, 0.0, 1).await.unwrap(), [records[0].clone()]);
    assert_eq!(store.recent_records(6 * QUARTER, 0.0).await.unwrap(), [records[2].clone()]);
    let resume = store.resume().await.unwrap();
    assert_eq!((resume.scored, resume.finalised, resume.execution, resume.alerts), (Some(6 * QUARTER), 3, 4, 0));
}

async fn an_alert_is_replaced_by_a_higher_version_only_and_sinks_get_each_once(place: &Place) {
    let (store, term) = place.led().await;
    let finish = async |number, alerts| {
        let executions = vec![execution(number, alerts)];
        let sinks = vec!["mail".to_owned(), "hook".to_owned()];
        store.finish(term, Finished { executions, sinks, ..Finished::default() }).await.unwrap();
    };
    let take = async |sink: &str, now| store.take_parcels(term, sink.into(), now, now + 100, 10).await.unwrap();
    finish(1, vec![alert(1, 1, "early"), alert(2, 1, "other")]).await;
    let parcels = take("mail", 0).await;
    assert_eq!(parcels.iter().map(|p| p.alert.reason.as_str()).collect::<Vec<_>>(), ["early", "other"]);
    assert_eq!(take("mail", 99).await.len(), 0, "taken already");
    store.settle(term, parcels[0].number, Settled::Delivered, 50).await.unwrap();
    finish(2, vec![alert(1, 2, "final")]).await;
    finish(3, vec![alert(1, 1, "stale"), alert(1, 2, "again")]).await;
    let shown = store.alerts(Range::of(0, 0), 0, 10).await.unwrap();
    assert_eq!(shown.iter().map(|(_, alert)| alert.reason.as_str()).collect::<Vec<_>>(), ["final", "other"]);
    assert_eq!(store.alerts(Range::of(0, 0), shown[0].0, 10).await.unwrap(), shown[1..]);
    // Mail has had the first version, so gets the second; the hook gets the second only.
    let again = take("mail", 200).await;
    assert_eq!(again.iter().map(|p| (p.alert.version, p.attempt)).collect::<Vec<_>>(), [(1, 2), (2, 1)]);
    let hook = take("hook", 0).await;
    assert_eq!(hook.iter().map(|p| p.alert.reason.as_str()).collect::<Vec<_>>(), ["other", "final"]);
    assert_eq!(store.resume().await.unwrap().alerts, 2);
}

async fn what_rules_did_and_know_is_kept(place: &Place) {
    let (store, term) = place.led().await;
    let known = |rule: &str, text: &str| (rule.to_owned(), text.as_bytes().to_vec());
    let finish = async |executions, progress| {
        store.finish(term, Finished { executions, progress, ..Finished::default() }).await.unwrap();
    };
    let of = |number, rule: &str| Execution { rule_id: rule.into(), held_back: 7, ..execution(number, Vec::new()) };
    let made = Execution { updates: vec![alert(3, 4, "newer")], ..execution(1, vec![alert(1, 1, "new")]) };
    finish(vec![made], vec![known("r", "1"), known("s", "1")]).await;
    finish(vec![of(2, "s"), of(3, "r")], vec![known("r", "3")]).await;
    let numbers = async |rule: Option<&str>, limit| {
        let listed = store.executions(rule.map(str::to_owned), limit).await.unwrap();
        listed.iter().map(|done| (done.number, done.alerts, done.updated, done.held_back)).collect::<Vec<_>>()
    };
    assert_eq!(numbers(None, 10).await, [(1, 1, 1, 0), (2, 0, 0, 7), (3, 0, 0, 7)]);
    assert_eq!(numbers(None, 2).await, [(2, 0, 0, 7), (3, 0, 0, 7)]);
    assert_eq!(numbers(Some("r"), 10).await, [(1, 1, 1, 0), (3, 0, 0, 7)]);
    assert_eq!(store.rule_progress().await.unwrap(), [known("r", "3"), known("s", "1")]);
    let ids = [1u8, 2, 3].map(|id| alert(id, 1, "").id).to_vec();
    let there = store.alerts_of(ids).await.unwrap();
    assert_eq!(there.iter().map(|alert| alert.reason.as_str()).collect::<Vec<_>>(), ["new", "newer"]);
}

async fn a_parcel_is_tried_again_and_given_up(place: &Place) {
    let (store, term) = place.led().await;
    let executions = vec![execution(1, vec![alert(1, 1, "x")])];
    store.finish(term, Finished { executions, sinks: vec!["hook".into()], ..Finished::default() }).await.unwrap();
    let take = async |now| store.take_parcels(term, "hook".into(), now, now + 100, 10).await.unwrap();
    let number = take(0).await[0].number;
    store.settle(term, number, Settled::Retry(500, "503".into()), 10).await.unwrap();
    assert_eq!(take(499).await.len(), 0);
    assert_eq!(take(500).await[0].attempt, 2);
    // What another term took is not this one's to settle.
    store.release(term).await.unwrap();
    let next = claim(&*store, "b").await;
    store.settle(next, number, Settled::Delivered, 510).await.unwrap();
    let parcels = store.take_parcels(next, "hook".into(), 600, 700, 10).await.unwrap();
    assert_eq!(parcels[0].attempt, 3);
    store.settle(next, number, Settled::Refused("410".into()), 610).await.unwrap();
    assert_eq!(store.take_parcels(next, "hook".into(), 9000, 9100, 10).await.unwrap().len(), 0);
}

async fn a_snapshot_is_usable_when_it_is_finished(place: &Place) {
    let (store, term) = place.led().await;
    let id = |bucket| SnapshotId { bucket, jobs: "all".into(), version: 2 };
    store.put_snapshot_part(term, id(5), 0, b"a".to_vec()).await.unwrap();
    let early = store.finish_snapshot(term, id(5), 2).await.unwrap_err();
    assert!(early.to_string().contains("it has 1 parts, expected 2"), "{early}");
    store.put_snapshot_part(term, id(5), 1, b"b".to_vec()).await.unwrap();
    store.put_snapshot_part(term, id(5), 2, b"left over".to_vec()).await.unwrap();
    assert_eq!(store.snapshots().await.unwrap(), []);
    store.finish_snapshot(term, id(5), 2).await.unwrap();
    store.put_snapshot_part(term, id(6), 0, vec![7; 100_000]).await.unwrap();
    store.finish_snapshot(term, id(6), 1).await.unwrap();
    assert_eq!(store.snapshots().await.unwrap(), [(id(6), 1), (id(5), 2)]);
    assert_eq!(store.snapshot_part(id(5), 1).await.unwrap(), b"b");
    assert_eq!(store.snapshot_part(id(6), 0).await.unwrap(), vec![7; 100_000]);
    assert!(store.snapshot_part(id(5), 2).await.is_err());
}

async fn what_is_old_is_forgotten_in_steps_by_kind(place: &Place) {
    let (store, term) = place.led().await;
    let writes = (1..=9).map(|number| commit(0, 1, number, number)).collect::<Vec<_>>();
    store.apply(term, [vec![open(0, 1)], writes].concat()).await.unwrap();
    let finish = |number: u64| Finished {
        late: None,
        early: Vec::new(),
        scored: Some(number * QUARTER),
        records: vec![record(number, number, 50.0)],
        progress: Vec::new(),
        executions: vec![execution(number, vec![alert(u8::try_from(number).unwrap(), 1, "x")])],
        sinks: if number == 1 { vec!["hook".into()] } else { Vec::new() },
    };
    for number in 1..=3 {
        store.finish(term, finish(number)).await.unwrap();
        let id = SnapshotId { bucket: number, jobs: "j".into(), version: 1 };
        store.put_snapshot_part(term, id.clone(), 0, vec![1]).await.unwrap();
        store.finish_snapshot(term, id, 1).await.unwrap();
    }
    let prune = async |kept, before, limit| store.prune(term, kept, before, limit).await.unwrap();
    assert_eq!(prune(Kept::Windows, 6 * QUARTER, 3).await, 3);
    assert_eq!(prune(Kept::Windows, 6 * QUARTER, 3).await, 2);
    assert_eq!(store.buckets(None, u64::MAX, 1).await.unwrap(), [6 * QUARTER]);
    assert_eq!(store.load().await.unwrap().counts.windows, 27, "what was counted stays so");
    assert_eq!(prune(Kept::Records, 9 * QUARTER, 10).await, 3);
    assert_eq!(prune(Kept::Executions, u64::MAX, 10).await, 3);
    assert_eq!(prune(Kept::Alerts, u64::MAX, 10).await, 2, "a sink waits for one");
    let parcel = store.take_parcels(term, "hook".into(), 0, 1, 1).await.unwrap().remove(0);
    store.settle(term, parcel.number, Settled::Delivered, 70).await.unwrap();
    assert_eq!(prune(Kept::Outbox, 70, 10).await, 0);
    assert_eq!(prune(Kept::Outbox, 71, 10).await, 1);
    assert_eq!(prune(Kept::Alerts, u64::MAX, 10).await, 1);
    // Two snapshots and their parts; the newest stays.
    assert_eq!(prune(Kept::Snapshots, u64::MAX, 10).await, 4);
    assert_eq!(store.snapshots().await.unwrap().len(), 1);
    // Numbers go on where they were.
    let resume = store.resume().await.unwrap();
    assert_eq!((resume.finalised, resume.execution, resume.scored), (3, 3, Some(3 * QUARTER)));
}

async fn incarnations_that_are_long_gone_are_forgotten(place: &Place) {
    let (store, term) = place.led().await;
    let write = |commit_no, bucket, id| {
        let mut write = commit(0, 1, commit_no, bucket);
        let Write::Commit(commit) = &mut write else { unreachable!() };
        commit.pairs = vec![(incarnation("c", id), Pair { bucket: bucket * QUARTER, seq: 1 })];
        write
    };
    // Ten days have 960 buckets.
    store.apply(term, vec![open(0, 1), write(1, 1, 1), write(2, 2, 2), write(3, 962, 3)]).await.unwrap();
    let enrolled = |last: u64, retired| Enrolled { last_bucket: last * QUARTER, retired, ..Enrolled::default() };
    let members = vec![
        (incarnation("c", 1), enrolled(1, true)),
        (incarnation("d", 1), enrolled(1, false)),
        (incarnation("c", 3), enrolled(962, true)),
    ];
    store.enrol(term, members).await.unwrap();
    store.prune(term, Kept::Windows, 900 * QUARTER, 100).await.unwrap();
    let loaded = store.load().await.unwrap();
    let ids = |left: Vec<&Incarnation>| left.iter().map(|of| (of.collector.to_string(), of.id[0])).collect::<Vec<_>>();
    // The second stands exactly ten days behind, so it may still count.
    assert_eq!(ids(loaded.shards[0].pairs.keys().collect()), [("c".into(), 2), ("c".into(), 3)]);
    assert_eq!(ids(loaded.members.keys().collect()), [("c".into(), 3), ("d".into(), 1)]);
}
