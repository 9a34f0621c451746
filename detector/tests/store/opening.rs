//! What opening a store does, and what it refuses.

use std::collections::BTreeSet;

use spikewatch_detector::store::{self, StoreOptions};
use sqlx::{
    AssertSqlSafe, Executor as _, PgPool, SqlSafeStr as _, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqliteConnectOptions,
};

use super::place::*;

const SQLITE_FIRST: &str = include_str!("../../migrations/sqlite/0001_first.sql");
const POSTGRES_FIRST: &str = include_str!("../../migrations/postgres/0001_first.sql");

/// A store as the first version of this program left it.
const OLD: &str = "
    INSERT INTO shard (shard, epoch, owner, assignment, commit_no, bucket, digest) VALUES (1, 4, 'a1', 2, 3, 900000, 5);
    INSERT INTO commit_log (shard, commit_no, bucket, kind, windows, blob) VALUES (1, 2, 900000, 0, 17, 'x');
    INSERT INTO commit_log (shard, commit_no, bucket, kind, windows, blob) VALUES (1, 3, 900000, 1, 2, 'y');
    INSERT INTO member (site, collector, incarnation, last_bucket, retired)
    VALUES ('s', 'c', CAST('0123456789abcdef' AS KIND), 900000, 1);
    INSERT INTO meta (key, value) VALUES ('lineage', CAST('an older lineage' AS KIND));";

fn first(text: &'static str) -> Migrator {
    let step = Migration::new(1, "first".into(), MigrationType::Simple, text.into_sql_str(), false);
    Migrator::with_migrations(vec![step])
}

async fn refused(options: &StoreOptions) -> String {
    store::open(options).await.unwrap_err().to_string()
}

/// An older store is brought up to date, stays what it was made for, and is refused once a newer program had it.
async fn is_what_it_was_made_for(options: StoreOptions, run: impl AsyncFn(&str)) {
    let store = store::open(&options).await.unwrap();
    let loaded = store.load().await.unwrap();
    assert_eq!((loaded.shards.len(), loaded.shards[1].epoch, loaded.shards[1].commit_no), (4, 4, 3));
    assert_eq!((loaded.counts.windows, loaded.counts.corrections), (17, 2));
    assert_eq!(&loaded.lineage, b"an older lineage");
    assert!(loaded.members.values().all(|enrolled| enrolled.retired && !enrolled.absent));
    assert_eq!(loaded.members.len(), 1);
    let term = claim(&*store, "a").await;
    store.apply(term, vec![open(1, 5), commit(1, 5, 4, 2)]).await.unwrap();
    drop(store);
    let mut other = options.clone();
    other.shape.shards = 8;
    let message = refused(&other).await;
    assert!(message.contains("made for 4 shards of 15m buckets, but 8 shards of 15m buckets"), "{message}");
    let again = store::open(&StoreOptions { lineage: [1; 16], ..options.clone() }).await.unwrap();
    let loaded = again.load().await.unwrap();
    assert_eq!((&loaded.lineage, loaded.shards[1].commit_no), (b"an older lineage", 4));
    drop(again);
    run("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (99, 'x', TRUE, 'x', 0)")
    .await;
    let message = refused(&options).await;
    assert!(message.contains("schema 99 is newer than the newest this program knows, 4"), "{message}");
}

#[tokio::test]
async fn a_file_is_what_it_was_made_for() {
    let place = Place::files();
    let options = place.options();
    let connect = options.url.parse::<SqliteConnectOptions>().unwrap().create_if_missing(true);
    let pool = SqlitePool::connect_with(connect).await.unwrap();
    first(SQLITE_FIRST).run(&pool).await.unwrap();
    pool.execute(AssertSqlSafe(OLD.replace("KIND", "BLOB"))).await.unwrap();
    pool.execute("INSERT INTO meta (key, value) VALUES ('assignment', 12), ('scored', 900000)").await.unwrap();
    pool.close().await;
    {
        let store = store::open(&options).await.unwrap();
        assert_eq!(store.load().await.unwrap().assignment, 12);
        assert_eq!(store.resume().await.unwrap().scored, Some(900_000));
    }
    let url = options.url.clone();
    is_what_it_was_made_for(options, async |statement| {
        let pool = SqlitePool::connect(&url).await.unwrap();
        pool.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
        pool.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_database_is_what_it_was_made_for() {
    let Some(place) = Place::postgres(&[("fsync", "off")]) else { return };
    let options = place.options();
    let pool = PgPool::connect(&options.url).await.unwrap();
    first(POSTGRES_FIRST).run(&pool).await.unwrap();
    pool.execute(AssertSqlSafe(OLD.replace("KIND", "BYTEA"))).await.unwrap();
    is_what_it_was_made_for(options, async |statement| {
        pool.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
    })
    .await;
    // Both databases have the same tables with the same columns.
    let columns =
        "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'";
    let here: Vec<String> = sqlx::query_scalar(columns).fetch_all(&pool).await.unwrap();
    let files = Place::files();
    let options = files.options();
    drop(store::open(&options).await.unwrap());
    let sqlite = SqlitePool::connect(&options.url).await.unwrap();
    let columns =
        "SELECT m.name || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'";
    let there: Vec<String> = sqlx::query_scalar(columns).fetch_all(&sqlite).await.unwrap();
    let set = |names: Vec<String>| names.into_iter().filter(|name| !name.starts_with('_')).collect::<BTreeSet<_>>();
    assert_eq!(set(here), set(there));
}

#[tokio::test]
async fn a_file_is_opened_by_one_process() {
    let place = Place::files();
    let options = place.options();
    let store = store::open(&options).await.unwrap();
    let second = refused(&options).await;
    assert!(second.contains("in use by another process"), "{second}");
    drop(store);
    store::open(&options).await.unwrap();
}

#[tokio::test]
async fn detectors_that_start_at_once_make_one_store() {
    let Some(place) = Place::postgres(&[("fsync", "off")]) else { return };
    let options = place.options();
    let open = |id| StoreOptions { lineage: [id; 16], ..options.clone() };
    let (one, two, three) = (open(1), open(2), open(3));
    let (one, two, three) = tokio::join!(store::open(&one), store::open(&two), store::open(&three));
    let lineages = [one, two, three].map(|store| store.unwrap());
    let first = lineages[0].load().await.unwrap();
    for store in &lineages {
        assert_eq!(store.load().await.unwrap(), first);
    }
}

#[tokio::test]
async fn an_address_of_something_else_is_refused_without_its_password() {
    let options = |url: &str| StoreOptions { url: url.into(), ..Place::memory().options() };
    let error = refused(&options("mysql://localhost/x")).await;
    assert!(error.contains("expected sqlite::memory:, sqlite:///path or postgres://user@host/database"), "{error}");
    let error = refused(&options("postgres://me:secret@host:what/x")).await;
    assert!(error.contains("postgres://…@host:what/x") && !error.contains("secret"), "{error}");
}

#[tokio::test]
async fn a_server_that_may_lose_what_it_acknowledges_is_refused() {
    let Some(place) = Place::postgres(&[("fsync", "off")]) else { return };
    let mut options = StoreOptions { durable: true, ..place.options() };
    let error = refused(&options).await;
    assert!(error.contains("fsync = off") && error.contains("detector.durable = false"), "{error}");
    drop(place);
    let Some(place) = Place::postgres(&[]) else { return };
    let Place::Postgres(server) = &place else { return };
    options.url = server.new_database();
    store::open(&options).await.unwrap();
    server.sql("test0", "ALTER DATABASE test0 SET synchronous_commit = local");
    // Without a standby it is on disk all the same.
    store::open(&options).await.unwrap();
    server.sql("test0", "ALTER SYSTEM SET synchronous_standby_names = 'other'");
    server.sql("test0", "SELECT pg_reload_conf()");
    let error = refused(&options).await;
    assert!(error.contains("synchronous_commit = local") && error.contains("standby"), "{error}");
    server.sql("test0", "ALTER SYSTEM RESET synchronous_standby_names");
    server.sql("test0", "ALTER DATABASE test0 SET synchronous_commit = off");
    let error = refused(&options).await;
    assert!(error.contains("synchronous_commit = off"), "{error}");
    options.durable = false;
    store::open(&options).await.unwrap();
}
