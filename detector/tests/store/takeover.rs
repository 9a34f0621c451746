//! A take-over while the old leader writes, with the store's own code on both sides; what is lost on the way to a commit;
//! and stores that went back.

use std::{sync::Arc, time::Duration};

use spikewatch_detector::store::{self, Claim, Kept, Store, StoreError, StoreOptions, Term};
use spikewatch_tests::postgres::{PostgresServer, Stop};
use sqlx::{Connection as _, PgConnection};
use tokio::time::{sleep, timeout};

use super::place::*;

/// Long enough that what doesn't wait for a lock would be done.
const A_WHILE: Duration = Duration::from_millis(300);

struct Rivals {
    server: PostgresServer,
    options: StoreOptions,
    old: Arc<dyn Store>,
    term: Term,
    new: Arc<dyn Store>,
    gate: PgConnection,
}

impl Rivals {
    /// Two detectors on one store; the lease of the first has run out, but it doesn't know.
    async fn new() -> Option<Self> {
        let Some(Place::Postgres(server)) = Place::postgres(&[("fsync", "off")]) else { return None };
        let options = StoreOptions { url: server.new_database(), ..Place::memory().options() };
        let old = store::open(&options).await.unwrap();
        let Claim::Taken(term) = old.claim("old", Duration::from_millis(1)).await.unwrap() else { panic!("held") };
        old.apply(term, vec![open(0, 1)]).await.unwrap();
        sleep(Duration::from_millis(20)).await;
        let new = store::open(&options).await.unwrap();
        let gate = PgConnection::connect(&options.url).await.unwrap();
        Some(Self { server: *server, options, old, term, new, gate })
    }

    async fn gate(&mut self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&mut self.gate).await.unwrap();
    }
}

#[tokio::test]
async fn a_take_over_waits_for_the_write_in_flight_and_sees_it() {
    let Some(mut rivals) = Rivals::new().await else { return };
    // The old leader has its term's lock, and stops at the shard.
    rivals.gate("BEGIN; SELECT * FROM shard WHERE shard = 0 FOR UPDATE").await;
    let (old, term) = (Arc::clone(&rivals.old), rivals.term);
    let writing = async move { old.apply(term, vec![commit(0, 1, 1, 5)]).await };
    let new = Arc::clone(&rivals.new);
    let taking = async move { (new.claim("new", LEASE).await, new.load().await.unwrap()) };
    let (mut writing, mut taking) = (Box::pin(writing), Box::pin(taking));
    assert!(timeout(A_WHILE, &mut writing).await.is_err(), "it did not stop");
    assert!(timeout(A_WHILE, &mut taking).await.is_err(), "the take-over did not wait");
    rivals.gate("COMMIT").await;
    let (written, (taken, loaded)) = tokio::join!(writing, taking);
    written.unwrap();
    assert!(matches!(taken, Ok(Claim::Taken(_))), "{taken:?}");
    assert_eq!((loaded.shards[0].commit_no, loaded.shards[0].bucket), (1, Some(5 * QUARTER)));
    let late = rivals.old.apply(rivals.term, vec![commit(0, 1, 2, 6)]).await;
    assert!(late.unwrap_err().is_deposed());
}

#[tokio::test]
async fn a_take_over_waits_for_a_commit_in_flight_and_sees_it() {
    let Some(mut rivals) = Rivals::new().await else { return };
    // The old leader stops within its COMMIT.
    rivals
        .gate(
            "CREATE FUNCTION wait() RETURNS trigger AS 'BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END' LANGUAGE plpgsql;
             CREATE CONSTRAINT TRIGGER wait AFTER UPDATE ON shard DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()",
        )
        .await;
    rivals.gate("BEGIN; SELECT pg_advisory_xact_lock(42)").await;
    let (old, term) = (Arc::clone(&rivals.old), rivals.term);
    let mut writing = Box::pin(async move { old.apply(term, vec![commit(0, 1, 1, 5)]).await });
    let new = Arc::clone(&rivals.new);
    let mut taking = Box::pin(async move { (new.claim("new", LEASE).await, new.load().await.unwrap()) });
    assert!(timeout(A_WHILE, &mut writing).await.is_err(), "it did not stop");
    assert!(timeout(A_WHILE, &mut taking).await.is_err(), "the take-over did not wait");
    rivals.gate("COMMIT").await;
    let (written, (taken, loaded)) = tokio::join!(writing, taking);
    written.unwrap();
    assert!(matches!(taken, Ok(Claim::Taken(_))), "{taken:?}");
    assert_eq!(loaded.shards[0].commit_no, 1);
}

#[tokio::test]
async fn a_write_waits_for_a_take_over_in_flight_and_is_refused() {
    let Some(mut rivals) = Rivals::new().await else { return };
    rivals.gate("BEGIN; UPDATE lease SET term = term + 1").await;
    let (old, term) = (Arc::clone(&rivals.old), rivals.term);
    let mut writing = Box::pin(async move { old.apply(term, vec![commit(0, 1, 1, 5)]).await });
    assert!(timeout(A_WHILE, &mut writing).await.is_err(), "the write did not wait");
    rivals.gate("COMMIT").await;
    let refused = writing.await.unwrap_err();
    assert!(matches!(refused, StoreError::Deposed(_)), "{refused}");
    assert_eq!(rivals.new.load().await.unwrap().shards[0].commit_no, 0);
}

#[tokio::test]
async fn a_leader_that_writes_without_end_is_replaced_all_the_same() {
    let Some(rivals) = Rivals::new().await else { return };
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (old, term) = (Arc::clone(&rivals.old), rivals.term);
        writers.spawn(async move {
            let mut written = 0;
            while old.prune(term, Kept::Windows, 0, 1).await.is_ok() {
                written += 1;
            }
            written
        });
    }
    sleep(A_WHILE).await;
    let began = tokio::time::Instant::now();
    let taken = timeout(Duration::from_secs(30), rivals.new.claim("new", LEASE)).await.unwrap().unwrap();
    assert!(matches!(taken, Claim::Taken(_)), "{taken:?}");
    println!("taken over after {:?}", began.elapsed());
    let written = writers.join_all().await;
    assert!(written.iter().all(|count| *count > 0), "{written:?}");
}

#[tokio::test]
async fn a_leader_that_hangs_is_replaced_after_the_server_ends_its_transaction() {
    let Some(rivals) = Rivals::new().await else { return };
    let mut hung = PgConnection::connect(&rivals.options.url).await.unwrap();
    // As the store sets it, but shorter.
    let hang = "SET idle_in_transaction_session_timeout = '1s'; BEGIN; SELECT term FROM lease FOR SHARE";
    sqlx::raw_sql(hang).execute(&mut hung).await.unwrap();
    let taken = timeout(Duration::from_secs(20), rivals.new.claim("new", LEASE)).await.unwrap().unwrap();
    assert!(matches!(taken, Claim::Taken(_)), "{taken:?}");
    let limits = "SELECT current_setting('lock_timeout') || ' ' || current_setting('statement_timeout')";
    assert_eq!(rivals.server.sql("test0", limits), "0 0", "the server's own defaults were changed");
}

#[tokio::test]
async fn the_answer_to_a_commit_may_be_lost_which_is_an_error_of_its_own() {
    let Some(mut rivals) = Rivals::new().await else { return };
    rivals
        .gate(
            "CREATE FUNCTION die() RETURNS trigger AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'
             LANGUAGE plpgsql;
             CREATE CONSTRAINT TRIGGER die AFTER UPDATE ON shard DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()",
        )
        .await;
    let lost = rivals.old.apply(rivals.term, vec![commit(0, 1, 1, 5)]).await.unwrap_err();
    assert!(lost.is_unknown(), "{lost}");
    // Before the COMMIT, nothing is unknown.
    rivals
        .gate(
            "DROP TRIGGER die ON shard; CREATE TRIGGER die BEFORE UPDATE ON shard FOR EACH ROW EXECUTE FUNCTION die()",
        )
        .await;
    let failed = rivals.old.apply(rivals.term, vec![commit(0, 1, 1, 5)]).await.unwrap_err();
    assert!(!failed.is_unknown() && !failed.is_deposed(), "{failed}");
    // A server that says no at the COMMIT has not made it.
    rivals
        .gate(
            "DROP TRIGGER die ON shard;
             CREATE FUNCTION refuse() RETURNS trigger AS 'BEGIN RAISE EXCEPTION ''no''; END' LANGUAGE plpgsql;
             CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON shard DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
             EXECUTE FUNCTION refuse()",
        )
        .await;
    let refused = rivals.old.apply(rivals.term, vec![commit(0, 1, 1, 5)]).await.unwrap_err();
    assert!(!refused.is_unknown() && refused.to_string().contains("no"), "{refused}");
    rivals.gate("DROP TRIGGER refuse ON shard").await;
    rivals.old.apply(rivals.term, vec![commit(0, 1, 1, 5)]).await.unwrap();
}

#[tokio::test]
async fn a_leader_rides_through_a_crash_of_the_server() {
    let Some(mut rivals) = Rivals::new().await else { return };
    rivals.old.apply(rivals.term, vec![commit(0, 1, 1, 5)]).await.unwrap();
    rivals.server.stop(Stop::Crash);
    assert!(
        timeout(Duration::from_secs(60), rivals.old.apply(rivals.term, vec![commit(0, 1, 2, 6)]))
            .await
            .unwrap()
            .is_err()
    );
    rivals.server.restart();
    assert_eq!(rivals.old.load().await.unwrap().shards[0].commit_no, 1);
    rivals.old.apply(rivals.term, vec![commit(0, 1, 2, 6)]).await.unwrap();
}

#[tokio::test]
async fn another_server_or_timeline_begins_a_new_lineage() {
    let Some(mut rivals) = Rivals::new().await else { return };
    rivals.old.apply(rivals.term, vec![commit(0, 1, 1, 5)]).await.unwrap();
    // As after a fail-over: the term was taken on another timeline than the one that answers now.
    rivals.gate("UPDATE lease SET system = '7/00000001'").await;
    let moved = rivals.old.apply(rivals.term, vec![commit(0, 1, 2, 6)]).await.unwrap_err();
    assert!(moved.is_deposed() && matches!(moved, StoreError::Moved(_)), "{moved}");
    assert!(matches!(rivals.old.renew(rivals.term, LEASE).await, Err(StoreError::Moved(_))));
    let before = rivals.old.load().await.unwrap();
    let term = claim(&*rivals.old, "old").await;
    let after = rivals.old.load().await.unwrap();
    assert_ne!(after.lineage, before.lineage);
    assert_eq!(after.shards, before.shards);
    rivals.old.apply(term, vec![commit(0, 1, 2, 6)]).await.unwrap();
    // Once only.
    claim(&*rivals.old, "old").await;
    assert_eq!(rivals.old.load().await.unwrap().lineage, after.lineage);
}

#[tokio::test]
async fn an_older_copy_of_a_file_begins_a_new_lineage() {
    let place = Place::files();
    let options = place.options();
    let path = options.url.trim_start_matches("sqlite://").to_owned();
    let copy = format!("{path}.copy");
    let session = async |commits: std::ops::RangeInclusive<u64>, lineage| {
        let store = store::open(&StoreOptions { lineage: [lineage; 16], ..options.clone() }).await.unwrap();
        let found = store.load().await.unwrap();
        let term = claim(&*store, "a").await;
        let epoch = found.shards[0].epoch + 1;
        store.apply(term, vec![open(0, epoch)]).await.unwrap();
        for number in commits {
            store.apply(term, vec![commit(0, epoch, number, number)]).await.unwrap();
        }
        store.close().await.unwrap();
        found
    };
    session(1..=3, 9).await;
    assert_eq!(session(4..=5, 8).await.lineage, [9; 16], "a restart is no restore");
    std::fs::copy(&path, &copy).unwrap();
    session(6..=7, 7).await;
    assert_eq!(session(8..=8, 6).await.shards[0].commit_no, 7);
    std::fs::rename(&copy, &path).unwrap();
    let restored = session(6..=6, 5).await;
    assert_eq!((restored.shards[0].commit_no, restored.lineage), (5, [5; 16]));
    assert_eq!(session(7..=7, 4).await.lineage, [5; 16], "it is said once");
    // Without the mark nothing can be known.
    std::fs::remove_file(format!("{path}.mark")).unwrap();
    assert_eq!(session(8..=8, 3).await.lineage, [5; 16]);
}
