//! `collectors`: the roster of a running cluster, and taking a collector out of it.

use std::io::Write;

use clap::{Args, Subcommand};
use spikewatch_proto::v1::{self, roster_client::RosterClient};

use crate::{config::text::Endpoint, failure::Failure, leader};

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
    match arguments.action {
        CollectorsAction::List => {
            let list = async |channel| RosterClient::new(channel).list_collectors(v1::CollectorsQuery {}).await;
            let collectors = leader::ask(arguments.detector, list).await?.into_inner().collectors;
            print(&collectors, out).map_err(|error| Failure::Io(format!("can't print: {error}")))
        }
        CollectorsAction::Retire { collector } => {
            let Some((site, name)) = collector.split_once('/') else {
                return Err(Failure::Usage(format!("{collector:?} is no collector: expected SITE/NAME")));
            };
            let request = v1::RetireRequest { site: site.to_owned(), collector: name.to_owned() };
            let retire = |channel| {
                let request = request.clone();
                async move { RosterClient::new(channel).retire_collector(request).await }
            };
            leader::ask(arguments.detector, retire).await.map(|_| ())
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
