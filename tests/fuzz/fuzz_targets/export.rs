//! Export datagrams, several of one exporter, so that templates of one meet the data of the next.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spikewatch_collector::{
    export::{ExportDecoder, ExportLimits, split},
    fault::Decoded,
};

fuzz_target!(|data: &[u8]| {
    let mut decoder = ExportDecoder::new(ExportLimits::default());
    let mut decoded = Decoded::default();
    for datagram in split(data) {
        decoder.decode([192, 0, 2, 1].into(), 1_700_000_000_000, datagram, &mut decoded);
    }
    decoder.flush(&mut decoded);
    for record in &decoded.records {
        assert!(record.start <= record.end);
    }
});
