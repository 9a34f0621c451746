//! Intake over HTTP/1.1: `POST /v1/records` with lines. It is answered when the records are durable, so once a slice.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as _, Bytes, Incoming},
    header::{ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use spikewatch_actors::{Seams, task::Kind};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use super::{
    Desk, Handed, Refused,
    body::{BodyError, LineFault, MAX_BODY},
    key_hash,
    parcel::{Tag, Taken, Tally},
};
use crate::{
    fault::{Fault, Reason},
    metrics::Metrics,
    source::file::Expected,
};

/// Connections at once; more wait in the kernel.
const MAX_CONNECTIONS: usize = 1_024;
/// How long a connection may take for its headers, be it for the next request.
const HEADERS: Duration = Duration::from_secs(60);
/// How long a request may take for its body.
const BODY: Duration = Duration::from_secs(30);
/// Buffer of a connection, which its headers have to fit into.
const BUFFER: usize = 64 << 10;
/// Longest `Idempotency-Key`.
const MAX_KEY: usize = 255;
/// After an error of the kernel, which may last.
const PAUSE: Duration = Duration::from_millis(100);

/// What an answer says.
#[derive(Debug, Serialize)]
struct Answer {
    accepted: u32,
    ignored: u32,
    rejected: u32,
    /// It was counted before, and not again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    repeated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<AnsweredFault>,
}

#[derive(Debug, Serialize)]
struct AnsweredFault {
    line: u32,
    reason: &'static str,
    detail: String,
}

/// Why a request is not taken.
struct Problem(StatusCode, String);

impl Problem {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self(status, text.into())
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, refused.to_string())
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let status = match error {
            BodyError::TooLong | BodyError::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Unrecognised(_) | BodyError::Gzip(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

/// A bound port.
#[derive(Debug)]
pub(crate) struct HttpIntake {
    listener: TcpListener,
    address: SocketAddr,
    expected: Expected,
}

/// What each request needs.
struct Door {
    desk: Desk,
    name: String,
    expected: Expected,
    metrics: Metrics,
    seams: Seams,
}

impl HttpIntake {
    /// Binds a port. Port 0 takes a free one.
    ///
    /// # Errors
    /// It can't be had.
    pub(crate) async fn bind(address: SocketAddr, expected: Expected) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, expected })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the collector ends; requests that were handed over are answered still.
    pub(crate) fn serve(self, desk: Desk, metrics: Metrics, seams: &Seams) {
        let name = format!("http {}", self.address);
        let door = Arc::new(Door { desk, name, expected: self.expected, metrics, seams: seams.clone() });
        seams.tasks.spawn(Kind::BACKGROUND, "http intake", accept(self.listener, door));
    }
}

async fn accept(listener: TcpListener, door: Arc<Door>) -> Result<(), Infallible> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = Arc::clone(&door);
                door.seams.tasks.spawn(Kind::CONNECTION, "http intake", async move {
                    let _place = place;
                    connection.converse(stream).await;
                    Ok::<_, Infallible>(())
                });
            }
            Err(error) => {
                tracing::warn!(%error, intake = door.name, "a connection can't be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Door {
    async fn converse(self: Arc<Self>, stream: TcpStream) {
        let token = self.seams.tasks.token();
        let service = service_fn(|request| {
            let door = Arc::clone(&self);
            async move { Ok::<_, Infallible>(door.answer(request).await) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(BUFFER);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = token.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, intake = self.name, "a connection broke off");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if path != "/v1/records" {
            let problem = format!("{path} is nothing here: expected POST /v1/records");
            return refuse(&Problem::new(StatusCode::NOT_FOUND, problem));
        }
        if request.method() != Method::POST {
            let problem = format!("{} does nothing here: expected POST", request.method());
            let mut response = refuse(&Problem::new(StatusCode::METHOD_NOT_ALLOWED, problem));
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        match self.take(request).await {
            Ok((status, answer)) => respond(status, &answer),
            Err(problem) => refuse(&problem),
        }
    }

    async fn take(&self, request: Request<Incoming>) -> Result<(StatusCode, Answer), Problem> {
        if self.seams.tasks.token().is_cancelled() {
            return Err(Refused::Ended.into());
        }
        let (key, packed) = (key(request.headers())?, is_packed(request.headers())?);
        let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let too_long = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, BodyError::TooLong.to_string());
        if length.is_some_and(|length: usize| length > MAX_BODY) || request.body().size_hint().lower() > MAX_BODY as u64
        {
            return Err(too_long());
        }
        let room = self.desk.room(length.filter(|_| !packed)).await?;
        let body = match timeout(BODY, Limited::new(request.into_body(), MAX_BODY).collect()).await {
            Ok(Ok(body)) => Vec::from(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_long()),
            Ok(Err(error)) => {
                return Err(Problem::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")));
            }
            Err(_) => {
                let problem = format!("the body took longer than {} s", BODY.as_secs());
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, problem));
            }
        };
        Metrics::add(&self.metrics.counters().bytes_read, body.len() as u64);
        let read = self.desk.read(body, packed, self.expected).await.inspect_err(|error| {
            self.metrics.fault(
                &self.name,
                || "a body".to_owned(),
                &Fault::new(Reason::UnknownFormat, error.to_string()),
            );
        })?;
        let (tally, faults) = (read.lines.tally, read.lines.faults);
        Metrics::add(&self.metrics.counters().lines, u64::from(tally.accepted + tally.ignored + tally.rejected));
        for LineFault { line, fault } in &faults {
            self.metrics.fault(&self.name, || format!("line {line} of a body"), fault);
        }
        if tally.accepted == 0 {
            // Nothing of it counts, so there is nothing to wait for.
            let unreadable = tally.ignored == 0 && tally.rejected > 0;
            let status = if unreadable { StatusCode::BAD_REQUEST } else { StatusCode::OK };
            return Ok((status, Answer::of(tally, faults)));
        }
        let tag = key.map_or(Tag::None, |key| Tag::Key { key, body: read.hash });
        let handed = Handed { tag, records: read.lines.records, tally, at_ms: read.at_ms, room };
        let (taken, durable) = self.desk.hand_over(handed).await?;
        let answer = match taken {
            Taken::Counted | Taken::OutOfOrder { .. } => Answer::of(tally, faults),
            Taken::Repeated(before) => Answer { repeated: true, ..Answer::of(before.unwrap_or(tally), faults) },
            Taken::KeyReused => {
                let problem = "this Idempotency-Key was that of another body: each body needs its own";
                return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, problem));
            }
        };
        durable.await.map_err(|_| Problem::from(Refused::Ended))?;
        Ok((StatusCode::OK, answer))
    }
}

impl Answer {
    fn of(Tally { accepted, ignored, rejected }: Tally, faults: Vec<LineFault>) -> Self {
        let told = |LineFault { line, fault }: LineFault| AnsweredFault {
            line,
            reason: fault.reason.label(),
            detail: fault.detail.into_owned(),
        };
        let faults = faults.into_iter().map(told).collect();
        Self { accepted, ignored, rejected, repeated: false, error: None, faults }
    }
}

/// The hash of the key that the sender chose, if it did.
fn key(headers: &HeaderMap) -> Result<Option<u128>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let plain = (1..=MAX_KEY).contains(&key.len()) && key.to_str().is_ok();
    let problem = || format!("Idempotency-Key must be 1 to {MAX_KEY} printable characters");
    if plain { Ok(Some(key_hash(key.as_bytes()))) } else { Err(Problem::new(StatusCode::BAD_REQUEST, problem())) }
}

fn is_packed(headers: &HeaderMap) -> Result<bool, Problem> {
    match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None => Ok(false),
        Some(coding) if coding.eq_ignore_ascii_case(b"identity") => Ok(false),
        Some(coding) if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") => Ok(true),
        Some(coding) => {
            let problem =
                format!("Content-Encoding {:?} is not known: expected gzip", coding.escape_ascii().to_string());
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem))
        }
    }
}

fn refuse(Problem(status, text): &Problem) -> Response<Full<Bytes>> {
    let answer = Answer { error: Some(text.clone()), ..Answer::of(Tally::default(), Vec::new()) };
    let mut response = respond(*status, &answer);
    if *status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    // A body that is not wanted is not read to its end either.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn respond(status: StatusCode, answer: &Answer) -> Response<Full<Bytes>> {
    let mut text = serde_json::to_vec(answer).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
