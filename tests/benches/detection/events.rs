//! Events of labelled series: an event is a run of labelled buckets. It is hit if a bucket of it, or the one after, is at or
//! over the threshold; an alert (runs less than 60 buckets apart together) is false if none of its buckets hits an event.

use std::{fmt::Write as _, fs, path::Path};

use spikewatch_detector::baseline::table::Model;

use crate::{
    THRESHOLD,
    models::{alerts, of_table},
};

/// Alerts nearer than that are one.
const APART: usize = 60;
const BUCKETS_A_DAY: f64 = 288.0;

struct Labelled {
    text: String,
    labels: Vec<bool>,
}

/// What a threshold gives.
#[derive(Debug, Clone, Copy, Default)]
struct Outcome {
    threshold: f64,
    precision: f64,
    recall: f64,
    false_a_day: f64,
}

impl Outcome {
    fn f1(&self) -> f64 {
        2.0 * self.precision * self.recall / (self.precision + self.recall).max(1e-9)
    }
}

fn load(folder: &Path) -> Option<Vec<(String, Labelled)>> {
    let mut series = Vec::new();
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            let text = fs::read_to_string(&path).ok()?;
            let labels = text.lines().skip(1).map(|line| line.rsplit(',').next() == Some("1")).collect();
            series.push((path.file_stem()?.to_string_lossy().into_owned(), Labelled { text, labels }));
        }
    }
    series.sort_by(|a, b| a.0.cmp(&b.0));
    (!series.is_empty()).then_some(series)
}

fn outcome(series: &[(String, Labelled)], scores: &[Vec<f64>], threshold: f64) -> Outcome {
    let (mut hit, mut events, mut right, mut wrong, mut buckets) = (0.0f64, 0.0f64, 0.0f64, 0.0f64, 0.0f64);
    for ((_, Labelled { labels, .. }), scores) in series.iter().zip(scores) {
        let labelled: Vec<f64> = labels.iter().map(|label| f64::from(*label)).collect();
        let runs = alerts(&labelled, 1.0, 2);
        let over = |from: usize, to: usize| scores[from..=to.min(scores.len() - 1)].iter().any(|s| *s >= threshold);
        events += runs.len() as f64;
        hit += runs.iter().filter(|(from, to)| over(*from, to + 1)).count() as f64;
        buckets += scores.len() as f64;
        for (from, to) in alerts(scores, threshold, APART) {
            let inside = |i: usize| scores[i] >= threshold && (labels[i] || (i > 0 && labels[i - 1]));
            if (from..=to).any(inside) {
                right += 1.0;
            } else {
                wrong += 1.0;
            }
        }
    }
    Outcome {
        threshold,
        precision: right / (right + wrong).max(1.0),
        recall: hit / events.max(1.0),
        false_a_day: wrong / (buckets / BUCKETS_A_DAY),
    }
}

pub(crate) fn report(folder: &Path) -> Option<String> {
    let series = load(folder)?;
    let mut out = String::from(
        "Event F1 over all series, two-sided (`mean`); \"best\" takes its threshold from the labels.\n\n\
         | model | best F1 (P, R) | at | F1 at 75 (P, R) | false alerts / 1000 days at 75 |\n|---|---|---|---|---|\n",
    );
    for (name, model) in Model::NAMES.into_iter().filter_map(|name| Some((name, Model::named(name)?))) {
        let scores: Vec<Vec<f64>> = series.iter().map(|(_, one)| of_table(&one.text, model, "mean")).collect();
        let candidates = (20..400).map(|quarter| outcome(&series, &scores, f64::from(quarter) * 0.25));
        let best = candidates.max_by(|a, b| a.f1().total_cmp(&b.f1())).unwrap_or_default();
        let own = outcome(&series, &scores, THRESHOLD);
        writeln!(
            out,
            "| {name} | {:.3} ({:.2}, {:.2}) | {:.1} | {:.3} ({:.2}, {:.2}) | {:.0} |",
            best.f1(),
            best.precision,
            best.recall,
            best.threshold,
            own.f1(),
            own.precision,
            own.recall,
            1000.0 * own.false_a_day
        )
        .ok()?;
    }
    Some(out)
}
