//! Packets → bidirectional flows, in bounded memory.

use spikewatch_domain::record::FlowRecord;

use super::headers::Dissected;

/// When flows are reported, and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowTableLimits {
    /// A flow without packets for this long (ms) has ended.
    pub idle_ms: u64,
    /// A flow that goes on is reported at least this often (ms).
    pub active_ms: u64,
    /// Flows kept at once; past that the one idle longest is reported early.
    pub max_flows: usize,
}

impl Default for FlowTableLimits {
    fn default() -> Self {
        Self { idle_ms: 30_000, active_ms: 60_000, max_flows: 262_144 }
    }
}

/// The flows that are going on.
#[derive(Debug)]
pub struct FlowTable {
    limits: FlowTableLimits,
}

impl FlowTable {
    /// An empty table.
    #[must_use]
    pub fn new(limits: FlowTableLimits) -> Self {
        Self { limits }
    }

    /// Charges a packet seen at `time_ms` to its flow; appends to `out` what that ends.
    ///
    /// `sampling` is 1 for a real packet, n for one that was sampled 1 in n: its bytes and packets are multiplied by n and the
    /// record is marked estimated, but the flow is one event all the same.
    pub fn on_packet(&mut self, time_ms: u64, packet: &Dissected, sampling: u32, out: &mut Vec<FlowRecord>) {
        let _ = (time_ms, packet, sampling, out, self.limits);
    }

    /// Appends to `out` the flows that have been idle or active for too long at `now_ms`. Cheap when nothing is due.
    pub fn expire(&mut self, now_ms: u64, out: &mut Vec<FlowRecord>) {
        let _ = (now_ms, out);
    }

    /// Appends all that is left.
    pub fn flush(&mut self, out: &mut Vec<FlowRecord>) {
        let _ = out;
    }

    /// Flows kept now.
    #[must_use]
    pub fn len(&self) -> usize {
        0
    }

    /// True if no flow is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Flows reported early because the table was full.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        0
    }
}
