//! The law of a forecast's residuals: `sf(z) = 1 / (1 + v^a)`, `v = bz + sqrt(1 + b²z²)`.
//!
//! Its quartiles are those of a unit normal, its tails are polynomial (exponent `a`): traffic is never Gaussian far out.
//! Chosen because it needs one square root and no transcendental function.

/// Scale of the exponent-4 law: makes sf(0.6745) = 1/4.
const SCALE_4: f64 = 0.412;
/// The same for exponent 8.
const SCALE_8: f64 = 0.206;

/// `bz + sqrt(1 + b²z²)` and the root, without cancellation on the negative side.
fn stretch(b: f64, z: f64) -> (f64, f64) {
    let root = (1.0 + b * b * z * z).sqrt();
    let v = if z >= 0.0 { b * z + root } else { 1.0 / (root - b * z) };
    (v, root)
}

/// Survival function and density of a standardised residual (exponent 4).
pub(crate) fn survival_and_density(z: f64) -> (f64, f64) {
    let (v, root) = stretch(SCALE_4, z);
    let v2 = v * v;
    let v4 = v2 * v2;
    let survival = 1.0 / (1.0 + v4);
    (survival, 4.0 * SCALE_4 * survival * (v4 * survival) / root)
}

/// Survival function of a standardised mean of several residuals (exponent 8: means have lighter tails).
pub(crate) fn survival_of_mean(z: f64) -> f64 {
    let (v, _) = stretch(SCALE_8, z);
    let v2 = v * v;
    let v4 = v2 * v2;
    1.0 / (1.0 + v4 * v4)
}

/// `-log10 p`, finite for every p in [0, 1].
pub(crate) fn decades(p: f64) -> f64 {
    -libm::log10(p.max(1e-300))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_those_of_a_unit_normal() {
        for z in [-0.674_489_75, 0.674_489_75_f64] {
            let expected = if z > 0.0 { 0.25 } else { 0.75 };
            assert!((survival_and_density(z).0 - expected).abs() < 2e-3);
            assert!((survival_of_mean(z) - expected).abs() < 2e-3);
        }
    }

    #[test]
    fn the_density_is_the_slope_of_the_survival_function() {
        for i in -400..=400 {
            let z = f64::from(i) * 0.05;
            let h = 1e-5;
            let slope = (survival_and_density(z - h).0 - survival_and_density(z + h).0) / (2.0 * h);
            let density = survival_and_density(z).1;
            assert!((slope - density).abs() <= 1e-6 * density.max(1e-3), "at {z}: {slope} and {density}");
        }
    }

    #[test]
    fn far_tails_stay_finite_and_ordered() {
        let mut last = 1.0;
        for z in [-1e200, -1e20, -1e3, 0.0, 1e3, 1e20, 1e60] {
            let (survival, density) = survival_and_density(z);
            assert!(survival.is_finite() && density.is_finite() && density >= 0.0, "at {z}");
            assert!(survival <= last);
            last = survival;
        }
        assert_eq!(decades(0.0), 300.0);
    }
}
