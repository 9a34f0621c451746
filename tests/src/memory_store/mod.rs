//! A store in plain maps, on nobody's threads: what a simulator needs, where each step must be the same again. It is
//! held to the tests of the real ones.

mod outbox;
mod prune;
mod tables;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use spikewatch_actors::clock::Clock;
use spikewatch_detector::store::{
    Answer, Claim, Enrolled, Finished, Kept, LateEntry, Leader, Loaded, LogEntry, Parcel, Range, Resume, Settled,
    SnapshotId, Store, StoreError, Term, Write,
};
use spikewatch_proto::{
    convert::{
        cluster::{Incarnation, Shape},
        results::{Alert, AnomalyRecord},
    },
    v1,
};

use self::tables::Tables;

/// What lies between one detector and its store.
pub trait Line: Send + Sync + fmt::Debug {
    /// A question's way there. If it fails, nothing was asked.
    fn there(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// The answer's way back. If it fails, a write was made, but whoever asked for it can't know.
    fn back(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// These were applied at this instant.
    fn applied(&self, _term: Term, _writes: &[Write]) {}
}

/// A line that is always there.
#[derive(Debug, Clone, Copy)]
pub struct Direct;

impl Line for Direct {}

/// One detector's way to a store.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
    shape: Shape,
    clock: Clock,
    line: Arc<dyn Line>,
}

impl MemoryStore {
    /// A new store of that shape. `clock` is the store's own.
    #[must_use]
    pub fn new(shape: Shape, lineage: [u8; 16], clock: Clock) -> Self {
        let tables = Arc::new(Mutex::new(Tables::new(shape, lineage)));
        Self { tables, shape, clock, line: Arc::new(Direct) }
    }

    /// Another way to the same store.
    #[must_use]
    pub fn over(&self, line: Arc<dyn Line>) -> Self {
        Self { line, ..self.clone() }
    }

    fn with<T>(&self, run: impl FnOnce(&mut Tables) -> T) -> T {
        run(&mut self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn read<T>(&self, run: impl FnOnce(&mut Tables) -> T) -> Result<T, StoreError> {
        self.line.there().await?;
        let answer = self.with(run);
        self.line.back().await?;
        Ok(answer)
    }

    async fn write<T>(
        &self,
        term: Term,
        run: impl FnOnce(&mut Tables) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.line.there().await?;
        let answer = self.with(|tables| {
            tables.check(term)?;
            run(tables)
        });
        let unknown = |error: StoreError| StoreError::Unknown(error.to_string());
        self.line.back().await.map_err(unknown)?;
        answer
    }
}

impl Store for MemoryStore {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn leader(&self) -> Answer<'_, Option<Leader>> {
        Box::pin(self.read(|tables| tables.leader(self.clock.now_ms())))
    }

    fn claim<'a>(&'a self, holder: &'a str, ttl: Duration) -> Answer<'a, Claim> {
        Box::pin(self.read(move |tables| tables.claim(holder, ttl, self.clock.now_ms())))
    }

    fn renew(&self, term: Term, ttl: Duration) -> Answer<'_, ()> {
        Box::pin(self.write(term, move |tables| tables.renew(ttl, self.clock.now_ms())))
    }

    fn release(&self, term: Term) -> Answer<'_, ()> {
        let release = self.write(term, |tables| {
            tables.lease = None;
            Ok(())
        });
        Box::pin(async move {
            match release.await {
                Err(error) if error.is_deposed() => Ok(()),
                other => other,
            }
        })
    }

    fn load(&self) -> Answer<'_, Loaded> {
        Box::pin(self.read(|tables| tables.load()))
    }

    fn apply(&self, term: Term, writes: Vec<Write>) -> Answer<'_, ()> {
        let line = Arc::clone(&self.line);
        Box::pin(self.write(term, move |tables| {
            tables.apply(&writes)?;
            line.applied(term, &writes);
            Ok(())
        }))
    }

    fn assigned(&self, term: Term, number: u64) -> Answer<'_, ()> {
        Box::pin(self.write(term, move |tables| {
            tables.assignment = number;
            Ok(())
        }))
    }

    fn enrol(&self, term: Term, members: Vec<(Incarnation, Enrolled)>) -> Answer<'_, ()> {
        Box::pin(self.write(term, move |tables| {
            tables.members.extend(members);
            Ok(())
        }))
    }

    fn resume(&self) -> Answer<'_, Resume> {
        Box::pin(self.read(|tables| tables.resume()))
    }

    fn buckets(&self, after: Option<u64>, up_to: u64, limit: u32) -> Answer<'_, Vec<u64>> {
        Box::pin(self.read(move |tables| tables.buckets(after, up_to, limit)))
    }

    fn log(&self, bucket: u64) -> Answer<'_, (Vec<LogEntry>, Vec<String>)> {
        Box::pin(self.read(move |tables| tables.log_of(bucket)))
    }

    fn late(&self, after: u64, passed: u64, limit: u32) -> Answer<'_, Vec<LateEntry>> {
        Box::pin(self.read(move |tables| tables.late(after, passed, limit)))
    }

    fn earlier(&self, bucket: u64, shard: Option<u32>, position: u64) -> Answer<'_, Vec<LogEntry>> {
        Box::pin(self.read(move |tables| tables.earlier(bucket, shard, position)))
    }

    fn finish(&self, term: Term, finished: Finished) -> Answer<'_, ()> {
        Box::pin(self.write(term, move |tables| {
            tables.finish(finished);
            Ok(())
        }))
    }

    fn records(&self, range: Range, after: u64, min_score: f64, limit: u32) -> Answer<'_, Vec<AnomalyRecord>> {
        Box::pin(self.read(move |tables| tables.records(range, after, min_score, limit)))
    }

    fn recent_records(&self, since_ms: u64, min_score: f64) -> Answer<'_, Vec<AnomalyRecord>> {
        Box::pin(self.read(move |tables| tables.recent_records(since_ms, min_score)))
    }

    fn alerts(&self, range: Range, after: u64, limit: u32) -> Answer<'_, Vec<(u64, Alert)>> {
        Box::pin(self.read(move |tables| tables.alerts(range, after, limit)))
    }

    fn alerts_of(&self, ids: Vec<String>) -> Answer<'_, Vec<Alert>> {
        Box::pin(self.read(move |tables| ids.iter().filter_map(|id| tables.alert(id)).collect()))
    }

    fn executions(&self, rule: Option<String>, limit: u32) -> Answer<'_, Vec<v1::Execution>> {
        Box::pin(self.read(move |tables| tables.executions_of(rule.as_deref(), limit)))
    }

    fn rule_progress(&self) -> Answer<'_, Vec<(String, Vec<u8>)>> {
        Box::pin(self.read(|tables| tables.progress.clone().into_iter().collect()))
    }

    fn put_snapshot_part(&self, term: Term, id: SnapshotId, part: u32, blob: Vec<u8>) -> Answer<'_, ()> {
        Box::pin(self.write(term, move |tables| {
            tables.snapshots.insert(id.clone(), None);
            tables.parts.insert((id, part), blob);
            Ok(())
        }))
    }

    fn finish_snapshot(&self, term: Term, id: SnapshotId, parts: u32) -> Answer<'_, ()> {
        Box::pin(self.write(term, move |tables| tables.finish_snapshot(id, parts)))
    }

    fn snapshots(&self) -> Answer<'_, Vec<(SnapshotId, u32)>> {
        Box::pin(self.read(|tables| tables.usable_snapshots()))
    }

    fn snapshot_part(&self, id: SnapshotId, part: u32) -> Answer<'_, Vec<u8>> {
        let missing = StoreError::Damaged { what: "a snapshot", why: format!("its part {part} is missing") };
        Box::pin(async move { self.read(move |tables| tables.parts.get(&(id, part)).cloned()).await?.ok_or(missing) })
    }

    fn take_parcels(
        &self,
        term: Term,
        sink: String,
        now_ms: u64,
        until_ms: u64,
        limit: u32,
    ) -> Answer<'_, Vec<Parcel>> {
        Box::pin(self.write(term, move |tables| Ok(tables.take_parcels(term, &sink, now_ms, until_ms, limit))))
    }

    fn settle(&self, term: Term, number: u64, settled: Settled, now_ms: u64) -> Answer<'_, ()> {
        Box::pin(self.write(term, move |tables| {
            tables.outbox.settle(term, number, settled, now_ms);
            Ok(())
        }))
    }

    fn prune(&self, term: Term, kept: Kept, before: u64, limit: u32) -> Answer<'_, u64> {
        Box::pin(self.write(term, move |tables| Ok(tables.prune(kept, before, limit))))
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}
