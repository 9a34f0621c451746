//! How high a channel gets on a usual day: location and scale of the daily maxima of the last four weeks.
//!
//! Judging a value by the maxima rather than by the bulk answers the question an operator asks ("does this happen every
//! day?") and turns evidence into decades of event rate, the unit of a false-alert budget.

/// Days remembered.
pub(crate) const DAYS: usize = 28;

/// What is assumed of a channel before its own days are known, and how strongly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prior {
    /// Location of a usual day's maximum.
    pub location: f64,
    /// Mean excess over it.
    pub scale: f64,
    /// Weight of `location`, in days.
    pub location_days: f64,
    /// Least scale ever fitted.
    pub least_scale: f64,
}

/// Weight of the prior's scale, in excesses.
const SCALE_DAYS: f64 = 6.0;
/// The prior of the three surprise channels.
pub(crate) const SURPRISE: Prior = Prior { location: 2.2, scale: 0.7, location_days: 1.0, least_scale: 0.15 };

/// The prior of ln(1+x), whose location is the fleet's.
pub(crate) fn marginal(location: f64) -> Prior {
    Prior { location, scale: 0.8, location_days: 0.15, least_scale: 0.10 }
}

/// Robust location and scale of the `days` newest maxima, shrunk to `prior`.
pub(crate) fn fit(ring: &[f32; DAYS], days: usize, prior: Prior) -> (f64, f64) {
    let n = days.min(DAYS);
    if n == 0 {
        return (prior.location, prior.scale);
    }
    let mut sorted = *ring;
    let sorted = &mut sorted[..n];
    sorted.sort_unstable_by(f32::total_cmp);
    let at = |i: usize| f64::from(sorted[i]);
    let median = if n % 2 == 1 { at(n / 2) } else { 0.5 * (at(n / 2 - 1) + at(n / 2)) };
    let mut excesses = 0.0;
    let mut count = 0.0;
    for i in n.div_ceil(2)..n {
        let mut excess = at(i) - median;
        if i == n - 1 && n >= 4 {
            // One day under attack must not widen the scale and so hide the next.
            excess = excess.min(1.5 * (at(i - 1) - median));
        }
        excesses += excess;
        count += 1.0;
    }
    let weight = n as f64;
    let location = (weight * median + prior.location_days * prior.location) / (weight + prior.location_days);
    let scale = (excesses + SCALE_DAYS * prior.scale) / (count + SCALE_DAYS);
    (location, scale.max(prior.least_scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_days_the_prior_holds() {
        assert_eq!(fit(&[0.0; DAYS], 0, SURPRISE), (2.2, 0.7));
    }

    #[test]
    fn one_attack_day_hardly_moves_the_fit() {
        let mut ring = [0.0f32; DAYS];
        for (day, slot) in ring.iter_mut().enumerate() {
            *slot = 2.0 + 0.01 * day as f32;
        }
        let calm = fit(&ring, DAYS, SURPRISE);
        ring[13] = 50.0;
        let attacked = fit(&ring, DAYS, SURPRISE);
        assert!((calm.0 - attacked.0).abs() < 0.05 && (calm.1 - attacked.1).abs() < 0.05, "{calm:?} {attacked:?}");
    }

    #[test]
    fn the_location_leaves_the_prior_as_days_come_in() {
        let ring = [5.0f32; DAYS];
        let fitted: Vec<f64> = (0..=DAYS).map(|days| fit(&ring, days, SURPRISE).0).collect();
        assert!(fitted.windows(2).all(|pair| pair[1] > pair[0]));
        assert!((fitted[DAYS] - 5.0).abs() < 0.2);
    }
}
