//! The roles as processes of a cluster: each in a runtime of its own, behind a loopback port, so that it can be killed.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use spikewatch_actors::{Seams, task::Kind};
use spikewatch_collector::{SourceOptions, charge::Aliases, log::ecs::EcsOptions, networks::InternalNetworks};
use spikewatch_detector::cluster::Timing;
use spikewatch_domain::span::Span;
use spikewatch_proto::convert::cluster::Shape;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{service::Routes, transport::Server};

pub(crate) const SHARDS: u32 = 16;
pub(crate) const LEASE: Duration = Duration::from_secs(2);

pub(crate) fn shape() -> Shape {
    Shape { shards: SHARDS, bucket: Span::from_seconds(10).unwrap() }
}

/// A role in a runtime of its own.
pub(crate) struct Process<H> {
    pub(crate) runtime: Option<Runtime>,
    pub(crate) address: String,
    pub(crate) handle: H,
    seams: Seams,
}

impl<H> Process<H> {
    fn start<F: Future<Output = (H, Routes)>>(role: impl FnOnce(String, Seams) -> F) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seams = Seams::system();
        let handle = runtime.block_on(async {
            let (handle, routes) = role(address.clone(), seams.clone()).await;
            let (stop, listener) = (seams.tasks.token(), tokio::net::TcpListener::from_std(listener).unwrap());
            seams.tasks.spawn(Kind::CONNECTION, "server", async move {
                let incoming = TcpListenerStream::new(listener);
                Server::builder().add_routes(routes).serve_with_incoming_shutdown(incoming, stop.cancelled()).await
            });
            handle
        });
        Self { runtime: Some(runtime), address, handle, seams }
    }

    /// As by SIGKILL: nothing of it goes on, nothing is said.
    pub(crate) fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    /// As by SIGTERM.
    pub(crate) fn stop(mut self) {
        let runtime = self.runtime.take().unwrap();
        let report = runtime.block_on(self.seams.tasks.shutdown(Duration::from_secs(10)));
        assert!(report.aborted.is_empty(), "{report:?}");
        runtime.shutdown_background();
    }
}

pub(crate) fn detector(name: &str, store_url: &str) -> Process<spikewatch_detector::Handle> {
    Process::start(|address, seams| async move {
        let options = spikewatch_detector::Options {
            store_url: store_url.into(),
            durable: false,
            shape: shape(),
            allowed_lateness: Duration::from_secs(1),
            max_wait: Duration::from_secs(120),
            timing: Timing { lease_ms: 3000, ..Timing::default() },
            advertise: address,
            name: name.into(),
            lease: LEASE,
            ..spikewatch_detector::Options::default()
        };
        spikewatch_detector::start(options, &seams).await.unwrap()
    })
}

pub(crate) fn aggregator(name: &str, detectors: &[String]) -> Process<spikewatch_aggregator::Handle> {
    Process::start(|address, seams| async move {
        let options = spikewatch_aggregator::Options::new(name, detectors.to_vec(), address);
        spikewatch_aggregator::start(options, &seams).await.unwrap()
    })
}

/// A collector, and where it listens for flows.
pub(crate) fn collector(site: &str, seeds: Vec<String>) -> (Process<spikewatch_collector::Handle>, SocketAddr) {
    let process = Process::start(|_, seams| async move {
        let options = spikewatch_collector::Options {
            site: site.parse().unwrap(),
            name: "c1".into(),
            aggregators: seeds,
            networks: InternalNetworks::default(),
            aliases: Aliases::default(),
            slice: Span::from_seconds(1).unwrap(),
            bucket: shape().bucket,
            shards: SHARDS,
            key_limit: 10_000,
            memory_limit: spikewatch_collector::MemoryLimit::default(),
            port_values: 64,
            places: Default::default(),
            sources: vec![SourceOptions::Listen { address: "127.0.0.1:0".parse().unwrap(), receive_buffer: 1 << 20 }],
            ecs: EcsOptions::default(),
            spool: None,
            tap: None,
            event_clock: None,
        };
        spikewatch_collector::start(options, &seams).await.unwrap()
    });
    let address = process.handle.listeners()[0].address();
    (process, address)
}
