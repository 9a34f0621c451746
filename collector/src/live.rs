//! Drives the pipeline with live traffic: the clock says when a slice has ended, whether anything came or not.

use std::{convert::Infallible, sync::atomic::Ordering::Relaxed, time::Duration};

use spikewatch_actors::{Seams, mailbox::Inbox, task::Kind};
use spikewatch_domain::{
    record::{EventMillis, FlowRecord},
    span::Span,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use crate::{
    checkpoint::{self, Sources},
    memory_limit::Said,
    metrics::Metrics,
    pipeline::{Flush, Pipeline},
    places::Databases,
    recorded::decoding,
    source::{
        follow::Chunk,
        followed::Followed,
        intake::{
            parcel::{Parcel, Tag, Taken},
            remembered::Remembered,
        },
        listener::Datagram,
        once::SavedOnce,
    },
    uplink::{Delivery, UplinkHandle},
};

/// Senders that wait until what they sent is durable, beyond which those that went away are looked for.
const MANY_WAITING: usize = 4_096;

/// What comes from sources that wait until it is taken.
#[derive(Debug)]
pub(crate) enum Input {
    /// Lines of a file.
    Chunk(Chunk),
    /// That file will not be heard of again.
    Gone { number: u64 },
    /// Files are read up to what was written by then.
    CaughtUp { at_ms: EventMillis },
    /// What a sender hands over.
    Parcel(Parcel),
    /// The last number of a client is asked for.
    LastOf { client: String, answer: oneshot::Sender<Option<u64>> },
}

/// See the module.
pub(crate) struct Live {
    pub(crate) pipeline: Pipeline,
    pub(crate) metrics: Metrics,
    pub(crate) uplink: UplinkHandle,
    /// There is a spool, with check-points in it.
    pub(crate) keeps: bool,
    /// Where peers are looked up, when that has changed.
    pub(crate) databases: Option<watch::Receiver<Databases>>,
    /// Gets a copy of every record.
    pub(crate) tap: Option<mpsc::Sender<Vec<FlowRecord>>>,
    pub(crate) slice: Span,
    /// Files, if any are followed.
    pub(crate) followed: Option<Followed>,
    /// Who sent what.
    pub(crate) remembered: Remembered,
    /// Files that were read once, by a collector with other sources.
    pub(crate) once: SavedOnce,
    /// What windows of a slice may take, bytes.
    pub(crate) most_bytes: usize,
    pub(crate) said: Said,
    /// To be told when all so far is durable.
    pub(crate) waiting: Vec<oneshot::Sender<()>>,
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
        let mut tick = Instant::now();
        let mut made_by = decoding();
        loop {
            tokio::select! {
                biased;
                () = token.cancelled() => break,
                () = sleep_until(tick) => {
                    self.switch();
                    let now_ms = self.seams.clock.now_ms();
                    // Slices end with a second, and are sent then.
                    tick = Instant::now() + Duration::from_millis(1_000 - now_ms % 1_000);
                    if let Some(mut flush) = self.pipeline.advance(now_ms) {
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
            if self.pipeline.bytes() > self.most_bytes
                && !self.cut_early(std::mem::replace(&mut made_by, decoding())).await
            {
                return Ok(());
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

    /// Goes on with databases that were read anew.
    fn switch(&mut self) {
        if let Some(databases) = &mut self.databases
            && databases.has_changed().unwrap_or(false)
        {
            self.pipeline.switch(databases.borrow_and_update().clone());
        }
    }

    /// Delivers what there is of the slice under way; the rest of it follows.
    async fn cut_early(&mut self, made_by: tracing::Span) -> bool {
        Metrics::add(&self.metrics.counters().cut_early, 1);
        if self.said.is_due() {
            let bytes = self.pipeline.bytes();
            tracing::warn!(bytes, "windows take their part of collector.memory_limit: slices are cut before their end");
        }
        let flush = self.pipeline.cut_early();
        self.deliver(flush, made_by).await
    }

    /// Up to when nothing older will come: files may be behind the clock.
    fn reached(&self) -> EventMillis {
        self.followed.as_ref().map_or(EventMillis::MAX, |followed| self.slice.floor(followed.reached()))
    }

    async fn take(&mut self, input: Input) {
        let now_ms = self.seams.clock.now_ms();
        match (input, &mut self.followed) {
            (Input::Parcel(parcel), _) => self.count(parcel),
            (Input::LastOf { client, answer }, _) => {
                // Whoever asked may be gone.
                let _ = answer.send(self.remembered.last(&client));
            }
            (Input::Chunk(chunk), Some(followed)) => followed.take(chunk, now_ms, &mut self.pipeline, &self.metrics),
            (Input::Gone { number }, Some(followed)) => followed.forget(number),
            (Input::CaughtUp { at_ms }, Some(followed)) => followed.catch_up(at_ms),
            (Input::Chunk(_) | Input::Gone { .. } | Input::CaughtUp { .. }, None) => {}
        }
        self.tap().await;
    }

    /// A parcel counts, and is known from then on, or does neither. Whoever sent it waits for the next slice.
    fn count(&mut self, Parcel { tag, mut records, tally, at_ms, taken, durable, room }: Parcel) {
        let done = match tag {
            Tag::None => Taken::Counted,
            Tag::Key { key, body } => self.remembered.keyed(key, body, tally),
            Tag::Number { client, sequence } => self.remembered.numbered(&client, sequence),
        };
        match done {
            // All of them are young enough: those that are not were taken out.
            Taken::Counted => self.pipeline.lines(&mut records, at_ms, |_| {}),
            Taken::Repeated(_) => Metrics::add(&self.metrics.counters().intake_repeated, 1),
            Taken::KeyReused | Taken::OutOfOrder { .. } => {}
        }
        drop(room);
        if taken.send(done).is_ok() {
            self.waiting.push(durable);
        }
        if self.waiting.len() > MANY_WAITING {
            self.waiting.retain(|durable| !durable.is_closed());
        }
    }

    async fn decode(&mut self, datagram: &Datagram) {
        datagram.waited(&self.metrics);
        datagram.decode(&mut self.pipeline, &self.metrics);
        self.tap().await;
    }

    async fn tap(&mut self) {
        if let Some(tap) = &self.tap {
            let _ = tap.send(self.pipeline.tapped()).await;
        }
    }

    async fn deliver(&mut self, flush: Flush, made_by: tracing::Span) -> bool {
        let checkpoint = if self.keeps { self.checkpoint() } else { None };
        let durable = std::mem::take(&mut self.waiting);
        self.uplink.deliver(Delivery { flush, checkpoint, durable, made_by }).await
    }

    fn sources(&self) -> Sources {
        let files = self.followed.as_ref().map(Followed::save).unwrap_or_default();
        Sources { files, senders: self.remembered.save(), once: self.once.clone() }
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
