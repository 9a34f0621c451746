//! What goes wrong in a seed, and when.

use spikewatch_actors::entropy::Entropy;

use crate::traffic::pick;

/// One thing that goes wrong; hosts by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies at once, and is started again in the end.
    Crash(usize),
    /// The machine loses power: what its disk had not confirmed may be gone, whole or in part.
    PowerLoss(usize),
    /// The process ends in good order, and is started again in the end.
    Stop(usize),
    /// Neither hears of the other; what is sent is lost.
    Partition(usize, usize),
    /// The second doesn't hear the first.
    OneWay(usize, usize),
    /// Nobody hears of it, nor it of anybody.
    Isolated(usize),
    /// What is sent between them arrives in the end.
    Hold(usize, usize),
    /// Its clock jumps by so much, ms, and back in the end.
    Skew(usize, i64),
    /// Its store is slow by up to so much, ms.
    SlowStore(usize, u64),
    /// It doesn't reach its store, or doesn't get the answer.
    CutStore(usize),
    /// Its disk fails that many of a thousand syncs, and some writes and reads.
    FailingDisk(usize, u64),
}

impl Fault {
    /// True if a collector there may be late to write its slices.
    pub(crate) fn delays_slices_of(self, host: usize) -> bool {
        matches!(self, Self::Skew(of, _) | Self::FailingDisk(of, _) if of == host)
    }
}

/// A fault and its time, ms from the beginning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned {
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
    pub(crate) fault: Fault,
}

/// Which host is what, by number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cast {
    pub(crate) detectors: usize,
    pub(crate) aggregators: usize,
    pub(crate) collectors: usize,
}

impl Cast {
    pub(crate) fn of(entropy: &Entropy) -> Self {
        let detectors = 1 + pick(entropy, 2) as usize;
        let aggregators = 2 + pick(entropy, 2) as usize;
        Self { detectors, aggregators, collectors: 2 + pick(entropy, 2) as usize }
    }

    pub(crate) fn all(self) -> usize {
        self.detectors + self.aggregators + self.collectors
    }

    /// Any host.
    fn any(self, entropy: &Entropy) -> usize {
        pick(entropy, self.all() as u64) as usize
    }

    fn detector(self, entropy: &Entropy) -> usize {
        pick(entropy, self.detectors as u64) as usize
    }

    fn collector(self, entropy: &Entropy) -> usize {
        self.first_collector() + pick(entropy, self.collectors as u64) as usize
    }

    /// The collectors' numbers begin here.
    pub(crate) fn first_collector(self) -> usize {
        self.detectors + self.aggregators
    }

    /// True if that collector is the only one of its site: the third one is at the first one's.
    pub(crate) fn is_alone(self, host: usize) -> bool {
        self.collectors == 2 || host == self.first_collector() + 1
    }

    /// A host whose process may die. What dies with a collector can only be told if its site has no other.
    fn mortal(self, entropy: &Entropy) -> usize {
        let host = self.any(entropy);
        if host >= self.first_collector() && !self.is_alone(host) { self.first_collector() + 1 } else { host }
    }

    /// Two hosts that talk to each other.
    fn neighbours(self, entropy: &Entropy) -> (usize, usize) {
        let aggregator = self.detectors + pick(entropy, self.aggregators as u64) as usize;
        let others = self.detectors + self.collectors;
        let other = pick(entropy, others as u64) as usize;
        let other = if other < self.detectors { other } else { other + self.aggregators };
        if pick(entropy, 2) == 0 { (aggregator, other) } else { (other, aggregator) }
    }
}

/// The faults of a seed, all of them over by `until_ms`. One seed in eight has none.
pub(crate) fn plan(entropy: &Entropy, cast: Cast, until_ms: u64) -> Vec<Planned> {
    let count = if pick(entropy, 8) == 0 { 0 } else { 1 + pick(entropy, 9) };
    let mut plan: Vec<_> = (0..count)
        .map(|_| {
            let from_ms = 5_000 + pick(entropy, until_ms - 10_000);
            let length = if pick(entropy, 3) == 0 { 30_000 } else { 6_000 };
            let to_ms = (from_ms + 100 + pick(entropy, length)).min(until_ms);
            Planned { from_ms, to_ms, fault: fault(entropy, cast) }
        })
        .collect();
    plan.sort_by_key(|planned| planned.from_ms);
    plan
}

fn fault(entropy: &Entropy, cast: Cast) -> Fault {
    let (one, other) = cast.neighbours(entropy);
    match pick(entropy, 15) {
        0 | 1 => Fault::Crash(cast.mortal(entropy)),
        2 => Fault::Stop(cast.mortal(entropy)),
        3 | 4 => Fault::Partition(one, other),
        5 => Fault::OneWay(one, other),
        6 => Fault::Isolated(cast.any(entropy)),
        7 => Fault::Hold(one, other),
        8 => Fault::Skew(cast.any(entropy), pick(entropy, 50_000) as i64 - 25_000),
        9 | 10 => Fault::SlowStore(cast.detector(entropy), 100 + pick(entropy, 3_000)),
        11 => Fault::CutStore(cast.detector(entropy)),
        12 | 13 => Fault::FailingDisk(cast.collector(entropy), 200 + pick(entropy, 801)),
        _ => Fault::PowerLoss(cast.mortal(entropy)),
    }
}
