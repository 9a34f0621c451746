//! Two detectors on one PostgreSQL: who leads, what the other says, and that nobody who takes over changes a result.

#[path = "../pipeline/owner.rs"]
#[expect(dead_code, reason = "another test uses the rest")]
mod owner;

use std::{net::IpAddr, time::Duration};

use owner::{Detector, Owner, QUARTER, Traffic, shape};
use spikewatch_actors::{Seams, clock::Clock, entropy::Entropy, task::Kind};
use spikewatch_detector::{Options, store};
use spikewatch_domain::{
    key::Subject,
    window::{Counters, Peer, Service, Share, Window},
};
use spikewatch_proto::{LEADER_METADATA, v1};
use spikewatch_tests::postgres::PostgresServer;
use tokio::{net::TcpListener, runtime::Runtime, time::Instant};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};

const SHARDS: u32 = 2;
/// Long enough for a busy machine.
const LEASE: Duration = Duration::from_secs(5);
const DAYS: u64 = 8;
/// A night's bucket on the last day.
const SPIKE: u64 = (DAYS - 1) * 96 + 10;

fn window(events: u64, bytes_out: u64) -> Window {
    let peer: IpAddr = "198.51.100.7".parse().unwrap();
    let mut window = Window::default();
    window.add(&Share {
        counters: Counters { events, bytes_out, packets_out: bytes_out / 700, ..Counters::default() },
        peer: Peer::from(peer),
        service: Service { port: 443, protocol: 6 },
        annotations: None,
    });
    window
}

/// Four hosts with a daily rhythm and noise; one of them once sends far more.
fn traffic(bucket: u64) -> (u64, Traffic) {
    let mut traffic = Traffic::new();
    let mut site = Window::default();
    for host in 1..=4u64 {
        let noise = (bucket.wrapping_mul(2_654_435_761) ^ host.wrapping_mul(40_503)) % 1000;
        let busy = if (8..18).contains(&(bucket % 96 / 4)) { 4 } else { 1 };
        let events = busy * (40 + noise / 40);
        let mut own = window(events, events * (9000 + noise));
        if bucket == SPIKE && host == 3 {
            own.merge(&window(3, 5_000_000_000));
        }
        site.merge(&own);
        let address: IpAddr = format!("10.0.0.{host}").parse().unwrap();
        traffic.insert(Subject::Address(address), own);
    }
    traffic.insert(Subject::Site, site);
    (bucket, traffic)
}

/// A detector in a runtime of its own, so that it can be killed.
struct Process {
    runtime: Option<Runtime>,
    address: String,
    detector: Option<Detector>,
}

impl Process {
    fn start(name: &str, store_url: &str, snapshot_buckets: u32) -> Self {
        let runtime = Runtime::new().unwrap();
        let (address, detector) = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let (clock, _) = Clock::event();
            let seams = Seams::new(clock, Entropy::seeded(7));
            let options = Options {
                store_url: store_url.into(),
                durable: false,
                shape: shape(SHARDS),
                advertise: address.clone(),
                name: name.into(),
                lease: LEASE,
                snapshot_buckets,
                ..Options::default()
            };
            let (handle, routes) = spikewatch_detector::start(options, &seams).await.unwrap();
            let stop = seams.tasks.token();
            seams.tasks.spawn(Kind::CONNECTION, "server", async move {
                let incoming = TcpListenerStream::new(listener);
                Server::builder().add_routes(routes).serve_with_incoming_shutdown(incoming, stop.cancelled()).await
            });
            let channel = Channel::from_shared(address.clone()).unwrap().connect().await.unwrap();
            (address, Detector { channel, handle, seams })
        });
        Self { runtime: Some(runtime), address, detector: Some(detector) }
    }

    fn detector(&self) -> &Detector {
        self.detector.as_ref().unwrap()
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(future)
    }

    fn leads_within(&self, patience: Duration, leads: bool) {
        self.run(async { tokio::time::timeout(patience, self.detector().handle.leads(leads)).await })
            .unwrap_or_else(|_| panic!("leads = {leads} after {patience:?}"));
    }

    /// As by SIGKILL: nothing of it goes on, nothing is said.
    fn kill(mut self) {
        self.detector = None;
        self.runtime.take().unwrap().shutdown_background();
    }

    fn stop(mut self) {
        let detector = self.detector.take().unwrap();
        self.run(detector.stop());
        self.runtime.take().unwrap().shutdown_background();
    }
}

#[derive(Debug, PartialEq)]
struct Outcome {
    records: Vec<v1::AnomalyRecord>,
    alerts: Vec<v1::Alert>,
}

async fn outcome(detector: &Detector) -> Outcome {
    detector.scored(DAYS * 96 - 1).await;
    let alerts = detector.alerts().await;
    Outcome { records: detector.records(v1::RecordsQuery::default()).await, alerts }
}

async fn commit(detector: &Detector, buckets: std::ops::Range<u64>) {
    let mut owner = Owner::open(detector, SHARDS).await;
    owner.commit_all(buckets.map(traffic), 0).await;
}

fn server() -> Option<PostgresServer> {
    PostgresServer::start(&[("fsync", "off")])
}

#[test]
fn one_that_takes_over_gives_what_an_undisturbed_one_gives() {
    let Some(server) = server() else { return };
    let quiet = Process::start("q", "sqlite::memory:", 0);
    let undisturbed = quiet.run(async {
        commit(quiet.detector(), 0..DAYS * 96).await;
        outcome(quiet.detector()).await
    });
    assert!(undisturbed.alerts.iter().any(|alert| alert.bucket_start_ms == SPIKE * QUARTER), "{undisturbed:?}");
    quiet.stop();

    let url = server.new_database();
    let first = Process::start("a", &url, 30);
    first.leads_within(Duration::from_secs(1), true);
    let second = Process::start("b", &url, 30);
    first.run(commit(first.detector(), 0..500));
    // Some of it is scored, some not.
    first.run(first.detector().scored(200));
    let died = Instant::now();
    first.kill();
    second.leads_within(LEASE + Duration::from_secs(3), true);
    second.run(commit(second.detector(), 500..SPIKE + 1));
    println!("committing {:?} after the death of the leader", died.elapsed());
    // One more change, by the book, to one that was never there before; it begins with a snapshot.
    let third = Process::start("c", &url, 30);
    second.run(second.detector().scored(SPIKE - 5));
    let stopped = Instant::now();
    second.stop();
    third.leads_within(LEASE, true);
    println!("{:?} after the end of the leader", stopped.elapsed());
    let disturbed = third.run(async {
        commit(third.detector(), SPIKE + 1..DAYS * 96).await;
        outcome(third.detector()).await
    });
    assert_eq!(disturbed.records.len(), undisturbed.records.len());
    assert_eq!(disturbed, undisturbed);
    third.stop();
}

#[test]
fn one_that_stands_by_says_who_leads() {
    let Some(server) = server() else { return };
    let url = server.new_database();
    let (first, second) = (Process::start("a", &url, 0), Process::start("b", &url, 0));
    second.run(async {
        let channel = second.detector().channel.clone();
        let refused = v1::results_client::ResultsClient::new(channel.clone())
            .watch_progress(v1::ProgressRequest {})
            .await
            .unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        assert_eq!(refused.metadata().get(LEADER_METADATA).unwrap(), first.address.as_str());
        let mut control = v1::control_client::ControlClient::new(channel);
        let refused = control.join_cluster(tokio_stream::pending::<v1::Join>()).await.unwrap_err();
        assert_eq!(refused.metadata().get(LEADER_METADATA).unwrap(), first.address.as_str());
        let refused = control.watch_routes(v1::RoutesRequest::default()).await.unwrap_err();
        assert_eq!(refused.metadata().get(LEADER_METADATA).unwrap(), first.address.as_str());
        assert!(!second.detector().handle.metrics().leads);
    });
    first.stop();
    second.leads_within(Duration::from_secs(1), true);
    second.stop();
}

#[test]
fn one_that_is_deposed_drops_its_term_and_stands_by_and_may_lead_again() {
    let Some(server) = server() else { return };
    let url = server.new_database();
    let detector = Process::start("a", &url, 0);
    detector.run(commit(detector.detector(), 0..10));
    let usurper = detector.run(async {
        let options = store::StoreOptions { url, durable: false, shape: shape(SHARDS), lineage: [1; 16] };
        let store = store::open(&options).await.unwrap();
        // The name of the one that leads gets the term at once.
        let claim = store.claim(&format!("{} a", detector.address), LEASE).await.unwrap();
        assert!(matches!(claim, store::Claim::Taken(_)), "{claim:?}");
        store
    });
    detector.leads_within(LEASE, false);
    drop(usurper);
    detector.leads_within(LEASE * 3, true);
    detector.run(commit(detector.detector(), 10..20));
    detector.run(detector.detector().scored(19));
    detector.stop();
}
