//! Who leads: the state machine of one detector. Pure; the actor around it (`leader::actor`) asks the store and runs the reign.
//!
//! The lease is judged by the store's clock. The leader counts it from before it asked, on a monotonic clock, and stops
//! by itself a margin before it ends, so that what no term fences (routes, answers, sinks) comes from one detector at a
//! time. Commits don't depend on it: every one checks the term in its own transaction.

mod actor;
mod reign;
mod standby;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use self::{
    actor::{Lead, Leadership, lead},
    reign::{Plan, Reign},
};
use crate::store::{Claim, Term};

/// Longest wait after a reign that failed.
const LONGEST_WAIT_MS: u64 = 30_000;
/// A reign that lasted so long was a good one: the next failure counts as the first.
const GOOD_REIGN_MS: u64 = 60_000;

/// Where a detector stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Another leads, or nobody yet.
    Standby {
        /// Where the one is reached that leads, if it is known.
        leader: Option<String>,
    },
    /// It has the term, and reads what it needs to commit.
    TakingOver(Term),
    /// It leads.
    Leading(Term),
    /// It has given up its lease and asks for none any more.
    Stopping,
}

/// What happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The store answered the claim.
    Claimed(Claim),
    /// The store extended the lease.
    Renewed,
    /// The store did not answer, or couldn't.
    Unanswered,
    /// Another has taken over.
    Deposed,
    /// All is read: it commits from now on.
    Began,
    /// The reign failed.
    Failed,
    /// The node shuts down.
    Stop,
    /// Time passed.
    Tick,
}

/// What it wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask the store for the lease.
    Claim,
    /// Ask the store for more time.
    Renew(Term),
    /// Begin to lead.
    Begin(Term),
    /// Drop everything that leading needs.
    End,
    /// Give the lease back.
    Release(Term),
}

/// How long what lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The lease.
    pub lease: Duration,
}

impl Timing {
    fn lease_ms(self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX)
    }

    /// Between two looks at the lease of another, and two tries to renew one's own.
    fn poll_ms(self) -> u64 {
        (self.lease_ms() / 10).clamp(50, 2000)
    }

    /// The leader stops so long before the end of its lease: what it does may take as long.
    fn margin_ms(self) -> u64 {
        self.lease_ms() / 5
    }
}

/// See the module.
#[derive(Debug)]
pub struct Leader {
    timing: Timing,
    state: State,
    /// When the question was asked that waits for its answer.
    asked_ms: Option<u64>,
    /// When to ask next.
    ask_ms: u64,
    /// When the lease ends, as far as this detector knows.
    until_ms: u64,
    began_ms: u64,
    wait_ms: u64,
}

impl Leader {
    /// One that stands by.
    #[must_use]
    pub fn new(timing: Timing, now_ms: u64) -> Self {
        let state = State::Standby { leader: None };
        Self { timing, state, asked_ms: None, ask_ms: now_ms, until_ms: 0, began_ms: 0, wait_ms: 0 }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// When time alone changes something next.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let ask = self.asked_ms.is_none().then_some(self.ask_ms);
        let end = self.term().map(|_| self.until_ms.saturating_sub(self.timing.margin_ms()));
        let ask = if self.state == State::Stopping { None } else { ask };
        ask.into_iter().chain(end).min()
    }

    /// The lease may end before what is begun now is done.
    fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.until_ms.saturating_sub(self.timing.margin_ms())
    }

    fn term(&self) -> Option<Term> {
        match self.state {
            State::TakingOver(term) | State::Leading(term) => Some(term),
            State::Standby { .. } | State::Stopping => None,
        }
    }

    /// Takes one event. `now_ms` is a monotonic clock.
    pub fn on(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        match event {
            Event::Claimed(claim) => self.claimed(claim, now_ms),
            Event::Renewed => {
                if let Some(asked) = self.asked_ms.take() {
                    self.until_ms = asked.saturating_add(self.timing.lease_ms());
                    self.ask_ms = now_ms + self.timing.lease_ms() / 3;
                }
                Vec::new()
            }
            Event::Unanswered => {
                self.asked_ms = None;
                self.ask_ms = now_ms + self.timing.poll_ms();
                Vec::new()
            }
            Event::Deposed => {
                self.asked_ms = None;
                // Let the other one get going.
                self.stand_by(now_ms + self.timing.poll_ms())
            }
            Event::Began => {
                let State::TakingOver(term) = self.state else { return Vec::new() };
                if self.is_over(now_ms) {
                    return self.stand_by(now_ms + self.timing.poll_ms());
                }
                self.state = State::Leading(term);
                Vec::new()
            }
            Event::Failed => self.failed(now_ms),
            Event::Stop => {
                let term = self.term();
                self.state = State::Stopping;
                term.map(|term| vec![Action::End, Action::Release(term)]).unwrap_or_default()
            }
            Event::Tick => self.tick(now_ms),
        }
    }

    fn claimed(&mut self, claim: Claim, now_ms: u64) -> Vec<Action> {
        let asked = self.asked_ms.take();
        match (&self.state, claim) {
            (State::Stopping, Claim::Taken(term)) => vec![Action::Release(term)],
            (State::Standby { .. }, Claim::Taken(term)) => {
                self.until_ms = asked.unwrap_or(now_ms).saturating_add(self.timing.lease_ms());
                if self.is_over(now_ms) {
                    // The answer took so long that another may lead by now.
                    self.ask_ms = now_ms + self.timing.poll_ms();
                    return Vec::new();
                }
                self.state = State::TakingOver(term);
                self.began_ms = now_ms;
                self.ask_ms = now_ms + self.timing.lease_ms() / 3;
                vec![Action::Begin(term)]
            }
            (State::Standby { .. }, Claim::HeldBy(leader)) => {
                // Its lease may end before the next look is due.
                let remaining = u64::try_from(leader.remaining.as_millis()).unwrap_or(u64::MAX);
                self.ask_ms = now_ms.saturating_add(self.timing.poll_ms().min(remaining.max(20)));
                let address = leader.holder.split(' ').next().unwrap_or_default().to_owned();
                self.state = State::Standby { leader: Some(address) };
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn failed(&mut self, now_ms: u64) -> Vec<Action> {
        let Some(term) = self.term() else { return Vec::new() };
        if now_ms.saturating_sub(self.began_ms) >= GOOD_REIGN_MS {
            self.wait_ms = 0;
        }
        self.wait_ms = (self.wait_ms * 2).clamp(200, LONGEST_WAIT_MS);
        let mut actions = self.stand_by(now_ms + self.wait_ms);
        // Another may do better.
        actions.push(Action::Release(term));
        actions
    }

    fn tick(&mut self, now_ms: u64) -> Vec<Action> {
        let Some(term) = self.term() else {
            if self.state == State::Stopping || self.asked_ms.is_some() || now_ms < self.ask_ms {
                return Vec::new();
            }
            self.asked_ms = Some(now_ms);
            return vec![Action::Claim];
        };
        if self.is_over(now_ms) {
            return self.stand_by(now_ms + self.timing.poll_ms());
        }
        if self.asked_ms.is_some() || now_ms < self.ask_ms {
            return Vec::new();
        }
        self.asked_ms = Some(now_ms);
        vec![Action::Renew(term)]
    }

    fn stand_by(&mut self, ask_ms: u64) -> Vec<Action> {
        let ends = self.term().is_some();
        // The actor drops the question with the reign.
        self.asked_ms = None;
        if self.state != State::Stopping {
            self.state = State::Standby { leader: None };
            self.ask_ms = ask_ms;
        }
        if ends { vec![Action::End] } else { Vec::new() }
    }
}
