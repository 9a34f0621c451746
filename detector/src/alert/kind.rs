//! What kind of spike it probably is, and on which numbers that rests. Numbers decide, or it stays unclear.

use spikewatch_domain::window::Measure;
use spikewatch_proto::convert::results::AnomalyRecord;

/// A kind of spike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Far more comes in than goes out, from more than it usually does.
    Flood,
    /// Far more goes out, to few.
    Exfiltration,
    /// Far more peers or ports, with little to each.
    Scan,
    /// More of everything, in proportion.
    Surge,
    /// The numbers don't tell.
    Unclear,
}

impl Kind {
    /// Its name in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flood => "flood",
            Self::Exfiltration => "exfiltration",
            Self::Scan => "scan",
            Self::Surge => "surge",
            Self::Unclear => "unclear",
        }
    }
}

/// One number that the kind rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// What was measured.
    pub measure: Measure,
    /// How much.
    pub actual: f64,
    /// What is usual.
    pub typical: f64,
}

/// The likely kind with its evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Likely {
    /// The kind.
    pub kind: Kind,
    /// The numbers; empty if unclear.
    pub evidence: Vec<Number>,
}

/// Score from which a measure counts as raised.
const RAISED: f64 = 50.0;

/// A record and its companions, by measure.
struct Numbers<'a>(&'a AnomalyRecord);

impl Numbers<'_> {
    fn get(&self, measure: Measure) -> Option<(Number, f64)> {
        let record = self.0;
        if record.measure == measure {
            return Some((Number { measure, actual: record.actual, typical: record.typical }, record.record_score));
        }
        let companion = record.companions.iter().find(|companion| companion.measure == measure)?;
        let number = Number { measure, actual: companion.actual, typical: companion.typical };
        Some((number, companion.record_score))
    }

    fn raised(&self, measure: Measure) -> bool {
        self.get(measure).is_some_and(|(_, score)| score >= RAISED)
    }

    fn actual(&self, measure: Measure) -> f64 {
        self.get(measure).map_or(0.0, |(number, _)| number.actual)
    }

    /// How many times the usual, with an absolute floor so that 3 instead of 1 is not "three times".
    fn times(&self, measure: Measure, floor: f64) -> f64 {
        self.get(measure).map_or(1.0, |(number, _)| number.actual / number.typical.max(floor))
    }

    fn likely(&self, kind: Kind, measures: &[Measure]) -> Likely {
        let evidence = measures.iter().filter_map(|measure| self.get(*measure)).map(|(number, _)| number).collect();
        Likely { kind, evidence }
    }
}

/// The likely kind of the spike that a record reports.
#[must_use]
pub(super) fn of(record: &AnomalyRecord) -> Likely {
    use Measure::{BytesIn, BytesOut, DistinctPeerPorts, DistinctPeers, Events, PacketsIn};
    let numbers = Numbers(record);
    if record.companions.is_empty() {
        return Likely { kind: Kind::Unclear, evidence: Vec::new() };
    }
    let (sent, received) = (numbers.actual(BytesOut), numbers.actual(BytesIn));
    let per_event = (sent + received) / numbers.actual(Events).max(1.0);
    let peers = numbers.raised(DistinctPeers) && numbers.times(DistinctPeers, 5.0) >= 3.0;
    let ports = numbers.raised(DistinctPeerPorts) && numbers.times(DistinctPeerPorts, 5.0) >= 3.0;
    let inbound = numbers.raised(PacketsIn) || numbers.raised(BytesIn);
    let outbound = numbers.raised(BytesOut);
    if inbound && received > 3.0 * sent && numbers.times(PacketsIn, 1000.0) >= 3.0 {
        numbers.likely(Kind::Flood, &[PacketsIn, BytesIn, BytesOut, DistinctPeers])
    } else if (peers || ports) && per_event < 2000.0 {
        numbers.likely(Kind::Scan, &[DistinctPeers, DistinctPeerPorts, Events, BytesOut])
    } else if outbound && sent > 3.0 * received && !peers {
        numbers.likely(Kind::Exfiltration, &[BytesOut, BytesIn, DistinctPeers])
    } else if outbound && inbound {
        numbers.likely(Kind::Surge, &[Events, BytesOut, BytesIn])
    } else {
        Likely { kind: Kind::Unclear, evidence: Vec::new() }
    }
}
