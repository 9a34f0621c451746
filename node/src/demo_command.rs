//! `spikewatch demo`: the built-in traffic through the whole pipeline, alerts as they come, and an honest account at the
//! end of what was staged, what was found, and what else was alerted.

mod account;
mod show;

use std::{
    convert::Infallible,
    io::{self, Write as _},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use futures_util::TryStreamExt as _;
use spikewatch_actors::task::{Kind, Tasks};
use spikewatch_collector::{Datagram, SourceOptions, log::ecs::EcsOptions, networks::InternalNetworks};
use spikewatch_detector::calendar::Calendars;
use spikewatch_domain::span::Span;
use spikewatch_proto::{
    convert::results::Alert,
    v1::{self, Progress},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use self::{account::Account, show::Screen};
use crate::{
    cli::DemoArguments,
    cluster::{Cluster, Plan, Site},
    config::Collector,
    demo::Scenario,
    failure::{Failure, Outcome},
    human::{count, duration, plural, processor_time},
    replay::summary::{hops, row},
    results::Results,
    signals::Signals,
    telemetry::Telemetry,
};

/// Datagrams on their way into a collector.
const WAITING: usize = 4_096;
/// Live traffic: event time that passes in a second.
const LIVE_MS_A_SECOND: u64 = 60_000;
/// Buckets beyond the history after which all of it is sealed, late records allowed for.
const SEALED_AFTER_BUCKETS: u64 = 4;

/// Runs the command.
///
/// # Errors
/// A part of the pipeline fails.
pub(crate) async fn run(arguments: &DemoArguments, telemetry: &Telemetry) -> Outcome {
    let begun = Instant::now();
    let mut signals = Signals::watch().map_err(|error| Failure::Io(format!("can't watch signals: {error}")))?;
    let scenario = Scenario::new(arguments.seed);
    let screen = Screen::new();
    screen.heading(&scenario, arguments.seed);
    let (mut senders, mut sites) = (Vec::new(), Vec::new());
    let networks = scenario.internal_networks().iter().map(|network| network.parse()).collect::<Result<Vec<_>, _>>();
    let networks = InternalNetworks::new(networks.map_err(Failure::internal)?);
    for name in scenario.sites() {
        let (sender, receiver) = mpsc::channel(WAITING);
        senders.push(sender);
        sites.push(Site {
            name: name.parse().map_err(Failure::internal)?,
            networks: networks.clone(),
            aliases: Default::default(),
            key_limit: Collector::default().key_limit,
            port_values: Collector::default().port_values,
            places: Default::default(),
            ecs: EcsOptions::default(),
            source: SourceOptions::Channel(receiver),
            tap: None,
        });
    }
    let bucket = Span::QUARTER_HOUR;
    let plan = Plan {
        bucket,
        rules: Vec::new(),
        jobs: Vec::new(),
        calendars: Calendars::default(),
        seed: arguments.seed,
        sites,
    };
    let mut cluster = Cluster::start(plan, telemetry).await?;
    let tasks = cluster.seams.tasks.clone();
    let (alerts, made) = mpsc::unbounded_channel();
    follow(cluster.results.clone(), screen, alerts, &tasks);
    generate(&scenario, senders, arguments.exit, bucket, &tasks);

    let story = async {
        let progress = history(arguments.exit, &scenario, bucket, &mut cluster).await?;
        account(&scenario, &progress, &mut cluster, made, screen, begun).await?;
        if !arguments.exit {
            screen.live(LIVE_MS_A_SECOND / 1_000);
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    let outcome = tokio::select! {
        told = story => told,
        failure = tasks.failed() => Err(Failure::Internal(failure.to_string())),
        () = signals.received() => Ok(()),
    };
    signals.or_abort(cluster.shutdown()).await;
    outcome
}

/// Prints alerts as they are made, and passes them on for the account.
fn follow(mut results: Results, screen: Screen, alerts: mpsc::UnboundedSender<Alert>, tasks: &Tasks) {
    tasks.spawn(Kind::BACKGROUND, "screen", async move {
        let mut made = std::pin::pin!(results.alerts(true, v1::Form::Ecs).await?);
        while let Some(alert) = made.try_next().await? {
            let alert = Alert::try_from(alert).map_err(Failure::internal)?;
            screen.alert(&alert);
            if alerts.send(alert).is_err() {
                break;
            }
        }
        Ok::<(), Failure>(())
    });
}

/// Plays the history as fast as it is taken, then, unless the demo ends there, live traffic at its pace.
fn generate(scenario: &Scenario, to: Vec<mpsc::Sender<Datagram>>, exit: bool, bucket: Span, tasks: &Tasks) {
    let scenario = scenario.clone();
    let (history, live) = (scenario.history(), scenario.live(scenario.end_ms()));
    let paced_from = scenario.end_ms() + SEALED_AFTER_BUCKETS * bucket.millis();
    let token = tasks.token();
    let runtime = tokio::runtime::Handle::current();
    tasks.spawn_blocking(Kind::BACKGROUND, "generator", move || {
        let begun = std::cell::OnceCell::new();
        let traffic = history.chain(live.take_while(|_| !exit));
        for datagram in traffic {
            if token.is_cancelled() {
                break;
            }
            if let Some(ahead) = datagram.time_ms.checked_sub(paced_from) {
                let begun = *begun.get_or_init(|| runtime.block_on(async { Instant::now() }));
                runtime.block_on(sleep_until(begun + Duration::from_millis(ahead * 1_000 / LIVE_MS_A_SECOND)));
            }
            let Some(site) = to.get(datagram.site) else { continue };
            let crate::demo::Datagram { exporter, time_ms, payload, .. } = datagram;
            if site.blocking_send(Datagram { exporter, time_ms, payload }).is_err() {
                break;
            }
        }
        Ok::<(), Infallible>(())
    });
}

/// Waits until the whole history is scored.
async fn history(exit: bool, scenario: &Scenario, bucket: Span, cluster: &mut Cluster) -> Result<Progress, Failure> {
    if exit {
        for collector in &cluster.collectors {
            collector.finished().await;
        }
        cluster.settle(scenario.end_ms()).await?;
        cluster.results.execute(scenario.end_ms() + 2 * bucket.millis()).await?;
    }
    cluster.settle(scenario.end_ms()).await
}

/// Says what was staged and what was found.
async fn account(
    scenario: &Scenario,
    progress: &Progress,
    cluster: &mut Cluster,
    mut made: mpsc::UnboundedReceiver<Alert>,
    screen: Screen,
    begun: Instant,
) -> Outcome {
    let (wall, processors) = (begun.elapsed(), processor_time());
    let mut alerts = Vec::new();
    while (alerts.len() as u64) < progress.alerts {
        let Some(alert) = made.recv().await else { break };
        alerts.push(alert);
    }
    let account = Account::new(scenario, &alerts);
    screen.account(scenario, &account);
    let total = |field: fn(&spikewatch_collector::metrics::Counters) -> &std::sync::atomic::AtomicU64| {
        cluster.collectors.iter().map(|one| field(one.metrics().counters()).load(Relaxed)).sum::<u64>()
    };
    let (datagrams, records) = (total(|c| &c.datagrams), total(|c| &c.records));
    let mut text = String::new();
    row(&mut text, "played", &format!("{}, {}", plural(datagrams, "datagram"), plural(records, "flow record")));
    row(&mut text, "windows", &count(progress.windows));
    row(&mut text, "series", &count(progress.series));
    row(&mut text, "anomalies", &count(progress.records));
    let rate = records as f64 / wall.as_secs_f64().max(1e-3);
    let speed =
        format!("{}, {} of processor; {} records a second", duration(wall), duration(processors), count(rate as u64));
    row(&mut text, "time", &speed);
    hops(&mut text, &cluster.seams.latencies.snapshot());
    progress.warnings.iter().for_each(|warning| row(&mut text, "warning", warning));
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Io(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}
