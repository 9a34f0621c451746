//! What the detector found, asked for over gRPC as anyone would.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use spikewatch_proto::{
    trace::Traced,
    v1::{self, Alert, AnomalyRecord, Progress, alerting_client::AlertingClient, results_client::ResultsClient},
};
use tonic::{Status, service::interceptor::InterceptedService, transport::Channel};

use crate::{config::text::Endpoint, failure::Failure};

/// Largest page.
const MAX_PAGE_BYTES: usize = 64 << 20;
/// A port in this process answers at once, or not at all.
const CONNECT: Duration = Duration::from_secs(10);

/// A client of one detector. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Results {
    results: ResultsClient<Caller>,
    alerting: AlertingClient<Caller>,
}

/// A channel whose calls tell the span in which they are made.
type Caller = InterceptedService<Channel, Traced>;

fn failure(status: &Status) -> Failure {
    Failure::Internal(format!("the detector answered: {} ({:?})", status.message(), status.code()))
}

impl Results {
    /// Connects.
    ///
    /// # Errors
    /// Nobody answers.
    pub(crate) async fn connect(detector: &Endpoint) -> Result<Self, Failure> {
        let failed = |error: tonic::transport::Error| Failure::Internal(format!("{detector} doesn't answer: {error}"));
        let endpoint = Channel::from_shared(detector.url().to_owned()).map_err(Failure::internal)?;
        let channel = endpoint.connect_timeout(CONNECT).connect().await.map_err(failed)?;
        Ok(Self {
            results: ResultsClient::with_interceptor(channel.clone(), Traced).max_decoding_message_size(MAX_PAGE_BYTES),
            alerting: AlertingClient::with_interceptor(channel, Traced).max_decoding_message_size(MAX_PAGE_BYTES),
        })
    }

    /// All windows, bucket by bucket.
    ///
    /// # Errors
    /// The detector doesn't answer.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(crate) async fn windows(
        &mut self,
    ) -> Result<impl Stream<Item = Result<v1::WindowsPage, Failure>> + use<>, Failure> {
        let answer = self.results.list_windows(v1::WindowsQuery::default()).await;
        Ok(answer.map_err(|status| failure(&status))?.into_inner().map_err(|status| failure(&status)))
    }

    /// All anomaly records of these jobs (all if none is named), in the order in which they were made.
    ///
    /// # Errors
    /// The detector doesn't answer.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(crate) async fn records(
        &mut self,
        jobs: Vec<String>,
    ) -> Result<impl Stream<Item = Result<AnomalyRecord, Failure>> + use<>, Failure> {
        let query = v1::RecordsQuery { jobs, ..v1::RecordsQuery::default() };
        let answer = self.results.list_records(query).await.map_err(|status| failure(&status))?;
        let pages = answer.into_inner().map_err(|status| failure(&status));
        Ok(pages.map_ok(|page| futures_util::stream::iter(page.records.into_iter().map(Ok))).try_flatten())
    }

    /// All alerts, in the order in which they were made; then, if asked to follow, those that are made.
    ///
    /// # Errors
    /// The detector doesn't answer.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(crate) async fn alerts(
        &mut self,
        follow: bool,
        form: v1::Form,
    ) -> Result<impl Stream<Item = Result<Alert, Failure>> + use<>, Failure> {
        let query = v1::AlertsQuery { follow, form: form.into(), ..v1::AlertsQuery::default() };
        let answer = self.alerting.list_alerts(query).await.map_err(|status| failure(&status))?;
        let pages = answer.into_inner().map_err(|status| failure(&status));
        Ok(pages.map_ok(|page| futures_util::stream::iter(page.alerts.into_iter().map(Ok))).try_flatten())
    }

    /// Runs the executions that fall due up to then; returns how many alerts they made.
    ///
    /// # Errors
    /// The detector doesn't answer, or is not on an event-time clock.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(crate) async fn execute(&mut self, until_ms: u64) -> Result<u64, Failure> {
        let reply = self.alerting.execute(v1::ExecuteRequest { until_ms }).await;
        Ok(reply.map_err(|status| failure(&status))?.into_inner().alerts)
    }

    /// Waits until the progress is as wanted.
    ///
    /// # Errors
    /// The detector doesn't answer.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(crate) async fn progress(&mut self, wanted: impl Fn(&Progress) -> bool) -> Result<Progress, Failure> {
        let answer = self.results.watch_progress(v1::ProgressRequest {}).await;
        let mut messages = answer.map_err(|status| failure(&status))?.into_inner();
        while let Some(message) = messages.next().await {
            let progress = message.map_err(|status| failure(&status))?;
            if wanted(&progress) {
                return Ok(progress);
            }
        }
        Err(Failure::Internal("the detector ended before it was done".into()))
    }
}
