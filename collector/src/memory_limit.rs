//! How a collector's memory limit is shared out. What each part does at its share is that part's; templates, and databases
//! of places, have limits of their own beside it.

use std::time::Duration;

use tokio::time::Instant;

use crate::{ledger::Ledger, packet::flow_table::FlowTable};

/// Least time between two warnings of one kind.
const QUIET: Duration = Duration::from_secs(60);

/// Bytes of a flow in the ledger and in the flow tables, that of packets and that of samples.
const FLOW_BYTES: usize = Ledger::FLOW_BYTES + 2 * FlowTable::FLOW_BYTES;
/// Most flows: more than that has never been of use.
const MOST_FLOWS: usize = 1 << 18;

/// Bytes that a collector may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit(pub u64);

impl Default for MemoryLimit {
    fn default() -> Self {
        Self(1 << 30)
    }
}

impl MemoryLimit {
    /// The least with which a collector can do its work.
    pub const LEAST: u64 = 64 << 20;

    fn part(self, eighths: u64) -> usize {
        usize::try_from(self.0.max(Self::LEAST) / 8 * eighths).unwrap_or(usize::MAX)
    }

    /// Windows of the slice under way: beyond, it is cut early.
    pub(crate) fn windows(self) -> usize {
        self.part(3)
    }

    /// Datagrams that wait to be decoded: beyond, they are dropped, counted.
    pub(crate) fn datagrams(self) -> usize {
        self.part(1)
    }

    /// What senders have handed over and is not counted yet: beyond, they are told to come again.
    pub(crate) fn intake(self) -> usize {
        self.part(1).min(64 << 20)
    }

    /// Slices in memory: beyond, a collector without a spool takes no more, and one with a spool reads them back.
    pub(crate) fn slices(self, is_spooled: bool) -> usize {
        // What is sent as it is cut is never read back: more than some slices are of no use.
        if is_spooled { self.part(1).min(64 << 20) } else { self.part(2) }
    }

    /// Flows that the ledger and the flow tables keep, each: beyond, those not heard of for longest are reported early, or
    /// their next report counts as a first one, counted.
    pub(crate) fn flows(self) -> usize {
        (self.part(1) / FLOW_BYTES).min(MOST_FLOWS)
    }

    /// What waits to be written to the spool: beyond, no more slices are taken.
    pub(crate) fn unwritten(self) -> usize {
        self.part(1)
    }
}

/// Says now and then that the limit binds.
#[derive(Debug, Default)]
pub(crate) struct Said(Option<Instant>);

impl Said {
    /// True if it is time to say it again.
    pub(crate) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.0.is_none_or(|said| now.duration_since(said) >= QUIET);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_parts_are_no_more_than_the_whole() {
        for limit in [0, MemoryLimit::LEAST, 1 << 30, 1 << 40].map(MemoryLimit) {
            let either = limit.windows() + limit.datagrams() + limit.flows() * FLOW_BYTES;
            // What is handed over needs a spool.
            let spooled = either + limit.intake() + limit.unwritten() + limit.slices(true);
            let whole = limit.0.max(MemoryLimit::LEAST) as usize;
            assert!(spooled <= whole && either + limit.slices(false) <= whole, "{limit:?}");
        }
        assert!(MemoryLimit(MemoryLimit::LEAST).flows() > 10_000, "{FLOW_BYTES}");
        assert!(MemoryLimit::default().flows() > 200_000, "{FLOW_BYTES}");
    }
}
