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
pub mod calendar;
pub mod cluster;
pub mod commit;
mod committer;
pub mod exception;
pub mod execution;
pub mod field;
pub mod job;
pub mod joint;
pub mod leader;
mod metrics;
pub mod prepare;
mod retention;
pub mod roster;
pub mod rule;
pub mod scoring;
mod service;
pub mod store;
pub mod suppression;

use std::{sync::Arc, time::Duration};

use spikewatch_actors::Seams;
use spikewatch_proto::{
    convert::cluster::Shape,
    v1::{
        alerting_server::AlertingServer, control_server::ControlServer, results_server::ResultsServer,
        roster_server::RosterServer, rules_server::RulesServer, windowing_server::WindowingServer,
    },
};
use tokio::sync::watch;
use tonic::service::Routes;

use self::{
    analysis::baselines::Origin,
    calendar::Calendars,
    cluster::Timing,
    commit::Closing,
    exception::Exception,
    job::{InvalidJob, Job},
    leader::{Lead, Leadership, Plan},
    metrics::Counters,
    rule::{InvalidRule, Rule},
    service::gate::Gate,
    store::{Store, StoreError, StoreOptions},
};
pub use self::{metrics::DetectorMetrics, retention::Retention};

/// Largest message that an owner may send: a commit of one shard.
const MAX_COMMIT_BYTES: usize = 256 << 20;

/// The lease where the store belongs to one process.
const EMBEDDED_LEASE: Duration = Duration::from_secs(86_400);

/// How far behind the frontier a pair has to stand to be forgotten: a day more than owners take anything.
const FORGET_AFTER_MS: u64 = 8 * 24 * 3_600_000;

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
    /// Times in which unusual traffic is expected.
    pub calendars: Calendars,
    /// How long what is stored is kept.
    pub retention: Retention,
    /// A collector that was not heard of for so long is taken out of the roster.
    pub retire_after: Duration,
    /// What baselines, and a bucket's windows while it is scored, may take, bytes. Beyond, the series that were active
    /// least are forgotten.
    pub memory_limit: u64,
    /// How many alerts a day rules may make of clean traffic, over all series; 0: however many scores give.
    pub false_alerts_a_day: f64,
    /// How long aggregators are waited for.
    pub timing: Timing,
    /// Buckets after which the baselines are saved, so that a restart needs not learn the whole log again; never if 0.
    pub snapshot_buckets: u32,
    /// Where others reach this detector, "http://host:port".
    pub advertise: String,
    /// Its name, which no other detector on the same store has; made up if empty. One that is restarted under its name
    /// needs not wait for its own lease to end.
    pub name: String,
    /// How long another detector on the same store waits after this one was last heard of, before it takes over.
    pub lease: Duration,
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
            calendars: Calendars::default(),
            retention: Retention::default(),
            retire_after: Duration::from_secs(7 * 86_400),
            memory_limit: 4 << 30,
            false_alerts_a_day: 5.0,
            timing: Timing::default(),
            snapshot_buckets: 16,
            advertise: String::new(),
            name: String::new(),
            lease: Duration::from_secs(10),
        }
    }
}

impl Options {
    /// Puts in what ships where nothing is said, and checks that rules and jobs fit together.
    fn complete(&mut self) -> Result<(), Error> {
        if self.jobs.is_empty() {
            self.jobs = Job::built_in();
        }
        Job::check_spans(&self.jobs, self.shape.bucket)?;
        if self.rules.is_empty() {
            self.rules = Rule::built_in()?;
        }
        check(&self.rules)
    }
}

/// Why a detector can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store can't be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A rule doesn't fit.
    #[error(transparent)]
    Rule(#[from] InvalidRule),
    /// A job doesn't fit.
    #[error(transparent)]
    Job(#[from] InvalidJob),
    /// An exception names a list that isn't there.
    #[error("rule {rule:?}: its exceptions name list {list:?}, which does not exist")]
    UnknownList {
        /// Name of the rule.
        rule: String,
        /// Name of the list.
        list: String,
    },
}

/// A running detector. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    leadership: watch::Receiver<Leadership>,
    counters: Arc<Counters>,
}

impl Handle {
    /// The detector in numbers. One that stands by has few.
    #[must_use]
    pub fn metrics(&self) -> DetectorMetrics {
        let reign = match &*self.leadership.borrow() {
            Leadership::Leading(reign) => Some(Arc::clone(reign)),
            Leadership::Standby { .. } => None,
        };
        let progress = reign.as_ref().map(|reign| reign.progress.borrow().clone()).unwrap_or_default();
        let committed = reign.as_ref().map(|reign| reign.committed.borrow().clone()).unwrap_or_default();
        DetectorMetrics {
            leads: reign.is_some(),
            commits: committed.counts.commits,
            repeats: self.counters.repeats.get(),
            refusals: self.counters.refusals.get(),
            windows: committed.counts.windows,
            corrections: committed.counts.corrections,
            records: progress.records,
            records_cut: self.counters.records_cut.get(),
            alerts: progress.alerts,
            expired: self.counters.expired.get(),
            bounded: self.counters.bounded.get(),
            early_dropped: self.counters.early_dropped.get(),
            retention_failures: self.counters.retention_failures.get(),
            executions: progress.executions,
            series: progress.series,
            not_modelled: self.counters.not_modelled.get(),
            shed: self.counters.shed.get(),
            late_records: self.counters.late_records.get(),
            corrections_not_scored: self.counters.corrections_not_scored.get(),
            fell_silent: self.counters.fell_silent.get(),
            silent: committed.silent.len() as u64,
            frontier_ms: committed.frontier.unwrap_or(0),
            scored_ms: progress.scored_ms,
            commit_mailbox: reign.map(|reign| reign.committer.stats()),
        }
    }

    /// Waits until this detector leads, or until it does so no more.
    pub async fn leads(&self, leads: bool) {
        let mut leadership = self.leadership.clone();
        let reached = leadership.wait_for(|now| matches!(now, Leadership::Leading(_)) == leads).await.is_ok();
        if !reached && leads {
            // It has ended, and leads never again.
            std::future::pending::<()>().await;
        }
    }
}

/// Starts a detector and returns its handle and services. It leads at once if no other does; else it stands by, and says
/// so to whoever asks.
///
/// # Errors
/// The store can't be used, or rules and jobs don't fit together.
pub async fn start(mut options: Options, seams: &Seams) -> Result<(Handle, Routes), Error> {
    // What doesn't fit together is said before a store is made.
    options.complete()?;
    let store = StoreOptions {
        url: options.store_url.clone(),
        durable: options.durable,
        shape: options.shape,
        lineage: seams.entropy.bytes16(),
    };
    start_on(store::open(&store).await?, options, seams).await
}

/// Starts a detector as [`start`] does, on a store that is open already, whatever its options name.
///
/// # Errors
/// As for [`start`].
pub async fn start_on(store: Arc<dyn Store>, mut options: Options, seams: &Seams) -> Result<(Handle, Routes), Error> {
    options.complete()?;
    let counters = Arc::new(Counters::default());
    let (shape, span) = (options.shape, options.shape.bucket);
    let plan = Plan {
        store: Arc::clone(&store),
        closing: Closing {
            allowed_lateness_ms: millis(options.allowed_lateness),
            max_wait_ms: millis(options.max_wait),
            late_horizon_ms: (!seams.clock.is_event_time()).then_some(FORGET_AFTER_MS),
        },
        retire_after: options.retire_after,
        timing: options.timing,
        origin: Origin {
            jobs: options.jobs.into(),
            span,
            memory: options.memory_limit,
            false_alerts_a_day: options.false_alerts_a_day,
            calendars: options.calendars,
            tasks: seams.tasks.clone(),
        },
        snapshot_buckets: options.snapshot_buckets,
        rules: options.rules,
        retention: options.retention,
        counters: Arc::clone(&counters),
        seams: seams.clone(),
    };
    let made_up = || u128::from_be_bytes(seams.entropy.bytes16()).to_string();
    let name = if options.name.is_empty() { made_up() } else { options.name };
    let holder = format!("{} {name}", options.advertise);
    // Nobody else can have an embedded store: there is nobody to make way for, however busy the machine is.
    let is_embedded = options.store_url.starts_with("sqlite:");
    let lease = if is_embedded { options.lease.max(EMBEDDED_LEASE) } else { options.lease };
    let leadership = leader::lead(Lead { plan, holder, lease }).await?;
    let gate = Gate(leadership.clone());
    let clock = seams.clock.clone();
    let windowing = service::windowing::Service { shape, gate: gate.clone() };
    let control = service::control::Service { shape, gate: gate.clone() };
    let results = service::results::Service { store: Arc::clone(&store), gate: gate.clone() };
    let roster = service::roster::Service { gate: gate.clone() };
    let rules = service::rules::Service { store: Arc::clone(&store), gate: gate.clone() };
    let alerting = service::alerting::Service { store, gate, clock };
    let routes = Routes::new(WindowingServer::new(windowing).max_decoding_message_size(MAX_COMMIT_BYTES))
        .add_service(ControlServer::new(control))
        .add_service(RosterServer::new(roster))
        .add_service(ResultsServer::new(results))
        .add_service(RulesServer::new(rules))
        .add_service(AlertingServer::new(alerting));
    Ok((Handle { leadership, counters }, routes))
}

/// A job that isn't there is no reason not to start: the rule says so with every execution.
fn check(rules: &[Rule]) -> Result<(), Error> {
    for rule in rules {
        rule.check()?;
        if let Some(list) = rule.exceptions.iter().find_map(Exception::unresolved) {
            return Err(Error::UnknownList { rule: rule.name.clone(), list: list.to_owned() });
        }
    }
    Ok(())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
