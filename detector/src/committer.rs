//! The actor that commits. It takes all that waits, writes it in one transaction, and only then acknowledges.

mod members;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use spikewatch_actors::{
    Seams,
    mailbox::{Inbox, Mailbox, mailbox},
    task::Kind,
};
use spikewatch_domain::record::EventMillis;
use spikewatch_proto::{
    convert::{cluster::Epoch, early::Early},
    trace,
    v1::{self, detector_message::Message},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tonic::Status;
use tracing::Instrument as _;

pub(crate) use self::members::RosterRequest;
use crate::{
    analysis::Command,
    cluster::Assignments,
    commit::{Closing, Commits, Decision, Prepared, Refused},
    metrics::Counters,
    roster::{Patience, Roster},
    store::{Counts, Loaded, LogKind, Store, StoreError, Term, Write},
};

/// How often the roster is looked at.
const REVIEW: Duration = Duration::from_secs(5);
/// Messages that may wait; beyond, owners wait.
const CAPACITY: usize = 1024;
/// Messages of one transaction.
const BATCH: usize = 256;
/// How far a bucket's end may lie after this clock, ms: what clocks of honest machines differ by.
const CLOCK_TOLERANCE_MS: u64 = 10_000;

/// Where the answer goes: the owner's stream. It holds an answer for every shard, so an owner that reads finds them all.
pub(crate) type ReplyTo = mpsc::Sender<Result<v1::DetectorMessage, Status>>;

/// What owners ask for.
pub(crate) enum Request {
    /// A shard, under a new epoch.
    Open(v1::OpenShard, ReplyTo),
    /// A commit to be applied, and the trace that it belongs to (W3C traceparent; may be empty).
    Commit(Prepared, String, ReplyTo),
    /// Open windows that crossed a tripwire. Nothing of them is written or answered.
    Early(Early),
}

/// How far everything is committed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The least frontier of all shards.
    pub(crate) frontier: Option<EventMillis>,
    /// Totals.
    pub(crate) counts: Counts,
    /// The trace of the newest commit (W3C traceparent); may be empty.
    pub(crate) trace: Arc<str>,
    /// Collectors that have fallen silent, "site/collector".
    pub(crate) silent: Arc<[String]>,
}

/// How the roster is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closings {
    /// How buckets are closed.
    pub(crate) closing: Closing,
    /// When a silent collector is taken out.
    pub(crate) retire_after: Duration,
}

/// Between owners and scoring: what an open window has to reach, and the windows that did.
pub(crate) struct EarlyWays {
    /// By shard; each but for shard and epoch.
    pub(crate) tripwires: watch::Receiver<Arc<[v1::Tripwires]>>,
    /// Where early windows go. While it is full they are dropped.
    pub(crate) windows: Mailbox<Command>,
}

struct Committer {
    store: Arc<dyn Store>,
    term: Term,
    commits: Commits,
    closing: Closing,
    assignments: watch::Receiver<Arc<Assignments>>,
    committed: watch::Sender<Committed>,
    counts: Counts,
    counters: Arc<Counters>,
    seams: Seams,
    roster: Roster,
    patience: Patience,
    early: EarlyWays,
    /// The shards that were opened, and where their owners listen.
    owners: BTreeMap<u32, (Epoch, ReplyTo)>,
}

/// Starts it.
pub(crate) fn start(
    (store, term): (Arc<dyn Store>, Term),
    loaded: Loaded,
    Closings { closing, retire_after }: Closings,
    assignments: watch::Receiver<Arc<Assignments>>,
    early: EarlyWays,
    counters: Arc<Counters>,
    seams: &Seams,
) -> (Mailbox<Request>, Mailbox<RosterRequest>, watch::Receiver<Committed>) {
    let (sender, inbox) = mailbox("committer", CAPACITY);
    let (asker, asked) = mailbox("roster", 16);
    let patience = Patience {
        silent_ms: closing.max_wait_ms.saturating_mul(2),
        retire_ms: u64::try_from(retire_after.as_millis()).unwrap_or(u64::MAX),
    };
    let counts = loaded.counts;
    let commits = Commits::new(loaded, store.shape(), closing);
    let (committed, watched) =
        watch::channel(Committed { frontier: commits.frontier(), counts, ..Committed::default() });
    let seams = seams.clone();
    let tasks = seams.tasks.clone();
    let roster = Roster::default();
    let committer = Committer {
        store,
        term,
        commits,
        closing,
        assignments,
        committed,
        counts,
        counters,
        seams,
        roster,
        patience,
        early,
        owners: BTreeMap::new(),
    };
    tasks.spawn(Kind::ROLE, "committer", committer.run(inbox, asked));
    (sender, asker, watched)
}

impl Committer {
    async fn run(mut self, mut inbox: Inbox<Request>, mut asked: Inbox<RosterRequest>) -> Result<(), StoreError> {
        let stop = self.seams.tasks.token();
        let live = !self.seams.clock.is_event_time();
        let mut reviews = interval(REVIEW);
        reviews.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(request) = asked.recv() => {
                    self.on_roster(request).await?;
                    continue;
                }
                _ = reviews.tick(), if live => {
                    self.review().await?;
                    continue;
                }
                Ok(()) = self.early.tripwires.changed() => {
                    let tripwires = self.early.tripwires.borrow_and_update().clone();
                    let owners = std::mem::take(&mut self.owners);
                    owners.iter().for_each(|(shard, owner)| send_tripwires(&tripwires, *shard, owner));
                    self.owners = owners;
                    continue;
                }
                request = inbox.recv() => match request {
                    Some(request) => request,
                    None => return Ok(()),
                },
            };
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Some(next) = inbox.try_recv()
            {
                batch.push(next);
            }
            let span = tracing::debug_span!("transaction", messages = batch.len());
            self.commit(batch).instrument(span).await?;
        }
    }

    /// One transaction. What it can't write is answered with an error, and the owner asks again.
    async fn commit(&mut self, batch: Vec<Request>) -> Result<(), StoreError> {
        let started = Instant::now();
        let mut writes = Vec::new();
        let mut replies = Vec::with_capacity(batch.len());
        let mut trace = Arc::clone(&self.committed.borrow().trace);
        for request in batch {
            let Some((reply, message, write)) = self.decide(request, &mut trace) else { continue };
            writes.extend(write);
            replies.push((reply, message));
        }
        let counts = writes.iter().fold(self.counts, count);
        if !writes.is_empty() {
            if let Err(error) = self.store.apply(self.term, writes).await {
                let status = Status::unavailable(format!("not acknowledged: {error}"));
                replies.into_iter().for_each(|(reply, _)| answer(&reply, Err(status.clone())));
                return self.recover(error).await;
            }
            self.seams.latencies.record("commit", started.elapsed());
        }
        self.counts = counts;
        replies.into_iter().for_each(|(reply, message)| self.answer(&reply, message));
        let silent = Arc::clone(&self.committed.borrow().silent);
        let now = Committed { frontier: self.commits.frontier(), counts, trace, silent };
        self.committed.send_if_modified(|committed| {
            let changed = *committed != now;
            *committed = now;
            changed
        });
        Ok(())
    }

    /// Answers an owner. One that opened a shard gets its tripwires with it.
    fn answer(&mut self, reply: &ReplyTo, message: Message) {
        let opened = match &message {
            Message::Opened(opened) => Epoch::read("Opened.epoch", opened.epoch.as_ref()).ok().zip(Some(opened.shard)),
            _ => None,
        };
        answer(reply, Ok(message));
        if let Some((epoch, shard)) = opened {
            let owner = (epoch, reply.clone());
            send_tripwires(&self.early.tripwires.borrow(), shard, &owner);
            self.owners.insert(shard, owner);
        }
    }

    /// Passes windows on that are still open, of a shard whose owner has the newest epoch.
    fn pass_on(&self, early: Early) {
        let own = self.owners.get(&early.shard).is_some_and(|(epoch, _)| *epoch == early.epoch);
        let open = self.commits.opened(early.shard).is_some_and(|opened| {
            opened.epoch == early.epoch && opened.frontier.bucket.is_none_or(|bucket| bucket < early.bucket)
        });
        let due = self.horizon().is_none_or(|horizon| early.bucket <= horizon);
        if !(own && open && due && self.early.windows.try_send(Command::Early(early)).is_ok()) {
            self.counters.early_dropped.add(1);
        }
    }

    /// What is answered, and what is to be written before. Early windows need neither.
    fn decide(&mut self, request: Request, trace: &mut Arc<str>) -> Option<(ReplyTo, Message, Option<Write>)> {
        match request {
            Request::Early(early) => {
                self.pass_on(early);
                None
            }
            Request::Open(open, reply) => {
                if let Some(resumed) = self.commits.resumed(&open, &self.assignments.borrow()) {
                    return Some((reply, Message::Opened((&resumed).into()), None));
                }
                let opened = self.commits.open(&open, &self.assignments.borrow());
                let (message, write) = match opened {
                    Ok(write) => match self.commits.opened(open.shard) {
                        Some(opened) => (Message::Opened((&opened).into()), Some(Write::Open(write))),
                        None => (self.refuse(unknown(open.shard), open.shard, None, 0), None),
                    },
                    Err(refused) => (self.refuse(refused, open.shard, None, 0), None),
                };
                Some((reply, message, write))
            }
            Request::Commit(commit, traceparent, reply) => {
                let (shard, epoch, commit_no) = (commit.shard, commit.epoch, commit.commit_no);
                let span = tracing::debug_span!("commit", shard, commit_no);
                if !traceparent.is_empty() {
                    *trace = trace::pass_on(&span, &traceparent).into();
                }
                let _entered = span.enter();
                let ack = Message::Ack(v1::CommitAck { shard, epoch: Some(epoch.into()), commit_no });
                let (message, write) = match self.commits.commit(commit, self.horizon()) {
                    Ok(Decision::Apply(write)) => (ack, Some(Write::Commit(write))),
                    Ok(Decision::Repeat) => {
                        self.counters.repeats.add(1);
                        (ack, None)
                    }
                    Err(refused) => (self.refuse(refused, shard, Some(epoch), commit_no), None),
                };
                Some((reply, message, write))
            }
        }
    }

    fn refuse(&self, refused: Refused, shard: u32, epoch: Option<Epoch>, commit_no: u64) -> Message {
        self.counters.refusals.add(1);
        tracing::warn!(shard, commit_no, reason = ?refused.reason, detail = refused.detail, "refused");
        Message::Refusal(refused.message(shard, epoch, commit_no))
    }

    /// A bucket must end by then. Recorded traffic has no such limit.
    fn horizon(&self) -> Option<EventMillis> {
        let clock = &self.seams.clock;
        (!clock.is_event_time()).then(|| clock.now_ms().saturating_add(CLOCK_TOLERANCE_MS))
    }

    /// After a failed transaction the outcome is unknown: what counts is what the store says now.
    async fn recover(&mut self, error: StoreError) -> Result<(), StoreError> {
        tracing::error!(%error, "a transaction failed; reading the store again");
        if error.is_deposed() {
            return Err(error);
        }
        let loaded = self.store.load().await?;
        self.counts = loaded.counts;
        self.commits = Commits::new(loaded, self.store.shape(), self.closing);
        Ok(())
    }
}

fn unknown(shard: u32) -> Refused {
    Refused { reason: v1::refusal::Reason::Invalid, detail: format!("shard {shard} is beyond the last") }
}

/// An owner that does not read does without.
fn send_tripwires(all: &[v1::Tripwires], shard: u32, (epoch, owner): &(Epoch, ReplyTo)) {
    let Some(own) = all.get(shard as usize).filter(|own| !own.site.is_empty()) else { return };
    let own = v1::Tripwires { shard, epoch: Some((*epoch).into()), ..own.clone() };
    answer(owner, Ok(Message::Tripwires(own)));
}

fn answer(reply: &ReplyTo, message: Result<Message, Status>) {
    let message = message.map(|message| v1::DetectorMessage { message: Some(message) });
    // A stream that is gone, or whose owner does not read, asks again on the next one.
    if reply.try_send(message).is_err() {
        tracing::debug!("an owner did not take its answer");
    }
}

fn count(mut counts: Counts, write: &Write) -> Counts {
    if let Write::Commit(commit) = write {
        counts.commits += 1;
        for entry in &commit.log {
            match entry.kind {
                LogKind::Windows => counts.windows += entry.windows,
                LogKind::Correction | LogKind::Late { .. } => counts.corrections += entry.windows,
            }
        }
    }
    counts
}
