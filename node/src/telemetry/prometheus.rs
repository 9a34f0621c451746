//! `/metrics`, as Prometheus reads it.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Encoder as _, Registry, TextEncoder};
use spikewatch_actors::{Seams, task::Kind};
use tokio::net::TcpListener;

use crate::failure::Failure;

/// Binds the port and serves until the node shuts down. Returns where.
///
/// # Errors
/// The port can't be had.
pub(crate) async fn serve(address: SocketAddr, registry: Registry, seams: &Seams) -> Result<SocketAddr, Failure> {
    let failure = |error| Failure::port("metrics", address, &error);
    let listener = TcpListener::bind(address).await.map_err(failure)?;
    let bound = listener.local_addr().map_err(failure)?;
    let router = Router::new().route("/metrics", get(metrics)).with_state(registry);
    seams.tasks.spawn(Kind::BACKGROUND, "metrics", async move { axum::serve(listener, router).await });
    Ok(bound)
}

async fn metrics(State(registry): State<Registry>) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => ([(CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
