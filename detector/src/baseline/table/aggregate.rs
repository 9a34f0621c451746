//! Rows of one series to buckets.

use rapidhash::v3::rapidhash_v3;
use spikewatch_domain::distinct::Distinct;

use super::{Aggregate, RowProblem};

/// Longest run of empty buckets that is taken for silence: a longer one is a gap in the data, or a wrong timestamp.
pub(super) const MOST_EMPTY: i64 = 100_000;

/// The open bucket of a series.
#[derive(Debug)]
pub(super) struct Aggregator {
    span_s: i64,
    aggregate: Aggregate,
    open: Option<i64>,
    rows: u64,
    values: u64,
    sum: f64,
    least: f64,
    greatest: f64,
    distinct: Distinct,
}

/// A row's value as text, and as the number that it may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content<'a> {
    pub text: &'a str,
    pub number: Option<f64>,
}

/// Buckets that closed: one with rows, then empty ones. Start (epoch seconds) and value.
#[derive(Debug)]
pub(super) struct Closed {
    first: Option<(i64, Option<f64>)>,
    empty_from: i64,
    empty: i64,
    span_s: i64,
}

impl Iterator for Closed {
    type Item = (i64, Option<f64>);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.empty <= 0 {
            return None;
        }
        let t = self.empty_from;
        self.empty -= 1;
        self.empty_from += self.span_s;
        Some((t, Some(0.0)))
    }
}

impl Aggregator {
    pub(super) fn new(span_s: u32, aggregate: Aggregate) -> Self {
        Self {
            span_s: i64::from(span_s.max(1)),
            aggregate,
            open: None,
            rows: 0,
            values: 0,
            sum: 0.0,
            least: f64::MAX,
            greatest: f64::MIN,
            distinct: Distinct::default(),
        }
    }

    /// Start of the open bucket.
    pub(super) fn open(&self) -> i64 {
        self.open.unwrap_or(i64::MIN)
    }

    /// Takes a row, whose value may be missing; gives the buckets that it closes.
    pub(super) fn add(&mut self, t: i64, value: Option<Content<'_>>) -> (Closed, Option<RowProblem>) {
        let start = t.div_euclid(self.span_s) * self.span_s;
        let (closed, problem) = match self.open {
            Some(open) if start < open => return (self.nothing(), Some(RowProblem::ClosedBucket)),
            Some(open) if start > open => self.close(start),
            _ => (self.nothing(), None),
        };
        self.open = Some(start);
        self.rows += 1;
        if self.aggregate == Aggregate::DistinctCount
            && let Some(value) = value
        {
            self.distinct.insert(rapidhash_v3(value.text.as_bytes()) as u32);
        }
        if let Some(number) = value.and_then(|value| value.number) {
            self.values += 1;
            self.sum += number;
            (self.least, self.greatest) = (self.least.min(number), self.greatest.max(number));
        }
        (closed, problem)
    }

    /// Closes the open bucket and adds the empty ones up to and with the one that starts at `last`.
    pub(super) fn finish(&mut self, last: i64) -> Closed {
        self.close(last.saturating_add(self.span_s)).0
    }

    fn nothing(&self) -> Closed {
        Closed { first: None, empty_from: 0, empty: 0, span_s: self.span_s }
    }

    fn close(&mut self, next: i64) -> (Closed, Option<RowProblem>) {
        let Some(open) = self.open.take() else { return (self.nothing(), None) };
        let sum = self.sum.clamp(-f64::MAX, f64::MAX);
        let of_values = |value: f64| (self.values > 0).then_some(value);
        let value = match self.aggregate {
            // A bucket is open because it has a row.
            Aggregate::Count | Aggregate::NonZeroCount => Some(self.rows as f64),
            Aggregate::DistinctCount => Some(self.distinct.count() as f64),
            Aggregate::Sum => Some(sum),
            Aggregate::Mean => of_values(sum / self.values as f64),
            Aggregate::Min => of_values(self.least),
            Aggregate::Max => of_values(self.greatest),
        };
        (self.rows, self.values, self.sum) = (0, 0, 0.0);
        (self.least, self.greatest, self.distinct) = (f64::MAX, f64::MIN, Distinct::default());
        let between = (next.saturating_sub(open) / self.span_s - 1).max(0);
        let silent = self.aggregate.is_zero_when_absent();
        let too_long = silent && between > MOST_EMPTY;
        let closed = Closed {
            first: Some((open, value)),
            empty_from: open.saturating_add(self.span_s),
            empty: if silent && !too_long { between } else { 0 },
            span_s: self.span_s,
        };
        (closed, too_long.then_some(RowProblem::LongGap(between)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(aggregate: Aggregate, rows: &[(i64, Option<f64>)], last: i64) -> Vec<(i64, Option<f64>)> {
        let mut aggregator = Aggregator::new(60, aggregate);
        let mut out = Vec::new();
        for (t, value) in rows {
            let content =
                value.map(|number| Content { text: if number > 2.0 { "many" } else { "few" }, number: Some(number) });
            out.extend(aggregator.add(*t, content).0);
        }
        out.extend(aggregator.finish(last));
        out
    }

    #[test]
    fn what_each_function_counts() {
        let rows = [(0, Some(1.0)), (59, Some(4.0)), (10, None), (180, None)];
        let zero = Some(0.0);
        assert_eq!(
            all(Aggregate::Count, &rows, 240),
            [(0, Some(3.0)), (60, zero), (120, zero), (180, Some(1.0)), (240, zero)]
        );
        assert_eq!(all(Aggregate::Sum, &rows, 180), [(0, Some(5.0)), (60, zero), (120, zero), (180, zero)]);
        assert_eq!(all(Aggregate::Mean, &rows, 300), [(0, Some(2.5)), (180, None)]);
        assert_eq!(all(Aggregate::Min, &rows, 300), [(0, Some(1.0)), (180, None)]);
        assert_eq!(all(Aggregate::Max, &rows, 300), [(0, Some(4.0)), (180, None)]);
        assert_eq!(all(Aggregate::NonZeroCount, &rows, 300), [(0, Some(3.0)), (180, Some(1.0))]);
        assert_eq!(all(Aggregate::DistinctCount, &rows, 180), [(0, Some(2.0)), (60, zero), (120, zero), (180, zero)]);
    }

    #[test]
    fn a_gap_of_years_is_not_filled() {
        let mut aggregator = Aggregator::new(60, Aggregate::Count);
        aggregator.add(0, None);
        let (closed, problem) = aggregator.add(1_772_409_600, None);
        assert_eq!(closed.count(), 1);
        assert_eq!(problem, Some(RowProblem::LongGap(29_540_159)));
        assert_eq!(aggregator.add(0, None).1, Some(RowProblem::ClosedBucket));
    }

    proptest! {
        #[test]
        fn no_row_is_lost(mut times in prop::collection::vec(-5000i64..5000, 1..100)) {
            times.sort_unstable();
            let rows: Vec<_> = times.iter().map(|t| (*t, Some(1.0))).collect();
            for aggregate in [Aggregate::Count, Aggregate::Sum] {
                let buckets = all(aggregate, &rows, 6000);
                let total: f64 = buckets.iter().filter_map(|bucket| bucket.1).sum();
                prop_assert_eq!(total, times.len() as f64);
                prop_assert!(buckets.windows(2).all(|pair| pair[1].0 - pair[0].0 == 60));
            }
        }
    }
}
