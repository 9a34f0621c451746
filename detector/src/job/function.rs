//! What a job does with a measure: Elastic's names, and two of our own that look at several measures of a host.

use serde::{Deserialize, Deserializer, de::Error as _};
use spikewatch_domain::window::{Measure, Window};

pub use crate::baseline::table::Aggregate;
use crate::baseline::{Side, table};

/// What a job does with a measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// What is made of a bucket, and which deviations of it count.
    Of(Aggregate, Side),
    /// Split values that their site has hardly ever met.
    Rare,
    /// What all measures of a host say together: the rarest of them, and many small packets or connections. Not
    /// Elastic's.
    Activity,
    /// What leaves a host for peers that it did not know for a week. Not Elastic's.
    Exfiltration,
}

impl Function {
    /// The function of that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "rare" => Some(Self::Rare),
            "activity" => Some(Self::Activity),
            "exfiltration" => Some(Self::Exfiltration),
            name => table::Function::named(name).map(|function| Self::Of(function.aggregate, function.side)),
        }
    }

    /// Its name in documents and configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Of(aggregate, side) => table::Function { aggregate, side }.name(),
            Self::Rare => "rare",
            Self::Activity => "activity",
            Self::Exfiltration => "exfiltration",
        }
    }

    /// Which deviations it reports.
    #[must_use]
    pub fn side(self) -> Side {
        match self {
            Self::Of(_, side) => side,
            Self::Rare | Self::Activity | Self::Exfiltration => Side::High,
        }
    }

    /// What it makes of a bucket; nothing of those that look at several measures, or at whether there is a value.
    #[must_use]
    pub fn aggregate(self) -> Option<Aggregate> {
        match self {
            Self::Of(aggregate, _) => Some(aggregate),
            Self::Rare | Self::Activity | Self::Exfiltration => None,
        }
    }

    /// True of those that look at several measures of a host.
    #[must_use]
    pub fn is_joint(self) -> bool {
        matches!(self, Self::Activity | Self::Exfiltration)
    }

    /// True if a series without a window in a bucket of which all is known was 0, rather than without a value.
    #[must_use]
    pub fn is_zero_when_absent(self) -> bool {
        self.aggregate().is_some_and(Aggregate::is_zero_when_absent)
    }

    /// True if what a part of a bucket is too high by, the whole bucket is as well: more can only make it more.
    #[must_use]
    pub fn only_grows(self) -> bool {
        self.aggregate().is_some_and(|aggregate| aggregate != Aggregate::Mean)
    }

    /// How far a value lies from what is typical, in the direction that counts.
    #[must_use]
    pub fn effect(self, actual: f64, typical: f64) -> f64 {
        match self.side() {
            Side::High => actual - typical,
            Side::Low => typical - actual,
            Side::Both => (actual - typical).abs(),
        }
    }

    /// What it makes of a measure of a window; nothing if the window has no value for it.
    #[must_use]
    pub fn value(self, measure: Measure, window: &Window) -> Option<f64> {
        let (sum, events) = (window.measure(measure), window.counters.events);
        match self.aggregate() {
            Some(Aggregate::NonZeroCount) => (sum > 0).then_some(sum as f64),
            Some(Aggregate::Mean) => (events > 0).then(|| sum as f64 / events as f64),
            _ => Some(sum as f64),
        }
    }

    /// Why it says nothing of that measure, if so: what was expected instead.
    pub(super) fn misfit(self, measure: Measure) -> Option<&'static str> {
        use Aggregate::{Count, DistinctCount, Max, Mean, Min, NonZeroCount, Sum};
        use Measure::{BytesIn, BytesOut, Denied, DistinctPeerPorts, DistinctPeers, Events, PacketsIn, PacketsOut};
        let fits = match (self, measure) {
            (Self::Rare | Self::Activity, measure) => measure == Events,
            (Self::Exfiltration, measure) => measure == BytesOut,
            (Self::Of(Min | Max, _), _) => {
                return Some(
                    "another function: a window holds the sum over its events and not the least or greatest of them \
                     (`spikewatch score` has both, for tables)",
                );
            }
            (Self::Of(Count | NonZeroCount, _), measure) => matches!(measure, Events | Denied),
            (Self::Of(Sum | Mean, _), measure) => matches!(measure, BytesOut | BytesIn | PacketsOut | PacketsIn),
            (Self::Of(DistinctCount, _), measure) => matches!(measure, DistinctPeers | DistinctPeerPorts),
        };
        (!fits).then_some(
            "count or non_zero_count for events and denied, sum or mean for bytes and packets, distinct_count for peers \
             and ports, each with high_ or low_ or without; rare and activity for events, exfiltration for bytes_out",
        )
    }
}

impl<'de> Deserialize<'de> for Function {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| {
            let known = table::Function::NAMES.join(", ");
            D::Error::custom(format!("{name:?} is no function; expected one of {known}, rare, activity, exfiltration"))
        })
    }
}

#[cfg(test)]
mod tests {
    use spikewatch_domain::window::Counters;

    use super::*;

    #[test]
    fn every_name_is_that_of_a_function_and_back() {
        for name in table::Function::NAMES.into_iter().chain(["rare", "activity", "exfiltration"]) {
            assert_eq!(Function::named(name).map(Function::name), Some(name));
        }
        assert_eq!(Function::named("median"), None);
    }

    #[test]
    fn what_functions_make_of_a_window() {
        let counters = Counters { events: 4, bytes_out: 1000, packets_in: 0, ..Counters::default() };
        let (window, silent) = (Window { counters, ..Window::default() }, Window::default());
        let of = |name: &str, measure, window: &Window| Function::named(name).unwrap().value(measure, window);
        assert_eq!(of("high_sum", Measure::BytesOut, &window), Some(1000.0));
        assert_eq!(of("mean", Measure::BytesOut, &window), Some(250.0));
        assert_eq!(of("mean", Measure::PacketsIn, &window), Some(0.0));
        assert_eq!((of("mean", Measure::BytesOut, &silent), of("count", Measure::Events, &silent)), (None, Some(0.0)));
        assert_eq!(of("low_non_zero_count", Measure::Events, &silent), None);
        assert_eq!(of("low_non_zero_count", Measure::Events, &window), Some(4.0));
    }
}
