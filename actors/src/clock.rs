//! The clock: the system's, event time that a source of recorded traffic advances, or what a simulator says.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// Tells the time in milliseconds since 1970-01-01T00:00:00Z. Clones agree.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Event(Arc<AtomicU64>),
    Told(Arc<dyn Fn() -> u64 + Send + Sync>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Event(_) => "Event",
            Self::Told(_) => "Told",
        })
    }
}

impl Clock {
    /// The system's clock. It may step back; nothing whose correctness matters compares two of its readings.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at 0 until its [`EventClock`] advances it.
    #[must_use]
    pub fn event() -> (Self, EventClock) {
        let now = Arc::new(AtomicU64::new(0));
        (Self(Source::Event(Arc::clone(&now))), EventClock(now))
    }

    /// A clock that shows what `now_ms` says: a simulator's, which may be off.
    #[must_use]
    pub fn told(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Source::Told(Arc::new(now_ms)))
    }

    /// Now, ms.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Source::Event(now) => now.load(Ordering::Acquire),
            Source::System => system_ms(),
            Source::Told(now_ms) => now_ms(),
        }
    }

    /// What the clock on the wall shows, ms, also where time is what recorded traffic says: for latencies.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        match &self.0 {
            Source::System | Source::Event(_) => system_ms(),
            Source::Told(now_ms) => now_ms(),
        }
    }

    /// True if time is what recorded traffic says, so that nothing may wait for it to pass by itself.
    #[must_use]
    pub fn is_event_time(&self) -> bool {
        matches!(self.0, Source::Event(_))
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the seam")]
fn system_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Advances the event [`Clock`] it was made with.
#[derive(Debug, Clone)]
pub struct EventClock(Arc<AtomicU64>);

impl EventClock {
    /// Moves the clock to `now_ms`; a time before the clock's is ignored, so it never goes back.
    pub fn advance(&self, now_ms: u64) {
        self.0.fetch_max(now_ms, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_time_never_goes_back() {
        let (clock, event) = Clock::event();
        let other = clock.clone();
        event.advance(500);
        event.advance(400);
        assert_eq!((clock.now_ms(), other.now_ms()), (500, 500));
        assert!(clock.is_event_time());
    }

    #[test]
    fn a_simulator_tells_the_time_wall_and_all() {
        let clock = Clock::told(|| 7);
        assert_eq!((clock.now_ms(), clock.wall_ms(), clock.is_event_time()), (7, 7, false));
    }

    #[test]
    fn system_time_is_of_this_age() {
        assert!(Clock::system().now_ms() > 1_700_000_000_000);
        let (recorded, _) = Clock::event();
        assert!(recorded.wall_ms() > 1_700_000_000_000);
        assert!(!Clock::system().is_event_time());
    }
}
