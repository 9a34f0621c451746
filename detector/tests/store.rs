//! The store: compare-and-set, all or nothing, and what it refuses to open.

use spikewatch_detector::store::{
    CommitWrite, LogEntry, LogKind, OpenWrite, Store, StoreError, Write,
    sqlite::{SqliteOptions, SqliteStore},
};
use spikewatch_domain::span::Span;
use spikewatch_proto::convert::{
    cluster::{Incarnation, Shape},
    commit::Pair,
};

const QUARTER: u64 = 900_000;

fn options(url: &str) -> SqliteOptions {
    let shape = Shape { shards: 4, bucket: Span::QUARTER_HOUR };
    SqliteOptions { url: url.into(), durable: true, shape, lineage: [9; 16] }
}

async fn memory() -> SqliteStore {
    SqliteStore::open(&options("sqlite::memory:")).await.unwrap()
}

fn open(shard: u32, epoch: u64) -> Write {
    Write::Open(OpenWrite { shard, epoch, owner: "a1".into(), assignment: 1 })
}

fn commit(shard: u32, epoch: u64, commit_no: u64, bucket: u64) -> Write {
    let of = Incarnation { site: "s".parse().unwrap(), collector: "c".parse().unwrap(), id: [1; 16] };
    Write::Commit(CommitWrite {
        shard,
        epoch,
        commit_no,
        bucket: bucket * QUARTER,
        digest: u64::MAX - commit_no,
        pairs: vec![(of, Pair { bucket: bucket * QUARTER, seq: commit_no })],
        members: Vec::new(),
        log: vec![LogEntry { bucket: bucket * QUARTER, kind: LogKind::Windows, windows: 3, blob: vec![1, 2, 3] }],
        missing: Vec::new(),
    })
}

#[tokio::test]
async fn commits_are_applied_by_compare_and_set() {
    let store = memory().await;
    store.apply(vec![open(1, 1), commit(1, 1, 1, 5), commit(1, 1, 2, 6)]).await.unwrap();
    let conflict =
        |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::Conflict(1))), "{result:?}");
    conflict(store.apply(vec![commit(1, 1, 2, 7)]).await);
    conflict(store.apply(vec![commit(1, 1, 4, 7)]).await);
    conflict(store.apply(vec![commit(1, 2, 3, 7)]).await);
    conflict(store.apply(vec![open(1, 3)]).await);
    store.apply(vec![open(1, 2)]).await.unwrap();
    conflict(store.apply(vec![commit(1, 1, 3, 7)]).await);
    let loaded = store.load().await.unwrap();
    let shard = &loaded.shards[1];
    assert_eq!((shard.epoch, shard.commit_no, shard.bucket, shard.digest), (2, 2, Some(6 * QUARTER), u64::MAX - 2));
    assert_eq!(shard.pairs.values().collect::<Vec<_>>(), [&Pair { bucket: 6 * QUARTER, seq: 2 }]);
    assert_eq!((loaded.counts.commits, loaded.counts.windows), (2, 6));
    assert_eq!(loaded.lineage, [9; 16]);
}

#[tokio::test]
async fn what_is_committed_together_is_applied_together_or_not_at_all() {
    let store = memory().await;
    store.apply(vec![open(0, 1), open(1, 1)]).await.unwrap();
    let failed = store.apply(vec![commit(0, 1, 1, 5), commit(1, 1, 7, 5)]).await;
    assert!(matches!(failed, Err(StoreError::Conflict(1))));
    assert_eq!(store.load().await.unwrap().shards[0].commit_no, 0);
    assert_eq!(store.buckets(None, u64::MAX, 10).await.unwrap(), Vec::<u64>::new());
    store.apply(vec![commit(0, 1, 1, 5), commit(1, 1, 1, 5)]).await.unwrap();
    assert_eq!(store.buckets(None, u64::MAX, 10).await.unwrap(), [5 * QUARTER]);
    assert_eq!(store.log(5 * QUARTER).await.unwrap().0.len(), 2);
}

#[tokio::test]
async fn a_store_is_opened_by_one_process_of_the_right_kind_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let options = options(&format!("sqlite://{}", path.display()));
    let store = SqliteStore::open(&options).await.unwrap();
    store.apply(vec![open(0, 1), commit(0, 1, 1, 5)]).await.unwrap();
    let second = SqliteStore::open(&options).await.unwrap_err();
    assert!(second.to_string().contains("in use by another process"), "{second}");
    drop(store);
    let mut other = options.clone();
    other.shape.shards = 8;
    let refused = SqliteStore::open(&other).await.unwrap_err();
    assert!(refused.to_string().contains("made for 4 shards of 15m buckets, but 8 shards of 15m buckets"), "{refused}");
    // The lineage stays that of the store.
    let again = SqliteStore::open(&SqliteOptions { lineage: [1; 16], ..options.clone() }).await.unwrap();
    assert_eq!(again.load().await.unwrap().lineage, [9; 16]);
    drop(again);
    let pool = sqlx::SqlitePool::connect(&options.url).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'x', 1, x'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    let newer = SqliteStore::open(&options).await.unwrap_err();
    assert!(newer.to_string().contains("schema 99 is newer than the newest this program knows, 1"), "{newer}");
}

#[tokio::test]
async fn a_leader_that_was_replaced_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let options = options(&format!("sqlite://{}", path.display()));
    let store = SqliteStore::open(&options).await.unwrap();
    let pool = sqlx::SqlitePool::connect(&options.url).await.unwrap();
    sqlx::query("UPDATE lease SET term = term + 1").execute(&pool).await.unwrap();
    let refused = store.apply(vec![open(0, 1)]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Deposed(_)), "{refused}");
}

#[tokio::test]
async fn an_address_of_something_else_is_refused() {
    let error = SqliteStore::open(&options("postgres://localhost/x")).await.unwrap_err();
    assert!(error.to_string().contains("expected sqlite::memory: or sqlite:///path"), "{error}");
}
