//! Drives the pipeline with recorded traffic: event time is what the recording says, and its end is the end of all.

use std::{convert::Infallible, path::PathBuf, sync::Arc};

use spikewatch_actors::{Seams, clock::EventClock, task::Kind};
use spikewatch_domain::record::FlowRecord;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use crate::{
    log::ecs::EcsOptions,
    metrics::Metrics,
    pipeline::{Flush, Pipeline},
    source::{
        file::Expected,
        files::{self, FileReport},
        listener::Datagram,
    },
    uplink::{Delivery, UplinkHandle},
};

/// See the module.
pub(crate) struct Recorded {
    pub(crate) pipeline: Pipeline,
    pub(crate) metrics: Metrics,
    pub(crate) uplink: UplinkHandle,
    /// Gets a copy of every record.
    pub(crate) tap: Option<mpsc::Sender<Vec<FlowRecord>>>,
    /// Follows the recording.
    pub(crate) event_clock: Option<EventClock>,
    pub(crate) seams: Seams,
    /// Told what became of each file when all are read.
    pub(crate) ended: watch::Sender<Option<Arc<[FileReport]>>>,
}

impl Recorded {
    /// Reads files to their ends.
    pub(crate) fn read(mut self, paths: Vec<PathBuf>, format: Expected, ecs: EcsOptions) {
        // Decoding files is a long computation: it gets a thread of its own.
        let (tasks, runtime) = (self.seams.tasks.clone(), Handle::current());
        tasks.spawn_blocking(Kind::CONNECTION, "files", move || {
            let token = self.seams.tasks.token();
            let (uplink, tap, clock, mut made_by) = (self.uplink, self.tap, self.event_clock, decoding());
            let deliver = |pipeline: &mut Pipeline, due: Option<Flush>| {
                if let Some(tap) = &tap {
                    let records = pipeline.tapped();
                    // Nobody listening any more only means that nobody wants them.
                    let _ = (!records.is_empty()).then(|| runtime.block_on(tap.send(records)));
                }
                let Some(flush) = due else { return true };
                if let Some(clock) = &clock {
                    clock.advance(flush.watermark);
                }
                let delivery = Delivery::unkept(flush, std::mem::replace(&mut made_by, decoding()));
                !token.is_cancelled() && runtime.block_on(uplink.deliver(delivery))
            };
            let reports = files::run(&paths, format, &ecs, &mut self.pipeline, &self.metrics, deliver);
            drop(tap);
            self.ended.send_replace(Some(reports.into()));
            Ok::<_, Infallible>(())
        });
    }

    /// Takes datagrams from a player.
    pub(crate) fn play(mut self, mut datagrams: mpsc::Receiver<Datagram>) {
        let tasks = self.seams.tasks.clone();
        tasks.spawn(Kind::BACKGROUND, "player", async move {
            let mut made_by = decoding();
            while let Some(datagram) = datagrams.recv().await {
                let due = self.pipeline.advance(datagram.time_ms);
                datagram.decode(&mut self.pipeline, &self.metrics);
                if let Some(tap) = &self.tap {
                    let _ = tap.send(self.pipeline.tapped()).await;
                }
                if let Some(flush) = due
                    && !self.deliver(flush, std::mem::replace(&mut made_by, decoding())).await
                {
                    return Ok(());
                }
            }
            let last = self.pipeline.finish();
            self.deliver(last, made_by).await;
            self.ended.send_replace(Some(Arc::default()));
            Ok::<_, Infallible>(())
        });
    }

    async fn deliver(&self, flush: Flush, made_by: tracing::Span) -> bool {
        if let Some(clock) = &self.event_clock {
            clock.advance(flush.watermark);
        }
        self.uplink.deliver(Delivery::unkept(flush, made_by)).await
    }
}

/// The span under which what comes next is decoded; what it makes is sent as a slice, where its trace goes on.
pub(crate) fn decoding() -> tracing::Span {
    tracing::debug_span!(parent: None, "decode")
}
