//! Event times, out of the dozen ways in which exporters tell them.

use spikewatch_domain::record::EventMillis;

use super::field::{Slot, Values};

/// Seconds between the NTP era (1900), in which IPFIX counts micro- and nanoseconds (RFC 7011 section 6.1.9), and 1970.
const NTP_TO_UNIX: u32 = 2_208_988_800;

/// What the header of an export message says of time.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExportClock {
    /// Time of export, ms since 1970.
    pub(super) export_ms: EventMillis,
    /// Time since the exporter started (ms, wraps after 49.7 days), where the header has it.
    pub(super) uptime_ms: Option<u32>,
    /// When the exporter started, where its options data say so (IPFIX systemInitTimeMilliseconds).
    pub(super) init_ms: Option<EventMillis>,
}

impl ExportClock {
    /// The event time of a system uptime. It may be a little ahead of the header's, or from before the counter wrapped.
    pub(super) fn at_uptime(&self, uptime: u32) -> Option<EventMillis> {
        let since_export = i64::from(uptime.wrapping_sub(self.uptime_ms?).cast_signed());
        Some(self.export_ms.saturating_add_signed(since_export))
    }

    /// Start and end of a flow. Where only one is told, or none, a duration or the export time stand in.
    pub(super) fn span(&self, values: &Values) -> (EventMillis, EventMillis) {
        let observed = || {
            let millis = values.positive(Slot::ObservedMillis);
            millis.or_else(|| seconds(values, Slot::ObservedSeconds))
        };
        match (self.absolute(values, &START), self.absolute(values, &END)) {
            (Some(start), Some(end)) => (start, end),
            (Some(start), None) => {
                let end = duration(values).map(|duration| start.saturating_add(duration));
                (start, end.or_else(observed).unwrap_or(start))
            }
            (None, end) => {
                let end = end.or_else(observed).unwrap_or(self.export_ms);
                (end.saturating_sub(duration(values).unwrap_or(0)), end)
            }
        }
    }

    fn absolute(&self, values: &Values, slots: &TimeSlots) -> Option<EventMillis> {
        values
            .positive(slots.millis)
            .or_else(|| self.uptime(values, slots.uptime))
            .or_else(|| seconds(values, slots.seconds))
            .or_else(|| values.positive(slots.micros).map(ntp_millis))
            .or_else(|| values.positive(slots.nanos).map(ntp_millis))
            .or_else(|| values.get(slots.delta_micros).map(|micros| self.export_ms.saturating_sub(micros / 1000)))
    }

    fn uptime(&self, values: &Values, slot: Slot) -> Option<EventMillis> {
        let uptime = u32::try_from(values.get(slot)?).ok()?;
        self.at_uptime(uptime).or_else(|| {
            let init = values.positive(Slot::InitMillis).or(self.init_ms)?;
            Some(init.saturating_add(u64::from(uptime)))
        })
    }
}

struct TimeSlots {
    millis: Slot,
    uptime: Slot,
    seconds: Slot,
    micros: Slot,
    nanos: Slot,
    delta_micros: Slot,
}

const START: TimeSlots = TimeSlots {
    millis: Slot::StartMillis,
    uptime: Slot::StartUptime,
    seconds: Slot::StartSeconds,
    micros: Slot::StartMicros,
    nanos: Slot::StartNanos,
    delta_micros: Slot::StartDelta,
};

const END: TimeSlots = TimeSlots {
    millis: Slot::EndMillis,
    uptime: Slot::EndUptime,
    seconds: Slot::EndSeconds,
    micros: Slot::EndMicros,
    nanos: Slot::EndNanos,
    delta_micros: Slot::EndDelta,
};

fn seconds(values: &Values, slot: Slot) -> Option<EventMillis> {
    values.positive(slot).map(|seconds| seconds.saturating_mul(1000))
}

/// A 32.32 bit NTP timestamp as ms since 1970. Its seconds wrap in 2036.
fn ntp_millis(ntp: u64) -> EventMillis {
    let seconds = ((ntp >> 32) as u32).wrapping_sub(NTP_TO_UNIX);
    let fraction = ntp & u64::from(u32::MAX);
    u64::from(seconds) * 1000 + ((fraction * 1000) >> 32)
}

/// How long a flow lasted, where its ends are not both told: as such, or as the difference of two uptimes.
fn duration(values: &Values) -> Option<u64> {
    let millis = values.get(Slot::DurationMillis);
    let micros = || Some(values.get(Slot::DurationMicros)? / 1000);
    let uptimes = || values.get(Slot::EndUptime)?.checked_sub(values.get(Slot::StartUptime)?);
    millis.or_else(micros).or_else(uptimes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: ExportClock = ExportClock { export_ms: 1_700_000_000_000, uptime_ms: Some(5_000), init_ms: None };

    fn values(fields: &[(Slot, u64)]) -> Values {
        let mut values = Values::new();
        for (slot, value) in fields {
            values.set(*slot, &value.to_be_bytes());
        }
        values
    }

    #[test]
    fn uptimes_may_come_from_before_the_counter_wrapped() {
        assert_eq!(CLOCK.at_uptime(4_000), Some(1_699_999_999_000));
        assert_eq!(CLOCK.at_uptime(u32::MAX), Some(1_699_999_994_999));
        assert_eq!(CLOCK.at_uptime(6_000), Some(1_700_000_001_000));
    }

    #[test]
    fn every_way_to_tell_a_time_counts() {
        let ntp = (1_699_999_990 + u64::from(NTP_TO_UNIX)) << 32 | 1 << 31;
        for (fields, expected) in [
            (vec![(Slot::StartMillis, 1_000), (Slot::EndMillis, 2_000)], (1_000, 2_000)),
            (vec![(Slot::StartSeconds, 1), (Slot::EndSeconds, 2)], (1_000, 2_000)),
            (vec![(Slot::StartUptime, 1_000), (Slot::EndUptime, 2_000)], (1_699_999_996_000, 1_699_999_997_000)),
            (vec![(Slot::StartMicros, ntp), (Slot::EndNanos, ntp)], (1_699_999_990_500, 1_699_999_990_500)),
            (vec![(Slot::StartDelta, 3_000_000), (Slot::EndDelta, 0)], (1_699_999_997_000, 1_700_000_000_000)),
            (vec![(Slot::StartMillis, 1_000), (Slot::DurationMillis, 500)], (1_000, 1_500)),
            (vec![(Slot::EndMillis, 2_000), (Slot::DurationMicros, 500_000)], (1_500, 2_000)),
            (vec![(Slot::ObservedMillis, 9)], (9, 9)),
            (vec![(Slot::StartMillis, 7), (Slot::ObservedMillis, 9)], (7, 9)),
            (vec![(Slot::StartMillis, 0), (Slot::EndSeconds, 0)], (1_700_000_000_000, 1_700_000_000_000)),
        ] {
            assert_eq!(CLOCK.span(&values(&fields)), expected, "{fields:?}");
        }
    }

    #[test]
    fn without_an_uptime_in_the_header_the_start_of_the_system_is_needed() {
        let clock = ExportClock { uptime_ms: None, ..CLOCK };
        let uptimes = [(Slot::StartUptime, 1_000), (Slot::EndUptime, 4_000)];
        assert_eq!(clock.span(&values(&uptimes)), (1_699_999_997_000, 1_700_000_000_000));
        let [start, end] = uptimes;
        assert_eq!(clock.span(&values(&[start, end, (Slot::InitMillis, 50_000)])), (51_000, 54_000));
        let told = ExportClock { init_ms: Some(90_000), ..clock };
        assert_eq!(told.span(&values(&uptimes)), (91_000, 94_000));
    }
}
