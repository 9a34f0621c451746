//! Drives the pipeline with live traffic: the clock says when a slice has ended, whether anything came or not.

use std::{convert::Infallible, sync::atomic::Ordering::Relaxed, time::Duration};

use spikewatch_actors::{Seams, mailbox::Inbox, task::Kind};
use spikewatch_domain::{
    record::{EventMillis, FlowRecord},
    span::Span,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    checkpoint::{self, Sources},
    metrics::Metrics,
    pipeline::{Flush, Pipeline},
    recorded::decoding,
    source::{follow::Chunk, followed::Followed, listener::Datagram},
    uplink::{Delivery, UplinkHandle},
};

/// What comes from sources that say it in lines, and wait until it is taken.
#[derive(Debug)]
pub(crate) enum Input {
    /// Lines of a file.
    Chunk(Chunk),
    /// That file will not be heard of again.
    Gone { number: u64 },
    /// Files are read up to what was written by then.
    CaughtUp { at_ms: EventMillis },
}

/// See the module.
pub(crate) struct Live {
    pub(crate) pipeline: Pipeline,
    pub(crate) metrics: Metrics,
    pub(crate) uplink: UplinkHandle,
    /// There is a spool, with check-points in it.
    pub(crate) keeps: bool,
    /// Gets a copy of every record.
    pub(crate) tap: Option<mpsc::Sender<Vec<FlowRecord>>>,
    pub(crate) slice: Span,
    /// Files, if any are followed.
    pub(crate) followed: Option<Followed>,
    pub(crate) seams: Seams,
}

impl Live {
    /// Takes what comes in until the collector is told to end; then all that was received is delivered.
    pub(crate) fn start(self, datagrams: Inbox<Datagram>, inputs: mpsc::Receiver<Input>) {
        let tasks = self.seams.tasks.clone();
        tasks.spawn(Kind::ROLE, "live", self.run(datagrams, inputs));
    }

    async fn run(
        mut self,
        mut datagrams: Inbox<Datagram>,
        mut inputs: mpsc::Receiver<Input>,
    ) -> Result<(), Infallible> {
        let token = self.seams.tasks.token();
        let mut ticks = tokio::time::interval(Duration::from_millis(self.slice.millis().min(1_000)));
        let mut made_by = decoding();
        loop {
            tokio::select! {
                biased;
                () = token.cancelled() => break,
                _ = ticks.tick() => {
                    if let Some(mut flush) = self.pipeline.advance(self.seams.clock.now_ms()) {
                        flush.watermark = flush.watermark.min(self.reached());
                        if !self.deliver(flush, std::mem::replace(&mut made_by, decoding())).await {
                            return Ok(());
                        }
                    }
                }
                came = next(&mut datagrams, &mut inputs) => match came {
                    Some(Came::Datagram(datagram)) => self.decode(&datagram).await,
                    Some(Came::Input(input)) => self.take(input).await,
                    None => break,
                },
            }
        }
        // What was received counts. Nobody was told yet that lines were.
        datagrams.close();
        while let Some(datagram) = datagrams.try_recv() {
            self.decode(&datagram).await;
        }
        // Flows that are going on are in the check-point, if there is one.
        let mut rest = if self.keeps { self.pipeline.so_far() } else { self.pipeline.finish() };
        // Others go on listening: this is not the end of the site's traffic, only of ours.
        (rest.last, rest.watermark) = (false, 0);
        self.deliver(rest, made_by).await;
        Ok(())
    }

    /// Up to when nothing older will come: files may be behind the clock.
    fn reached(&self) -> EventMillis {
        self.followed.as_ref().map_or(EventMillis::MAX, |followed| self.slice.floor(followed.reached()))
    }

    async fn take(&mut self, input: Input) {
        let now_ms = self.seams.clock.now_ms();
        let Some(followed) = &mut self.followed else { return };
        match input {
            Input::Chunk(chunk) => followed.take(chunk, now_ms, &mut self.pipeline, &self.metrics),
            Input::Gone { number } => followed.forget(number),
            Input::CaughtUp { at_ms } => followed.catch_up(at_ms),
        }
        self.tap().await;
    }

    async fn decode(&mut self, datagram: &Datagram) {
        datagram.decode(&mut self.pipeline, &self.metrics);
        self.tap().await;
    }

    async fn tap(&mut self) {
        if let Some(tap) = &self.tap {
            let _ = tap.send(self.pipeline.tapped()).await;
        }
    }

    async fn deliver(&self, flush: Flush, made_by: tracing::Span) -> bool {
        let checkpoint = if self.keeps { self.checkpoint() } else { None };
        self.uplink.deliver(Delivery { flush, checkpoint, durable: Vec::new(), made_by }).await
    }

    fn sources(&self) -> Sources {
        Sources { files: self.followed.as_ref().map(Followed::save).unwrap_or_default() }
    }

    fn checkpoint(&self) -> Option<Vec<u8>> {
        let began = Instant::now();
        let written = checkpoint::write(&self.pipeline, &self.sources());
        self.seams.latencies.record("check-point", began.elapsed());
        let written = written.inspect_err(|error| tracing::error!(%error, "a check-point can't be written")).ok()?;
        self.metrics.counters().checkpoint_bytes.store(written.len() as u64, Relaxed);
        Some(written)
    }
}

enum Came {
    Datagram(Datagram),
    Input(Input),
}

/// Whatever comes next: neither keeps the other waiting. Nothing when neither can come.
async fn next(datagrams: &mut Inbox<Datagram>, inputs: &mut mpsc::Receiver<Input>) -> Option<Came> {
    tokio::select! {
        Some(datagram) = datagrams.recv() => Some(Came::Datagram(datagram)),
        Some(input) = inputs.recv() => Some(Came::Input(input)),
        else => None,
    }
}
