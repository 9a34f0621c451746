//! The rich model against golden vectors that its reference implementation (`tests/data/goldens/rich.py`) made: three weeks
//! of 5-minute buckets with a gap, spikes, dips, a stretch of more and a lasting step, two-sided and high only.

use spikewatch_detector::baseline::{
    Side,
    rich::{CHANNELS, Rich},
};

const GOLDEN: &str = include_str!("../../tests/data/goldens/rich_golden.csv");
const SPAN_S: i64 = 300;

/// The whole input; the golden file holds a part of its buckets. Start and value.
fn staged() -> Vec<(i64, Option<f64>)> {
    let mut noise = 2_463_534_242u32;
    (0..6048)
        .map(|i: i64| {
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            let week = if (i / 288) % 7 < 5 { 20_000.0 } else { 9000.0 };
            let day = 1.2 + ((i % 288) as f64 / 288.0 * 2.0 * std::f64::consts::PI).sin();
            let x = (week * day * (0.9 + 0.2 * f64::from(noise) / 4_294_967_296.0)).floor();
            let factor = match i {
                3000..3003 => 1.6,
                3500..3504 => 0.4,
                4200..4230 => 1.3,
                5600..5604 => 0.0,
                5000.. => 1.4,
                _ => 1.0,
            };
            (1_772_409_600 + SPAN_S * i, (!(1500..1510).contains(&i)).then_some(x * factor))
        })
        .collect()
}

#[test]
fn equals_the_reference() {
    let input = staged();
    let mut lines = GOLDEN.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>()).peekable();
    let (mut compared, mut worst) = (0, 0.0f64);
    for (name, side) in [("0", Side::Both), ("1", Side::High)] {
        let mut model = Rich::new();
        for (i, (t, value)) in input.iter().enumerate() {
            let opinion = model.observe(*t, *value, 300, side);
            let at = |line: &Vec<&str>| line[0] == name && line[2].parse() == Ok(i);
            let Some(line) = lines.next_if(at) else { continue };
            let expected: Vec<f64> = line[5..].iter().map(|field| field.parse().unwrap()).collect();
            let actual =
                [opinion.evidence, opinion.score, opinion.point, opinion.change].into_iter().chain(opinion.channels);
            assert_eq!(expected.len(), 4 + CHANNELS);
            for (column, (actual, expected)) in actual.zip(&expected).enumerate() {
                let off = (actual - expected).abs();
                assert!(
                    off <= 2e-5 + 1e-4 * expected.abs(),
                    "side {name}, bucket {i}, column {column}: {actual} instead of {expected}"
                );
                worst = worst.max(off / expected.abs().max(0.1));
            }
            compared += 1;
        }
    }
    assert_eq!((compared, lines.next()), (GOLDEN.lines().count() - 1, None));
    println!("{compared} buckets, largest relative difference {worst:.1e}");
}

#[test]
fn a_reloaded_model_goes_on_bit_for_bit() {
    let mut kept = Rich::new();
    let mut reloaded = Rich::new();
    for (i, (t, value)) in staged().into_iter().enumerate() {
        if i % 500 == 250 {
            reloaded = Rich::from_bytes(&reloaded.to_bytes()).unwrap();
        }
        let (a, b) = (kept.observe(t, value, 300, Side::Both), reloaded.observe(t, value, 300, Side::Both));
        assert_eq!(a, b, "bucket {i}");
    }
    assert_eq!(kept.to_bytes(), reloaded.to_bytes());
}
