//! What was committed and found.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use spikewatch_actors::task::{Kind, Tasks};
use spikewatch_domain::{
    key::{Dimension, SiteName, Subject},
    record::EventMillis,
    window::Window,
};
use spikewatch_proto::{
    convert::windows,
    v1::{self, results_server::Results},
};
use tokio::time::sleep;
use tonic::{Request, Response, Status};

use super::{
    Answers, Outgoing, answers,
    gate::{Gate, over},
    internal,
};
use crate::{
    prepare,
    store::{Range, Store},
};

/// Rows of one page.
const PAGE: u32 = 2000;
/// Least time between two messages of progress.
const PROGRESS: Duration = Duration::from_millis(200);

pub(crate) struct Service {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) gate: Gate,
}

#[tonic::async_trait]
impl Results for Service {
    type ListWindowsStream = Answers<v1::WindowsPage>;
    type ListRecordsStream = Answers<v1::RecordsPage>;
    type WatchProgressStream = Answers<v1::Progress>;

    async fn list_windows(
        &self,
        request: Request<v1::WindowsQuery>,
    ) -> Result<Response<Self::ListWindowsStream>, Status> {
        let range = Range::of(request.get_ref().from_ms, request.get_ref().to_ms);
        // What not every shard has committed yet isn't whole.
        let reign = self.gate.reign()?;
        let last = reign.committed.borrow().frontier;
        let store = Arc::clone(&self.store);
        Ok(serve(&reign.tasks, "windows", move |outgoing| async move {
            match last {
                Some(last) => list_windows(&*store, range, last, &outgoing).await,
                None => Ok(()),
            }
        }))
    }

    async fn list_records(
        &self,
        request: Request<v1::RecordsQuery>,
    ) -> Result<Response<Self::ListRecordsStream>, Status> {
        let query = request.into_inner();
        let (reign, store) = (self.gate.reign()?, Arc::clone(&self.store));
        Ok(serve(&reign.tasks, "records", move |outgoing| async move { list_records(&*store, query, &outgoing).await }))
    }

    async fn watch_progress(
        &self,
        _request: Request<v1::ProgressRequest>,
    ) -> Result<Response<Self::WatchProgressStream>, Status> {
        let reign = self.gate.reign()?;
        let mut progress = reign.progress.clone();
        Ok(serve(&reign.tasks, "progress", move |outgoing| async move {
            progress.mark_changed();
            while progress.changed().await.is_ok() {
                let now = progress.borrow_and_update().clone();
                if outgoing.send(Ok(now)).await.is_err() {
                    break;
                }
                sleep(PROGRESS).await;
            }
            Ok(())
        }))
    }
}

/// Runs a query in a task that ends when nobody listens any more, or with the reign.
fn serve<T: Send + 'static, F: Future<Output = Result<(), Status>> + Send + 'static>(
    tasks: &Tasks,
    name: &'static str,
    query: impl FnOnce(Outgoing<T>) -> F,
) -> Response<Answers<T>> {
    let (outgoing, response) = answers(0);
    let stop = tasks.token();
    let (failed, query) = (outgoing.clone(), query(outgoing));
    tasks.spawn(Kind::CONNECTION, name, async move {
        let gone = failed.clone();
        tokio::select! {
            () = stop.cancelled() => drop(failed.try_send(Err(over()))),
            () = gone.closed() => {}
            done = query => if let Err(status) = done {
                // Nobody may be listening.
                let _ = failed.send(Err(status)).await;
            }
        }
        Ok::<(), Infallible>(())
    });
    response
}

async fn list_windows(
    store: &dyn Store,
    range: Range,
    last: EventMillis,
    outgoing: &Outgoing<v1::WindowsPage>,
) -> Result<(), Status> {
    let mut after = range.from.checked_sub(1);
    let last = last.min(range.to.saturating_sub(1));
    loop {
        let buckets = store.buckets(after, last, 256).await.map_err(internal)?;
        let Some(newest) = buckets.last() else { return Ok(()) };
        after = Some(*newest);
        for bucket in buckets {
            for page in pages(store, bucket).await? {
                if outgoing.send(Ok(page)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// A window's place in a bucket, and the window with whether it is incomplete.
type Merged = ((SiteName, Dimension, Subject), (Window, bool));

/// The windows of one bucket with their corrections, in pages.
async fn pages(store: &dyn Store, bucket: EventMillis) -> Result<Vec<v1::WindowsPage>, Status> {
    let (log, _) = store.log(bucket).await.map_err(internal)?;
    let mut merged: BTreeMap<(SiteName, Dimension, Subject), (Window, bool)> = BTreeMap::new();
    for entry in &log {
        for row in prepare::rows(entry).map_err(internal)? {
            let key = (row.site, row.subject.dimension(), row.subject);
            let (window, incomplete) = merged.entry(key).or_default();
            window.merge(&row.window);
            *incomplete |= row.incomplete;
        }
    }
    let rows: Vec<Merged> = merged.into_iter().collect();
    let page = |rows: &[Merged]| {
        let mut message = v1::Windows::default();
        for ((site, _, subject), (window, incomplete)) in rows {
            if message.sites.last().is_none_or(|last| last != site.as_str()) {
                message.sites.push(site.as_str().to_owned());
            }
            let number = message.sites.len() as u32 - 1;
            windows::push(&mut message, Some(number), subject, window, *incomplete);
        }
        let bucket_seconds = store.shape().bucket.seconds();
        v1::WindowsPage { bucket_start_ms: bucket, bucket_seconds, windows: Some(message) }
    };
    Ok(rows.chunks(PAGE as usize).map(page).collect())
}

async fn list_records(
    store: &dyn Store,
    query: v1::RecordsQuery,
    outgoing: &Outgoing<v1::RecordsPage>,
) -> Result<(), Status> {
    let range = Range::of(query.from_ms, query.to_ms);
    let jobs: BTreeSet<String> = query.jobs.into_iter().collect();
    let least = if query.min_score.is_finite() { query.min_score } else { 0.0 };
    let mut after = 0;
    loop {
        // They were numbered by bucket, job, site and value: the order that is promised.
        let mut records = store.records(range, after, least, PAGE).await.map_err(internal)?;
        let Some(last) = records.last() else { return Ok(()) };
        after = last.finalised;
        records.retain(|record| jobs.is_empty() || jobs.contains(&record.job));
        if records.is_empty() {
            continue;
        }
        let page = v1::RecordsPage { records: records.into_iter().map(Into::into).collect() };
        if outgoing.send(Ok(page)).await.is_err() {
            return Ok(());
        }
    }
}
