use std::path::Path;

use super::*;
use crate::pipeline::tests::pipeline;

/// What is handed on of all kinds of recordings, if what lies before `handed_on` was before.
fn flushes(handed_on: EventMillis) -> Vec<Flush> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let names =
        ["recorded.pcap", "recorded_ipfix.pcap", "recorded_sflow.pcap", "ecs_packetbeat.ndjson", "zeek_conn.log"];
    let paths: Vec<_> = names.iter().map(|name| data.join(name)).collect();
    let mut flushes = Vec::new();
    let deliver = |_: &mut Pipeline, due: Option<Flush>| {
        flushes.extend(due);
        true
    };
    let (ecs, metrics) = (EcsOptions::default(), Metrics::default());
    let reports = resume(&paths, handed_on, Expected::Auto, &ecs, &mut pipeline(), &metrics, deliver);
    assert!(reports.iter().all(|report| report.error.is_none() && report.items > 0), "{reports:?}");
    flushes
}

fn events<'a>(flushes: impl IntoIterator<Item = &'a Flush>) -> u64 {
    let rows = flushes.into_iter().flat_map(|flush| &flush.slices).flat_map(|slice| &slice.rows);
    rows.map(|row| row.2.counters.events).sum()
}

#[test]
fn what_was_handed_on_is_not_again_and_all_else_is_as_it_was() {
    let whole = flushes(0);
    assert!(whole.len() >= 5, "{}", whole.len());
    for (index, flush) in whole.iter().enumerate().filter(|(_, flush)| !flush.last) {
        let (rest, resumed) = (&whole[index + 1..], flushes(flush.watermark));
        assert_eq!(resumed.len(), rest.len(), "from {}", flush.watermark);
        assert!(resumed.iter().zip(rest).all(|(resumed, rest)| resumed == rest), "from {}", flush.watermark);
    }
}

#[test]
fn it_goes_on_from_a_time_at_which_no_slice_ends() {
    let whole = flushes(0);
    let flush = &whole[whole.len() / 2];
    // As after slices of another length: what lies between is not what the next flush has.
    let resumed = flushes(flush.watermark + 1);
    let rest = events(&whole[whole.len() / 2 + 1..]);
    assert!(events(&resumed) <= rest && events(&resumed) > 0);
}
