//! Help that a person can learn from, and exit codes that a script can.

use crate::program::run;

#[test]
fn every_command_explains_itself_with_examples() {
    let all = run(&["--help"]);
    assert_eq!(all.code, 0);
    for command in ["demo", "run", "collector", "aggregator", "detector", "replay", "score", "rules", "config"] {
        assert!(all.out.contains(&format!("  {command}")), "{command} is not listed:\n{}", all.out);
        let help = run(&["help", command]);
        assert_eq!(help.code, 0, "{command}");
        let example = command == "config" || help.out.contains("Example") && help.out.contains("spikewatch ");
        assert!(example, "{command} has no example:\n{}", help.out);
    }
    for code in ["64", "65", "70", "74"] {
        assert!(all.out.contains(&format!("  {code}  ")), "exit code {code} is not explained");
    }
    assert!(run(&["config", "check", "--help"]).out.contains("spikewatch config check"));
}

#[test]
fn the_version_is_told() {
    let version = run(&["--version"]);
    assert_eq!((version.code, version.out), (0, format!("spikewatch {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn wrong_usage_is_64() {
    for arguments in [
        &["repaly"][..],
        &[],
        &["replay"],
        &["replay", "--threshold", "101", "x"],
        &["replay", "--bucket-span", "soon", "x"],
        &["replay", "--internal", "10.0.0.0/33", "x"],
        &["demo", "--seed", "x"],
        &["run", "--set", "nothing"],
    ] {
        let wrong = run(arguments);
        assert_eq!(wrong.code, 64, "{arguments:?}: {}", wrong.err);
        assert!(!wrong.err.is_empty() && wrong.out.is_empty());
    }
}

#[test]
fn score_reads_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("values.csv");
    std::fs::write(&path, "timestamp,value\n0,1\n900,2\n1800,oops\n2700,1\n").unwrap();
    let path = path.to_str().unwrap();
    let scored = run(&["score", path]);
    assert_eq!(scored.code, 0, "{}", scored.err);
    assert_eq!(scored.out.lines().count(), 4, "{}", scored.out);
    assert!(scored.err.contains("line 4"), "{}", scored.err);
    assert_eq!(run(&["score", "/nonexistent.csv"]).code, 74);
    std::fs::write(path, "timestamp,value\n").unwrap();
    assert_eq!(run(&["score", path]).code, 65);
}
