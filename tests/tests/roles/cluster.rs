//! A collector, an aggregator and a detector on loopback ports; recorded traffic advances their clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use spikewatch_actors::{Seams, clock::Clock, entropy::Entropy, task::Kind};
use spikewatch_collector::{
    Datagram, PlaceOptions, SourceOptions, charge::Aliases, log::ecs::EcsOptions, networks::InternalNetworks,
};
use spikewatch_detector::{job::Job, rule::Rule};
use spikewatch_domain::span::Span;
use spikewatch_proto::{
    convert::{
        cluster::Shape,
        windows::{self, Row},
    },
    v1::{self, alerting_client::AlertingClient, results_client::ResultsClient},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    service::Routes,
    transport::{Channel, Server},
};
use tracing::Span as TraceSpan;

use crate::netflow::{self, Flows};

const SHARDS: u32 = 4;

/// By method of each call that came in: the traceparents in its metadata.
pub(crate) type Called = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

/// All roles.
pub(crate) struct Cluster {
    seams: Seams,
    collector: spikewatch_collector::Handle,
    datagrams: Option<mpsc::Sender<Datagram>>,
    detector: Channel,
    pub(crate) called: Called,
}

impl Cluster {
    /// Starts them with these jobs and rules.
    pub(crate) async fn start(jobs: Vec<Job>, rules: Vec<Rule>) -> Self {
        Self::locating(PlaceOptions::default(), jobs, rules).await
    }

    /// The same, where the collector looks peers up.
    pub(crate) async fn locating(places: PlaceOptions, jobs: Vec<Job>, rules: Vec<Rule>) -> Self {
        let (clock, event_clock) = Clock::event();
        let seams = Seams::new(clock, Entropy::seeded(1));
        let called = Called::default();
        let options = spikewatch_detector::Options {
            store_url: "sqlite::memory:".into(),
            durable: false,
            shape: Shape { shards: SHARDS, bucket: Span::QUARTER_HOUR },
            jobs,
            rules,
            ..spikewatch_detector::Options::default()
        };
        let (_, routes) = spikewatch_detector::start(options, &seams).await.unwrap();
        let detector = serve(routes, &called, &seams).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let aggregator = format!("http://{}", listener.local_addr().unwrap());
        let options = spikewatch_aggregator::Options {
            expected_collectors: 1,
            ..spikewatch_aggregator::Options::new("a1", vec![detector.clone()], &aggregator)
        };
        let (_, routes) = spikewatch_aggregator::start(options, &seams).await.unwrap();
        serve_on(listener, routes, &called, &seams);
        let (datagrams, played) = mpsc::channel(64);
        let options = spikewatch_collector::Options {
            site: "berlin".parse().unwrap(),
            name: "c1".into(),
            aggregators: vec![aggregator],
            networks: InternalNetworks::default(),
            aliases: Aliases::new(),
            slice: Span::QUARTER_HOUR,
            bucket: Span::QUARTER_HOUR,
            shards: SHARDS,
            key_limit: 1_000,
            memory_limit: spikewatch_collector::MemoryLimit::default(),
            port_values: 2,
            places,
            sources: vec![SourceOptions::Channel(played)],
            ecs: EcsOptions::default(),
            spool: None,
            tap: None,
            event_clock: Some(event_clock),
        };
        let (collector, _) = spikewatch_collector::start(options, &seams).await.unwrap();
        let detector = Channel::from_shared(detector).unwrap().connect().await.unwrap();
        Self { seams, collector, datagrams: Some(datagrams), detector, called }
    }

    /// Plays one bucket after another, the first of them number 0, and waits until the last is scored.
    pub(crate) async fn play(&mut self, buckets: impl IntoIterator<Item = Vec<Flows>>) {
        let datagrams = self.datagrams.take().unwrap();
        let mut last = 0;
        for (bucket, flows) in (0..).zip(buckets) {
            last = netflow::BEGIN + bucket * netflow::QUARTER;
            for (time_ms, payload) in netflow::datagrams(bucket, &flows) {
                let exporter = [10, 0, 0, 254].into();
                datagrams.send(Datagram { exporter, time_ms, payload }).await.unwrap();
            }
        }
        drop(datagrams);
        self.collector.finished().await;
        let mut results = ResultsClient::new(self.detector.clone());
        let mut progress = results.watch_progress(v1::ProgressRequest {}).await.unwrap().into_inner();
        while progress.message().await.unwrap().unwrap().scored_ms < last {}
        // What was found last is for the execution after it.
        let until_ms = last + 3 * netflow::QUARTER;
        AlertingClient::new(self.detector.clone()).execute(v1::ExecuteRequest { until_ms }).await.unwrap();
    }

    /// All windows, by start of their bucket.
    pub(crate) async fn windows(&self) -> Vec<(u64, Row)> {
        let mut results = ResultsClient::new(self.detector.clone()).max_decoding_message_size(64 << 20);
        let mut pages = results.list_windows(v1::WindowsQuery::default()).await.unwrap().into_inner();
        let mut all = Vec::new();
        while let Some(page) = pages.message().await.unwrap() {
            let rows = windows::read(page.windows.as_ref().unwrap()).unwrap();
            all.extend(rows.into_iter().map(|row| (page.bucket_start_ms, row)));
        }
        all
    }

    /// Scores from 1 on by job, value and bucket: what a failing test shows.
    pub(crate) async fn scores(&self) -> Vec<String> {
        let mut results = ResultsClient::new(self.detector.clone());
        let mut pages = results.list_records(v1::RecordsQuery::default()).await.unwrap().into_inner();
        let mut all = Vec::new();
        while let Some(page) = pages.message().await.unwrap() {
            all.extend(page.records.iter().filter(|record| record.record_score >= 1.0).map(|record| {
                let bucket = (record.bucket_start_ms - netflow::BEGIN) / netflow::QUARTER;
                format!("{} {:?} {bucket}: {:.0}", record.job, record.value, record.record_score)
            }));
        }
        all
    }

    pub(crate) async fn alerts(&self) -> Vec<v1::Alert> {
        let mut alerting = AlertingClient::new(self.detector.clone());
        let mut pages = alerting.list_alerts(v1::AlertsQuery::default()).await.unwrap().into_inner();
        let mut all = Vec::new();
        while let Some(page) = pages.message().await.unwrap() {
            all.extend(page.alerts);
        }
        all
    }

    pub(crate) async fn stop(self) {
        drop(self.detector);
        self.seams.tasks.shutdown(Duration::from_secs(10)).await;
    }
}

async fn serve(routes: Routes, called: &Called, seams: &Seams) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    serve_on(listener, routes, called, seams);
    address
}

fn serve_on(listener: TcpListener, routes: Routes, called: &Called, seams: &Seams) {
    let (called, stop) = (Arc::clone(called), seams.tasks.token());
    seams.tasks.spawn(Kind::CONNECTION, "server", async move {
        let server = Server::builder().trace_fn(move |request| {
            let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
            let mut called = called.lock().unwrap();
            let parents = called.entry(request.uri().path().to_owned()).or_default();
            parents.extend(parent.map(str::to_owned));
            TraceSpan::none()
        });
        let mut server = server;
        let incoming = TcpListenerStream::new(listener);
        server.add_routes(routes).serve_with_incoming_shutdown(incoming, stop.cancelled()).await.unwrap();
        Ok::<(), Infallible>(())
    });
}
