//! Runs seeds in processes of their own, as many at once as there are processors.

use std::{
    ops::RangeInclusive,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use mad_turmoil::{rand::set_rng, time::SimClocksGuard};
use rand::{SeedableRng as _, rngs::StdRng};

/// The seed to be run.
const SEED: &str = "SPIKEWATCH_SEED";
/// Set where the trace is not to be printed.
const QUIET: &str = "SPIKEWATCH_QUIET";
/// What the line begins with that tells how a seed went.
pub(crate) const OUTCOME: &str = "outcome: ";

/// How a seed went in its process.
pub(crate) struct Ran {
    /// The line that says so; none if it failed.
    pub(crate) outcome: Option<String>,
    /// All it said.
    pub(crate) output: String,
}

/// The seed in the environment, else 1.
pub(crate) fn asked_seed() -> u64 {
    std::env::var(SEED).map_or(1, |seed| seed.parse().expect("SPIKEWATCH_SEED is a number"))
}

/// True if a person looks at this run.
pub(crate) fn is_watched() -> bool {
    std::env::var_os(SEED).is_some() && std::env::var_os(QUIET).is_none()
}

/// From here on all random numbers of this process follow from the seed, and its clocks show simulated time.
pub(crate) fn seed_randomness(seed: u64) {
    set_rng(StdRng::seed_from_u64(seed));
    std::mem::forget(SimClocksGuard::init());
}

/// Runs one seed in a process of its own.
pub(crate) fn in_a_process(seed: u64) -> Ran {
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "one_seed", "--nocapture", "--test-threads=1"])
        .env(SEED, seed.to_string())
        .env(QUIET, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let output = [String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr)].concat();
    let line = output.lines().find_map(|line| line.split_once(OUTCOME)).map(|(_, outcome)| outcome.to_owned());
    Ran { outcome: line.filter(|_| ran.status.success()), output }
}

/// Runs them all; says which failed, and how each is run again.
pub(crate) fn all(seeds: RangeInclusive<u64>) {
    let (next, last) = (AtomicU64::new(*seeds.start()), *seeds.end());
    let one_after_another = || {
        let mut failed = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > last {
                return failed;
            }
            let ran = in_a_process(seed);
            match ran.outcome {
                Some(outcome) => println!("seed {seed}: {outcome}"),
                None => {
                    println!("seed {seed} FAILED:\n{}", ran.output);
                    failed.push(seed);
                }
            }
        }
    };
    let at_once = thread::available_parallelism().map_or(1, usize::from);
    let mut failed: Vec<u64> = thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(one_after_another)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    failed.sort_unstable();
    let again = failed.first().copied().unwrap_or_default();
    assert!(
        failed.is_empty(),
        "seeds {failed:?} failed; again: {SEED}={again} cargo test -p spikewatch-tests --test simulation -- --exact \
         one_seed --nocapture"
    );
}
