//! How fast a cluster of real processes gets over a death or a planned move, what very many streams cost, and how soon a
//! flood is alerted.
//!
//! `cargo build --release && cargo bench -p spikewatch-tests --bench cluster -- moves [HOSTS]`, or
//! `-- streams [COLLECTORS [HOSTS_OF_EACH [SLICE_SECONDS [FLOWS_OF_EACH]]]]`, or `-- onset [LEAST_TIMES_TYPICAL]`

mod moves;
mod onset;
mod process;
mod streams;
mod traffic;

use std::path::PathBuf;

/// The program beside which this bench was built: target/release/deps/… → target/release/spikewatch.
fn program() -> PathBuf {
    let bench = std::env::current_exe().expect("a path of our own");
    bench.ancestors().nth(2).expect("target/release").join("spikewatch")
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let number = |at: usize, otherwise| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(otherwise);
    // As many blocking threads as there may be collectors in this process.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(4_096).build();
    let runtime = runtime.expect("a runtime");
    match words.first().map(String::as_str) {
        Some("moves") => runtime.block_on(moves::run(number(1, 10_000))),
        Some("streams") => {
            runtime.block_on(streams::run(number(1, 1_000), number(2, 1_000), number(3, 10), number(4, 1)))
        }
        Some("onset") => runtime.block_on(onset::run(number(1, 0))),
        _ => println!("expected: onset [LEAST], moves [HOSTS] or streams [COLLECTORS [HOSTS [SLICE [FLOWS]]]]"),
    }
    runtime.shutdown_background();
}
