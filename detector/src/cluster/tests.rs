use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const TIMING: Timing = Timing { lease_ms: 6000, grace_ms: 1000, handover_ms: 5000 };

fn empty(shards: usize, number: u64) -> Cluster {
    Cluster::new(TIMING, number, vec![String::new(); shards], 0)
}

fn owned(cluster: &Cluster, name: &str) -> Vec<u32> {
    cluster.assignments().share(name).shards.into_iter().map(|(shard, _)| shard).collect()
}

fn asked(cluster: &Cluster, name: &str) -> Vec<u32> {
    cluster.assignments().share(name).release
}

#[test]
fn a_newcomer_gets_its_shards_once_they_are_let_go_and_no_others_move() {
    let mut cluster = empty(64, 7);
    let first = cluster.join("a1", "http://a1", &[1], 0).unwrap();
    assert_eq!((owned(&cluster, "a1").len(), cluster.assignments().number), (64, 8));
    let second = cluster.join("a2", "http://a2", &[2], 10).unwrap();
    let moving = asked(&cluster, "a1");
    assert!(moving.len() > 10 && moving.len() < 54);
    assert_eq!(owned(&cluster, "a1").len(), 64, "nothing moves before it is let go");
    assert!(cluster.heard("a1", first, false, &moving[1..], 20));
    assert_eq!(owned(&cluster, "a2"), moving[1..]);
    assert!(cluster.heard("a2", second, false, &[], 20));
    let kept: BTreeSet<u32> = owned(&cluster, "a1").into_iter().filter(|shard| *shard != moving[0]).collect();
    cluster.tick(5009);
    assert_eq!(owned(&cluster, "a1").len(), kept.len() + 1);
    cluster.tick(5010);
    assert_eq!(owned(&cluster, "a2"), moving, "what is not let go in time moves all the same");
    assert!(kept.iter().all(|shard| cluster.assignments().of(*shard) == Some(("a1", 8))), "the rest never moved");
}

#[test]
fn silence_is_death_and_so_is_an_ended_stream_after_a_grace() {
    let mut cluster = empty(16, 0);
    let one = cluster.join("a1", "http://a1", &[1], 0).unwrap();
    let two = cluster.join("a2", "http://a2", &[2], 0).unwrap();
    cluster.heard("a1", one, false, &asked(&cluster, "a1"), 1);
    let of_two = owned(&cluster, "a2");
    cluster.ended("a2", two, 100);
    cluster.tick(1099);
    assert_eq!(owned(&cluster, "a2"), of_two);
    assert_eq!(cluster.deadline(), Some(1100));
    cluster.tick(1100);
    assert_eq!(owned(&cluster, "a1").len(), 16);
    assert!(!cluster.heard("a2", two, false, &[], 1101), "its session is over");
    cluster.tick(6001);
    assert!(owned(&cluster, "a1").is_empty(), "silent for a lease");
    assert!(!cluster.heard("a1", one, false, &[], 6002));
}

#[test]
fn the_same_process_may_come_back_and_another_of_its_name_only_after_its_death() {
    let mut cluster = empty(4, 0);
    let old = cluster.join("a1", "http://a1", &[1], 0).unwrap();
    let again = cluster.join("a1", "http://a1", &[1], 10).unwrap();
    assert_eq!(cluster.assignments().number, 1, "nothing changed");
    assert!(!cluster.heard("a1", old, false, &[], 20) && cluster.heard("a1", again, false, &[], 20));
    assert_eq!(cluster.join("a1", "http://b", &[2], 30), Err(CannotJoin::NameTaken("a1".into())));
    cluster.ended("a1", old, 35);
    assert_eq!(cluster.join("a1", "http://b", &[2], 40), Err(CannotJoin::NameTaken("a1".into())));
    cluster.ended("a1", again, 50);
    cluster.join("a1", "http://b", &[2], 60).unwrap();
    assert_eq!(cluster.assignments().of(0), Some(("a1", 2)), "it holds nothing and is entitled anew");
    assert_eq!(cluster.assignments().routes().next(), Some((0, "a1", "http://b")));
}

#[test]
fn one_that_leaves_lets_go_of_everything_and_gets_nothing() {
    let mut cluster = empty(16, 0);
    let one = cluster.join("a1", "http://a1", &[1], 0).unwrap();
    let two = cluster.join("a2", "http://a2", &[2], 0).unwrap();
    cluster.heard("a1", one, false, &asked(&cluster, "a1"), 1);
    cluster.heard("a1", one, true, &[], 2);
    assert_eq!(asked(&cluster, "a1"), owned(&cluster, "a1"));
    cluster.heard("a1", one, true, &asked(&cluster, "a1"), 3);
    assert_eq!((owned(&cluster, "a1").len(), owned(&cluster, "a2").len()), (0, 16));
    // The last one lets go too, and nobody owns anything.
    cluster.heard("a2", two, true, &[], 4);
    cluster.heard("a2", two, true, &asked(&cluster, "a2"), 5);
    assert_eq!(cluster.assignments().of(0), None);
    cluster.ended("a2", two, 6);
    cluster.join("a2", "http://a2", &[3], 7).unwrap();
    assert_eq!(owned(&cluster, "a2").len(), 16, "its successor need not wait");
}

#[test]
fn a_new_leader_waits_for_the_owners_of_before() {
    let owners = ["a1", "a2", "a1", "a2"].map(String::from).to_vec();
    let mut cluster = Cluster::new(TIMING, 9, owners, 100);
    assert!(!cluster.assignments().is_settled());
    cluster.join("a1", "http://a1", &[1], 150).unwrap();
    assert_eq!(owned(&cluster, "a2"), [1, 3]);
    assert_eq!(cluster.assignments().of(0), Some(("a1", 9)), "it keeps what it had, as it had it");
    cluster.tick(6100);
    assert!(cluster.assignments().is_settled());
    assert!(owned(&cluster, "a2").is_empty() && owned(&cluster, "a1").contains(&1));
}

#[derive(Debug, Clone)]
enum Step {
    Join(u8, u8),
    Heard { name: u8, leaving: bool, releases: bool },
    Ended(u8),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..5u8, 0..2u8).prop_map(|(name, instance)| Step::Join(name, instance)),
        (0..5u8, prop::bool::weighted(0.1), any::<bool>()).prop_map(|(name, leaving, releases)| Step::Heard {
            name,
            leaving,
            releases
        }),
        (0..5u8).prop_map(Step::Ended),
        (1..4000u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_numbers_grow_and_it_ends_with_each_shard_at_its_best_owner(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut cluster = empty(32, 0);
        let (mut now, mut sessions) = (0, BTreeMap::new());
        for step in steps {
            let before = cluster.assignments().clone();
            match step {
                Step::Join(name, instance) => {
                    if let Ok(session) = cluster.join(&format!("a{name}"), "http://a", &[instance], now) {
                        sessions.insert(name, session);
                    }
                }
                Step::Heard { name, leaving, releases } => {
                    let own = format!("a{name}");
                    let released = if releases { asked(&cluster, &own) } else { Vec::new() };
                    cluster.heard(&own, sessions.get(&name).copied().unwrap_or(0), leaving, &released, now);
                }
                Step::Ended(name) => {
                    let session = sessions.get(&name).copied().unwrap_or(0);
                    cluster.ended(&format!("a{name}"), session, now);
                }
                Step::Wait(ms) => {
                    now += ms;
                    cluster.tick(now);
                }
            }
            let after = cluster.assignments();
            prop_assert_eq!(after.number > before.number, *after != before);
            for shard in 0..32 {
                if after.of(shard) != before.of(shard) && after.of(shard).is_some() {
                    prop_assert_eq!(after.of(shard).map(|(_, since)| since), Some(after.number));
                }
            }
        }
        // Those who live let go of what they are asked for.
        let living: Vec<String> = cluster.live.keys().cloned().collect();
        for name in living {
            let (session, released) = (cluster.live[&name].session, asked(&cluster, &name));
            cluster.heard(&name, session, false, &released, now);
        }
        let stay: Vec<&str> = cluster.live.iter().filter(|(_, live)| !live.leaving).map(|(name, _)| &**name).collect();
        for shard in 0..32 {
            let owner = cluster.assignments().of(shard).map(|(name, _)| name);
            prop_assert_eq!(owner, owner_of(shard, stay.iter().copied()));
        }
    }
}
