use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rapidhash::v3::rapidhash_v3;

use super::*;
use crate::{
    log::ecs::EcsOptions,
    metrics::Metrics,
    pipeline::{Flush, tests::pipeline},
    places::tests::databases,
    source::{file::Expected, files},
};

/// Templates, sampling, flows going on, totals that become deltas: whatever is remembered from one slice to the next.
fn recorded() -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let names = ["recorded.pcap", "recorded_ipfix.pcap", "recorded_netflow9.pcap", "recorded_sflow.pcap"];
    let lines = ["ecs_packetbeat.ndjson", "ecs_defend.ndjson", "zeek_conn.log"];
    names.iter().chain(&lines).map(|name| data.join(name)).collect()
}

/// What comes of a recording that is looked at after every so many items, if then the collector ends and another goes on
/// from its check-point, or if not.
fn played(every: usize, ends: bool) -> Vec<Flush> {
    let (mut flushes, mut items) = (Vec::new(), 0);
    let deliver = |pipeline: &mut Pipeline, due: Option<Flush>| {
        flushes.extend(due);
        items += 1;
        if items % every == 0 {
            flushes.push(pipeline.so_far());
            if ends {
                let saved = write(pipeline, &Sources::default()).unwrap();
                *pipeline = self::pipeline();
                restore(&saved, pipeline).unwrap();
            }
        }
        true
    };
    let metrics = Metrics::default();
    let reports = files::run(&recorded(), Expected::Auto, &EcsOptions::default(), &mut pipeline(), &metrics, deliver);
    assert!(reports.iter().all(|report| report.error.is_none() && report.items > 0), "{reports:?}");
    flushes
}

#[test]
fn wherever_it_ends_it_goes_on_as_if_it_had_not() {
    for every in [1, 4, 17] {
        let (whole, parts) = (played(every, false), played(every, true));
        assert!(whole.iter().flat_map(|flush| &flush.slices).count() > 5, "{every}");
        assert_eq!(parts.len(), whole.len());
        for (part, whole) in parts.iter().zip(&whole) {
            assert_eq!(part, whole, "it ended every {every} items");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut one = pipeline();
        let before = write(&one, &Sources::default()).unwrap();
        if restore(&bytes, &mut one).is_err() {
            prop_assert_eq!(write(&one, &Sources::default()).unwrap(), before);
        }
    }
}

#[test]
fn what_another_version_saved_is_told() {
    let (sources_format, memory_format) = (SOURCES + 1, MEMORY + 1);
    let stored = Stored { sources_format, sources: Vec::new(), memory_format, memory: Vec::new() };
    let other = postcard::to_allocvec(&stored).unwrap();
    let error = sources(&other).unwrap_err();
    assert_eq!(error.to_string(), format!("its format is {sources_format}, this version's is {SOURCES}"));
    let error = restore(&other, &mut pipeline()).unwrap_err();
    assert_eq!(error.to_string(), format!("its format is {memory_format}, this version's is {MEMORY}"));
}

/// If this fails, the types that are saved have changed: [`MEMORY`] has to be another then. Maps are saved in no order, so
/// that a state is taken that has at most one entry in each.
#[test]
fn the_format_is_the_one_it_was() {
    let mut one = pipeline();
    let export = [
        // IPFIX: header; a template 256 with sourceIPv4Address, destinationIPv4Address, octetDeltaCount and, of
        // which a slot is among the last, samplingProbability; one record.
        &[0, 10, 0, 64, 0x65, 0x53, 0xf1, 0, 0, 0, 0, 1, 0, 0, 0, 9][..],
        &[0, 2, 0, 24, 1, 0, 0, 4, 0, 8, 0, 4, 0, 12, 0, 4, 0, 1, 0, 4, 1, 55, 0, 8],
        &[1, 0, 0, 24, 10, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    one.switch(databases());
    let mut faults = Vec::new();
    one.datagram([192, 0, 2, 9].into(), 1_700_000_000_000, &export.concat(), &mut faults);
    assert_eq!(faults, []);
    one.advance(1_700_000_000_000);
    one.so_far();
    let saved = one.save().unwrap();
    assert_eq!((saved.len(), rapidhash_v3(&saved)), (232, 18_383_778_162_061_328_764), "{saved:02x?}");
}
