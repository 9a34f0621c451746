//! The arrows between the crates, and what may come in from outside: licences, banned crates, duplicate versions.

mod graph;
mod licence;

use std::collections::{BTreeMap, BTreeSet};

use graph::Graph;

const ROLES: [&str; 3] = ["spikewatch-collector", "spikewatch-aggregator", "spikewatch-detector"];

/// Which of our crates each may depend on. Roles never import each other: they meet in `proto`.
const ARROWS: &[(&str, &[&str])] = &[
    ("spikewatch-domain", &[]),
    ("spikewatch-actors", &[]),
    ("spikewatch-proto", &["spikewatch-domain"]),
    ("spikewatch-collector", &["spikewatch-domain", "spikewatch-proto", "spikewatch-actors"]),
    ("spikewatch-aggregator", &["spikewatch-domain", "spikewatch-proto", "spikewatch-actors"]),
    ("spikewatch-detector", &["spikewatch-domain", "spikewatch-proto", "spikewatch-actors"]),
    ("spikewatch", &["spikewatch-domain", "spikewatch-proto", "spikewatch-actors", ROLES[0], ROLES[1], ROLES[2]]),
];

/// The crate above all others; it may depend on any of them. What it offers is for tests: others may name it there.
const TESTS: &str = "spikewatch-tests";

/// The domain is plain arithmetic: none of these, however indirectly.
const NOT_IN_DOMAIN: &[&str] =
    &["tokio", "tonic", "prost", "hyper", "axum", "sqlx", "futures-util", "tracing", "serde"];

/// What the product stands on; each carries something in at least one of the crates that make a role.
const CARRIED: &[&str] = &["tokio", "tonic", "prost", "dashmap", "hdrhistogram", "tracing", "opentelemetry"];

/// Licences that a dependency may have without a word.
const LICENCES: &[&str] = &["MIT", "Apache-2.0"];

/// Further licences, permissive too, and why each is needed.
const LICENCE_EXCEPTIONS: &[(&str, &str)] = &[
    ("BSD-2-Clause", "zstd-sys: the C library zstd"),
    ("BSD-3-Clause", "zstd and the Go router that matchit (axum) was ported from"),
    ("Unicode-3.0", "Unicode's data tables: unicode-ident, and ICU4X through sqlx's URLs"),
    ("Zlib", "foldhash, the default hasher of hashbrown"),
];

/// Dependencies that only the code generated from the .proto files names.
const IN_GENERATED_CODE: &[&str] = &["prost", "tonic-prost"];

/// Crates that must not come in, those permitted to bring them in all the same, and why.
const BANNED: &[(&str, &[&str], &str)] = &[
    ("openssl", &[], "TLS is rustls: no C, one audit"),
    ("openssl-sys", &[], "TLS is rustls: no C, one audit"),
    ("native-tls", &[], "TLS is rustls on every platform"),
    ("reqwest", &[], "a second HTTP stack beside tonic's hyper"),
    ("chrono", &[], "jiff is the one calendar"),
    ("time", &[], "jiff is the one calendar"),
    ("lazy_static", &["prometheus", "sharded-slab"], "std has LazyLock; metrics and spans still bring it"),
    ("serde_yaml", &[], "unmaintained; configuration is TOML"),
    ("protoc-bin-vendored", &[], "a program in a crate; protox compiles the .proto files in Rust"),
    ("protobuf-src", &[], "builds protoc with cmake; protox compiles the .proto files in Rust"),
    ("async-std", &[], "unmaintained; tokio is the one runtime"),
    ("failure", &[], "unmaintained; errors are thiserror's"),
    ("atty", &[], "unmaintained; std has IsTerminal"),
    ("bincode", &[], "unmaintained; what is stored is protobuf"),
];

/// Crates that are there in more than one version, how many, and who holds the older one back.
const DUPLICATES: &[(&str, usize, &str)] = &[
    ("block-buffer", 2, "sha2 0.10 of sqlx-core and ours, against 0.11 of sqlx-postgres"),
    ("cpufeatures", 2, "as block-buffer"),
    ("crypto-common", 2, "as block-buffer"),
    ("digest", 2, "as block-buffer"),
    ("foldhash", 2, "the hasher of hashbrown's two ages"),
    ("getrandom", 2, "rand 0.9 of opentelemetry_sdk, against tempfile's"),
    ("hashbrown", 4, "dashmap 0.14, petgraph 0.15 (build only), sqlx and ours 0.16, indexmap 0.17"),
    ("prettyplease", 2, "build only: tonic-build is a syn behind prost-build"),
    ("rand", 2, "0.9 of opentelemetry_sdk, against 0.10 of sqlx-postgres"),
    ("rand_core", 2, "as rand"),
    ("sha2", 2, "as block-buffer"),
    ("syn", 2, "compile time only: derive macros of two ages"),
    ("winnow", 2, "toml 0.9 itself, against its own toml_parser"),
];

/// Each member's own dependencies, of every kind, by crate.
fn declared() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = graph::metadata();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            (text(&package["name"]), dependencies.iter().map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

/// The manifests' folders, by crate.
fn folders() -> BTreeMap<String, std::path::PathBuf> {
    let metadata = graph::metadata();
    let folder = |package: &serde_json::Value| {
        std::path::Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned()
    };
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|package| (package["name"].as_str().unwrap().to_owned(), folder(package))).collect()
}

#[test]
fn arrows_point_one_way() {
    let declared = declared();
    let ours: BTreeSet<&String> = declared.keys().collect();
    for (member, dependencies) in &declared {
        if member == TESTS {
            continue;
        }
        let (_, allowed) = ARROWS
            .iter()
            .find(|(name, _)| name == member)
            .unwrap_or_else(|| panic!("{member} is new: give it its place in ARROWS"));
        for dependency in dependencies.iter().filter(|name| ours.contains(name) && *name != TESTS) {
            assert!(allowed.contains(&dependency.as_str()), "{member} must not depend on {dependency}");
        }
    }
    let metadata = graph::metadata();
    for package in metadata["packages"].as_array().unwrap() {
        for dependency in package["dependencies"].as_array().unwrap() {
            let product = dependency["name"] == TESTS && dependency["kind"] != "dev";
            assert!(!product, "{} needs {TESTS}, which is for tests only", package["name"]);
        }
    }
    for (member, _) in ARROWS {
        assert!(declared.contains_key(*member), "{member} is in ARROWS but not in the workspace");
    }
}

#[test]
fn the_domain_does_no_io() {
    let graph = Graph::of_workspace("normal");
    let reached = graph.reachable("spikewatch-domain");
    for banned in NOT_IN_DOMAIN {
        assert!(!reached.contains(banned), "spikewatch-domain reaches {banned}");
    }
}

#[test]
fn what_the_product_stands_on_is_in_its_roles() {
    let declared = declared();
    for name in CARRIED {
        let mut crates = ROLES.iter().chain(&["spikewatch-proto", "spikewatch-actors"]);
        assert!(
            crates.any(|member| declared[*member].contains(*name)),
            "neither a role nor what it stands on uses {name}"
        );
    }
}

#[test]
fn versions_are_declared_once() {
    for (member, folder) in folders() {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let mut inside = false;
        for line in manifest.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with('[') {
                inside = line.trim_end_matches(']').ends_with("dependencies");
                assert!(!line.contains("dependencies."), "{member}: write {line} as one line");
            } else if inside {
                let inherits = line.contains(".workspace = true") || line.contains("{ workspace = true");
                assert!(inherits, "{member}: {line:?} must be `workspace = true`");
            }
        }
    }
}

#[test]
fn every_dependency_is_used() {
    let (folders, declared) = (folders(), declared());
    let mut unused = Vec::new();
    for (member, dependencies) in &declared {
        let mut source = String::new();
        read_rust(&folders[member], &mut source);
        let idle = |name: &&String| !names(&source, name) && !IN_GENERATED_CODE.contains(&name.as_str());
        unused.extend(dependencies.iter().filter(idle).map(|name| format!("{member}: {name}")));
    }
    assert!(unused.is_empty(), "dependencies that no Rust file of their crate names: {unused:?}");

    let manifest = std::fs::read_to_string(graph::root().join("Cargo.toml")).unwrap();
    let (_, shared) = manifest.split_once("[workspace.dependencies]").unwrap();
    let lines = shared.lines().skip(1).take_while(|line| !line.starts_with('['));
    for name in lines.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.trim()) {
        let used = declared.values().any(|dependencies| dependencies.contains(name));
        assert!(used, "no crate uses {name}, which the workspace declares");
    }
}

/// True if the source has a path that begins with the crate: `name::…`, but not `other::name::…` or `a_name::…`.
fn names(source: &str, krate: &str) -> bool {
    let path = format!("{}::", krate.replace('-', "_"));
    source.match_indices(&path).any(|(at, _)| {
        let before = source[..at].chars().next_back().unwrap_or(' ');
        !(before.is_alphanumeric() || before == '_' || before == ':')
    })
}

/// Appends every Rust file under `folder`, leaving nested workspace members and build output out by their names.
fn read_rust(folder: &std::path::Path, source: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            read_rust(&path, source);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            source.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn licences_are_permissive() {
    let graph = Graph::of_workspace("normal,build,dev");
    let exception = |licence: &str| LICENCE_EXCEPTIONS.iter().any(|(name, _)| *name == licence);
    for (krate, expression) in &graph.licences {
        let allowed = licence::satisfied(expression, &|licence| LICENCES.contains(&licence) || exception(licence));
        assert!(allowed, "{} {} is under {expression:?}", krate.name, krate.version);
    }
    for (stale, _) in LICENCE_EXCEPTIONS {
        let without = |licence: &str| LICENCES.contains(&licence) || (exception(licence) && licence != *stale);
        let needed = graph.licences.values().any(|expression| !licence::satisfied(expression, &without));
        assert!(needed, "no crate needs {stale} any more: take it out of LICENCE_EXCEPTIONS");
    }
}

#[test]
fn banned_crates_stay_out() {
    let graph = Graph::of_workspace("normal,build,dev");
    for (banned, through, reason) in BANNED {
        for dependent in graph.dependents(banned) {
            assert!(through.contains(&dependent), "{dependent} brings in {banned}: {reason}");
        }
    }
}

#[test]
fn duplicate_versions_are_known() {
    let graph = Graph::of_workspace("normal,build");
    let versions = graph.versions();
    for (name, found) in versions.iter().filter(|(_, found)| found.len() > 1) {
        let permitted = DUPLICATES.iter().find(|(duplicate, ..)| duplicate == name).map(|(_, count, _)| *count);
        assert_eq!(permitted, Some(found.len()), "{name} is there as {found:?}: mend it, or list it with its reason");
    }
    for (stale, ..) in DUPLICATES {
        let count = versions.get(stale).map_or(0, Vec::len);
        assert!(count > 1, "{stale} is no longer duplicated: take it out of DUPLICATES");
    }
}
