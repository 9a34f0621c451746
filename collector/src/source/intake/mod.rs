//! Intake: senders hand over parcels of records, by HTTP or gRPC, and are told when these are durable. Until then they keep
//! them, and send them again; what carries a key or a number counts once.

pub(crate) mod body;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod parcel;
pub(crate) mod remembered;

use std::{sync::Arc, time::Duration};

use rapidhash::v3::rapidhash_v3;
use spikewatch_actors::{Seams, task::Kind};
use spikewatch_domain::record::{EventMillis, FlowRecord};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

use self::{
    body::{BodyError, Lines, MAX_BODY},
    parcel::{Parcel, Tag, Taken, Tally},
};
use super::file::Expected;
use crate::{live::Input, log::ecs::EcsOptions, metrics::Metrics};

/// How long a sender waits for room before it is told to come again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Memory that the largest parcel takes: as it came, unpacked, and its records.
pub(crate) const LARGEST: usize = 3 * MAX_BODY;
/// Room is shared out in these units, bytes.
const UNIT: usize = 1 << 10;

/// Nobody takes parcels any more, or not soon: nothing of this one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// All room is taken.
    #[error("too much is waiting to be counted: send it again later")]
    Full,
    /// The collector ends.
    #[error("the collector ends: send it again later")]
    Ended,
}

/// A body that was read.
#[derive(Debug)]
pub(crate) struct ReadBody {
    pub(crate) lines: Lines,
    /// Hash of what it holds, unpacked.
    pub(crate) hash: u64,
    /// By which clock its times were judged.
    pub(crate) at_ms: EventMillis,
}

/// What is handed over.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) tag: Tag,
    pub(crate) records: Vec<FlowRecord>,
    pub(crate) tally: Tally,
    pub(crate) at_ms: EventMillis,
    pub(crate) room: OwnedSemaphorePermit,
}

/// Where parcels are handed over. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    inputs: mpsc::Sender<Input>,
    room: Arc<Semaphore>,
    units: u32,
    ecs: EcsOptions,
    metrics: Metrics,
    seams: Seams,
}

impl Desk {
    /// One with room for that many bytes, but at least for the largest parcel.
    pub(crate) fn new(
        inputs: mpsc::Sender<Input>,
        bytes: usize,
        ecs: EcsOptions,
        metrics: Metrics,
        seams: Seams,
    ) -> Self {
        let units = u32::try_from(bytes.max(LARGEST) / UNIT).unwrap_or(u32::MAX).min(1 << 28);
        let room = Arc::new(Semaphore::new(units as usize));
        Self { inputs, room, units, ecs, metrics, seams }
    }

    /// Bytes that parcels may take that are not yet counted.
    pub(crate) fn bytes(&self) -> usize {
        self.units as usize * UNIT
    }

    /// Room for what was, or will be, sent in so many bytes; as if for the largest parcel, if that isn't known.
    pub(crate) async fn room(&self, sent: Option<usize>) -> Result<OwnedSemaphorePermit, Refused> {
        let bytes = sent.map_or(LARGEST, |sent| sent.saturating_mul(4).clamp(64 * UNIT, LARGEST));
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(self.units).min(self.units);
        let got = timeout(PATIENCE, Arc::clone(&self.room).acquire_many_owned(units)).await;
        match got {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) => Err(Refused::Ended),
            Err(_) => Err(self.refuse(Refused::Full)),
        }
    }

    /// Reads lines on a thread that may take its time.
    pub(crate) async fn read(&self, sent: Vec<u8>, packed: bool, expected: Expected) -> Result<ReadBody, BodyError> {
        let (ecs, at_ms) = (self.ecs.clone(), self.seams.clock.now_ms());
        let (answer, answered) = oneshot::channel();
        self.seams.tasks.spawn_blocking(Kind::CONNECTION, "intake", move || {
            let read = || {
                let body = if packed { body::unpack(&sent)? } else { sent };
                let lines = body::read(&body, expected, &ecs, at_ms)?;
                Ok(ReadBody { lines, hash: rapidhash_v3(&body), at_ms })
            };
            // Whoever asked may be gone.
            let _ = answer.send(read());
            Ok::<_, std::convert::Infallible>(())
        });
        let failed = || BodyError::Gzip(std::io::Error::other("reading it failed"));
        answered.await.unwrap_or_else(|_| Err(failed()))
    }

    /// Hands a parcel over: what was done with it, and what tells when it is durable.
    pub(crate) async fn hand_over(&self, handed: Handed) -> Result<(Taken, oneshot::Receiver<()>), Refused> {
        let Handed { tag, records, tally, at_ms, room } = handed;
        let (taken, was_taken) = oneshot::channel();
        let (durable, is_durable) = oneshot::channel();
        let place = match timeout(PATIENCE, self.inputs.reserve()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) => return Err(Refused::Ended),
            Err(_) => return Err(self.refuse(Refused::Full)),
        };
        place.send(Input::Parcel(Parcel { tag, records, tally, at_ms, taken, durable, room }));
        was_taken.await.map(|taken| (taken, is_durable)).map_err(|_| Refused::Ended)
    }

    /// The last number of a client, if it is known.
    pub(crate) async fn last(&self, client: &str) -> Result<Option<u64>, Refused> {
        let (answer, answered) = oneshot::channel();
        let ask = Input::LastOf { client: client.to_owned(), answer };
        match timeout(PATIENCE, self.inputs.send(ask)).await {
            Ok(Ok(())) => answered.await.map_err(|_| Refused::Ended),
            Ok(Err(_)) => Err(Refused::Ended),
            Err(_) => Err(self.refuse(Refused::Full)),
        }
    }

    fn refuse(&self, refused: Refused) -> Refused {
        Metrics::add(&self.metrics.counters().intake_refused, 1);
        refused
    }
}

/// Hash of a key.
pub(crate) fn key_hash(key: &[u8]) -> u128 {
    let other = [&[1], key].concat();
    u128::from(rapidhash_v3(key)) << 64 | u128::from(rapidhash_v3(&other))
}
