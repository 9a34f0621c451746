//! NetFlow v5 as exporters send it, and what of it has to be counted where.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use spikewatch_actors::clock::Clock;

use crate::random::Random;

/// Base bucket of the cluster, ms.
pub(crate) const BUCKET_MS: u64 = 10_000;
/// Records of one datagram.
const RECORDS: u16 = 20;
/// An exporter's uptime, ms: what its flows' times are told by.
const UPTIME: u32 = 1_000_000;

/// A host's window: bucket, site, address.
pub(crate) type Key = (u64, String, IpAddr);

/// What is counted of a host in a bucket: events and bytes out.
pub(crate) type Counted = (u64, u64);

/// One exporter a site.
pub(crate) struct Traffic {
    socket: UdpSocket,
    /// Where each site's collector listens.
    sites: Vec<(String, SocketAddr)>,
    random: Random,
    sent: BTreeMap<Key, Counted>,
}

impl Traffic {
    pub(crate) fn new(sites: Vec<(String, SocketAddr)>, seed: u64) -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        Self { socket, sites, random: Random::new(seed), sent: BTreeMap::new() }
    }

    /// What has been sent so far.
    pub(crate) fn sent(&self) -> BTreeMap<Key, Counted> {
        self.sent.clone()
    }

    /// Some 1,000 records a second and site.
    pub(crate) async fn send_for(&mut self, time: Duration) {
        self.send_from(0, time).await;
    }

    /// The same without the sites before that one.
    pub(crate) async fn send_from(&mut self, first: usize, time: Duration) {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..time.as_millis() / 20 {
            ticks.tick().await;
            for number in first..self.sites.len() {
                self.send(number);
            }
        }
    }

    fn send(&mut self, number: usize) {
        let now = Clock::system().now_ms();
        let mut datagram = Vec::with_capacity(24 + 48 * usize::from(RECORDS));
        datagram.extend(5u16.to_be_bytes());
        datagram.extend(RECORDS.to_be_bytes());
        datagram.extend(UPTIME.to_be_bytes());
        datagram.extend(((now / 1000) as u32).to_be_bytes());
        datagram.extend(((now % 1000) as u32 * 1_000_000).to_be_bytes());
        datagram.extend([0; 8]);
        for _ in 0..RECORDS {
            let (host, bytes, port) =
                (1 + self.random.draw() % 199, 100 + self.random.draw() % 4_900, 1_024 + self.random.draw() % 60_000);
            datagram.extend([10, 0, 0, host as u8, 8, 8, 8, 8]);
            datagram.extend([0; 8]);
            datagram.extend(3u32.to_be_bytes());
            datagram.extend((bytes as u32).to_be_bytes());
            // It begins and ends now: in one bucket.
            datagram.extend(UPTIME.to_be_bytes());
            datagram.extend(UPTIME.to_be_bytes());
            datagram.extend((port as u16).to_be_bytes());
            datagram.extend(443u16.to_be_bytes());
            datagram.extend([0, 0x18, 6, 0]);
            datagram.extend([0; 8]);
            let key = (now / BUCKET_MS * BUCKET_MS, self.sites[number].0.clone(), IpAddr::from([10, 0, 0, host as u8]));
            let counted = self.sent.entry(key).or_default();
            *counted = (counted.0 + 1, counted.1 + bytes);
        }
        self.socket.send_to(&datagram, self.sites[number].1).unwrap();
    }
}
