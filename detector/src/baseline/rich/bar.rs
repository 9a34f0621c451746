//! What a series reaches on a usual day, and the score of what reaches higher.

use super::level::Level;

/// Days whose maxima are kept.
pub(super) const DAYS: usize = 28;
/// Decades of evidence per decade of buckets a day: the more looks, the higher the bar.
const PER_DECADE_OF_RATE: f64 = 1.25;
/// The bucket length, in seconds, at which nothing is taken off for the number of looks.
const RATE_OF: f64 = 300.0;
/// What the daily maximum is supposed to be, the share of the rest that is taken off, and how many days that stands for.
const USUAL: f64 = 2.0;
const SHARE: f64 = 0.5;
const DAYS_OF_PRIOR: f64 = 3.0;
/// Taken off on the first day, half of it on the second, and so on: what is young has seen too little to be surprised.
const YOUNG: f64 = 1.2;
/// Evidence over the bar that scores 0, 75 and 100.
const SCORE: (f64, f64, f64) = (1.0, 2.6, 5.6);

/// Evidence over the bar, and -log10 of how many buckets a day reach it on clean synthetic series: measured over ten
/// families and four bucket lengths, from the fourth day on (`tests/benches/detection`).
const CLEAN: [(f64, f64); 7] =
    [(0.0, -2.05), (1.0, -1.19), (2.0, -0.03), (2.6, 0.59), (4.0, 1.64), (5.0, 2.29), (6.0, 2.77)];

/// The daily maxima of a series' evidence.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bar {
    pub(super) maxima: [f32; DAYS],
    pub(super) days: u8,
    pub(super) next: u8,
    /// The current day, since 1970; -1 before the first.
    pub(super) day: i32,
    pub(super) today: Level,
    pub(super) offset: Level,
}

/// Decades taken off for the number of buckets a day.
fn looks(span_s: u32) -> f64 {
    PER_DECADE_OF_RATE * libm::log10(RATE_OF / f64::from(span_s).clamp(1.0, RATE_OF))
}

impl Bar {
    pub(super) const NEW: Self =
        Self { maxima: [0.0; DAYS], days: 0, next: 0, day: -1, today: Level(0.0), offset: Level(0.0) };

    /// How far `evidence` exceeds the bar; then learns it.
    pub(super) fn observe(&mut self, evidence: f64, day: i64, span_s: u32) -> f64 {
        let day = day as i32;
        if day != self.day {
            if self.day >= 0 {
                self.close_day(span_s);
            }
            (self.day, self.today) = (day, Level(0.0));
        }
        self.today.set(self.today.get().max(evidence));
        evidence - looks(span_s) - self.offset.get() - YOUNG / (1.0 + f64::from(self.days))
    }

    fn close_day(&mut self, span_s: u32) {
        let next = usize::from(self.next) % DAYS;
        self.maxima[next] = self.today.0;
        self.next = ((next + 1) % DAYS) as u8;
        self.days = (self.days + 1).min(DAYS as u8);
        let days = usize::from(self.days);
        let mut known = self.maxima;
        let known = &mut known[..days];
        known.sort_by(f32::total_cmp);
        let usual = f64::from(known[days / 2]);
        let trust = f64::from(self.days) / (f64::from(self.days) + DAYS_OF_PRIOR);
        self.offset.set(SHARE * (usual - (USUAL + looks(span_s))) * trust);
    }
}

/// The probability that a clean bucket of that length has as much evidence over the bar.
#[must_use]
pub fn probability(evidence: f64, span_s: u32) -> f64 {
    let after = CLEAN.iter().position(|(knot, _)| *knot > evidence).unwrap_or(CLEAN.len()).clamp(1, CLEAN.len() - 1);
    let ((left, low), (right, high)) = (CLEAN[after - 1], CLEAN[after]);
    let decades = low + (high - low) * (evidence - left) / (right - left);
    (libm::exp10(-decades) * f64::from(span_s) / 86_400.0).clamp(0.0, 1.0)
}

/// The least score that clean series reach in no more than so many buckets a day; 100 if they do so more often.
#[must_use]
pub fn score_at(buckets_a_day: f64) -> f64 {
    let decades = -libm::log10(buckets_a_day);
    let after = CLEAN.iter().position(|(_, knot)| *knot > decades).unwrap_or(CLEAN.len()).clamp(1, CLEAN.len() - 1);
    let ((left, low), (right, high)) = (CLEAN[after - 1], CLEAN[after]);
    score(left + (right - left) * (decades - low) / (high - low))
}

/// 0 to 100 of evidence over the bar.
pub(super) fn score(evidence: f64) -> f64 {
    let (none, critical, full) = SCORE;
    if evidence < critical {
        return (75.0 * (evidence - none) / (critical - none)).max(0.0);
    }
    (75.0 + 25.0 * (evidence - critical) / (full - critical)).min(100.0)
}
