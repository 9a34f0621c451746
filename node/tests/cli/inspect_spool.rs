//! Looking into a spool.

use spikewatch_collector::spool::{Options, Owner, Part, Record, Shape, SliceMeta, Spool, disk::Disk};

use crate::program::run;

#[test]
fn a_spool_is_described_damage_and_all() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("spool");
    let path = directory.to_str().unwrap();
    let none = run(&["inspect", "spool", path]);
    assert_eq!((none.code, none.out.as_str()), (65, ""));
    assert!(none.err.contains(&format!("no spool is in {path}")), "{}", none.err);

    let shape = Shape { shards: 2, bucket_seconds: 900, hash_id: 1, protocol_version: 1 };
    let owner = Owner { site: "berlin".into(), collector: "edge-1".into(), shape };
    let (mut spool, recovered) =
        Spool::open(Options::new(owner), Disk::new(&directory).unwrap(), || [0xab; 16]).unwrap();
    let incarnation = recovered.numberings[0].incarnation;
    let part = Part { shard: 1, rows: 1, first_seq: 1, seq: 1, events: 2, bytes: 3 };
    let meta = SliceMeta { slice_no: 1, incarnation, start: 0, bucket: 0, parts: vec![part] };
    spool.append(&Record::Slice { meta, payload: b"windows" }).unwrap();
    spool.sync().unwrap();
    drop(spool);

    let whole = run(&["inspect", "spool", "--shards", path]);
    assert_eq!(whole.code, 0, "{}", whole.err);
    for text in ["berlin/edge-1", "2 shards, buckets of 900 s", "1 uncounted, 0 counted", &"ab".repeat(16)] {
        assert!(whole.out.contains(text), "{text:?} is not in:\n{}", whole.out);
    }
    assert!(!whole.out.contains("damage") && !whole.out.contains("cut"), "{}", whole.out);
    let document: serde_json::Value = serde_json::from_str(&run(&["inspect", "spool", "--json", path]).out).unwrap();
    assert_eq!(document["incarnations"][0]["next_seq"], serde_json::json!([1, 2]));
    assert_eq!(document["segments"][0]["slices"], 1);

    let segment = directory.join("00000000000000000001.spool");
    let bytes = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &bytes[..bytes.len() - 1]).unwrap();
    let torn = run(&["inspect", "spool", path]);
    assert!(torn.out.contains("cut") && torn.out.contains("was not synced"), "{}", torn.out);
    assert!(torn.out.contains("0 uncounted"), "{}", torn.out);
}
