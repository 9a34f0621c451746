//! When things happen: the scenario's calendar, working hours, and slow drifts that make no two days alike.

use super::random::Random;

/// Monday 2026-01-05T00:00:00Z in milliseconds: where the scenario's event time starts.
pub(crate) const START_MS: u64 = 1_767_571_200_000;
/// The generator's step. Equal to the default bucket only for convenience: nothing depends on it.
pub(crate) const STEP_MS: u64 = 15 * 60 * 1000;
/// Length of the history in days.
pub(crate) const DAYS: u64 = 15;
/// One hour.
pub(crate) const HOUR_MS: u64 = 3_600_000;
/// One day.
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;

/// Days since the scenario's first Monday.
#[must_use]
pub(crate) fn day(time_ms: u64) -> u64 {
    time_ms.saturating_sub(START_MS) / DAY_MS
}

/// Hours since midnight (UTC), with fractions.
#[must_use]
pub(crate) fn hour(time_ms: u64) -> f64 {
    (time_ms.saturating_sub(START_MS) % DAY_MS) as f64 / HOUR_MS as f64
}

/// True on Saturdays and Sundays.
#[must_use]
pub(crate) fn is_weekend(day: u64) -> bool {
    day % 7 >= 5
}

/// Rises from 0 to 1 around `at`, over `width` (hours).
fn ramp(hour: f64, at: f64, width: f64) -> f64 {
    let x = ((hour - at) / width + 0.5).clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

/// How much of a person is at the desk, 0 to 1, for someone who comes at `arrive` and goes at `leave` (hours), with
/// half of the people's attention gone over lunch.
#[must_use]
pub(crate) fn presence(hour: f64, arrive: f64, leave: f64) -> f64 {
    let lunch = 0.5 * ramp(hour, 12.0, 0.75) * (1.0 - ramp(hour, 13.0, 0.75));
    ramp(hour, arrive, 1.0) * (1.0 - ramp(hour, leave, 1.5)) * (1.0 - lunch)
}

/// A smooth random curve over `x`, about normal with deviation 1 at whole `x` and a little less between them.
#[must_use]
pub(crate) fn drift(seed: u64, name: [u64; 2], x: f64) -> f64 {
    let whole = x.floor();
    let at = |k: f64| Random::stream(seed, &[name[0], name[1], k as u64]).normal();
    let t = ramp(x - whole, 0.5, 1.0);
    at(whole) * (1.0 - t) + at(whole + 1.0) * t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_starts_on_a_monday() {
        assert_eq!((START_MS / DAY_MS + 3) % 7, 0, "1970-01-01 was a Thursday");
        assert!(!is_weekend(day(START_MS)) && !is_weekend(day(START_MS + 5 * DAY_MS - 1)));
        assert!(is_weekend(day(START_MS + 5 * DAY_MS)) && is_weekend(13) && !is_weekend(14));
    }

    #[test]
    fn people_are_there_by_day_and_away_by_night() {
        assert!(presence(3.0, 8.5, 17.0) < 0.01 && presence(22.0, 8.5, 17.0) < 0.01);
        assert!(presence(10.5, 8.5, 17.0) > 0.95 && presence(15.0, 8.5, 17.0) > 0.95);
        assert!(presence(12.5, 8.5, 17.0) < 0.7);
    }

    #[test]
    fn drift_is_continuous() {
        for k in 0..1000 {
            let x = f64::from(k) * 0.01;
            assert!((drift(1, [2, 3], x) - drift(1, [2, 3], x + 0.01)).abs() < 0.1);
        }
    }
}
