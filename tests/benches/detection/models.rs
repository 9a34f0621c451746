//! The models as their users meet them: `spikewatch score` on a table, and the models themselves on long series.

use spikewatch_detector::baseline::{
    Compact, PRIOR_UNKNOWN, Side, prior_l, record_score,
    rich::Rich,
    table::{Function, Model, TableOptions, score_table},
};

/// Scores of a CSV with a header, row by row: those of `spikewatch score --function FUNCTION`.
pub(crate) fn of_table(text: &str, model: Model, function: &str) -> Vec<f64> {
    let function = Function::named(function).expect("a function");
    let options = TableOptions { function, bucket_span_s: None, model };
    let mut out = Vec::new();
    score_table(text.as_bytes(), &mut out, options, |fault| panic!("{fault}")).expect("a table");
    let text = String::from_utf8(out).expect("text");
    let score = |line: &str| line.split(',').nth(3).and_then(|field| field.parse().ok()).expect("a score");
    text.lines().skip(1).map(score).collect()
}

/// Scores of a series of counts.
pub(crate) fn of_series(values: &[f64], start: i64, span_s: u32, model: Model, side: Side) -> Vec<f64> {
    let at = |i: usize| start + i as i64 * i64::from(span_s);
    match model {
        Model::Rich => {
            let mut rich = Rich::new();
            (0..values.len()).map(|i| rich.observe(at(i), Some(values[i]), span_s, side).score).collect()
        }
        Model::Compact => {
            let mut compact = Compact::new(PRIOR_UNKNOWN);
            let mut score = |i: usize| compact.observe(at(i), Some(values[i]), span_s, side, false).q;
            (0..values.len()).map(|i| record_score(prior_l(score(i)))).collect()
        }
    }
}

/// Runs of scores at or over the threshold, those less than `apart` buckets from another taken together.
pub(crate) fn alerts(scores: &[f64], threshold: f64, apart: usize) -> Vec<(usize, usize)> {
    let mut alerts: Vec<(usize, usize)> = Vec::new();
    for (i, _) in scores.iter().enumerate().filter(|(_, score)| **score >= threshold) {
        match alerts.last_mut() {
            Some(last) if i - last.1 < apart => last.1 = i,
            _ => alerts.push((i, i)),
        }
    }
    alerts
}
