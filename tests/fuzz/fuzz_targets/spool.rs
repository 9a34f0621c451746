//! A spool directory of any bytes: opened without a panic or a hang, and open for use then. The input is cut into the files:
//! each begins with its number (0 for the marker) and two bytes of length. Checksums are made to hold, or no input would
//! get past them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spikewatch_collector::spool::{Options, Owner, Record, Shape, Spool, memory::Memory, summarise};

fuzz_target!(|data: &[u8]| {
    let memory = Memory::new(1);
    let mut rest = data;
    while let [number, low, high, tail @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (content, left) = tail.split_at(length);
        match number {
            0 => memory.put("spool.id", content),
            number => memory.put(&format!("{number:020}.spool"), &mend(content)),
        }
        rest = left;
    }
    let shape = Shape { shards: 2, bucket_seconds: 900, hash_id: 1, protocol_version: 1 };
    let options = Options::new(Owner { site: "a".into(), collector: "b".into(), shape });
    let _ = summarise(&memory);
    let Ok((mut spool, _)) = Spool::open(options, memory, || [7; 16]) else { return };
    assert!(spool.stream(0).count() <= data.len());
    spool.append(&Record::Checkpoint(b"here")).expect("a check-point always fits");
    spool.sync().expect("nothing fails here");
    spool.maintain(u64::MAX).expect("nothing fails here");
});

/// Sets the head's checksum of the first frame, whose salt is empty, to what it must be.
fn mend(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    if let Some(meta) = bytes.get(16..20).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        && let Some(meta) = bytes.get(32..32usize.saturating_add(meta as usize))
    {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..28]);
        hasher.update(meta);
        let crc = hasher.finalize();
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}
