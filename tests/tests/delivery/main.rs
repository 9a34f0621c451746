//! The delivery protocol under a model checker: the cores of all three roles, as production runs them, between a network
//! that cuts, delays and repeats, and processes that crash at any instant. Nothing here decides what is counted: every
//! transition calls a core's own `on`, and a script says only what may go wrong.
//!
//! Two collectors, two aggregators, one shard, a centre whose store survives. A close may come at any time, which covers
//! every watermark and every `max_wait`. One message may linger in a half-open stream and arrive whenever it likes.

mod bag;
mod centre;
mod disk;
mod model;
mod rule;
mod settle;
mod site;
mod world;

use std::time::Duration;

use stateright::{Checker as _, Model as _};

use crate::{
    model::{Delivery, Step},
    rule::Missing,
    world::Budget,
};

/// A late batch behind one of the next bucket; the other collector has one.
const LATE: [&[u64]; 2] = [&[1, 2, 1], &[1]];
/// The same, and the other collector has nothing.
const IDLE: [&[u64]; 2] = [&[1, 2, 1], &[]];
/// Three buckets.
const THREE: [&[u64]; 2] = [&[1, 2, 1], &[3]];
const NOTHING: Budget =
    Budget { aggregator: 0, collector: 0, detector: 0, leader: 0, steal: 0, lose: 0, duplicate: 0, full: 0 };

#[expect(clippy::disallowed_methods, reason = "how long a check took, for people to read")]
fn seconds(check: impl FnOnce()) -> f64 {
    let began = std::time::Instant::now();
    check();
    began.elapsed().as_secs_f64()
}

/// Explores all there is, or as much as the limits allow, breadth first, and finds nothing wrong. States are counted as
/// they are generated: most of them several times.
fn holds(name: &str, model: Delivery, most_states: usize, most_time: Duration) {
    let checker = model.checker().threads(2).target_state_count(most_states).timeout(most_time);
    let mut done = None;
    let seconds = seconds(|| done = Some(checker.spawn_bfs().join()));
    let Some(checker) = done else { return };
    let (states, generated, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    let complete = generated < most_states && seconds < most_time.as_secs_f64();
    let how = if complete { "complete" } else { "bounded" };
    println!("{name}: {states} states, {generated} generated, depth {depth}, {how}, {seconds:.1} s");
    if let Some((property, path)) = checker.discoveries().into_iter().next() {
        let steps: Vec<Step> = path.into_actions();
        panic!("{name}: {property}: {steps:#?}");
    }
}

/// A rule that is missing is noticed.
fn noticed(name: &str, model: Delivery) {
    let finish = stateright::HasDiscoveries::AnyFailures;
    let checker = model.checker().threads(2).finish_when(finish).timeout(Duration::from_secs(120));
    let mut done = None;
    let seconds = seconds(|| done = Some(checker.spawn_bfs().join()));
    let Some(checker) = done else { return };
    let found = checker.discoveries().into_iter().next();
    let (property, path) =
        found.unwrap_or_else(|| panic!("{name}: not noticed in {} states", checker.unique_state_count()));
    let steps: Vec<Step> = path.into_actions();
    println!(
        "{name}: \"{property}\" fails after {} steps, {} states, {seconds:.1} s",
        steps.len(),
        checker.unique_state_count()
    );
}

mod mutations;
mod scenarios;
