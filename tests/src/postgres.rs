//! A PostgreSQL server of a test's own: in a temporary folder, on a free port of the loopback interface, gone with the test.

use std::{
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::Duration,
};

/// The server's user who runs it if the tests are root's: the server refuses root.
const SERVER_USER: &str = "postgres";
/// Of the database's user `spikewatch`. It has to be given, as in earnest.
const PASSWORD: &str = "test only";
const PASSWORD_IN_URL: &str = "test%20only";

/// Makes a data folder; prints where.
const MAKE: &str = r#"
umask 077
folder=$(mktemp -d "${TMPDIR:-/tmp}/spikewatch-postgres-XXXXXX") || exit 1
printf '%s' "$2" > "$folder/password"
"$1/initdb" -D "$folder/data" -U spikewatch -A scram-sha-256 --pwfile="$folder/password" -E UTF8 --locale=C --no-sync \
    > "$folder/initdb.log" 2>&1 || { cat "$folder/initdb.log" >&2; rm -rf "$folder"; exit 1; }
echo "$folder"
"#;

/// Runs the server until a signal's name comes on standard input. Should the test end without a word, however that
/// happens, the pipe closes: then the server ends, and its folder goes too.
const RUN: &str = r#"
bin=$1 folder=$2; shift 2
"$bin/postgres" -D "$folder/data" -k "$folder" -h 127.0.0.1 "$@" > "$folder/log" 2>&1 &
server=$!
if read -r signal; then abandoned=; else signal=QUIT abandoned=yes; fi
kill -"$signal" "$server" 2>/dev/null
wait "$server"
[ -z "$abandoned" ] || rm -rf "$folder"
"#;

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// In good order, cutting connections.
    Fast,
    /// At once, as in a crash: it recovers from its log at the next start.
    Crash,
}

/// The server. Dropped, it ends and leaves nothing behind.
#[derive(Debug)]
pub struct PostgresServer {
    bin: PathBuf,
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
    guard: Option<Child>,
    databases: AtomicU32,
}

impl PostgresServer {
    /// Starts one with these settings over the defaults, `("fsync", "off")` for speed, say. None if PostgreSQL isn't
    /// installed, which is said; with CI=true that is a failure.
    ///
    /// # Panics
    /// It is installed but doesn't start; or it isn't, and CI=true.
    #[must_use]
    pub fn start(settings: &[(&str, &str)]) -> Option<Self> {
        let Some(bin) = installed() else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "PostgreSQL is not installed, and CI=true");
            println!("skipped: PostgreSQL is not installed (apt-get install postgresql)");
            return None;
        };
        let output = as_server_user(MAKE).arg(&bin).arg(PASSWORD).output().unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let folder = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end());
        let small = [("shared_buffers", "16MB"), ("max_connections", "60"), ("lc_messages", "C")];
        let settings = small.iter().chain(settings).map(|(name, value)| format!("{name}={value}")).collect();
        let mut server = Self { bin, folder, port: 0, settings, guard: None, databases: AtomicU32::new(0) };
        server.run();
        Some(server)
    }

    /// Makes an empty database; returns its address.
    ///
    /// # Panics
    /// It can't be made.
    #[must_use]
    pub fn new_database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The address of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://spikewatch:{PASSWORD_IN_URL}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs a statement as the superuser; returns what it printed.
    ///
    /// # Panics
    /// It fails.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "spikewatch", "-p"]);
        psql.arg(self.port.to_string()).args(["-d", database, "-c", statement]).env("PGPASSWORD", PASSWORD);
        let output = psql.output().unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Ends it; [`restart`](Self::restart) continues on the same data.
    ///
    /// # Panics
    /// It doesn't end.
    pub fn stop(&mut self, how: Stop) {
        if let Some(mut guard) = self.guard.take() {
            let signal = if how == Stop::Fast { "INT\n" } else { "QUIT\n" };
            guard.stdin.take().unwrap().write_all(signal.as_bytes()).unwrap();
            guard.wait().unwrap();
        }
    }

    /// Starts it again, on the same port.
    ///
    /// # Panics
    /// It doesn't start.
    pub fn restart(&mut self) {
        self.stop(Stop::Fast);
        self.run();
    }

    /// The folder with its data, its sockets and its log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn run(&mut self) {
        for _ in 0..5 {
            let port = if self.port == 0 { free_port() } else { self.port };
            let mut command = as_server_user(RUN);
            command.arg(&self.bin).arg(&self.folder).arg("-p").arg(port.to_string());
            for setting in &self.settings {
                command.arg("-c").arg(setting);
            }
            let mut guard = command.stdin(Stdio::piped()).spawn().unwrap();
            if self.becomes_ready(port, &mut guard) {
                (self.port, self.guard) = (port, Some(guard));
                return;
            }
            // Somebody took the port in between.
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        panic!("PostgreSQL does not start:\n{log}");
    }

    fn becomes_ready(&self, port: u16, guard: &mut Child) -> bool {
        for _ in 0..1200 {
            let mut probe = Command::new(self.bin.join("pg_isready"));
            probe.args(["-q", "-h", "127.0.0.1", "-p"]).arg(port.to_string());
            if probe.status().unwrap().success() && self.folder.join(format!(".s.PGSQL.{port}")).exists() {
                return true;
            }
            // The guard waits for a word even if its server is gone, so the server's own words tell.
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            if log.lines().any(|line| line.contains("FATAL") && !line.contains("the database system is")) {
                let _ = guard.stdin.take().unwrap().write_all(b"QUIT\n");
                let _ = guard.wait();
                return false;
            }
            sleep(Duration::from_millis(50));
        }
        false
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            // A test that fails has more to say than that its server would not end.
            let _ = guard.wait();
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// The folder of its programs: where Debian puts the newest one, or that of `initdb` on the path.
fn installed() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let newest_first = versions.into_iter().rev().map(|(_, bin)| bin);
    newest_first
        .chain(std::env::split_paths(&path))
        .find(|bin| ["initdb", "postgres", "psql", "pg_isready"].iter().all(|program| bin.join(program).is_file()))
}

/// A shell script's command, run by somebody whom the server accepts. Its arguments follow.
fn as_server_user(script: &str) -> Command {
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut command = if root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", SERVER_USER, "--regid", SERVER_USER, "--clear-groups", "sh"]);
        command
    } else {
        Command::new("sh")
    };
    // The folder that tests run in may be closed to that user.
    command.current_dir("/").args(["-c", script, "sh"]);
    command
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_serves_survives_a_crash_and_leaves_nothing_behind() {
        let Some(mut server) = PostgresServer::start(&[]) else { return };
        let url = server.new_database();
        assert!(url.ends_with("/test0"), "{url}");
        server.sql("test0", "CREATE TABLE t (x INT); INSERT INTO t VALUES (7)");
        server.stop(Stop::Crash);
        server.restart();
        assert_eq!(server.sql("test0", "SELECT x FROM t"), "7");
        let (folder, port) = (server.folder().to_owned(), server.port);
        drop(server);
        assert!(!folder.exists());
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "something still listens");
    }
}
