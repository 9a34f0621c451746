//! Lines of logs: each gives at most one record or one fault.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spikewatch_collector::{
    fault::Decoded,
    log::{
        ecs::{EcsDecoder, EcsOptions},
        zeek::ZeekDecoder,
    },
    recognise::recognise,
};

fuzz_target!(|data: &[u8]| {
    let _ = recognise(data);
    let (mut ecs, mut zeek) = (EcsDecoder::new(EcsOptions::default()), ZeekDecoder::new());
    for line in data.split(|byte| *byte == b'\n') {
        let (mut one, mut other) = (Decoded::default(), Decoded::default());
        ecs.decode(line, &mut one);
        zeek.decode(line, &mut other);
        assert!(one.records.len() + one.faults.len() <= 1);
        assert!(other.records.len() + other.faults.len() <= 1);
    }
});
