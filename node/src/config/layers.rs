//! Defaults, file, environment, flags: read, checked and laid over one another.
//!
//! Each layer is held against the whole schema by itself, so that a fault is placed where it was written. A layer's
//! faults are found one by one: what serde complains of is noted and taken out, until it complains no more.

use std::{collections::BTreeMap, fmt, ops::Range, path::Path, str::FromStr};

use serde::Deserialize as _;
use toml::{
    Spanned, Value,
    de::{DeArray, DeTable, DeValue, Deserializer},
};

use super::{
    Config,
    check::{self, Roles},
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
        match std::fs::read_to_string(path) {
            Ok(text) => merged.file(&path.display().to_string(), &text),
            Err(error) => merged.faults.push(Fault::new(path.display().to_string(), format!("can't be read: {error}"))),
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
        let line = |at: usize| 1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count();
        let (mut table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // What could be read of a broken file would only add faults that it doesn't have.
            let fault = |error: &toml::de::Error| {
                let place = error.span().map_or_else(|| path.to_owned(), |span| format!("{path}:{}", line(span.start)));
                Fault::new(place, error.message().replace('\n', "; "))
            };
            self.faults.extend(errors.iter().map(fault));
            return;
        }
        for problem in problems(&mut table) {
            let place = match problem.at {
                Some(at) => format!("{path}:{}: {}", line(at), problem.key),
                None => path.to_owned(),
            };
            self.faults.push(Fault::new(place, problem.message));
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
        if let Err(faults) = super::rules::load(&config.detector.rules) {
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

/// What serde has to say of a table.
struct Problem {
    key: String,
    at: Option<usize>,
    message: String,
}

/// Finds all that doesn't fit the schema, and takes it out.
fn problems(table: &mut Spanned<DeTable<'_>>) -> Vec<Problem> {
    let original = table.clone();
    let mut found = Vec::new();
    while let Err(error) = Config::deserialize(Deserializer::from(table.clone())) {
        let message = error.message().replace('\n', " ");
        // Arrays get shorter: where a value stood is told by the original.
        let of = |table: &DeTable<'_>| error.span().and_then(|span| culprit(table, &span));
        let (Some((path, at)), Some((place, _))) = (of(table.get_ref()), of(original.get_ref())) else {
            found.push(Problem { key: String::new(), at: None, message });
            return found;
        };
        // What is missing only because it was taken out was told already.
        let key = written(&place);
        let taken = |other: &Problem| {
            other
                .key
                .strip_prefix(&*key)
                .is_some_and(|rest| message == format!("missing field `{}`", rest.trim_start_matches('.')))
        };
        if !found.iter().any(taken) {
            found.push(Problem { key, at: Some(at), message });
        }
        if !remove(table.get_mut(), &path) {
            break;
        }
    }
    found.sort_by_key(|problem| problem.at);
    found
}

/// A step into a table or an array.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

fn written(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key]),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// The smallest key or value that holds `span`, and where it starts.
fn culprit(table: &DeTable<'_>, span: &Range<usize>) -> Option<(Vec<Step>, usize)> {
    let mut best: Option<(usize, Vec<Step>, usize)> = None;
    let mut consider = |path: &[Step], of: Range<usize>| {
        let holds = of.start <= span.start && span.end <= of.end;
        if holds && best.as_ref().is_none_or(|(length, ..)| of.len() <= *length) {
            best = Some((of.len(), path.to_vec(), of.start));
        }
    };
    visit(table, &mut Vec::new(), &mut consider);
    best.map(|(_, path, at)| (path, at))
}

/// Calls `seen` for every key and value below a table.
fn visit(table: &DeTable<'_>, path: &mut Vec<Step>, seen: &mut impl FnMut(&[Step], Range<usize>)) {
    for (key, value) in table {
        path.push(Step::Key(key.get_ref().clone().into_owned()));
        seen(path, key.span());
        visit_value(value, path, seen);
        path.pop();
    }
}

fn visit_value(value: &Spanned<DeValue<'_>>, path: &mut Vec<Step>, seen: &mut impl FnMut(&[Step], Range<usize>)) {
    seen(path, value.span());
    match value.get_ref() {
        DeValue::Table(table) => visit(table, path, seen),
        DeValue::Array(array) => {
            for (index, item) in array.iter().enumerate() {
                path.push(Step::Index(index));
                visit_value(item, path, seen);
                path.pop();
            }
        }
        _ => {}
    }
}

fn walk(table: &DeTable<'_>, seen: &mut impl FnMut(&str, Range<usize>)) {
    visit(table, &mut Vec::new(), &mut |path, span| seen(&written(path), span));
}

fn remove(table: &mut DeTable<'_>, path: &[Step]) -> bool {
    let Some((Step::Key(key), rest)) = path.split_first() else { return false };
    match rest {
        [] => table.remove(key.as_str()).is_some(),
        rest => table.get_mut(key.as_str()).is_some_and(|value| remove_from(value, rest)),
    }
}

fn remove_from(value: &mut Spanned<DeValue<'_>>, path: &[Step]) -> bool {
    match (value.get_mut(), path) {
        (DeValue::Table(table), _) => remove(table, path),
        (DeValue::Array(array), [Step::Index(index), rest @ ..]) => match rest {
            [] if *index < array.len() => {
                let others = array.iter().enumerate().filter(|(at, _)| at != index);
                let mut kept = DeArray::default();
                others.for_each(|(_, item)| kept.push(item.clone()));
                *array = kept;
                true
            }
            [] => false,
            rest => array.get_mut(*index).is_some_and(|item| remove_from(item, rest)),
        },
        _ => false,
    }
}
