//! Files that are read once count once, however often it is started.

use std::{fmt::Write as _, fs, path::Path, thread::sleep, time::Duration};

use spikewatch_actors::clock::Clock;

use crate::{
    program::{Running, eventually},
    spool::{committed, start_with},
};

/// Connections of the last five minutes, as Zeek's JSON.
fn log(path: &Path, count: u64) {
    let (now, mut lines) = (Clock::system().now_ms(), String::new());
    for number in 0..count {
        let (ts, port) = ((now - 300_000 + number * 300_000 / count) as f64 / 1e3, 1_024 + number % 60_000);
        let ends =
            format!("\"id.orig_h\":\"10.0.0.1\",\"id.orig_p\":{port},\"id.resp_h\":\"192.0.2.7\",\"id.resp_p\":443");
        writeln!(lines, "{{\"_path\":\"conn\",\"ts\":{ts:.3},{ends},\"proto\":\"tcp\"}}").unwrap();
    }
    fs::write(path, lines).unwrap();
}

fn start(folder: &Path) -> Running {
    start_with(folder, "run", &format!("[{{kind = \"files\", paths = [{:?}]}}]", folder.join("logs")))
}

fn until_committed(node: &Running, expected: u64) {
    let detector = node.address(&["serving", "role=\"detector\""]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    eventually("all connections", || {
        let events = runtime.block_on(committed(&detector)).unwrap_or(0);
        assert!(events <= expected, "counted twice: {events} of {expected}");
        (events == expected).then_some(())
    });
}

#[test]
fn files_are_counted_once_through_kills_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("logs")).unwrap();
    log(&folder.join("logs/1.json"), 40_000);
    log(&folder.join("logs/2.json"), 20_000);
    for round in 1..4 {
        let node = start(folder);
        node.line(&["serving", "role=\"collector\""]);
        sleep(Duration::from_millis(150 * round));
        node.signal("KILL");
        assert_eq!(node.end(Duration::from_secs(10)), None);
    }
    let node = start(folder);
    until_committed(&node, 60_000);
    node.signal("TERM");
    assert_eq!(node.end(Duration::from_secs(30)), Some(0));

    log(&folder.join("logs/3.json"), 100);
    let node = start(folder);
    node.line(&["files were read before", "files=2"]);
    until_committed(&node, 60_100);
    node.signal("TERM");
    assert_eq!(node.end(Duration::from_secs(30)), Some(0));
}
