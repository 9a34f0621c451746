use std::collections::BTreeSet;

use proptest::prelude::*;
use spikewatch_domain::{
    span::Span,
    window::{Counters, Peer, Service, Window},
};

use super::*;
use crate::{
    job::Job,
    scoring::{Bucket, Row},
};

const QUARTER: u64 = 900_000;

fn empty() -> Scoring {
    let mut scoring = Scoring::new(&Job::built_in(), Span::QUARTER_HOUR, 64 << 20);
    // So few that records say from which score on they may alert.
    scoring.bound(0.01);
    scoring
}

/// What of one bucket: hosts with their events, and whether a member of the site is missing.
type Plan = (Vec<(u8, u8, u32)>, bool, u8);

fn bucket(number: u64, (hosts, missing, _): &Plan) -> Bucket {
    let row = |(site, subject, events): (u8, Subject, u64)| {
        let counters = Counters { events, bytes_out: events * 900, bytes_in: events * 70, ..Counters::default() };
        let site = format!("site{site}").parse().unwrap();
        let mut window = Window { counters, ..Window::default() };
        // A peer now and then, so that hosts come to know some.
        let peer = Peer::from(std::net::IpAddr::from([203, 0, (events % 50) as u8, 1]));
        window.attribute(peer, Service { port: 443, protocol: 6 }, &counters);
        Row { site, subject, window, incomplete: false }
    };
    let mut rows = Vec::new();
    for (site, host, events) in hosts {
        let subject = match host % 3 {
            0 => Subject::Name(format!("host{host}").into()),
            _ => Subject::Address([10, 0, *site, *host].into()),
        };
        rows.push(row((*site, subject, (*events).into())));
        rows.push(row((*site, Subject::Site, (*events).into())));
    }
    let missing = if *missing { BTreeSet::from(["site1".parse().unwrap()]) } else { BTreeSet::new() };
    Bucket { start: number * QUARTER, rows, missing }
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let hosts = prop::collection::vec((0..2u8, 0..6u8, 0..5000u32), 0..8);
    // Now and then a gap.
    prop::collection::vec((hosts, prop::bool::weighted(0.1), prop_oneof![9 => Just(1u8), 1 => 2..200u8]), 2..50)
}

fn restored(stored: &[Vec<u8>]) -> Scoring {
    let mut scoring = empty();
    for (number, part) in stored.iter().enumerate() {
        scoring.restore(number, part).unwrap();
    }
    assert!(scoring.is_whole());
    scoring
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whoever_goes_on_from_what_was_stored_finds_the_same(plans in plans(), at in 0.0..1.0f64) {
        let at = (plans.len() as f64 * at) as usize;
        let (mut one, mut number) = (empty(), 20_000);
        let mut other: Option<Scoring> = None;
        for (index, plan) in plans.iter().enumerate() {
            if index == at {
                let stored: Vec<_> = one.stored().collect();
                let back = restored(&stored);
                prop_assert_eq!(back.stored().collect::<Vec<_>>(), stored);
                other = Some(back);
            }
            number += u64::from(plan.2);
            let found = one.score(bucket(number, plan));
            if let Some(other) = &mut other {
                prop_assert_eq!(other.score(bucket(number, plan)), found);
            }
        }
        let other = other.unwrap();
        prop_assert_eq!(other.series(), one.series());
        prop_assert_eq!(other.stored().collect::<Vec<_>>(), one.stored().collect::<Vec<_>>());
    }

    #[test]
    fn damage_is_an_error_and_no_panic(cut in 0..4000usize, flip in 0..4000usize) {
        let mut one = empty();
        one.score(bucket(1, &(vec![(0, 1, 50), (0, 2, 70), (1, 3, 9)], false, 0)));
        for (number, part) in one.stored().enumerate() {
            let mut damaged = part.clone();
            let at = flip % damaged.len();
            damaged[at] ^= 0x5a;
            damaged.truncate(damaged.len() - cut % 3);
            // It may still be read, as another number: the store keeps its bytes safe, here nothing may break.
            let mut scoring = empty();
            if number > 0 {
                scoring.restore(0, &one.stored().next().unwrap()).unwrap();
            }
            let _ = scoring.restore(number, &damaged);
        }
    }
}

#[test]
fn what_is_not_whole_or_of_other_jobs_is_refused() {
    let mut one = empty();
    one.score(bucket(1, &(vec![(0, 1, 50), (1, 3, 9)], false, 0)));
    let stored: Vec<_> = one.stored().collect();
    assert!(stored.len() >= 3, "a head, and a part for each table with keys");
    let mut half = empty();
    half.restore(0, &stored[0]).unwrap();
    assert!(!half.is_whole(), "keys were promised");
    half.restore(1, &stored[1]).unwrap();
    assert!(half.restore(1, &stored[1]).is_err(), "the same keys twice");
    let mut fewer = Scoring::new(&Job::built_in()[..1], Span::QUARTER_HOUR, 64 << 20);
    assert!(fewer.restore(0, &stored[0]).is_err());
}
