//! One job's calibration, and what it makes of a series' evidence.

use spikewatch_domain::span::Span;

use super::fleet::Fleet;
use crate::{
    baseline::{CALIBRATE_AFTER_S, Calibration, Compact, record_score},
    job::Job,
};

/// A job with what it learnt over all its series.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) job: Job,
    pub(super) fleet: Fleet,
    calibration: Calibration,
    /// Buckets that the calibration remembers.
    memory: u64,
}

/// What a job says of one value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) actual: f64,
    /// -log10 of the probability.
    pub(super) l: f64,
    /// 0 to 100.
    pub(super) score: f64,
}

impl Judge {
    pub(super) fn new(job: Job) -> Self {
        Self { job, fleet: Fleet::new(), calibration: Calibration::new(0), memory: Calibration::LEAST_MEMORY }
    }

    /// Judges `value` of the bucket that starts at `t` (s), and learns it if `learn`.
    pub(super) fn judge(&mut self, model: &mut Compact, t: i64, value: f64, span: Span, learn: bool) -> Verdict {
        let (side, seconds) = (self.job.function.side(), span.seconds());
        let evidence = if learn {
            let old_enough = i64::from(model.buckets()) * i64::from(seconds) >= CALIBRATE_AFTER_S;
            let evidence = model.observe(t, Some(value), seconds, side, false);
            if old_enough {
                self.calibration.add(evidence.q);
            }
            evidence
        } else {
            model.score(t, Some(value), seconds, side, false)
        };
        let l = self.calibration.l_of(evidence.q);
        Verdict { actual: value, l, score: record_score(l) }
    }

    /// Ends a bucket: what was added to the calibration counts from the next one on.
    pub(super) fn close(&mut self, series: usize, span: Span) {
        let series = series as u64;
        let month = series.saturating_mul(30 * 86_400 / u64::from(span.seconds()).max(1));
        if month > 2 * self.memory {
            self.memory = month;
            self.calibration = Calibration::from_counts(month, self.calibration.counts());
        } else {
            self.calibration.refresh();
        }
        self.fleet.close(series);
    }
}
