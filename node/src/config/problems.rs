//! What of a table doesn't fit the schema. Serde complains of one thing at a time: each is noted and taken out, until it
//! complains no more.

use std::ops::Range;

use serde::Deserialize as _;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue, Deserializer},
};

use super::Config;

/// Most problems told of one file: each costs a pass over it, and nobody reads more.
pub(super) const MOST_PROBLEMS: usize = 100;

/// What serde has to say of a table.
pub(super) struct Problem {
    /// The key, as `table.key[0]`; empty if it can't be told.
    pub(super) key: String,
    /// Where it is written, bytes.
    pub(super) at: Option<usize>,
    /// What was found and expected.
    pub(super) message: String,
}

/// Finds all that doesn't fit the schema, up to [`MOST_PROBLEMS`], and takes it out.
pub(super) fn problems(table: &mut Spanned<DeTable<'_>>) -> Vec<Problem> {
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
        if found.len() == MOST_PROBLEMS {
            found.push(Problem { key: String::new(), at: None, message: "and perhaps more faults than these".into() });
            break;
        }
    }
    found.sort_by_key(|problem| (problem.at.is_none(), problem.at));
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

/// Calls `seen` for every key and value below a table, with the key as it is written.
pub(super) fn walk(table: &DeTable<'_>, seen: &mut impl FnMut(&str, Range<usize>)) {
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
