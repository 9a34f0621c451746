//! The detector: a store that survives, and leaders that don't.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use spikewatch_aggregator::core::Commit;
use spikewatch_detector::{
    cluster::{Assignments, Cluster, Timing},
    commit::{Closing, Commits, Decision, Prepared},
    store::{CommitWrite, Counts, Enrolled, Loaded, OpenWrite, ShardState},
};
use spikewatch_proto::{
    convert::{
        cluster::{Epoch, Incarnation},
        commit::{Opened, Pair},
    },
    v1,
};

use crate::{
    bag::Bag,
    site::{MINUTE, incarnation, shape},
};

/// The longest wait of a close. Ticks come that much later than the bucket they close.
pub(crate) const MAX_WAIT: u64 = 10 * MINUTE;

pub(crate) const OWNERS: [&str; 2] = ["a0", "a1"];

const LINEAGE: [u8; 16] = [9; 16];

/// What the controller says when it has given the shard to the one or the other.
static ASSIGNMENTS: LazyLock<[Assignments; 2]> = LazyLock::new(|| {
    OWNERS.map(|owner| {
        let mut cluster = Cluster::new(Timing::default(), 0, vec![String::new()], 0);
        cluster.join(owner, "http://a", &[1; 16], 0).unwrap();
        cluster.assignments().clone()
    })
});

/// How the centre departs from the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    None,
    /// A commit is taken under whatever epoch.
    AnyEpoch,
    /// A commit is taken under whatever number.
    AnyNumber,
    /// Whoever was a leader once may write.
    AnyTerm,
}

/// What is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Store {
    term: u64,
    pub(crate) shard: ShardState,
    members: BTreeMap<Incarnation, Enrolled>,
    /// How often each batch is in windows and corrections.
    pub(crate) counted: Bag,
    /// Something that only grows became less.
    pub(crate) went_back: bool,
}

/// A detector that leads, or believes so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    term: u64,
    commits: Commits,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Centre {
    pub(crate) store: Store,
    /// The last one leads.
    pub(crate) leaders: Vec<Leader>,
    fault: Fault,
}

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Acked,
    Refused,
    /// The leader found out that it is none: no answer.
    Silent,
}

impl Hash for Centre {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let shard = &self.store.shard;
        (self.store.term, shard.epoch, shard.commit_no, shard.bucket, shard.digest, &shard.pairs).hash(state);
        (&self.store.counted, self.store.went_back, self.fault).hash(state);
        for leader in &self.leaders {
            (leader.term, leader.commits.opened(0)).hash(state);
        }
    }
}

impl Store {
    fn load(&self) -> Loaded {
        Loaded {
            lineage: LINEAGE,
            shards: vec![self.shard.clone()],
            members: self.members.clone(),
            assignment: 0,
            counts: Counts::default(),
        }
    }

    fn open(&mut self, open: OpenWrite) -> bool {
        let fits = open.epoch == self.shard.epoch + 1;
        if fits {
            (self.shard.epoch, self.shard.owner) = (open.epoch, open.owner);
        }
        fits
    }

    fn commit(&mut self, write: CommitWrite, content: &Commit<Bag>) -> bool {
        let shard = &mut self.shard;
        if shard.epoch != write.epoch || shard.commit_no + 1 != write.commit_no {
            return false;
        }
        self.went_back |= shard.bucket.is_some_and(|bucket| write.bucket < bucket);
        (shard.commit_no, shard.bucket, shard.digest) = (write.commit_no, Some(write.bucket), write.digest);
        for (of, pair) in write.pairs {
            let old = shard.pairs.insert(of, pair).unwrap_or_default();
            self.went_back |= pair.bucket < old.bucket || pair.seq < old.seq;
        }
        self.members.extend(write.members);
        for part in content.windows.iter().chain(&content.corrections) {
            part.sites.values().for_each(|bag| self.counted.add(bag));
        }
        true
    }

    pub(crate) fn pair(&self, site: usize) -> Pair {
        self.shard.pairs.get(&incarnation(site)).copied().unwrap_or_default()
    }
}

impl Centre {
    pub(crate) fn new(fault: Fault) -> Self {
        let mut centre = Self { store: Store::default(), leaders: Vec::new(), fault };
        centre.take_over();
        centre
    }

    /// Another detector takes the term; the one before does not know.
    pub(crate) fn take_over(&mut self) {
        self.store.term += 1;
        let closing = Closing { allowed_lateness_ms: 0, max_wait_ms: MAX_WAIT, late_horizon_ms: None };
        let commits = Commits::new(self.store.load(), shape(), closing);
        self.leaders.push(Leader { term: self.store.term, commits });
    }

    /// The leader crashes, and another one begins.
    pub(crate) fn crash(&mut self) {
        self.leaders.pop();
        self.take_over();
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.store.shard.epoch
    }

    /// The newest leader knows what is durable: whatever it says next rests on it.
    pub(crate) fn is_current(&self) -> bool {
        let known = self.leaders.last().and_then(|leader| leader.commits.opened(0));
        known.is_some_and(|opened| {
            let shard = &self.store.shard;
            opened.epoch.number == shard.epoch
                && opened.frontier.commit_no == shard.commit_no
                && opened.frontier.bucket == shard.bucket
                && opened.frontier.pairs == shard.pairs
        })
    }

    /// The owner opens the shard at the newest leader.
    pub(crate) fn open(&mut self, owner: usize) -> Option<Opened> {
        let assignments = &ASSIGNMENTS[owner];
        let open =
            v1::OpenShard { shard: 0, assignment: assignments.number, owner: OWNERS[owner].to_owned(), held: None };
        let leader = self.leaders.last_mut()?;
        let write = leader.commits.open(&open, assignments).expect("the assignee may open");
        let opened = leader.commits.opened(0);
        assert!(self.store.open(write), "the newest leader knows the store");
        opened
    }

    /// A commit arrives at a leader.
    pub(crate) fn commit(&mut self, leader: usize, commit: &Commit<Bag>) -> Outcome {
        let Some(at) = self.leaders.get_mut(leader) else { return Outcome::Silent };
        let mut prepared = prepare(commit);
        let known = at.commits.opened(0).expect("the shard is there");
        if self.fault == Fault::AnyEpoch {
            // The digest, in which the epoch is, would tell a stranger's commit of the same number.
            if prepared.commit_no == known.frontier.commit_no {
                return Outcome::Acked;
            }
            prepared.epoch = known.epoch;
        }
        if self.fault == Fault::AnyNumber {
            (prepared.commit_no, prepared.digest) = (known.frontier.commit_no + 1, u64::MAX);
        }
        let write = match at.commits.commit(prepared, None) {
            Ok(Decision::Apply(write)) => write,
            Ok(Decision::Repeat) => return Outcome::Acked,
            Err(_) => return Outcome::Refused,
        };
        let leads = at.term == self.store.term || self.fault == Fault::AnyTerm;
        if leads && self.store.commit(write, commit) {
            return Outcome::Acked;
        }
        if leads && leader + 1 == self.leaders.len() {
            // Memory and store disagree: what counts is the store.
            self.crash();
        } else {
            self.leaders.remove(leader);
        }
        Outcome::Silent
    }
}

fn prepare(commit: &Commit<Bag>) -> Prepared {
    let mut hasher = DefaultHasher::new();
    commit.hash(&mut hasher);
    Prepared {
        shard: 0,
        epoch: commit.epoch,
        commit_no: commit.commit_no,
        bucket: commit.bucket,
        first_windows: commit.windows.first().map(|part| part.bucket),
        digest: hasher.finish(),
        pairs: commit.pairs.iter().map(|(of, pair)| (of.clone(), *pair)).collect(),
        log: Vec::new(),
        missing: Vec::new(),
    }
}

/// An epoch in words of the wire.
pub(crate) fn wire(epoch: Epoch) -> v1::Epoch {
    epoch.into()
}
