//! What each command does, from its arguments to its exit code.

use std::{
    collections::BTreeMap,
    env,
    io::{self, Write as _},
    time::Duration,
};

use spikewatch_actors::Seams;
use spikewatch_detector::store::without_password;
use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};

use crate::{
    cli::{ConfigAction, ConfigArguments, ConfigOptions, DemoArguments, NodeArguments, ReplayArguments},
    collectors::{self, CollectorsArguments},
    config::{
        Config, Telemetry as TelemetryOptions,
        check::Roles,
        layers::{self, Setting},
    },
    demo_command,
    failure::{Failure, Outcome},
    inspect::{self, InspectArguments},
    replay,
    roles::{self, Role},
    rules::{self, RulesArguments},
    score::{self, ScoreArguments},
    signals::Signals,
    telemetry::Telemetry,
};

/// Threads that block (file sources, the demo's generator) are left behind after this.
const LEFT_BEHIND: Duration = Duration::from_millis(500);

/// `demo`
///
/// # Errors
/// A part of the pipeline fails.
pub(crate) fn demo(arguments: &DemoArguments) -> Outcome {
    let telemetry = Setting { key: "telemetry.log".into(), value: arguments.log.to_string() };
    let config = layers::load(&[], None, environment(), &[telemetry], Roles::NONE);
    let config = config.map_err(|faults| Failure::Usage(faults.to_string()))?;
    with_telemetry(&config.telemetry, &config.node.name, async |telemetry| {
        demo_command::run(arguments, telemetry).await
    })
}

/// `run`, `collector`, `aggregator`, `detector`
///
/// # Errors
/// Wrong configuration, a port or file that can't be had, a role that fails.
pub(crate) fn run(arguments: &NodeArguments, roles: &[Role]) -> Outcome {
    let config = configuration(&[], &arguments.config, Roles::of(roles))?;
    if arguments.dump_config {
        return dump(&config);
    }
    with_telemetry(&config.telemetry, &config.node.name, async |telemetry| node(&config, roles, telemetry).await)
}

/// `replay`
///
/// # Errors
/// As its help says.
pub(crate) fn replay(arguments: &ReplayArguments) -> Outcome {
    // What there is to say of the input is in the summary.
    let quiet = Setting { key: "telemetry.log".into(), value: "error".into() };
    let config = configuration(&[quiet], &arguments.config, Roles::NONE)?;
    with_telemetry(&config.telemetry, &config.node.name, async |telemetry| {
        replay::run(arguments, &config, telemetry).await
    })
}

/// `score`
///
/// # Errors
/// As its help says.
pub(crate) fn score(arguments: ScoreArguments) -> Outcome {
    score::run(arguments).map_err(|error| match error.exit_code() {
        65 => Failure::NoInput(error.to_string()),
        _ => Failure::Io(error.to_string()),
    })
}

/// `inspect`
///
/// # Errors
/// What is asked for can't be read.
pub(crate) fn inspect(arguments: &InspectArguments) -> Outcome {
    runtime()?.block_on(inspect::run(arguments))
}

/// `collectors`
///
/// # Errors
/// No detector answers, or there is no such collector.
pub(crate) fn collectors(arguments: CollectorsArguments) -> Outcome {
    let mut out = Vec::new();
    runtime()?.block_on(collectors::run(arguments, &mut out))?;
    print(&String::from_utf8_lossy(&out))
}

/// `rules`
///
/// # Errors
/// No detector answers, or there is no such rule.
pub(crate) fn rules(arguments: RulesArguments) -> Outcome {
    let mut out = Vec::new();
    runtime()?.block_on(rules::run(arguments, &mut out))?;
    print(&String::from_utf8_lossy(&out))
}

/// `config`
///
/// # Errors
/// The configuration has faults.
pub(crate) fn config(arguments: &ConfigArguments) -> Outcome {
    match &arguments.action {
        ConfigAction::Check(options) => {
            configuration(&[], options, Roles::ALL)?;
            print("OK\n")
        }
        ConfigAction::Dump(options) => dump(&configuration(&[], options, Roles::ALL)?),
    }
}

fn configuration(base: &[Setting], options: &ConfigOptions, roles: Roles) -> Result<Config, Failure> {
    let loaded = layers::load(base, options.config.as_deref(), environment(), &options.flags(), roles);
    loaded.map_err(|faults| {
        let count = faults.0.len();
        let noun = if count == 1 { "fault" } else { "faults" };
        Failure::Usage(format!("{count} {noun} in the configuration:\n{faults}"))
    })
}

fn environment() -> impl Iterator<Item = (String, String)> {
    // What is no text becomes a fault of its key's, rather than nothing.
    env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// Passwords are left out: a dump is made to be shown.
fn dump(config: &Config) -> Outcome {
    let mut shown = config.clone();
    shown.detector.store = without_password(&config.detector.store);
    print(&toml::to_string(&shown).map_err(Failure::internal)?)
}

fn print(text: &str) -> Outcome {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Io(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Runs a command on a runtime of its own, with telemetry around it, and ends both in time.
fn with_telemetry(options: &TelemetryOptions, node: &str, command: impl AsyncFnOnce(&Telemetry) -> Outcome) -> Outcome {
    let runtime = runtime()?;
    let telemetry = runtime.block_on(async { Telemetry::start(options, node) })?;
    let outcome = runtime.block_on(command(&telemetry));
    // Blocks this thread while the runtime's send what is left.
    telemetry.shutdown();
    runtime.shutdown_timeout(LEFT_BEHIND);
    outcome
}

fn runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Io(format!("can't start threads: {error}")))
}

/// Ends the roles in the order in which traffic passes them, so that each can hand on what it has; the time that one does
/// not need is the others'.
async fn end(node: &Seams, of_roles: &BTreeMap<Role, Seams>, deadline: Duration) {
    let end = Instant::now() + deadline;
    let mut left = u32::try_from(of_roles.len()).unwrap_or(u32::MAX);
    let names = of_roles.iter().rev().map(|(role, seams)| (role.name(), seams));
    for (name, seams) in names.chain([("node", node)]) {
        let deadline = end.saturating_duration_since(Instant::now()) / left.max(1);
        left = left.saturating_sub(1);
        let report = seams.tasks.shutdown(deadline).await;
        tracing::info!(part = name, finished = report.finished, aborted = ?report.aborted, "stopped");
    }
}

/// Starts roles, and ends them when asked to or when one fails.
async fn node(config: &Config, which: &[Role], telemetry: &Telemetry) -> Outcome {
    let seams = Seams::system();
    let mut signals = Signals::watch().map_err(|error| Failure::Io(format!("can't watch signals: {error}")))?;
    let of_roles: BTreeMap<_, _> = which.iter().map(|role| (*role, seams.group())).collect();
    let serve = async {
        roles::start(config, which, telemetry, &seams, &of_roles).await?;
        Err(Failure::Internal(seams.tasks.failed().await.to_string()))
    };
    let outcome = tokio::select! {
        failed = serve => failed,
        () = signals.received() => Ok(()),
    };
    tracing::info!("draining; a second signal ends at once");
    let deadline = config.node.shutdown_deadline.0.0;
    signals.or_abort(end(&seams, &of_roles, deadline)).await;
    outcome
}
