//! Rules by the command line, exceptions and calendars by the configuration.

use std::fs;

use crate::program::{Running, run};

const PORTS: [&str; 5] =
    ["detector", "--set", "detector.listen=127.0.0.1:0", "--set", "detector.store=sqlite::memory:"];

#[test]
fn rules_are_listed_and_run() {
    let node = Running::start(&PORTS);
    let detector = format!("http://{}", node.address(&["serving", "role=\"detector\""]));
    let list = run(&["rules", "list", "--detector", &detector]);
    assert_eq!((list.code, list.err.as_str()), (0, ""));
    for line in [
        "Spike in Network Traffic (on)",
        "Spike in Network Traffic to a Country (off)",
        "threshold   75 over high_count_network_events\n",
        "schedule    every 15m, back 30m, at most 100 alerts, 0 exceptions",
    ] {
        assert!(list.out.contains(line), "{line:?} is not in:\n{}", list.out);
    }
    let done = run(&["rules", "run", "Spike in Network Traffic", "--from", "now-2h", "--detector", &detector]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("succeeded") && done.out.contains("by hand over"), "{}", done.out);
    assert!(done.out.contains(": 0 alerts"), "{}", done.out);
    let executions = run(&["rules", "executions", "--detector", &detector]);
    assert_eq!((executions.code, executions.out.as_str()), (0, done.out.as_str()));
    let unknown = run(&["rules", "run", "x", "--from", "now-1h", "--detector", &detector]);
    assert_eq!((unknown.code, unknown.err.contains("there is no rule \"x\"")), (64, true), "{}", unknown.err);
    assert_eq!(run(&["rules", "run", "x", "--from", "soon", "--detector", &detector]).code, 64);
}

#[test]
fn exceptions_and_calendars_are_checked_with_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let check = |text: &str| {
        fs::write(path("c.toml"), text).unwrap();
        run(&["config", "check", "--config", &path("c.toml")])
    };
    fs::write(path("scanners.txt"), "10.0.9.0/24 # ours\n").unwrap();
    let exception = "[lists]\nscanners = \"scanners.txt\"\n[[exceptions]]\nname = \"ours\"\n\
                     conditions = [{ field = \"host\", operator = \"in_list\", values = [\"scanners\"] }]\n";
    fs::write(path("exceptions.toml"), exception).unwrap();
    let ics = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART;TZID=Europe/Berlin:20260103T220000\nDURATION:PT6H\n\
               RRULE:FREQ=WEEKLY\nEND:VEVENT\nEND:VCALENDAR\n";
    fs::write(path("maintenance.ics"), ics).unwrap();
    let config = format!(
        "[detector]\nexceptions = \"{}\"\n[[detector.calendars]]\nname = \"Maintenance\"\nfile = \"{}\"\n",
        path("exceptions.toml"),
        path("maintenance.ics")
    );
    let good = check(&config);
    assert_eq!((good.code, good.out.as_str()), (0, "OK\n"), "{}", good.err);
    let dumped = run(&["config", "dump", "--config", &path("c.toml")]);
    assert!(dumped.out.contains("[[detector.calendars]]"), "{}", dumped.out);
    assert_eq!(check(&dumped.out).code, 0, "what is dumped is a configuration");
    // Everything that is wrong is told at once.
    fs::write(path("exceptions.toml"), exception.replace("scanners.txt", "nowhere.txt")).unwrap();
    fs::write(path("maintenance.ics"), ics.replace("WEEKLY", "HOURLY")).unwrap();
    let wrong = check(&config);
    assert_eq!(wrong.code, 64);
    for part in ["exceptions.toml: list \"scanners\": nowhere.txt can't be read", "maintenance.ics: line 5: RRULE"] {
        assert!(wrong.err.contains(part), "{part:?} is not in:\n{}", wrong.err);
    }
}
