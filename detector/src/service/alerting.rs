//! Alerts, as they are made.

use std::{convert::Infallible, sync::Arc};

use spikewatch_actors::{clock::Clock, task::Kind};
use spikewatch_proto::{
    convert::results::Alert,
    v1::{self, alerting_server::Alerting},
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{
    Answers, Outgoing, answers,
    gate::{Gate, over},
    internal,
};
use crate::{
    alert::kibana,
    analysis::Command,
    store::{Range, Store},
};

/// Alerts of one page.
const PAGE: u32 = 100;

pub(crate) struct Service {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) gate: Gate,
    pub(crate) clock: Clock,
}

#[tonic::async_trait]
impl Alerting for Service {
    type ListAlertsStream = Answers<v1::AlertsPage>;

    async fn list_alerts(&self, request: Request<v1::AlertsQuery>) -> Result<Response<Self::ListAlertsStream>, Status> {
        let reign = self.gate.reign()?;
        let query = request.into_inner();
        let (outgoing, response) = answers(0);
        let (store, progress, stop) = (Arc::clone(&self.store), reign.progress.clone(), reign.tasks.token());
        reign.tasks.spawn(Kind::CONNECTION, "alerts", async move {
            let gone = outgoing.clone();
            tokio::select! {
                () = stop.cancelled() => drop(gone.try_send(Err(over()))),
                () = gone.closed() => {}
                done = list(&*store, &query, progress, &outgoing) => if let Err(status) = done {
                    // Nobody may be listening.
                    let _ = gone.send(Err(status)).await;
                }
            }
            Ok::<(), Infallible>(())
        });
        Ok(response)
    }

    async fn execute(&self, request: Request<v1::ExecuteRequest>) -> Result<Response<v1::ExecuteReply>, Status> {
        if !self.clock.is_event_time() {
            return Err(Status::failed_precondition("executions run on the clock; only a replay may ask for them"));
        }
        let until = request.get_ref().until_ms;
        let done = self.gate.reign()?.analysis.ask(|reply| Command::Execute(until, reply)).await;
        let (executions, alerts) = done.map_err(internal)?.map_err(internal)?;
        Ok(Response::new(v1::ExecuteReply { executions, alerts }))
    }
}

fn written(mut alert: Alert, form: v1::Form) -> v1::Alert {
    if form == v1::Form::Kibana {
        alert.document = kibana::of(&alert.document);
    }
    alert.into()
}

async fn list(
    store: &dyn Store,
    query: &v1::AlertsQuery,
    mut progress: watch::Receiver<v1::Progress>,
    outgoing: &Outgoing<v1::AlertsPage>,
) -> Result<(), Status> {
    let range = Range::of(query.from_ms, query.to_ms);
    let mut after = 0;
    loop {
        // What changes from here on wakes the wait below.
        progress.mark_unchanged();
        loop {
            let alerts = store.alerts(range, after, PAGE).await.map_err(internal)?;
            let Some((last, _)) = alerts.last() else { break };
            after = *last;
            let page =
                v1::AlertsPage { alerts: alerts.into_iter().map(|(_, alert)| written(alert, query.form())).collect() };
            if outgoing.send(Ok(page)).await.is_err() {
                return Ok(());
            }
        }
        if !query.follow || progress.changed().await.is_err() {
            return Ok(());
        }
    }
}
