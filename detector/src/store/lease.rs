//! Who leads: terms and leases.
//!
//! A term is a fencing number. Every transaction that writes first locks and compares it, so a leader that was replaced
//! writes nothing, whatever it believes. The lease only says when another may take over; no safety depends on it.

use std::{fmt, time::Duration};

/// The number of a leadership. Each is used by one leader once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term(pub(super) u64);

impl Term {
    /// The term of that number: for a store that gives it out.
    #[must_use]
    pub fn of(number: u64) -> Self {
        Self(number)
    }

    /// The number: 1 for the first leader of a store.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who leads at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Under which term.
    pub term: Term,
    /// What it called itself when it took the term: where it is reached.
    pub holder: String,
    /// Until others may take over, if it doesn't renew.
    pub remaining: Duration,
}

/// The answer to whoever wants to lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It leads from now on. The caller counts its lease from before it asked.
    Taken(Term),
    /// Somebody else does.
    HeldBy(Leader),
}
