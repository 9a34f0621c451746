//! One job's calibration, and what it makes of a series' evidence.

use spikewatch_domain::{span::Span, window::Window};

use super::{
    bound::Bound,
    fleet::Fleet,
    joint::Says,
    model::{Foreseen, Model},
    quiet::Place,
    state::{JudgeState, Unreadable},
    table::seconds,
};
use crate::{
    baseline::{CALIBRATE_AFTER_S, Calibration, Side, record_score},
    calendar::Skip,
    job::{Job, custom_rule},
};

/// What no bucket of any site reaches: ln(1+x) of 10^15 bytes.
const LARGEST_LOGARITHM: f64 = 34.5;

/// A job with what it learnt over all its series.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) job: Job,
    pub(super) fleet: Fleet,
    calibration: Calibration,
    /// Buckets that the calibration remembers.
    memory: u64,
    span: Span,
}

/// A job's value of a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value {
    actual: f64,
    /// ln(1+actual).
    logarithm: f64,
}

impl Value {
    const ZERO: Self = Self { actual: 0.0, logarithm: 0.0 };

    fn of(actual: f64) -> Self {
        Self { actual, logarithm: libm::log1p(actual) }
    }
}

/// What a job says of one value.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) actual: f64,
    /// -log10 of the probability.
    pub(super) l: f64,
    /// 0 to 100.
    pub(super) score: f64,
    /// Buckets of the series that were learnt before.
    pub(super) buckets: u32,
    /// Whence it comes, and what there is to learn.
    pub(super) foreseen: Foreseen,
    /// What calendars and custom rules leave out.
    pub(super) skip: Skip,
}

impl Verdict {
    /// From which score on it may alert. A rich model's score has a scale of its own.
    pub(super) fn alert_from(&self, bound: Bound) -> f64 {
        if self.foreseen.own().is_some() { bound.rich_alert_from() } else { bound.alert_from(self.l) }
    }

    /// Leaves out what is not wanted of it.
    pub(super) fn leave_out(&mut self, skip: Skip) {
        self.skip = self.skip.or(skip);
        if self.skip.result {
            self.score = 0.0;
        }
    }
}

impl Judge {
    pub(super) fn new(job: Job, span: Span) -> Self {
        let (fleet, calibration) = (Fleet::new(), Calibration::new(0));
        Self { job, fleet, calibration, memory: Calibration::LEAST_MEMORY, span }
    }

    /// The job's value of a window, if it has one, counted for the fleet.
    pub(super) fn count(&mut self, window: &Window) -> Option<Value> {
        let value = self.value(window);
        if let Some(value) = value {
            self.fleet.add(value.logarithm);
        }
        value
    }

    /// The job's value of a window, if it has one.
    pub(super) fn value(&self, window: &Window) -> Option<Value> {
        self.job.value(window).map(Value::of)
    }

    /// Its value of a series that is known to be silent, if that is one.
    pub(super) fn silent(&self) -> Option<Value> {
        self.job.function.is_zero_when_absent().then_some(Value::ZERO)
    }

    /// Counts a silent series for the fleet.
    pub(super) fn count_silence(&mut self) {
        if self.silent().is_some() {
            self.fleet.add(0.0);
        }
    }

    /// True if silence may be what it looks for.
    pub(super) fn tells_silence(&self) -> bool {
        self.job.function.side() != Side::High && self.silent().is_some()
    }

    /// Judges a value of the bucket that starts at `t` (s).
    pub(super) fn judge(&self, model: &Model, t: i64, value: Value) -> Verdict {
        let foreseen = self.foresee(model, t, value);
        let (score, l) = foreseen.own().unwrap_or_else(|| {
            let l = self.calibration.l_of(foreseen.q());
            (record_score(l), l)
        });
        Verdict { actual: value.actual, l, score, buckets: model.buckets(), foreseen, skip: Skip::default() }
    }

    /// Points of a verdict's score that go when that part of its value is left out; none where the value isn't the sum
    /// of such parts, or is less than what is typical.
    pub(super) fn points_of(&self, model: &Model, t: i64, verdict: &Verdict, part: u64) -> Option<f64> {
        let typical = verdict.foreseen.expected().typical;
        if !self.job.function.only_grows() || verdict.actual <= typical {
            return None;
        }
        // Less than what is typical may be unusual, too.
        let rest = self.judge(model, t, Value::of((verdict.actual - part as f64).max(typical)));
        Some((verdict.score - rest.score).max(0.0))
    }

    /// Leaves out what the job's custom rules say of a bucket of a series.
    pub(super) fn heed_rules(&self, verdict: &mut Verdict, bucket: &Place<'_>) {
        if self.job.rules.is_empty() {
            return;
        }
        let &Place { start, site, subject } = bucket;
        let (actual, typical) = (verdict.actual, verdict.foreseen.expected().typical);
        let judged = custom_rule::Judged { site, subject, start, actual, typical };
        self.job.rules.iter().for_each(|rule| verdict.leave_out(rule.skip(&judged)));
    }

    /// True if a custom rule keeps it from learning that a series was silent.
    pub(super) fn unlearns_silence(&self, model: &Model, bucket: &Place<'_>) -> bool {
        let Some(value) = self.silent().filter(|_| !self.job.rules.is_empty()) else { return false };
        let mut verdict = self.judge(model, seconds(bucket.start), value);
        self.heed_rules(&mut verdict, bucket);
        verdict.skip.model_update
    }

    /// Learns a value that was judged.
    pub(super) fn learn(&mut self, model: &mut Model, foreseen: &Foreseen) {
        if i64::from(model.buckets()) * i64::from(self.span.seconds()) >= CALIBRATE_AFTER_S {
            self.calibration.add(foreseen.q());
        }
        model.learn(foreseen);
    }

    /// What nothing in the bucket that starts at `t` (s) is against the forecast; learnt if so wanted. `None` if it
    /// says nothing of it.
    pub(super) fn silence(&mut self, model: &mut Model, t: i64, learn: bool) -> Option<Says> {
        let foreseen = self.foresee(model, t, self.silent()?);
        if learn {
            self.learn(model, &foreseen);
        }
        Some(Says::from(&foreseen))
    }

    /// The least value above what is typical that scores `threshold` in the bucket that starts at `t` (s), may alert
    /// and is as large as the job wants; `u64::MAX` if none does, or if what is too much so far may be less in the end. Found by
    /// bisection, as more never scores lower: exact to a tenth of a percent, and on the upper side.
    pub(super) fn limit(&self, model: &Model, t: i64, threshold: f64, bound: Bound) -> u64 {
        let function = self.job.function;
        if function.side() == Side::Low || !function.only_grows() {
            return u64::MAX;
        }
        let enough = |logarithm: f64| {
            let verdict = self.judge(model, t, Value::of(libm::expm1(logarithm).ceil()));
            let effect = verdict.actual - verdict.foreseen.expected().typical;
            verdict.score >= threshold.max(verdict.alert_from(bound))
                && effect > 0.0
                && effect >= self.job.minimum_effect
        };
        let (mut low, mut high) = (0.0, LARGEST_LOGARITHM);
        if !enough(high) {
            return u64::MAX;
        }
        while high - low > 1e-3 {
            let middle = f64::midpoint(low, high);
            if enough(middle) { high = middle } else { low = middle }
        }
        libm::expm1(high).ceil() as u64
    }

    fn foresee(&self, model: &Model, t: i64, value: Value) -> Foreseen {
        let side = self.job.function.side();
        model.foresee(t, value.actual, value.logarithm, self.span.seconds(), side)
    }

    /// A series of this job of which nothing is known.
    pub(super) fn fresh(&self) -> Model {
        Model::new(self.job.model, self.fleet.prior())
    }

    /// What it has learnt over all series, between two buckets.
    pub(super) fn stored(&self) -> JudgeState {
        JudgeState {
            job: self.job.id.clone(),
            memory: self.memory,
            calibration: self.calibration.counts().to_vec(),
            fleet: self.fleet.counts().to_vec(),
        }
    }

    /// Takes back what [`stored`](Self::stored) gave.
    pub(super) fn restore(&mut self, state: &JudgeState) -> Result<(), Unreadable> {
        if state.job != self.job.id {
            return Err(Unreadable::because(format!("it is of job {:?}, not {:?}", state.job, self.job.id)));
        }
        self.memory = state.memory.max(Calibration::LEAST_MEMORY);
        self.calibration = Calibration::from_counts(self.memory, &state.calibration);
        self.fleet = Fleet::from_counts(&state.fleet);
        Ok(())
    }

    /// Ends a bucket: what was added to the calibration counts from the next one on.
    pub(super) fn close(&mut self, series: usize) {
        let series = series as u64;
        let month = series.saturating_mul(30 * 86_400 / u64::from(self.span.seconds()).max(1));
        if month > 2 * self.memory {
            self.memory = month;
            self.calibration = Calibration::from_counts(month, self.calibration.counts());
        } else {
            self.calibration.refresh();
        }
        self.fleet.close(series);
    }
}
