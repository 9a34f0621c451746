//! What `replay` costs: processor seconds and memory from file to committed windows (and to alerts), beside the floor of
//! just reading the file and summing bytes per source address.
//!
//! `cargo build --release && cargo bench -p spikewatch-tests --bench replay -- [THOUSANDS OF PACKETS AND OF RECORDS]`

mod floor;
mod generate;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const RUNS: usize = 3;

struct Cost {
    cpu_s: f64,
    wall_s: f64,
    peak_kib: u64,
}

/// Processor time of children that were waited for, in ticks of 10 ms: proc_pid_stat(5), fields 16 and 17.
fn children_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("a Linux /proc");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("a name in parentheses").split(' ').collect();
    fields[13].parse::<u64>().expect("cutime") + fields[14].parse::<u64>().expect("cstime")
}

#[expect(clippy::disallowed_methods, reason = "a measurement of wall time")]
fn now() -> Instant {
    Instant::now()
}

fn run(program: &Path, arguments: &[&str], file: &Path) -> Cost {
    let (before, begun) = (children_ticks(), now());
    let mut child = Command::new(program)
        .args(arguments)
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts: build it with cargo build --release");
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    while child.try_wait().expect("a child").is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak_kib = found.unwrap_or(0).max(peak_kib);
        std::thread::sleep(Duration::from_millis(10));
    }
    let cpu_s = (children_ticks() - before) as f64 / 100.0;
    Cost { cpu_s, wall_s: begun.elapsed().as_secs_f64(), peak_kib }
}

fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by(|a, b| a.cpu_s.total_cmp(&b.cpu_s));
    costs.swap_remove(costs.len() / 2)
}

/// The program beside which this bench was built: target/release/deps/… → target/release/spikewatch.
fn program() -> PathBuf {
    let bench = std::env::current_exe().expect("a path of our own");
    bench.ancestors().nth(2).expect("target/release").join("spikewatch")
}

fn main() {
    let thousands = std::env::args().filter_map(|text| text.parse::<u64>().ok()).next().unwrap_or(2_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [packets, dense, thin] = ["packets", "dense", "thin"].map(|name| folder.path().join(name));
    generate::packets(&packets, thousands * 1_000).expect("room for the capture");
    // Few or many windows of each host: what comes after decoding costs by window, not by record.
    generate::netflow5(&dense, thousands * 1_000, 60).expect("room for the exports");
    generate::netflow5(&thin, thousands * 1_000, 3_600).expect("room for the exports");
    let program = program();
    println!("| input | run | M items / CPU s | CPU s | wall s | peak MiB |\n|---|---|---|---|---|---|");
    for (name, file) in
        [("packets", &packets), ("NetFlow v5 records in one bucket", &dense), ("NetFlow v5 records in an hour", &thin)]
    {
        let size = fs::metadata(file).map_or(0, |meta| meta.len()) >> 20;
        for (label, arguments) in
            [("to windows", &["replay", "--emit", "windows"][..]), ("to alerts, 7 jobs", &["replay"][..])]
        {
            let cost = median((0..RUNS).map(|_| run(&program, arguments, file)).collect());
            println!(
                "| {thousands} k {name}, {size} MiB | {label} | {:.2} | {:.2} | {:.2} | {} |",
                thousands as f64 / 1_000.0 / cost.cpu_s,
                cost.cpu_s,
                cost.wall_s,
                cost.peak_kib >> 10,
            );
        }
    }
    let floor_s = floor::cpu_seconds(&packets);
    println!(
        "| {thousands} k packets | floor: read, parse IPv4, sum by source | {:.2} | {floor_s:.2} | | |",
        thousands as f64 / 1_000.0 / floor_s
    );
}
