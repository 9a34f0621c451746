//! `collectors`: the roster of a running cluster, and taking a collector out of it.

use std::{io::Write, time::Duration};

use clap::{Args, Subcommand};
use spikewatch_proto::{
    LEADER_METADATA,
    v1::{self, roster_client::RosterClient},
};
use tonic::{Status, transport::Channel};

use crate::{config::text::Endpoint, failure::Failure};

/// A detector answers at once, or not at all.
const CONNECT: Duration = Duration::from_secs(10);

/// `collectors`
#[derive(Debug, Clone, Args)]
pub(crate) struct CollectorsArguments {
    #[command(subcommand)]
    pub(crate) action: CollectorsAction,
    /// Any detector of the cluster.
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:7433")]
    pub(crate) detector: Endpoint,
}

/// What is done with the roster.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum CollectorsAction {
    /// Print all collectors: what each vouches for, and which are silent or retired
    List,
    /// Take one out that won't come back, so that its site is complete without it
    #[command(after_help = "Example:\n  spikewatch collectors retire berlin/edge-2 --detector http://centre:7433")]
    Retire {
        /// Which: SITE/NAME, as the list has it.
        #[arg(value_name = "SITE/NAME")]
        collector: String,
    },
}

/// Asks the detector that leads, wherever it is.
///
/// # Errors
/// No detector answers, or there is no such collector.
pub(crate) async fn run(arguments: CollectorsArguments, out: &mut impl Write) -> Result<(), Failure> {
    let mut detector = arguments.detector;
    // A standby knows the leader; a second one would, too.
    for _ in 0..3 {
        match ask(&detector, &arguments.action, out).await? {
            Ok(()) => return Ok(()),
            Err(status) => match leader(&status) {
                Some(leader) => detector = leader,
                None if status.code() == tonic::Code::NotFound => {
                    return Err(Failure::Usage(status.message().to_owned()));
                }
                None => return Err(Failure::Io(format!("{detector} answered: {}", status.message()))),
            },
        }
    }
    Err(Failure::Io("no detector leads".into()))
}

fn leader(status: &Status) -> Option<Endpoint> {
    status.metadata().get(LEADER_METADATA)?.to_str().ok()?.parse().ok()
}

async fn ask(
    detector: &Endpoint,
    action: &CollectorsAction,
    out: &mut impl Write,
) -> Result<Result<(), Status>, Failure> {
    let failed = |error: tonic::transport::Error| Failure::Io(format!("{detector} doesn't answer: {error}"));
    let endpoint = Channel::from_shared(detector.url().to_owned()).map_err(Failure::internal)?;
    let channel = endpoint.connect_timeout(CONNECT).connect().await.map_err(failed)?;
    let mut client = RosterClient::new(channel);
    match action {
        CollectorsAction::List => {
            let collectors = match client.list_collectors(v1::CollectorsQuery {}).await {
                Ok(answer) => answer.into_inner().collectors,
                Err(status) => return Ok(Err(status)),
            };
            print(&collectors, out).map_err(|error| Failure::Io(format!("can't print: {error}")))?;
            Ok(Ok(()))
        }
        CollectorsAction::Retire { collector } => {
            let Some((site, name)) = collector.split_once('/') else {
                return Err(Failure::Usage(format!("{collector:?} is no collector: expected SITE/NAME")));
            };
            let request = v1::RetireRequest { site: site.to_owned(), collector: name.to_owned() };
            Ok(client.retire_collector(request).await.map(|_| ()))
        }
    }
}

fn print(collectors: &[v1::CollectorState], out: &mut impl Write) -> std::io::Result<()> {
    let time = |ms: u64| match i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
        Some(time) if ms > 0 => format!("{time:.0}"),
        _ => "-".to_owned(),
    };
    writeln!(out, "{:<32} {:<9} {:<21} LAST HEARD", "COLLECTOR", "STATE", "LAST BUCKET")?;
    for collector in collectors {
        let state = match (collector.retired, collector.silent) {
            (true, _) => "retired",
            (false, true) => "silent",
            (false, false) => "present",
        };
        let name = format!("{}/{}", collector.site, collector.collector);
        let (bucket, heard) = (time(collector.last_bucket_start_ms), time(collector.last_heard_ms));
        writeln!(out, "{name:<32} {state:<9} {bucket:<21} {heard}")?;
    }
    Ok(())
}
