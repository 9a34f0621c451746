//! One series of a table: its model or two, its unit, its bucket length.

use super::super::compact::{Compact, PRIOR_UNKNOWN, Side};
use super::super::evidence::{Evidence, multi_bucket_impact};
use super::super::rich::{self, Rich};
use super::{Aggregate, Function, Model};

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
    pub verdict: Verdict,
    pub typical: f64,
    pub lower: f64,
    pub upper: f64,
    pub impact: f64,
}

/// How unusual a value is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    /// Evidence, to be judged against that of all series.
    Pooled { q: f64 },
    /// Judged against the series' own past.
    Own { score: f64, probability: f64 },
}

/// The model or models of one series, once it has a value.
#[derive(Debug)]
enum Models {
    Rich(Box<Rich>),
    Compact {
        /// Values above zero.
        above: Box<Compact>,
        /// The size of values below zero, if there are any.
        below: Option<Box<Compact>>,
    },
}

/// One series.
#[derive(Debug)]
pub(super) struct Series {
    function: Function,
    model: Model,
    span_s: Option<u32>,
    /// Time of the first row.
    first: Option<i64>,
    /// The first row's value, until another row tells how long a bucket is.
    waiting: Option<f64>,
    newest: i64,
    /// Factor from the value's unit to the model's; none before the first value that isn't 0.
    unit: Option<f64>,
    models: Option<Models>,
}

impl Judgement {
    /// From the model's unit to the value's.
    fn in_unit(self, unit: f64) -> Self {
        Self { typical: self.typical / unit, lower: self.lower / unit, upper: self.upper / unit, ..self }
    }
}

impl Series {
    pub(super) fn new(function: Function, model: Model, span_s: Option<u32>) -> Self {
        Self { function, model, span_s, first: None, waiting: None, newest: i64::MIN, unit: None, models: None }
    }

    /// Judges the bucket at `t`, then learns it. False: it was not learnt, since it goes back in time.
    pub(super) fn observe(&mut self, t: i64, value: Option<f64>) -> (Option<Judgement>, bool) {
        let in_order = t >= self.newest;
        let span_s = self.span(t);
        self.newest = self.newest.max(t);
        let absent = |value: &f64| self.function.aggregate == Aggregate::NonZeroCount && *value == 0.0;
        let Some(value) = value.filter(|value| !absent(value)) else { return (None, in_order) };
        self.prepare(value);
        let known = in_order && span_s.is_some();
        let judgement = self.judge(t, value, span_s.unwrap_or(UNKNOWN_SPAN_S), known);
        if span_s.is_none() {
            self.waiting.get_or_insert(value);
        }
        (judgement, in_order)
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
        let scaled = self.function.aggregate.has_unit();
        if self.unit.is_none() && value != 0.0 {
            let exponent = (DIGITS - libm::log10(value.abs()).floor()).clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT);
            self.unit = Some(if scaled { libm::exp10(exponent) } else { 1.0 });
        }
        let prior = if scaled { PRIOR_OF_MEANS } else { libm::log1p(value.abs()).max(PRIOR_UNKNOWN) };
        let model = self.model;
        let models = self.models.get_or_insert_with(|| match model {
            Model::Rich => Models::Rich(Box::default()),
            Model::Compact => Models::Compact { above: Box::new(Compact::new(prior)), below: None },
        });
        if let Models::Compact { below, .. } = models
            && value < 0.0
        {
            below.get_or_insert_with(|| Box::new(Compact::new(prior)));
        }
    }

    fn judge(&mut self, t: i64, value: f64, span_s: u32, learn: bool) -> Option<Judgement> {
        let unit = self.unit.unwrap_or(1.0);
        Some(match self.models.as_mut()? {
            Models::Rich(model) => judge_rich(model, t, value * unit, span_s, self.function, learn).in_unit(unit),
            Models::Compact { above, below } => {
                judge_compact(above, below.as_deref_mut(), t, value * unit, span_s, self.function.side, learn)
                    .in_unit(unit)
            }
        })
    }
}

fn judge_rich(model: &mut Rich, t: i64, x: f64, span_s: u32, function: Function, learn: bool) -> Judgement {
    let Function { side, aggregate } = function;
    let opinion = if learn { model.observe(t, Some(x), span_s, side) } else { model.score(t, Some(x), span_s, side) };
    // A count is not negative, so its forecast isn't either.
    let floor = if aggregate.counts() { 0.0 } else { f64::MIN };
    Judgement {
        verdict: Verdict::Own { score: opinion.score, probability: rich::probability(opinion.evidence, span_s) },
        typical: opinion.typical.max(floor),
        lower: opinion.bounds95.0.max(floor),
        upper: opinion.bounds95.1.max(floor),
        impact: opinion.multi_bucket_impact(),
    }
}

fn judge_compact(
    above: &mut Compact,
    below: Option<&mut Compact>,
    t: i64,
    x: f64,
    span_s: u32,
    side: Side,
    learn: bool,
) -> Judgement {
    let size = |value: f64| Some(value.clamp(0.0, f64::MAX));
    let mirrored = match side {
        Side::High => Side::Low,
        Side::Low => Side::High,
        Side::Both => Side::Both,
    };
    let ask = |model: &mut Compact, value: Option<f64>, side: Side| {
        if learn { model.observe(t, value, span_s, side, true) } else { model.score(t, value, span_s, side, true) }
    };
    let above = ask(above, size(x), side);
    let below = below.map(|model| ask(model, size(-x), mirrored));
    let stronger = below.filter(|below| below.q > above.q).unwrap_or(above);
    let below = below.unwrap_or(Evidence::NONE);
    Judgement {
        verdict: Verdict::Pooled { q: stronger.q },
        typical: above.typical - below.typical,
        lower: above.lower95 - below.upper95,
        upper: above.upper95 - below.lower95,
        impact: multi_bucket_impact(&stronger),
    }
}
