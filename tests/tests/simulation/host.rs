//! One simulated machine: its address, its clock, and the process that runs on it.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::stream;
use spikewatch_actors::{
    Seams,
    clock::Clock,
    entropy::Entropy,
    network::{Connection, Network},
    task::Kind,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{sleep, timeout},
};
use tonic::{
    service::Routes,
    transport::{Server, server::Connected},
};
use turmoil::net::{TcpListener, TcpStream};

/// Where every process listens.
const PORT: u16 = 4317;
/// Wall clock at the beginning, ms.
const BEGIN_MS: u64 = 1_790_000_000_000;
/// How long a process may take to end in good order.
const PARTING: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    seed: u64,
    /// How far its clock is off, ms.
    skew_ms: AtomicI64,
    /// Processes that were started here.
    lives: AtomicU64,
    stop: Notify,
    /// How long the process is away after it was stopped, ms.
    away_ms: AtomicU64,
}

/// Simulated time that the world has counted to, without error, ms since 1970.
pub(crate) fn true_ms() -> u64 {
    BEGIN_MS + elapsed_ms()
}

/// The same, since the beginning.
pub(crate) fn elapsed_ms() -> u64 {
    turmoil::sim_elapsed().unwrap_or_default().as_millis() as u64
}

impl Host {
    pub(crate) fn new(name: String, address: IpAddr, seed: u64, skew_ms: i64) -> Arc<Self> {
        let (skew_ms, lives, away_ms) = (skew_ms.into(), 0.into(), 0.into());
        Arc::new(Self { name, address, seed, skew_ms, lives, stop: Notify::new(), away_ms })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}:{PORT}", self.address)
    }

    pub(crate) fn clock(self: &Arc<Self>) -> Clock {
        let host = Arc::clone(self);
        Clock::told(move || true_ms().saturating_add_signed(host.skew_ms.load(Relaxed)))
    }

    pub(crate) fn set_skew(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Relaxed);
    }

    /// How many processes were started here.
    pub(crate) fn lives(&self) -> u64 {
        self.lives.load(Relaxed)
    }

    /// Tells the process to end in good order; another is started after a while.
    pub(crate) fn stop(&self, away_ms: u64) {
        self.away_ms.store(away_ms, Relaxed);
        self.stop.notify_one();
    }

    /// What a new process on this host is started with.
    pub(crate) fn seams(self: &Arc<Self>) -> Seams {
        let life = self.lives.fetch_add(1, Relaxed);
        let entropy = Entropy::seeded(self.seed.wrapping_add(life << 32));
        let network = Network::of(Arc::new(|address| Box::pin(dial(address))));
        Seams { network, ..Seams::new(self.clock(), entropy) }
    }

    /// Serves until the process is told to end, or has to; it has ended when this returns, with why if it failed.
    pub(crate) async fn live(&self, seams: &Seams, routes: Routes) -> Result<(), String> {
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)).await.map_err(|e| e.to_string())?;
        serve(listener, routes, seams);
        let (failed, away) = tokio::select! {
            biased;
            failure = seams.tasks.failed() => (Err(failure.to_string()), Duration::from_secs(1)),
            () = self.stop.notified() => (Ok(()), Duration::from_millis(self.away_ms.load(Relaxed))),
        };
        tracing::info!(?failed, "the process ends");
        // What misses the deadline is aborted, as it would be on a real machine.
        let report = seams.tasks.shutdown(PARTING).await;
        tracing::info!(?report, "the process has ended");
        sleep(away).await;
        failed
    }
}

async fn dial(address: String) -> io::Result<Box<dyn Connection>> {
    Ok(Box::new(TcpStream::connect(address).await?))
}

fn serve(listener: TcpListener, routes: Routes, seams: &Seams) {
    let stop = seams.tasks.token();
    let incoming = stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await.map(|(stream, _)| Accepted(stream));
        Some((accepted, listener))
    });
    // As the node's ports are.
    let server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(Some(256))
        .initial_stream_window_size(Some(4 << 20))
        .initial_connection_window_size(Some(16 << 20))
        .add_routes(routes);
    seams.tasks.spawn(Kind::CONNECTION, "server", async move {
        // Clients that don't answer can hold it up.
        let served = server.serve_with_incoming_shutdown(Box::pin(incoming), stop.cancelled());
        let _ = timeout(Duration::MAX, served).await;
        Ok::<(), Infallible>(())
    });
}

/// A connection that was accepted.
struct Accepted(TcpStream);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
