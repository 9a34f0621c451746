//! Rules as data: which anomaly records become alerts, how often that is looked at, and what an alert says.

mod duration;
mod meaning;

use std::time::Duration;

use serde::Deserialize;

pub(crate) use self::duration::{duration, millis, optional, parse};
pub use self::meaning::{Named, Severity, Threat};
use crate::{
    exception::{Exception, Lists},
    suppression::Suppression,
};

/// A rule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Part of every alert's id; never changes.
    pub id: String,
    /// What people see.
    pub name: String,
    /// Grows with every change of the rule.
    pub version: u32,
    /// It runs; one that doesn't is only listed.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// What it finds.
    pub description: String,
    /// How bad an alert is.
    pub severity: Severity,
    /// 0 to 100.
    pub risk_score: u8,
    /// Labels.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Ids of the jobs whose anomaly records it looks at.
    pub jobs: Vec<String>,
    /// Least record score (inclusive) that makes an alert, 0 to 100.
    pub threshold: f64,
    /// Time between executions.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// How long a record that the cap cut waits for a later execution.
    #[serde(rename = "from", deserialize_with = "duration")]
    pub look_back: Duration,
    /// Most alerts of one execution.
    pub max_signals: usize,
    /// Records of series that had learnt fewer buckets make no alert; they are counted.
    pub minimum_buckets: u32,
    /// Tactics and techniques an alert may be a sign of.
    #[serde(default)]
    pub threat: Vec<Threat>,
    /// What may look like it and is harmless.
    #[serde(default)]
    pub false_positives: Vec<String>,
    /// Investigation guide, Markdown.
    #[serde(default)]
    pub note: String,
    /// Anomaly records of which it makes no alert.
    #[serde(default)]
    pub exceptions: Vec<Exception>,
    /// Which anomaly records share an alert; each has its own if there is none.
    #[serde(default)]
    pub suppression: Option<Suppression>,
}

fn enabled() -> bool {
    true
}

/// Why a rule can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// No TOML, or unknown or missing fields.
    #[error("rule: {0}")]
    Syntax(String),
    /// A field is out of its range.
    #[error("rule {rule:?}: {field} {problem}")]
    Field {
        /// Name of the rule.
        rule: String,
        /// The field.
        field: &'static str,
        /// What it holds and what was expected.
        problem: String,
    },
}

impl Rule {
    /// The rules that ship with the program.
    ///
    /// # Errors
    /// Never in a program that passed its tests: their text is part of it.
    pub fn built_in() -> Result<Vec<Self>, InvalidRule> {
        [
            include_str!("../../deploy/rules/spike-in-network-traffic.toml"),
            include_str!("../../deploy/rules/spike-in-a-hosts-traffic.toml"),
            include_str!("../../deploy/rules/spike-in-upload-to-new-peers.toml"),
            include_str!("../../deploy/rules/spike-in-firewall-denies.toml"),
            include_str!("../../deploy/rules/spike-in-traffic-to-a-country.toml"),
            include_str!("../../deploy/rules/traffic-to-a-rare-country.toml"),
        ]
        .into_iter()
        .map(Self::from_toml)
        .collect()
    }

    /// Reads a rule from TOML.
    ///
    /// # Errors
    /// Names the field that doesn't fit.
    pub fn from_toml(text: &str) -> Result<Self, InvalidRule> {
        let rule: Self = toml::from_str(text).map_err(|e| InvalidRule::Syntax(e.to_string()))?;
        rule.check().map(|()| rule)
    }

    /// Checks the ranges of all fields.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(&self) -> Result<(), InvalidRule> {
        let second = Duration::from_secs(1);
        let checks: [(&'static str, bool, &str); 8] = [
            ("id", !self.id.is_empty() && self.id.len() <= 64, "must be 1 to 64 characters"),
            ("name", !self.name.is_empty(), "is empty"),
            ("risk_score", self.risk_score <= 100, "must be 0 to 100"),
            ("jobs", !self.jobs.is_empty(), "names no job"),
            ("threshold", (0.0..=100.0).contains(&self.threshold), "must be 0 to 100"),
            ("interval", self.interval >= second, "must be at least 1s"),
            ("from", self.look_back >= self.interval, "must be at least the interval"),
            ("max_signals", (1..=10_000).contains(&self.max_signals), "must be 1 to 10000"),
        ];
        let faulty =
            checks.into_iter().find(|(_, holds, _)| !holds).map(|(field, _, problem)| (field, problem.to_owned()));
        let suppression = || {
            let problem = self.suppression.as_ref()?.problem()?;
            Some(("suppression", problem))
        };
        match faulty.or_else(suppression) {
            Some((field, problem)) => Err(InvalidRule::Field { rule: self.name.clone(), field, problem }),
            None => Ok(()),
        }
    }

    /// Finds the lists that its exceptions name.
    ///
    /// # Errors
    /// Names the list that isn't there.
    pub fn resolve(&mut self, lists: &Lists) -> Result<(), InvalidRule> {
        let resolved = self.exceptions.iter_mut().try_for_each(|exception| exception.resolve(lists));
        resolved.map_err(|problem| InvalidRule::Field { rule: self.name.clone(), field: "exceptions", problem })
    }

    /// The interval, ms.
    #[must_use]
    pub fn interval_ms(&self) -> u64 {
        millis(self.interval)
    }

    /// The look-back, ms.
    #[must_use]
    pub fn look_back_ms(&self) -> u64 {
        millis(self.look_back)
    }
}

#[cfg(test)]
mod tests;
