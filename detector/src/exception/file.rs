//! A file of exceptions that rules share, with the lists they name.
//!
//! ```toml
//! [lists]
//! scanners = ["10.0.9.0/24", "scanner-1"]
//! partners = "partners.txt"          # a value a line
//!
//! [[exceptions]]
//! name = "The scanner is ours"
//! rules = ["Spike in a Host's Traffic"]   # all if left out
//! expires = "2027-06-30"                  # never if left out
//! conditions = [{ field = "host", operator = "in_list", values = ["scanners"] }]
//! ```

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use super::{
    Exception,
    list::{Lists, ValueList},
};
use crate::rule::{InvalidRule, Rule};

/// The file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExceptionFile {
    /// The lists.
    pub lists: Lists,
    /// The exceptions; what lists they name was found.
    pub exceptions: Vec<Exception>,
}

/// Why it can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidFile(String);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    lists: BTreeMap<String, WrittenList>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WrittenList {
    Values(Vec<String>),
    File(String),
}

impl ExceptionFile {
    /// Reads it from TOML; `read` gives the text of a list's file.
    ///
    /// # Errors
    /// Names what doesn't fit.
    pub fn from_toml(text: &str, mut read: impl FnMut(&str) -> Result<String, String>) -> Result<Self, InvalidFile> {
        let written: Written = toml::from_str(text).map_err(|error| InvalidFile(error.to_string()))?;
        let mut lists = Lists::new();
        for (name, list) in written.lists {
            let list = match list {
                WrittenList::Values(values) => ValueList::of(values),
                WrittenList::File(path) => read(&path)
                    .and_then(|text| ValueList::from_lines(&text))
                    .map_err(|problem| InvalidFile(format!("list {name:?}: {problem}")))?,
            };
            lists.insert(name, Arc::new(list));
        }
        let mut exceptions = written.exceptions;
        exceptions.iter_mut().try_for_each(|exception| exception.resolve(&lists)).map_err(InvalidFile)?;
        Ok(Self { lists, exceptions })
    }

    /// Gives each rule the exceptions that belong to it.
    ///
    /// # Errors
    /// An exception is of a rule that isn't there, or a rule's own names a list that isn't.
    pub fn apply(&self, rules: &mut [Rule]) -> Result<(), InvalidFile> {
        for exception in &self.exceptions {
            let unknown = |name: &&String| rules.iter().all(|rule| rule.id != **name && rule.name != **name);
            if let Some(name) = exception.rules.iter().find(unknown) {
                return Err(InvalidFile(format!(
                    "exception {:?} is of rule {name:?}, which does not exist",
                    exception.name
                )));
            }
        }
        for rule in rules {
            let own = self.exceptions.iter().filter(|exception| exception.belongs_to(&rule.id, &rule.name));
            rule.exceptions.extend(own.cloned());
            rule.resolve(&self.lists).map_err(|error: InvalidRule| InvalidFile(error.to_string()))?;
        }
        Ok(())
    }
}
