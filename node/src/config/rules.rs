//! Rules: a folder with one TOML file each, and a file of exceptions.

use std::{fs, path::Path};

use spikewatch_detector::{exception::ExceptionFile, rule::Rule};

use super::{Detector, file, layers::Fault};

/// Reads the rules of a folder, or takes those that ship, and gives them the exceptions of a file. Empty paths name none.
///
/// # Errors
/// All faults of all files.
pub(crate) fn load(detector: &Detector) -> Result<Vec<Rule>, Vec<Fault>> {
    let mut rules = match detector.rules.as_os_str().is_empty() {
        true => Rule::built_in().map_err(|error| vec![Fault::new("the rules that ship", error.to_string())])?,
        false => folder(&detector.rules)?,
    };
    let path = &detector.exceptions;
    let shared = if path.as_os_str().is_empty() { Ok(ExceptionFile::default()) } else { exceptions(path) };
    shared.and_then(|file| file.apply(&mut rules).map_err(|error| vec![fault(path, error.to_string())]))?;
    Ok(rules)
}

/// A file of exceptions; the files of its lists are beside it.
fn exceptions(path: &Path) -> Result<ExceptionFile, Vec<Fault>> {
    let beside = path.parent().unwrap_or_else(|| Path::new(""));
    let list = |name: &str| file::read(&beside.join(name)).map_err(|problem| format!("{name} {problem}"));
    let read = |text: String| ExceptionFile::from_toml(&text, list).map_err(|error| error.to_string());
    file::read(path).and_then(read).map_err(|problem| vec![fault(path, problem)])
}

fn fault(path: &Path, problem: String) -> Fault {
    Fault::new(path.display().to_string(), problem)
}

/// Every `.toml` file of a folder, in order of name.
fn folder(folder: &Path) -> Result<Vec<Rule>, Vec<Fault>> {
    let entries =
        fs::read_dir(folder).map_err(|e| vec![fault(folder, format!("can't read the folder of rules: {e}"))])?;
    let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    if paths.is_empty() {
        return Err(vec![fault(folder, "holds no .toml file; expected one rule a file".into())]);
    }
    let (mut rules, mut faults) = (Vec::<Rule>::new(), Vec::new());
    for path in paths {
        match file::read(&path).and_then(|text| Rule::from_toml(&text).map_err(|error| error.to_string())) {
            Ok(rule) => match rules.iter().find(|other| other.id == rule.id) {
                Some(other) => faults.push(fault(&path, format!("has the id of rule {:?}", other.name))),
                None => rules.push(rule),
            },
            Err(problem) => faults.push(fault(&path, problem)),
        }
    }
    if faults.is_empty() { Ok(rules) } else { Err(faults) }
}
