//! How rare a value is that a site has hardly ever met.
//!
//! A value's *class* is how often it was met before, in powers of two. How often in the past was the site met by a
//! value of that class or a rarer one? If never in D days, the rate is taken for [`PRIOR`] / D a day: most sites meet
//! nothing new for weeks, and then one thing; some meet new things all day, and for these one more is no news. A site's
//! first week counts for none of this: then everything is new.
//!
//! Nothing is assumed of how values are distributed, and no rate of false alerts is promised: that a site met nothing
//! new for two weeks says little of the next two.

/// Classes of how often a value was met.
pub(crate) const CLASSES: usize = 20;
/// What is put in place of the meetings that there were none of: after two weeks without any, the next is taken for
/// what comes once in a thousand days.
const PRIOR: f64 = 0.014;
/// Days in which everything is new.
const FIRST_DAYS: f64 = 7.0;
/// Days after which what was counted is halved.
const MEMORY_DAYS: f64 = 120.0;
const DAY_S: f64 = 86_400.0;

/// What is known of one site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Novelty {
    /// Buckets in which the site was heard.
    pub(crate) heard: u64,
    /// Those of them that count.
    pub(crate) buckets: u64,
    /// Values met in them, by class.
    pub(crate) met: [u64; CLASSES],
}

/// The class of a value that was met in so many buckets.
fn class(met: u32) -> usize {
    (u64::from(met) + 1).ilog2().min(CLASSES as u32 - 1) as usize
}

impl Novelty {
    /// Decades of event rate of meeting a value that was met in so many buckets before: 3 is once in a thousand days.
    pub(crate) fn decades(&self, met: u32, span_s: u32) -> f64 {
        let days = self.buckets as f64 * f64::from(span_s) / DAY_S;
        let as_rare: u64 = self.met.iter().take(class(met) + 1).sum();
        let rate = (as_rare as f64 + PRIOR) / days.max(f64::MIN_POSITIVE);
        (-libm::log10(rate)).max(0.0)
    }

    /// Learns a bucket: how often each of the values met in it was met before.
    pub(crate) fn learn(&mut self, met_before: impl IntoIterator<Item = u32>, span_s: u32) {
        self.heard = self.heard.saturating_add(1);
        if self.heard as f64 * f64::from(span_s) <= FIRST_DAYS * DAY_S {
            return;
        }
        self.buckets += 1;
        for met in met_before {
            if let Some(count) = self.met.get_mut(class(met)) {
                *count = count.saturating_add(1);
            }
        }
        if self.buckets as f64 * f64::from(span_s) > MEMORY_DAYS * DAY_S {
            self.buckets /= 2;
            self.met.iter_mut().for_each(|count| *count /= 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUARTER: u32 = 900;

    fn heard(days: u64, new_a_day: usize) -> Novelty {
        let mut novelty = Novelty::default();
        for bucket in 0..96 * days {
            let new = if bucket % 96 == 0 { new_a_day } else { 0 };
            novelty.learn(std::iter::repeat_n(5000, 10).chain(std::iter::repeat_n(0, new)), QUARTER);
        }
        novelty
    }

    #[test]
    fn something_new_is_the_rarer_the_longer_nothing_was() {
        let decades = |days| heard(days, 0).decades(0, QUARTER);
        assert!((decades(21) - 3.0).abs() < 0.01, "{}", decades(21));
        assert_eq!(decades(7), 0.0, "all was new");
        assert!(decades(8) < decades(10) && decades(10) < decades(60));
        assert!(heard(60, 1).decades(0, QUARTER) < 0.1, "once a day is no news");
        assert_eq!(heard(60, 0).decades(5000, QUARTER), 0.0, "nor is what was always there");
        assert_eq!(Novelty::default().decades(0, QUARTER), 0.0);
    }

    proptest! {
        #[test]
        fn who_was_met_more_often_is_never_rarer(
            buckets in proptest::collection::vec(proptest::collection::vec(any::<u32>(), 0..5), 0..400),
            (one, other) in any::<(u32, u32)>(),
            span_s in 1u32..86_401,
        ) {
            let mut novelty = Novelty::default();
            for met in buckets {
                novelty.learn(met, span_s);
            }
            let (rarer, commoner) = (novelty.decades(one.min(other), span_s), novelty.decades(one.max(other), span_s));
            prop_assert!(rarer >= commoner && commoner >= 0.0 && rarer.is_finite());
        }
    }
}
