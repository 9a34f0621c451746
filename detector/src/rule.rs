//! Rules as data: which anomaly records become alerts, how often that is looked at, and what an alert says.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

/// How bad it is if it is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// 21 by convention.
    Low,
    /// 47.
    Medium,
    /// 73.
    High,
    /// 99.
    Critical,
}

impl Severity {
    /// ECS leaves the scale of `event.severity` to the source; this is the one of the risk scores.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Low => 21,
            Self::Medium => 47,
            Self::High => 73,
            Self::Critical => 99,
        }
    }
}

/// An identified thing of a threat framework.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// As TA0010 or T1041.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A tactic with its techniques.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threat {
    /// As "MITRE ATT&CK".
    pub framework: String,
    /// The tactic.
    pub tactic: Named,
    /// Techniques of the tactic.
    #[serde(default)]
    pub technique: Vec<Named>,
}

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
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((field, _, problem)) => {
                Err(InvalidRule::Field { rule: self.name.clone(), field, problem: problem.to_owned() })
            }
            None => Ok(()),
        }
    }

    /// The interval, ms.
    #[must_use]
    pub fn interval_ms(&self) -> u64 {
        u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX)
    }

    /// The look-back, ms.
    #[must_use]
    pub fn look_back_ms(&self) -> u64 {
        u64::try_from(self.look_back.as_millis()).unwrap_or(u64::MAX)
    }
}

/// "90s", "15m", "2h" or "1d"; with a leading "now-" as rules elsewhere write their look-back.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("{text:?} is no duration; expected a number and s, m, h or d, as \"15m\""))
    })
}

fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix("now-").unwrap_or(text);
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u32>().ok().map(|number| Duration::from_secs(u64::from(number) * unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;

    #[test]
    fn the_shipped_rules_hold_together() {
        let rules = Rule::built_in().unwrap();
        assert_eq!(rules.len(), 2);
        let jobs = Job::built_in();
        for rule in &rules {
            assert!(rule.jobs.iter().all(|id| jobs.iter().any(|job| job.id == *id)), "{}", rule.name);
            assert_eq!((rule.threshold, rule.max_signals, rule.interval_ms()), (75.0, 100, 900_000));
            assert_eq!((rule.severity, rule.risk_score), (Severity::Low, 21));
            let techniques: Vec<_> =
                rule.threat.iter().flat_map(|t| t.technique.iter().map(move |n| (&*t.tactic.id, &*n.id))).collect();
            assert_eq!(
                techniques,
                [("TA0010", "T1041"), ("TA0007", "T1046"), ("TA0043", "T1595"), ("TA0040", "T1498")]
            );
            assert!(rule.note.len() > 500, "an alert comes with a guide");
        }
        assert_eq!(rules[0].jobs, ["high_count_network_events"]);
        assert_ne!(rules[0].id, rules[1].id);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let good = include_str!("../../deploy/rules/spike-in-network-traffic.toml");
        let error = |from: &str, to: &str| Rule::from_toml(&good.replace(from, to)).unwrap_err().to_string();
        assert!(error("interval = \"15m\"", "interval = \"15 minutes\"").contains("no duration"));
        assert!(error("threshold = 75", "threshold = 101").contains("threshold must be 0 to 100"));
        assert!(error("from = \"now-30m\"", "from = \"now-5m\"").contains("from must be at least the interval"));
        assert!(error("max_signals = 100", "max_signal = 100").contains("max_signal"));
    }
}
