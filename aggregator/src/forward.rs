//! The way to the detector: joins the cluster, opens what is assigned, sends commits and brings back what becomes of them.
//! A connection that breaks ends every epoch: all shards are closed, and opened anew on the next one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use spikewatch_actors::mailbox::Inbox;
use spikewatch_proto::{
    PROTOCOL_VERSION,
    convert::{
        Invalid,
        cluster::{Epoch, Shape},
        commit::Opened,
    },
    v1::{self, control_client::ControlClient, detector_message, owner_message, windowing_client::WindowingClient},
};
use tokio::{
    sync::mpsc,
    time::{Instant, interval, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::{Shared, shard, shard::ShardMessage};

/// What shards send to the detector.
pub(crate) enum ForwardMessage {
    /// A message to pass on.
    Send(Box<owner_message::Message>),
    /// A shard lost its state and has to be opened anew.
    Lost { shard: u32 },
}

/// How often the aggregator shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Waits between attempts to connect: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long a call may take to be answered at all.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a refused shard waits before it asks again.
const REOPEN_WAIT: Duration = Duration::from_secs(1);

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
    #[error("no answer within {CALL_TIMEOUT:?}")]
    Silent,
}

/// Keeps a connection to the detector until shutdown.
pub(crate) async fn run(shared: Arc<Shared>, endpoint: Endpoint, mut inbox: Inbox<ForwardMessage>) {
    let stopped = shared.seams.tasks.token();
    let mut wait = FIRST_WAIT;
    loop {
        let began = Instant::now();
        let mut link = Link::new(&shared);
        let broken = stopped.run_until_cancelled(link.run(&endpoint, &mut inbox)).await;
        link.close_all().await;
        let Some(broken) = broken else { return };
        if began.elapsed() > LONGEST_WAIT {
            wait = FIRST_WAIT;
        }
        tracing::warn!(error = %broken, ?wait, "not connected to the detector");
        // What shards still sent belongs to epochs that are over.
        while inbox.try_recv().is_some() {}
        if stopped.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// One connection.
struct Link<'a> {
    shared: &'a Arc<Shared>,
    assignment: u64,
    assigned: BTreeSet<u32>,
    /// Asked for, not yet answered.
    opening: BTreeSet<u32>,
    /// When to ask again.
    retries: BTreeMap<u32, Instant>,
}

impl<'a> Link<'a> {
    fn new(shared: &'a Arc<Shared>) -> Self {
        let (assigned, opening) = (BTreeSet::new(), BTreeSet::new());
        Self { shared, assignment: 0, assigned, opening, retries: BTreeMap::new() }
    }

    /// Runs until the connection breaks.
    async fn run(&mut self, endpoint: &Endpoint, inbox: &mut Inbox<ForwardMessage>) -> Broken {
        match self.connected(endpoint, inbox).await {
            Ok(never) => match never {},
            Err(broken) => broken,
        }
    }

    async fn connected(
        &mut self,
        endpoint: &Endpoint,
        inbox: &mut Inbox<ForwardMessage>,
    ) -> Result<std::convert::Infallible, Broken> {
        let channel = endpoint.connect().await?;
        let (joins, beats) = mpsc::channel(4);
        let _ = joins.send(self.join()).await;
        let mut control = ControlClient::new(channel.clone());
        let mut assignments = answered(control.join_cluster(ReceiverStream::new(beats))).await?;
        self.shared.counters.connects.add(1);
        tracing::info!(detector = self.shared.options.detector, "connected to the detector");
        let first = assignments.message().await?.ok_or(Broken::Ended)?;
        let (out, outgoing) = mpsc::channel(64);
        // The opens have to be on their way before the call is answered, and there may be thousands.
        let mut queue: Vec<owner_message::Message> = self.assign(&first).await?;
        queue.reverse();
        let mut windowing = WindowingClient::new(channel.clone())
            .max_decoding_message_size(crate::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(usize::MAX);
        while let Some(message) = queue.pop_if(|_| out.capacity() > 0) {
            let _ = out.try_send(v1::OwnerMessage { message: Some(message) });
        }
        let mut answers = answered(windowing.forward(ReceiverStream::new(outgoing))).await?;
        let mut routes = self.watch_routes(channel).await;
        let mut heartbeat = interval(HEARTBEAT);
        loop {
            let retry = self.retries.values().min().copied();
            tokio::select! {
                permit = out.reserve(), if !queue.is_empty() => {
                    let permit = permit.map_err(|_| Broken::Ended)?;
                    permit.send(v1::OwnerMessage { message: queue.pop() });
                }
                message = inbox.recv(), if queue.is_empty() => match message {
                    Some(ForwardMessage::Send(message)) => queue.push(*message),
                    Some(ForwardMessage::Lost { shard }) => {
                        self.retries.insert(shard, Instant::now() + REOPEN_WAIT);
                    }
                    None => return Err(Broken::Ended),
                },
                answer = answers.message() => {
                    let answer = answer?.and_then(|answer| answer.message).ok_or(Broken::Ended)?;
                    self.answer(answer).await?;
                }
                assignment = assignments.message() => {
                    let opens = self.assign(&assignment?.ok_or(Broken::Ended)?).await?;
                    queue.splice(0..0, opens);
                }
                _ = heartbeat.tick() => {
                    let _ = joins.try_send(self.join());
                }
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {
                    let opens = self.retry();
                    queue.splice(0..0, opens);
                }
                update = next_routes(&mut routes) => match update {
                    Some(update) => drop(self.shared.routes.send_replace(Some(update))),
                    None => routes = None,
                },
            }
        }
    }

    fn join(&self) -> v1::Join {
        v1::Join {
            aggregator: self.shared.options.name.clone(),
            advertise: self.shared.options.advertise.clone(),
            protocol_version: PROTOCOL_VERSION,
            leaving: Vec::new(),
            instance: self.shared.instance.to_vec(),
        }
    }

    async fn watch_routes(&self, channel: Channel) -> Option<Streaming<v1::Routes>> {
        let request = v1::RoutesRequest { collector: self.shared.options.name.clone() };
        match answered(ControlClient::new(channel).watch_routes(request)).await {
            Ok(routes) => Some(routes),
            Err(error) => {
                tracing::warn!(%error, "routes can't be relayed");
                None
            }
        }
    }

    /// Takes an assignment: closes what is not in it any more, and gives the opens to send.
    async fn assign(&mut self, assignment: &v1::Assignment) -> Result<Vec<owner_message::Message>, Invalid> {
        let shape = Shape::read(assignment.shape.as_ref())?;
        let shard = |shard: &u32| shape.shard("Assignment.shard", *shard);
        let assigned = assignment.shard.iter().map(shard).collect::<Result<BTreeSet<_>, _>>()?;
        self.assignment = assignment.number;
        for gone in self.assigned.difference(&assigned) {
            self.opening.remove(gone);
            self.retries.remove(gone);
            if let Some(mailbox) = self.shared.directory.remove(*gone) {
                let _ = mailbox.command(ShardMessage::Close).await;
            }
        }
        let new: Vec<_> = assigned.difference(&self.assigned).copied().collect();
        for shard in &new {
            self.shared.directory.get_or_start(*shard, || shard::start(*shard, self.shared));
        }
        self.opening.extend(&new);
        self.assigned = assigned;
        self.publish(Some(shape));
        Ok(new.into_iter().map(|shard| self.open(shard)).collect())
    }

    fn open(&self, shard: u32) -> owner_message::Message {
        let owner = self.shared.options.name.clone();
        owner_message::Message::Open(v1::OpenShard { shard, assignment: self.assignment, owner })
    }

    fn retry(&mut self) -> Vec<owner_message::Message> {
        let now = Instant::now();
        let due: Vec<_> = self.retries.extract_if(.., |_, at| *at <= now).map(|(shard, _)| shard).collect();
        due.into_iter().filter(|shard| self.assigned.contains(shard)).map(|shard| self.open(shard)).collect()
    }

    async fn answer(&mut self, answer: detector_message::Message) -> Result<(), Broken> {
        match answer {
            detector_message::Message::Opened(message) => {
                let opened = Opened::read(&message)?;
                let shard = opened.shard;
                self.tell(shard, ShardMessage::Opened(Box::new(opened))).await;
                self.opening.remove(&shard);
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
                self.tell(shard, ShardMessage::Close).await;
                if self.assigned.contains(&shard) {
                    self.opening.insert(shard);
                    self.retries.insert(shard, Instant::now() + REOPEN_WAIT);
                    self.publish(None);
                }
            }
            // Early windows are not sent yet, so nothing trips.
            detector_message::Message::Tripwires(_) => {}
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
        self.shared.counters.assigned.set(self.assigned.len() as u64);
        self.shared.counters.opening.set(self.opening.len() as u64);
        self.shared.readiness.send_modify(|readiness| {
            readiness.shape = shape.or(readiness.shape);
            readiness.open = !self.assigned.is_empty() && self.opening.is_empty();
        });
    }

    /// All epochs are over.
    async fn close_all(&mut self) {
        self.shared.readiness.send_modify(|readiness| readiness.open = false);
        for (_, mailbox) in self.shared.directory.all() {
            let _ = mailbox.command(ShardMessage::Close).await;
        }
    }
}

async fn answered<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Broken> {
    Ok(timeout(CALL_TIMEOUT, call).await.map_err(|_| Broken::Silent)??.into_inner())
}

/// The next routes; never, if they are not watched.
async fn next_routes(routes: &mut Option<Streaming<v1::Routes>>) -> Option<v1::Routes> {
    match routes {
        Some(stream) => stream.message().await.ok().flatten(),
        None => std::future::pending().await,
    }
}
