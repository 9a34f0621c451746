//! Drives the pipeline with recorded traffic: event time is what the recording says, and its end is the end of all.

use std::{collections::VecDeque, convert::Infallible, path::PathBuf, sync::Arc};

use spikewatch_actors::{Seams, clock::EventClock, task::Kind};
use spikewatch_domain::record::FlowRecord;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use crate::{
    checkpoint::{self, Sources},
    log::ecs::EcsOptions,
    metrics::Metrics,
    pipeline::{Flush, Pipeline},
    source::{
        file::{Expected, expand},
        files::{self, FileReport},
        listener::Datagram,
        once::Pass,
    },
    uplink::{Delivery, UplinkHandle},
};

/// Makes a new pipeline.
pub(crate) type Fresh = Box<dyn Fn() -> Pipeline + Send + Sync>;

/// See the module.
pub(crate) struct Recorded {
    pub(crate) pipeline: Pipeline,
    /// Makes another that is new.
    pub(crate) fresh: Fresh,
    /// What a check-point holds, where there is a spool.
    pub(crate) kept: Option<Sources>,
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
    /// Reads files to their ends. With a spool, those that were read before are not, and the others go on where the spool
    /// ends.
    pub(crate) fn read(mut self, paths: Vec<PathBuf>, format: Expected, ecs: EcsOptions) {
        // Decoding files is a long computation: it gets a thread of its own.
        let (tasks, runtime) = (self.seams.tasks.clone(), Handle::current());
        tasks.spawn_blocking(Kind::CONNECTION, "files", move || {
            let token = self.seams.tasks.token();
            let (uplink, tap, clock, mut made_by) = (self.uplink, self.tap, self.event_clock, decoding());
            let (mut reports, mut passes) = (Vec::new(), passes(self.kept.as_ref(), paths));
            let mut kept = self.kept;
            while let Some(pass) = passes.pop_front() {
                let is_last = passes.is_empty();
                let deliver = |pipeline: &mut Pipeline, due: Option<Flush>| {
                    if let Some(tap) = &tap {
                        let records = pipeline.tapped();
                        // Nobody listening any more only means that nobody wants them.
                        let _ = (!records.is_empty()).then(|| runtime.block_on(tap.send(records)));
                    }
                    let Some(mut flush) = due else { return true };
                    if let Some(clock) = &clock {
                        clock.advance(flush.watermark);
                    }
                    let checkpoint = kept.as_mut().and_then(|kept| handed_on(kept, &pass, &flush));
                    flush.last &= is_last;
                    let made_by = std::mem::replace(&mut made_by, decoding());
                    let delivery = Delivery { checkpoint, ..Delivery::unkept(flush, made_by) };
                    !token.is_cancelled() && runtime.block_on(uplink.deliver(delivery))
                };
                let (up_to, metrics) = (pass.handed_on, &self.metrics);
                reports.extend(files::resume(&pass.paths, up_to, format, &ecs, &mut self.pipeline, metrics, deliver));
                if token.is_cancelled() {
                    break;
                }
                self.pipeline = (self.fresh)();
            }
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

/// What is read together. Files that were being read when the collector ended come first, by themselves: what they give has
/// to be what it was.
fn passes(kept: Option<&Sources>, paths: Vec<PathBuf>) -> VecDeque<Pass> {
    let Some(kept) = kept else { return VecDeque::from([Pass::of(paths)]) };
    let files = paths.into_iter().flat_map(|path| {
        let files: Result<Vec<_>, _> = expand(std::slice::from_ref(&path)).into_iter().collect();
        // What can't be listed is reported where it is read.
        files.unwrap_or_else(|_| vec![path])
    });
    let [resumed, new] = kept.once.passes(files.collect());
    // One without files still says that this is the end.
    if resumed.paths.is_empty() {
        VecDeque::from([new])
    } else {
        [resumed, new].into_iter().filter(|pass| !pass.paths.is_empty()).collect()
    }
}

/// The check-point that goes with a flush.
fn handed_on(kept: &mut Sources, pass: &Pass, flush: &Flush) -> Option<Vec<u8>> {
    if flush.last {
        kept.once.finish(pass);
    } else {
        kept.once.reach(pass, flush.watermark);
    }
    let written = checkpoint::write_sources(kept);
    written.inspect_err(|error| tracing::error!(%error, "a check-point can't be written")).ok()
}

/// The span under which what comes next is decoded; what it makes is sent as a slice, where its trace goes on.
pub(crate) fn decoding() -> tracing::Span {
    tracing::debug_span!(parent: None, "decode")
}
