//! gRPC ports: bound first, all of them, then served with what every port has (health, reflection, limits, keep-alive).

use std::{net::SocketAddr, time::Duration};

use opentelemetry::propagation::Extractor;
use spikewatch_actors::{Seams, task::Kind};
use tokio::net::TcpListener;
use tonic::{
    codegen::http::{HeaderMap, Request},
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::failure::Failure;

/// A peer that doesn't answer for this long, and then for this long when asked, is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);
/// Requests and streams of one connection at once.
const STREAMS: u32 = 256;
/// Flow-control windows: a slice of a busy site should not wait for window updates.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Headers of a request.
const HEADER_BYTES: u32 = 16 << 10;

/// A bound port.
#[derive(Debug)]
pub(crate) struct Port {
    listener: TcpListener,
    address: SocketAddr,
}

impl Port {
    /// Binds it. Port 0 takes a free one.
    ///
    /// # Errors
    /// It can't be had.
    pub(crate) async fn bind(what: &str, address: SocketAddr) -> Result<Self, Failure> {
        let failure = |error| Failure::port(what, address, &error);
        let listener = TcpListener::bind(address).await.map_err(failure)?;
        let address = listener.local_addr().map_err(failure)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves a role until the node shuts down. `services` are the full names of what the role has. Returns where their
    /// health is shown.
    ///
    /// # Errors
    /// The descriptors of reflection can't be read, which is a bug.
    pub(crate) async fn serve(
        self,
        task: &'static str,
        routes: Routes,
        services: &[&'static str],
        seams: &Seams,
    ) -> Result<HealthReporter, Failure> {
        let (health, health_service) = tonic_health::server::health_reporter();
        set_all(&health, services, ServingStatus::Serving).await;
        let reflection = || {
            let builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(spikewatch_proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name("grpc.health.v1.Health");
            services.iter().fold(builder, |builder, service| builder.with_service_name(*service))
        };
        let routes = routes
            .add_service(health_service)
            .add_service(reflection().build_v1().map_err(Failure::internal)?)
            .add_service(reflection().build_v1alpha().map_err(Failure::internal)?);
        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_ANSWER))
            .max_concurrent_streams(Some(STREAMS))
            .initial_stream_window_size(Some(STREAM_WINDOW))
            .initial_connection_window_size(Some(CONNECTION_WINDOW))
            .http2_max_header_list_size(Some(HEADER_BYTES))
            .trace_fn(span)
            .add_routes(routes);
        let (token, services, shown) = (seams.tasks.token(), services.to_vec(), health.clone());
        // A client that stops answering can hold a graceful shutdown up for ever (hyper issue 4170): the node's deadline
        // aborts this task then.
        seams.tasks.spawn(Kind::ROLE, task, async move {
            let drained = async move {
                token.cancelled().await;
                set_all(&health, &services, ServingStatus::NotServing).await;
            };
            server.serve_with_incoming_shutdown(incoming, drained).await
        });
        Ok(shown)
    }
}

/// Shows a detector's services as served while it leads. The process itself is healthy either way.
pub(crate) fn show_leading(
    health: HealthReporter,
    handle: spikewatch_detector::Handle,
    services: &'static [&'static str],
    seams: &Seams,
) {
    seams.tasks.spawn(Kind::BACKGROUND, "health", async move {
        loop {
            for (leads, status) in [(false, ServingStatus::NotServing), (true, ServingStatus::Serving)] {
                handle.leads(leads).await;
                for service in services {
                    health.set_service_status(*service, status).await;
                }
            }
        }
        #[expect(unreachable_code, reason = "names the type of the error")]
        Ok::<(), std::convert::Infallible>(())
    });
}

async fn set_all(health: &HealthReporter, services: &[&'static str], status: ServingStatus) {
    health.set_service_status("", status).await;
    for service in services {
        health.set_service_status(*service, status).await;
    }
}

/// The span of a request, child of the caller's as its W3C `traceparent` says.
fn span(request: &Request<()>) -> Span {
    let span = tracing::debug_span!("grpc", otel.kind = "server", rpc.method = request.uri().path());
    let parent =
        opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&Metadata(request.headers())));
    // Fails only where no traces are collected.
    let _ = span.set_parent(parent);
    span
}

struct Metadata<'a>(&'a HeaderMap);

impl Extractor for Metadata<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(tonic::codegen::http::HeaderName::as_str).collect()
    }
}
