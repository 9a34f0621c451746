//! The gRPC services: each turns messages into requests to an actor, or into reads of the store.

pub(crate) mod alerting;
pub(crate) mod control;
pub(crate) mod gate;
pub(crate) mod results;
pub(crate) mod roster;
pub(crate) mod rules;
pub(crate) mod windowing;

use std::{fmt, pin::Pin};

use futures_util::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

/// Answers that wait to be sent on one stream.
const OUTGOING: usize = 16;

/// A stream of answers.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
/// Where a task puts them.
pub(crate) type Outgoing<T> = mpsc::Sender<Result<T, Status>>;

/// A stream of answers and where to put them.
pub(crate) fn answers<T: Send + 'static>(capacity: usize) -> (Outgoing<T>, Response<Answers<T>>) {
    let (sender, receiver) = mpsc::channel(capacity.max(OUTGOING));
    (sender, Response::new(Box::pin(ReceiverStream::new(receiver))))
}

/// What failed within, as a status.
pub(crate) fn internal(error: impl fmt::Display) -> Status {
    Status::internal(error.to_string())
}
