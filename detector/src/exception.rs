//! Exceptions: anomaly records that a rule makes no alert of, because somebody knows what they are.
//!
//! An exception holds if all its conditions do, and until it expires. A condition on a field with several values, as the
//! peers of a record, holds if it does for one of them; its negation if it does for none. What a record doesn't have is
//! like no value: `is` fails, `is_not` holds.

mod condition;
mod file;
mod list;

use serde::Deserialize;
use spikewatch_domain::record::EventMillis;
use spikewatch_proto::convert::results::AnomalyRecord;

pub(crate) use self::condition::matches;
pub use self::{
    condition::Condition,
    file::{ExceptionFile, InvalidFile},
    list::{Lists, ValueList},
};

/// Most conditions of one exception.
const MOST_CONDITIONS: usize = 32;

/// An exception.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Exception {
    /// What people see.
    pub name: String,
    /// Ids or names of the rules that it belongs to; all if empty. In a rule's own file it is left out.
    pub rules: Vec<String>,
    /// Buckets that start then or later are not excepted.
    pub expires: Option<EventMillis>,
    /// All of them must hold.
    pub conditions: Vec<Condition>,
}

/// An exception as files write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    rules: Vec<String>,
    /// RFC 3339, or a day in UTC.
    expires: Option<String>,
    conditions: Vec<Condition>,
}

impl TryFrom<Written> for Exception {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { name, rules, expires, conditions } = written;
        if !(1..=MOST_CONDITIONS).contains(&conditions.len()) {
            return Err(format!(
                "exception {name:?} has {} conditions, expected 1 to {MOST_CONDITIONS}",
                conditions.len()
            ));
        }
        let expires = expires
            .map(|text| {
                time(&text).ok_or_else(|| {
                    format!(
                        "exception {name:?}: expires {text:?} is no time; expected one as \"2027-01-31T18:00:00Z\" or \
                         \"2027-01-31\""
                    )
                })
            })
            .transpose()?;
        Ok(Self { name, rules, expires, conditions })
    }
}

/// RFC 3339, or a day in UTC.
pub(crate) fn time(text: &str) -> Option<EventMillis> {
    let time = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let day: jiff::civil::Date = text.parse().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok()
    });
    u64::try_from(time?.as_millisecond()).ok()
}

impl Exception {
    /// True if no alert is wanted of this record.
    #[must_use]
    pub fn covers(&self, record: &AnomalyRecord) -> bool {
        self.expires.is_none_or(|expires| record.bucket_start < expires)
            && self.conditions.iter().all(|condition| condition.holds(record))
    }

    /// True if it belongs to the rule.
    #[must_use]
    pub fn belongs_to(&self, id: &str, name: &str) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|rule| rule == id || rule == name)
    }

    /// Finds the lists that its conditions name.
    ///
    /// # Errors
    /// Names the list that isn't there.
    pub fn resolve(&mut self, lists: &Lists) -> Result<(), String> {
        let name = &self.name;
        self.conditions
            .iter_mut()
            .try_for_each(|condition| condition.resolve(lists))
            .map_err(|problem| format!("exception {name:?}: {problem}"))
    }

    /// A list that it names and that was not found yet.
    #[must_use]
    pub fn unresolved(&self) -> Option<&str> {
        self.conditions.iter().find_map(Condition::unresolved)
    }
}

#[cfg(test)]
mod tests;
