//! What rows of a table are made into, and which deviations count.

use super::super::compact::Side;

/// What rows are aggregated to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// Number of rows; 0 for a bucket without any.
    Count,
    /// Number of rows; a bucket without any is missing.
    NonZeroCount,
    /// Number of different values, which may be any text: exact up to 48, then within about 2 %. 0 for a bucket without
    /// rows.
    DistinctCount,
    /// Sum of the values; 0 for a bucket without rows.
    Sum,
    /// Mean of the values; a bucket without any is missing.
    Mean,
    /// Least of the values; a bucket without any is missing.
    Min,
    /// Greatest of the values; a bucket without any is missing.
    Max,
}

impl Aggregate {
    /// True if a bucket without rows is 0, rather than missing.
    #[must_use]
    pub fn is_zero_when_absent(self) -> bool {
        matches!(self, Self::Count | Self::DistinctCount | Self::Sum)
    }

    /// True if it counts, so that it is never negative.
    pub(super) fn counts(self) -> bool {
        matches!(self, Self::Count | Self::NonZeroCount | Self::DistinctCount)
    }

    /// True if its unit is that of the values, whatever that may be.
    pub(super) fn has_unit(self) -> bool {
        matches!(self, Self::Mean | Self::Min | Self::Max)
    }
}

/// An aggregate, and which deviations of it count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// What rows are aggregated to.
    pub aggregate: Aggregate,
    /// Which deviations count.
    pub side: Side,
}

impl Function {
    /// The names, as in Elastic's detectors; min and max have their sides as well.
    pub const NAMES: [&'static str; 21] = [
        "mean",
        "low_mean",
        "high_mean",
        "min",
        "low_min",
        "high_min",
        "max",
        "low_max",
        "high_max",
        "count",
        "low_count",
        "high_count",
        "non_zero_count",
        "low_non_zero_count",
        "high_non_zero_count",
        "distinct_count",
        "low_distinct_count",
        "high_distinct_count",
        "sum",
        "low_sum",
        "high_sum",
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|name| Self::named(name) == Some(self)).unwrap_or_default()
    }

    /// The function of that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (side, aggregate) = if let Some(rest) = name.strip_prefix("low_") {
            (Side::Low, rest)
        } else if let Some(rest) = name.strip_prefix("high_") {
            (Side::High, rest)
        } else {
            (Side::Both, name)
        };
        let aggregate = match aggregate {
            "count" => Aggregate::Count,
            "non_zero_count" => Aggregate::NonZeroCount,
            "distinct_count" => Aggregate::DistinctCount,
            "sum" => Aggregate::Sum,
            "mean" => Aggregate::Mean,
            "min" => Aggregate::Min,
            "max" => Aggregate::Max,
            _ => return None,
        };
        Some(Self { aggregate, side })
    }
}

/// Which model scores a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Model {
    /// 1.9 kB a series, high sensitivity to spikes, pooled calibration: for many series.
    Compact,
    /// 17 kB a series, two-sided as well as one-sided, each series judged against its own past: for few.
    #[default]
    Rich,
}

impl Model {
    /// The names.
    pub const NAMES: [&'static str; 2] = ["compact", "rich"];

    /// The model of that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "compact" => Some(Self::Compact),
            "rich" => Some(Self::Rich),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::Rich => "rich",
        }
    }

    /// Most series of one table: what fits into about 2 GB.
    #[must_use]
    pub fn most_series(self) -> usize {
        match self {
            Self::Compact => 1_000_000,
            Self::Rich => 100_000,
        }
    }
}
