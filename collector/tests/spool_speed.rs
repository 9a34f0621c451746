//! How fast slices go to the disk, beside plain sequential writing to the same disk in the same run:
//! `SPIKEWATCH_BENCH_DIR=/var/tmp cargo test --release -p spikewatch-collector --test spool_speed -- --ignored --nocapture`

use std::{fs::File, io::Write as _, path::Path, time::Instant};

use prost::Message as _;
use spikewatch_collector::spool::{Options, Owner, Part, Record, Shape, SliceMeta, Spool, disk::Disk};
use spikewatch_domain::{
    key::Subject,
    window::{Counters, Peer, Service, Window},
};
use spikewatch_proto::{convert::windows::push, v1};

const SHARDS: u32 = 64;
const HOSTS: u32 = 10_000;
const SLICES: u64 = 120;

#[expect(clippy::disallowed_methods, reason = "a measurement of wall time")]
fn now() -> Instant {
    Instant::now()
}

/// Windows of ten thousand hosts with two or three peers and services each, as a slice has them.
fn payload() -> Vec<u8> {
    let mut windows = v1::Windows::default();
    let mut noise = 1u64;
    let mut random = |below: u64| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (noise >> 33) % below
    };
    for host in 0..HOSTS {
        let subject = Subject::Address(std::net::Ipv4Addr::from(0x0a00_0000 + host).into());
        let mut window = Window::default();
        for _ in 0..2 + random(2) {
            let bytes = random(1 << 20);
            let counters = Counters {
                events: 1 + random(20),
                bytes_out: bytes,
                bytes_in: random(1 << 22),
                packets_out: bytes / 700,
                packets_in: random(4_000),
                ..Counters::default()
            };
            window.counters.add(&counters);
            let peer = std::net::Ipv4Addr::from(0xc000_0000 + random(1 << 24) as u32);
            let service = Service { port: [443, 53, 80, 22][random(4) as usize], protocol: 6 };
            window.attribute(Peer::from(std::net::IpAddr::V4(peer)), service, &counters);
        }
        push(&mut windows, None, &subject, &window, false);
    }
    windows.encode_to_vec()
}

/// Bytes a second of writing chunks of `chunk` bytes, each synced, until `total` are there.
fn sequential(folder: &Path, chunk: usize, total: u64) -> f64 {
    let path = folder.join("sequential");
    let mut file = File::create(&path).unwrap();
    // Not all zeros: some disks know those.
    let bytes: Vec<u8> = (0..chunk).map(|at| ((at * 2_654_435_761) >> 7) as u8).collect();
    let began = now();
    let mut written = 0;
    while written < total {
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
        written += chunk as u64;
    }
    let rate = written as f64 / began.elapsed().as_secs_f64();
    std::fs::remove_file(path).unwrap();
    rate
}

fn spooled(folder: &Path, payload: &[u8], pack: bool) -> (f64, f64, f64) {
    let directory = folder.join(if pack { "packed" } else { "plain" });
    let shape = Shape { shards: SHARDS, bucket_seconds: 900, hash_id: 1, protocol_version: 1 };
    let owner = Owner { site: "main".into(), collector: "edge".into(), shape };
    let options = Options { pack, ..Options::new(owner) };
    let (mut spool, recovered) = Spool::open(options.clone(), Disk::new(&directory).unwrap(), || [1; 16]).unwrap();
    let incarnation = recovered.numberings[0].incarnation;
    let began = now();
    for slice_no in 1..=SLICES {
        let part =
            |shard| Part { shard, rows: HOSTS / SHARDS, first_seq: slice_no, seq: slice_no, events: 1, bytes: 1 };
        let parts = (0..SHARDS).map(part).collect();
        let meta = SliceMeta { slice_no, incarnation, start: 10_000 * slice_no, bucket: 0, parts };
        spool.append(&Record::Slice { meta, payload }).unwrap();
        spool.append(&Record::Checkpoint(&[0; 4_096])).unwrap();
        spool.sync().unwrap();
    }
    let appended = began.elapsed().as_secs_f64();
    let bytes = spool.bytes() as f64;
    let began = now();
    assert_eq!(spool.stream(1).filter(|(_, slice)| slice.is_ok()).count() as u64, SLICES);
    let read = began.elapsed().as_secs_f64();
    drop(spool);
    let began = now();
    let (_, recovered) = Spool::open(options, Disk::new(&directory).unwrap(), || [1; 16]).unwrap();
    assert_eq!(recovered.slices.len() as u64, SLICES);
    println!(
        "| spool, {} | {:.1} ms a slice | {:.0} MB/s to disk | {:.0} MB/s of payload | read back {:.0} MB/s | opened in {:.0} ms |",
        if pack { "zstd 1" } else { "plain" },
        1e3 * appended / SLICES as f64,
        bytes / appended / 1e6,
        (payload.len() as u64 * SLICES) as f64 / appended / 1e6,
        (payload.len() as u64 * SLICES) as f64 / read / 1e6,
        1e3 * began.elapsed().as_secs_f64(),
    );
    (bytes / appended, (payload.len() as u64 * SLICES) as f64 / appended, bytes / SLICES as f64)
}

#[test]
#[ignore = "a measurement: needs a release build and a disk of its own"]
fn slices_to_the_disk() {
    let parent = std::env::var_os("SPIKEWATCH_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(parent).unwrap();
    let payload = payload();
    println!("payload of {HOSTS} hosts in {SHARDS} shards: {} bytes", payload.len());
    let mut ratios = Vec::new();
    for _ in 0..3 {
        let (plain, _, size) = spooled(folder.path(), &payload, false);
        let disk = sequential(folder.path(), size as usize, size as u64 * SLICES);
        let (_, packed, packed_size) = spooled(folder.path(), &payload, true);
        println!("| sequential, {size:.0} bytes a write and sync | {:.0} MB/s |", disk / 1e6);
        println!(
            "plain {:.2} of the disk's rate; packed to {:.2}, {:.2} of it in payload",
            plain / disk,
            packed_size / size,
            packed / disk
        );
        ratios.push(plain / disk);
        std::fs::remove_dir_all(folder.path().join("plain")).unwrap();
        std::fs::remove_dir_all(folder.path().join("packed")).unwrap();
    }
    ratios.sort_by(f64::total_cmp);
    assert!(ratios[1] >= 0.5, "half the disk's own rate at least: {ratios:?}");
}
