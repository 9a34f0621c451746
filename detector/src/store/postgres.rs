//! PostgreSQL, for a cluster: many connections, and other detectors beside this one.

use std::{future::Future, str::FromStr as _, time::Duration};

use sqlx::{
    AssertSqlSafe, PgPool, Postgres, Row as _,
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions, PgConnection, PgDatabaseError, PgPoolOptions, PgRow, PgSeverity},
    query::Query,
};

use super::{
    StoreError, StoreOptions,
    error::damaged,
    lease::{Claim, Leader, Term},
    lineage, migrations,
    sql::{Work, sql},
};

/// Connections for transactions that write, and for those that only read.
const WRITERS: u32 = 4;
const READERS: u32 = 4;

/// A lock, a statement, a silence in a transaction may last so long; then the server ends it, so that a leader that hangs
/// can't keep another from taking over. A vanished client is noticed within as much.
const LIMITS: &str = "SET lock_timeout = '5s'; SET statement_timeout = '30s';
    SET idle_in_transaction_session_timeout = '10s'; SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2;
    SET tcp_keepalives_count = 3; SET tcp_user_timeout = '15s'";

/// The same from this side: the server's limits don't reach across a network that is cut.
const DEADLINE: Duration = Duration::from_secs(40);

/// How long a server that can't be reached is waited for.
const UNREACHABLE: Duration = Duration::from_secs(10);

/// The clock that leases are judged by: the database's, and not the start of the transaction; ms since 1970.
macro_rules! now_ms {
    () => {
        "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
    };
}

pub(super) const SELECT_NOW: &str = concat!("SELECT ", now_ms!(), " AS now");

/// Which server this is, and on which timeline of its history: a fail-over or a restore begins a new one.
const SYSTEM: &str = "SELECT system_identifier || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS present
    FROM pg_control_system()";
/// For a database that doesn't tell.
const NO_SYSTEM: &str = "SELECT '' AS present";

/// The first statement of every transaction that writes. It waits for a take-over in flight and makes the next one wait
/// for this transaction; `FOR KEY SHARE`, or none, would let both pass each other.
pub const LOCK_TERM: &str = "SELECT term, system FROM lease WHERE id = 1 FOR SHARE";

/// The connections to one database.
#[derive(Debug)]
pub(super) struct Server {
    writers: PgPool,
    readers: PgPool,
    /// Statement that begins a transaction, locks the term, and tells the system.
    begin: String,
    /// How this server tells what it is.
    system: &'static str,
    /// Random; lineages that begin here are made of it.
    lineage: [u8; 16],
}

/// A transaction on a connection of the pool. Unless it was ended in good order the connection is closed, which ends it
/// at the server too.
pub(super) struct Session {
    connection: PoolConnection<Postgres>,
    ended: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}

impl Server {
    /// Connects, brings the tables up to date, and checks that what is acknowledged here stays.
    pub(super) async fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let server = Self::connect(&options.url, options.lineage, false).await?;
        if options.durable {
            check_durable(&server.writers).await?;
        } else {
            tracing::info!("the store's durability is not looked at: a loss of power may lose what is acknowledged");
        }
        let mut connection = server.writers.acquire().await?;
        // A failure leaves the migrations' lock behind, which goes with the connection.
        connection.close_on_drop();
        migrations::run(&migrations::postgres(), &mut *connection).await?;
        drop(connection);
        Ok(server)
    }

    /// Connects only.
    pub(super) async fn connect(url: &str, lineage: [u8; 16], read_only: bool) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url).map_err(|error| {
            tracing::debug!(%error, "no address of PostgreSQL");
            StoreError::Address(without_password(url))
        })?;
        let options = options.application_name("spikewatch");
        let limits = if read_only { "SET default_transaction_read_only = on" } else { LIMITS };
        let pool = |connections: u32| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(UNREACHABLE)
                .after_connect(move |connection, _| Box::pin(set(connection, limits)))
        };
        let unopened = |source| StoreError::Unopened { address: without_password(url), source };
        let writers = pool(WRITERS).connect_with(options.clone()).await.map_err(unopened)?;
        let readers = pool(READERS).connect_lazy_with(options);
        let system = match sqlx::query(SYSTEM).execute(&writers).await {
            Ok(_) => SYSTEM,
            Err(error) if error.as_database_error().is_some() && !read_only => {
                tracing::warn!(%error, "this database doesn't tell its timeline: a fail-over will not be noticed here");
                NO_SYSTEM
            }
            Err(error) if error.as_database_error().is_none() => return Err(error.into()),
            Err(_) => NO_SYSTEM,
        };
        let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED; {LOCK_TERM}; {system}");
        Ok(Self { writers, readers, begin, system, lineage })
    }

    /// Begins a transaction that writes: locks the term and compares it.
    pub(super) async fn begin(&self, term: Term) -> Result<Work, StoreError> {
        let mut session = session(&self.writers).await?;
        let locked = session.rows_of_text(&self.begin).await?;
        let [lease, present] = locked.as_slice() else { return Err(damaged("the lease", "its row is gone")) };
        let newest = lease.try_get::<i64, _>("term")?.cast_unsigned();
        let same = lease.try_get::<&str, _>("system")? == present.try_get::<&str, _>("present")?;
        if newest == term.0 && same {
            return Ok(Work::Postgres(session));
        }
        session.roll_back().await?;
        Err(if newest == term.0 { StoreError::Moved(term.0) } else { StoreError::Deposed(term.0) })
    }

    /// Begins a transaction that writes without a term: to take one, or to make the store.
    pub(super) async fn begin_unfenced(&self) -> Result<Work, StoreError> {
        let mut session = session(&self.writers).await?;
        session.rows_of_text("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        Ok(Work::Postgres(session))
    }

    /// Begins a transaction that reads: it sees one state, whatever is written meanwhile.
    pub(super) async fn read(&self) -> Result<Work, StoreError> {
        let mut session = session(&self.readers).await?;
        session.rows_of_text("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        Ok(Work::Postgres(session))
    }
}

/// Leading.
impl Server {
    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }

    pub(super) async fn leader(&self) -> Result<Option<Leader>, StoreError> {
        let mut work = self.read().await?;
        leader(&mut work).await
    }

    pub(super) async fn claim(&self, holder: &str, ttl: Duration) -> Result<Claim, StoreError> {
        // Whoever waits asks often: it must not lock the row that the leader's transactions need.
        if let Some(leader) = self.leader().await?.filter(|leader| leader.holder != holder) {
            return Ok(Claim::HeldBy(leader));
        }
        let mut work = self.begin_unfenced().await?;
        let take = concat!(
            "UPDATE lease SET term = term + 1, holder = $1, expires_ms = ",
            now_ms!(),
            " + $2
             WHERE id = 1 AND (holder = $1 OR expires_ms <= ",
            now_ms!(),
            ") RETURNING term, system, ",
            now_ms!(),
            " AS now"
        );
        let Some(row) = work.row(sql(take).bind(holder).bind(millis(ttl))).await? else {
            // Another one was faster. If its lease is over already, the next claim will find that out.
            let leader = leader(&mut work).await?;
            return match leader {
                Some(leader) => Ok(Claim::HeldBy(leader)),
                None => Err(StoreError::Database(sqlx::Error::RowNotFound)),
            };
        };
        let (term, now_ms, known) = (Term(row.number("term")?), row.number("now")?, row.text("system")?.to_owned());
        let present = work
            .row(sql(self.system))
            .await?
            .map_or(Ok(String::new()), |row| row.text("present").map(str::to_owned))?;
        if present != known {
            if !known.is_empty() {
                tracing::error!(
                    known,
                    present,
                    "the database failed over or was restored since the last leader: the store begins a new lineage"
                );
                let reason = format!("the database was {known}, is {present}");
                lineage::begin(&mut work, self.next_lineage(term), now_ms, &reason).await?;
            }
            work.execute(sql("UPDATE lease SET system = $1 WHERE id = 1").bind(present.as_str())).await?;
        }
        work.commit().await?;
        Ok(Claim::Taken(term))
    }

    /// Random for this process, and another one for every term.
    fn next_lineage(&self, term: Term) -> [u8; 16] {
        (u128::from_be_bytes(self.lineage) ^ u128::from(term.0)).to_be_bytes()
    }

    pub(super) async fn renew(&self, term: Term, ttl: Duration) -> Result<(), StoreError> {
        let mut work = self.begin_unfenced().await?;
        let extend = concat!(
            "UPDATE lease SET expires_ms = ",
            now_ms!(),
            " + $2 WHERE id = 1 AND term = $1 AND holder <> '' RETURNING system"
        );
        let Some(row) = work.row(sql(extend).bind(term.0).bind(millis(ttl))).await? else {
            return Err(StoreError::Deposed(term.0));
        };
        let present = work.row(sql(self.system)).await?;
        if present.is_some_and(|present| present.text("present").ok() != row.text("system").ok()) {
            return Err(StoreError::Moved(term.0));
        }
        work.commit().await
    }

    pub(super) async fn release(&self, term: Term) -> Result<(), StoreError> {
        let mut work = self.begin_unfenced().await?;
        work.execute(sql("UPDATE lease SET holder = '', expires_ms = 0 WHERE id = 1 AND term = $1").bind(term.0))
            .await?;
        work.commit().await
    }
}

async fn leader(work: &mut Work) -> Result<Option<Leader>, StoreError> {
    let select = concat!(
        "SELECT term, holder, expires_ms - ",
        now_ms!(),
        " AS remaining FROM lease
                          WHERE id = 1 AND holder <> '' AND expires_ms > ",
        now_ms!()
    );
    let Some(row) = work.row(sql(select)).await? else { return Ok(None) };
    // The clock goes on between the two looks at it.
    let remaining = Duration::from_millis(row.number("remaining").unwrap_or(0));
    Ok(Some(Leader { term: Term(row.number("term")?), holder: row.text("holder")?.to_owned(), remaining }))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn set(connection: &mut PgConnection, limits: &'static str) -> sqlx::Result<()> {
    sqlx::raw_sql(limits).execute(connection).await.map(|_| ())
}

async fn session(pool: &PgPool) -> Result<Session, StoreError> {
    Ok(Session { connection: pool.acquire().await?, ended: false })
}

impl Session {
    pub(super) async fn execute(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<u64, StoreError> {
        Ok(in_time(query.execute(&mut *self.connection)).await?.rows_affected())
    }

    pub(super) async fn rows(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>, StoreError> {
        in_time(query.fetch_all(&mut *self.connection)).await
    }

    /// Several statements without values, in one round trip.
    async fn rows_of_text(&mut self, text: &str) -> Result<Vec<PgRow>, StoreError> {
        in_time(sqlx::raw_sql(AssertSqlSafe(text.to_owned())).fetch_all(&mut *self.connection)).await
    }

    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        match self.rows_of_text("COMMIT").await {
            Ok(_) => {
                self.ended = true;
                Ok(())
            }
            Err(StoreError::Database(error)) if is_refusal(&error) => Err(StoreError::Database(error)),
            Err(unclear) => Err(StoreError::Unknown(unclear.to_string())),
        }
    }

    async fn roll_back(mut self) -> Result<(), StoreError> {
        self.rows_of_text("ROLLBACK").await?;
        self.ended = true;
        Ok(())
    }
}

/// True if the server itself said that the transaction was not made.
fn is_refusal(error: &sqlx::Error) -> bool {
    let error = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    error.is_some_and(|error| {
        // 40003 is "statement completion unknown"; a FATAL or PANIC comes from a server that goes down.
        error.severity() == PgSeverity::Error && error.code() != "40003"
    })
}

async fn in_time<T>(answer: impl Future<Output = sqlx::Result<T>>) -> Result<T, StoreError> {
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(StoreError::Silent { seconds: DEADLINE.as_secs() }),
    }
}

/// A commit is acknowledged, then collectors forget what it holds: a server that may lose it is refused.
async fn check_durable(pool: &PgPool) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await?;
    let mut show =
        async |statement: &'static str| sqlx::query_scalar::<_, String>(statement).fetch_one(&mut *connection).await;
    let fsync = show("SHOW fsync").await?;
    let synchronous = show("SHOW synchronous_commit").await?;
    let standbys = show("SHOW synchronous_standby_names").await?;
    let replicas: String = show("SELECT CAST(COUNT(*) AS TEXT) FROM pg_stat_replication").await?;
    let refused =
        |setting, value, consequence, remedy| Err(StoreError::NotDurable { setting, value, consequence, remedy });
    if fsync == "off" {
        let consequence = "loses or damages the store when power fails";
        return refused("fsync", fsync, consequence, "turn it on, or set detector.durable = false");
    }
    if synchronous == "off" {
        let consequence = "acknowledges commits before they are on disk";
        return refused("synchronous_commit", synchronous, consequence, "set it to on, or detector.durable = false");
    }
    if synchronous == "local" && !standbys.is_empty() {
        let consequence = "acknowledges commits before a synchronous standby has them";
        return refused("synchronous_commit", synchronous, consequence, "set it to on or remote_apply");
    }
    if standbys.is_empty() && replicas != "0" {
        tracing::warn!(
            replicas,
            "the database replicates asynchronously: a fail-over loses the newest commits, and collectors must send them \
             again from what they keep; set synchronous_standby_names"
        );
    }
    Ok(())
}

/// An address of a store that may be shown.
#[must_use]
pub fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://…@{place}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_address_is_shown_without_its_password() {
        assert_eq!(super::without_password("postgres://me:se@cret@host:5432/db"), "postgres://…@host:5432/db");
        assert_eq!(super::without_password("postgres:nonsense"), "postgres:nonsense");
    }
}
