//! What kind of spike it probably is, and on which numbers that rests. Numbers decide, or it stays unclear.
//!
//! All rules look at what came on top of the usual: the excess of each measure over its forecast, and how many times the
//! forecast it is. In this order:
//!
//! 1. Bytes for peers that the host did not know: exfiltration, unless as much comes back.
//! 2. Many small packets come in, or large ones from many more sources than usual, and not one for each of many ports:
//!    a flood.
//! 3. Many more events, nearly as many more peers or ports, next to no bytes in each: a scan.
//! 4. Events and bytes in both directions rise in the usual proportion: a surge.
//! 5. Bytes go out, hardly any come in, and most of them to one peer or to unknown ones: exfiltration.

use spikewatch_domain::window::Measure;
use spikewatch_proto::convert::results::AnomalyRecord;

use crate::{job::Function, joint::UNKNOWN};

/// A kind of spike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Far more packets come in than usual, small ones or from many.
    Flood,
    /// Far more goes out, to few or to new peers.
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
    /// A measure's name, or what was made of several.
    pub what: &'static str,
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

impl Likely {
    const UNCLEAR: Self = Self { kind: Kind::Unclear, evidence: Vec::new() };
}

/// Extra packets of a flood carry fewer bytes than that each.
const SMALL_PACKET: f64 = 200.0;
/// Above 0, a part of the joint evidence is more than a usual day reaches.
const UNUSUAL: f64 = 0.0;

/// A measure of the window.
#[derive(Debug, Clone, Copy, Default)]
struct Quantity {
    actual: f64,
    typical: f64,
}

impl Quantity {
    fn excess(self) -> f64 {
        (self.actual - self.typical).max(0.0)
    }

    fn times(self) -> f64 {
        (self.actual + 1.0) / (self.typical + 1.0)
    }

    fn number(self, what: &'static str) -> Number {
        Number { what, actual: self.actual, typical: self.typical }
    }
}

/// A record and its companions, by measure.
struct Window<'a>(&'a AnomalyRecord);

impl Window<'_> {
    fn of(&self, measure: Measure) -> Option<Quantity> {
        let record = self.0;
        let companion = record.companions.iter().find(|companion| companion.measure == measure);
        let companion = companion.map(|other| Quantity { actual: other.actual, typical: other.typical });
        let own = || Quantity { actual: record.actual, typical: record.typical };
        // The record of bytes to new peers is one of bytes out, and not of all of them; a mean is not a total.
        let total = Function::named(&record.function).is_some_and(Function::only_grows);
        companion.or_else(|| (record.measure == measure && total).then(own))
    }

    fn get(&self, measure: Measure) -> Quantity {
        self.of(measure).unwrap_or_default()
    }

    fn is_to_new_peers(&self) -> bool {
        self.0.function == Function::Exfiltration.name()
    }

    /// A part of the joint evidence, where it is known.
    fn part(&self, name: &str) -> Option<f64> {
        let part = self.0.parts.iter().find(|part| part.name == name)?;
        (part.decades > UNKNOWN).then_some(part.decades)
    }

    /// Share of the window's bytes that went to or came from its heaviest peer.
    fn heaviest_share(&self) -> f64 {
        let heaviest = self.0.contributors.iter().filter(|who| who.field == "peer").map(|who| who.bytes).max();
        let all = self.get(Measure::BytesOut).actual + self.get(Measure::BytesIn).actual;
        heaviest.unwrap_or(0) as f64 / all.max(1.0)
    }
}

/// The likely kind of the spike that a record reports.
#[must_use]
pub(super) fn of(record: &AnomalyRecord) -> Likely {
    let window = Window(record);
    if record.companions.is_empty() {
        return Likely::UNCLEAR;
    }
    let rules = [to_new_peers, flood, scan, surge, exfiltration];
    rules.iter().find_map(|rule| rule(&window)).unwrap_or(Likely::UNCLEAR)
}

fn to_new_peers(window: &Window<'_>) -> Option<Likely> {
    use Measure::{BytesIn, BytesOut, Events};
    if !window.is_to_new_peers() {
        return None;
    }
    let [events, out, back] = [Events, BytesOut, BytesIn].map(|measure| window.get(measure));
    let alone = out.excess() > 2.0 * back.excess() || events.times() < 2.0;
    let new = Number { what: "bytes_out_to_new_peers", actual: window.0.actual, typical: window.0.typical };
    Some(Likely {
        kind: if alone { Kind::Exfiltration } else { Kind::Surge },
        evidence: vec![new, out.number("bytes_out"), back.number("bytes_in"), events.number("events")],
    })
}

fn flood(window: &Window<'_>) -> Option<Likely> {
    use Measure::{BytesIn, BytesOut, DistinctPeers, PacketsIn};
    let [received, sent, packets, peers] =
        [BytesIn, BytesOut, PacketsIn, DistinctPeers].map(|measure| window.get(measure));
    // What answers it is never more than what comes; a scan's answers are.
    let inbound = match window.of(Measure::PacketsOut) {
        Some(out) => packets.excess() > 1.2 * out.excess(),
        None => received.excess() > 1.2 * sent.excess(),
    };
    if packets.times() <= 1.8 || !inbound || is_sweep_of_ports(window) {
        return None;
    }
    let size = received.excess() / packets.excess().max(1.0);
    let small = size < SMALL_PACKET;
    let reflected = received.excess() > 10.0 * sent.excess() && peers.times() > 3.0 && peers.excess() > 20.0;
    let usual_size = received.typical / packets.typical.max(1.0);
    let size = Number { what: "bytes_per_extra_packet_in", actual: size, typical: usual_size };
    (small || reflected).then(|| Likely {
        kind: Kind::Flood,
        evidence: vec![
            packets.number("packets_in"),
            size,
            received.number("bytes_in"),
            sent.number("bytes_out"),
            peers.number("distinct_peers"),
        ],
    })
}

/// Many ports, and no more peers than usual: somebody tries them one by one, and packets come with that.
fn is_sweep_of_ports(window: &Window<'_>) -> bool {
    use Measure::{DistinctPeerPorts, DistinctPeers, Events};
    let [events, peers, ports] = [Events, DistinctPeers, DistinctPeerPorts].map(|measure| window.get(measure));
    ports.excess() > 0.3 * events.excess() && ports.times() > 2.0 && ports.excess() > 20.0 && peers.times() < 2.0
}

/// Bytes of an extra event, and of a usual one.
fn event_size(window: &Window<'_>) -> Quantity {
    use Measure::{BytesIn, BytesOut, Events};
    let [events, out, back] = [Events, BytesOut, BytesIn].map(|measure| window.get(measure));
    Quantity {
        actual: (out.excess() + back.excess() + 1.0) / events.excess().max(1.0),
        typical: (out.typical + back.typical + 1.0) / events.typical.max(1.0),
    }
}

fn scan(window: &Window<'_>) -> Option<Likely> {
    use Measure::{DistinctPeerPorts, DistinctPeers, Events};
    let [events, peers, ports] = [Events, DistinctPeers, DistinctPeerPorts].map(|measure| window.get(measure));
    let fan = peers.excess().max(ports.excess());
    let wide = fan > 0.3 * events.excess() && peers.times().max(ports.times()) > 2.0;
    let size = event_size(window);
    (events.times() > 2.0 && wide && size.actual < 0.3 * size.typical).then(|| Likely {
        kind: Kind::Scan,
        evidence: vec![
            peers.number("distinct_peers"),
            ports.number("distinct_peer_ports"),
            events.number("events"),
            size.number("bytes_per_extra_event"),
        ],
    })
}

fn surge(window: &Window<'_>) -> Option<Likely> {
    use Measure::{BytesIn, BytesOut, Events};
    let [events, out, back] = [Events, BytesOut, BytesIn].map(|measure| window.get(measure));
    let size = event_size(window);
    let usual = (0.2..5.0).contains(&(size.actual / size.typical));
    (events.times() > 1.15 && out.times() > 1.2 && back.times() > 1.2 && usual).then(|| Likely {
        kind: Kind::Surge,
        evidence: vec![
            events.number("events"),
            out.number("bytes_out"),
            back.number("bytes_in"),
            size.number("bytes_per_extra_event"),
        ],
    })
}

fn exfiltration(window: &Window<'_>) -> Option<Likely> {
    use Measure::{BytesIn, BytesOut, DistinctPeers};
    let [out, back, peers] = [BytesOut, BytesIn, DistinctPeers].map(|measure| window.get(measure));
    let outbound = out.excess() > 4.0 * back.excess() && out.times() > 1.2;
    let to_unknown = window.part("new_peers_share_12h").is_some_and(|decades| decades > UNUSUAL);
    let to_one = window.heaviest_share() > 0.5 && peers.times() < 2.0;
    (outbound && (to_unknown || to_one)).then(|| Likely {
        kind: Kind::Exfiltration,
        evidence: vec![out.number("bytes_out"), back.number("bytes_in"), peers.number("distinct_peers")],
    })
}
