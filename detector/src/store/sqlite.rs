//! The embedded store: SQLite, one process, one writer.

use std::{fs::File, path::Path, str::FromStr as _, time::Duration};

use spikewatch_domain::span::Span;
use spikewatch_proto::{HASH_ID, convert::cluster::Shape};
use sqlx::{
    Row as _, Sqlite, SqlitePool, Transaction,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    Answer, Finished, Loaded, LogEntry, Range, Resume, Store, StoreError, Write, read,
    rows::{damaged, unsigned},
    write,
};
use spikewatch_domain::record::EventMillis;
use spikewatch_proto::convert::results::{Alert, AnomalyRecord};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Connections that only read.
const READERS: u32 = 4;

/// How to open it.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// "sqlite::memory:" or "sqlite:///path/of/file.db".
    pub url: String,
    /// Commits survive a loss of power. Without it they survive only the end of the process.
    pub durable: bool,
    /// Fixed when the store is made.
    pub shape: Shape,
    /// Becomes the lineage if the store is new.
    pub lineage: [u8; 16],
}

/// An open SQLite store.
#[derive(Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    reader: SqlitePool,
    shape: Shape,
    term: i64,
    /// Held as long as the store is open.
    _lock: Option<File>,
}

impl SqliteStore {
    /// Opens the store, or makes it, and takes the next term.
    ///
    /// # Errors
    /// Not an address of SQLite, in use, of a newer schema, of another shape, or not readable.
    pub async fn open(options: &SqliteOptions) -> Result<Self, StoreError> {
        let address = || StoreError::Address(options.url.clone());
        if !options.url.starts_with("sqlite:") {
            return Err(address());
        }
        let memory = options.url.contains(":memory:");
        let synchronous = if options.durable { SqliteSynchronous::Full } else { SqliteSynchronous::Off };
        let connect = SqliteConnectOptions::from_str(&options.url)
            .map_err(|_| address())?
            .create_if_missing(true)
            .journal_mode(if memory { SqliteJournalMode::Memory } else { SqliteJournalMode::Wal })
            .synchronous(synchronous)
            .busy_timeout(Duration::from_secs(10));
        let lock = if memory { None } else { Some(lock(connect.get_filename())?) };
        if !options.durable {
            tracing::info!(store = options.url, "the store does not sync: a loss of power loses it");
        }
        let pool = |connections: u32| {
            // A connection that is closed takes an in-memory database with it.
            SqlitePoolOptions::new().max_connections(connections).idle_timeout(None).max_lifetime(None)
        };
        let writer = pool(1).connect_with(connect.clone()).await?;
        migrate(&writer).await?;
        let reader = if memory { writer.clone() } else { pool(READERS).connect_with(connect.read_only(true)).await? };
        let term = take_over(&writer, options).await?;
        Ok(Self { writer, reader, shape: options.shape, term, _lock: lock })
    }

    /// Begins a transaction that writes. Its first statements take the write lock and check the term.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let term: i64 = sqlx::query_scalar("SELECT term FROM lease").fetch_one(&mut *transaction).await?;
        if term == self.term { Ok(transaction) } else { Err(StoreError::Deposed(self.term)) }
    }
}

fn lock(file: &Path) -> Result<File, StoreError> {
    let path = file.with_added_extension("lock");
    let failed = |source| StoreError::Lock { path: path.display().to_string(), source };
    let lock = File::options().create(true).append(true).open(&path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(file.display().to_string())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

async fn migrate(pool: &SqlitePool) -> Result<(), StoreError> {
    MIGRATIONS.run(pool).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) => {
            StoreError::Newer { found, known: MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0) }
        }
        other => StoreError::Migration(other),
    })
}

/// Takes the next term and checks (or, in a new store, writes) what the store is.
async fn take_over(pool: &SqlitePool, options: &SqliteOptions) -> Result<i64, StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let term: i64 =
        sqlx::query_scalar("UPDATE lease SET term = term + 1 RETURNING term").fetch_one(&mut *transaction).await?;
    let stored = sqlx::query("SELECT value FROM meta WHERE key = 'shape'").fetch_optional(&mut *transaction).await?;
    match stored {
        Some(row) => {
            let bytes: &[u8] = row.try_get("value")?;
            let stored = read_shape(bytes)?;
            if stored != options.shape {
                return Err(StoreError::OtherShape { stored: name(stored), asked: name(options.shape) });
            }
        }
        None => {
            let insert = "INSERT INTO meta (key, value) VALUES (?, ?)";
            let shape = write_shape(options.shape);
            sqlx::query(insert).bind("shape").bind(shape).execute(&mut *transaction).await?;
            let lineage = options.lineage.to_vec();
            sqlx::query(insert).bind("lineage").bind(lineage).execute(&mut *transaction).await?;
        }
    }
    transaction.commit().await?;
    Ok(term)
}

fn name(shape: Shape) -> String {
    format!("{} shards of {} buckets", shape.shards, shape.bucket)
}

fn write_shape(shape: Shape) -> Vec<u8> {
    [shape.shards, shape.bucket.seconds(), HASH_ID].iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn read_shape(bytes: &[u8]) -> Result<Shape, StoreError> {
    let numbers: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|chunk| u32::from_le_bytes(*chunk)).collect();
    match numbers.as_slice() {
        [shards, seconds, HASH_ID] => {
            let bucket = Span::from_seconds(u64::from(*seconds)).map_err(|error| damaged("the shape", error))?;
            Ok(Shape { shards: *shards, bucket })
        }
        _ => Err(damaged("the shape", "it names another hash")),
    }
}

impl Store for SqliteStore {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn load(&self) -> Answer<'_, Loaded> {
        Box::pin(read::load(&self.reader, self.shape))
    }

    fn apply(&self, writes: Vec<Write>) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            for write in &writes {
                match write {
                    Write::Open(open) => write::open(&mut transaction, open).await?,
                    Write::Commit(commit) => write::commit(&mut transaction, commit).await?,
                }
            }
            Ok(transaction.commit().await?)
        })
    }

    fn assigned(&self, number: u64) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            write::meta(&mut transaction, "assignment", number).await?;
            Ok(transaction.commit().await?)
        })
    }

    fn resume(&self) -> Answer<'_, Resume> {
        Box::pin(read::resume(&self.reader))
    }

    fn buckets(&self, after: Option<EventMillis>, up_to: EventMillis, limit: u32) -> Answer<'_, Vec<EventMillis>> {
        Box::pin(read::buckets(&self.reader, after, up_to, limit))
    }

    fn log(&self, bucket: EventMillis) -> Answer<'_, (Vec<LogEntry>, Vec<String>)> {
        Box::pin(read::log(&self.reader, bucket))
    }

    fn finish(&self, finished: Finished) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            write::finish(&mut transaction, finished).await?;
            Ok(transaction.commit().await?)
        })
    }

    fn records(&self, range: Range, after: u64, min_score: f64, limit: u32) -> Answer<'_, Vec<AnomalyRecord>> {
        Box::pin(read::records(&self.reader, range, after, min_score, limit))
    }

    fn recent_records(&self, since_ms: EventMillis, min_score: f64) -> Answer<'_, Vec<AnomalyRecord>> {
        Box::pin(read::recent_records(&self.reader, since_ms, min_score))
    }

    fn alerts(&self, range: Range, after: u64, limit: u32) -> Answer<'_, Vec<(u64, Alert)>> {
        Box::pin(read::alerts(&self.reader, range, after, limit))
    }

    fn prune(&self, before: EventMillis, limit: u32) -> Answer<'_, u64> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            let gone = write::prune(&mut transaction, before, limit).await?;
            transaction.commit().await?;
            Ok(unsigned(i64::try_from(gone).unwrap_or(i64::MAX)))
        })
    }
}
