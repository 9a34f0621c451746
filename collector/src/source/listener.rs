//! Datagrams as they come: from a UDP socket, or handed over in the process by a player of recorded traffic.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use spikewatch_actors::mailbox::Mailbox;
use tokio::{
    net::UdpSocket,
    time::{Instant, MissedTickBehavior},
};

use super::kernel_drops::KernelDrops;
use crate::{metrics::Metrics, pipeline::Pipeline};

/// Largest UDP payload.
const MAX_DATAGRAM: usize = 65_535;
/// How often the kernel's counter of drops is read.
const LOOK: Duration = Duration::from_secs(1);
/// Least time between two warnings of one listener.
const QUIET: Duration = Duration::from_secs(60);
/// Datagrams read before others get their turn.
const AT_ONCE: usize = 64;

/// An export datagram and when it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub exporter: IpAddr,
    /// When, event time in ms.
    pub time_ms: u64,
    /// UDP payload.
    pub payload: Vec<u8>,
}

impl Datagram {
    /// What it takes while it waits, bytes.
    fn waiting_bytes(&self) -> u64 {
        (size_of::<Self>() + self.payload.len()) as u64
    }

    /// Lets it wait for its turn. False if the mailbox is full, or what waits takes `limit` bytes.
    fn wait_in(self, mailbox: &Mailbox<Self>, limit: usize, metrics: &Metrics) -> bool {
        let bytes = self.waiting_bytes();
        let waiting = &metrics.counters().datagram_bytes_waiting;
        let fits = waiting.fetch_add(bytes, Relaxed).saturating_add(bytes) <= limit as u64;
        let waits = fits && mailbox.try_send(self).is_ok();
        if !waits {
            waiting.fetch_sub(bytes, Relaxed);
        }
        waits
    }

    /// It will wait, wherever it was until now.
    pub(crate) fn waits(&self, metrics: &Metrics) {
        metrics.counters().datagram_bytes_waiting.fetch_add(self.waiting_bytes(), Relaxed);
    }

    /// It waits no longer.
    pub(crate) fn waited(&self, metrics: &Metrics) {
        metrics.counters().datagram_bytes_waiting.fetch_sub(self.waiting_bytes(), Relaxed);
    }

    /// Through the pipeline.
    pub(crate) fn decode(&self, pipeline: &mut Pipeline, metrics: &Metrics) {
        Metrics::add(&metrics.counters().datagrams, 1);
        let mut faults = Vec::new();
        pipeline.datagram(self.exporter, self.time_ms, &self.payload, &mut faults);
        for fault in &faults {
            let place = || format!("a datagram received at {} ms", self.time_ms);
            metrics.fault(&self.exporter.to_string(), place, fault);
        }
    }
}

/// What one listener counts. Written by its task, read by any.
#[derive(Debug)]
pub struct ListenerMetrics {
    address: SocketAddr,
    receive_buffer: usize,
    received: AtomicU64,
    dropped: AtomicU64,
    kernel_dropped: Option<AtomicU64>,
}

impl ListenerMetrics {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that the kernel holds for it, by the kernel's own reckoning: Linux gives twice what is asked for, at most
    /// twice `net.core.rmem_max`, and counts its overhead in.
    #[must_use]
    pub fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    /// Datagrams received, those included that were dropped afterwards.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Datagrams dropped after they were received, because decoding could not keep up.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Datagrams that the kernel dropped because its buffer was full; as of a second ago. Nothing where it doesn't tell.
    #[must_use]
    pub fn kernel_dropped(&self) -> Option<u64> {
        self.kernel_dropped.as_ref().map(|dropped| dropped.load(Relaxed))
    }
}

/// A bound UDP socket.
#[derive(Debug)]
pub struct Listener {
    socket: UdpSocket,
    metrics: Arc<ListenerMetrics>,
    drops: Option<KernelDrops>,
}

impl Listener {
    /// Binds a socket and asks the kernel to hold `receive_buffer` bytes for it; it may give less, which is logged.
    ///
    /// # Errors
    /// If the address can't be bound.
    pub fn bind(address: SocketAddr, receive_buffer: usize) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        // Less buffer only means more drops, which are counted; it is no reason not to listen.
        let _ = socket.set_recv_buffer_size(receive_buffer);
        let granted = socket.recv_buffer_size()?;
        socket.bind(&address.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let address = socket.local_addr()?;
        if granted < receive_buffer {
            tracing::warn!(%address, granted, wanted = receive_buffer, "the kernel gives less receive buffer: raise net.core.rmem_max");
        }
        let drops = KernelDrops::of(&socket);
        let metrics = ListenerMetrics {
            address,
            receive_buffer: granted,
            received: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            kernel_dropped: drops.is_some().then(AtomicU64::default),
        };
        Ok(Self { socket, metrics: Arc::new(metrics), drops })
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> &Arc<ListenerMetrics> {
        &self.metrics
    }

    /// Receives until the mailbox's other end is gone. A full mailbox, or `limit` bytes of all that waits in it, drops the
    /// datagram, counted.
    ///
    /// # Errors
    /// Never: what the socket reports is counted and logged.
    pub async fn receive(
        mut self,
        now_ms: impl Fn() -> u64,
        (datagrams, limit): (Mailbox<Datagram>, usize),
        metrics: Metrics,
    ) -> Result<(), Infallible> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut warned = Warned::default();
        while !datagrams.is_closed() {
            tokio::select! {
                biased;
                _ = looks.tick() => {
                    self.look(&mut warned);
                    continue;
                }
                ready = self.socket.readable() => if let Err(error) = ready {
                    self.failed(&error, &mut looks).await;
                },
            }
            for _ in 0..AT_ONCE {
                match self.socket.try_recv_from(&mut buffer) {
                    Ok((length, from)) => {
                        metrics.counters().bytes_read.fetch_add(length as u64, Relaxed);
                        self.metrics.received.fetch_add(1, Relaxed);
                        let payload = buffer.get(..length).unwrap_or_default().to_vec();
                        let exporter = from.ip().to_canonical();
                        let datagram = Datagram { exporter, time_ms: now_ms(), payload };
                        if !datagram.wait_in(&datagrams, limit, &metrics) {
                            self.metrics.dropped.fetch_add(1, Relaxed);
                            metrics.counters().datagrams_dropped.fetch_add(1, Relaxed);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        self.failed(&error, &mut looks).await;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// An error that lasts must not keep a processor busy: it is told once a look.
    async fn failed(&self, error: &io::Error, looks: &mut tokio::time::Interval) {
        tracing::warn!(%error, address = %self.metrics.address, "receiving a datagram failed");
        looks.tick().await;
    }

    /// Reads the kernel's counter; says so when it grew, now and then.
    fn look(&mut self, warned: &mut Warned) {
        let Some((drops, seen)) = self.drops.as_mut().zip(self.metrics.kernel_dropped.as_ref()) else { return };
        let total = drops.total();
        seen.store(total, Relaxed);
        if let Some(dropped) = warned.due(total, Instant::now()) {
            let ListenerMetrics { address, receive_buffer, .. } = &*self.metrics;
            tracing::warn!(%address, dropped, total, receive_buffer, "the kernel dropped datagrams that came faster than they were read");
        }
    }
}

/// The account of a listener that ends.
impl Drop for Listener {
    fn drop(&mut self) {
        self.look(&mut Warned::default());
        let (counted, address) = (&self.metrics, self.metrics.address);
        let (received, dropped) = (counted.received(), counted.dropped());
        let kernel_dropped =
            counted.kernel_dropped().map_or_else(|| "unknown".to_owned(), |dropped| dropped.to_string());
        tracing::info!(%address, received, dropped, kernel_dropped, "listener closed");
    }
}

/// What was warned of last.
#[derive(Debug, Default)]
struct Warned {
    total: u64,
    at: Option<Instant>,
}

impl Warned {
    /// How many to warn of, if it is time.
    fn due(&mut self, total: u64, now: Instant) -> Option<u64> {
        let grown = total.saturating_sub(self.total);
        let quiet = self.at.is_some_and(|at| now.duration_since(at) < QUIET);
        if grown == 0 || quiet {
            return None;
        }
        *self = Self { total, at: Some(now) };
        Some(grown)
    }
}

#[cfg(test)]
mod tests;
