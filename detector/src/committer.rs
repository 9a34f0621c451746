//! The actor that commits. It takes all that waits, writes it in one transaction, and only then acknowledges.

use std::sync::Arc;

use spikewatch_actors::{
    Seams,
    mailbox::{Inbox, Mailbox, mailbox},
    task::Kind,
};
use spikewatch_domain::record::EventMillis;
use spikewatch_proto::{
    convert::cluster::Epoch,
    v1::{self, detector_message::Message},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tonic::Status;
use tracing::Instrument as _;

use crate::{
    cluster::Assignments,
    commit::{Closing, Commits, Decision, Prepared, Refused},
    metrics::Counters,
    store::{Counts, Loaded, LogKind, Store, StoreError, Term, Write},
    trace,
};

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
}

/// Starts it.
pub(crate) fn start(
    (store, term): (Arc<dyn Store>, Term),
    loaded: Loaded,
    closing: Closing,
    assignments: watch::Receiver<Arc<Assignments>>,
    counters: Arc<Counters>,
    seams: &Seams,
) -> (Mailbox<Request>, watch::Receiver<Committed>) {
    let (sender, inbox) = mailbox("committer", CAPACITY);
    let counts = loaded.counts;
    let commits = Commits::new(loaded, store.shape(), closing);
    let (committed, watched) =
        watch::channel(Committed { frontier: commits.frontier(), counts, ..Committed::default() });
    let seams = seams.clone();
    let tasks = seams.tasks.clone();
    let committer = Committer { store, term, commits, closing, assignments, committed, counts, counters, seams };
    tasks.spawn(Kind::ROLE, "committer", committer.run(inbox));
    (sender, watched)
}

impl Committer {
    async fn run(mut self, mut inbox: Inbox<Request>) -> Result<(), StoreError> {
        let stop = self.seams.tasks.token();
        while let Some(Some(first)) = stop.run_until_cancelled(inbox.recv()).await {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Some(next) = inbox.try_recv()
            {
                batch.push(next);
            }
            let span = tracing::debug_span!("transaction", messages = batch.len());
            self.commit(batch).instrument(span).await?;
        }
        Ok(())
    }

    /// One transaction. What it can't write is answered with an error, and the owner asks again.
    async fn commit(&mut self, batch: Vec<Request>) -> Result<(), StoreError> {
        let started = Instant::now();
        let mut writes = Vec::new();
        let mut replies = Vec::with_capacity(batch.len());
        let mut trace = Arc::clone(&self.committed.borrow().trace);
        for request in batch {
            if let Request::Commit(_, traceparent, _) = &request
                && !traceparent.is_empty()
            {
                trace = traceparent.as_str().into();
            }
            let (reply, message, write) = self.decide(request);
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
        replies.into_iter().for_each(|(reply, message)| answer(&reply, Ok(message)));
        let now = Committed { frontier: self.commits.frontier(), counts, trace };
        self.committed.send_if_modified(|committed| {
            let changed = *committed != now;
            *committed = now;
            changed
        });
        Ok(())
    }

    fn decide(&mut self, request: Request) -> (ReplyTo, Message, Option<Write>) {
        match request {
            Request::Open(open, reply) => {
                let opened = self.commits.open(&open, &self.assignments.borrow());
                let (message, write) = match opened {
                    Ok(write) => match self.commits.opened(open.shard) {
                        Some(opened) => (Message::Opened((&opened).into()), Some(Write::Open(write))),
                        None => (self.refuse(unknown(open.shard), open.shard, None, 0), None),
                    },
                    Err(refused) => (self.refuse(refused, open.shard, None, 0), None),
                };
                (reply, message, write)
            }
            Request::Commit(commit, traceparent, reply) => {
                let (shard, epoch, commit_no) = (commit.shard, commit.epoch, commit.commit_no);
                let span = tracing::debug_span!("commit", shard, commit_no);
                trace::follow(&span, &traceparent);
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
                (reply, message, write)
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
                LogKind::Correction => counts.corrections += entry.windows,
            }
        }
    }
    counts
}
