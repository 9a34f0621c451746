//! What a logarithm usually is at each hour of the day (UTC). Hosts meet new peers when people work, and backups at night
//! meet none: bytes for a stranger at an hour without any are worth more.

const HOURS: usize = 24;
/// How fast an hour follows once it is known.
const RATE: f64 = 0.02;
/// By how much one bucket pulls at most: an attack must not become the new normal.
const MOST: f64 = 1.0;
/// Units of an hour's mean.
const UNIT: f64 = 1024.0;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Hours {
    pub(super) usual: [i16; HOURS],
    /// Buckets seen of each hour, up to 250.
    pub(super) seen: [u8; HOURS],
}

impl Hours {
    /// By how much a value of the bucket that starts at `t` (s) is above what is usual at its hour; learns it.
    pub(super) fn above(&mut self, t: i64, value: f64) -> f64 {
        let hour = (t.rem_euclid(86_400) / 3600) as usize % HOURS;
        let (usual, seen) = (f64::from(self.usual[hour]) / UNIT, self.seen[hour]);
        let above = value - usual;
        let learnt = match seen {
            0 => value,
            _ => usual + RATE.max(1.0 / (1.0 + f64::from(seen))) * above.min(MOST),
        };
        // Logarithms of what 64 bits count are below 31.
        self.usual[hour] = (learnt.clamp(0.0, 31.0) * UNIT + 0.5).floor() as i16;
        self.seen[hour] = seen.saturating_add(1).min(250);
        above
    }

    /// The mean over the hours.
    pub(super) fn mean(&self) -> f64 {
        self.usual.iter().map(|units| f64::from(*units)).sum::<f64>() / UNIT / HOURS as f64
    }
}
