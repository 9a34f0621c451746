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
            // The score is 25 times a small difference where it leaves 0: the last digit of L shows.
            let near_zero = if *name == "score" { 1e-5 } else { 1e-6 };
            assert!(off <= near_zero + 1e-4 * expected.abs(), "row {i}, {name}: {actual} instead of {expected}");
            if off > near_zero {
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

const SIDES: &str = include_str!("../../tests/data/goldens/baseline_sides_golden.csv");

/// The input of the second golden file: noise on a triangular day and a week, with a gap, bursts, silence and a
/// doubling. Integers only, so that any language makes the same.
fn staged(buckets: i64, span_s: i64) -> Vec<(i64, Option<f64>)> {
    let mut noise = 2_463_534_242u32;
    (0..buckets)
        .map(|i| {
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            let t = 1_772_409_600 + span_s * i;
            let mut base = (43_200 - (t % 86_400 - 43_200).abs()) / 100 + 20;
            if (t / 86_400) % 7 >= 5 {
                base /= 4;
            }
            let value = base * (512 + i64::from(noise % 1024)) / 1024;
            let value = match i {
                1500..1510 => None,
                900..906 | 1900..1903 => Some(value * 30),
                1200..1215 => Some(0),
                2200.. => Some(value * 2),
                _ => Some(value),
            };
            (t, value.map(|value| value as f64))
        })
        .collect()
}

#[test]
fn equals_the_reference_on_every_side_and_bucket_length() {
    let mut rows = SIDES.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>()).peekable();
    while let Some(first) = rows.peek() {
        let (span, side_name) = (first[0].to_owned(), first[1].to_owned());
        let side = match side_name.as_str() {
            "-1" => Side::Low,
            "0" => Side::Both,
            _ => Side::High,
        };
        let span_s: u32 = span.parse().unwrap();
        let mut model = Compact::new(101f64.ln());
        let mut compared = 0;
        for (i, (t, value)) in staged(6000, i64::from(span_s)).into_iter().enumerate() {
            let e = model.observe(t, value, span_s, side, true);
            let Some(row) = rows.next_if(|row| row[0] == span && row[1] == side_name && row[2].parse() == Ok(i)) else {
                continue;
            };
            compared += 1;
            let actual =
                [e.q, e.t0, e.t1, e.t2, e.ty, e.surprise, e.typical, e.lower95, e.upper95, e.lower99, e.upper99, e.z];
            for (column, (actual, expected)) in actual.iter().zip(&row[3..]).enumerate() {
                let mut expected: f64 = expected.parse().unwrap();
                if (6..11).contains(&column) {
                    // The reference lets an upper bound fall below 0, which no count does.
                    expected = expected.max(0.0);
                }
                assert!(
                    (actual - expected).abs() <= 2e-6 + 1e-4 * expected.abs(),
                    "span {span}, side {side_name}, bucket {i}, column {column}: {actual} instead of {expected}"
                );
            }
        }
        assert!(compared > 150, "span {span}, side {side_name}: {compared} rows");
    }
}

/// The bits of a run: of all evidence, and of the state it leaves.
fn bits(values: impl Iterator<Item = (i64, Option<f64>)>, prior: f64, span_s: u32, side: Side) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut enter = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    let mut model = Compact::new(prior);
    for (i, (t, value)) in values.enumerate() {
        let e = model.observe(t, value, span_s, side, i % 3 == 0);
        for value in
            [e.q, e.t0, e.t1, e.t2, e.ty, e.surprise, e.typical, e.lower95, e.upper95, e.lower99, e.upper99, e.z]
        {
            enter(&value.to_bits().to_le_bytes());
        }
        if i < 20 || i % 97 == 0 {
            enter(&model.to_bytes());
        }
    }
    enter(&model.to_bytes());
    hash
}

/// Scores and stored states of different versions and machines meet in one store: how the state is held in memory, or
/// when it is worked out, must not show. The numbers are those of the first version.
#[test]
fn not_a_bit_changes() {
    let sparse = |(i, (t, value)): (usize, (i64, Option<f64>))| (t, value.map(|v| if i % 7 < 5 { 0.0 } else { v }));
    let found: Vec<u64> =
        [(60, Side::High), (900, Side::High), (900, Side::Both), (3600, Side::Low), (86_400, Side::High)]
            .into_iter()
            .flat_map(|(span_s, side)| {
                let (dense, span) = (staged(4000, span_s), u32::try_from(span_s).unwrap());
                let sparse = dense.clone().into_iter().enumerate().map(sparse);
                [bits(dense.into_iter(), PRIOR_UNKNOWN, span, side), bits(sparse, 2.5, span, side)]
            })
            .collect();
    let first = [
        0xcbdf_fdca_9245_b508,
        0xe072_f056_b82a_424f,
        0x1748_c984_83de_1673,
        0x3a41_1d10_77f7_7307,
        0x7d82_0da6_818a_d51a,
        0x5413_705d_cdfb_5ad3,
        0xd0f5_581b_e133_1273,
        0xc546_0829_4abb_cbf1,
        0xcc47_a8e0_adc8_c337,
        0x5d6c_e459_2fee_671f,
    ];
    assert_eq!(found, first, "{found:#x?}");
}
