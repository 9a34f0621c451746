//! A capture file: every packet ends in a flow or a fault, and what the flows hold is what was dissected.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spikewatch_collector::packet::{
    capture::CaptureReader,
    flow_table::{FlowTable, FlowTableLimits},
    headers::dissect,
};

fuzz_target!(|data: &[u8]| {
    let Ok(mut reader) = CaptureReader::open(data) else { return };
    let mut table = FlowTable::new(FlowTableLimits { max_flows: 64, ..FlowTableLimits::default() });
    let (mut records, mut packets) = (Vec::new(), 0u64);
    while let Ok(Some(packet)) = reader.next() {
        if let Ok(dissected) = dissect(packet.link, packet.original_length, packet.data) {
            table.on_packet(packet.time_ms, &dissected, 1, &mut records);
            packets += 1;
        }
    }
    table.flush(&mut records);
    assert_eq!(records.iter().map(|r| r.source_packets + r.destination_packets).sum::<u64>(), packets);
});
