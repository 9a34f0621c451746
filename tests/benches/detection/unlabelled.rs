//! Real series without labels, or with benign traffic only: how often do the models alert?

use std::{fmt::Write as _, fs, path::Path};

use spikewatch_detector::baseline::{Side, table::Model};

use crate::{
    THRESHOLD,
    models::{alerts, of_series},
};

const HOUR: u32 = 3600;
const QUARTER: u32 = 900;

/// A column of a CSV.
fn column(path: &Path, name: &str) -> Option<Vec<f64>> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines();
    let at = lines.next()?.split(',').position(|field| field == name)?;
    Some(lines.filter_map(|line| line.split(',').nth(at)?.parse().ok()).collect())
}

pub(crate) fn report(data: &Path) -> Option<String> {
    let mut out = String::from(
        "Alerts at 75 (runs less than a day apart together), high side; nobody knows which of them are right.\n\n\
         | series | days | rich | compact |\n|---|---|---|---|\n",
    );
    let cesnet = data.join("cesnet/103.csv");
    let honeypot = data.join("iot23/CTU-Honeypot-Capture-4-1-labeled.win15m.csv");
    let named = ["n_flows", "n_packets", "n_bytes", "sum_n_dest_ip"].map(|name| (&cesnet, name, HOUR));
    let benign = ["flows", "packets", "bytes"].map(|name| (&honeypot, name, QUARTER));
    let mut found = false;
    for (path, name, span_s) in named.into_iter().chain(benign) {
        let Some(values) = column(path, name) else { continue };
        found = true;
        let apart = (86_400 / span_s) as usize;
        let count = |model| alerts(&of_series(&values, 0, span_s, model, Side::High), THRESHOLD, apart).len();
        let source = path.parent()?.file_name()?.to_string_lossy();
        let days = values.len() as f64 * f64::from(span_s) / 86_400.0;
        writeln!(out, "| {source} {name} | {days:.0} | {} | {} |", count(Model::Rich), count(Model::Compact)).ok()?;
    }
    found.then_some(out)
}
