//! What a report adds. One flow may be reported many times; it is one event, and its bytes count once (DESIGN section 3,
//! rules 5, 7 and 8): openings and closings are paired, totals become deltas, parts cut by a time-out are joined, and of
//! two sensors that report one connection the first is believed.

use rapidhash::v3::rapidhash_v3;
use serde::{Deserialize, Serialize};
use spikewatch_domain::record::{EventMillis, FlowRecord, Report};

/// How long, in event time, a part cut by an active time-out may be followed by the next, and a sensor be believed.
const MEMORY_MS: u64 = 30 * 60 * 1000;

/// Bounds of the ledger's memories, in flows.
#[derive(Debug, Clone, Copy)]
pub struct LedgerLimits {
    /// Flows whose cut part, opening, totals or sensor are remembered, each.
    pub flows: usize,
}

impl Default for LedgerLimits {
    fn default() -> Self {
        Self { flows: 1 << 18 }
    }
}

/// What one record adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// 1 if this is the first report of its flow, else 0.
    pub events: u64,
    /// Bytes and packets that are new, by sender.
    pub source_bytes: u64,
    /// Packets the source sent.
    pub source_packets: u64,
    /// Bytes the destination sent.
    pub destination_bytes: u64,
    /// Packets the destination sent.
    pub destination_packets: u64,
    /// Start of the time over which they are spread.
    pub start: EventMillis,
    /// Its end.
    pub end: EventMillis,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
struct Totals {
    source_bytes: u64,
    source_packets: u64,
    destination_bytes: u64,
    destination_packets: u64,
    end: EventMillis,
}

use crate::recent::Recent;

/// The memory that counting depends on.
#[derive(Debug, Deserialize, Serialize)]
pub struct Ledger {
    cut: Recent<EventMillis>,
    opened: Recent<()>,
    totals: Recent<Totals>,
    sensors: Recent<(u64, EventMillis)>,
    duplicates: u64,
}

impl Ledger {
    /// What a flow takes at most. A hash table has up to two places an entry, with a byte more for each.
    pub(crate) const FLOW_BYTES: usize = 2
        * (size_of::<(u64, EventMillis)>() + size_of::<u64>() + size_of::<(u64, Totals)>() + size_of::<[u64; 3]>() + 4);

    /// An empty ledger.
    #[must_use]
    pub fn new(limits: LedgerLimits) -> Self {
        Self {
            cut: Recent::new(limits.flows),
            opened: Recent::new(limits.flows),
            totals: Recent::new(limits.flows),
            sensors: Recent::new(limits.flows),
            duplicates: 0,
        }
    }

    /// Remembers so many flows from now on.
    pub(crate) fn keep(&mut self, flows: usize) {
        self.cut.keep(flows);
        self.opened.keep(flows);
        self.totals.keep(flows);
        self.sensors.keep(flows);
    }

    /// Records left out because another sensor had reported their connection.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Flows forgotten for want of room; their next report counts as a first one.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.cut.forgotten() + self.opened.forgotten() + self.totals.forgotten() + self.sensors.forgotten()
    }

    /// What `record` adds; `None` if another sensor reported the same connection before.
    pub fn enter(&mut self, record: &FlowRecord) -> Option<Entry> {
        if self.is_duplicate(record) {
            self.duplicates += 1;
            return None;
        }
        let whole = Entry {
            events: 1,
            source_bytes: record.source_bytes,
            source_packets: record.source_packets,
            destination_bytes: record.destination_bytes,
            destination_packets: record.destination_packets,
            start: record.start,
            end: record.end,
        };
        let again = Entry { events: 0, ..whole };
        Some(match record.report {
            Report::Complete if self.cut.is_empty() => whole,
            Report::Complete => {
                let continues = self.cut.remove(tuple_hash(record)).is_some_and(|end| follows(end, record));
                if continues { again } else { whole }
            }
            Report::Partial => {
                let hash = tuple_hash(record);
                let continues = self.cut.get_mut(hash).is_some_and(|end| follows(*end, record));
                self.cut.insert(hash, record.end);
                if continues { again } else { whole }
            }
            Report::Continuation => {
                if !self.cut.is_empty() {
                    self.cut.remove(tuple_hash(record));
                }
                again
            }
            Report::Opened { flow } => {
                if self.opened.get_mut(flow).is_some() {
                    again
                } else {
                    self.opened.insert(flow, ());
                    whole
                }
            }
            Report::Closed { flow } if self.opened.remove(flow).is_some() => again,
            Report::Closed { .. } => whole,
            Report::Cumulative { flow, .. } => self.delta(flow, whole),
        })
    }

    /// Totals since the start of the flow → what is new since the last report. A total that fell is a flow that began
    /// anew under the same id.
    fn delta(&mut self, flow: u64, now: Entry) -> Entry {
        let totals = Totals {
            source_bytes: now.source_bytes,
            source_packets: now.source_packets,
            destination_bytes: now.destination_bytes,
            destination_packets: now.destination_packets,
            end: now.end,
        };
        let Some(before) = self.totals.get_mut(flow) else {
            self.totals.insert(flow, totals);
            return now;
        };
        let last = std::mem::replace(before, totals);
        let fell = totals.source_bytes < last.source_bytes
            || totals.source_packets < last.source_packets
            || totals.destination_bytes < last.destination_bytes
            || totals.destination_packets < last.destination_packets;
        if fell {
            return now;
        }
        Entry {
            events: 0,
            source_bytes: totals.source_bytes - last.source_bytes,
            source_packets: totals.source_packets - last.source_packets,
            destination_bytes: totals.destination_bytes - last.destination_bytes,
            destination_packets: totals.destination_packets - last.destination_packets,
            start: last.end.clamp(now.start, now.end),
            end: now.end,
        }
    }

    fn is_duplicate(&mut self, record: &FlowRecord) -> bool {
        let Some(annotations) = &record.annotations else { return false };
        let Some(connection) = annotations.connection else { return false };
        match self.sensors.get_mut(connection) {
            Some((sensor, seen)) if *sensor == annotations.sensor => {
                *seen = record.end.max(*seen);
                false
            }
            Some((_, seen)) if record.end.saturating_sub(*seen) <= MEMORY_MS => true,
            _ => {
                self.sensors.insert(connection, (annotations.sensor, record.end));
                false
            }
        }
    }
}

/// A part follows the one that ended at `end` if it does not begin long after; exporters' clocks may overlap a little.
fn follows(end: EventMillis, record: &FlowRecord) -> bool {
    record.start <= end.saturating_add(MEMORY_MS) && record.end >= end
}

fn tuple_hash(record: &FlowRecord) -> u64 {
    let mut bytes = [0u8; 37];
    bytes[..16].copy_from_slice(&spikewatch_domain::window::Peer::from(record.source).0);
    bytes[16..32].copy_from_slice(&spikewatch_domain::window::Peer::from(record.destination).0);
    bytes[32..34].copy_from_slice(&record.source_port.to_be_bytes());
    bytes[34..36].copy_from_slice(&record.destination_port.to_be_bytes());
    bytes[36] = record.protocol;
    rapidhash_v3(&bytes)
}

#[cfg(test)]
mod tests;
