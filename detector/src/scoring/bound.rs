//! The bound on false alerts of the whole deployment: the more is looked at, the rarer a finding must be to be told.
//!
//! A score says how rare a finding is among buckets of its job, however many there are. Of `looks` buckets a day, over all
//! series, `looks * p` clean ones are as rare as `p`; so that these are at most so many a day, an alert takes `p` of no more
//! than that number by `looks`. It is a threshold that grows with the number of series, a decade of rarity for each of
//! theirs, and stays below the usual one where they are few. Records, and their scores, stay as they are.
//!
//! Each split has a share of its own: else a million hosts would mute the one series of the whole network.

use std::collections::BTreeMap;

use crate::{
    baseline::{extended_score, rich},
    job::Split,
};

/// What hosts may have of the false alerts, and any other split.
const HOSTS: f64 = 7.0 / 8.0;
const OTHERS: f64 = 1.0 / 8.0;

/// What the jobs of one split look at.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Looks {
    /// Buckets a day, over all series.
    pub(super) a_day: f64,
    /// Series of rich models.
    pub(super) rich: f64,
}

/// The bound of one split, as it stands for one bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bound {
    /// The least -log10 p that may alert; negative infinity if there is no bound.
    least: f64,
    /// The least score of a rich model that may.
    rich: f64,
}

/// Those of all splits that there are.
#[derive(Debug)]
pub(super) struct Bounds(BTreeMap<Split, Bound>);

impl Bounds {
    /// So that no more than so many false alerts a day are expected; of 0 there is no bound.
    pub(super) fn of(false_alerts_a_day: f64, looks: impl IntoIterator<Item = (Split, Looks)>) -> Self {
        let mut all: BTreeMap<Split, Looks> = BTreeMap::new();
        for (split, more) in looks {
            let own = all.entry(split).or_default();
            (own.a_day, own.rich) = (own.a_day + more.a_day, own.rich + more.rich);
        }
        let share = |split: Split| false_alerts_a_day * if split.is_by_host() { HOSTS } else { OTHERS };
        Self(all.into_iter().map(|(split, looks)| (split, Bound::of(share(split), looks))).collect())
    }

    /// The one of a split.
    pub(super) fn of_split(&self, split: Split) -> Bound {
        self.0.get(&split).copied().unwrap_or(Bound::NONE)
    }
}

impl Bound {
    const NONE: Self = Self { least: f64::NEG_INFINITY, rich: 0.0 };

    /// No more than so many false alerts are expected of these looks. None of either: no bound.
    fn of(false_alerts_a_day: f64, looks: Looks) -> Self {
        if false_alerts_a_day <= 0.0 || looks.a_day <= 0.0 {
            return Self::NONE;
        }
        let rich = if looks.rich > 0.0 { rich::score_at(false_alerts_a_day / looks.rich) } else { 0.0 };
        Self { least: libm::log10(looks.a_day / false_alerts_a_day), rich }
    }

    /// The least score from which a finding with that -log10 p may alert. Scores end at 100: where that is not enough,
    /// more than 100, unless the finding is rare enough.
    pub(super) fn alert_from(self, l: f64) -> f64 {
        let from = extended_score(self.least);
        if l >= self.least { from.min(100.0) } else { from }
    }

    /// The same of a rich model, whose score has a scale of its own. It ends at 100, and so does the bound.
    pub(super) fn rich_alert_from(self) -> f64 {
        self.rich
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use spikewatch_domain::key::Dimension;

    use super::*;
    use crate::baseline::record_score;

    const HOST: Split = Split::By(Dimension::Host);

    /// Hosts with eight jobs, a global series with two, buckets of 15 minutes.
    fn bounds(a_day: f64, hosts: f64) -> Bounds {
        let looks = |series: f64, rich: f64| Looks { a_day: series * 96.0, rich };
        Bounds::of(a_day, [(HOST, looks(hosts * 8.0, 0.0)), (Split::Global, looks(2.0, 2.0))])
    }

    #[test]
    fn small_deployments_alert_from_75_and_large_ones_from_higher() {
        let from = |hosts: f64| bounds(5.0, hosts).of_split(HOST).alert_from(0.0);
        assert!(from(100.0) < 75.0, "{}", from(100.0));
        assert!(from(200.0) < 75.0 && from(205.0) > 75.0, "{} {}", from(200.0), from(205.0));
        assert!((87.0..88.0).contains(&from(1e4)), "{}", from(1e4));
        assert!((94.0..95.0).contains(&from(1e5)), "{}", from(1e5));
    }

    #[test]
    fn many_hosts_do_not_mute_the_whole_network() {
        for hosts in [10.0, 1e6] {
            let global = bounds(5.0, hosts).of_split(Split::Global);
            assert!(global.alert_from(0.0) < 75.0 && global.rich_alert_from() < 75.0, "{global:?}");
        }
        let sites = |rich: f64| Bound::of(0.625, Looks { a_day: rich * 96.0, rich }).rich_alert_from();
        assert!(sites(1.0) < 75.0 && (76.0..90.0).contains(&sites(10.0)), "{} {}", sites(1.0), sites(10.0));
        assert!(sites(10.0) < sites(100.0) && sites(1e9) == 100.0, "{}", sites(100.0));
    }

    #[test]
    fn past_the_end_of_the_scale_the_probability_decides() {
        let million = bounds(5.0, 1e6).of_split(HOST);
        let least = libm::log10(1e6 * 8.0 * 96.0 / (5.0 * HOSTS));
        assert!(least > 8.0 && record_score(8.1) >= 100.0);
        assert!(million.alert_from(8.1) > 100.0, "a score of 100, and too usual for so many");
        assert!((million.alert_from(least + 1e-9) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn none_is_none() {
        for none in [bounds(0.0, 1e12).of_split(HOST), bounds(5.0, 0.0).of_split(HOST)] {
            assert_eq!((none.alert_from(0.0), none.rich_alert_from()), (0.0, 0.0));
        }
        assert_eq!(bounds(5.0, 1e6).of_split(Split::By(Dimension::Port)), Bound::NONE);
    }

    proptest! {
        /// What may alert is never expected more often than the bound says, and more series never lower it.
        #[test]
        fn it_holds_and_grows(share in 0.01..100.0f64, a_day in 1.0..1e12f64, more in 1.0..100.0f64, l in 0.0..14.0f64) {
            let of = |more: f64| Bound::of(share, Looks { a_day: a_day * more, rich: a_day / 96.0 * more });
            let (bound, larger) = (of(1.0), of(more));
            prop_assert!(larger.alert_from(l) >= bound.alert_from(l));
            prop_assert!(larger.rich_alert_from() >= bound.rich_alert_from());
            prop_assert!((0.0..=100.0).contains(&bound.rich_alert_from()));
            if record_score(l) >= bound.alert_from(l) && record_score(l) > 0.0 {
                prop_assert!(a_day * libm::exp10(-l) <= share * 1.000_001);
            } else if record_score(l) > 0.0 {
                prop_assert!(a_day * libm::exp10(-l) >= share * 0.999_999);
            }
        }
    }
}
