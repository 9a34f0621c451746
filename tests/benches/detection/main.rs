//! How well the models detect: the Numenta Anomaly Benchmark, labelled traffic of servers (donut), clean synthetic series,
//! and real series without labels.
//!
//! `cargo bench -p spikewatch-tests --bench detection [-- --write]`
//!
//! Prints its tables; `--write` also puts them into `RESULTS.md` beside this file. The data are not part of the project:
//! `SPIKEWATCH_TEST_DATA` says where they are (see `README.md` there); what isn't found is said to be missing.

mod clean;
mod events;
mod models;
mod nab;
mod unlabelled;

use std::{env, fmt::Write as _, fs, path::PathBuf};

/// Score from which on rules alert.
const THRESHOLD: f64 = 75.0;

fn main() {
    let data = env::var_os("SPIKEWATCH_TEST_DATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")), PathBuf::from);
    let mut out = String::new();
    for (title, table) in [
        ("Numenta Anomaly Benchmark", nab::report(&data.join("nab"))),
        ("Labelled server traffic (donut)", events::report(&data.join("donut-kpi"))),
        ("Clean synthetic series", Some(clean::report())),
        ("Real series without labels", unlabelled::report(&data)),
    ] {
        let table = table.unwrap_or_else(|| format!("Not measured: no data in {}.\n", data.display()));
        writeln!(out, "## {title}\n\n{table}").expect("text");
        println!("## {title}\n\n{table}");
    }
    if env::args().any(|argument| argument == "--write") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/detection/RESULTS.md");
        let head = fs::read_to_string(path).unwrap_or_default();
        let head = head.split("## Numenta").next().unwrap_or_default().to_owned();
        fs::write(path, head + out.trim_end() + "\n").expect("RESULTS.md can be written");
    }
}
