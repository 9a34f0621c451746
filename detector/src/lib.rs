//! The centre. Commit → baselines → anomaly records → rules → alerts.
//!
//! ```text
//! owners ═▶ Windowing ─▶ committer ─▶ store (commit log) ─▶ analysis: scoring ─▶ executions ─▶ alerts
//!            prepare      commit (pure)                               (pure)       (pure)
//! aggregators ═▶ Control: cluster (pure)                 Results, Alerting ◀═ everyone who asks
//! ```

pub mod alert;
mod analysis;
pub mod baseline;
pub mod cluster;
pub mod commit;
mod committer;
pub mod execution;
pub mod job;
mod metrics;
pub mod prepare;
mod retention;
pub mod rule;
pub mod scoring;
mod service;
pub mod store;
mod trace;

use std::{sync::Arc, time::Duration};

use spikewatch_actors::{Seams, mailbox::Mailbox};
use spikewatch_proto::{
    convert::cluster::Shape,
    v1::{
        self, alerting_server::AlertingServer, control_server::ControlServer, results_server::ResultsServer,
        windowing_server::WindowingServer,
    },
};
use tokio::sync::watch;
use tonic::service::Routes;

use self::{
    commit::Closing,
    committer::Committed,
    execution::{Executions, NoExceptions},
    job::{InvalidJob, Job},
    metrics::Counters,
    rule::{InvalidRule, Rule},
    scoring::Scoring,
    store::{Claim, StoreError, StoreOptions},
};
pub use self::{metrics::DetectorMetrics, retention::Retention};

/// Largest message that an owner may send: a commit of one shard.
const MAX_COMMIT_BYTES: usize = 256 << 20;

/// How far behind the frontier a pair has to stand to be forgotten: a day more than owners take anything.
const FORGET_AFTER_MS: u64 = 8 * 24 * 3_600_000;

/// How long another detector on the same store waits after this one was last heard of.
const LEASE: Duration = Duration::from_secs(10);

/// What a detector is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// "sqlite::memory:", "sqlite:///path/of/file.db" or "postgres://user:password@host/database".
    pub store_url: String,
    /// Commits survive a loss of power.
    pub durable: bool,
    /// Shards and base bucket; fixed when the store is made.
    pub shape: Shape,
    /// Event time that a close waits for late records beyond the bucket's end.
    pub allowed_lateness: Duration,
    /// Time that a close waits for a silent member.
    pub max_wait: Duration,
    /// The rules; those that ship if empty.
    pub rules: Vec<Rule>,
    /// Jobs; those that ship if empty.
    pub jobs: Vec<Job>,
    /// How long what is stored is kept.
    pub retention: Retention,
    /// Most series of one job.
    pub max_series: usize,
}

impl Default for Options {
    /// A durable store in the working directory, and defaults for the rest.
    fn default() -> Self {
        Self {
            store_url: "sqlite://spikewatch.db".into(),
            durable: true,
            shape: Shape {
                shards: spikewatch_domain::shard::DEFAULT_SHARDS,
                bucket: spikewatch_domain::span::Span::QUARTER_HOUR,
            },
            allowed_lateness: Duration::from_secs(60),
            max_wait: Duration::from_secs(300),
            rules: Vec::new(),
            jobs: Vec::new(),
            retention: Retention::default(),
            max_series: 2_000_000,
        }
    }
}

/// Why a detector can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store can't be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another detector leads.
    #[error("another detector, {0:?}, leads on this store")]
    Led(String),
    /// A rule doesn't fit.
    #[error(transparent)]
    Rule(#[from] InvalidRule),
    /// A job doesn't fit.
    #[error(transparent)]
    Job(#[from] InvalidJob),
    /// A rule looks at a job that isn't there.
    #[error("rule {rule:?} looks at job {job:?}, which does not exist")]
    UnknownJob {
        /// Name of the rule.
        rule: String,
        /// Id of the job.
        job: String,
    },
}

/// A running detector. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    progress: watch::Receiver<v1::Progress>,
    committed: watch::Receiver<Committed>,
    counters: Arc<Counters>,
    committer: Mailbox<committer::Request>,
}

impl Handle {
    /// The detector in numbers.
    #[must_use]
    pub fn metrics(&self) -> DetectorMetrics {
        let progress = self.progress.borrow().clone();
        let committed = self.committed.borrow().clone();
        DetectorMetrics {
            commits: committed.counts.commits,
            repeats: self.counters.repeats.get(),
            refusals: self.counters.refusals.get(),
            windows: committed.counts.windows,
            corrections: committed.counts.corrections,
            records: progress.records,
            records_cut: self.counters.records_cut.get(),
            alerts: progress.alerts,
            expired: self.counters.expired.get(),
            executions: progress.executions,
            series: progress.series,
            not_modelled: self.counters.not_modelled.get(),
            frontier_ms: committed.frontier.unwrap_or(0),
            scored_ms: progress.scored_ms,
            commit_mailbox: self.committer.stats(),
        }
    }
}

/// Starts a detector and returns its handle and services.
///
/// # Errors
/// The store can't be used, or rules and jobs don't fit together.
pub async fn start(options: Options, seams: &Seams) -> Result<(Handle, Routes), Error> {
    let jobs = if options.jobs.is_empty() { Job::built_in() } else { options.jobs };
    let rules = if options.rules.is_empty() { Rule::built_in()? } else { options.rules };
    check(&rules, &jobs)?;
    let store = StoreOptions {
        url: options.store_url,
        durable: options.durable,
        shape: options.shape,
        lineage: seams.entropy.bytes16(),
    };
    let store = store::open(&store).await?;
    let term = match store.claim(&u128::from_be_bytes(seams.entropy.bytes16()).to_string(), LEASE).await? {
        Claim::Taken(term) => term,
        Claim::HeldBy(leader) => return Err(Error::Led(leader.holder)),
    };
    let loaded = store.load().await?;
    let resume = store.resume().await?;
    let counters = Arc::new(Counters::default());
    let closing = Closing {
        allowed_lateness_ms: millis(options.allowed_lateness),
        max_wait_ms: millis(options.max_wait),
        late_horizon_ms: (!seams.clock.is_event_time()).then_some(FORGET_AFTER_MS),
    };
    let (control, assignments) = service::control::start(Arc::clone(&store), term, loaded.assignment, seams);
    let (committer, committed) = committer::start(
        (Arc::clone(&store), term),
        loaded,
        closing,
        assignments.clone(),
        Arc::clone(&counters),
        seams,
    );
    let parts = analysis::Parts {
        store: Arc::clone(&store),
        term,
        scoring: Scoring::new(&jobs, options.shape.bucket, options.max_series),
        executions: Executions::new(rules, Box::new(NoExceptions), resume.execution),
        resume,
        committed: committed.clone(),
        counters: Arc::clone(&counters),
    };
    let (analysis, progress) = analysis::start(parts, seams);
    retention::start(Arc::clone(&store), term, options.retention, seams);
    let (shape, tasks) = (options.shape, &seams.tasks);
    let windowing = service::windowing::Service { shape, committer: committer.clone(), tasks: tasks.clone() };
    let control = service::control::Service { shape, control, assignments, tasks: tasks.clone() };
    let results = service::results::Service {
        store: Arc::clone(&store),
        committed: committed.clone(),
        progress: progress.clone(),
        tasks: tasks.clone(),
    };
    let alerting = service::alerting::Service {
        store,
        progress: progress.clone(),
        analysis,
        clock: seams.clock.clone(),
        tasks: tasks.clone(),
    };
    let routes = Routes::new(WindowingServer::new(windowing).max_decoding_message_size(MAX_COMMIT_BYTES))
        .add_service(ControlServer::new(control))
        .add_service(ResultsServer::new(results))
        .add_service(AlertingServer::new(alerting));
    Ok((Handle { progress, committed, counters, committer }, routes))
}

fn check(rules: &[Rule], jobs: &[Job]) -> Result<(), Error> {
    for rule in rules {
        rule.check()?;
        if let Some(job) = rule.jobs.iter().find(|id| jobs.iter().all(|job| job.id != **id)) {
            return Err(Error::UnknownJob { rule: rule.name.clone(), job: job.clone() });
        }
    }
    Ok(())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
