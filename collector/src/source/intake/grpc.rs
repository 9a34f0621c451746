//! Intake over gRPC: clients that number what they send.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use prost::Message as _;
use rapidhash::v3::rapidhash_v3;
use spikewatch_actors::{Seams, task::Kind};
use spikewatch_domain::record::{EventMillis, FlowRecord};
use spikewatch_proto::{
    convert::{
        Invalid,
        intake::{self, Content},
    },
    v1::{self, intake_request::Message, intake_server::Intake},
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Desk, Handed, Refused,
    body::TOLD_FAULTS,
    parcel::{Tag, Taken, Tally},
};
use crate::{
    fault::{Fault, Reason},
    log::identity,
    metrics::Metrics,
    pipeline::too_old,
    source::file::Expected,
};

/// Largest message, encoded.
pub(crate) const MAX_MESSAGE: usize = 1 << 20;
/// How long a new stream may take to say hello.
const PATIENCE: Duration = Duration::from_secs(10);
/// Batches of one stream that may wait to be durable; no more are read then.
const MAX_UNCONFIRMED: usize = 1_024;
/// What a stream may take besides its share of the room, bytes: a message that is being received, and its flow control.
const STREAM_BYTES: usize = 2 * MAX_MESSAGE;

/// The service that clients call; one that refuses them, if there is no such source.
#[derive(Debug, Clone)]
pub(crate) struct IntakeService {
    /// Where to, and how many streams may be open.
    open: Option<(Desk, usize)>,
    streams: Arc<AtomicUsize>,
    metrics: Metrics,
    seams: Seams,
}

/// A batch that was taken, and is not durable yet.
struct Unconfirmed {
    sequence: u64,
    outcome: v1::IntakeOutcome,
    durable: oneshot::Receiver<()>,
}

type Out = mpsc::Sender<Result<v1::IntakeResponse, Status>>;

impl IntakeService {
    /// The service of a desk, or one that is closed.
    pub(crate) fn new(desk: Option<Desk>, metrics: Metrics, seams: Seams) -> Self {
        let streams = |desk: &Desk| (desk.bytes() / STREAM_BYTES).clamp(4, 64);
        let open = desk.map(|desk| {
            let most = streams(&desk);
            (desk, most)
        });
        Self { open, streams: Arc::default(), metrics, seams }
    }
}

/// A stream's place among those that are open.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[tonic::async_trait]
impl Intake for IntakeService {
    type SendStream = ReceiverStream<Result<v1::IntakeResponse, Status>>;

    async fn send(&self, request: Request<Streaming<v1::IntakeRequest>>) -> Result<Response<Self::SendStream>, Status> {
        let closed = || Status::failed_precondition("this collector has no source of kind \"grpc\"");
        let (desk, most) = self.open.clone().ok_or_else(closed)?;
        let place = Place(Arc::clone(&self.streams));
        if self.streams.fetch_add(1, Relaxed) >= most {
            return Err(Status::resource_exhausted(format!("{most} streams are open already")));
        }
        let (out, answers) = mpsc::channel(16);
        let (metrics, seams) = (self.metrics.clone(), self.seams.clone());
        self.seams.tasks.spawn(Kind::CONNECTION, "grpc intake", async move {
            let _place = place;
            let served = serve(desk, metrics, &seams, request.into_inner(), &out).await;
            if let Err(status) = served {
                tracing::debug!(%status, "an intake stream ends");
                // The client may be gone.
                let _ = out.send(Err(status)).await;
            }
            Ok::<(), Status>(())
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

async fn serve(
    desk: Desk,
    metrics: Metrics,
    seams: &Seams,
    mut incoming: Streaming<v1::IntakeRequest>,
    out: &Out,
) -> Result<(), Status> {
    let first = tokio::time::timeout(PATIENCE, incoming.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no hello came"))??;
    let Some(Message::Hello(hello)) = first.and_then(|request| request.message) else {
        return Err(Status::failed_precondition("the first message must be a hello"));
    };
    let client = intake::client(&hello).map_err(|invalid| refuse(&invalid))?;
    let next_sequence = desk.last(&client).await?.map_or(0, |last| last + 1);
    let hello = v1::IntakeResponse { next_sequence, ..v1::IntakeResponse::default() };
    if out.send(Ok(hello)).await.is_err() {
        return Ok(());
    }
    let (unconfirmed, waiting) = mpsc::channel(MAX_UNCONFIRMED);
    let reader = Reader { sensor: rapidhash_v3(client.as_bytes()), client, desk, metrics, seams: seams.clone() };
    // Reading may end while what was read waits to be durable.
    let (read, confirmed) = tokio::join!(reader.run(incoming, unconfirmed), confirm(waiting, out));
    confirmed.and(read)
}

/// Tells what is durable, in order.
async fn confirm(mut waiting: mpsc::Receiver<Unconfirmed>, out: &Out) -> Result<(), Status> {
    while let Some(Unconfirmed { sequence, outcome, durable }) = waiting.recv().await {
        durable.await.map_err(|_| Refused::Ended)?;
        let confirmed = v1::IntakeResponse { durable_sequence: sequence, outcome: Some(outcome), next_sequence: 0 };
        if out.send(Ok(confirmed)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

struct Reader {
    client: String,
    sensor: u64,
    desk: Desk,
    metrics: Metrics,
    seams: Seams,
}

/// What a batch holds, decoded.
#[derive(Default)]
struct Decoded {
    records: Vec<FlowRecord>,
    tally: Tally,
    faults: Vec<String>,
    at_ms: EventMillis,
}

impl Reader {
    async fn run(
        self,
        mut incoming: Streaming<v1::IntakeRequest>,
        unconfirmed: mpsc::Sender<Unconfirmed>,
    ) -> Result<(), Status> {
        let token = self.seams.tasks.token();
        loop {
            // A place first: what is read is always confirmed, or the stream breaks.
            let Ok(place) = unconfirmed.reserve().await else { return Ok(()) };
            let request = tokio::select! {
                request = incoming.message() => request?,
                () = token.cancelled() => return Err(Refused::Ended.into()),
                () = unconfirmed.closed() => return Ok(()),
            };
            let Some(request) = request else { return Ok(()) };
            let Some(Message::Batch(batch)) = request.message else {
                return Err(Status::invalid_argument("IntakeRequest.message: expected a batch"));
            };
            place.send(self.take(&batch).await?);
        }
    }

    async fn take(&self, batch: &v1::IntakeBatch) -> Result<Unconfirmed, Status> {
        let (sequence, content) = intake::batch(batch).map_err(|invalid| refuse(&invalid))?;
        let length = batch.encoded_len();
        Metrics::add(&self.metrics.counters().bytes_read, length as u64);
        let room = self.desk.room(Some(length)).await?;
        let Decoded { records, tally, faults, at_ms } = match content {
            Content::Records(records) => self.records(records),
            Content::Lines(lines) => self.lines(lines).await,
        };
        let tag = Tag::Number { client: self.client.clone(), sequence };
        let handed = Handed { tag, records, tally, at_ms, room };
        let (taken, durable) = self.desk.hand_over(handed).await?;
        let repeated = match taken {
            Taken::OutOfOrder { expected } => {
                let problem = format!("IntakeBatch.sequence: is {sequence}, expected {expected}");
                return Err(Status::failed_precondition(problem));
            }
            Taken::Repeated(_) => true,
            Taken::Counted | Taken::KeyReused => false,
        };
        let Tally { accepted, ignored, rejected } = tally;
        let outcome = v1::IntakeOutcome { accepted, ignored, rejected, faults, repeated };
        Ok(Unconfirmed { sequence, outcome, durable })
    }

    fn records(&self, messages: &[v1::FlowRecord]) -> Decoded {
        let mut decoded = Decoded { at_ms: self.seams.clock.now_ms(), ..Decoded::default() };
        for (index, message) in messages.iter().enumerate() {
            let read = intake::record(message).map_err(|invalid| Fault::new(Reason::OutOfRange, invalid.to_string()));
            let fault = match read {
                Ok((mut record, community)) => {
                    if let Some(community) = community {
                        let known = record.annotations.get_or_insert_default();
                        (known.connection, known.sensor) = (Some(identity::of(community)), self.sensor);
                    }
                    let fault = too_old(&record, decoded.at_ms);
                    if fault.is_none() {
                        decoded.records.push(record);
                    }
                    fault
                }
                Err(fault) => Some(fault),
            };
            if let Some(fault) = fault {
                decoded.tally.rejected += 1;
                self.fault(&mut decoded.faults, || format!("record {index}"), &fault);
            }
        }
        decoded.tally.accepted = decoded.records.len() as u32;
        decoded
    }

    async fn lines(&self, lines: &[u8]) -> Decoded {
        match self.desk.read(lines.to_vec(), false, Expected::Auto).await {
            Ok(read) => {
                let Tally { accepted, ignored, rejected } = read.lines.tally;
                Metrics::add(&self.metrics.counters().lines, u64::from(accepted + ignored + rejected));
                let mut decoded = Decoded { records: read.lines.records, at_ms: read.at_ms, ..Decoded::default() };
                decoded.tally = read.lines.tally;
                for fault in read.lines.faults {
                    self.fault(&mut decoded.faults, || format!("line {}", fault.line), &fault.fault);
                }
                decoded
            }
            Err(error) => {
                // It has its number all the same: what follows is not held up.
                let mut decoded = Decoded { tally: Tally { rejected: 1, ..Tally::default() }, ..Decoded::default() };
                let fault = Fault::new(Reason::UnknownFormat, error.to_string());
                self.fault(&mut decoded.faults, || "lines".to_owned(), &fault);
                decoded
            }
        }
    }

    fn fault(&self, told: &mut Vec<String>, place: impl Fn() -> String, fault: &Fault) {
        if told.len() < TOLD_FAULTS {
            told.push(format!("{}: {fault}", place()));
        }
        self.metrics.fault(&format!("grpc {}", self.client), &place, fault);
    }
}

fn refuse(invalid: &Invalid) -> Status {
    Status::invalid_argument(invalid.to_string())
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        Self::unavailable(refused.to_string())
    }
}
