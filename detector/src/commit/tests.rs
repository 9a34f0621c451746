use spikewatch_domain::span::Span;

use super::*;
use crate::{
    cluster::{Cluster, Timing},
    store::Counts,
};

const SHAPE: Shape = Shape { shards: 2, bucket: Span::QUARTER_HOUR };
const QUARTER: u64 = 900_000;
const CLOSING: Closing =
    Closing { allowed_lateness_ms: 1000, max_wait_ms: QUARTER, late_horizon_ms: Some(100 * QUARTER) };
const LINEAGE: [u8; 16] = [7; 16];

fn fresh() -> Commits {
    let loaded = Loaded {
        lineage: LINEAGE,
        shards: vec![ShardState::default(); 2],
        members: BTreeMap::new(),
        assignment: 0,
        counts: Counts::default(),
    };
    Commits::new(loaded, SHAPE, CLOSING)
}

fn assignments() -> Assignments {
    let mut cluster = Cluster::new(Timing::default(), 0, vec![String::new(); 2], 0);
    cluster.join("a1", "http://a1", &[1; 16], 0).unwrap();
    cluster.assignments().clone()
}

fn open(owner: &str, assignment: u64) -> v1::OpenShard {
    v1::OpenShard { shard: 0, assignment, owner: owner.into(), held: None }
}

fn of(collector: &str, id: u8) -> Incarnation {
    Incarnation { site: "s".parse().unwrap(), collector: collector.parse().unwrap(), id: [id; 16] }
}

fn commit(epoch: u64, commit_no: u64, bucket: u64) -> Prepared {
    Prepared {
        shard: 0,
        epoch: Epoch { lineage: LINEAGE, number: epoch },
        commit_no,
        bucket: bucket * QUARTER,
        first_windows: Some(bucket * QUARTER),
        digest: commit_no,
        pairs: vec![(of("c", 1), Pair { bucket: bucket * QUARTER, seq: commit_no })],
        log: Vec::new(),
        missing: Vec::new(),
    }
}

fn reason<T: std::fmt::Debug>(result: Result<T, Refused>) -> Reason {
    result.unwrap_err().reason
}

#[test]
fn only_the_assignee_opens_and_every_open_raises_the_epoch() {
    let (mut commits, now) = (fresh(), assignments());
    assert_eq!(reason(commits.open(&open("a2", 1), &now)), Reason::NotAssigned);
    assert_eq!(reason(commits.open(&open("a1", 0), &now)), Reason::NotAssigned);
    assert_eq!(commits.open(&open("a1", 1), &now).unwrap().epoch, 1);
    assert_eq!(commits.open(&open("a1", 1), &now).unwrap().epoch, 2);
    assert_eq!(commits.opened(0).unwrap().epoch.number, 2);
    assert_eq!(reason(commits.open(&v1::OpenShard { shard: 9, ..open("a1", 1) }, &now)), Reason::Invalid);
}

#[test]
fn an_owner_that_comes_back_goes_on_under_its_epoch_while_that_is_the_newest() {
    let (mut commits, now) = (fresh(), assignments());
    commits.open(&open("a1", 1), &now).unwrap();
    commits.commit(commit(1, 1, 5), None).unwrap();
    let held = |number| v1::OpenShard { held: Some(Epoch { lineage: LINEAGE, number }.into()), ..open("a1", 1) };
    let resumed = commits.resumed(&held(1), &now).unwrap();
    assert_eq!((resumed.epoch.number, resumed.frontier.commit_no), (1, 1));
    assert!(matches!(commits.commit(commit(1, 2, 6), None), Ok(Decision::Apply(_))));
    assert_eq!(commits.resumed(&open("a1", 1), &now), None, "it holds nothing");
    assert_eq!(commits.resumed(&v1::OpenShard { owner: "a2".into(), ..held(1) }, &now), None);
    let other = v1::OpenShard { held: Some(Epoch { lineage: [9; 16], number: 1 }.into()), ..open("a1", 1) };
    assert_eq!(commits.resumed(&other, &now), None, "another store");
    commits.open(&open("a1", 1), &now).unwrap();
    assert_eq!(commits.resumed(&held(1), &now), None, "somebody opened it since");
}

#[test]
fn commits_follow_each_other_and_an_identical_repeat_changes_nothing() {
    let (mut commits, now) = (fresh(), assignments());
    commits.open(&open("a1", 1), &now).unwrap();
    assert!(matches!(commits.commit(commit(1, 1, 5), None), Ok(Decision::Apply(_))));
    assert_eq!(commits.commit(commit(1, 1, 5), None), Ok(Decision::Repeat));
    let other = Prepared { digest: 99, ..commit(1, 1, 5) };
    assert_eq!(reason(commits.commit(other, None)), Reason::OutOfOrder);
    assert_eq!(reason(commits.commit(commit(1, 3, 6), None)), Reason::OutOfOrder);
    assert!(matches!(commits.commit(commit(1, 2, 6), None), Ok(Decision::Apply(_))));
    // The other shard has nothing yet.
    assert_eq!(commits.frontier(), None);
}

#[test]
fn a_zombie_of_an_older_epoch_or_another_lineage_is_refused() {
    let (mut commits, now) = (fresh(), assignments());
    commits.open(&open("a1", 1), &now).unwrap();
    commits.commit(commit(1, 1, 5), None).unwrap();
    commits.open(&open("a1", 1), &now).unwrap();
    assert_eq!(reason(commits.commit(commit(1, 2, 6), None)), Reason::StaleEpoch);
    // Not even a repeat: the new owner has taken over what it did.
    assert_eq!(reason(commits.commit(commit(1, 1, 5), None)), Reason::StaleEpoch);
    let mut restored = commit(2, 2, 6);
    restored.epoch.lineage = [8; 16];
    assert_eq!(reason(commits.commit(restored, None)), Reason::StaleEpoch);
    assert!(matches!(commits.commit(commit(2, 2, 6), None), Ok(Decision::Apply(_))));
}

#[test]
fn a_bucket_must_have_ended() {
    let (mut commits, now) = (fresh(), assignments());
    commits.open(&open("a1", 1), &now).unwrap();
    assert_eq!(reason(commits.commit(commit(1, 1, 5), Some(6 * QUARTER - 1))), Reason::FutureBucket);
    assert!(commits.commit(commit(1, 1, 5), Some(6 * QUARTER)).is_ok());
}

#[test]
fn nothing_goes_back() {
    let (mut commits, now) = (fresh(), assignments());
    commits.open(&open("a1", 1), &now).unwrap();
    commits.commit(commit(1, 1, 5), None).unwrap();
    assert_eq!(reason(commits.commit(commit(1, 2, 4), None)), Reason::Invalid);
    assert_eq!(reason(commits.commit(commit(1, 2, 5), None)), Reason::Invalid, "windows of a sealed bucket");
    let mut pair_back = commit(1, 2, 6);
    pair_back.pairs = vec![(of("c", 1), Pair { bucket: 6 * QUARTER, seq: 0 })];
    assert_eq!(reason(commits.commit(pair_back, None)), Reason::Invalid);
    let mut pair_ahead = commit(1, 2, 6);
    pair_ahead.pairs = vec![(of("c", 1), Pair { bucket: 7 * QUARTER, seq: 9 })];
    assert_eq!(reason(commits.commit(pair_ahead, None)), Reason::Invalid);
    let corrections = Prepared { first_windows: None, ..commit(1, 2, 5) };
    assert!(commits.commit(corrections, None).is_ok());
}

#[test]
fn a_new_incarnation_replaces_the_older_ones_of_its_collector() {
    let (mut commits, now) = (fresh(), assignments());
    commits.open(&open("a1", 1), &now).unwrap();
    let mut both = commit(1, 1, 5);
    both.pairs.push((of("d", 1), Pair { bucket: 5 * QUARTER, seq: 1 }));
    commits.commit(both, None).unwrap();
    let mut newer = commit(1, 2, 6);
    newer.pairs = vec![(of("c", 2), Pair { bucket: 6 * QUARTER, seq: 1 })];
    let Ok(Decision::Apply(write)) = commits.commit(newer, None) else { panic!("refused") };
    assert_eq!(write.members.len(), 2);
    let members: Vec<_> = commits.opened(0).unwrap().members.into_iter().map(|member| member.of).collect();
    assert_eq!(members, [of("c", 2), of("d", 1)]);
}

#[test]
fn one_that_others_left_far_behind_is_absent() {
    let (mut commits, now) = (fresh(), assignments());
    commits.open(&open("a1", 1), &now).unwrap();
    let mut both = commit(1, 1, 5);
    both.pairs.push((of("d", 1), Pair { bucket: 5 * QUARTER, seq: 1 }));
    commits.commit(both, None).unwrap();
    let absent = |commits: &Commits| -> Vec<_> {
        commits.opened(0).unwrap().members.into_iter().filter(|member| member.absent).map(|member| member.of).collect()
    };
    commits.commit(commit(1, 2, 7), None).unwrap();
    assert_eq!(absent(&commits), []);
    commits.commit(commit(1, 3, 8), None).unwrap();
    assert_eq!(absent(&commits), [of("d", 1)]);
}

#[test]
fn one_that_is_retired_is_a_member_no_longer() {
    let (mut commits, now) = (fresh(), assignments());
    commits.open(&open("a1", 1), &now).unwrap();
    commits.commit(commit(1, 1, 5), None).unwrap();
    let name = |text: &str| text.parse().unwrap();
    assert!(commits.retire(&name("s"), &name("other")).is_empty());
    assert_eq!(commits.retire(&name("s"), &name("c")).len(), 1);
    let opened = commits.opened(0).unwrap();
    assert_eq!((opened.members.len(), opened.frontier.pairs.len()), (0, 1), "what it counted stays counted");
}

#[test]
fn frontiers_forget_what_is_never_asked_for_again() {
    let (mut commits, now) = (fresh(), assignments());
    commits.open(&open("a1", 1), &now).unwrap();
    let pairs = |commits: &Commits| commits.opened(0).unwrap().frontier.pairs.into_keys().collect::<Vec<_>>();
    let mut no = 0;
    for life in 1..=20 {
        no += 1;
        let pair = (of("c", life), Pair { bucket: u64::from(life) * QUARTER, seq: 1 });
        commits.commit(Prepared { pairs: vec![pair], ..commit(1, no, u64::from(life)) }, None).unwrap();
    }
    assert_eq!(pairs(&commits).len(), 16);
    assert!(pairs(&commits).contains(&of("c", 20)) && !pairs(&commits).contains(&of("c", 4)));
    let pair = (of("d", 1), Pair { bucket: 115 * QUARTER, seq: 1 });
    commits.commit(Prepared { pairs: vec![pair], ..commit(1, no + 1, 115) }, None).unwrap();
    assert_eq!(pairs(&commits).len(), 7, "those of buckets 15 to 20, and the new one");
}

#[test]
fn a_correction_is_late_once_every_shard_has_committed_its_bucket() {
    let (mut commits, now) = (fresh(), assignments());
    commits.open(&open("a1", 1), &now).unwrap();
    commits.open(&v1::OpenShard { shard: 1, ..open("a1", 1) }, &now).unwrap();
    let mut kinds = |shard, commit_no, bucket: u64, corrected: u64| {
        let correction =
            LogEntry { bucket: corrected * QUARTER, kind: LogKind::Correction, windows: 1, blob: Vec::new() };
        let pairs = Vec::new();
        let commit =
            Prepared { shard, first_windows: None, pairs, log: vec![correction], ..commit(1, commit_no, bucket) };
        match commits.commit(commit, None).unwrap() {
            Decision::Apply(write) => write.log[0].kind,
            Decision::Repeat => panic!("it is new"),
        }
    };
    assert_eq!(kinds(0, 1, 5, 5), LogKind::Correction, "the other shard has nothing yet");
    // The commit itself completes bucket 4: whatever is in it is scored with its windows.
    assert_eq!(kinds(1, 1, 4, 4), LogKind::Correction);
    assert_eq!(kinds(0, 2, 5, 4), LogKind::Late { passed: 4 * QUARTER });
    assert_eq!(kinds(0, 3, 5, 5), LogKind::Correction);
    assert_eq!(kinds(1, 2, 5, 5), LogKind::Correction);
    assert_eq!(kinds(1, 3, 5, 3), LogKind::Late { passed: 5 * QUARTER });
}
