//! Runs the binary.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// What a finished run left.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The binary, with an environment that holds nothing of ours.
pub(crate) fn command(arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spikewatch"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SPIKEWATCH__")) {
        command.env_remove(name);
    }
    command
}

pub(crate) fn done(output: Output) -> Done {
    Done {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[impl AsRef<OsStr>]) -> Done {
    done(command(arguments).output().unwrap())
}

/// A small case that is kept with the tests.
pub(crate) fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(name)
}

/// A node that runs until it is told to stop.
pub(crate) struct Running {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Running {
    /// Starts it, and reads its log.
    pub(crate) fn start(arguments: &[impl AsRef<OsStr>]) -> Self {
        let mut child = command(arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, to) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        #[expect(clippy::disallowed_methods, reason = "a test outside of any runtime")]
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| to.lock().unwrap().push(line)));
        Self { child, log }
    }

    /// The first line of the log that holds all words; waits for it.
    pub(crate) fn line(&self, words: &[&str]) -> String {
        let holds = |line: &&String| words.iter().all(|word| line.contains(word));
        eventually(&format!("a line with {words:?}"), || self.log.lock().unwrap().iter().find(holds).cloned())
    }

    /// The address in the first such line, as `address=127.0.0.1:1234`.
    pub(crate) fn address(&self, words: &[&str]) -> String {
        let line = self.line(words);
        let (_, address) = line.split_once("address=").unwrap();
        address.split_whitespace().next().unwrap().to_owned()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Sends a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end and returns the exit code.
    pub(crate) fn end(mut self, within: Duration) -> Option<i32> {
        let ended = poll(within, || self.child.try_wait().unwrap());
        ended.unwrap_or_else(|| panic!("still running after {within:?}:\n{}", self.log())).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for something, for as long as a loaded machine may take.
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    poll(Duration::from_secs(60), look).unwrap_or_else(|| panic!("no {what}"))
}

#[expect(clippy::disallowed_methods, reason = "a test outside of any runtime")]
fn poll<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        match look() {
            Some(found) => return Some(found),
            None if begun.elapsed() > within => return None,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
