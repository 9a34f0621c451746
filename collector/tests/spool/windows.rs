//! Merging real windows.

use std::collections::BTreeMap;

use prost::Message as _;
use spikewatch_collector::spool::{Incarnation, Part, SliceMeta, StoredSlice, merge_windows};
use spikewatch_domain::{
    key::Subject,
    window::{Counters, Window},
};
use spikewatch_proto::{
    convert::windows::{push, read},
    v1,
};

/// A slice of rows (shard, last byte of the host's address, events), ordered by shard.
fn slice(slice_no: u64, rows: &[(u32, u8, u64)]) -> StoredSlice {
    let mut windows = v1::Windows::default();
    let mut parts: BTreeMap<u32, u32> = BTreeMap::new();
    for (shard, host, events) in rows {
        let subject = Subject::Address([10, 0, 0, *host].into());
        let counters = Counters { events: *events, bytes_out: 10 * events, ..Counters::default() };
        push(&mut windows, None, &subject, &Window { counters, ..Window::default() }, false);
        *parts.entry(*shard).or_default() += 1;
    }
    let part = |(shard, rows)| Part { shard, rows, first_seq: slice_no, seq: slice_no, events: 0, bytes: 0 };
    let parts = parts.into_iter().map(part).collect();
    let meta = SliceMeta { slice_no, incarnation: Incarnation([1; 16]), start: 0, bucket: 0, parts };
    StoredSlice { meta, trimmed: false, payload: windows.encode_to_vec() }
}

#[test]
fn windows_of_one_host_become_one_and_stay_with_their_shard() {
    let slices = [slice(1, &[(0, 1, 5), (0, 2, 7), (3, 9, 1)]), slice(2, &[(0, 2, 10), (2, 4, 4), (3, 9, 2)])];
    let merged = merge_windows(&slices).unwrap();
    assert_eq!(merged.rows, BTreeMap::from([(0, 2), (2, 1), (3, 1)]));
    let rows = read(&v1::Windows::decode(merged.payload.as_slice()).unwrap()).unwrap();
    let found: Vec<(String, u64, u64)> = rows
        .iter()
        .map(|row| (format!("{:?}", row.subject), row.window.counters.events, row.window.counters.bytes_out))
        .map(|(subject, events, bytes)| (subject.matches(char::is_numeric).collect(), events, bytes))
        .collect();
    let expected = [("10001", 5, 50), ("10002", 17, 170), ("10004", 4, 40), ("10009", 3, 30)];
    assert_eq!(found, expected.map(|(subject, events, bytes)| (subject.to_owned(), events, bytes)));
}

#[test]
fn payloads_that_do_not_fit_their_parts_are_not_merged() {
    let mut wrong = slice(1, &[(0, 1, 5), (0, 2, 7)]);
    wrong.meta.parts[0].rows = 3;
    assert!(merge_windows(&[wrong.clone()]).unwrap_err().contains("slice 1 has 2 rows"));
    wrong.payload = vec![0xff; 20];
    assert!(merge_windows(&[wrong]).unwrap_err().starts_with("slice 1: "));
}
