//! What rules know outlives them: a restart between any two steps changes nothing.

use std::collections::BTreeMap;

use super::*;
use crate::suppression::Suppression;

/// The part of a store that rules need.
#[derive(Default)]
struct Kept {
    records: Vec<AnomalyRecord>,
    alerts: BTreeMap<String, Alert>,
    progress: BTreeMap<String, Vec<u8>>,
    number: u64,
}

impl Kept {
    fn write(&mut self, done: &[Execution], executions: &mut Executions) {
        for execution in done {
            self.number = execution.number;
            let alerts = execution.alerts.iter().chain(&execution.updates);
            self.alerts.extend(alerts.map(|alert| (alert.id.clone(), alert.clone())));
        }
        self.progress.extend(executions.progress());
    }

    /// What another process makes of it.
    fn restart(&self, rule: &Rule, scored: EventMillis) -> Executions {
        let mut executions = Executions::new(vec![rule.clone()], &Job::built_in(), self.number);
        let written: Vec<_> = self.progress.clone().into_iter().collect();
        let ids = alerts_in(&written);
        let alerts: Vec<Alert> = ids.iter().filter_map(|id| self.alerts.get(id).cloned()).collect();
        self.alerts.values().for_each(|alert| executions.remember(alert));
        let resumption = executions.restore(&written, &alerts);
        for record in self.records.iter().filter(|record| Some(record.finalised) >= resumption.first()) {
            executions.resume(&resumption, record);
        }
        self.records.iter().for_each(|record| executions.begin_with(&resumption, record));
        executions.scored(scored);
        executions.follow_clock(u64::MAX);
        executions
    }
}

proptest! {
    #[test]
    fn a_restart_changes_nothing(
        hosts in proptest::collection::vec((0u64..8, 0u64..30, 70.0..100.0f64), 1..300),
        limit in 1usize..30,
        restarts in proptest::collection::vec(any::<bool>(), 12),
        suppression in 0usize..3,
    ) {
        let mut hosts = hosts;
        hosts.sort_by_key(|(bucket, ..)| *bucket);
        let suppression = ["", "by = [\"value\"]", "by = [\"value\"]\nwindow = \"45m\""][suppression];
        let suppression: Option<Suppression> = (!suppression.is_empty()).then(|| toml::from_str(suppression).unwrap());
        let rule = Rule { max_signals: limit, suppression, ..rule() };
        let run = |restarts: &[bool]| {
            let mut kept = Kept::default();
            let mut executions = Executions::new(vec![rule.clone()], &Job::built_in(), 0);
            executions.follow_clock(u64::MAX);
            let mut all = Vec::new();
            executions.advance(1000 * QUARTER);
            for (quarter, restart) in (0u64..).zip(restarts) {
                let end = (1001 + quarter) * QUARTER;
                for (at, (_, host, score)) in hosts.iter().enumerate().filter(|(_, (bucket, ..))| *bucket == quarter) {
                    let record = record(at as u64 + 1, 1000 + quarter, *host, *score);
                    executions.offer(&record);
                    kept.records.push(record);
                }
                executions.scored(end);
                if *restart && quarter % 2 == 0 {
                    // Before the execution: the records are there, what they led to is not.
                    executions = kept.restart(&rule, end);
                }
                let done = executions.advance(end);
                kept.write(&done, &mut executions);
                if *restart {
                    executions = kept.restart(&rule, end);
                }
                all.extend(done);
            }
            (all.into_iter().map(|done| Execution { quiet: 0, ..done }).collect::<Vec<_>>(), kept.alerts)
        };
        let (quiet, disturbed) = (run(&[false; 12]), run(&restarts));
        prop_assert_eq!(quiet.1, disturbed.1);
        prop_assert_eq!(quiet.0, disturbed.0);
    }
}
