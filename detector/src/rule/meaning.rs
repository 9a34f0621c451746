//! What an alert of a rule may mean: how bad it is, and what it may be a sign of.

use serde::{Deserialize, Serialize};

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
    /// As rules write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

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
