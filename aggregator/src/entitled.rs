//! Which shards are this aggregator's, and how far it is with each: to be opened, open, or about to be let go. Pure.
//!
//! A shard stays open while the connection to the detector is broken, and goes on under its epoch if that is still the
//! newest when it is back: nothing has to be sent again.

use std::collections::BTreeMap;

use spikewatch_proto::{
    convert::{
        Invalid,
        cluster::{Epoch, Shape},
    },
    v1,
};
use tokio::time::{Duration, Instant};

/// How long a refused shard waits before it asks again.
const REOPEN_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be opened; under the epoch that it is held by already, if any.
    Closed(Option<Epoch>),
    /// Asked for, not yet answered.
    Opening(Option<Epoch>),
    /// Refused: to be asked for again then.
    Refused(Instant),
    Open(Epoch),
    /// It was asked back, and something is in flight.
    LettingGo,
    LetGo,
}

#[derive(Debug, Clone, Copy)]
struct Shard {
    since: u64,
    state: State,
}

/// What an assignment changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Owned no longer, or to be opened anew.
    pub(crate) close: Vec<u32>,
    /// Now to be asked for, each with the epoch it is held by.
    pub(crate) open: Vec<(u32, Option<Epoch>)>,
    /// To be let go.
    pub(crate) let_go: Vec<u32>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Entitled {
    number: u64,
    shards: BTreeMap<u32, Shard>,
}

impl Entitled {
    /// Number of the newest assignment.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Number of shards.
    pub(crate) fn len(&self) -> usize {
        self.shards.len()
    }

    /// Shards that are not open yet.
    pub(crate) fn opening(&self) -> usize {
        let waits = |shard: &&Shard| matches!(shard.state, State::Closed(_) | State::Opening(_) | State::Refused(_));
        self.shards.values().filter(waits).count()
    }

    /// Takes an assignment.
    ///
    /// # Errors
    /// A field doesn't hold what it should.
    pub(crate) fn assign(&mut self, assignment: &v1::Assignment, shape: &Shape) -> Result<Changes, Invalid> {
        let v1::Assignment { number, shard, since, release, .. } = assignment;
        if shard.len() != since.len() {
            let problem = format!("has {} entries for {} shards", since.len(), shard.len());
            return Err(Invalid::new("Assignment.since", problem));
        }
        let mut mine = BTreeMap::new();
        for (shard, since) in shard.iter().zip(since) {
            mine.insert(shape.shard("Assignment.shard", *shard)?, *since);
        }
        let mut changes = Changes::default();
        changes.close.extend(self.shards.extract_if(.., |shard, _| !mine.contains_key(shard)).map(|(shard, _)| shard));
        for (number, since) in mine {
            let fresh = Shard { since, state: State::Closed(None) };
            let shard = self.shards.entry(number).or_insert(fresh);
            if shard.since < since && !matches!(shard.state, State::Closed(_)) {
                changes.close.push(number);
                shard.state = State::Closed(None);
            }
            shard.since = since;
            if let State::Closed(held) = shard.state {
                changes.open.push((number, held));
                shard.state = State::Opening(held);
            }
        }
        for number in release {
            let Some(shard) = self.shards.get_mut(number) else { continue };
            match shard.state {
                State::Open(_) => {
                    changes.let_go.push(*number);
                    shard.state = State::LettingGo;
                }
                State::LettingGo | State::LetGo => {}
                // Nothing is in flight of what is not open. The answer to an open that is on its way is not taken.
                State::Closed(_) | State::Opening(_) | State::Refused(_) => {
                    changes.close.push(*number);
                    changes.open.retain(|(other, _)| other != number);
                    shard.state = State::LetGo;
                }
            }
        }
        self.number = *number;
        Ok(changes)
    }

    /// The detector opened a shard. False if that is not wanted any more.
    pub(crate) fn opened(&mut self, shard: u32, epoch: Epoch) -> bool {
        let shard = self.shards.get_mut(&shard).filter(|shard| matches!(shard.state, State::Opening(_)));
        shard.is_some_and(|shard| {
            shard.state = State::Open(epoch);
            true
        })
    }

    /// The detector refused something, or the shard lost its state. True if the shard has to be closed.
    pub(crate) fn refused(&mut self, shard: u32, now: Instant) -> bool {
        let Some(shard) = self.shards.get_mut(&shard) else { return false };
        match shard.state {
            // What was held is held by somebody else now, perhaps; it can be asked for anew at once.
            State::Opening(Some(_)) => shard.state = State::Refused(now),
            State::LettingGo | State::LetGo => shard.state = State::LetGo,
            _ => shard.state = State::Refused(now + REOPEN_WAIT),
        }
        true
    }

    /// Nothing is in flight any more of a shard that is to be let go.
    pub(crate) fn settled(&mut self, shard: u32) {
        if let Some(shard) = self.shards.get_mut(&shard).filter(|shard| shard.state == State::LettingGo) {
            shard.state = State::LetGo;
        }
    }

    /// Shards that were let go, as heartbeats name them.
    pub(crate) fn released(&self) -> Vec<u32> {
        let let_go = self.shards.iter().filter(|(_, shard)| shard.state == State::LetGo);
        let_go.map(|(shard, _)| *shard).collect()
    }

    /// When a refused shard is asked for again.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        let at = |shard: &Shard| if let State::Refused(at) = shard.state { Some(at) } else { None };
        self.shards.values().filter_map(at).min()
    }

    /// Shards to be asked for again by now.
    pub(crate) fn retry(&mut self, now: Instant) -> Vec<u32> {
        let due = |shard: &Shard| matches!(shard.state, State::Refused(at) if at <= now);
        let due = self.shards.iter_mut().filter(|(_, shard)| due(shard));
        due.map(|(number, shard)| {
            shard.state = State::Opening(None);
            *number
        })
        .collect()
    }

    /// The connection broke. Gives the shards to be closed; those that are open stay so.
    pub(crate) fn broken(&mut self) -> Vec<u32> {
        let mut close = Vec::new();
        for (number, shard) in &mut self.shards {
            shard.state = match shard.state {
                State::Open(epoch) => State::Closed(Some(epoch)),
                State::Opening(held) => State::Closed(held),
                state @ State::Closed(_) => state,
                State::Refused(_) | State::LettingGo | State::LetGo => {
                    close.push(*number);
                    State::Closed(None)
                }
            };
        }
        close
    }
}

#[cfg(test)]
mod tests {
    use spikewatch_domain::span::Span;

    use super::*;

    const SHAPE: Shape = Shape { shards: 8, bucket: Span::QUARTER_HOUR };

    fn epoch(number: u64) -> Epoch {
        Epoch { lineage: [1; 16], number }
    }

    fn assign(entitled: &mut Entitled, number: u64, shards: &[(u32, u64)], release: &[u32]) -> Changes {
        let (shard, since) = shards.iter().copied().unzip();
        let release = release.to_vec();
        let assignment = v1::Assignment { number, shard, since, release, shape: Some(SHAPE.into()) };
        entitled.assign(&assignment, &SHAPE).unwrap()
    }

    #[test]
    fn only_what_changes_is_opened_and_closed() {
        let mut entitled = Entitled::default();
        let changes = assign(&mut entitled, 4, &[(1, 4), (2, 4)], &[]);
        assert_eq!(changes.open, [(1, None), (2, None)]);
        assert!(entitled.opened(1, epoch(1)) && entitled.opened(2, epoch(1)));
        assert_eq!(assign(&mut entitled, 4, &[(1, 4), (2, 4)], &[]), Changes::default());
        let changes = assign(&mut entitled, 6, &[(2, 6), (3, 5)], &[]);
        assert_eq!((changes.close, changes.open), (vec![1, 2], vec![(2, None), (3, None)]));
        assert!(!entitled.opened(1, epoch(2)), "not ours any more");
        assert_eq!((entitled.number(), entitled.len(), entitled.opening()), (6, 2, 2));
    }

    #[test]
    fn what_is_asked_back_is_named_once_nothing_is_in_flight() {
        let mut entitled = Entitled::default();
        assign(&mut entitled, 1, &[(1, 1), (2, 1)], &[]);
        entitled.opened(1, epoch(1));
        let changes = assign(&mut entitled, 2, &[(1, 1), (2, 1)], &[1, 2]);
        assert_eq!((changes.let_go, changes.close), (vec![1], vec![2]));
        assert_eq!(entitled.released(), [2], "it was never open");
        assert!(!entitled.opened(2, epoch(1)));
        entitled.settled(1);
        assert_eq!(entitled.released(), [1, 2]);
        // It comes back.
        let changes = assign(&mut entitled, 3, &[(1, 3)], &[]);
        assert_eq!((changes.open, changes.close), (vec![(1, None)], vec![2, 1]));
        assert!(entitled.released().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_asked_for_again() {
        let mut entitled = Entitled::default();
        assign(&mut entitled, 1, &[(1, 1)], &[]);
        let now = Instant::now();
        assert!(entitled.refused(1, now));
        assert!(entitled.retry(now).is_empty());
        assert_eq!(entitled.next_retry(), Some(now + REOPEN_WAIT));
        assert_eq!(entitled.retry(now + REOPEN_WAIT), [1]);
        assert_eq!(entitled.next_retry(), None);
        assert!(!entitled.refused(7, now), "not ours");
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_connection_closes_nothing_that_is_open() {
        let mut entitled = Entitled::default();
        assign(&mut entitled, 1, &[(1, 1), (2, 1), (3, 1)], &[]);
        entitled.opened(1, epoch(5));
        entitled.opened(3, epoch(1));
        assign(&mut entitled, 2, &[(1, 1), (2, 1), (3, 1)], &[3]);
        assert_eq!(entitled.broken(), [3]);
        assert_eq!(entitled.broken(), [0; 0], "again, before it was back");
        let changes = assign(&mut entitled, 9, &[(1, 9), (2, 9), (3, 9)], &[]);
        assert_eq!(changes.open, [(1, Some(epoch(5))), (2, None), (3, None)]);
        assert!(changes.close.is_empty());
        // Another had it meanwhile: it is asked for anew without a wait.
        let now = Instant::now();
        assert!(entitled.refused(1, now));
        assert_eq!(entitled.retry(now), [1]);
        assert!(entitled.opened(1, epoch(7)));
    }

    #[test]
    fn an_assignment_that_is_not_whole_is_refused() {
        let assignment = v1::Assignment { number: 1, shard: vec![1], ..v1::Assignment::default() };
        let error = Entitled::default().assign(&assignment, &SHAPE).unwrap_err();
        assert!(error.to_string().contains("Assignment.since"), "{error}");
        let assignment = v1::Assignment { shard: vec![8], since: vec![1], ..v1::Assignment::default() };
        assert!(Entitled::default().assign(&assignment, &SHAPE).is_err());
    }
}
