//! What an exporter's sequence numbers say was lost on the way.

use serde::{Deserialize, Serialize};

/// A gap larger than this many units is taken for a restart: nobody loses that much and comes back in order.
const PLAUSIBLE_GAP: u32 = 1 << 20;

/// What one datagram's sequence number said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// As expected, or the first ever.
    InOrder,
    /// This many units before it are missing.
    Gap(u32),
    /// It is late, or a duplicate; its units were counted as missing, if it is late.
    Late(u32),
    /// The exporter started to count anew.
    Restart,
}

/// The sequence of one exporter and domain. Units are datagrams or records, as the format counts.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Sequence {
    expected: Option<u32>,
    uptime_ms: u32,
    /// The number that would follow the late datagram seen last: if it comes, the exporter has restarted.
    after_late: Option<u32>,
}

impl Sequence {
    /// Takes in a datagram that carries number `sequence` and `units` units; `None` if they can't be counted, so that
    /// nothing can be expected of the next. `uptime_ms` goes back only when an exporter restarts (or wraps after 49 days).
    pub(super) fn on(&mut self, sequence: u32, units: Option<u32>, uptime_ms: Option<u32>) -> Arrival {
        let arrival = self.judge(sequence, units, uptime_ms);
        let next = units.map(|units| sequence.wrapping_add(units));
        if matches!(arrival, Arrival::Late(_)) {
            self.after_late = next;
        } else {
            self.after_late = None;
            self.expected = next;
            self.uptime_ms = uptime_ms.unwrap_or(0);
        }
        arrival
    }

    fn judge(&self, sequence: u32, units: Option<u32>, uptime_ms: Option<u32>) -> Arrival {
        let Some(expected) = self.expected else { return Arrival::InOrder };
        let ahead = sequence.wrapping_sub(expected);
        if ahead == 0 {
            Arrival::InOrder
        } else if ahead <= PLAUSIBLE_GAP {
            Arrival::Gap(ahead)
        } else if ahead.wrapping_neg() <= PLAUSIBLE_GAP
            && self.after_late != Some(sequence)
            && !uptime_ms.is_some_and(|uptime| self.has_restarted(uptime))
        {
            Arrival::Late(units.unwrap_or(0))
        } else {
            Arrival::Restart
        }
    }

    /// A late datagram is a little older; more than a minute is no disorder of the network.
    fn has_restarted(&self, uptime_ms: u32) -> bool {
        uptime_ms.saturating_add(60_000) < self.uptime_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_counted_and_late_ones_are_not_gaps() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.on(100, Some(30), None), Arrival::InOrder);
        assert_eq!(sequence.on(130, Some(30), None), Arrival::InOrder);
        assert_eq!(sequence.on(190, Some(10), None), Arrival::Gap(30));
        assert_eq!(sequence.on(160, Some(30), None), Arrival::Late(30));
        assert_eq!(sequence.on(200, Some(1), None), Arrival::InOrder);
    }

    #[test]
    fn the_number_wraps() {
        let mut sequence = Sequence::default();
        sequence.on(u32::MAX, Some(1), None);
        assert_eq!(sequence.on(0, Some(1), None), Arrival::InOrder);
        assert_eq!(sequence.on(3, Some(1), None), Arrival::Gap(2));
    }

    #[test]
    fn a_restart_is_seen_by_the_uptime_or_by_the_second_datagram() {
        let mut by_uptime = Sequence::default();
        by_uptime.on(500, Some(1), Some(900_000));
        assert_eq!(by_uptime.on(0, Some(1), Some(1_000)), Arrival::Restart);
        assert_eq!(by_uptime.on(1, Some(1), Some(2_000)), Arrival::InOrder);

        let mut by_number = Sequence::default();
        by_number.on(500, Some(1), None);
        assert_eq!(by_number.on(0, Some(1), None), Arrival::Late(1));
        assert_eq!(by_number.on(1, Some(1), None), Arrival::Restart);
        assert_eq!(by_number.on(2, Some(1), None), Arrival::InOrder);
    }

    #[test]
    fn after_a_datagram_that_could_not_be_counted_nothing_is_expected() {
        let mut sequence = Sequence::default();
        sequence.on(10, None, None);
        assert_eq!(sequence.on(900, Some(1), None), Arrival::InOrder);
    }
}
