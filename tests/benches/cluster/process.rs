//! One role as a process of its own.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A running role; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    /// Processor seconds.
    pub(crate) cpu_s: f64,
    /// Most memory it ever had, MiB.
    pub(crate) peak_mib: u64,
}

impl Process {
    /// Starts a role with this configuration; what it logs goes to a file beside it.
    pub(crate) fn start(folder: &Path, name: &str, role: &str, config: &str) -> Self {
        let file = folder.join(format!("{name}.toml"));
        fs::write(&file, config).expect("room for a configuration");
        let log = folder.join(format!("{name}.log"));
        let written = File::options().create(true).append(true).open(&log).expect("room for a log");
        let child = Command::new(crate::program())
            .args([role, "--config"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(written)
            .spawn()
            .expect("the program starts: build it with cargo build --release");
        Self { child, log }
    }

    /// Sends a signal, by its name without SIG.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill(1)").success(), "the process is gone:\n{}", self.said());
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) {
        self.child.wait().expect("a child");
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn used(&self) -> Used {
        used(&format!("/proc/{}", self.child.id()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What this process has used so far.
pub(crate) fn own() -> Used {
    used("/proc/self")
}

fn used(process: &str) -> Used {
    let stat = fs::read_to_string(format!("{process}/stat")).unwrap_or_default();
    // proc_pid_stat(5): utime and stime are fields 14 and 15, in ticks of 10 ms.
    let fields: Vec<u64> =
        stat.rsplit(") ").next().unwrap_or("").split(' ').map(|field| field.parse().unwrap_or(0)).collect();
    let ticks = fields.get(11).unwrap_or(&0) + fields.get(12).unwrap_or(&0);
    let status = fs::read_to_string(format!("{process}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak_kib: u64 = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    Used { cpu_s: ticks as f64 / 100.0, peak_mib: peak_kib >> 10 }
}

/// Ports that are free now, all different.
pub(crate) fn ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|listener| listener.local_addr().expect("its address").port())
}
