//! Channels to peers: over the system's sockets, or over what a simulator makes.

use std::{io, sync::Arc, task::Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{
    codegen::{BoxFuture, Service, http::Uri},
    transport::{Channel, Endpoint, Error},
};

/// Connects to `endpoint`; by `dial`, which gets "host:port", if there is one.
///
/// # Errors
/// Nobody answers there.
pub async fn connect<D, F, S>(endpoint: &Endpoint, dial: Option<Arc<D>>) -> Result<Channel, Error>
where
    D: Fn(String) -> F + Send + Sync + ?Sized + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match dial {
        Some(dial) => endpoint.connect_with_connector(Connector(dial)).await,
        None => endpoint.connect().await,
    }
}

struct Connector<D: ?Sized>(Arc<D>);

impl<D, F, S> Service<Uri> for Connector<D>
where
    D: Fn(String) -> F + ?Sized,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Response = TokioIo<S>;
    type Error = io::Error;
    type Future = BoxFuture<TokioIo<S>, io::Error>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let address = format!("{}:{}", to.host().unwrap_or_default(), to.port_u16().unwrap_or(80));
        let dialling = (self.0)(address);
        Box::pin(async move { Ok(TokioIo::new(dialling.await?)) })
    }
}
