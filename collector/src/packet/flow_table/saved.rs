//! A flow table as it is saved and read back: the flows themselves, in the orders they are in.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Flow, FlowTable, FlowTableLimits, Fragments};

/// `F` is a flow, or a reference to one.
#[derive(Deserialize, Serialize)]
struct Saved<F, R> {
    limits: FlowTableLimits,
    clock: u64,
    open: Vec<F>,
    ended: Vec<F>,
    /// Places in `open` and, behind it, `ended`.
    active: Vec<u32>,
    fragments: R,
    evicted: u64,
}

impl Serialize for FlowTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut places = vec![0; self.flows.len()];
        let slots = self.open.iter().chain(self.ended.iter());
        for (place, slot) in (0..).zip(slots) {
            if let Some(of) = places.get_mut(slot as usize) {
                *of = place;
            }
        }
        let flow = |slot: u32| self.flows.get(slot as usize);
        let saved: Saved<&Flow, &Fragments> = Saved {
            limits: self.limits,
            clock: self.clock,
            open: self.open.iter().filter_map(flow).collect(),
            ended: self.ended.iter().filter_map(flow).collect(),
            active: self.active.iter().filter_map(|slot| places.get(slot as usize).copied()).collect(),
            fragments: &self.fragments,
            evicted: self.evicted,
        };
        saved.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FlowTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let saved: Saved<Flow, Fragments> = Saved::deserialize(deserializer)?;
        let mut table = Self::new(saved.limits);
        let open = saved.open.len();
        let flows = saved.open.into_iter().chain(saved.ended).take(table.limits.max_flows);
        for (slot, mut flow) in (0..).zip(flows) {
            flow.hash = flow.ends.hash();
            let flows = &table.flows;
            let hash = |&slot: &u32| flows.get(slot as usize).map_or(0, |flow: &Flow| flow.hash);
            table.index.insert_unique(flow.hash, slot, hash);
            table.flows.push(flow);
            if (slot as usize) < open {
                table.open.push_back(slot);
            } else {
                table.ended.push_back(slot);
            }
        }
        let known = table.flows.len();
        saved.active.into_iter().filter(|slot| (*slot as usize) < known).for_each(|slot| table.active.push_back(slot));
        (table.clock, table.fragments, table.evicted) = (saved.clock, saved.fragments, saved.evicted);
        Ok(table)
    }
}
