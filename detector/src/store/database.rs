//! The store itself: one set of statements over either database.

use std::{collections::BTreeMap, time::Duration};

use spikewatch_domain::{record::EventMillis, span::Span};
use spikewatch_proto::{
    HASH_ID,
    convert::{
        cluster::{Incarnation, Shape},
        results::{Alert, AnomalyRecord},
    },
    v1,
};

use super::{
    Answer, Claim, Enrolled, Finished, Kept, LateEntry, Leader, Loaded, LogEntry, Parcel, Range, Resume, Settled,
    SnapshotId, Store, StoreError, StoreOptions, Term, Write,
    error::damaged,
    lineage,
    mark::{self, Standing},
    outbox,
    postgres::{self, Server},
    prune, read, rules, snapshot,
    sql::{Work, sql},
    sqlite::{self, Embedded},
    write,
};

/// The database behind a store.
#[derive(Debug)]
pub(super) enum Engine {
    Sqlite(Embedded),
    Postgres(Server),
}

impl Engine {
    async fn begin(&self, term: Term) -> Result<Work, StoreError> {
        match self {
            Self::Sqlite(engine) => engine.begin(term).await,
            Self::Postgres(engine) => engine.begin(term).await,
        }
    }

    async fn begin_unfenced(&self) -> Result<Work, StoreError> {
        match self {
            Self::Sqlite(engine) => engine.begin_unfenced().await,
            Self::Postgres(engine) => engine.begin_unfenced().await,
        }
    }

    pub(super) async fn read(&self) -> Result<Work, StoreError> {
        match self {
            Self::Sqlite(engine) => engine.read().await,
            Self::Postgres(engine) => engine.read().await,
        }
    }

    /// The database's clock, ms since 1970.
    async fn now_ms(&self, work: &mut Work) -> Result<u64, StoreError> {
        let now = match self {
            Self::Sqlite(_) => sql(sqlite::SELECT_NOW),
            Self::Postgres(_) => sql(postgres::SELECT_NOW),
        };
        work.row(now).await?.ok_or_else(|| damaged("the clock", "there is no answer"))?.number("now")
    }
}

/// An open store.
#[derive(Debug)]
pub(super) struct Database {
    engine: Engine,
    shape: Shape,
}

impl Database {
    /// Opens the store, or makes it. Whoever wants to write must [`claim`](Store::claim) a term.
    pub(super) async fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let engine = match options.url.split_once(':') {
            Some(("sqlite", _)) => Engine::Sqlite(Embedded::open(options).await?),
            Some(("postgres" | "postgresql", _)) => Engine::Postgres(Server::open(options).await?),
            _ => return Err(StoreError::Address(options.url.clone())),
        };
        let mut work = engine.begin_unfenced().await?;
        prepare(&mut work, options).await?;
        let now_ms = engine.now_ms(&mut work).await?;
        if work.row(sql("SELECT number FROM lineage")).await?.is_none() {
            lineage::begin(&mut work, options.lineage, now_ms, "the store was made").await?;
        }
        if let Engine::Sqlite(Embedded { mark: Some(mark), .. }) = &engine
            && let Some(marked) = mark.read().await
            && !covers(&mut work, &marked).await?
        {
            tracing::error!(
                store = options.url,
                "the store is older than it was: it was restored, or the disk lost what it had confirmed. It begins a new \
                 lineage; what collectors keep is sent again, what they keep no more is missing"
            );
            lineage::begin(&mut work, options.lineage, now_ms, "the file is older than the mark beside it").await?;
        }
        work.commit().await?;
        let database = Self { engine, shape: options.shape };
        if let Engine::Sqlite(Embedded { mark: Some(mark), .. }) = &database.engine {
            mark.write(&database.standing().await?).await;
        }
        Ok(database)
    }

    /// Applies `change` in a transaction of the leader's.
    async fn write<T>(
        &self,
        term: Term,
        change: impl AsyncFnOnce(&mut Work) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut work = self.engine.begin(term).await?;
        let changed = change(&mut work).await?;
        work.commit().await?;
        Ok(changed)
    }

    async fn standing(&self) -> Result<Standing, StoreError> {
        let mut work = self.engine.read().await?;
        Ok(Standing { lineage: lineage::current(&mut work).await?, progress: mark::progress(&mut work).await? })
    }
}

/// True unless the store lies behind what its mark tells of.
async fn covers(work: &mut Work, marked: &Standing) -> Result<bool, StoreError> {
    if !lineage::is_known(work, marked.lineage).await? {
        return Ok(false);
    }
    Ok(mark::progress(work).await? >= marked.progress)
}

/// Checks what the store is, or writes it in a new one.
async fn prepare(work: &mut Work, options: &StoreOptions) -> Result<(), StoreError> {
    let shape = write_shape(options.shape);
    let insert = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
    work.execute(sql(insert).bind("shape").bind(shape.as_slice())).await?;
    let stored = stored_shape(work).await?;
    if stored != options.shape {
        return Err(StoreError::OtherShape { stored: name(stored), asked: name(options.shape) });
    }
    let shard = |shard: u32| [shard.into(), 0u32.into(), "".into(), 0u32.into(), 0u32.into(), 0u32.into()];
    let shards: Vec<_> = (0..stored.shards).map(shard).collect();
    let head = "INSERT INTO shard (shard, epoch, owner, assignment, commit_no, digest)";
    work.insert(head, &shards, "ON CONFLICT (shard) DO NOTHING").await
}

fn name(shape: Shape) -> String {
    format!("{} shards of {} buckets", shape.shards, shape.bucket)
}

fn write_shape(shape: Shape) -> Vec<u8> {
    [shape.shards, shape.bucket.seconds(), HASH_ID].iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The shape that the store was made for.
pub(super) async fn stored_shape(work: &mut Work) -> Result<Shape, StoreError> {
    let row = work.row(sql("SELECT value FROM meta WHERE key = 'shape'")).await?;
    let row = row.ok_or_else(|| damaged("the shape", "there is none"))?;
    let numbers: Vec<u32> =
        row.bytes("value")?.as_chunks::<4>().0.iter().map(|chunk| u32::from_le_bytes(*chunk)).collect();
    match numbers.as_slice() {
        [shards, seconds, HASH_ID] => {
            let bucket = Span::from_seconds(u64::from(*seconds)).map_err(|error| damaged("the shape", error))?;
            Ok(Shape { shards: *shards, bucket })
        }
        _ => Err(damaged("the shape", "it names another hash")),
    }
}

impl Store for Database {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn leader(&self) -> Answer<'_, Option<Leader>> {
        Box::pin(async move {
            match &self.engine {
                Engine::Sqlite(engine) => engine.leader().await,
                Engine::Postgres(engine) => engine.leader().await,
            }
        })
    }

    fn claim<'a>(&'a self, holder: &'a str, ttl: Duration) -> Answer<'a, Claim> {
        Box::pin(async move {
            match &self.engine {
                Engine::Sqlite(engine) => {
                    let claim = engine.claim(holder, ttl).await?;
                    if let Some(mark) = &engine.mark {
                        mark.write(&self.standing().await?).await;
                    }
                    Ok(claim)
                }
                Engine::Postgres(engine) => engine.claim(holder, ttl).await,
            }
        })
    }

    fn renew(&self, term: Term, ttl: Duration) -> Answer<'_, ()> {
        Box::pin(async move {
            match &self.engine {
                Engine::Sqlite(engine) => engine.renew(term, ttl).await,
                Engine::Postgres(engine) => engine.renew(term, ttl).await,
            }
        })
    }

    fn release(&self, term: Term) -> Answer<'_, ()> {
        Box::pin(async move {
            match &self.engine {
                Engine::Sqlite(engine) => engine.release(term).await,
                Engine::Postgres(engine) => engine.release(term).await,
            }
        })
    }

    fn load(&self) -> Answer<'_, Loaded> {
        Box::pin(async move { read::load(&mut self.engine.read().await?, self.shape).await })
    }

    fn apply(&self, term: Term, writes: Vec<Write>) -> Answer<'_, ()> {
        Box::pin(async move {
            self.write(term, async |work| write::apply(work, &writes).await).await?;
            if let Engine::Sqlite(Embedded { mark: Some(mark), .. }) = &self.engine {
                mark.write_now_and_then(async || self.standing().await).await;
            }
            Ok(())
        })
    }

    fn assigned(&self, term: Term, number: u64) -> Answer<'_, ()> {
        Box::pin(async move { self.write(term, async |work| write::counter(work, "assignment", number).await).await })
    }

    fn enrol(&self, term: Term, members: Vec<(Incarnation, Enrolled)>) -> Answer<'_, ()> {
        Box::pin(async move {
            let members: BTreeMap<_, _> = members.iter().map(|(of, enrolled)| (of, *enrolled)).collect();
            self.write(term, async |work| write::enrol(work, &members).await).await
        })
    }

    fn resume(&self) -> Answer<'_, Resume> {
        Box::pin(async move { read::resume(&mut self.engine.read().await?).await })
    }

    fn buckets(&self, after: Option<EventMillis>, up_to: EventMillis, limit: u32) -> Answer<'_, Vec<EventMillis>> {
        Box::pin(async move { read::buckets(&mut self.engine.read().await?, after, up_to, limit).await })
    }

    fn log(&self, bucket: EventMillis) -> Answer<'_, (Vec<LogEntry>, Vec<String>)> {
        Box::pin(async move { read::log(&mut self.engine.read().await?, bucket).await })
    }

    fn late(&self, after: u64, passed: EventMillis, limit: u32) -> Answer<'_, Vec<LateEntry>> {
        Box::pin(async move { read::late(&mut self.engine.read().await?, after, passed, limit).await })
    }

    fn earlier(&self, bucket: EventMillis, shard: Option<u32>, position: u64) -> Answer<'_, Vec<LogEntry>> {
        Box::pin(async move { read::earlier(&mut self.engine.read().await?, bucket, shard, position).await })
    }

    fn finish(&self, term: Term, finished: Finished) -> Answer<'_, ()> {
        Box::pin(async move { self.write(term, async |work| write::finish(work, finished).await).await })
    }

    fn records(&self, range: Range, after: u64, min_score: f64, limit: u32) -> Answer<'_, Vec<AnomalyRecord>> {
        Box::pin(async move { read::records(&mut self.engine.read().await?, range, after, min_score, limit).await })
    }

    fn recent_records(&self, since_ms: EventMillis, min_score: f64) -> Answer<'_, Vec<AnomalyRecord>> {
        Box::pin(async move { read::recent_records(&mut self.engine.read().await?, since_ms, min_score).await })
    }

    fn alerts(&self, range: Range, after: u64, limit: u32) -> Answer<'_, Vec<(u64, Alert)>> {
        Box::pin(async move { read::alerts(&mut self.engine.read().await?, range, after, limit).await })
    }

    fn alerts_of(&self, ids: Vec<String>) -> Answer<'_, Vec<Alert>> {
        Box::pin(async move { rules::alerts_of(&mut self.engine.read().await?, &ids).await })
    }

    fn executions(&self, rule: Option<String>, limit: u32) -> Answer<'_, Vec<v1::Execution>> {
        Box::pin(async move { rules::executions(&mut self.engine.read().await?, rule.as_deref(), limit).await })
    }

    fn rule_progress(&self) -> Answer<'_, Vec<(String, Vec<u8>)>> {
        Box::pin(async move { rules::progress(&mut self.engine.read().await?).await })
    }

    fn put_snapshot_part(&self, term: Term, id: SnapshotId, part: u32, blob: Vec<u8>) -> Answer<'_, ()> {
        Box::pin(async move { self.write(term, async |work| snapshot::put(work, &id, part, &blob).await).await })
    }

    fn finish_snapshot(&self, term: Term, id: SnapshotId, parts: u32) -> Answer<'_, ()> {
        Box::pin(async move { self.write(term, async |work| snapshot::finish(work, &id, parts).await).await })
    }

    fn snapshots(&self) -> Answer<'_, Vec<(SnapshotId, u32)>> {
        Box::pin(async move { snapshot::list(&mut self.engine.read().await?).await })
    }

    fn snapshot_part(&self, id: SnapshotId, part: u32) -> Answer<'_, Vec<u8>> {
        Box::pin(async move { snapshot::get(&mut self.engine.read().await?, &id, part).await })
    }

    fn take_parcels(
        &self,
        term: Term,
        sink: String,
        now_ms: u64,
        until_ms: u64,
        limit: u32,
    ) -> Answer<'_, Vec<Parcel>> {
        Box::pin(async move {
            self.write(term, async |work| outbox::take(work, term, &sink, now_ms, until_ms, limit).await).await
        })
    }

    fn settle(&self, term: Term, number: u64, settled: Settled, now_ms: u64) -> Answer<'_, ()> {
        Box::pin(async move {
            self.write(term, async |work| outbox::settle(work, term, number, &settled, now_ms).await).await
        })
    }

    fn prune(&self, term: Term, kept: Kept, before: EventMillis, limit: u32) -> Answer<'_, u64> {
        Box::pin(async move { self.write(term, async |work| prune::prune(work, kept, before, limit).await).await })
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            match &self.engine {
                Engine::Sqlite(engine) => engine.close().await,
                Engine::Postgres(engine) => engine.close().await,
            }
            Ok(())
        })
    }
}
