//! The way to the detector: joins the cluster, opens what is assigned, sends commits and brings back what becomes of them.
//! Shards outlive a connection that breaks: on the next one, be it to another detector, they go on under their epochs if
//! nobody else has opened them meanwhile. At shutdown it asks the detector to give the shards to others, and lets go of
//! each once nothing of it is in flight.

use std::{sync::Arc, time::Duration};

use spikewatch_actors::mailbox::Inbox;
use spikewatch_proto::{
    PROTOCOL_VERSION, channel,
    convert::{
        Invalid,
        cluster::{Epoch, Shape},
        commit::Opened,
        early::Tripwires,
    },
    trace::Traced,
    v1::{self, control_client::ControlClient, detector_message, owner_message, windowing_client::WindowingClient},
};
use tokio::{
    sync::mpsc,
    time::{Instant, interval, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};
use tracing::{Instrument as _, Span};

use crate::{Shared, detectors::Detectors, entitled::Entitled, shard, shard::ShardMessage};

/// What shards send to the detector.
pub(crate) enum ForwardMessage {
    /// A message to pass on.
    Send(Box<owner_message::Message>),
    /// A shard lost its state and has to be opened anew.
    Lost { shard: u32 },
    /// Nothing is in flight any more of a shard that was to be let go.
    Settled { shard: u32 },
}

/// How often the aggregator shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// A detector that does not answer heartbeats for that long is dead, whatever the connection says.
const SILENCE: Duration = Duration::from_secs(6);
/// How long a call may take to be answered at all.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long handing over everything may take at shutdown.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(6);
/// What outlived that is a connection that was of use.
const OF_USE: Duration = Duration::from_secs(5);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("no connection: {0}")]
    Transport(#[from] tonic::transport::Error),
    #[error("the detector says: {0}")]
    Status(#[from] Status),
    #[error("the detector sent what it should not: {0}")]
    Invalid(#[from] Invalid),
    #[error("the detector ended the stream")]
    Ended,
    #[error("no answer within {0:?}")]
    Silent(Duration),
}

/// Keeps a connection to the detector that leads, until `stop`; then leaves the cluster.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut detectors: Detectors,
    mut inbox: Inbox<ForwardMessage>,
    stop: CancellationToken,
) {
    let mut forward =
        Forward { shared: &shared, stop: &stop, entitled: Entitled::default(), queue: Vec::new(), leave_by: None };
    while !stop.is_cancelled() {
        let began = Instant::now();
        let endpoint = detectors.next();
        let ended = forward.connected(&endpoint, &mut inbox).await;
        forward.broken(&mut inbox).await;
        let Err(broken) = ended else { return };
        if stop.is_cancelled() {
            tracing::info!(error = %broken, "left without handing shards over");
            return;
        }
        if began.elapsed() > OF_USE {
            detectors.served();
        }
        let said = if let Broken::Status(status) = &broken { Some(status) } else { None };
        let wait = detectors.failed(said);
        tracing::warn!(detector = %endpoint.uri(), error = %broken, ?wait, "not connected to the detector");
        stop.run_until_cancelled(tokio::time::sleep(wait)).await;
    }
}

struct Forward<'a> {
    shared: &'a Arc<Shared>,
    stop: &'a CancellationToken,
    entitled: Entitled,
    /// To be sent next, last one first.
    queue: Vec<owner_message::Message>,
    /// The aggregator stops: all shards have to be let go by then.
    leave_by: Option<Instant>,
}

impl Forward<'_> {
    /// Runs until the connection breaks, or the aggregator has left the cluster.
    async fn connected(&mut self, endpoint: &Endpoint, inbox: &mut Inbox<ForwardMessage>) -> Result<(), Broken> {
        let channel = channel::connect(endpoint, self.shared.seams.network.dial()).await?;
        let (joins, beats) = mpsc::channel(4);
        let _ = joins.send(self.join()).await;
        let mut control = ControlClient::with_interceptor(channel.clone(), Traced);
        let mut assignments =
            answered(control.join_cluster(ReceiverStream::new(beats)).instrument(calling("join"))).await?;
        let first = timeout(CALL_TIMEOUT, assignments.message()).await;
        let first = first.map_err(|_| Broken::Silent(CALL_TIMEOUT))??.ok_or(Broken::Ended)?;
        self.shared.counters.connects.add(1);
        tracing::info!(detector = %endpoint.uri(), "connected to the detector");
        let (out, outgoing) = mpsc::channel(64);
        self.assign(&first).await?;
        // The opens have to be on their way before the call is answered, and there may be thousands.
        while let Some(message) = self.queue.pop_if(|_| out.capacity() > 0) {
            let _ = out.try_send(v1::OwnerMessage { message: Some(message) });
        }
        let mut windowing = WindowingClient::with_interceptor(channel.clone(), Traced)
            .max_decoding_message_size(crate::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(usize::MAX);
        let mut answers =
            answered(windowing.forward(ReceiverStream::new(outgoing)).instrument(calling("forward"))).await?;
        let mut routes = self.watch_routes(channel).await;
        let mut heartbeat = interval(HEARTBEAT);
        let mut heard = Instant::now();
        // On recorded traffic a busy machine is no reason to give anything up.
        let live = !self.shared.seams.clock.is_event_time();
        loop {
            let retry = self.entitled.next_retry();
            tokio::select! {
                permit = out.reserve(), if !self.queue.is_empty() => {
                    let permit = permit.map_err(|_| Broken::Ended)?;
                    permit.send(v1::OwnerMessage { message: self.queue.pop() });
                }
                message = inbox.recv(), if self.queue.is_empty() => {
                    if self.take(message.ok_or(Broken::Ended)?) {
                        let _ = joins.try_send(self.join());
                    }
                }
                answer = answers.message() => {
                    let answer = answer?.and_then(|answer| answer.message).ok_or(Broken::Ended)?;
                    self.answer(answer).await?;
                }
                assignment = assignments.message() => {
                    heard = Instant::now();
                    if self.assign(&assignment?.ok_or(Broken::Ended)?).await? {
                        let _ = joins.try_send(self.join());
                    }
                    if self.leave_by.is_some() && self.entitled.len() == 0 {
                        tracing::info!("all shards are handed over");
                        return Ok(());
                    }
                }
                _ = heartbeat.tick() => {
                    let _ = joins.try_send(self.join());
                }
                () = sleep_until(heard + SILENCE), if live => return Err(Broken::Silent(SILENCE)),
                () = sleep_until(retry.unwrap_or(heard)), if retry.is_some() => {
                    let again = self.entitled.retry(Instant::now());
                    self.enqueue(again.into_iter().map(|shard| (shard, None)));
                }
                update = next_routes(&mut routes) => match update {
                    Some(update) => drop(self.shared.routes.send_replace(Some(update))),
                    None => routes = None,
                },
                () = self.stop.cancelled(), if self.leave_by.is_none() => {
                    self.leave_by = Some(Instant::now() + LEAVE_TIMEOUT);
                    let _ = joins.try_send(self.join());
                }
                () = sleep_until(self.leave_by.unwrap_or(heard)), if self.leave_by.is_some() => {
                    tracing::warn!(shards = self.entitled.len(), "left before all shards were handed over");
                    return Ok(());
                }
            }
        }
    }

    fn join(&self) -> v1::Join {
        v1::Join {
            aggregator: self.shared.options.name.clone(),
            advertise: self.shared.options.advertise.clone(),
            protocol_version: PROTOCOL_VERSION,
            released: self.entitled.released(),
            instance: self.shared.instance.to_vec(),
            leaving: self.leave_by.is_some(),
        }
    }

    async fn watch_routes(&self, channel: Channel) -> Option<Streaming<v1::Routes>> {
        let request = v1::RoutesRequest { collector: self.shared.options.name.clone() };
        let mut control = ControlClient::with_interceptor(channel, Traced);
        match answered(control.watch_routes(request).instrument(calling("watch routes"))).await {
            Ok(routes) => Some(routes),
            Err(error) => {
                tracing::warn!(%error, "routes can't be relayed");
                None
            }
        }
    }

    /// Takes what a shard says. True if the detector should hear of it at once.
    fn take(&mut self, message: ForwardMessage) -> bool {
        match message {
            ForwardMessage::Send(message) => self.queue.push(*message),
            ForwardMessage::Lost { shard } => drop(self.entitled.refused(shard, Instant::now())),
            ForwardMessage::Settled { shard } => {
                self.entitled.settled(shard);
                return true;
            }
        }
        false
    }

    /// Takes an assignment: closes what is not in it any more, asks for what is new, lets go what others should have.
    /// True if something was let go at once.
    async fn assign(&mut self, assignment: &v1::Assignment) -> Result<bool, Invalid> {
        let shape = Shape::read(assignment.shape.as_ref())?;
        let before = self.entitled.released().len();
        let changes = self.entitled.assign(assignment, &shape)?;
        for shard in changes.close {
            self.tell(shard, ShardMessage::Close).await;
            if !assignment.shard.contains(&shard) {
                self.shared.directory.remove(shard);
            }
        }
        for (shard, _) in &changes.open {
            self.shared.directory.get_or_start(*shard, || shard::start(*shard, self.shared));
        }
        for shard in changes.let_go {
            self.tell(shard, ShardMessage::LetGo).await;
        }
        self.enqueue(changes.open.into_iter());
        self.publish(Some(shape));
        Ok(self.entitled.released().len() > before)
    }

    /// Asks for shards, before anything else that waits to be sent.
    fn enqueue(&mut self, shards: impl DoubleEndedIterator<Item = (u32, Option<Epoch>)>) {
        let (owner, assignment) = (&self.shared.options.name, self.entitled.number());
        let open = |(shard, held): (u32, Option<Epoch>)| {
            let open = v1::OpenShard { shard, assignment, owner: owner.clone(), held: held.map(Into::into) };
            owner_message::Message::Open(open)
        };
        self.queue.extend(shards.rev().map(open));
    }

    async fn answer(&mut self, answer: detector_message::Message) -> Result<(), Broken> {
        match answer {
            detector_message::Message::Opened(message) => {
                let opened = Opened::read(&message)?;
                if self.entitled.opened(opened.shard, opened.epoch) {
                    self.tell(opened.shard, ShardMessage::Opened(Box::new(opened))).await;
                }
                self.publish(None);
            }
            detector_message::Message::Ack(ack) => {
                let epoch = Epoch::read("CommitAck.epoch", ack.epoch.as_ref())?;
                self.tell(ack.shard, ShardMessage::Acked { epoch, commit_no: ack.commit_no }).await;
            }
            detector_message::Message::Refusal(refusal) => {
                self.shared.counters.refusals.add(1);
                let shard = refusal.shard;
                tracing::warn!(shard, reason = ?refusal.reason(), detail = refusal.detail, "the detector refused");
                if refusal.reason() == v1::refusal::Reason::Deposed {
                    return Err(Broken::Ended);
                }
                if self.entitled.refused(shard, Instant::now()) {
                    self.tell(shard, ShardMessage::Close).await;
                }
                self.publish(None);
            }
            detector_message::Message::Tripwires(message) => {
                let wires = Tripwires::read(&message)?;
                self.tell(wires.shard, ShardMessage::Tripwires(Box::new(wires))).await;
            }
        }
        Ok(())
    }

    async fn tell(&self, shard: u32, message: ShardMessage) {
        if let Some(mailbox) = self.shared.directory.get(shard) {
            let _ = mailbox.command(message).await;
        }
    }

    /// Says whether collectors can be welcomed.
    fn publish(&self, shape: Option<Shape>) {
        let opening = self.entitled.opening();
        self.shared.counters.assigned.set(self.entitled.len() as u64);
        self.shared.counters.opening.set(opening as u64);
        self.shared.readiness.send_modify(|readiness| {
            readiness.shape = shape.or(readiness.shape);
            readiness.open = self.entitled.len() > 0 && opening == 0;
        });
    }

    /// Nothing is known of what was sent and not answered; what shards said meanwhile is said again on the next
    /// connection.
    async fn broken(&mut self, inbox: &mut Inbox<ForwardMessage>) {
        self.queue.clear();
        while let Some(message) = inbox.try_recv() {
            self.take(message);
        }
        self.queue.clear();
        for shard in self.entitled.broken() {
            self.tell(shard, ShardMessage::Close).await;
        }
        self.shared.routes.send_replace(None);
        self.publish(None);
    }
}

/// The span of a call until it is answered; the streams it opens live on without one.
fn calling(call: &'static str) -> Span {
    tracing::debug_span!("call", otel.kind = "client", call)
}

async fn answered<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Broken> {
    Ok(timeout(CALL_TIMEOUT, call).await.map_err(|_| Broken::Silent(CALL_TIMEOUT))??.into_inner())
}

/// The next routes; never, if they are not watched.
async fn next_routes(routes: &mut Option<Streaming<v1::Routes>>) -> Option<v1::Routes> {
    match routes {
        Some(stream) => stream.message().await.ok().flatten(),
        None => std::future::pending().await,
    }
}
