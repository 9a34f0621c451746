//! All that leading needs, under one term. It begins with what the store says and ends as a whole: nothing of it
//! outlives the term.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use spikewatch_actors::{
    Seams,
    mailbox::{Mailbox, mailbox},
    task::Tasks,
};
use spikewatch_proto::v1;
use tokio::{sync::watch, time::Instant};

use crate::{
    analysis::{
        self, Command,
        baselines::{Baselines, Origin},
    },
    cluster::{Assignments, Cluster, Timing},
    commit::Closing,
    committer::{self, Closings, Committed, EarlyWays, RosterRequest},
    execution::Executions,
    metrics::Counters,
    retention::{self, Retention},
    rule::Rule,
    service::control::{self, Change},
    store::{Store, StoreError, Term},
};

/// How long its tasks may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// What every reign of a detector begins with.
pub(crate) struct Plan {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) closing: Closing,
    pub(crate) retire_after: Duration,
    pub(crate) timing: Timing,
    pub(crate) origin: Origin,
    pub(crate) snapshot_buckets: u32,
    pub(crate) rules: Vec<Rule>,
    pub(crate) retention: Retention,
    pub(crate) counters: Arc<Counters>,
    pub(crate) seams: Seams,
}

impl Plan {
    /// The rules, of which `number` executions are known.
    fn executions(&self, number: u64) -> Executions {
        let mut executions = Executions::new(self.rules.clone(), &self.origin.jobs, number);
        if !self.seams.clock.is_event_time() {
            // A bucket is being filled, one is waited for, and a little more.
            let wait = self.closing.allowed_lateness_ms.saturating_add(self.closing.max_wait_ms);
            executions.follow_clock(self.origin.span.millis().saturating_mul(2).saturating_add(wait.saturating_mul(2)));
        }
        executions
    }
}

/// See the module.
pub(crate) struct Reign {
    pub(crate) control: Mailbox<Change>,
    pub(crate) assignments: watch::Receiver<Arc<Assignments>>,
    pub(crate) committer: Mailbox<committer::Request>,
    pub(crate) roster: Mailbox<RosterRequest>,
    pub(crate) committed: watch::Receiver<Committed>,
    pub(crate) analysis: Mailbox<Command>,
    pub(crate) progress: watch::Receiver<v1::Progress>,
    pub(crate) tasks: Tasks,
}

impl Reign {
    /// Reads what commits depend on and starts to commit. Scoring follows as soon as it has `warm`, baselines that may
    /// have learnt a part of the log already.
    ///
    /// # Errors
    /// The store can't be read.
    pub(crate) async fn begin(
        plan: &Plan,
        term: Term,
        warm: BoxFuture<'static, Option<Baselines>>,
    ) -> Result<Self, StoreError> {
        let (store, counters, tasks) = (&plan.store, &plan.counters, Tasks::new());
        let seams = Seams { tasks: tasks.clone(), ..plan.seams.clone() };
        let loaded = store.load().await?;
        let resume = store.resume().await?;
        let owners = loaded.shards.iter().map(|shard| shard.owner.clone()).collect();
        // Recorded traffic has no time to be silent in: only a stream that ends is a sign of death there.
        let timing = if seams.clock.is_event_time() { plan.timing.patient() } else { plan.timing };
        let cluster = Cluster::new(timing, loaded.assignment, owners, 0);
        let (control, assignments) = control::start((Arc::clone(store), term), cluster, Instant::now(), &seams);
        let (analysis, inbox) = mailbox("analysis", 64);
        let tripwires = watch::Sender::new(Arc::default());
        let early = EarlyWays { tripwires: tripwires.subscribe(), windows: analysis.clone() };
        let (committer, roster, committed) = committer::start(
            (Arc::clone(store), term),
            loaded,
            Closings { closing: plan.closing, retire_after: plan.retire_after },
            assignments.clone(),
            early,
            Arc::clone(counters),
            &seams,
        );
        let parts = analysis::Parts {
            store: Arc::clone(store),
            term,
            origin: plan.origin.clone(),
            snapshot_buckets: plan.snapshot_buckets,
            executions: plan.executions(resume.execution),
            resume,
            committed: committed.clone(),
            counters: Arc::clone(counters),
            shards: store.shape().shards,
            tripwires,
        };
        let progress = analysis::start(parts, inbox, warm, &seams);
        retention::start(Arc::clone(store), term, plan.retention, Arc::clone(counters), &seams);
        Ok(Self { control, assignments, committer, roster, committed, analysis, progress, tasks })
    }

    /// Ends it.
    pub(crate) async fn end(&self) {
        self.tasks.shutdown(END_TIMEOUT).await;
    }
}
