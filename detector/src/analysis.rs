//! The actor that scores what is committed and runs the rules. It reads the commit log bucket by bucket, so a restart, or
//! falling behind, changes nothing in what comes out.

mod amended;
pub(crate) mod baselines;
mod early;
mod rules;
mod snapshot;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use spikewatch_actors::{Seams, mailbox::Inbox, task::Kind};
use spikewatch_domain::{key::SiteName, record::EventMillis};
use spikewatch_proto::{
    convert::{
        early::Early,
        results::{Alert, AnomalyRecord},
    },
    trace, v1,
};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use self::baselines::{Baselines, Origin};
use crate::{
    committer::Committed,
    execution::{Execution, Executions},
    metrics::Counters,
    scoring::{Row, Scored},
    store::{Finished, Range, Resume, Store, StoreError, Term},
};

/// Warnings that are kept for display.
const WARNINGS: usize = 100;
/// Late rows that are scored for one transaction.
const CORRECTIONS: u32 = 64;
/// How often the clock is looked at for executions.
const TICK: Duration = Duration::from_secs(1);

/// What may be asked of it.
pub(crate) enum Command {
    /// Run what falls due up to then; event time only. Answers with executions and alerts.
    Execute(EventMillis, oneshot::Sender<Result<(u64, u64), StoreError>>),
    /// Look at open windows that crossed a tripwire.
    Early(Early),
    /// Run a rule, by id or name, over the buckets that start in a range. Answers with what it did; nothing if there is no
    /// such rule.
    Run(String, Range, oneshot::Sender<Result<Option<v1::Execution>, StoreError>>),
    /// The rules as they stand.
    Rules(oneshot::Sender<Vec<v1::Rule>>),
}

/// What it starts with.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) term: Term,
    pub(crate) origin: Origin,
    /// Buckets between two snapshots; none are made if 0.
    pub(crate) snapshot_buckets: u32,
    pub(crate) executions: Executions,
    pub(crate) resume: Resume,
    pub(crate) committed: watch::Receiver<Committed>,
    pub(crate) counters: Arc<Counters>,
    /// Shards of the cluster.
    pub(crate) shards: u32,
    /// What open windows have to reach, for owners.
    pub(crate) tripwires: watch::Sender<Arc<[v1::Tripwires]>>,
}

struct Analysis {
    parts: Parts,
    seams: Seams,
    progress: watch::Sender<v1::Progress>,
    baselines: Baselines,
    /// Buckets learnt since the last snapshot.
    unsaved: u32,
    finalised: u64,
    /// Position in the log of the last late row that was scored.
    late: u64,
    records: u64,
    warnings: VecDeque<String>,
    /// The trace of the newest commit that was looked at (W3C traceparent).
    trace: Arc<str>,
    /// Windows of sites so far, of buckets that are still open.
    open_sites: BTreeMap<(EventMillis, SiteName), Row>,
    /// The last bucket scored when tripwires were last told.
    stretched: Option<EventMillis>,
}

/// Starts it. It begins with `warm` baselines, which may have learnt a part of the log, once they are there.
pub(crate) fn start(
    parts: Parts,
    inbox: Inbox<Command>,
    warm: BoxFuture<'static, Option<Baselines>>,
    seams: &Seams,
) -> watch::Receiver<v1::Progress> {
    let before = v1::Progress { alerts: parts.resume.alerts, ..v1::Progress::default() };
    let (progress, watched) = watch::channel(before);
    let (finalised, seams) = (parts.resume.finalised, seams.clone());
    let (tasks, stop) = (seams.tasks.clone(), seams.tasks.token());
    tasks.spawn(Kind::ROLE, "analysis", async move {
        let Some(warm) = stop.run_until_cancelled(warm).await else { return Ok(()) };
        // What was learnt beyond what counts as scored, is not what the log says: the store went back.
        let warm = warm.filter(|warm| warm.scored() <= parts.resume.scored);
        let baselines = warm.unwrap_or_else(|| Baselines::new(parts.origin.clone()));
        let (warnings, trace, unsaved) = (VecDeque::new(), Arc::default(), 0);
        let (open_sites, stretched) = (BTreeMap::new(), None);
        let (late, records) = (parts.resume.late, finalised);
        let analysis = Analysis {
            parts,
            seams,
            progress,
            baselines,
            unsaved,
            finalised,
            late,
            records,
            warnings,
            trace,
            open_sites,
            stretched,
        };
        analysis.run(inbox).await
    });
    watched
}

impl Analysis {
    async fn run(mut self, mut inbox: Inbox<Command>) -> Result<(), StoreError> {
        let stop = self.seams.tasks.token();
        self.rebuild(&stop).await?;
        let live = !self.seams.clock.is_event_time();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        self.parts.committed.mark_changed();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = self.parts.committed.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.score_ready(&stop).await?;
                }
                _ = ticks.tick(), if live => {
                    let now = self.seams.clock.now_ms();
                    let executions = self.execute(now);
                    self.finish(Finished { executions, ..Finished::default() }).await?;
                }
                command = inbox.recv() => {
                    let Some(command) = command else { return Ok(()) };
                    self.obey(command, &stop).await?;
                }
            }
        }
    }

    /// Scores again what was scored before the restart, for the state it leaves; and takes up the records that wait.
    async fn rebuild(&mut self, stop: &CancellationToken) -> Result<(), StoreError> {
        let Some(scored) = self.parts.resume.scored else { return Ok(()) };
        let began = Instant::now();
        let learnt = self.baselines.follow(&*self.parts.store, scored, stop).await?;
        self.unsaved = learnt;
        let known_until = self.baselines.span().end(scored);
        let event_time = self.seams.clock.is_event_time();
        rules::resume(&mut self.parts.executions, &*self.parts.store, known_until, event_time).await?;
        tracing::info!(series = self.baselines.series(), took = ?began.elapsed(), "baselines are up to the commit log");
        Ok(())
    }

    /// Scores all buckets that every shard has committed, and what came late: each row after the buckets that were
    /// committed before it, and before those that weren't. So when it is looked doesn't show in what comes out.
    async fn score_ready(&mut self, stop: &CancellationToken) -> Result<(), StoreError> {
        loop {
            let committed = self.parts.committed.borrow_and_update().clone();
            let Some(frontier) = committed.frontier else { break };
            self.trace = committed.trace;
            let buckets = self.baselines.ready(&*self.parts.store, frontier).await?;
            if buckets.is_empty() {
                break;
            }
            for start in buckets {
                if stop.is_cancelled() {
                    return Ok(());
                }
                self.correct(start).await?;
                let span = tracing::debug_span!("score", bucket = start);
                trace::follow(&span, &self.trace);
                self.score(start).instrument(span).await?;
            }
        }
        if let Some(scored) = self.baselines.scored() {
            self.correct(scored.saturating_add(1)).await?;
        }
        self.publish();
        self.save().await?;
        self.stretch_tripwires().await
    }

    /// Makes a snapshot if one is due. Without it a restart only takes longer.
    async fn save(&mut self) -> Result<(), StoreError> {
        let every = self.parts.snapshot_buckets;
        if every == 0 || self.unsaved < every {
            return Ok(());
        }
        self.unsaved = 0;
        let began = Instant::now();
        match self.baselines.keep(&*self.parts.store, self.parts.term).await {
            Ok(bytes) => tracing::info!(bytes, took = ?began.elapsed(), "baselines saved"),
            Err(error) if error.is_deposed() => return Err(error),
            Err(error) => self.warn(format!("The baselines were not saved: {error}.")),
        }
        self.seams.latencies.record("snapshot", began.elapsed());
        Ok(())
    }

    async fn score(&mut self, start: EventMillis) -> Result<(), StoreError> {
        let begun = Instant::now();
        let Scored { mut records, cut, not_modelled, shed } = self.baselines.score(&*self.parts.store, start).await?;
        self.seams.latencies.record("score", begun.elapsed());
        self.parts.counters.not_modelled.add(not_modelled);
        self.parts.counters.shed.add(shed);
        if not_modelled > 0 || shed > 0 {
            self.warn(format!(
                "memory_limit is reached: {shed} series were forgotten and {not_modelled} windows have none, in the bucket at {start} ms."
            ));
        }
        if cut > 0 {
            self.parts.counters.records_cut.add(cut);
            self.warn(format!("{cut} anomaly records of the bucket at {start} ms were left out: a job had too many."));
        }
        let end = self.baselines.span().end(start);
        let event_time = self.seams.clock.is_event_time();
        self.finalise(&mut records, end);
        // On an event-time clock executions fall due as buckets end; else the clock runs them.
        let mut executions = if event_time { self.execute(end.saturating_sub(1)) } else { Vec::new() };
        records.iter().for_each(|record| self.parts.executions.offer(record));
        self.parts.executions.closed(start);
        self.parts.executions.scored(end);
        if event_time {
            executions.extend(self.execute(end));
        }
        self.unsaved = self.unsaved.saturating_add(1);
        self.records += records.len() as u64;
        self.finish(Finished { scored: Some(start), records, executions, ..Finished::default() }).await
    }

    /// Scores the late rows of which every shard had committed buckets before `passed` only.
    async fn correct(&mut self, passed: EventMillis) -> Result<(), StoreError> {
        let stop = self.seams.tasks.token();
        loop {
            let rows = self.parts.store.late(self.late, passed, CORRECTIONS).await?;
            let (Some(last), false) = (rows.last(), stop.is_cancelled()) else { return Ok(()) };
            let (position, begun, mut records) = (last.position, Instant::now(), Vec::new());
            for row in &rows {
                let scored = self.baselines.correct(&*self.parts.store, row).await?;
                records.extend(scored.records);
                self.parts.counters.corrections_not_scored.add(scored.not_modelled);
                tokio::task::yield_now().await;
            }
            self.seams.latencies.record("correct", begun.elapsed());
            let scored = self.baselines.scored().unwrap_or_default();
            self.finalise(&mut records, self.baselines.span().end(scored));
            records.iter().for_each(|record| self.parts.executions.offer(record));
            (self.late, self.records) = (position, self.records + records.len() as u64);
            self.parts.counters.late_records.add(records.len() as u64);
            self.finish(Finished { late: Some(position), records, ..Finished::default() }).await?;
        }
    }

    /// Numbers records. On an event-time clock it is `end`, that of the last bucket.
    fn finalise(&mut self, records: &mut [AnomalyRecord], end: EventMillis) {
        let clock = &self.seams.clock;
        let finalised_ms = if clock.is_event_time() { end } else { clock.now_ms() };
        for record in records {
            self.finalised += 1;
            (record.finalised, record.finalised_ms) = (self.finalised, finalised_ms);
        }
    }

    fn execute(&mut self, now: EventMillis) -> Vec<Execution> {
        let begun = Instant::now();
        let span = self.traced(tracing::debug_span!("execute", now));
        let done = span.in_scope(|| self.parts.executions.advance(now));
        if !done.is_empty() {
            self.seams.latencies.record("execute", begun.elapsed());
        }
        done
    }

    async fn execute_until(&mut self, until: EventMillis) -> Result<(u64, u64), StoreError> {
        let executions = self.execute(until);
        let counts = (executions.len() as u64, executions.iter().map(|done| done.alerts.len() as u64).sum());
        self.finish(Finished { executions, ..Finished::default() }).await?;
        Ok(counts)
    }

    /// Answers a command. Whoever asked may be gone.
    async fn obey(&mut self, command: Command, stop: &CancellationToken) -> Result<(), StoreError> {
        match command {
            Command::Execute(until, reply) => {
                self.score_ready(stop).await?;
                let done = self.execute_until(until).await;
                let _ = reply.send(done);
            }
            Command::Early(early) => self.early(early).await?,
            Command::Run(rule, range, reply) => {
                let now = self.seams.clock.now_ms();
                let run = rules::run(&mut self.parts.executions, &*self.parts.store, &rule, range, now).await;
                let done = match run {
                    Ok(Some(done)) => {
                        let answer = v1::Execution::from(&done);
                        let finished = Finished { executions: vec![done], ..Finished::default() };
                        self.finish(finished).await.map(|()| Some(answer))
                    }
                    Ok(None) => Ok(None),
                    Err(error) => Err(error),
                };
                let _ = reply.send(done);
            }
            Command::Rules(reply) => {
                let _ = reply.send(self.parts.executions.rules(self.seams.clock.now_ms()));
            }
        }
        Ok(())
    }

    /// Writes what came out, then shows it.
    async fn finish(&mut self, mut finished: Finished) -> Result<(), StoreError> {
        finished.progress = self.parts.executions.progress();
        if finished == Finished::default() {
            return Ok(());
        }
        let (mut young, mut warnings) = (0, Vec::new());
        let mut alerts = finished.early.iter().filter(|alert| alert.version == 1).count() as u64;
        finished.early.iter().for_each(|alert| self.tell(alert));
        for done in &finished.executions {
            alerts += done.alerts.len() as u64;
            young += done.young;
            self.parts.counters.expired.add(done.expired as u64);
            self.parts.counters.bounded.add(done.bounded.0);
            warnings.extend(done.warning());
            done.alerts.iter().for_each(|alert| self.tell(alert));
        }
        self.parts.store.finish(self.parts.term, finished).await?;
        warnings.into_iter().for_each(|warning| self.warn(warning));
        self.progress.send_modify(|progress| {
            progress.alerts += alerts;
            progress.warming_up += young;
        });
        self.publish();
        Ok(())
    }

    /// Within another span it is that one's child; else it follows the newest commit.
    fn traced(&self, span: Span) -> Span {
        if Span::current().is_none() {
            trace::follow(&span, &self.trace);
        }
        span
    }

    fn tell(&self, alert: &Alert) {
        let span = self.traced(tracing::info_span!("alert", id = alert.id));
        let Alert { rule_name: rule, record_score: score, reason, .. } = alert;
        span.in_scope(|| tracing::info!(rule, score, reason, "alert"));
    }

    fn warn(&mut self, warning: String) {
        tracing::warn!(warning, "execution");
        if self.warnings.len() == WARNINGS {
            self.warnings.pop_front();
        }
        self.warnings.push_back(warning);
    }

    fn publish(&self) {
        let committed = self.parts.committed.borrow().clone();
        self.progress.send_modify(|progress| {
            progress.frontier_ms = committed.frontier.unwrap_or(0);
            progress.scored_ms = self.baselines.scored().unwrap_or(0);
            progress.silent_collectors = committed.silent.to_vec();
            progress.commits = committed.counts.commits;
            progress.windows = committed.counts.windows;
            progress.corrections = committed.counts.corrections;
            progress.records = self.records;
            progress.executions = self.parts.executions.passed();
            progress.series = self.baselines.series();
            progress.warnings = self.warnings.iter().cloned().collect();
        });
    }
}
