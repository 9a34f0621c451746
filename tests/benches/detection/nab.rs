//! The Numenta Anomaly Benchmark, scored anew from its published description: A. Lavin and S. Ahmad, "Evaluating Real-time
//! Anomaly Detection Algorithms", ICMLA 2015.
//!
//! A detection inside a window earns up to 1, the earlier the more; one outside costs up to the weight of a false positive,
//! the farther behind the last window the more; a window without a detection costs the weight of a false negative. The
//! first 15 % of a file (of at most 5000 rows) count for nothing. The threshold is the best for the profile, over all files.

use std::{collections::BTreeMap, fmt::Write as _, fs, io::Read as _, path::Path};

use flate2::read::GzDecoder;
use spikewatch_detector::baseline::table::Model;

use crate::{THRESHOLD, models::of_table};

/// Name in the published results, weight of a false positive, weight of a missed window.
const PROFILES: [(&str, f64, f64); 3] =
    [("standard", 0.11, 1.0), ("reward_low_FP_rate", 0.22, 1.0), ("reward_low_FN_rate", 0.11, 2.0)];

struct File {
    name: String,
    text: String,
    rows: usize,
    /// First and last row of each labelled window.
    windows: Vec<(usize, usize)>,
}

/// A row that counts.
struct Point {
    score: f64,
    /// Its window, over all files.
    window: Option<usize>,
    /// What a detection there is worth before weights: up to 1 inside, down to -1 outside.
    worth: f64,
}

fn sigmoid(x: f64) -> f64 {
    if x > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * x).exp()) - 1.0 }
}

impl File {
    fn first_that_counts(&self) -> usize {
        (self.rows * 15 / 100).min(750)
    }

    fn points(&self, scores: &[f64], windows_before: usize) -> Vec<Point> {
        let worth_of = |i: usize| {
            if let Some(at) = self.windows.iter().position(|(from, to)| (*from..=*to).contains(&i)) {
                let (from, to) = self.windows[at];
                let width = (to - from + 1) as f64;
                return (Some(windows_before + at), sigmoid(-((to - i + 1) as f64) / width) / sigmoid(-1.0));
            }
            let last = self.windows.iter().rev().find(|(_, to)| *to < i);
            (None, last.map_or(-1.0, |(from, to)| sigmoid((i - to) as f64 / (to - from) as f64)))
        };
        let point = |i: usize| {
            let (window, worth) = worth_of(i);
            Point { score: scores[i], window, worth }
        };
        (self.first_that_counts()..self.rows).map(point).collect()
    }
}

/// The corpus in the order of its labels' names.
fn load(folder: &Path) -> Option<Vec<File>> {
    let labels = fs::read_to_string(folder.join("labels/combined_windows.json")).ok()?;
    let labels: BTreeMap<String, Vec<[String; 2]>> = serde_json::from_str(&labels).expect("labels");
    let load = |(name, windows): (String, Vec<[String; 2]>)| {
        let text = fs::read_to_string(folder.join("data").join(&name)).expect("a file of the corpus");
        let times: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
        let row = |time: &str| {
            let time = time.split('.').next().unwrap_or(time);
            times.iter().position(|other| *other == time).expect("a window's end is a row")
        };
        let windows = windows.iter().map(|[from, to]| (row(from), row(to))).collect();
        File { rows: times.len(), name, windows, text: text.clone() }
    };
    Some(labels.into_iter().map(load).collect())
}

/// Scores of one detector, file by file.
type Scores = Vec<Vec<f64>>;

/// The normalised score of a profile, at a threshold or at the best one, and which that is.
fn score(files: &[File], scores: &Scores, chosen: &[usize], profile: usize, threshold: Option<f64>) -> (f64, f64) {
    let (_, false_positive, missed) = PROFILES[profile];
    let (mut points, mut windows, mut counted) = (Vec::new(), 0, 0);
    for at in chosen {
        let file = &files[*at];
        points.extend(file.points(&scores[*at], windows));
        windows += file.windows.len();
        counted += file.windows.iter().filter(|(_, to)| *to >= file.first_that_counts()).count();
    }
    points.sort_by(|a, b| b.score.total_cmp(&a.score));
    // From the highest score down: what lowering the threshold past each row adds.
    let mut best_in: Vec<f64> = vec![-missed; windows];
    let (mut total, mut best) = (0.0, (0.0, f64::INFINITY));
    for (i, point) in points.iter().enumerate() {
        if threshold.is_some_and(|threshold| point.score < threshold) {
            break;
        }
        match point.window {
            Some(window) if point.worth > best_in[window] => {
                total += point.worth - best_in[window];
                best_in[window] = point.worth;
            }
            Some(_) => {}
            None => total += false_positive * point.worth,
        }
        let last_of_its_score = points.get(i + 1).is_none_or(|next| next.score < point.score);
        if last_of_its_score && (total > best.0 || threshold.is_some()) {
            best = (total, point.score);
        }
    }
    // Nothing detected is 0, everything in time and nothing else is 100.
    (100.0 * best.0 / (counted as f64 * (1.0 + missed)), best.1)
}

/// Raw scores as they were published.
fn published(folder: &Path, detector: &str, files: &[File]) -> Option<Scores> {
    let mut text = String::new();
    let file = fs::File::open(folder.join(format!("scores/{detector}.csv.gz"))).ok()?;
    GzDecoder::new(file).read_to_string(&mut text).ok()?;
    let mut by_name: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let mut fields = line.split(',');
        by_name.entry(fields.next()?).or_default().push(fields.nth(1)?.parse().ok()?);
    }
    files.iter().map(|file| by_name.remove(file.name.as_str())).collect()
}

/// One alert an incident: for 100 rows after an alert only a higher score counts, then the bar falls to half and decays.
fn incidents(scores: &[f64]) -> Vec<f64> {
    let (mut level, mut since) = (0.0, f64::INFINITY);
    let gate = |score: &f64| {
        since += 1.0;
        let bar = if since < 100.0 { level } else { 0.5 * level * (-(since - 100.0) / 100.0).exp() };
        if *score <= bar {
            return 0.0;
        }
        (level, since) = (*score, 0.0);
        *score
    };
    scores.iter().map(gate).collect()
}

pub(crate) fn report(folder: &Path) -> Option<String> {
    let files = load(folder)?;
    let results = fs::read_to_string(folder.join("final_results.json")).ok()?;
    let results: BTreeMap<String, BTreeMap<String, f64>> = serde_json::from_str(&results).expect("results");
    let all: Vec<usize> = (0..files.len()).collect();
    let mut out = String::from(
        "Standard, low false positives, low false negatives; the threshold is the best for each profile, or 75.\n\n\
         | detector | tuned | at 75 | half A / B, standard |\n|---|---|---|---|\n",
    );
    for detector in ["ARTime", "numenta"] {
        let scores = published(folder, detector, &files)?;
        let own = PROFILES.map(|(name, ..)| {
            let profile = PROFILES.iter().position(|other| other.0 == name).unwrap_or(0);
            let own = score(&files, &scores, &all, profile, None).0;
            let theirs = results.get(detector).and_then(|results| results.get(name)).copied().unwrap_or(f64::NAN);
            assert!((own - theirs).abs() < 0.02, "{detector}, {name}: {own} instead of the published {theirs}");
            own
        });
        writeln!(out, "| {detector} (published scores) | {} | | |", row(own)).ok()?;
    }
    for (name, model) in Model::NAMES.into_iter().filter_map(|name| Some((name, Model::named(name)?))) {
        let plain: Scores = files.iter().map(|file| of_table(&file.text, model, "mean")).collect();
        let gated: Scores = plain.iter().map(|scores| incidents(scores)).collect();
        for (how, scores) in [("", &plain), (", one alert an incident", &gated)] {
            let tuned = [0, 1, 2].map(|profile| score(&files, scores, &all, profile, None).0);
            let at_75 = [0, 1, 2].map(|profile| score(&files, scores, &all, profile, Some(THRESHOLD)).0);
            let half = |odd: usize| {
                let half: Vec<usize> = all.iter().copied().filter(|at| at % 2 == odd).collect();
                score(&files, scores, &half, 0, None).0
            };
            writeln!(out, "| {name}{how} | {} | {} | {:.1} / {:.1} |", row(tuned), row(at_75), half(0), half(1))
                .ok()?;
        }
    }
    Some(out)
}

fn row(scores: [f64; 3]) -> String {
    scores.map(|score| format!("{score:.2}")).join(" / ")
}
