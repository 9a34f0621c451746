//! The dependency graph that is really built for Linux, as `cargo tree` resolves it (`cargo metadata` shows optional
//! dependencies that no feature turns on).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One version of one crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// Crates, their licences, and who depends on whom.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// SPDX expression by crate.
    pub(crate) licences: BTreeMap<Crate, String>,
    edges: BTreeMap<Crate, BTreeSet<Crate>>,
}

impl Graph {
    /// Asks cargo. `edges` as in `cargo tree --edges`.
    pub(crate) fn of_workspace(edges: &str) -> Self {
        let target = "x86_64-unknown-linux-gnu";
        let arguments = ["tree", "--workspace", "--locked", "--prefix", "depth", "--format", "|{p}|{l}"];
        Self::parse(&cargo(&[&arguments[..], &["--edges", edges, "--target", target]].concat()))
    }

    /// Lines of `DEPTH|name vVERSION …|licence`; a subtree that was printed before ends in `(*)`.
    fn parse(tree: &str) -> Self {
        let mut graph = Self::default();
        let mut path: Vec<Crate> = Vec::new();
        for line in tree.lines().filter(|line| !line.is_empty()) {
            let (depth, package, licence) = match line.split('|').collect::<Vec<_>>()[..] {
                [depth, package, licence] => (depth.parse::<usize>().unwrap(), package, licence),
                _ => panic!("cannot read cargo tree's line {line:?}"),
            };
            let mut words = package.split(' ');
            let krate = Crate {
                name: words.next().unwrap().to_owned(),
                version: words.next().unwrap().trim_start_matches('v').to_owned(),
            };
            path.truncate(depth);
            if let Some(parent) = path.last() {
                graph.edges.entry(parent.clone()).or_default().insert(krate.clone());
            }
            graph.licences.insert(krate.clone(), licence.trim_end_matches(" (*)").to_owned());
            path.push(krate);
        }
        graph
    }

    /// All versions of every crate, by name.
    pub(crate) fn versions(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for krate in self.licences.keys() {
            versions.entry(&krate.name).or_default().push(&krate.version);
        }
        versions
    }

    /// Names of the crates that depend on any version of `name`.
    pub(crate) fn dependents(&self, name: &str) -> BTreeSet<&str> {
        let depends = |on: &BTreeSet<Crate>| on.iter().any(|dependency| dependency.name == name);
        self.edges.iter().filter(|(_, on)| depends(on)).map(|(krate, _)| krate.name.as_str()).collect()
    }

    /// Names of everything that the crate called `name` needs, however indirectly.
    pub(crate) fn reachable(&self, name: &str) -> BTreeSet<&str> {
        let mut waiting: Vec<&Crate> = self.licences.keys().filter(|krate| krate.name == name).collect();
        let mut seen = BTreeSet::new();
        while let Some(krate) = waiting.pop() {
            if seen.insert(krate) {
                waiting.extend(self.edges.get(krate).into_iter().flatten());
            }
        }
        seen.into_iter().map(|krate| krate.name.as_str()).filter(|other| *other != name).collect()
    }
}

/// What the manifests declare, before anything is resolved.
pub(crate) fn metadata() -> serde_json::Value {
    serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"])).unwrap()
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_tree_becomes_a_graph() {
    let graph = Graph::parse("0|a v0.1.0 (/src/a)|MIT\n1|b v1.0.0|MIT\n2|c v2.0.0+x|Zlib\n1|c v3.0.0|MIT (*)\n");
    assert_eq!(graph.versions()["c"], ["2.0.0+x", "3.0.0"]);
    assert_eq!(graph.dependents("c"), BTreeSet::from(["a", "b"]));
    assert_eq!(graph.reachable("b"), BTreeSet::from(["c"]));
    assert!(graph.licences.values().all(|licence| !licence.contains('*')));
}
