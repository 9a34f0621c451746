//! Packets → bidirectional flows, in bounded memory.
//!
//! A flow is one 5-tuple, whichever way its packets go. It is reported when it ends (TCP), when it has been idle for too
//! long, when it has gone on for too long (and then in parts), or when the table is full. All is ordered by the table's
//! clock, which is the latest time it was ever told: equal packets give equal reports in equal order, and a time that goes
//! backwards ends nothing.

mod saved;

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use spikewatch_domain::record::FlowRecord;

use super::flow::{Ends, Flow};
use super::fragments::Fragments;
use super::headers::Dissected;
use super::order::Order;

/// How long (ms) a TCP connection that has ended is kept, so that its last acknowledgements don't open a new flow.
const LINGER_MS: u64 = 2_000;

/// When flows are reported, and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub struct FlowTableLimits {
    /// A flow without packets for this long (ms) has ended.
    pub idle_ms: u64,
    /// A flow that goes on is reported at least this often (ms).
    pub active_ms: u64,
    /// Flows kept at once; past that the one that ended or has been idle longest is reported early. At least 1.
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
    clock: u64,
    /// Slots of `flows`, by 5-tuple.
    index: HashTable<u32>,
    /// Slots that are vacant are listed in `vacant` and in no order.
    flows: Vec<Flow>,
    vacant: Vec<u32>,
    /// Flows that are open, in the order of their last packets.
    open: Order,
    /// Connections that have ended, in the order of their last packets.
    ended: Order,
    /// Flows with something to report, in the order in which it began.
    active: Order,
    fragments: Fragments,
    evicted: u64,
}

/// What falls due, in the order in which it is done if due at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Ended,
    Idle,
    Active,
}

impl FlowTable {
    /// What a flow takes: itself, its place in three orders, and up to two places in the index.
    pub(crate) const FLOW_BYTES: usize = size_of::<Flow>() + 3 * size_of::<[u32; 2]>() + 2 * (size_of::<u32>() + 1);

    /// Keeps so many flows from now on; what it has beyond is reported when it falls due.
    pub(crate) fn keep(&mut self, flows: usize) {
        self.limits.max_flows = flows.clamp(1, (u32::MAX - 1) as usize);
    }

    /// An empty table.
    #[must_use]
    pub fn new(limits: FlowTableLimits) -> Self {
        // Slots are 32-bit numbers.
        let max_flows = limits.max_flows.clamp(1, (u32::MAX - 1) as usize);
        Self {
            limits: FlowTableLimits { max_flows, ..limits },
            clock: 0,
            index: HashTable::new(),
            flows: Vec::new(),
            vacant: Vec::new(),
            open: Order::default(),
            ended: Order::default(),
            active: Order::default(),
            fragments: Fragments::default(),
            evicted: 0,
        }
    }

    /// Charges a packet seen at `time_ms` to its flow, and appends to `out` what that ends: flows that were due by then, a
    /// connection that it reopens, or the flow that makes room.
    ///
    /// `sampling` is 1 for a real packet, n for one that was sampled 1 in n: its bytes and packets are multiplied by n and the
    /// record is marked estimated, but the flow is one event all the same.
    pub fn on_packet(&mut self, time_ms: u64, packet: &Dissected, sampling: u32, out: &mut Vec<FlowRecord>) {
        self.expire(time_ms, out);
        let mut ends = Ends::of(packet);
        if let Some(fragment) = &packet.fragment {
            ends = self.fragments.resolve(fragment, ends, self.clock);
        }
        let hash = ends.hash();
        let slot = match self.find(&ends, hash) {
            Some((slot, flow)) if flow.is_reopened_by(packet) => {
                self.end(slot, out);
                self.insert(Flow::opened_by(packet, ends, hash), out)
            }
            Some((slot, _)) => slot,
            None => self.insert(Flow::opened_by(packet, ends, hash), out),
        };
        let Some(flow) = self.flows.get_mut(slot as usize) else { return };
        if flow.is_reported() {
            flow.part_began = self.clock;
            self.active.push_back(slot);
        }
        flow.touched = self.clock;
        flow.count(time_ms, packet, &ends, sampling);
        if flow.has_ended() {
            self.open.remove(slot);
            self.ended.push_back(slot);
        } else {
            self.open.push_back(slot);
        }
    }

    /// Appends to `out` the flows that have been idle or active for too long at `now_ms`. Cheap when nothing is due.
    pub fn expire(&mut self, now_ms: u64, out: &mut Vec<FlowRecord>) {
        self.clock = self.clock.max(now_ms);
        while let Some((due, what, slot)) = self.next_due() {
            // A saturated sum lies beyond any time.
            if due > self.clock || due == u64::MAX {
                return;
            }
            if what == Due::Active {
                self.active.remove(slot);
                out.extend(self.flows.get_mut(slot as usize).and_then(|flow| flow.report(true)));
            } else {
                self.end(slot, out);
            }
        }
    }

    /// Appends all that is left.
    pub fn flush(&mut self, out: &mut Vec<FlowRecord>) {
        while let Some((_, _, slot)) = self.next_due() {
            self.end(slot, out);
        }
    }

    /// Flows kept now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True if no flow is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Flows reported early because the table was full.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn find(&self, ends: &Ends, hash: u64) -> Option<(u32, &Flow)> {
        let reversed = ends.reversed();
        let slot = *self.index.find(hash, |&slot| {
            let flow = self.flows.get(slot as usize);
            flow.is_some_and(|flow| flow.hash == hash && (flow.ends == *ends || flow.ends == reversed))
        })?;
        Some((slot, self.flows.get(slot as usize)?))
    }

    /// When something falls due next: time, what, and whose slot.
    fn next_due(&self) -> Option<(u64, Due, u32)> {
        let flow = |slot: u32| self.flows.get(slot as usize).map(|flow| (flow, slot));
        let idle = |order: &Order, what, after: u64| {
            order.front().and_then(flow).map(|(flow, slot)| (flow.touched.saturating_add(after), what, slot))
        };
        let active = self.active.front().and_then(flow);
        let active =
            active.map(|(flow, slot)| (flow.part_began.saturating_add(self.limits.active_ms), Due::Active, slot));
        let ended = idle(&self.ended, Due::Ended, LINGER_MS.min(self.limits.idle_ms));
        [ended, idle(&self.open, Due::Idle, self.limits.idle_ms), active].into_iter().flatten().min()
    }

    /// Puts a flow into a slot, making room if need be.
    fn insert(&mut self, flow: Flow, out: &mut Vec<FlowRecord>) -> u32 {
        if self.len() >= self.limits.max_flows
            && let Some(oldest) = self.ended.front().or_else(|| self.open.front())
        {
            self.evicted += 1;
            self.end(oldest, out);
        }
        let hash = flow.hash;
        let slot = self.vacant.pop().unwrap_or_else(|| u32::try_from(self.flows.len()).unwrap_or(u32::MAX));
        match self.flows.get_mut(slot as usize) {
            Some(place) => *place = flow,
            None => self.flows.push(flow),
        }
        let flows = &self.flows;
        self.index.insert_unique(hash, slot, |&slot| flows.get(slot as usize).map_or(0, |flow| flow.hash));
        slot
    }

    /// Reports what is left of a flow and forgets it.
    fn end(&mut self, slot: u32, out: &mut Vec<FlowRecord>) {
        self.open.remove(slot);
        self.ended.remove(slot);
        self.active.remove(slot);
        let Some(flow) = self.flows.get_mut(slot as usize) else { return };
        out.extend(flow.report(false));
        if let Ok(entry) = self.index.find_entry(flow.hash, |&other| other == slot) {
            entry.remove();
            self.vacant.push(slot);
        }
    }
}
