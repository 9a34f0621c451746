//! The model against golden vectors that its reference implementation made: six weeks of one host's 15-minute buckets,
//! with gaps, two attacks at the same hour on following days, a slow rise and a lasting doubling.

use spikewatch_detector::baseline::{Compact, Evidence, PRIOR_UNKNOWN, Side, prior_l, record_score};

const GOLDEN: &str = include_str!("../../tests/data/goldens/baseline_golden.csv");
const COLUMNS: [&str; 12] =
    ["q", "T0", "T1", "T2", "Ty", "typical", "lower95", "upper95", "lower99", "upper99", "L", "score"];

struct Row {
    t: i64,
    value: Option<f64>,
    expected: Vec<f64>,
}

fn golden() -> Vec<Row> {
    let number = |field: &str| field.parse::<f64>().unwrap();
    GOLDEN
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!(fields.len(), 15, "{line}");
            let value = Some(number(fields[2])).filter(|value| !value.is_nan());
            Row { t: fields[1].parse().unwrap(), value, expected: fields[3..].iter().map(|f| number(f)).collect() }
        })
        .collect()
}

fn columns(e: &Evidence) -> [f64; 12] {
    let l = prior_l(e.q);
    [e.q, e.t0, e.t1, e.t2, e.ty, e.typical, e.lower95, e.upper95, e.lower99, e.upper99, l, record_score(l)]
}

#[test]
fn equals_the_reference() {
    let rows = golden();
    assert_eq!(rows.len(), 4032);
    let mut model = Compact::new(PRIOR_UNKNOWN);
    let mut worst = 0.0f64;
    for (i, row) in rows.iter().enumerate() {
        let foretold = model.score(row.t, row.value, 900, Side::High, true);
        let evidence = model.observe(row.t, row.value, 900, Side::High, true);
        assert_eq!(foretold, evidence, "row {i}: scoring without learning says something else");
        for (name, (actual, expected)) in COLUMNS.iter().zip(columns(&evidence).iter().zip(&row.expected)) {
            let off = (actual - expected).abs();
            assert!(off <= 1e-6 + 1e-4 * expected.abs(), "row {i}, {name}: {actual} instead of {expected}");
            if off > 1e-6 {
                worst = worst.max(off / expected.abs());
            }
        }
    }
    println!("largest relative difference {worst:.1e}");
}

#[test]
fn a_reloaded_model_goes_on_bit_for_bit() {
    let rows = golden();
    let mut kept = Compact::new(PRIOR_UNKNOWN);
    let mut reloaded = kept.clone();
    for (i, row) in rows.iter().enumerate() {
        if i % 500 == 250 {
            reloaded = Compact::from_bytes(&reloaded.to_bytes()).unwrap();
        }
        let a = kept.observe(row.t, row.value, 900, Side::High, true);
        let b = reloaded.observe(row.t, row.value, 900, Side::High, true);
        assert_eq!(columns(&a).map(f64::to_bits), columns(&b).map(f64::to_bits), "row {i}");
    }
    assert_eq!(kept.to_bytes(), reloaded.to_bytes());
}

#[test]
fn what_is_only_scored_leaves_no_trace() {
    let mut model = Compact::new(PRIOR_UNKNOWN);
    for row in golden().iter().take(1000) {
        model.observe(row.t, row.value, 900, Side::High, false);
    }
    let before = model.clone();
    let t = golden()[1000].t;
    for value in [0.0, 100.0, 1e6, 1e18] {
        let _ = model.score(t, Some(value), 900, Side::High, true);
    }
    model.observe(t, None, 900, Side::High, true);
    assert_eq!(model, before);
}
