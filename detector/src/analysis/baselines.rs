//! All baselines, as a function of the commit log: what they have learnt is the log up to a bucket, in order. So whoever
//! follows the log, now or later, has the same to the last bit.

use std::{collections::BTreeMap, sync::Arc};

use spikewatch_actors::task::{Kind, OnCancel, OnFailure, Tasks};
use spikewatch_domain::{record::EventMillis, span::Span};
use spikewatch_proto::{convert::results::AnomalyRecord, v1};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::amended::Amended;
use crate::{
    calendar::Calendars,
    job::Job,
    prepare,
    scoring::{Bucket, Row, Scored, Scoring, Wanted},
    store::{LateEntry, LogKind, Store, StoreError},
};

/// Buckets that are looked up at once.
const BUCKETS: u32 = 256;
/// Windows and series that are scored between two awaits; more go to a thread of their own.
const AT_ONCE: u64 = 5000;
/// Corrections of a bucket that lies further behind the last one scored are not scored, ms: what a series knows now says
/// little of it.
const LATEST_MS: u64 = 2 * 86_400_000;

/// What they are made from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// The jobs.
    pub(crate) jobs: Arc<[Job]>,
    /// The base bucket.
    pub(crate) span: Span,
    /// What they may take, bytes.
    pub(crate) memory: u64,
    /// See [`Scoring::bound`].
    pub(crate) false_alerts_a_day: f64,
    /// Times in which unusual traffic is expected.
    pub(crate) calendars: Calendars,
    /// Where the thread is spawned that scores large buckets.
    pub(crate) tasks: Tasks,
}

impl Origin {
    /// Scoring that has learnt nothing.
    pub(super) fn scoring(&self) -> Scoring {
        let mut scoring = Scoring::new(&self.jobs, self.span, self.memory);
        scoring.heed(self.calendars.clone());
        scoring.bound(self.false_alerts_a_day);
        scoring
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Baselines {
    origin: Origin,
    scoring: Scoring,
    /// Start of the last bucket learnt.
    scored: Option<EventMillis>,
    amended: Amended,
}

impl Baselines {
    /// Nothing learnt.
    pub(crate) fn new(origin: Origin) -> Self {
        let scoring = origin.scoring();
        Self { origin, scoring, scored: None, amended: Amended::default() }
    }

    /// As they were after that bucket.
    pub(super) fn at(origin: Origin, scoring: Scoring, bucket: EventMillis) -> Self {
        Self { origin, scoring, scored: Some(bucket), amended: Amended::default() }
    }

    /// What they have learnt.
    pub(super) fn scoring(&self) -> &Scoring {
        &self.scoring
    }

    /// What they are made from.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What they were made from.
    pub(crate) fn into_origin(self) -> Origin {
        self.origin
    }

    /// Start of the last bucket that they have learnt, or passed because there was nothing in it.
    pub(crate) fn scored(&self) -> Option<EventMillis> {
        self.scored
    }

    /// Length of the buckets.
    pub(crate) fn span(&self) -> Span {
        self.origin.span
    }

    /// Series with a baseline, over all jobs.
    pub(crate) fn series(&self) -> u64 {
        self.scoring.series()
    }

    /// Learns all buckets up to `until`, in bounded memory, unless stopped before; the first time from the newest usable
    /// snapshot on. Returns how many it learnt.
    ///
    /// # Errors
    /// The store can't be read; what was learnt by then stays.
    pub(crate) async fn follow(
        &mut self,
        store: &dyn Store,
        until: EventMillis,
        stop: &CancellationToken,
    ) -> Result<u32, StoreError> {
        let mut learnt = 0u32;
        if self.scored.is_none() {
            *self = Self::restore(self.origin.clone(), store, until).await?;
        }
        loop {
            let buckets = store.buckets(self.scored, until, BUCKETS).await?;
            if buckets.is_empty() {
                self.scored = self.scored.max(Some(until));
                return Ok(learnt);
            }
            for start in buckets {
                if stop.is_cancelled() {
                    return Ok(learnt);
                }
                self.learn(read(store, start).await?).await?;
                learnt = learnt.saturating_add(1);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Buckets after the last one learnt and up to `until` of which anything is known, ascending. If there are none,
    /// nothing up to `until` has to be looked at again.
    pub(crate) async fn ready(
        &mut self,
        store: &dyn Store,
        until: EventMillis,
    ) -> Result<Vec<EventMillis>, StoreError> {
        let buckets = store.buckets(self.scored, until, BUCKETS).await?;
        if buckets.is_empty() {
            self.scored = self.scored.max(Some(until));
        }
        Ok(buckets)
    }

    /// Scores and learns the next bucket.
    ///
    /// # Errors
    /// The store can't be read, and nothing was learnt; or scoring failed, and the baselines are lost.
    pub(crate) async fn score(&mut self, store: &dyn Store, start: EventMillis) -> Result<Scored, StoreError> {
        let bucket = read(store, start).await?;
        if self.scoring.is_global() {
            self.amended.scored(start, &bucket.rows);
        }
        self.learn(bucket).await
    }

    /// Scores a row of late deltas and learns nothing. Rows come in the order of the log, each once, and each after the
    /// buckets that every shard had committed before it. Windows that lie too far behind aren't scored; they count as not
    /// modelled.
    ///
    /// # Errors
    /// The store can't be read.
    pub(super) async fn correct(&mut self, store: &dyn Store, late: &LateEntry) -> Result<Scored, StoreError> {
        if self.scored.is_none_or(|scored| scored.saturating_sub(late.entry.bucket) > LATEST_MS) {
            return Ok(Scored { not_modelled: late.entry.windows, ..Scored::default() });
        }
        let correction = self.amended.correct(store, late, self.scoring.is_global()).await?;
        Ok(self.scoring.correct(&correction))
    }

    async fn learn(&mut self, bucket: Bucket) -> Result<Scored, StoreError> {
        let start = bucket.start;
        // Of a bucket that only late corrections are known of, nothing was known when it was its turn.
        let known = !bucket.rows.is_empty() || !bucket.missing.is_empty();
        let scored = if known { self.learn_known(bucket).await? } else { Scored::default() };
        self.scored = Some(start);
        Ok(scored)
    }

    async fn learn_known(&mut self, bucket: Bucket) -> Result<Scored, StoreError> {
        let size = self.scoring.series() + bucket.rows.len() as u64;
        self.work(size, |scoring| scoring.score(bucket)).await
    }

    /// Anomaly records of windows that are still open; learns nothing. `sites`: all sites' windows so far, if any is new.
    pub(super) fn early(&self, start: EventMillis, rows: &[Row], sites: &[Row]) -> Vec<AnomalyRecord> {
        self.scoring.early(start, rows, sites)
    }

    /// What windows of the bucket that starts at `next` have to reach, by shard. `wanted`: what a job's records have to.
    ///
    /// # Errors
    /// It failed, and the baselines are lost.
    pub(super) async fn tripwires(
        &mut self,
        next: EventMillis,
        shards: u32,
        wanted: BTreeMap<String, Option<Wanted>>,
    ) -> Result<Vec<v1::Tripwires>, StoreError> {
        // Each takes some twenty forecasts.
        let size = self.scoring.series().saturating_mul(20);
        let wanted = move |job: &Job| wanted.get(&job.id).copied().flatten();
        self.work(size, move |scoring| scoring.tripwires(next, shards, wanted)).await
    }

    /// Much work is done on a thread of its own, so that it doesn't keep others from theirs.
    async fn work<T: Send + 'static>(
        &mut self,
        size: u64,
        work: impl FnOnce(&mut Scoring) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        if size <= AT_ONCE {
            return Ok(work(&mut self.scoring));
        }
        let mut away = std::mem::replace(&mut self.scoring, Scoring::new(&[], self.origin.span, 0));
        let (done, back) = oneshot::channel();
        let kind = Kind { on_cancel: OnCancel::Wait, on_failure: OnFailure::Log };
        self.origin.tasks.spawn_blocking(kind, "scoring", move || {
            let outcome = work(&mut away);
            // Nobody waits for it while the reign ends.
            let _ = done.send((away, outcome));
            Ok::<(), StoreError>(())
        });
        let lost = |_| StoreError::Damaged { what: "the state of the baselines", why: "scoring failed".into() };
        let (away, outcome) = back.await.map_err(lost)?;
        self.scoring = away;
        Ok(outcome)
    }
}

async fn read(store: &dyn Store, start: EventMillis) -> Result<Bucket, StoreError> {
    let (log, missing) = store.log(start).await?;
    let mut bucket = Bucket { start, ..Bucket::default() };
    for entry in log.iter().filter(|entry| !matches!(entry.kind, LogKind::Late { .. })) {
        bucket.rows.extend(prepare::rows(entry)?);
    }
    bucket.missing = missing.iter().filter_map(|site| site.parse().ok()).collect();
    Ok(bucket)
}
