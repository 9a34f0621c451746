//! What an execution did, as the execution log keeps it.

use spikewatch_domain::record::EventMillis;
use spikewatch_proto::{
    convert::results::{Alert, AnomalyRecord},
    v1,
};

/// What one execution did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Execution {
    /// Grows by one with every execution, of any rule, that had something to look at.
    pub number: u64,
    /// The rule.
    pub rule_id: String,
    /// Its name.
    pub rule_name: String,
    /// When it was due; of a manual run, when it ran.
    pub at: EventMillis,
    /// Of a manual run: it looked at buckets that start from the first up to the second.
    pub manual: Option<(EventMillis, EventMillis)>,
    /// Alerts made, by descending score, then in order of finalisation.
    pub alerts: Vec<Alert>,
    /// Newer versions of older alerts.
    pub updates: Vec<Alert>,
    /// Records that were folded into alerts.
    pub suppressed: usize,
    /// Records that wait for the next execution because this one reached its limit.
    pub held_back: usize,
    /// Records that waited longer than the look-back, or were too many to wait, and are given up.
    pub expired: usize,
    /// Records over the threshold that an exception covers, since the last execution.
    pub excepted: u64,
    /// Records over the threshold whose series is too young, since the last execution.
    pub young: u64,
    /// Records over the threshold that the bound on false alerts kept from being told, since the last execution, and the
    /// highest score that one would have needed.
    pub bounded: (u64, f64),
    /// Late records that came after the look-back and made no alert, and the worst of them.
    pub belated: (u64, Option<AnomalyRecord>),
    /// Executions before it that had nothing to look at.
    pub quiet: u64,
    /// No execution ran in between.
    pub gap: Option<(EventMillis, EventMillis)>,
    /// What keeps the rule from working as meant.
    pub standing: Vec<String>,
}

impl Execution {
    /// What a person should know.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.standing.clone();
        if self.held_back > 0 {
            let rest = if self.manual.is_some() { "are left; run it again" } else { "more wait for the next" };
            let (made, held_back) = (self.alerts.len(), self.held_back);
            warnings.push(format!("This execution made {made} alerts and reached its limit; {held_back} {rest}."));
        }
        if self.expired > 0 {
            let expired = self.expired;
            warnings.push(format!("{expired} anomaly records waited longer than the look-back and made no alert."));
        }
        warnings.extend(self.digest());
        if let Some((from, to)) = self.gap {
            let (from, to) = (time(from), time(to));
            warnings.push(format!("No execution ran between {from} and {to}: alerts of that time come late."));
        }
        warnings
    }

    /// What is said of late records that came after the look-back.
    fn digest(&self) -> Option<String> {
        let (belated, Some(worst)) = &self.belated else { return None };
        let site = worst.site.as_ref().map(|site| site.as_str()).unwrap_or_default();
        let (AnomalyRecord { job, record_score, bucket_start, .. }, of) = (worst, format!("{site} {}", worst.value));
        Some(format!(
            "{belated} anomaly records of corrections came later than the look-back and made no alert; the worst is of \
             {job}, {}, in the bucket of {}: score {record_score:.1}.",
            of.trim(),
            time(*bucket_start)
        ))
    }

    /// The warnings in one text that names the rule.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let warnings = self.warnings();
        (!warnings.is_empty()).then(|| format!("{}: {}", self.rule_name, warnings.join(" ")))
    }

    /// As Elastic's rules have it: with any warning a partial failure; failed if records were given up that nobody will
    /// look at again.
    #[must_use]
    pub fn status(&self) -> v1::execution::Status {
        match (self.expired, self.warnings().is_empty()) {
            (0, true) => v1::execution::Status::Succeeded,
            (0, false) => v1::execution::Status::PartialFailure,
            _ => v1::execution::Status::Failed,
        }
    }
}

impl From<&Execution> for v1::Execution {
    fn from(done: &Execution) -> Self {
        let (from_ms, to_ms) = done.manual.unwrap_or_default();
        let (gap_from_ms, gap_to_ms) = done.gap.unwrap_or_default();
        Self {
            number: done.number,
            rule_id: done.rule_id.clone(),
            rule_name: done.rule_name.clone(),
            at_ms: done.at,
            status: done.status().into(),
            manual: done.manual.is_some(),
            from_ms,
            to_ms,
            alerts: done.alerts.len() as u64,
            updated: done.updates.len() as u64,
            suppressed: done.suppressed as u64,
            excepted: done.excepted,
            held_back: done.held_back as u64,
            expired: done.expired as u64,
            young: done.young,
            quiet: done.quiet,
            bounded: done.bounded.0,
            alert_from: done.bounded.1,
            gap_from_ms,
            gap_to_ms,
            warnings: done.warnings(),
        }
    }
}

fn time(ms: EventMillis) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| format!("{ms} ms"), |time| time.to_string())
}
