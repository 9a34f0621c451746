//! One trace from the datagram to the alert, whatever carries it: messages of streams, and the metadata of calls.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use opentelemetry::trace::{SpanId, TracerProvider as _};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use spikewatch_detector::job::Job;
use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    cluster::Cluster,
    netflow::{Flows, SERVER},
    ports::rule,
};

const SPIKE: u64 = 110;
/// From the alert back.
const WAY: [&str; 7] = ["alert", "score", "commit", "seal", "ingest", "slice", "decode"];

/// Keeps all spans.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_leads_back_to_what_was_decoded() {
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    tracing_subscriber::registry().with(LevelFilter::DEBUG).with(layer).init();

    let job = "high_count_network_events";
    let jobs = Job::built_in().into_iter().filter(|built_in| built_in.id == job).collect();
    let mut cluster = Cluster::start(jobs, vec![rule(&[job])]).await;
    let flows = |bucket: u64| {
        let count = if bucket == SPIKE { 900 } else { 30 + (bucket * 31 % 7) as usize };
        vec![Flows { server: SERVER, port: 443, count }]
    };
    cluster.play((0..=SPIKE + 1).map(flows)).await;
    let alerts = cluster.alerts().await;
    assert_eq!(alerts.len(), 1, "{:?}", cluster.scores().await);
    let called = Arc::clone(&cluster.called);
    cluster.stop().await;

    let kept = kept.0.lock().unwrap();
    let names = || kept.iter().map(|span| span.name.to_string()).collect::<BTreeSet<_>>();
    let by_id = |id: SpanId| kept.iter().find(|span| span.span_context.span_id() == id);
    let id = |span: &&SpanData| span.attributes.iter().any(|a| a.value.to_string() == alerts[0].id);
    let alert = kept.iter().find(id).unwrap_or_else(|| panic!("{:?}", names()));
    let mut way = vec![alert];
    while let Some(parent) = by_id(way[way.len() - 1].parent_span_id) {
        way.push(parent);
    }
    assert_eq!(way.iter().map(|span| span.name.as_ref()).collect::<Vec<_>>(), WAY, "of {:?}", names());
    assert!(way.iter().all(|span| span.span_context.trace_id() == alert.span_context.trace_id()));

    // What was opened says who opened it; a span of that id was made here.
    let called = called.lock().unwrap();
    for method in ["Ingest/Stream", "Control/WatchRoutes", "Control/JoinCluster", "Windowing/Forward"] {
        let (_, parents) = called.iter().find(|(path, _)| path.ends_with(method)).unwrap();
        assert!(!parents.is_empty(), "{method}: {called:?}");
        for parent in parents {
            let span = parent.split('-').nth(2).unwrap();
            let span = by_id(SpanId::from_hex(span).unwrap()).unwrap_or_else(|| panic!("{method}: {parent}"));
            assert!(parent.contains(&span.span_context.trace_id().to_string()));
        }
    }
}
