//! How well the models detect: the Numenta Anomaly Benchmark, labelled traffic of servers (donut), clean synthetic series,
//! real series without labels, and how many false alerts clean hosts give.
//!
//! `cargo bench -p spikewatch-tests --bench detection [-- [nab] [donut] [clean] [unlabelled] [bound] [--write]]`
//!
//! Prints the tables that are named, all if none is; `--write` also puts them into `RESULTS.md` beside this file, in the
//! place of those it has. The data are not part of the project: `SPIKEWATCH_TEST_DATA` says where they are (see `README.md`
//! there); what isn't found is said to be missing.

mod bound;
mod clean;
mod events;
mod hosts;
mod models;
mod nab;
mod random;
mod unlabelled;

use std::{env, fs, path::PathBuf};

/// Score from which on rules alert.
const THRESHOLD: f64 = 75.0;

/// A section of the results: the word that asks for it, its title, and what measures it, given the folder of data.
type Section = (&'static str, &'static str, fn(&std::path::Path) -> Option<String>);

const SECTIONS: [Section; 5] = [
    ("nab", "Numenta Anomaly Benchmark", |data| nab::report(&data.join("nab"))),
    ("donut", "Labelled server traffic (donut)", |data| events::report(&data.join("donut-kpi"))),
    ("clean", "Clean synthetic series", |_| Some(clean::report())),
    ("unlabelled", "Real series without labels", unlabelled::report),
    ("bound", "False alerts of clean hosts", |_| Some(bound::report())),
];

fn main() {
    let data = env::var_os("SPIKEWATCH_TEST_DATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")), PathBuf::from);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/detection/RESULTS.md");
    let named: Vec<String> = env::args().skip(1).collect();
    let all = SECTIONS.iter().all(|(word, ..)| !named.iter().any(|own| own == word));
    for (word, title, measure) in SECTIONS {
        if !all && !named.iter().any(|own| own == word) {
            continue;
        }
        let missing = || format!("Not measured: no data in {}.\n", data.display());
        let table = measure(&data).unwrap_or_else(missing);
        println!("## {title}\n\n{table}");
        if named.iter().any(|own| own == "--write") {
            let before = fs::read_to_string(path).unwrap_or_default();
            fs::write(path, with_section(&before, title, &table)).expect("RESULTS.md can be written");
        }
    }
}

/// The text with that section in the place of the one of its title, or at its end.
fn with_section(text: &str, title: &str, table: &str) -> String {
    let section = format!("## {title}\n\n{}\n", table.trim_end());
    let heading = format!("## {title}\n");
    let Some((before, rest)) = text.split_once(&heading) else {
        return format!("{}\n\n{section}", text.trim_end());
    };
    let after = rest.split_once("\n## ").map_or_else(String::new, |(_, after)| format!("\n## {after}"));
    format!("{before}{section}{after}")
}
