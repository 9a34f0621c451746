//! The whole cluster, simulated: the real roles and their gRPC services on turmoil's hosts and network, on time that is
//! only counted. All that chance decides comes from one seed: traffic, delays, faults, the order in which what is ready
//! runs. So a seed that fails fails again:
//!
//! `SPIKEWATCH_SEED=7 cargo test -p spikewatch-tests --test simulation -- --exact one_seed --nocapture`
//!
//! Each seed runs in a process of its own, because the seeded randomness behind tokio and hash maps is the process's.
//! What must hold at every instant and in the end is in [`oracle`].

mod host;
mod line;
mod oracle;
mod plan;
mod roles;
mod run;
mod trace;
mod traffic;
mod world;

use std::thread;

/// Runs one seed here: the one that is asked for, else the first.
#[test]
fn one_seed() {
    let seed = run::asked_seed();
    run::seed_randomness(seed);
    #[expect(clippy::disallowed_methods, reason = "a new thread has no random numbers from before the seed")]
    let simulated = thread::spawn(move || world::simulate(seed)).join();
    let outcome = simulated.unwrap_or_else(|_| panic!("seed {seed} panicked"));
    println!("{}{outcome}", run::OUTCOME);
    if let Err(problem) = &outcome.verdict {
        panic!("seed {seed}: {problem}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 4] {
        let (first, second) = (run::in_a_process(seed), run::in_a_process(seed));
        assert_eq!(first.outcome, second.outcome, "seed {seed}");
        assert_ne!(first.outcome, None, "seed {seed} failed:\n{}", first.output);
    }
}

#[test]
fn what_is_committed_is_what_was_fed() {
    run::all(1..=25);
}

/// The nightly form.
#[test]
#[ignore = "takes minutes: run with --ignored"]
fn what_is_committed_is_what_was_fed_whatever_the_night_brings() {
    run::all(1..=500);
}
