//! The least that anyone could do with a capture: read it, find source addresses and lengths, sum them by source.

use std::{collections::HashMap, fs::File, io::Read, path::Path};

/// User and system time of this process, seconds (proc_pid_stat(5), fields 14 and 15, in ticks of 10 ms).
fn own_cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a Linux /proc");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("a name in parentheses").split(' ').collect();
    (fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")) as f64 / 100.0
}

/// Processor seconds that it takes.
pub(crate) fn cpu_seconds(path: &Path) -> f64 {
    let before = own_cpu_seconds();
    let mut file = File::open(path).expect("the capture");
    let mut sums: HashMap<[u8; 4], u64> = HashMap::new();
    let (mut buffer, mut held) = (vec![0; 1 << 20], 0);
    let mut at = 24;
    loop {
        let read = file.read(&mut buffer[held..]).expect("the capture");
        held += read;
        while let Some(head) = buffer[..held].get(at..at + 16) {
            let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
            let Some(frame) = buffer[..held].get(at + 16..at + 16 + length as usize) else { break };
            if let [_, _, _, _, _, _, _, _, _, _, _, _, 8, 0, ip @ ..] = frame
                && let Some(&[a, b, c, d]) = ip.get(12..16)
            {
                *sums.entry([a, b, c, d]).or_default() += u64::from(length);
            }
            at += 16 + length as usize;
        }
        if read == 0 {
            break;
        }
        buffer.copy_within(at..held, 0);
        (held, at) = (held - at, 0);
    }
    assert!(!sums.is_empty(), "the capture holds packets");
    own_cpu_seconds() - before
}
