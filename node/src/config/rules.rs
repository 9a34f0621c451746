//! A folder of rules, one TOML file each.

use std::{fs, path::Path};

use spikewatch_detector::rule::Rule;

use super::{file, layers::Fault};

/// Reads every `.toml` file of a folder, in order of name. An empty path is no folder: the rules that ship.
///
/// # Errors
/// All faults of all files.
pub(crate) fn load(folder: &Path) -> Result<Vec<Rule>, Vec<Fault>> {
    if folder.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let fault = |path: &Path, problem: String| Fault::new(path.display().to_string(), problem);
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
