use spikewatch_domain::{
    key::Subject,
    window::{Counters, Window},
};
use v1::{aggregator_message::Message as Down, collector_message::Message as Up};

use super::*;

const BUCKET: u64 = 900_000;

fn core() -> Core {
    let bucket = Span::QUARTER_HOUR;
    Core::new(CoreOptions { hello: v1::Hello::default(), shards: 4, bucket, max_kept: 8 })
}

fn window(events: u64) -> Window {
    Window { counters: Counters { events, ..Counters::default() }, ..Window::default() }
}

/// A slice with one row for each of `shards`.
fn flush(start: u64, shards: &[u32]) -> Flush {
    let rows = shards.iter().map(|shard| (*shard, Subject::Asn(*shard), window(start / 1_000 + 1))).collect();
    Flush { slices: vec![Slice { start, rows }], watermark: start + 10_000, last: false }
}

fn welcome(shards: &[u32], pairs: &[(u64, u64)]) -> Down {
    Down::Welcome(v1::Welcome {
        shard: shards.to_vec(),
        epoch: shards.iter().map(|_| v1::Epoch::default()).collect(),
        bucket_start_ms: pairs.iter().map(|pair| pair.0).collect(),
        seq: pairs.iter().map(|pair| pair.1).collect(),
        ..v1::Welcome::default()
    })
}

fn credit(rows: u64) -> Down {
    Down::Credit(v1::Credit { rows })
}

fn batches(sends: &[Send]) -> Vec<(Vec<u32>, Vec<u64>, Vec<u64>)> {
    let batch = |send: &Send| match &send.message {
        Up::Batches(b) => Some((b.shard.clone(), b.seq.clone(), b.prev.clone())),
        _ => None,
    };
    sends.iter().filter_map(batch).collect()
}

#[test]
fn a_slice_goes_out_in_one_message_and_the_watermark_behind_it() {
    let mut core = core();
    core.on_connected(1, 0);
    core.on_message(1, credit(100));
    core.on_message(1, welcome(&[0, 1, 2, 3], &[(0, 0); 4]));
    let sends = core.on_flush(flush(0, &[0, 2, 3]), "");
    assert_eq!(batches(&sends), [(vec![0, 2, 3], vec![1, 1, 1], vec![0, 0, 0])]);
    assert!(matches!(&sends.last().unwrap().message, Up::Watermark(w) if w.time_ms == 10_000 && w.shard == [0, 2, 3]));
    let sends = core.on_flush(flush(10_000, &[2]), "");
    assert_eq!(batches(&sends), [(vec![2], vec![2], vec![1])]);
}

#[test]
fn what_is_not_committed_is_sent_again_from_its_beginning() {
    let mut core = core();
    core.on_connected(1, 0);
    core.on_message(1, welcome(&[0, 1], &[(0, 0); 2]));
    core.on_message(1, credit(100));
    core.on_flush(flush(0, &[0, 1]), "");
    core.on_flush(flush(BUCKET, &[0]), "");
    core.on_message(1, Down::Trim(v1::Trim { shard: vec![0], bucket_start_ms: vec![0], seq: vec![1] }));
    core.on_disconnected(1);
    core.on_connected(2, 0);
    core.on_message(2, credit(100));
    let sends = core.on_message(2, welcome(&[0, 1], &[(0, 1), (0, 0)]));
    assert!(matches!(&sends[0].message, Up::Bind(b) if b.lowest_seq == [2, 1] && b.trimmed_seq == [1, 0]));
    assert_eq!(batches(&sends), [(vec![1], vec![1], vec![0]), (vec![0], vec![2], vec![0])]);
    let Up::Batches(part) = &sends[1].message else { panic!("batches come after the bind") };
    let rows = read(part.windows.as_ref().unwrap()).unwrap();
    assert_eq!(rows.iter().map(|row| row.subject.clone()).collect::<Vec<_>>(), [Subject::Asn(1)]);
    assert!(sends.iter().any(|send| matches!(send.message, Up::ReplayEnd(_))));
}

#[test]
fn a_commit_of_a_later_number_but_an_earlier_bucket_trims_nothing_of_a_later_bucket() {
    let mut core = core();
    core.on_connected(1, 0);
    core.on_message(1, welcome(&[0], &[(0, 0)]));
    core.on_message(1, credit(100));
    core.on_flush(flush(BUCKET, &[0]), "");
    core.on_flush(flush(0, &[0]), "");
    core.on_message(1, Down::Trim(v1::Trim { shard: vec![0], bucket_start_ms: vec![0], seq: vec![2] }));
    assert_eq!(core.kept(), 1, "seq 1 belongs to the second bucket, which is not committed");
}

#[test]
fn without_credit_one_batch_is_on_its_way_and_the_watermark_waits() {
    let mut core = core();
    core.on_connected(1, 0);
    core.on_message(1, welcome(&[0], &[(0, 0)]));
    assert_eq!(batches(&core.on_flush(flush(0, &[0]), "")).len(), 1);
    let sends = core.on_flush(flush(10_000, &[0]), "");
    assert!(sends.is_empty(), "{sends:?}");
    let receipt = Down::Receipt(v1::Receipt { shard: vec![0], seq: vec![1] });
    let sends = core.on_message(1, receipt);
    assert_eq!(batches(&sends).len(), 1);
    assert!(matches!(sends.last().unwrap().message, Up::Watermark(_)));
}

#[test]
fn it_says_when_all_is_committed() {
    let mut core = core();
    core.on_connected(1, 0);
    core.on_message(1, welcome(&[0], &[(0, 0)]));
    core.on_flush(flush(0, &[0]), "");
    core.on_flush(Flush { slices: vec![], watermark: BUCKET, last: true }, "");
    assert!(!core.is_finished());
    core.on_message(1, Down::Trim(v1::Trim { shard: vec![0], bucket_start_ms: vec![0], seq: vec![1] }));
    assert!(core.is_finished());
}

#[test]
fn too_much_kept_makes_the_summariser_wait() {
    let mut core = core();
    for slice in 0..8 {
        assert!(core.has_room());
        core.on_flush(flush(slice * 10_000, &[1]), "");
    }
    assert!(!core.has_room());
}
