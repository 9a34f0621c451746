//! Clean synthetic series: whatever alerts on them is false.
//!
//! Ten families on a daily and weekly pattern, four bucket lengths, and two seeds. The constants were chosen with
//! both in view, so no figure of it is held out.

use std::{f64::consts::PI, fmt::Write as _};

use spikewatch_detector::baseline::{Side, table::Model};

use crate::{
    THRESHOLD,
    models::{alerts, of_series},
    random::Random,
};

/// Bucket length and days of each series.
const LENGTHS: [(u32, usize); 4] = [(60, 21), (300, 42), (900, 56), (3600, 84)];
const FAMILIES: [&str; 10] = ["gauss", "noisy", "poisson", "sparse", "ar", "t3", "burst", "jobs", "office", "drift"];
/// A Monday.
const START: i64 = 1_772_409_600;
const APART: usize = 60;

/// Noise that fades with time constant `minutes`.
struct Fading {
    keep: f64,
    deviation: f64,
    value: f64,
}

impl Fading {
    fn new(span_s: u32, minutes: f64, deviation: f64) -> Self {
        Self { keep: (-f64::from(span_s) / 60.0 / minutes).exp(), deviation, value: 0.0 }
    }

    fn next(&mut self, random: &mut Random) -> f64 {
        let fresh = self.deviation * (1.0 - self.keep * self.keep).sqrt();
        self.value = self.keep * self.value + fresh * random.normal();
        self.value
    }
}

fn series(family: &str, span_s: u32, days: usize, seed: u64) -> Vec<f64> {
    let number = FAMILIES.iter().position(|other| *other == family).unwrap_or(0) as u64;
    let r = &mut Random(seed << 40 | u64::from(span_s) << 8 | number);
    let a_day = 86_400 / span_s as usize;
    let (weekend, swing, peak) = (r.between(0.4, 1.0), r.between(0.2, 0.8), r.between(12.0, 20.0));
    let base = r.between(2e3_f64.ln(), 2e6_f64.ln()).exp();
    let hour = |i: usize| (i % a_day) as f64 / a_day as f64 * 24.0;
    let weekday = |i: usize| (i / a_day) % 7 < 5;
    let usual = |i: usize| {
        let angle = (hour(i) - peak) / 12.0 * PI;
        let day = (1.0 + swing * angle.cos() + 0.3 * swing * (2.0 * angle).cos()).max(0.05);
        base * day * if weekday(i) { 1.0 } else { weekend }
    };
    let all = 0..a_day * days;
    let mut slow = Fading::new(span_s, 60.0, 0.1);
    let mut values: Vec<f64> = match family {
        "gauss" => all.map(|i| usual(i) * (1.0 + 0.05 * r.normal())).collect(),
        "noisy" => all.map(|i| usual(i) * (0.3 * r.normal()).exp()).collect(),
        "poisson" | "sparse" => {
            let mean = if family == "poisson" { r.between(20.0, 200.0) } else { r.between(0.3, 3.0) };
            all.map(|i| r.poisson(usual(i) / base * mean)).collect()
        }
        "ar" => {
            let mut noise = Fading::new(span_s, r.between(20.0, 180.0), r.between(0.1, 0.3));
            all.map(|i| usual(i) * noise.next(r).exp()).collect()
        }
        "t3" => {
            let size = r.between(0.03, 0.1);
            all.map(|i| usual(i) * (1.0 + size * r.t3()).max(0.0)).collect()
        }
        "office" => {
            let (mut noise, mut today) = (Fading::new(span_s, 45.0, 0.2), 1.0);
            let work = |i: usize| {
                if i.is_multiple_of(a_day) {
                    today = (0.15 * r.normal()).exp();
                }
                let at_work = 1.0 / (1.0 + (-(hour(i) - 8.5) / 0.4).exp()) / (1.0 + ((hour(i) - 17.5) / 0.5).exp());
                let busy = at_work * today * if weekday(i) { 1.0 } else { 0.03 };
                base * (0.03 + busy) * (noise.next(r) + 0.1 * r.normal()).exp()
            };
            all.map(work).collect()
        }
        "drift" => {
            let mut noise = Fading::new(span_s, 60.0 * 240.0, 0.3);
            all.map(|i| usual(i) * (noise.next(r) + 0.08 * r.normal()).exp()).collect()
        }
        _ => all.map(|i| usual(i) * (slow.next(r) + 0.03 * r.normal()).exp()).collect(),
    };
    match family {
        "burst" => {
            let share = r.between(3.0, 20.0) / a_day as f64;
            for i in 0..values.len() {
                if r.unit() < share {
                    let length = (r.exponential() * 600.0 / f64::from(span_s)) as usize;
                    add(&mut values, i, length.max(1), base * 0.5 * r.exponential());
                }
            }
        }
        "jobs" => {
            let (at, jitter, size) = (r.between(0.0, 1440.0), r.between(2.0, 20.0), r.between(0.5, 4.0));
            let length = r.between(10.0, 60.0);
            for day in 0..days {
                let minute = (day as f64 * 1440.0 + at + jitter * r.normal()).max(0.0);
                let buckets = length * 60.0 / f64::from(span_s) * (0.15 * r.normal()).exp();
                let start = (minute * 60.0 / f64::from(span_s)) as usize;
                add(&mut values, start, (buckets as usize).max(1), base * size * (0.15 * r.normal()).exp());
            }
        }
        _ => {}
    }
    values.iter().map(|value| value.max(0.0).round()).collect()
}

fn add(values: &mut [f64], start: usize, length: usize, more: f64) {
    values.iter_mut().skip(start).take(length).for_each(|value| *value += more);
}

pub(crate) fn report() -> String {
    let mut out = String::from(
        "Alerts at 75 (runs less than 60 buckets apart together) per 1000 series-days, seed 1 / seed 2.\n\n\
         | model, side | 60 s | 300 s | 900 s | 3600 s | worst family |\n|---|---|---|---|---|---|\n",
    );
    let sides = [("two-sided", Side::Both), ("high", Side::High), ("low", Side::Low)];
    let rows = [(Model::Rich, "rich"), (Model::Compact, "compact")];
    for ((model, model_name), (side_name, side)) in rows.into_iter().flat_map(|row| sides.map(|side| (row, side))) {
        let mut cells = Vec::new();
        let mut of_family = vec![(0.0, 0.0); FAMILIES.len()];
        for (span_s, days) in LENGTHS {
            let rates = [1, 2].map(|seed| {
                let mut found = 0.0;
                for (family, sum) in FAMILIES.iter().zip(&mut of_family) {
                    let values = series(family, span_s, days, seed);
                    let own = alerts(&of_series(&values, START, span_s, model, side), THRESHOLD, APART).len() as f64;
                    found += own;
                    *sum = (sum.0 + own, sum.1 + days as f64);
                }
                1000.0 * found / (days * FAMILIES.len()) as f64
            });
            cells.push(format!("{:.0} / {:.0}", rates[0], rates[1]));
        }
        let rate = |(alerts, days): (f64, f64)| 1000.0 * alerts / days;
        let families = FAMILIES.iter().zip(of_family).map(|(family, sum)| (family, rate(sum)));
        let (family, most) = families.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((&"", 0.0));
        let _ = writeln!(out, "| {model_name}, {side_name} | {} | {family} {most:.0} |", cells.join(" | "));
    }
    out
}
