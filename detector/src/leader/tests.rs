use proptest::prelude::*;

use super::*;
use crate::store::Leader as Seen;

const TIMING: Timing = Timing { lease: Duration::from_secs(10) };

fn held_by(holder: &str, remaining_ms: u64) -> Event {
    let remaining = Duration::from_millis(remaining_ms);
    Event::Claimed(Claim::HeldBy(Seen { term: Term::of(1), holder: holder.into(), remaining }))
}

fn leading(now_ms: u64) -> Leader {
    let mut leader = Leader::new(TIMING, now_ms);
    assert_eq!(leader.on(Event::Tick, now_ms), [Action::Claim]);
    assert_eq!(leader.on(Event::Claimed(Claim::Taken(Term::of(7))), now_ms + 500), [Action::Begin(Term::of(7))]);
    assert_eq!(leader.state(), &State::TakingOver(Term::of(7)));
    assert!(leader.on(Event::Began, now_ms + 600).is_empty());
    leader
}

#[test]
fn one_that_stands_by_asks_again_before_the_others_lease_can_have_ended() {
    let mut leader = Leader::new(TIMING, 0);
    assert_eq!(leader.on(Event::Tick, 0), [Action::Claim]);
    assert!(leader.on(Event::Tick, 5000).is_empty(), "one question at a time");
    leader.on(held_by("http://other its name", 9000), 10);
    assert_eq!(leader.state(), &State::Standby { leader: Some("http://other".into()) });
    assert_eq!(leader.deadline(), Some(1010));
    assert_eq!(leader.on(Event::Tick, 1010), [Action::Claim]);
    leader.on(held_by("http://other", 300), 1020);
    assert_eq!(leader.deadline(), Some(1320));
    leader.on(Event::Tick, 1320);
    leader.on(Event::Unanswered, 1330);
    assert_eq!(leader.on(Event::Tick, 2330), [Action::Claim]);
}

#[test]
fn a_leader_counts_its_lease_from_before_it_asked_and_stops_before_it_ends() {
    let mut leader = leading(0);
    assert_eq!(leader.state(), &State::Leading(Term::of(7)));
    assert_eq!(leader.on(Event::Tick, 3900), [Action::Renew(Term::of(7))]);
    leader.on(Event::Renewed, 6000);
    assert!(leader.on(Event::Tick, 11_899).contains(&Action::Renew(Term::of(7))), "asked at 3900, not answered since");
    assert_eq!(leader.on(Event::Tick, 11_900), [Action::End]);
    assert_eq!(leader.state(), &State::Standby { leader: None });
    assert_eq!(leader.on(Event::Tick, 12_900), [Action::Claim]);
}

#[test]
fn the_deposed_drop_everything_and_the_failed_let_others_try() {
    let mut leader = leading(0);
    assert_eq!(leader.on(Event::Deposed, 1000), [Action::End]);
    let mut leader = leading(0);
    assert_eq!(leader.on(Event::Failed, 1000), [Action::End, Action::Release(Term::of(7))]);
    assert_eq!(leader.deadline(), Some(1200));
    assert!(leader.on(Event::Failed, 1100).is_empty(), "told once");
    leader.on(Event::Tick, 1200);
    leader.on(Event::Claimed(Claim::Taken(Term::of(8))), 1210);
    leader.on(Event::Failed, 1300);
    assert_eq!(leader.deadline(), Some(1700), "twice as long");
}

#[test]
fn one_that_stops_gives_the_lease_back_even_if_it_gets_it_too_late() {
    let mut leader = leading(0);
    assert_eq!(leader.on(Event::Stop, 1000), [Action::End, Action::Release(Term::of(7))]);
    assert_eq!((leader.state(), leader.deadline()), (&State::Stopping, None));
    assert!(leader.on(Event::Tick, 60_000).is_empty());
    let mut leader = Leader::new(TIMING, 0);
    leader.on(Event::Tick, 0);
    leader.on(Event::Stop, 10);
    assert_eq!(leader.on(Event::Claimed(Claim::Taken(Term::of(9))), 20), [Action::Release(Term::of(9))]);
}

#[test]
fn a_lease_that_is_told_too_late_is_none() {
    let mut leader = Leader::new(TIMING, 0);
    leader.on(Event::Tick, 0);
    assert_eq!(leader.on(Event::Claimed(Claim::Taken(Term::of(1))), 8000), []);
    assert_eq!(leader.on(Event::Tick, 9000), [Action::Claim]);
    leader.on(Event::Claimed(Claim::Taken(Term::of(2))), 9100);
    // Reading what it needs took too long.
    assert_eq!(leader.on(Event::Began, 17_000), [Action::End]);
    assert_eq!(leader.state(), &State::Standby { leader: None });
}

/// A store with a clock of its own, as far as leases go.
#[derive(Default)]
struct Lease {
    term: u64,
    holder: usize,
    until_ms: u64,
}

proptest! {
    /// Two detectors whose questions and answers take any time, or are lost: never do both think that they lead.
    #[test]
    fn there_is_one_leader_at_a_time(steps in prop::collection::vec((0..2usize, 0..4u8, 1..1500u64), 50..400)) {
        let mut lease = Lease::default();
        let mut leaders = [Leader::new(TIMING, 0), Leader::new(TIMING, 0)];
        // What is on the way: asked of the store, or answered by it.
        let mut asked: [Option<Action>; 2] = [None, None];
        let mut answered: [Option<Event>; 2] = [None, None];
        let mut now = 0;
        for (who, what, wait) in steps {
            now += wait;
            let mut actions: Vec<(usize, Action)> = Vec::new();
            for (who, leader) in leaders.iter_mut().enumerate() {
                while leader.deadline().is_some_and(|at| at <= now) {
                    let due = leader.on(Event::Tick, now);
                    prop_assert!(!due.is_empty(), "what is due is done");
                    actions.extend(due.into_iter().map(|action| (who, action)));
                }
            }
            match what {
                // The store hears the question.
                0 | 1 => match asked[who].take() {
                    Some(Action::Claim) if lease.until_ms <= now || lease.holder == who => {
                        lease = Lease { term: lease.term + 1, holder: who, until_ms: now + 10_000 };
                        answered[who] = Some(Event::Claimed(Claim::Taken(Term::of(lease.term))));
                    }
                    Some(Action::Claim) => answered[who] = Some(held_by("other", lease.until_ms - now)),
                    Some(Action::Renew(term)) if term.number() == lease.term => {
                        lease.until_ms = now + 10_000;
                        answered[who] = Some(Event::Renewed);
                    }
                    Some(Action::Renew(_)) => answered[who] = Some(Event::Deposed),
                    _ => {}
                },
                // The answer arrives.
                2 => if let Some(event) = answered[who].take() {
                    actions.extend(leaders[who].on(event, now).into_iter().map(|action| (who, action)));
                },
                // Something is lost.
                _ => if asked[who].take().is_some() || answered[who].take().is_some() {
                    leaders[who].on(Event::Unanswered, now);
                },
            }
            for (who, action) in actions {
                match action {
                    Action::Claim | Action::Renew(_) => (asked[who], answered[who]) = (Some(action), None),
                    Action::End => (asked[who], answered[who]) = (None, None),
                    Action::Begin(_) => drop(leaders[who].on(Event::Began, now)),
                    Action::Release(_) => {}
                }
            }
            let leading = leaders.iter().filter(|leader| matches!(leader.state(), State::Leading(_))).count();
            prop_assert!(leading <= 1);
        }
    }
}
