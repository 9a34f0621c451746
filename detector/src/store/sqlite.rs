//! SQLite, embedded: one process, one writer, no configuration. Also in memory, for tests and recorded traffic.

use std::{fs::File, path::Path, str::FromStr as _, sync::Mutex as StdMutex, time::Duration};

use sqlx::{
    ConnectOptions as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{sync::Mutex, time::Instant};

use super::{
    StoreError, StoreOptions,
    error::damaged,
    filesystem,
    lease::{Claim, Leader, Term},
    mark::Mark,
    migrations,
    sql::{Work, sql},
};

/// Connections that only read.
const READERS: u32 = 4;

/// The database's clock, ms since 1970.
pub(super) const SELECT_NOW: &str = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now";

/// One file, or one database in memory.
#[derive(Debug)]
pub(super) struct Embedded {
    writer: SqlitePool,
    reader: SqlitePool,
    /// Who holds the lease. Only this process has the file, so it needn't be stored.
    lease: Mutex<Option<Held>>,
    /// What tells that the file is an older copy of itself; none in memory.
    pub(super) mark: Option<Mark>,
    /// Held as long as the store is open.
    _lock: Option<File>,
    /// A database in memory is there as long as any connection to it, and the pool closes one whose user was cancelled.
    _anchor: Option<StdMutex<SqliteConnection>>,
}

#[derive(Debug)]
struct Held {
    holder: String,
    until: Instant,
}

impl Embedded {
    /// Opens the file, or makes it.
    pub(super) async fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let memory = options.url.contains(":memory:");
        let synchronous = if options.durable { SqliteSynchronous::Full } else { SqliteSynchronous::Off };
        let connect = SqliteConnectOptions::from_str(&options.url)
            .map_err(|_| StoreError::Address(options.url.clone()))?
            .create_if_missing(true)
            .journal_mode(if memory { SqliteJournalMode::Memory } else { SqliteJournalMode::Wal })
            .synchronous(synchronous)
            .busy_timeout(Duration::from_secs(10));
        let (lock, mark) = if memory {
            (None, None)
        } else {
            let file = connect.get_filename();
            filesystem::check_local(file)?;
            (Some(lock(file)?), Some(Mark::beside(file)))
        };
        if !options.durable && !memory {
            tracing::info!(store = options.url, "the store does not sync: a loss of power loses it");
        }
        let unopened = |source| StoreError::Unopened { address: options.url.clone(), source };
        let anchor = if memory { Some(StdMutex::new(connect.connect().await.map_err(unopened)?)) } else { None };
        let writer = pool(1).connect_with(connect.clone()).await.map_err(unopened)?;
        migrations::run(&migrations::sqlite(), &mut *writer.acquire().await?).await?;
        let reader = if memory { writer.clone() } else { pool(READERS).connect_with(connect.read_only(true)).await? };
        Ok(Self { writer, reader, lease: Mutex::new(None), mark, _lock: lock, _anchor: anchor })
    }

    /// Opens a file to read it, while another process may have it open. Nothing is made or changed.
    pub(super) async fn connect(url: &str) -> Result<Self, StoreError> {
        let connect = SqliteConnectOptions::from_str(url)
            .map_err(|_| StoreError::Address(url.to_owned()))?
            .create_if_missing(false)
            .read_only(true)
            .busy_timeout(Duration::from_secs(10));
        let unopened = |source| StoreError::Unopened { address: url.to_owned(), source };
        let reader = pool(1).connect_with(connect).await.map_err(unopened)?;
        Ok(Self { writer: reader.clone(), reader, lease: Mutex::new(None), mark: None, _lock: None, _anchor: None })
    }

    /// Begins a transaction that writes. Its first statements take the write lock and compare the term.
    pub(super) async fn begin(&self, term: Term) -> Result<Work, StoreError> {
        let mut work = self.begin_unfenced().await?;
        if newest_term(&mut work).await? == term { Ok(work) } else { Err(StoreError::Deposed(term.0)) }
    }

    /// Begins a transaction that writes without a term.
    pub(super) async fn begin_unfenced(&self) -> Result<Work, StoreError> {
        // A transaction that read first and wrote later could not get the lock any more.
        Ok(Work::Sqlite(self.writer.begin_with("BEGIN IMMEDIATE").await?))
    }

    /// Begins a transaction that reads.
    pub(super) async fn read(&self) -> Result<Work, StoreError> {
        Ok(Work::Sqlite(self.reader.begin().await?))
    }

    pub(super) async fn leader(&self) -> Result<Option<Leader>, StoreError> {
        let lease = self.lease.lock().await;
        let Some(held) = lease.as_ref().filter(|held| held.until > Instant::now()) else { return Ok(None) };
        let term = newest_term(&mut self.read().await?).await?;
        Ok(Some(Leader { term, holder: held.holder.clone(), remaining: held.until - Instant::now() }))
    }

    pub(super) async fn claim(&self, holder: &str, ttl: Duration) -> Result<Claim, StoreError> {
        let mut lease = self.lease.lock().await;
        let until = Instant::now() + ttl;
        let mut work = self.begin_unfenced().await?;
        if let Some(held) = lease.as_ref().filter(|held| held.until > Instant::now() && held.holder != holder) {
            let (holder, remaining) = (held.holder.clone(), held.until - Instant::now());
            return Ok(Claim::HeldBy(Leader { term: newest_term(&mut work).await?, holder, remaining }));
        }
        let taken = sql("UPDATE lease SET term = term + 1, holder = $1 WHERE id = 1 RETURNING term").bind(holder);
        let row = work.row(taken).await?.ok_or_else(|| damaged("the lease", "its row is gone"))?;
        let term = Term(row.number("term")?);
        work.commit().await?;
        *lease = Some(Held { holder: holder.to_owned(), until });
        Ok(Claim::Taken(term))
    }

    pub(super) async fn renew(&self, term: Term, ttl: Duration) -> Result<(), StoreError> {
        let mut lease = self.lease.lock().await;
        let newest = newest_term(&mut self.read().await?).await?;
        match lease.as_mut() {
            Some(held) if newest == term => {
                held.until = Instant::now() + ttl;
                Ok(())
            }
            _ => Err(StoreError::Deposed(term.0)),
        }
    }

    pub(super) async fn release(&self, term: Term) -> Result<(), StoreError> {
        let mut lease = self.lease.lock().await;
        if newest_term(&mut self.read().await?).await? == term {
            *lease = None;
        }
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections).idle_timeout(None).max_lifetime(None)
}

async fn newest_term(work: &mut Work) -> Result<Term, StoreError> {
    let row = work.row(sql("SELECT term FROM lease WHERE id = 1")).await?;
    Ok(Term(row.ok_or_else(|| damaged("the lease", "its row is gone"))?.number("term")?))
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

#[cfg(test)]
mod tests {
    use super::*;
    use spikewatch_domain::span::Span;
    use spikewatch_proto::convert::cluster::Shape;

    #[tokio::test]
    async fn a_database_in_memory_outlives_its_connections() {
        let shape = Shape { shards: 4, bucket: Span::QUARTER_HOUR };
        let options = StoreOptions { url: "sqlite::memory:".into(), durable: true, shape, lineage: [1; 16] };
        let store = Embedded::open(&options).await.unwrap();
        // As when the task that had it was cancelled.
        drop(store.writer.acquire().await.unwrap().detach());
        assert!(matches!(store.claim("a", Duration::from_secs(1)).await, Ok(Claim::Taken(_))));
    }
}
