//! The actor of one shard: runs the core, does what it says.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use spikewatch_actors::{
    mailbox::{Mailbox, mailbox},
    supervise::{Actor, Policy, supervise},
    task::Kind,
};
use spikewatch_proto::{
    convert::{
        cluster::{Epoch, Incarnation},
        commit::{Opened, Pair},
        early::Tripwires,
        ingest::Bind,
    },
    trace,
    v1::owner_message,
};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    Shared,
    core::{Action, Config, Core, Event, Held, Message, StreamId, Tripping, Unbinding, Windows},
    encode,
    feedback::Feedback,
    forward::ForwardMessage,
};

/// What a shard is sent.
pub(crate) enum ShardMessage {
    /// The detector opened it, or says that it goes on under the epoch it has.
    Opened(Box<Opened>),
    /// It is owned no longer: its state is void.
    Close,
    /// Another should own it: nothing more is taken, and what is in flight is finished.
    LetGo,
    /// A stream binds it.
    Bind { feedback: Arc<Feedback>, bind: Bind },
    /// A bound stream said something.
    Said { stream: StreamId, message: Message<Windows>, trace: Option<Arc<str>> },
    /// A stream ended.
    Gone { stream: StreamId },
    /// The detector applied a commit.
    Acked { epoch: Epoch, commit_no: u64 },
    /// The values at which open windows are worth an alert now.
    Tripwires(Box<Tripwires>),
    /// Under which epoch can it be bound, and what of the collector is counted? Nothing while it is not open.
    Describe { of: Incarnation, reply: oneshot::Sender<Option<(Epoch, Pair)>> },
}

/// Slices that may wait for a shard; then their streams wait.
const MAILBOX: usize = 64;
/// How old a bucket may be that something is still counted in, ms.
const LATE_HORIZON_MS: u64 = 7 * 24 * 3_600_000;
/// After looking for windows that crossed a tripwire, the shard does other things for so many times as long.
const REST: u32 = 10;
/// And at least so long: many collectors send one after another.
const LEAST_REST: Duration = Duration::from_millis(500);
/// How often time, and what open windows hold by now, are looked at. An early alert waits for it.
const TICK: Duration = Duration::from_millis(250);

/// Starts a shard's actor.
pub(crate) fn start(shard: u32, shared: &Arc<Shared>) -> Mailbox<ShardMessage> {
    let (sender, inbox) = mailbox("shard", MAILBOX);
    let policy = Policy { tick: Some(TICK), ..Policy::default() };
    let (for_actor, mut started) = (Arc::clone(shared), false);
    let factory = move || ShardActor {
        shard,
        shared: Arc::clone(&for_actor),
        core: None,
        streams: BTreeMap::new(),
        held: Held::default(),
        trace: None,
        sealed_at: Instant::now(),
        letting_go: false,
        tripping: Tripping::default(),
        grown: false,
        rest_until: Instant::now(),
        lost: std::mem::replace(&mut started, true),
    };
    supervise(&shared.seams.tasks, Kind::ROLE, "shard", policy, &shared.restarts, inbox, factory);
    sender
}

struct ShardActor {
    shard: u32,
    shared: Arc<Shared>,
    core: Option<Core<Windows>>,
    /// Streams that bound the shard, until they end.
    streams: BTreeMap<StreamId, Arc<Feedback>>,
    /// What was last reported as held.
    held: Held,
    /// Traceparent of the last slice taken.
    trace: Option<Arc<str>>,
    /// When the commit in flight was sent.
    sealed_at: Instant,
    /// It takes nothing more, and says so once nothing is in flight.
    letting_go: bool,
    /// The tripwires of the epoch.
    tripping: Tripping,
    /// Something was taken since open windows were last held against the tripwires.
    grown: bool,
    /// When that may be done again.
    rest_until: Instant,
    /// This is a restart: what the shard knew is gone, and it has to be opened anew.
    lost: bool,
}

impl ShardActor {
    async fn event(&mut self, event: Event<Windows>) {
        let now_ms = self.shared.seams.clock.now_ms();
        let Some(core) = &mut self.core else { return };
        let actions = core.on(event, now_ms);
        self.report();
        for action in actions {
            self.act(action).await;
        }
    }

    /// What is sealed is committed and nothing more taken; what was not sealed is sent again to the next owner.
    async fn let_go(&mut self) {
        self.letting_go = true;
        if self.core.is_none() {
            return self.settled().await;
        }
        self.event(Event::Handover).await;
    }

    async fn settled(&self) {
        let _ = self.shared.forward.send(ForwardMessage::Settled { shard: self.shard }).await;
    }

    async fn act(&mut self, action: Action<Windows>) {
        let shard = self.shard;
        match action {
            Action::Receipt { stream, seq } => self.tell(stream, |feedback| feedback.received(shard, seq)),
            Action::Credit { stream, rows } => self.tell(stream, |feedback| feedback.credit(rows)),
            Action::Trim { stream, pair } => self.tell(stream, |feedback| feedback.trim(shard, pair)),
            Action::Unbind { stream, why } => {
                self.shared.counters.unbound.add(1);
                tracing::info!(shard, stream, why = why.reason(), "stream unbound");
                self.tell(stream, |feedback| feedback.unbound(shard, why));
                // It has to learn under which epoch to come back, and from where.
                let again = self.core.as_ref().filter(|_| !matches!(why, Unbinding::Replaced | Unbinding::Moved));
                let again = again.zip(self.streams.get(&stream));
                if let Some((core, feedback)) = again {
                    feedback.opened(shard, core.epoch(), core.pair(&feedback.of));
                }
            }
            Action::Lost { of, events } => {
                self.shared.counters.lost_events.add(events);
                tracing::warn!(shard, collector = %of, events, "a collector's disk budget dropped batches");
            }
            Action::TooLate { of, rows } => {
                self.shared.counters.too_late_rows.add(rows);
                tracing::warn!(shard, collector = %of, rows, "a batch came too late to be counted");
            }
            Action::Released => self.settled().await,
            Action::Commit(commit) => {
                let last_slice = self.trace.take();
                let span = tracing::debug_span!("seal", shard, commit_no = commit.commit_no, bucket = commit.bucket);
                let traceparent = last_slice.map(|slice| trace::pass_on(&span, &slice)).unwrap_or_default();
                let message = span.in_scope(|| encode::commit(shard, &commit, &traceparent));
                self.shared.counters.commits.add(1);
                self.sealed_at = Instant::now();
                let message = ForwardMessage::Send(Box::new(owner_message::Message::Commit(message)));
                // The receiver is gone only at shutdown; the collector's spool still has all of it.
                let _ = self.shared.forward.send(message).await;
            }
        }
    }

    /// Sends open windows that crossed a tripwire. Should one be lost on the way, the bucket's end still tells.
    async fn trip(&mut self) {
        let (Some(core), now) = (&self.core, Instant::now()) else { return };
        if !self.grown || self.tripping.is_idle() || now < self.rest_until || self.letting_go {
            return;
        }
        self.grown = false;
        let (epoch, parts) = (core.epoch(), core.early(&mut self.tripping));
        self.rest_until = now + (now.elapsed() * REST).max(LEAST_REST);
        for part in parts {
            let message = encode::early(self.shard, epoch, &part, self.tripping.versions());
            let windows = message.windows.as_ref().and_then(|part| part.windows.as_ref());
            self.shared.counters.early.add(windows.map_or(0, |windows| windows.events.len() as u64));
            let message = ForwardMessage::Send(Box::new(owner_message::Message::Early(message)));
            let _ = self.shared.forward.send(message).await;
        }
    }

    fn tell(&self, stream: StreamId, say: impl FnOnce(&Feedback)) {
        if let Some(feedback) = self.streams.get(&stream) {
            say(feedback);
        }
    }

    fn report(&mut self) {
        let now = self.core.as_ref().map(Core::held).unwrap_or_default();
        self.shared.pressure.adjust(std::mem::replace(&mut self.held, now), now);
    }

    fn close(&mut self) {
        self.letting_go = false;
        self.tripping = Tripping::default();
        if self.core.take().is_some() {
            self.streams.values().for_each(|feedback| feedback.unbound(self.shard, Unbinding::NotOwned));
            self.report();
        }
    }
}

impl Actor for ShardActor {
    type Message = ShardMessage;
    type Error = Infallible;

    async fn handle(&mut self, message: ShardMessage) -> Result<(), Infallible> {
        match message {
            ShardMessage::Opened(opened) if self.core.as_ref().is_some_and(|core| core.epoch() == opened.epoch) => {
                // It goes on; the ack of what was in flight may be lost.
                self.event(Event::Resend).await;
            }
            ShardMessage::Opened(opened) => {
                self.close();
                self.lost = false;
                let config = Config {
                    event_time: self.shared.seams.clock.is_event_time(),
                    expected_collectors: self.shared.options.expected_collectors,
                    clock_allowance_ms: 10_000,
                    late_horizon_ms: LATE_HORIZON_MS,
                };
                let core = Core::new(config, *opened, self.shared.seams.clock.now_ms());
                tracing::debug!(shard = self.shard, epoch = %core.epoch(), "shard opened");
                for feedback in self.shared.sessions() {
                    feedback.opened(self.shard, core.epoch(), core.pair(&feedback.of));
                }
                self.core = Some(core);
            }
            ShardMessage::Close => self.close(),
            ShardMessage::LetGo => self.let_go().await,
            ShardMessage::Bind { feedback, bind } => {
                let (stream, of, lane) = (feedback.stream, feedback.of.clone(), feedback.lane.clone());
                // It is kept in any case: what the stream sends meanwhile gives it its credit back.
                let feedback = self.streams.entry(stream).insert_entry(feedback);
                if self.core.is_none() {
                    feedback.get().unbound(self.shard, Unbinding::NotOwned);
                    return Ok(());
                }
                let trimmed = bind.trimmed_seq;
                if self.core.as_ref().is_some_and(|core| trimmed > core.pair(&of).seq) {
                    tracing::error!(shard = self.shard, collector = %of, trimmed, "a collector trimmed more than the store has: was it restored from a backup?");
                }
                self.event(Event::Bind { stream, of, lane, epoch: bind.epoch, lowest_seq: bind.lowest_seq }).await;
            }
            ShardMessage::Said { stream, message, trace } => {
                self.trace = trace.or_else(|| self.trace.take());
                if self.core.is_none() {
                    let rows = message.rows();
                    self.tell(stream, |feedback| feedback.credit(rows));
                }
                self.grown = true;
                self.event(Event::Said { stream, message }).await;
            }
            ShardMessage::Gone { stream } => {
                self.event(Event::Gone { stream }).await;
                self.streams.remove(&stream);
            }
            ShardMessage::Acked { epoch, commit_no } => {
                self.shared.counters.acks.add(1);
                self.shared.seams.latencies.record("seal→ack", self.sealed_at.elapsed());
                self.event(Event::Acked { epoch, commit_no }).await;
            }
            ShardMessage::Tripwires(wires) => {
                if self.core.as_ref().is_some_and(|core| core.epoch() == wires.epoch) {
                    self.tripping.replace(*wires);
                    self.grown = true;
                }
            }
            ShardMessage::Describe { of, reply } => {
                let core = self.core.as_ref().filter(|_| !self.letting_go);
                let _ = reply.send(core.map(|core| (core.epoch(), core.pair(&of))));
            }
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), Infallible> {
        if self.lost {
            self.lost = false;
            let _ = self.shared.forward.send(ForwardMessage::Lost { shard: self.shard }).await;
        }
        self.event(Event::Tick).await;
        self.trip().await;
        Ok(())
    }
}

impl Drop for ShardActor {
    fn drop(&mut self) {
        self.shared.pressure.adjust(self.held, Held::default());
    }
}
