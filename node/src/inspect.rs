//! `inspect`: looks into what a role keeps, and changes nothing. Here is a detector's store; a collector's spool is beside.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use spikewatch_detector::store::inspect::{self, Report};

use crate::{
    failure::{Failure, Outcome},
    human,
    inspect_spool::{self, SpoolArguments},
};

/// `inspect`
#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    #[command(subcommand)]
    pub(crate) subject: Subject,
}

/// What is looked into.
#[derive(Debug, Subcommand)]
pub(crate) enum Subject {
    /// A detector's store: what is committed, by whom, how far
    Store(StoreArguments),
    /// A collector's spool: what it holds, for whom, what is damaged
    Spool(SpoolArguments),
}

/// `inspect store`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StoreArguments {
    /// Address of the store, as detector.store has it; a path is one of SQLite.
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// The newest buckets of the commit log.
    #[arg(long)]
    pub(crate) buckets: bool,
    /// The roster of collectors.
    #[arg(long)]
    pub(crate) members: bool,
    /// How far each shard is.
    #[arg(long)]
    pub(crate) shards: bool,
    /// The newest alerts.
    #[arg(long)]
    pub(crate) alerts: bool,
    /// Everything, as one JSON document.
    #[arg(long, conflicts_with_all = ["buckets", "members", "shards", "alerts"])]
    pub(crate) json: bool,
    /// Most buckets and alerts that are shown.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: u32,
}

const EXAMPLES: &str = "\
The store is only read, also while a detector runs on it.

Examples:
  What is in there?                   spikewatch inspect store spikewatch.db
  Which collectors count, how far?    spikewatch inspect store --members --shards postgres://spikewatch@db/spikewatch
  For a script:                       spikewatch inspect store --json spikewatch.db | jq .kept";

/// Prints what was asked for.
///
/// # Errors
/// It can't be read, or standard output can't be written.
pub(crate) async fn run(arguments: &InspectArguments) -> Outcome {
    let text = match &arguments.subject {
        Subject::Store(arguments) => store(arguments).await?,
        Subject::Spool(arguments) => inspect_spool::text(arguments)?.into_bytes(),
    };
    match io::stdout().write_all(&text).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Io(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

async fn store(arguments: &StoreArguments) -> Result<Vec<u8>, Failure> {
    let url = if arguments.url.contains(':') { arguments.url.clone() } else { format!("sqlite://{}", arguments.url) };
    let report = inspect::inspect(&url, arguments.limit).await.map_err(|error| Failure::Io(error.to_string()))?;
    let mut text = Vec::new();
    write(&mut text, arguments, &report).map_err(Failure::internal)?;
    Ok(text)
}

fn write(out: &mut impl Write, arguments: &StoreArguments, report: &Report) -> io::Result<()> {
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, report)?;
        return writeln!(out);
    }
    let StoreArguments { buckets, members, shards, alerts, .. } = *arguments;
    if !(buckets || members || shards || alerts) {
        overview(out, report)?;
    }
    if shards {
        let head = ["shard", "epoch", "owner", "commits", "last bucket", "windows", "corrections", "pairs"];
        table(out, &head, report.shards.iter().map(shard_row))?;
    }
    if members {
        let head = ["site", "collector", "incarnation", "last bucket", "last heard", "state"];
        table(out, &head, report.members.iter().map(member_row))?;
    }
    if buckets {
        let head = ["bucket", "windows", "corrections", "bytes", "bytes a window", "collectors missing"];
        table(out, &head, report.buckets.iter().map(bucket_row))?;
    }
    if alerts {
        table(out, &["bucket", "score", "version", "rule", "reason"], report.alerts.iter().map(alert_row))?;
    }
    Ok(())
}

fn shard_row(shard: &inspect::Shard) -> Vec<String> {
    let bucket = shard.bucket.map_or_else(|| "none".to_owned(), human::rfc3339);
    let counts = [shard.commits, shard.windows, shard.corrections, shard.pairs].map(human::count);
    let [commits, windows, corrections, pairs] = counts;
    let (number, epoch) = (shard.shard.to_string(), shard.epoch.to_string());
    vec![number, epoch, shard.owner.clone(), commits, bucket, windows, corrections, pairs]
}

fn member_row(member: &inspect::Member) -> Vec<String> {
    let state = match (member.retired, member.absent) {
        (true, _) => "retired",
        (false, true) => "absent",
        (false, false) => "counts",
    };
    let (id, last) = (member.incarnation.chars().take(8).collect(), human::rfc3339(member.last_bucket));
    vec![member.site.clone(), member.collector.clone(), id, last, time(member.last_heard_ms), state.into()]
}

fn bucket_row(bucket: &inspect::Bucket) -> Vec<String> {
    let each = bucket.bytes as f64 / (bucket.windows + bucket.corrections).max(1) as f64;
    let [windows, corrections, bytes] = [bucket.windows, bucket.corrections, bucket.bytes].map(human::count);
    let missing = human::count(bucket.missing);
    vec![human::rfc3339(bucket.bucket), windows, corrections, bytes, format!("{each:.1}"), missing]
}

fn alert_row(alert: &inspect::AlertLine) -> Vec<String> {
    let (score, version) = (format!("{:.0}", alert.score), alert.version.to_string());
    vec![human::rfc3339(alert.bucket), score, version, alert.rule.clone(), alert.reason.clone()]
}

fn overview(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let total = |of: fn(&inspect::Shard) -> u64| human::count(report.shards.iter().map(of).sum());
    let open = report.shards.iter().filter(|shard| shard.epoch > 0).count() as u64;
    let frontier = report.shards.iter().map(|shard| shard.bucket).min().flatten();
    let counting = report.members.iter().filter(|member| !member.retired).count() as u64;
    let holder = if report.holder.is_empty() { "nobody since" } else { &report.holder };
    let bucket = human::duration(std::time::Duration::from_secs(report.bucket_seconds.into()));
    let kept = report.kept;
    let lines = [
        ("database", format!("{}, schema {}", report.database, report.schema)),
        ("made for", format!("{} of {bucket} buckets", human::plural(report.shard_count.into(), "shard"))),
        ("term", format!("{}, held by {holder}", human::count(report.term))),
        ("assignment", human::count(report.assignment)),
        ("opened", human::plural(open, "shard")),
        ("committed", format!("up to {}", frontier.map_or_else(|| "none".to_owned(), human::rfc3339))),
        ("scored", format!("up to {}", report.scored.map_or_else(|| "none".to_owned(), human::rfc3339))),
        (
            "counted",
            format!(
                "{} windows, {} corrections in {} commits",
                total(|s| s.windows),
                total(|s| s.corrections),
                total(|s| s.commits)
            ),
        ),
        ("commit log", format!("{}, {} bytes", human::plural(kept.log, "row"), human::count(kept.log_bytes))),
        ("collectors", format!("{counting} count, {} retired", report.members.len() as u64 - counting)),
        ("records", human::count(kept.records)),
        ("alerts", format!("{}, {} on their way to a sink", human::count(kept.alerts), human::count(kept.outbox))),
        ("executions", human::count(kept.executions)),
        ("snapshots", human::count(kept.snapshots)),
    ];
    for (name, value) in lines {
        writeln!(out, "{name:<12} {value}")?;
    }
    for lineage in &report.lineages {
        let (id, began) = (lineage.id.get(..8).unwrap_or_default(), time(lineage.began_ms));
        writeln!(out, "{:<12} {id} since {began}: {}", "lineage", lineage.reason)?;
    }
    Ok(())
}

fn time(millis: u64) -> String {
    if millis == 0 { "unknown".to_owned() } else { human::rfc3339(millis) }
}

/// Columns as wide as their widest cell; the last one has no end.
fn table(out: &mut impl Write, head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> io::Result<()> {
    let mut all = vec![head.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()];
    all.extend(rows);
    let wide = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| wide(column).unwrap_or(0)).collect();
    for row in &all {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>();
        writeln!(out, "{}", padded.join("  ").trim_end())?;
    }
    if all.len() == 1 {
        writeln!(out, "(none)")?;
    }
    Ok(())
}
