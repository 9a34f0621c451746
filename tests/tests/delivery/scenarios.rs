//! With all rules in force everything holds. The bounds are those that continuous integration has time for; `wide` goes on
//! from there.

use super::*;

/// States that a scenario generates at most in continuous integration, and how long it may take.
const STATES: usize = 600_000;
const TIME: Duration = Duration::from_secs(120);

fn explore(name: &str, script: [&'static [u64]; 2], budget: Budget) {
    holds(name, Delivery { settles: 32, ..Delivery::new(script, budget) }, STATES, TIME);
}

#[test]
fn an_aggregator_crashes() {
    explore("aggregator crash", IDLE, Budget { aggregator: 1, ..NOTHING });
}

#[test]
fn the_owner_becomes_a_zombie() {
    explore("zombie", IDLE, Budget { steal: 1, ..NOTHING });
}

#[test]
fn a_collector_crashes_or_its_stream_is_cut() {
    explore("collector crash", LATE, Budget { collector: 1, ..NOTHING });
}

#[test]
fn the_detector_crashes_or_is_deposed() {
    explore("detector crash, deposed leader", IDLE, Budget { detector: 1, leader: 1, ..NOTHING });
}

#[test]
fn commits_and_acks_are_lost_and_repeated() {
    explore("lost and duplicated", IDLE, Budget { lose: 1, duplicate: 1, ..NOTHING });
}

#[test]
fn a_disk_is_full() {
    explore("full disk", [&[1, 1, 2], &[]], Budget { full: 2, collector: 1, ..NOTHING });
}

#[test]
fn a_disk_is_slow() {
    let budget = Budget { full: 1, collector: 1, ..NOTHING };
    let model = Delivery { slow_disk: true, settles: 32, ..Delivery::new([&[1, 1], &[]], budget) };
    holds("slow disk", model, STATES, TIME);
}

#[test]
fn watermarks_close_buckets() {
    let budget = Budget { aggregator: 1, ..NOTHING };
    let model = Delivery { passed: Some(3), settles: 32, ..Delivery::new(IDLE, budget) };
    holds("watermarks", model, STATES, TIME);
}

#[test]
#[ignore = "takes an hour or so: the yardstick's own bounds and more"]
fn wide() {
    let all = Budget { aggregator: 1, collector: 1, detector: 1, leader: 1, steal: 1, lose: 1, duplicate: 1, full: 1 };
    let hand_over = Budget { aggregator: 1, steal: 1, ..NOTHING };
    let unreliable = Budget { aggregator: 1, lose: 1, duplicate: 1, ..NOTHING };
    let explore = |name: &str, script, budget, minutes: u64| {
        let model = Delivery { settles: 64, ..Delivery::new(script, budget) };
        holds(name, model, usize::MAX, Duration::from_secs(60 * minutes));
    };
    explore("late, crash and zombie", LATE, hand_over, 10);
    explore("late, crash, lost, duplicated", LATE, unreliable, 10);
    explore("idle, crash, cut, zombie", IDLE, Budget { collector: 1, ..hand_over }, 10);
    explore("three buckets, crash and zombie", THREE, hand_over, 10);
    explore("everything", LATE, all, 20);
}
