//! One series of a table: its model or two, its unit, its bucket length.

use super::super::compact::{Compact, PRIOR_UNKNOWN, Side};
use super::super::evidence::{Evidence, multi_bucket_impact};
use super::{Aggregate, Function};

/// Means are scaled so that the first non-zero one lies between 10^4 and 10^5: then the model works on ratios.
const DIGITS: f64 = 4.0;
/// ln(1 + 10^4.5): the prior of scaled means.
const PRIOR_OF_MEANS: f64 = 10.361_664_453_6;
/// Scale exponents stay within this, whatever the first value.
const LARGEST_EXPONENT: f64 = 290.0;
/// Length that a bucket is taken to have as long as a series has one row.
const UNKNOWN_SPAN_S: u32 = 900;

/// What is said of a value, in its own unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judgement {
    pub q: f64,
    pub typical: f64,
    pub lower: f64,
    pub upper: f64,
    pub impact: f64,
}

/// One series.
#[derive(Debug)]
pub(super) struct Series {
    function: Function,
    span_s: Option<u32>,
    /// Time of the first row.
    first: Option<i64>,
    /// The first row's value, until another row tells how long a bucket is.
    waiting: Option<f64>,
    newest: i64,
    /// Factor from the value's unit to the model's; none before the first value that isn't 0.
    unit: Option<f64>,
    /// Values above zero.
    above: Option<Box<Compact>>,
    /// The size of values below zero, if there are any.
    below: Option<Box<Compact>>,
}

impl Series {
    pub(super) fn new(function: Function, span_s: Option<u32>) -> Self {
        Self { function, span_s, first: None, waiting: None, newest: i64::MIN, unit: None, above: None, below: None }
    }

    /// Judges the bucket at `t`, then learns it. False: it was not learnt, since it goes back in time.
    pub(super) fn observe(&mut self, t: i64, value: Option<f64>) -> (Option<Judgement>, bool) {
        let in_order = t >= self.newest;
        let span_s = self.span(t);
        self.newest = self.newest.max(t);
        let Some(value) = value else { return (None, in_order) };
        self.prepare(value);
        let judgement = self.judge(t, value, span_s.unwrap_or(UNKNOWN_SPAN_S), in_order && span_s.is_some());
        if span_s.is_none() {
            self.waiting.get_or_insert(value);
        }
        (Some(judgement), in_order)
    }

    /// The bucket length; when it becomes known, the first row is learnt.
    fn span(&mut self, t: i64) -> Option<u32> {
        let first = *self.first.get_or_insert(t);
        if self.span_s.is_none() && t > first {
            let span_s = u32::try_from(t - first).unwrap_or(u32::MAX);
            self.span_s = Some(span_s);
            if let Some(value) = self.waiting.take() {
                self.judge(first, value, span_s, true);
            }
        }
        self.span_s
    }

    /// Unit and models that this value needs.
    fn prepare(&mut self, value: f64) {
        let means = self.function.aggregate == Aggregate::Mean;
        if self.unit.is_none() && value != 0.0 {
            let exponent = (DIGITS - libm::log10(value.abs()).floor()).clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT);
            self.unit = Some(if means { libm::exp10(exponent) } else { 1.0 });
        }
        let prior = if means { PRIOR_OF_MEANS } else { libm::log1p(value.abs()).max(PRIOR_UNKNOWN) };
        self.above.get_or_insert_with(|| Box::new(Compact::new(prior)));
        if value < 0.0 {
            self.below.get_or_insert_with(|| Box::new(Compact::new(prior)));
        }
    }

    fn judge(&mut self, t: i64, value: f64, span_s: u32, learn: bool) -> Judgement {
        let unit = self.unit.unwrap_or(1.0);
        let size = |value: f64| Some((value.max(0.0) * unit).min(f64::MAX));
        let side = self.function.side;
        let mirrored = match side {
            Side::High => Side::Low,
            Side::Low => Side::High,
            Side::Both => Side::Both,
        };
        let ask = |model: &mut Compact, value: Option<f64>, side: Side| {
            if learn { model.observe(t, value, span_s, side, true) } else { model.score(t, value, span_s, side, true) }
        };
        let above = self.above.as_mut().map_or(Evidence::NONE, |model| ask(model, size(value), side));
        let below = self.below.as_mut().map(|model| ask(model, size(-value), mirrored));
        let stronger = below.filter(|below| below.q > above.q).unwrap_or(above);
        let below = below.unwrap_or(Evidence::NONE);
        Judgement {
            q: stronger.q,
            typical: (above.typical - below.typical) / unit,
            lower: (above.lower95 - below.upper95) / unit,
            upper: (above.upper95 - below.lower95) / unit,
            impact: multi_bucket_impact(&stronger),
        }
    }
}
