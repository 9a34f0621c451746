//! Defaults, file, environment, flags: read, checked and laid over one another.
//!
//! Each layer is held against the whole schema by itself ([`problems`]), so that a fault is placed where it was written.

use std::{collections::BTreeMap, fmt, path::Path, str::FromStr};

use serde::Deserialize as _;
use toml::{
    Spanned, Value,
    de::{DeTable, Deserializer},
};

use super::{
    Config,
    check::{self, Roles},
    file,
    problems::{MOST_PROBLEMS, problems, walk},
};

/// One thing that is wrong: where, and what was found and expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    place: String,
    problem: String,
}

impl Fault {
    /// A fault.
    pub(crate) fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"))]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

/// Prefix of the environment variables that are configuration.
pub(crate) const PREFIX: &str = "SPIKEWATCH__";

/// `section.key=value`, as a flag writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Where.
    pub(crate) key: String,
    /// What.
    pub(crate) value: String,
}

impl Setting {
    fn keys(&self) -> Vec<String> {
        self.key.split('.').map(str::to_owned).collect()
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok(Self { key: key.trim().into(), value: value.into() }),
            _ => Err(format!("{text:?} is no setting: expected SECTION.KEY=VALUE, like telemetry.log=debug")),
        }
    }
}

/// Lays the layers over one another and checks the result for these roles. `base` is what a command has for defaults of
/// its own.
///
/// # Errors
/// All faults of all layers; if they have none, all values that don't fit together.
pub(crate) fn load(
    base: &[Setting],
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    settings: &[Setting],
    roles: Roles,
) -> Result<Config, Faults> {
    let mut merged = Merged::default();
    for setting in base {
        merged.value("default", setting.keys(), &setting.value);
    }
    if let Some(path) = file {
        match file::read(path) {
            Ok(text) => merged.file(&path.display().to_string(), &text),
            Err(problem) => merged.faults.push(Fault::new(path.display().to_string(), problem)),
        }
    }
    let mut variables: Vec<_> = environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    for (name, value) in variables {
        let keys = name.strip_prefix(PREFIX).unwrap_or_default().split("__").map(str::to_lowercase).collect();
        merged.value(&name, keys, &value);
    }
    for setting in settings {
        merged.value(&format!("--set {}", setting.key), setting.keys(), &setting.value);
    }
    merged.finish(roles)
}

/// The layers so far.
#[derive(Debug, Default)]
struct Merged {
    table: toml::Table,
    /// Where each key was written.
    places: BTreeMap<String, String>,
    faults: Vec<Fault>,
}

impl Merged {
    fn file(&mut self, path: &str, text: &str) {
        let newlines: Vec<_> = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
        let line = |at: usize| 1 + newlines.partition_point(|newline| *newline < at);
        let (mut table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // What could be read of a broken file would only add faults that it doesn't have.
            let fault = |error: &toml::de::Error| {
                let place = error.span().map_or_else(|| path.to_owned(), |span| format!("{path}:{}", line(span.start)));
                Fault::new(place, error.message().replace('\n', "; "))
            };
            self.faults.extend(errors.iter().take(MOST_PROBLEMS).map(fault));
            if let Some(more) = errors.len().checked_sub(MOST_PROBLEMS).filter(|more| *more > 0) {
                self.faults.push(Fault::new(path, format!("and {more} more faults like these")));
            }
            return;
        }
        let problems = problems(&mut table);
        // Then some are left in the table, and would only be told again.
        let is_cut = problems.len() > MOST_PROBLEMS;
        for problem in problems {
            let place = match problem.at {
                Some(at) => format!("{path}:{}: {}", line(at), problem.key),
                None => path.to_owned(),
            };
            self.faults.push(Fault::new(place, problem.message));
        }
        if is_cut {
            return;
        }
        let places = &mut self.places;
        walk(table.get_ref(), &mut |key, span| {
            places.insert(key.to_owned(), format!("{path}:{}", line(span.start)));
        });
        self.merge(table);
    }

    /// A value that was given as text. What it means depends on what the key takes: a text, what TOML would read, or
    /// texts separated by commas, in this order.
    fn value(&mut self, place: &str, keys: Vec<String>, text: &str) {
        let list = || Value::Array(text.split(',').map(|item| Value::String(item.trim().to_owned())).collect());
        let mut candidates = vec![Value::String(text.to_owned())];
        candidates.extend(format!("v = {text}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("v")));
        if text.contains(',') || text.contains("://") {
            candidates.push(list());
        }
        let mut first = None;
        for candidate in candidates {
            let nested = keys
                .iter()
                .rev()
                .fold(candidate, |inner, key| Value::Table(toml::Table::from_iter([(key.clone(), inner)])));
            let Ok(document) = toml::to_string(&nested) else { continue };
            let (mut table, errors) = DeTable::parse_recoverable(&document);
            let problems = if errors.is_empty() { problems(&mut table) } else { Vec::new() };
            if errors.is_empty() && problems.is_empty() {
                let places = &mut self.places;
                walk(table.get_ref(), &mut |key, _| {
                    places.insert(key.to_owned(), place.to_owned());
                });
                self.merge(table);
                return;
            }
            // A text that doesn't fit is best explained by the reading that comes closest to the type.
            let problem = problems.into_iter().next().map(|problem| problem.message);
            let is_type = problem.as_deref().is_some_and(|message| message.starts_with("invalid type"));
            match &first {
                None => first = problem,
                Some(earlier) if earlier.starts_with("invalid type") && !is_type => first = problem.or(first),
                Some(_) => {}
            }
        }
        let problem = first.unwrap_or_else(|| format!("{text:?} can't be read"));
        self.faults.push(Fault::new(place, problem));
    }

    fn merge(&mut self, table: Spanned<DeTable<'_>>) {
        match toml::Table::deserialize(Deserializer::from(table)) {
            Ok(table) => overlay(&mut self.table, table),
            Err(error) => self.faults.push(Fault::new("configuration", error.message())),
        }
    }

    fn finish(mut self, roles: Roles) -> Result<Config, Faults> {
        let config = match Config::deserialize(self.table) {
            Ok(config) => config,
            Err(error) => {
                self.faults.push(Fault::new("configuration", error.message()));
                return Err(Faults(self.faults));
            }
        };
        for (key, problem) in check::check(&config, roles) {
            let written = self.places.get(&key).cloned().unwrap_or_else(|| "default".into());
            self.faults.push(Fault::new(format!("{written}: {key}"), problem));
        }
        if let Err(faults) = super::jobs::load(&config.detector, config.cluster.bucket.0.0) {
            self.faults.extend(faults);
        }
        if let Err(faults) = super::rules::load(&config.detector) {
            self.faults.extend(faults);
        }
        if let Err(faults) = super::calendars::load(&config.detector) {
            self.faults.extend(faults);
        }
        if self.faults.is_empty() { Ok(config) } else { Err(Faults(self.faults)) }
    }
}

/// Lays one table over another; arrays are replaced as a whole.
fn overlay(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => overlay(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}
