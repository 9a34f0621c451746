//! One job's calibration, and what it makes of a series' evidence.

use spikewatch_domain::{span::Span, window::Window};

use super::{
    fleet::Fleet,
    joint::Says,
    model::{Foreseen, Model},
    state::{JudgeState, Unreadable},
};
use crate::{
    baseline::{CALIBRATE_AFTER_S, Calibration, record_score},
    job::Job,
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

/// What a job counts in a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value {
    count: u64,
    /// ln(1+count).
    logarithm: f64,
}

impl Value {
    pub(super) const ZERO: Self = Self { count: 0, logarithm: 0.0 };
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
}

impl Judge {
    pub(super) fn new(job: Job, span: Span) -> Self {
        let (fleet, calibration) = (Fleet::new(), Calibration::new(0));
        Self { job, fleet, calibration, memory: Calibration::LEAST_MEMORY, span }
    }

    /// The job's value of a window, counted for the fleet.
    pub(super) fn count(&mut self, window: &Window) -> Value {
        let value = self.value(window);
        self.fleet.add(value.logarithm);
        value
    }

    /// The job's value of a window.
    pub(super) fn value(&self, window: &Window) -> Value {
        let count = self.job.value(window);
        Value { count, logarithm: libm::log1p(count as f64) }
    }

    /// Judges a value of the bucket that starts at `t` (s).
    pub(super) fn judge(&self, model: &Model, t: i64, value: Value) -> Verdict {
        let foreseen = self.foresee(model, t, value);
        let (score, l) = foreseen.own().unwrap_or_else(|| {
            let l = self.calibration.l_of(foreseen.q());
            (record_score(l), l)
        });
        Verdict { actual: value.count as f64, l, score, buckets: model.buckets(), foreseen }
    }

    /// Learns a value that was judged.
    pub(super) fn learn(&mut self, model: &mut Model, foreseen: &Foreseen) {
        if i64::from(model.buckets()) * i64::from(self.span.seconds()) >= CALIBRATE_AFTER_S {
            self.calibration.add(foreseen.q());
        }
        model.learn(foreseen);
    }

    /// What nothing in the bucket that starts at `t` (s) is against the forecast; learnt if so wanted.
    pub(super) fn silence(&mut self, model: &mut Model, t: i64, learn: bool) -> Says {
        let foreseen = self.foresee(model, t, Value::ZERO);
        if learn {
            self.learn(model, &foreseen);
        }
        Says::from(&foreseen)
    }

    /// The least value that scores `threshold` in the bucket that starts at `t` (s) and is as large as the job wants;
    /// `u64::MAX` if none does. Found by bisection, as more never scores lower: exact to a tenth of a percent, and on the
    /// upper side.
    pub(super) fn limit(&self, model: &Model, t: i64, threshold: f64) -> u64 {
        let enough = |logarithm: f64| {
            let count = libm::expm1(logarithm).ceil() as u64;
            let verdict = self.judge(model, t, Value { count, logarithm: libm::log1p(count as f64) });
            verdict.score >= threshold
                && verdict.actual - verdict.foreseen.expected().typical >= self.job.minimum_effect
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
        model.foresee(t, value.count, value.logarithm, self.span.seconds(), side)
    }

    /// A series of this job of which nothing is known.
    pub(super) fn fresh(&self) -> Model {
        Model::new(self.job.split, self.fleet.prior())
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
