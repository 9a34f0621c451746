//! Traces and metrics reach an OTLP collector: here a service that takes any gRPC call and keeps its bytes.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::{Grpc, NamedService, UnaryService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

use crate::program::{data, done};

type Calls = Arc<Mutex<BTreeMap<String, u64>>>;

/// Counts calls; what they say is skipped, and all is accepted with an empty message.
#[derive(Clone)]
struct Sink<const METRICS: bool>(Calls);

impl NamedService for Sink<false> {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl NamedService for Sink<true> {
    const NAME: &'static str = "opentelemetry.proto.collector.metrics.v1.MetricsService";
}

impl<const METRICS: bool> Service<http::Request<Body>> for Sink<METRICS> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        *self.0.lock().unwrap().entry(request.uri().path().to_owned()).or_default() += 1;
        Box::pin(async { Ok(Grpc::new(ProstCodec::<(), ()>::default()).unary(Accept, request).await) })
    }
}

struct Accept;

impl UnaryService<()> for Accept {
    type Response = ();
    type Future = Ready<Result<Response<()>, Status>>;

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_and_metrics_are_pushed() {
    let calls = Calls::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("telemetry.otlp_endpoint=http://{}", listener.local_addr().unwrap());
    let server =
        Server::builder().add_service(Sink::<false>(Arc::clone(&calls))).add_service(Sink::<true>(Arc::clone(&calls)));
    let run = move || {
        let path = data("recorded.pcap");
        let arguments = ["replay", "--quiet", "--set", &endpoint, path.to_str().unwrap()];
        done(crate::program::command(&arguments).output().unwrap())
    };
    let serving = server.serve_with_incoming(TcpIncoming::from(listener));
    #[expect(clippy::disallowed_methods, reason = "a test has no node whose tasks these would be")]
    let (serving, run) = (tokio::spawn(serving), tokio::task::spawn_blocking(run));
    let replayed = run.await.unwrap();
    assert_eq!(replayed.code, 0, "{}", replayed.err);
    serving.abort();
    let calls = calls.lock().unwrap();
    let called = |name: &str| calls.iter().any(|(path, count)| path.contains(name) && *count > 0);
    assert!(called("TraceService/Export"), "{calls:?}");
    assert!(called("MetricsService/Export"), "{calls:?}");
}
