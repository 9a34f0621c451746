//! Datagrams as they come: from a UDP socket, or handed over in the process by a player of recorded traffic.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering::Relaxed,
};

use socket2::{Domain, Protocol, Socket, Type};
use spikewatch_actors::mailbox::Mailbox;
use tokio::net::UdpSocket;

use crate::metrics::Metrics;

/// What the kernel is asked to hold for us while we are busy; it may give less.
const RECEIVE_BUFFER: usize = 16 << 20;
/// Largest UDP payload.
const MAX_DATAGRAM: usize = 65_535;

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

/// Binds a UDP socket with a large receive buffer.
///
/// # Errors
/// If the address can't be bound.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Less buffer only means more drops, which are counted; it is no reason not to listen.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Receives until the mailbox's other end is gone. A full mailbox drops the datagram, counted.
///
/// # Errors
/// Never: what the socket reports is counted and logged.
pub async fn receive(
    socket: UdpSocket,
    now_ms: impl Fn() -> u64,
    datagrams: Mailbox<Datagram>,
    metrics: Metrics,
) -> Result<(), Infallible> {
    let mut buffer = vec![0; MAX_DATAGRAM];
    while !datagrams.is_closed() {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                metrics.counters().bytes_read.fetch_add(length as u64, Relaxed);
                let payload = buffer.get(..length).unwrap_or_default().to_vec();
                let exporter = from.ip().to_canonical();
                let datagram = Datagram { exporter, time_ms: now_ms(), payload };
                if datagrams.try_send(datagram).is_err() {
                    metrics.counters().datagrams_dropped.fetch_add(1, Relaxed);
                }
            }
            Err(error) => tracing::warn!(%error, "receiving a datagram failed"),
        }
    }
    Ok(())
}
