//! What a node tells of itself: logs on standard error, traces and metrics by OTLP, metrics for Prometheus.

pub(crate) mod instruments;
pub(crate) mod names;
pub(crate) mod prometheus;

use std::{io, io::IsTerminal as _, time::Duration};

use ::prometheus::Registry;
use opentelemetry::{
    KeyValue, global,
    metrics::{Meter, MeterProvider as _},
    trace::TracerProvider as _,
};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource, metrics::SdkMeterProvider, propagation::TraceContextPropagator, trace::SdkTracerProvider,
};
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    config::{LogFormat, Telemetry as Options},
    failure::Failure,
};

/// Name of the program in traces and metrics.
const SERVICE: &str = "spikewatch";
/// What is not sent by then is lost.
const LAST_SEND: Duration = Duration::from_secs(3);

/// Running telemetry.
#[derive(Debug)]
pub(crate) struct Telemetry {
    tracer: Option<SdkTracerProvider>,
    metrics: SdkMeterProvider,
    registry: Registry,
}

impl Telemetry {
    /// Starts it for the whole process. Must be called within the runtime that sends.
    ///
    /// # Errors
    /// An exporter can't be made, or it was started before.
    pub(crate) fn start(options: &Options, node: &str) -> Result<Self, Failure> {
        let resource = Resource::builder()
            .with_service_name(SERVICE)
            .with_attributes([
                KeyValue::new("service.instance.id", node.to_owned()),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            ])
            .build();
        let endpoint = options.otlp_endpoint.0.as_ref().map(|endpoint| endpoint.url().to_owned());
        let tracer = endpoint.as_deref().map(|endpoint| tracer(endpoint, resource.clone())).transpose()?;
        let registry = Registry::new();
        let metrics = meters(endpoint.as_deref(), resource, &registry)?;
        global::set_text_map_propagator(TraceContextPropagator::new());
        if let Some(tracer) = &tracer {
            global::set_tracer_provider(tracer.clone());
        }
        let traces = tracer.as_ref().map(|tracer| {
            // Spans are sent whatever the log shows of them; debug is what a slice and a commit are told at.
            tracing_opentelemetry::layer().with_tracer(tracer.tracer(SERVICE)).with_filter(EnvFilter::new(TRACED))
        });
        let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        let lines = match options.log_format {
            LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        let filter = EnvFilter::new(options.log.0.directives());
        tracing_subscriber::registry()
            .with(lines.with_filter(filter))
            .with(traces)
            .try_init()
            .map_err(Failure::internal)?;
        Ok(Self { tracer, metrics, registry })
    }

    /// Where instruments are made.
    #[must_use]
    pub(crate) fn meter(&self) -> Meter {
        self.metrics.meter(SERVICE)
    }

    /// What Prometheus reads.
    #[must_use]
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Sends what is left. Blocks; to be called outside of the runtime, which must still run.
    pub(crate) fn shutdown(self) {
        if let Some(tracer) = self.tracer
            && let Err(error) = tracer.shutdown_with_timeout(LAST_SEND)
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
        if let Err(error) = self.metrics.shutdown_with_timeout(LAST_SEND) {
            tracing::warn!(%error, "the last metrics were not sent");
        }
    }
}

/// Which spans are traced: ours, and none of the exporter's own, whose sending would make more of them.
const TRACED: &str =
    "off,spikewatch=debug,spikewatch_collector=debug,spikewatch_aggregator=debug,spikewatch_detector=debug";

fn tracer(endpoint: &str, resource: Resource) -> Result<SdkTracerProvider, Failure> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build().map_err(Failure::internal)?;
    Ok(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
}

fn meters(endpoint: Option<&str>, resource: Resource, registry: &Registry) -> Result<SdkMeterProvider, Failure> {
    let scraped = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .scope_info_enabled(false)
        .build()
        .map_err(Failure::internal)?;
    let builder = SdkMeterProvider::builder().with_resource(resource).with_reader(scraped);
    let Some(endpoint) = endpoint else { return Ok(builder.build()) };
    let pushed = MetricExporter::builder().with_tonic().with_endpoint(endpoint).build().map_err(Failure::internal)?;
    Ok(builder.with_periodic_exporter(pushed).build())
}
