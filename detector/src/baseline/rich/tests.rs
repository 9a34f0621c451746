use proptest::prelude::*;

use super::*;

fn any_side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::High), Just(Side::Low), Just(Side::Both)]
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), -10.0..10.0, -1e9..1e9, Just(1e18), Just(f64::MAX), Just(f64::MIN), Just(f64::MIN_POSITIVE)]
}

fn numbers(opinion: &Opinion) -> Vec<f64> {
    let Opinion { evidence, score, point, change, channels, typical, bounds95, bounds99 } = *opinion;
    [evidence, score, point, change, typical, bounds95.0, bounds95.1, bounds99.0, bounds99.1]
        .into_iter()
        .chain(channels)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_series_gives_finite_results_and_a_state_that_can_be_stored(
        start in any::<i64>(),
        span in prop_oneof![Just(900u32), Just(60), Just(3600), Just(86_400), any::<u32>()],
        side in any_side(),
        values in prop::collection::vec((any_value(), 0i64..12), 1..600),
    ) {
        let mut model = Rich::new();
        let mut t = start;
        for (x, gap) in values {
            let opinion = model.observe(t, Some(x), span, side);
            prop_assert!(numbers(&opinion).iter().all(|value| value.is_finite()), "{opinion:?}");
            prop_assert!((0.0..=100.0).contains(&opinion.score));
            t = t.wrapping_add(i64::from(span).wrapping_mul(1 + gap));
        }
        prop_assert_eq!(Rich::from_bytes(&model.to_bytes()).unwrap(), model);
    }

    #[test]
    fn damage_is_an_error_and_no_panic(at in 1usize..17_415, to in any::<u8>(), values in prop::collection::vec(0.0..1e6f64, 1..300)) {
        let mut model = Rich::new();
        for (i, x) in (0i64..).zip(&values) {
            model.observe(i * 900, Some(*x), 900, Side::Both);
        }
        let mut bytes = model.to_bytes();
        bytes[at] = to;
        if let Ok(mut damaged) = Rich::from_bytes(&bytes) {
            for i in 300..400 {
                let opinion = damaged.observe(i * 900, Some(5.0), 900, Side::Both);
                prop_assert!((0.0..=100.0).contains(&opinion.score), "{opinion:?}");
            }
        }
    }
}

/// A day and week with noise.
fn staged(i: i64) -> f64 {
    let mut noise = (i as u32).wrapping_mul(2_654_435_761) ^ 0x9e37_79b9;
    noise ^= noise >> 15;
    noise = noise.wrapping_mul(0x2c1b_3c6d);
    noise ^= noise >> 12;
    let week = if (i / 96 + 4) % 7 < 5 { 20_000.0 } else { 9000.0 };
    let day = 1.2 + libm::sin((i % 96) as f64 / 96.0 * 2.0 * std::f64::consts::PI);
    (week * day * (0.9 + 0.2 * f64::from(noise) / 4_294_967_296.0)).floor()
}

fn learnt(side: Side) -> Rich {
    let mut model = Rich::new();
    for i in 0..96 * 21 {
        model.observe(i * 900, Some(staged(i)), 900, side);
    }
    model
}

#[test]
fn a_spike_and_a_dip_are_seen_on_their_side_only() {
    let next = 96 * 21;
    for (factor, scores) in [(3.0, [true, false, true]), (0.1, [false, true, true])] {
        for (side, seen) in [Side::High, Side::Low, Side::Both].into_iter().zip(scores) {
            let opinion = learnt(side).score(next * 900, Some(staged(next) * factor), 900, side);
            assert_eq!(opinion.score >= 75.0, seen, "{side:?}, {factor}: {opinion:?}");
        }
    }
}

#[test]
fn the_forecast_and_its_bounds_hold_what_is_usual() {
    let mut model = learnt(Side::Both);
    let (mut inside95, mut inside99) = (0, 0);
    for i in 96 * 21..96 * 35 {
        let (x, opinion) = (staged(i), model.observe(i * 900, Some(staged(i)), 900, Side::Both));
        assert!((opinion.typical / x - 1.0).abs() < 0.5, "{} instead of {x}", opinion.typical);
        inside95 += i32::from(opinion.bounds95.0 <= x && x <= opinion.bounds95.1);
        inside99 += i32::from(opinion.bounds99.0 <= x && x <= opinion.bounds99.1);
    }
    assert!(inside95 > 96 * 14 * 90 / 100 && inside99 > 96 * 14 * 97 / 100, "{inside95} and {inside99}");
}

#[test]
fn scoring_without_learning_leaves_no_trace() {
    let model = learnt(Side::High);
    let before = model.clone();
    let t = 96 * 21 * 900;
    let foretold = model.score(t, Some(1e6), 900, Side::High);
    assert_eq!(model, before);
    assert_eq!(model.clone().observe(t, Some(1e6), 900, Side::High), foretold);
    let mut other = model.clone();
    for missing in [None, Some(f64::NAN), Some(f64::INFINITY)] {
        assert_eq!(other.observe(t, missing, 900, Side::High), Opinion::default());
    }
    assert_eq!(other, model);
}

#[test]
fn the_stored_form_is_as_long_as_it_says() {
    assert_eq!(Rich::new().to_bytes().len(), codec::LENGTH);
    assert!(size_of::<Rich>() <= 17_432, "{}", size_of::<Rich>());
}
