//! Suppression: anomaly records that have something in common share one alert, which counts them.

mod groups;

use std::time::Duration;

use serde::Deserialize;
use spikewatch_proto::convert::results::{AnomalyRecord, Term};

pub(crate) use self::groups::Groups;
use crate::{field::Field, rule};

/// Most fields of a group.
const MOST_FIELDS: usize = 3;

/// Which anomaly records share an alert.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suppression {
    /// Records that are equal in all of these share an alert; one to three.
    pub by: Vec<Field>,
    /// For how long, from the time when the alert was made; within one execution if not given.
    #[serde(default, deserialize_with = "rule::optional")]
    pub window: Option<Duration>,
    /// What becomes of a record that lacks one of the fields.
    #[serde(default)]
    pub missing: Missing,
}

/// What becomes of a record that lacks a field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// All that lack it are a group.
    #[default]
    Suppress,
    /// It gets an alert of its own.
    Alert,
}

impl Suppression {
    /// What is wrong with it, if anything is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let fields = self.by.len();
        if !(1..=MOST_FIELDS).contains(&fields) {
            return Some(format!("is by {fields} fields, expected 1 to {MOST_FIELDS}"));
        }
        let twice =
            self.by.iter().enumerate().find(|(at, field)| self.by.iter().take(*at).any(|other| other == *field));
        twice.map(|(_, field)| format!("is by {field} twice"))
    }

    /// What a record's group has in common; nothing if the record belongs to none. Several values of a field, sorted,
    /// count as one.
    #[must_use]
    pub(crate) fn group(&self, record: &AnomalyRecord) -> Option<Vec<Term>> {
        let terms = self.by.iter().map(|field| {
            let mut values = field.values(record);
            values.sort();
            values.dedup();
            Term { field: field.name().to_owned(), values }
        });
        let terms: Vec<Term> = terms.collect();
        let lacks = terms.iter().any(|term| term.values.is_empty());
        (!lacks || self.missing == Missing::Suppress).then_some(terms)
    }

    /// The window, ms; none for one execution.
    #[must_use]
    pub(crate) fn window_ms(&self) -> Option<u64> {
        self.window.map(rule::millis)
    }
}
