//! Streams of collectors: hello, welcome, then batches in and feedback out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use spikewatch_actors::{mailbox::Mailbox, task::Kind};
use spikewatch_proto::{
    convert::{
        Invalid,
        cluster::Shape,
        ingest::{Bind, Hello, Slice, Tombstone, Watermark, read_replay_end},
    },
    trace,
    v1::{self, collector_message, ingest_server::Ingest},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    Shared,
    core::{Lane, Message, StreamId, Unbinding, Windows},
    feedback::Feedback,
    shard::ShardMessage,
    skew::Skew,
};

/// How long a new stream may take to say hello, and how long it then waits until the cluster's shape is known.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often withheld credit is looked at again.
const CREDIT_RETRY: Duration = Duration::from_millis(250);

/// How long what shards have to tell is gathered.
const GATHER: Duration = Duration::from_millis(5);

type Out = mpsc::Sender<Result<v1::AggregatorMessage, Status>>;

/// The service that collectors call.
#[derive(Debug, Clone)]
pub(crate) struct IngestService(pub(crate) Arc<Shared>);

#[tonic::async_trait]
impl Ingest for IngestService {
    type StreamStream = ReceiverStream<Result<v1::AggregatorMessage, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::CollectorMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let shared = Arc::clone(&self.0);
        if shared.sessions().len() >= shared.options.max_streams {
            return Err(Status::resource_exhausted("too many streams; try another aggregator"));
        }
        let (out, answers) = mpsc::channel(16);
        let incoming = request.into_inner();
        self.0.seams.tasks.spawn(Kind::CONNECTION, "ingest", async move {
            let stopped = shared.seams.tasks.token();
            let served = stopped.run_until_cancelled(serve(&shared, incoming, &out)).await;
            if let Some(Err(status)) = served {
                tracing::warn!(%status, "stream refused");
                let _ = out.send(Err(status)).await;
            }
            Ok::<(), Status>(())
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

async fn serve(shared: &Arc<Shared>, mut incoming: Streaming<v1::CollectorMessage>, out: &Out) -> Result<(), Status> {
    let (hello, shape, skew) = greet(shared, &mut incoming).await?;
    let lane = if hello.back_fill { Lane::BackFill } else { Lane::Live { draining: hello.draining } };
    let feedback = Arc::new(Feedback::new(shared.next_stream(), hello.of, lane, skew));
    let mut session = Session { shared, shape, feedback: Arc::clone(&feedback), bound: BTreeMap::new() };
    shared.enter(&feedback);
    tracing::info!(collector = %feedback.of, stream = feedback.stream, "collector connected");
    let result = async {
        session.welcome(out).await?;
        tokio::select! {
            read = session.read(&mut incoming) => read,
            written = write(shared, &feedback, &shape, out) => written,
        }
    };
    let result = result.await;
    shared.leave(&feedback);
    session.end().await;
    tracing::info!(collector = %feedback.of, stream = feedback.stream, "collector disconnected");
    result
}

/// Waits for the hello and checks that both mean the same cluster and the same time.
async fn greet(
    shared: &Shared,
    incoming: &mut Streaming<v1::CollectorMessage>,
) -> Result<(Hello, Shape, Option<Skew>), Status> {
    let first = tokio::time::timeout(PATIENCE, incoming.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no hello came"))??;
    let Some(collector_message::Message::Hello(hello)) = first.and_then(|message| message.message) else {
        return Err(Status::failed_precondition("the first message must be a hello"));
    };
    let hello = Hello::read(&hello).map_err(|invalid| refuse(shared, &invalid))?;
    let clock = &shared.seams.clock;
    let skew = (!hello.event_time).then(|| Skew::measure(hello.clock_ms, clock.now_ms()));
    let shape = tokio::time::timeout(PATIENCE, shared.shape()).await;
    let shape = shape.map_err(|_| Status::unavailable("the detector was not reached from here yet"))?;
    if hello.shape != shape {
        let problem = format!("the cluster has {shape:?}, the collector expects {:?}", hello.shape);
        return Err(Status::failed_precondition(problem));
    }
    if hello.event_time != clock.is_event_time() {
        return Err(Status::failed_precondition("one side plays recorded traffic, the other is live"));
    }
    let most = shared.options.max_skew;
    if let Some(skew) = skew.filter(|skew| skew.is_beyond(most)) {
        shared.counters.skewed.add(1);
        return Err(Status::failed_precondition(format!(
            "the clock of {} is {skew}, more than max_skew ({} s): nothing is taken from it until they agree",
            hello.of,
            most.as_secs()
        )));
    }
    if let Some(skew) = skew.filter(|skew| skew.is_notable()) {
        tracing::warn!(collector = %hello.of, skew_ms = skew.ahead_ms(), "the collector's clock is {skew}");
    }
    Ok((hello, shape, skew))
}

/// Sends what shards have to tell, and credit while there is memory.
async fn write(shared: &Shared, feedback: &Feedback, shape: &Shape, out: &Out) -> Result<(), Status> {
    // Small credits would cost a message a batch.
    let enough = shared.options.credit_rows / 4;
    let mut withheld = false;
    loop {
        match withheld {
            true => drop(tokio::time::timeout(CREDIT_RETRY, feedback.changed()).await),
            false => feedback.changed().await,
        }
        // So that all shards that a slice goes to are answered in one message.
        tokio::time::sleep(GATHER).await;
        withheld = feedback.rows() >= enough && !shared.pressure.may_credit(feedback.stream);
        let least_rows = if withheld { u64::MAX } else { enough };
        for message in feedback.take(least_rows, shape, shared.seams.clock.now_ms()) {
            if out.send(Ok(v1::AggregatorMessage { message: Some(message) })).await.is_err() {
                return Ok(());
            }
        }
    }
}

struct Session<'a> {
    shared: &'a Arc<Shared>,
    shape: Shape,
    feedback: Arc<Feedback>,
    bound: BTreeMap<u32, Mailbox<ShardMessage>>,
}

impl Session<'_> {
    fn stream(&self) -> StreamId {
        self.feedback.stream
    }

    /// Tells which shards can be bound; the first welcome comes even if there are none.
    async fn welcome(&self, out: &Out) -> Result<(), Status> {
        for (shard, mailbox) in self.shared.directory.all() {
            let of = self.feedback.of.clone();
            if let Ok(Some((epoch, pair))) = mailbox.ask(|reply| ShardMessage::Describe { of, reply }).await {
                self.feedback.opened(shard, epoch, pair);
            }
        }
        self.feedback.credit(self.shared.options.credit_rows);
        let messages = self.feedback.take(1, &self.shape, self.shared.seams.clock.now_ms());
        for message in messages {
            let _ = out.send(Ok(v1::AggregatorMessage { message: Some(message) })).await;
        }
        Ok(())
    }

    async fn read(&mut self, incoming: &mut Streaming<v1::CollectorMessage>) -> Result<(), Status> {
        while let Some(message) = incoming.message().await? {
            let Some(message) = message.message else { continue };
            self.take(message).await.map_err(|invalid| refuse(self.shared, &invalid))?;
        }
        Ok(())
    }

    async fn take(&mut self, message: collector_message::Message) -> Result<(), Invalid> {
        use collector_message::Message as Wire;
        match message {
            Wire::Hello(_) => return Err(Invalid::new("CollectorMessage.hello", "comes a second time")),
            Wire::Bind(message) => {
                for bind in Bind::read(&message, &self.shape)? {
                    self.bind(bind).await;
                }
            }
            Wire::Batches(message) => {
                let slice = Slice::read(&message, &self.shape, &self.feedback.of.site)?;
                drop(message);
                self.slice(slice).await;
            }
            Wire::Watermark(message) => {
                let watermark = Watermark::read(&message, &self.shape)?;
                // A stream that leaves shards out is behind for all that is known.
                if watermark.except.is_empty() {
                    self.shared.pressure.advance(self.stream(), watermark.time_ms);
                }
                let covers: BTreeMap<_, _> = watermark.covers.into_iter().collect();
                let excepted: BTreeSet<_> = watermark.except.into_iter().collect();
                let shards: Vec<_> = self.bound.keys().filter(|shard| !excepted.contains(shard)).copied().collect();
                for shard in shards {
                    let covers = covers.get(&shard).copied();
                    let message = Message::Watermark { time_ms: watermark.time_ms, last: watermark.last, covers };
                    self.said(shard, message, None).await;
                }
            }
            Wire::ReplayEnd(message) => {
                for (shard, seq) in read_replay_end(&message, &self.shape)? {
                    self.said(shard, Message::ReplayEnd { seq }, None).await;
                }
            }
            Wire::Tombstone(message) => {
                let lost = Tombstone::read(&message, &self.shape)?;
                let Tombstone { shard, last_seq, prev, buckets, events, .. } = lost;
                self.said(shard, Message::Tombstone { last_seq, prev, buckets, events }, None).await;
            }
        }
        Ok(())
    }

    async fn bind(&mut self, bind: Bind) {
        let Some(mailbox) = self.shared.directory.get(bind.shard) else {
            self.feedback.unbound(bind.shard, Unbinding::NotOwned);
            return;
        };
        let feedback = Arc::clone(&self.feedback);
        if mailbox.send(ShardMessage::Bind { feedback, bind }).await.is_ok() {
            self.bound.insert(bind.shard, mailbox);
        }
    }

    async fn slice(&mut self, slice: Slice) {
        let rows: usize = slice.batches.iter().map(|batch| batch.rows.len()).sum();
        let span = tracing::debug_span!("ingest", collector = %self.feedback.of, rows);
        let trace = trace::pass_on(&span, &slice.traceparent);
        self.shared.counters.slices.add(1);
        self.shared.counters.rows.add(rows as u64);
        if slice.sent_ms > 0 {
            // Wall clocks of two machines: a latency to look at, not to decide by.
            let took = self.shared.seams.clock.wall_ms().saturating_sub(slice.sent_ms);
            self.shared.seams.latencies.record_ms("collector→aggregator", took);
        }
        let trace: Option<Arc<str>> = (!trace.is_empty()).then(|| trace.into());
        for batch in slice.batches {
            let rows = batch.rows.len() as u64;
            let content = Windows::from(batch.rows);
            let (seq, prev) = (batch.seq, batch.prev);
            let message = Message::Batch { bucket: slice.bucket, seq, prev, rows, content };
            self.said(batch.shard, message, trace.clone()).await;
        }
    }

    async fn said(&mut self, shard: u32, message: Message<Windows>, trace: Option<Arc<str>>) {
        let (stream, rows) = (self.stream(), message.rows());
        let delivered = match self.bound.get(&shard) {
            Some(mailbox) => mailbox.send(ShardMessage::Said { stream, message, trace }).await.is_ok(),
            None => false,
        };
        if !delivered {
            self.bound.remove(&shard);
            self.feedback.unbound(shard, Unbinding::NotOwned);
            self.feedback.credit(rows);
        }
    }

    async fn end(self) {
        let stream = self.stream();
        for mailbox in self.bound.into_values() {
            let _ = mailbox.send(ShardMessage::Gone { stream }).await;
        }
    }
}

fn refuse(shared: &Shared, invalid: &Invalid) -> Status {
    shared.counters.invalid.add(1);
    Status::invalid_argument(invalid.to_string())
}
