//! The command line: what can be asked of the program, and the help that a person learns it from.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use spikewatch_domain::{key::SiteName, network::Network};
use spikewatch_proto::v1;

use crate::{
    collectors::CollectorsArguments,
    config::{
        Format,
        layers::Setting,
        text::{LogFilter, Slot},
    },
    failure::Outcome,
    inspect::InspectArguments,
    rules::RulesArguments,
    score::ScoreArguments,
};

/// Finds abnormal spikes in network traffic.
///
/// Spikewatch learns what is normal for every host at every hour, from what a site already exports (NetFlow, IPFIX,
/// sFlow, packets, Elastic and Zeek documents), and says within minutes which host just sent or received far more than it
/// ever does, why that is surprising, and who is on the other end.
#[derive(Debug, Parser)]
#[command(name = "spikewatch", version, after_help = EXAMPLES, after_long_help = LONG, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  See it work, in under a minute:              spikewatch demo --exit
  What is in these captures?                   spikewatch replay monday.pcap.gz tuesday.pcap.gz
  Watch what exporters send to this machine:   spikewatch run

Each command has examples of its own: spikewatch help COMMAND";

const LONG: &str = "\
Examples:
  See it work, in under a minute:              spikewatch demo --exit
  What is in these captures?                   spikewatch replay monday.pcap.gz tuesday.pcap.gz
  Watch what exporters send to this machine:   spikewatch run

Each command has examples of its own: spikewatch help COMMAND

Exit codes:
  0   done
  64  wrong usage or configuration; nothing was started
  65  no usable input
  70  the program failed by itself (please report it)
  74  a file could not be read or written, or a port could not be had";

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Play two sites with 200 hosts and five staged incidents, and find them
    Demo(DemoArguments),
    /// Run everything in one process: collector, aggregator, detector
    Run(NodeArguments),
    /// Run a collector: takes what a site exports, sends summaries to aggregators
    Collector(NodeArguments),
    /// Run an aggregator: merges what collectors send, forwards it to the detector
    Aggregator(NodeArguments),
    /// Run the detector: learns, scores, alerts
    Detector(NodeArguments),
    /// Put files through the whole pipeline and print what it finds
    Replay(ReplayArguments),
    /// Score the values of a CSV
    Score(ScoreArguments),
    /// Look into a detector's store or a collector's spool
    Inspect(InspectArguments),
    /// List the collectors that buckets wait for, or take one out
    Collectors(CollectorsArguments),
    /// List rules and their executions, or run one over past buckets
    Rules(RulesArguments),
    /// Check a configuration, or show what is in effect
    Config(ConfigArguments),
}

/// Where configuration comes from.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConfigOptions {
    /// Configuration file, TOML.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One value, over file and environment, as --set telemetry.log=debug; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) settings: Vec<Setting>,
    /// What is logged on standard error: off, error, warn, info, debug, trace, or module=level,…
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<LogFilter>,
}

impl ConfigOptions {
    /// All values given by flags.
    #[must_use]
    pub(crate) fn flags(&self) -> Vec<Setting> {
        let log = self.log.iter().map(|log| Setting { key: "telemetry.log".into(), value: log.to_string() });
        self.settings.iter().cloned().chain(log).collect()
    }
}

/// `run`, `collector`, `aggregator`, `detector`
#[derive(Debug, Clone, Args)]
#[command(after_help = NODE_EXAMPLES)]
pub(crate) struct NodeArguments {
    #[command(flatten)]
    pub(crate) config: ConfigOptions,
    /// Print the configuration in effect and exit.
    #[arg(long)]
    pub(crate) dump_config: bool,
}

const NODE_EXAMPLES: &str = "\
Examples:
  All roles with their defaults. NetFlow and IPFIX are taken on 127.0.0.1:2055 and :4739, sFlow on :6343;
  what is learnt is kept in ./spikewatch.db:
    spikewatch run

  The same for exporters elsewhere, by the environment instead of a file:
    SPIKEWATCH__COLLECTOR__SITE=berlin \\
    SPIKEWATCH__COLLECTOR__SOURCES='[{kind = \"netflow\", listen = \"0.0.0.0:2055\"}]' spikewatch run

  Three machines, one role each:
    spikewatch detector   --set detector.listen=0.0.0.0:7433
    spikewatch aggregator --set aggregator.listen=0.0.0.0:7432 --set aggregator.detector=http://centre:7433
    spikewatch collector  --set collector.aggregators=http://middle:7432 --config edge.toml

  All keys, with the values in effect:
    spikewatch run --dump-config

SIGTERM and Ctrl-C drain what is open, within node.shutdown_deadline; a second one ends at once.
Health: every port answers grpc.health.v1.Health and gRPC reflection.";

/// `config`
#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    #[command(subcommand)]
    pub(crate) action: ConfigAction,
}

/// What is done with a configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// Say OK, or list everything that is wrong with it
    #[command(after_help = "Example:\n  spikewatch config check --config /etc/spikewatch/spikewatch.toml")]
    Check(ConfigOptions),
    /// Print it, with every default filled in, as TOML
    #[command(after_help = "Example, a file to start from:\n  spikewatch config dump > spikewatch.toml")]
    Dump(ConfigOptions),
}

/// `demo`
#[derive(Debug, Clone, Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub(crate) struct DemoArguments {
    /// Stop after the summary, instead of going on with live traffic.
    #[arg(long)]
    pub(crate) exit: bool,
    /// Which hosts, habits and incidents are drawn.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// What is logged on standard error.
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub(crate) log: LogFilter,
}

const DEMO_EXAMPLES: &str = "\
A built-in generator plays 15 days of two offices as real NetFlow v9, IPFIX and sFlow datagrams into two
collectors. Near the end five incidents are staged: a flood, an exfiltration by night, a port scan, a host scan,
and a large backup that is within its habit and must not alert. Nothing is written outside a temporary folder.

Examples:
  Fifteen days, then the summary:           spikewatch demo --exit
  Other hosts, other incidents:             spikewatch demo --exit --seed 7";

/// `replay`
#[derive(Debug, Clone, Args)]
#[command(after_help = REPLAY_EXAMPLES)]
pub(crate) struct ReplayArguments {
    /// Files; several are merged by time, - is standard input. gzip and zstd are read through.
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// What the files hold.
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    pub(crate) format: Format,
    /// What is printed, one JSON document a line.
    #[arg(long, value_enum, default_value_t = Emit::Alerts)]
    pub(crate) emit: Emit,
    /// Length of a bucket: what is counted, scored and printed together.
    #[arg(long, value_name = "DURATION", default_value = "15m")]
    pub(crate) bucket_span: Slot,
    /// How alerts are written.
    #[arg(long, value_enum, default_value_t = Form::Ecs)]
    pub(crate) form: Form,
    /// Least record score that makes an alert, 0 to 100; the rules' own if not given.
    #[arg(long, value_name = "SCORE", value_parser = score)]
    pub(crate) threshold: Option<f64>,
    /// A network whose addresses are hosts, as 10.0.0.0/8; may be repeated. Default: the private networks.
    #[arg(long, value_name = "CIDR")]
    pub(crate) internal: Vec<Network>,
    /// Only this job; may be repeated.
    #[arg(long = "job", value_name = "NAME")]
    pub(crate) jobs: Vec<String>,
    /// The site that the traffic belongs to.
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) site: SiteName,
    /// Don't print the summary on standard error.
    #[arg(long, short)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) config: ConfigOptions,
}

/// What `replay` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Emit {
    /// What a person should look at.
    Alerts,
    /// What the jobs found unusual, whether or not it makes an alert.
    Records,
    /// What was counted: one document per host and bucket, and one per site and bucket.
    Windows,
    /// What was decoded: one document per flow.
    Flows,
}

/// How alerts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Elastic Common Schema, with the anomaly under spikewatch.*
    Ecs,
    /// The same with kibana.alert.*, as the alerts of Kibana's detection rules have it
    Kibana,
}

impl From<Form> for v1::Form {
    fn from(form: Form) -> Self {
        match form {
            Form::Ecs => Self::Ecs,
            Form::Kibana => Self::Kibana,
        }
    }
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  Alerts of a month of NetFlow captures, a line each:
    spikewatch replay --internal 192.0.2.0/24 nfcapd-*.pcap.zst | jq -r .message

  Who talks most, by the minute?
    spikewatch replay --emit windows --bucket-span 1m office.pcap |
      jq -r 'select(.dimension == \"host\") | [.bucket_start, .value, .bytes_out] | @tsv'

  What did the decoder make of it?
    spikewatch replay --emit flows office.pcap | head

  Zeek from standard input:
    zcat conn.*.log.gz | spikewatch replay --emit records -

Alerts need history: a series is judged after 96 buckets (a day of 15-minute buckets), and well after a week.
Packets that carry NetFlow, IPFIX or sFlow (UDP 2055, 4739, 6343 and others) are read as such; --format pcap forbids it.
Same input, same output, byte for byte. The event clock is the traffic's own.";

fn score(text: &str) -> Result<f64, String> {
    let range = 0.0..=100.0;
    text.parse().ok().filter(|score| range.contains(score)).ok_or_else(|| format!("{text:?} is no score from 0 to 100"))
}

/// Reads the command line.
///
/// # Errors
/// The exit code, when help was asked for (0) or the usage is wrong (64); what there was to say has been said.
pub(crate) fn parse() -> Result<Command, ExitCode> {
    match Cli::try_parse() {
        Ok(cli) => Ok(cli.command),
        Err(error) => {
            let printed = error.print();
            Err(match printed {
                _ if error.use_stderr() => ExitCode::from(64),
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(74),
                _ => ExitCode::SUCCESS,
            })
        }
    }
}

/// Says what went wrong, if anything did, and makes the exit code of it.
#[must_use]
pub(crate) fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "spikewatch: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
