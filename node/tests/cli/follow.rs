//! A log that is followed is counted once, whatever becomes of the log and of who follows it.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use spikewatch_actors::clock::Clock;

use crate::{
    program::{Running, eventually},
    spool::{committed, start_with},
};

const HEADER: &str = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n";
const FIELDS: &str = "#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\torig_ip_bytes\tresp_ip_bytes\n";

/// Zeek, as far as its log goes.
struct Zeek {
    log: PathBuf,
    rotated: u32,
    written: u64,
}

impl Zeek {
    fn new(folder: &Path) -> Self {
        let mut zeek = Self { log: folder.join("conn.log"), rotated: 0, written: 0 };
        zeek.begin();
        zeek
    }

    fn write(&self, text: &str) {
        let mut log = fs::File::options().append(true).create(true).open(&self.log).unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }

    fn begin(&mut self) {
        self.rotated += 1;
        self.write(&format!("{HEADER}#open\t2026-01-01-00-00-{:02}\n{FIELDS}", self.rotated));
    }

    /// Connections of now.
    fn connections(&mut self, count: u64) {
        let now = Clock::system().now_ms() as f64 / 1e3;
        let mut lines = String::new();
        for _ in 0..count {
            self.written += 1;
            let port = 1024 + self.written % 60_000;
            writeln!(lines, "{now:.6}\t10.0.0.1\t{port}\t192.0.2.7\t443\ttcp\t100\t200").unwrap();
        }
        // A buffer is written where it is full, not where a line ends.
        let (one, other) = lines.split_at(lines.len() / 2);
        self.write(one);
        self.write(other);
    }

    fn rename(&mut self) {
        fs::rename(&self.log, self.log.with_extension(format!("{}.log", self.rotated))).unwrap();
        self.begin();
    }

    fn copy_and_cut(&mut self) {
        fs::copy(&self.log, self.log.with_extension(format!("{}.log", self.rotated))).unwrap();
        fs::File::options().write(true).open(&self.log).unwrap().set_len(0).unwrap();
        self.begin();
    }
}

fn start(folder: &Path) -> Running {
    let logs = folder.join("conn*.log");
    start_with(folder, "run", &format!("[{{kind = \"files\", follow = true, paths = [{logs:?}], format = \"zeek\"}}]"))
}

#[test]
fn a_log_is_counted_once_through_kills_and_rotations() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut zeek = Zeek::new(folder);
    for round in 0..4 {
        let node = start(folder);
        // It is killed in the middle of whatever it does, a little later each time.
        for _ in 0..10 + round * 5 {
            zeek.connections(37);
            sleep(Duration::from_millis(100));
        }
        if round == 1 {
            zeek.rename();
        }
        node.signal("KILL");
        assert_eq!(node.end(Duration::from_secs(10)), None);
        zeek.connections(11);
        match round {
            0 => zeek.copy_and_cut(),
            2 => zeek.rename(),
            _ => {}
        }
    }
    let node = start(folder);
    let detector = node.address(&["serving", "role=\"detector\""]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    eventually("all connections", || {
        let events = runtime.block_on(committed(&detector)).unwrap_or(0);
        assert!(events <= zeek.written, "counted twice: {events} of {}", zeek.written);
        (events == zeek.written).then_some(())
    });
    node.signal("TERM");
    assert_eq!(node.end(Duration::from_secs(30)), Some(0));
}
