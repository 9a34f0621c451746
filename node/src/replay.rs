//! `spikewatch replay`: files through the whole pipeline on an event-time clock. It has no path of its own: what it prints
//! is what the detector committed and found, asked for over gRPC.

pub(crate) mod documents;
pub(crate) mod output;
pub(crate) mod summary;

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use spikewatch_collector::{
    SourceOptions,
    networks::InternalNetworks,
    source::{
        file::{FileError, expand},
        files::FileReport,
    },
};
use spikewatch_detector::{calendar::Calendars, job::Job, rule::Rule};
use spikewatch_domain::record::FlowRecord;
use spikewatch_proto::{convert::results::AnomalyRecord, v1::Progress};
use tokio::{sync::mpsc, time::Instant};

use self::{
    output::{Output, Stop},
    summary::Summary,
};
use crate::{
    cli::{Emit, ReplayArguments},
    cluster::{Cluster, Plan, Site},
    config::{Config, calendars, jobs, layers::Fault, rules},
    failure::{Failure, Outcome},
    human::processor_time,
    roles,
    telemetry::Telemetry,
};

/// Batches of records on their way to standard output.
const TAPPED: usize = 64;
/// How often the progress bar moves.
const TICK: Duration = Duration::from_millis(100);

/// Runs the command.
///
/// # Errors
/// Wrong names of jobs (64), no usable input (65), files that can't be read (74).
pub(crate) async fn run(arguments: &ReplayArguments, config: &Config, telemetry: &Telemetry) -> Outcome {
    let begun = Instant::now();
    let (jobs, rules) = select(arguments, config)?;
    let paths = expand(&arguments.paths).into_iter().collect::<Result<Vec<_>, _>>();
    let paths = paths.map_err(|error| match error {
        FileError::NoFiles { .. } => Failure::NoInput(error.to_string()),
        error => Failure::Io(error.to_string()),
    })?;
    let (tap, tapped) = match arguments.emit {
        Emit::Flows => Some(mpsc::channel(TAPPED)).unzip(),
        Emit::Alerts | Emit::Records | Emit::Windows => (None, None),
    };
    let networks = match arguments.internal.as_slice() {
        [] => roles::networks(&config.collector),
        given => InternalNetworks::new(given.to_vec()),
    };
    let site = Site {
        name: arguments.site.clone(),
        networks,
        aliases: roles::aliases(&config.collector),
        key_limit: config.collector.key_limit,
        port_values: config.collector.port_values,
        places: roles::places(&config.collector),
        ecs: roles::ecs(&config.collector),
        source: SourceOptions::Files { paths: paths.clone(), expected: roles::expected(arguments.format) },
        tap,
    };
    let calendars = Calendars::new(calendars::load(&config.detector).map_err(usage)?);
    let plan = Plan { bucket: arguments.bucket_span.0, rules, jobs, calendars, seed: 0, sites: vec![site] };
    let mut cluster = Cluster::start(plan, telemetry).await?;
    let tasks = cluster.seams.tasks.clone();
    let played = tokio::select! {
        played = play(arguments, &paths, tapped, &mut cluster) => played,
        failure = tasks.failed() => Err(Stop::Failed(Failure::Internal(failure.to_string()))),
    };
    let metrics = cluster.collectors.first().map(|collector| collector.metrics().clone()).unwrap_or_default();
    let outcome = match played {
        Err(Stop::Closed) => Ok(()),
        Err(Stop::Failed(failure)) => Err(failure),
        Ok((files, progress)) => {
            let summary = Summary {
                files: &files,
                metrics: &metrics,
                progress: &progress,
                hops: &cluster.seams.latencies.snapshot(),
                took: (begun.elapsed(), processor_time()),
            };
            if !arguments.quiet {
                let _ = io::stderr().write_all(summary.text().as_bytes());
            }
            verdict(&files, summary.metrics.counters().records.load(Relaxed))
        }
    };
    cluster.shutdown().await;
    outcome
}

fn usage(faults: Vec<Fault>) -> Failure {
    Failure::Usage(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// The job with a single series, for runs that need none.
const CHEAPEST_JOB: &str = "high_count_network_events";

/// The jobs and rules that the arguments leave.
fn select(arguments: &ReplayArguments, config: &Config) -> Result<(Vec<Job>, Vec<Rule>), Failure> {
    let mut jobs = jobs::load(&config.detector, arguments.bucket_span.0).map_err(usage)?;
    let mut rules = rules::load(&config.detector).map_err(usage)?;
    if let Some(unknown) = arguments.jobs.iter().find(|name| jobs.iter().all(|job| job.id != **name)) {
        let known: Vec<_> = jobs.iter().map(|job| job.id.as_str()).collect();
        return Err(Failure::Usage(format!("there is no job {unknown:?}; expected one of {}", known.join(", "))));
    }
    // Who asks for what was counted asks for no baselines: they would take most of the time and memory.
    let counted_only = matches!(arguments.emit, Emit::Windows | Emit::Flows) && arguments.jobs.is_empty();
    let chosen = if counted_only { vec![CHEAPEST_JOB.to_owned()] } else { arguments.jobs.clone() };
    if !chosen.is_empty() {
        jobs.retain(|job| chosen.contains(&job.id));
        rules.iter_mut().for_each(|rule| rule.jobs.retain(|id| chosen.contains(id)));
        // Of a rule that has lost all its jobs nothing is left; but one rule there must be.
        let asked = rules.clone();
        rules.retain(|rule| !rule.jobs.is_empty());
        if rules.is_empty() {
            rules.extend(asked.into_iter().take(1).map(|rule| Rule { jobs: chosen.clone(), ..rule }));
        }
    }
    if let Some(threshold) = arguments.threshold {
        rules.iter_mut().for_each(|rule| rule.threshold = threshold);
    }
    Ok((jobs, rules))
}

/// Reads everything, waits for everything to be found, prints it.
async fn play(
    arguments: &ReplayArguments,
    paths: &[PathBuf],
    tapped: Option<mpsc::Receiver<Vec<FlowRecord>>>,
    cluster: &mut Cluster,
) -> Result<(Arc<[FileReport]>, Progress), Stop> {
    let mut output = Output::default();
    let Some(collector) = cluster.collectors.first().cloned() else {
        return Err(Failure::Internal("no collector".into()).into());
    };
    let reading = async {
        if let Some(records) = tapped {
            flows(arguments, records, &mut output).await?;
        }
        Ok::<_, Stop>(collector.finished().await)
    };
    let files = with_bar(paths, &collector, reading).await?;
    for error in files.iter().filter_map(|file| file.error.as_ref()) {
        let _ = writeln!(io::stderr(), "spikewatch: {error}");
    }
    let end = cluster.seams.clock.now_ms();
    cluster.settle(end).await?;
    // What the cap cut, or what was found last, is for the executions after the last bucket.
    let look_back = Rule::built_in().map_err(Failure::internal)?.iter().map(Rule::look_back_ms).max().unwrap_or(0);
    cluster.results.execute(end.saturating_add(look_back)).await?;
    let progress = cluster.settle(end).await?;
    print(arguments, cluster, &mut output).await?;
    output.flush()?;
    Ok((files, progress))
}

async fn flows(
    arguments: &ReplayArguments,
    mut records: mpsc::Receiver<Vec<FlowRecord>>,
    output: &mut Output,
) -> Result<(), Stop> {
    while let Some(batch) = records.recv().await {
        for record in &batch {
            output.document(&documents::flow(&arguments.site, record))?;
        }
        if records.is_empty() {
            output.flush()?;
        }
    }
    Ok(())
}

async fn print(arguments: &ReplayArguments, cluster: &mut Cluster, output: &mut Output) -> Result<(), Stop> {
    let results = &mut cluster.results;
    match arguments.emit {
        Emit::Flows => {}
        Emit::Alerts => {
            let mut alerts = std::pin::pin!(results.alerts(false, arguments.form.into()).await?);
            while let Some(alert) = alerts.try_next().await? {
                output.line(&alert.document)?;
            }
        }
        Emit::Records => {
            let mut records = std::pin::pin!(results.records(arguments.jobs.clone()).await?);
            while let Some(record) = records.try_next().await? {
                let record = AnomalyRecord::try_from(record).map_err(Failure::internal)?;
                output.document(&documents::record(&record))?;
            }
        }
        Emit::Windows => {
            let mut pages = std::pin::pin!(results.windows().await?);
            while let Some(page) = pages.try_next().await? {
                for window in documents::rows(&page).map_err(Failure::internal)? {
                    output.document(&window)?;
                }
            }
        }
    }
    Ok(())
}

/// Shows how much is read, while a person watches.
async fn with_bar<T>(paths: &[PathBuf], collector: &spikewatch_collector::Handle, work: impl Future<Output = T>) -> T {
    if !io::stderr().is_terminal() {
        return work.await;
    }
    let sizes: Option<u64> =
        paths.iter().map(|path| path.metadata().ok().filter(|m| m.is_file()).map(|m| m.len())).sum();
    let bar = sizes.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = match sizes {
        Some(_) => "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left  {msg}",
        None => "{spinner} {bytes}, {bytes_per_sec}  {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let mut ticks = tokio::time::interval(TICK);
    let mut work = std::pin::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = ticks.tick() => {
                let counters = collector.metrics().counters();
                bar.set_position(counters.bytes_read.load(Relaxed));
                bar.set_message(crate::human::plural(counters.records.load(Relaxed), "record"));
            }
        }
    };
    bar.finish_and_clear();
    done
}

/// The exit code: a file that could not be read is told even if the others were fine.
fn verdict(files: &[FileReport], records: u64) -> Outcome {
    let unread = files.iter().filter(|file| file.error.as_ref().is_some_and(FileError::is_io)).count() as u64;
    if unread > 0 {
        return Err(Failure::Io(format!("{} could not be read", crate::human::plural(unread, "file"))));
    }
    if records > 0 {
        return Ok(());
    }
    let expected = "expected packets (pcap, pcapng), NetFlow, IPFIX, sFlow, ECS documents or Zeek conn logs";
    Err(Failure::NoInput(format!(
        "no usable input: no flow record in {}; {expected}",
        match files {
            [file] => file.name.clone(),
            files => crate::human::plural(files.len() as u64, "file"),
        }
    )))
}
