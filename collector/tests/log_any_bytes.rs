//! Whatever a line holds: no panic, and one record or one fault for it.

use proptest::prelude::*;
use spikewatch_collector::fault::Decoded;
use spikewatch_collector::log::ecs::{EcsDecoder, EcsOptions};
use spikewatch_collector::log::zeek::ZeekDecoder;
use spikewatch_collector::recognise::recognise;

const ECS: [&str; 3] = [
    include_str!("../../tests/data/ecs_defend.ndjson"),
    include_str!("../../tests/data/ecs_packetbeat.ndjson"),
    include_str!("../../tests/data/ecs_firewall.ndjson"),
];
const ZEEK: [&str; 3] = [
    include_str!("../../tests/data/zeek_conn.log"),
    include_str!("../../tests/data/zeek_iot23.log"),
    include_str!("../../tests/data/zeek_conn.json"),
];

/// A real line with some bytes replaced, cut off, or put in twice.
fn mutated(files: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let lines: Vec<&str> = files.iter().flat_map(|file| file.lines()).collect();
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    (prop::sample::select(lines), prop::collection::vec(change, 0..6)).prop_map(|(line, changes)| {
        let mut line = line.as_bytes().to_vec();
        for (at, byte, how) in changes {
            let at = at.index(line.len() + 1);
            match how {
                0 => line.truncate(at),
                1 => line.insert(at, byte),
                2 => line.insert(at, b"0123456789-.{}[]\",:\t#"[usize::from(byte) % 21]),
                _ => line.iter_mut().skip(at).take(1).for_each(|old| *old = byte),
            }
        }
        line
    })
}

fn expected(line: &[u8], comments: bool) -> usize {
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line).trim_ascii();
    let is_nothing = line.is_empty() || (comments && line.starts_with(b"#"));
    usize::from(!is_nothing)
}

fn check_ecs(line: &[u8]) {
    let mut out = Decoded::default();
    EcsDecoder::new(EcsOptions::default()).decode(line, &mut out);
    assert_eq!(out.records.len() + out.faults.len(), expected(line, false));
    assert!(out.records.iter().all(|record| record.start <= record.end));
    assert!(out.faults.iter().all(|fault| fault.detail.len() < 1_000));
}

fn check_zeek(decoder: &mut ZeekDecoder, line: &[u8]) {
    let mut out = Decoded::default();
    decoder.decode(line, &mut out);
    assert_eq!(out.records.len() + out.faults.len(), expected(line, true));
    assert!(out.records.iter().all(|record| record.start <= record.end));
    assert!(out.faults.iter().all(|fault| fault.detail.len() < 1_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes(line in prop::collection::vec(any::<u8>(), 0..300)) {
        check_ecs(&line);
        check_zeek(&mut ZeekDecoder::new(), &line);
        let _ = recognise(&line);
    }

    #[test]
    fn ecs_lines_with_faults(line in mutated(&ECS)) {
        check_ecs(&line);
        let _ = recognise(&line);
    }

    #[test]
    fn zeek_lines_with_faults_even_in_the_header(lines in prop::collection::vec(mutated(&ZEEK), 1..12)) {
        let mut decoder = ZeekDecoder::new();
        for line in ZEEK[0].lines().take(8) {
            decoder.decode(line.as_bytes(), &mut Decoded::default());
        }
        for line in lines {
            check_zeek(&mut decoder, &line);
        }
    }
}
