//! The old leader's transaction against a take-over, in every order of their steps, on a real server.
//!
//! The old leader locks and reads the term, writes a shard, commits. The new one raises the term, commits, loads what is
//! stored, and opens the shard. Whatever the order, what the new one loaded, and what it told the shard's new owner, must be
//! what the store holds in the end. Only the lock that the store takes achieves that; the weaker ones are shown to fail, so
//! that this test is known to be able to.

use std::{collections::BTreeSet, time::Duration};

use spikewatch_detector::store::{self, LOCK_TERM};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::place::*;

/// How the old leader reads the term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    /// As a plain read.
    None,
    /// `FOR KEY SHARE`, which an UPDATE of other columns does not wait for.
    KeyShare,
    /// As the store does.
    Share,
}

/// Where the new leader takes the frontier from that it tells the shard's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// From what it loaded.
    Loaded,
    /// From the statement that raises the epoch.
    Returned,
}

#[derive(Debug, Clone, Copy)]
struct Variant {
    lock: Lock,
    opening: Opening,
    compare_and_set: bool,
}

/// One session, which runs statements one after the other; a statement that waits for a lock doesn't hold up the test.
struct Session {
    id: i32,
    statements: mpsc::UnboundedSender<(String, oneshot::Sender<Answer>)>,
}

/// The first number of the answer, if there is any.
type Answer = Option<i64>;

impl Session {
    async fn new(url: &str, tasks: &mut JoinSet<()>) -> Self {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let id: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await.unwrap();
        let (statements, mut queue) = mpsc::unbounded_channel::<(String, oneshot::Sender<Answer>)>();
        tasks.spawn(async move {
            while let Some((statement, reply)) = queue.recv().await {
                let rows = sqlx::raw_sql(AssertSqlSafe(statement)).fetch_all(&mut connection).await.unwrap();
                let number = rows.first().and_then(|row| row.try_get::<Option<i64>, _>(0).unwrap());
                // The test may have gone on.
                let _ = reply.send(number);
            }
        });
        Self { id, statements }
    }

    fn run(&self, statement: String) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        self.statements.send((statement, reply)).unwrap();
        answer
    }
}

/// The steps of one leader, as far as it got.
struct Leader {
    session: Session,
    step: usize,
    waiting: Option<oneshot::Receiver<Answer>>,
    /// Nothing more to do.
    over: bool,
}

impl Leader {
    fn new(session: Session) -> Self {
        Self { session, step: 0, waiting: None, over: false }
    }

    /// True if the answer of its last statement is there. One that waits for a lock is left waiting.
    async fn settle(&mut self, watch: &mut PgConnection) -> Option<Answer> {
        let waiting = self.waiting.as_mut()?;
        loop {
            if let Ok(answer) = tokio::time::timeout(Duration::from_millis(2), &mut *waiting).await {
                self.waiting = None;
                return Some(answer.unwrap());
            }
            let blocked: bool = sqlx::query_scalar("SELECT cardinality(pg_blocking_pids($1)) > 0")
                .bind(self.session.id)
                .fetch_one(&mut *watch)
                .await
                .unwrap();
            if blocked {
                return None;
            }
        }
    }
}

/// What went wrong in one order of steps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    /// The owner of the shard was told a frontier that is not the store's: data is counted twice, or lost.
    StaleFrontier,
    /// The new leader's baselines miss a commit.
    StaleBaselines,
}

struct World {
    watch: PgConnection,
    old: Leader,
    new: Leader,
    /// The frontier as the new leader loaded it, and as it told the owner.
    loaded: Option<i64>,
    told: Option<i64>,
}

impl World {
    /// The old leader's next step.
    fn old_step(&mut self, variant: Variant) {
        let lock = match variant.lock {
            Lock::Share => LOCK_TERM.to_owned(),
            Lock::KeyShare => LOCK_TERM.replace("FOR SHARE", "FOR KEY SHARE"),
            Lock::None => LOCK_TERM.replace("FOR SHARE", ""),
        };
        let expected = if variant.compare_and_set { "AND epoch = 1 AND commit_no = 0" } else { "" };
        let write =
            format!("UPDATE shard SET bucket = 1, commit_no = 1 WHERE shard = 0 {expected} RETURNING commit_no");
        let statement = match self.old.step {
            0 => format!("BEGIN ISOLATION LEVEL READ COMMITTED; {lock}"),
            1 => write,
            _ => "COMMIT".to_owned(),
        };
        self.old.waiting = Some(self.old.session.run(statement));
    }

    fn new_step(&mut self) {
        let statement = match self.new.step {
            0 => "BEGIN ISOLATION LEVEL READ COMMITTED; UPDATE lease SET term = term + 1 WHERE id = 1 RETURNING term",
            1 => "COMMIT",
            2 => "SELECT bucket FROM shard WHERE shard = 0",
            _ => "UPDATE shard SET epoch = epoch + 1 WHERE shard = 0 RETURNING bucket",
        };
        self.new.waiting = Some(self.new.session.run(statement.to_owned()));
    }

    async fn old_settles(&mut self) {
        if let Some(answer) = self.old.settle(&mut self.watch).await {
            let refused = match self.old.step {
                0 => answer != Some(1),
                1 => answer.is_none(),
                _ => false,
            };
            self.old.step += 1;
            if refused {
                self.old.session.run("ROLLBACK".to_owned()).await.unwrap();
            }
            self.old.over = refused || self.old.step == 3;
        }
    }

    async fn new_settles(&mut self, opening: Opening) {
        if let Some(answer) = self.new.settle(&mut self.watch).await {
            let bucket = Some(answer.unwrap_or(0));
            match (self.new.step, opening) {
                (2, _) => self.loaded = bucket,
                (3, Opening::Returned) => self.told = bucket,
                (3, Opening::Loaded) => self.told = self.loaded,
                _ => {}
            }
            self.new.step += 1;
            self.new.over = self.new.step == 4;
        }
    }

    /// Puts everything back to the beginning.
    async fn reset(&mut self) {
        let reset =
            "UPDATE lease SET term = 1; UPDATE shard SET epoch = 1, commit_no = 0, bucket = NULL WHERE shard = 0";
        sqlx::raw_sql(reset).execute(&mut self.watch).await.unwrap();
        for leader in [&mut self.old, &mut self.new] {
            (leader.step, leader.over) = (0, false);
        }
        (self.loaded, self.told) = (None, None);
    }

    /// Runs both to their ends, the old leader's next step wherever `order` has a true. A step that must wait for the
    /// other's lock waits while the other goes on, as it would in earnest.
    async fn run(&mut self, variant: Variant, order: &[bool]) -> BTreeSet<Harm> {
        self.reset().await;
        let mut order = order.iter();
        while !(self.old.over && self.new.over) {
            let free = !self.old.over && self.old.waiting.is_none();
            let old = *order.next().unwrap_or(&free);
            if old && !self.old.over && self.old.waiting.is_none() {
                self.old_step(variant);
            } else if !old && !self.new.over && self.new.waiting.is_none() {
                self.new_step();
            }
            // What one did may have let the other go.
            for _ in 0..2 {
                self.old_settles().await;
                self.new_settles(variant.opening).await;
            }
        }
        let frontier: Option<i64> =
            sqlx::query_scalar("SELECT bucket FROM shard WHERE shard = 0").fetch_one(&mut self.watch).await.unwrap();
        let frontier = frontier.unwrap_or(0);
        let stale = [(self.told, Harm::StaleFrontier), (self.loaded, Harm::StaleBaselines)];
        stale.into_iter().filter(|(seen, _)| *seen != Some(frontier)).map(|(_, harm)| harm).collect()
    }
}

/// Every order of three steps of the old leader and four of the new one.
fn orders() -> Vec<Vec<bool>> {
    (0u32..1 << 7)
        .filter(|bits| bits.count_ones() == 3)
        .map(|bits| (0..7).map(|at| bits >> at & 1 == 1).collect())
        .collect()
}

#[tokio::test]
async fn only_the_lock_that_the_store_takes_keeps_a_new_leader_from_stale_state() {
    let Some(place) = Place::postgres(&[("fsync", "off"), ("deadlock_timeout", "10s")]) else { return };
    let options = place.options();
    drop(store::open(&options).await.unwrap());
    assert_eq!(orders().len(), 35);
    let mut tasks = JoinSet::new();
    let mut world = World {
        watch: PgConnection::connect(&options.url).await.unwrap(),
        old: Leader::new(Session::new(&options.url, &mut tasks).await),
        new: Leader::new(Session::new(&options.url, &mut tasks).await),
        loaded: None,
        told: None,
    };
    for lock in [Lock::None, Lock::KeyShare, Lock::Share] {
        for opening in [Opening::Loaded, Opening::Returned] {
            for compare_and_set in [false, true] {
                let variant = Variant { lock, opening, compare_and_set };
                let mut found = BTreeSet::new();
                for order in orders() {
                    found.extend(world.run(variant, &order).await);
                }
                let mut expected = BTreeSet::new();
                if lock != Lock::Share {
                    expected.insert(Harm::StaleBaselines);
                    // Without a compare-and-set the old leader writes over what the new one has opened.
                    if opening == Opening::Loaded || !compare_and_set {
                        expected.insert(Harm::StaleFrontier);
                    }
                }
                assert_eq!(found, expected, "{variant:?}");
            }
        }
    }
}
