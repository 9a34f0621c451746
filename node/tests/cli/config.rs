//! Configuration is checked whole, before anything is started.

use crate::program::{command, done, run};

#[test]
fn all_faults_at_once_and_no_port_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spikewatch.toml");
    std::fs::write(&path, "[collector]\nsitte = \"x\"\nslice = \"7s\"\n[detector]\nlisten = \"nowhere\"\n").unwrap();
    let path = path.to_str().unwrap();
    for arguments in [&["config", "check"][..], &["config", "dump"], &["run"], &["run", "--dump-config"]] {
        let arguments = [arguments, &["--config", path]].concat();
        let output = command(&arguments).env("SPIKEWATCH__CLUSTER__SHARDS", "0").output().unwrap();
        let wrong = done(output);
        assert_eq!(wrong.code, 64, "{arguments:?}: {}", wrong.err);
        for fault in [
            "4 faults",
            &format!("{path}:2: collector.sitte: unknown field"),
            &format!("{path}:3: collector.slice: 7s must divide"),
            &format!("{path}:5: detector.listen: \"nowhere\" is no address"),
            "SPIKEWATCH__CLUSTER__SHARDS: cluster.shards: 0 must be 1 to",
        ] {
            assert!(wrong.err.contains(fault), "{fault:?} is not in:\n{}", wrong.err);
        }
        assert!(!wrong.err.contains("serving") && wrong.out.is_empty());
    }
}

#[test]
fn a_dump_is_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dumped.toml");
    let dumped =
        run(&["config", "dump", "--set", "collector.site=berlin", "--set", "telemetry.metrics_listen=[::1]:1"]);
    assert_eq!(dumped.code, 0, "{}", dumped.err);
    assert!(dumped.out.contains("site = \"berlin\"") && dumped.out.contains("metrics_listen = \"[::1]:1\""));
    std::fs::write(&path, &dumped.out).unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(run(&["config", "check", "--config", path]).out, "OK\n");
    for arguments in [["config", "dump"], ["run", "--dump-config"], ["detector", "--dump-config"]] {
        let again = run(&[&arguments[..], &["--config", path]].concat());
        assert_eq!((again.code, again.out.as_str()), (0, dumped.out.as_str()), "{arguments:?}");
    }
}

#[test]
fn a_dump_shows_no_password() {
    let dumped = run(&["config", "dump", "--set", "detector.store=postgres://me:secret@db/spikewatch"]);
    assert!(dumped.out.contains("store = \"postgres://…@db/spikewatch\""), "{}", dumped.out);
}

#[test]
fn what_is_deployed_is_accepted() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd/spikewatch.toml");
    let checked = run(&["config", "check", "--config", unit]);
    assert_eq!((checked.code, checked.out.as_str()), (0, "OK\n"), "{}", checked.err);
}

#[test]
fn faults_of_rules_are_told_by_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("broken.toml"), "id = 3\n").unwrap();
    let setting = format!("detector.rules={}", folder.path().display());
    let wrong = run(&["config", "check", "--set", &setting]);
    assert_eq!(wrong.code, 64);
    assert!(wrong.err.contains("broken.toml: "), "{}", wrong.err);
}
