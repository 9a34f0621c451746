//! `rules`: the rules of a running cluster, what their executions did, and running one over past buckets.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use spikewatch_actors::clock::Clock;
use spikewatch_proto::v1::{self, execution::Status, rules_client::RulesClient};

use crate::{
    config::text::{Endpoint, Period},
    failure::Failure,
    human, leader,
};

/// `rules`
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RulesArguments {
    #[command(subcommand)]
    pub(crate) action: RulesAction,
    /// Any detector of the cluster.
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:7433")]
    pub(crate) detector: Endpoint,
}

/// What is done with rules.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum RulesAction {
    /// Print all rules: which run, when they last did, and what keeps one from working as meant
    List,
    /// Print what the newest executions did: alerts, what was suppressed, excepted or held back, warnings
    #[command(
        after_help = "Example, of one rule:\n  spikewatch rules executions \"Spike in Network Traffic\" --limit 20"
    )]
    Executions {
        /// Id or name of a rule; all if not given.
        #[arg(value_name = "RULE")]
        rule: Option<String>,
        /// Most executions that are printed.
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Run a rule over past buckets, to make alerts that are missing; what has one gets no other
    #[command(after_help = RUN_EXAMPLES)]
    Run {
        /// Id or name of the rule.
        #[arg(value_name = "RULE")]
        rule: String,
        /// First bucket: a time, a day (UTC), or now-2h.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        from: Moment,
        /// Where it stops, without that bucket.
        #[arg(long, value_name = "TIME", value_parser = moment, default_value = "now")]
        to: Moment,
    },
}

const EXAMPLES: &str = "\
Examples:
  Does everything run?              spikewatch rules list
  What became of the last night?    spikewatch rules executions --limit 200 --detector http://centre:7433
  Make what is missing:             spikewatch rules run \"Spike in Network Traffic\" --from now-1d";

const RUN_EXAMPLES: &str = "\
Examples:
  The last two days, after an exception was taken back:
    spikewatch rules run \"Spike in a Host's Traffic\" --from now-2d
  A night that a gap was recorded for:
    spikewatch rules run \"Spike in Network Traffic\" --from 2026-01-05T01:00:00Z --to 2026-01-05T05:00:00Z";

/// A point in time, or one before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// ms since 1970.
    At(u64),
    /// So many ms before now.
    Ago(u64),
}

impl Moment {
    fn ms(self, now: u64) -> u64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(ms) => now.saturating_sub(ms),
        }
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    let fault = || format!("{text:?} is no time; expected one as 2026-01-05T02:00:00Z, 2026-01-05, now or now-2h");
    if text == "now" {
        return Ok(Moment::Ago(0));
    }
    if let Some(period) = text.strip_prefix("now-") {
        let period: Period = period.parse().map_err(|_| fault())?;
        return Ok(Moment::Ago(u64::try_from(period.0.as_millis()).map_err(|_| fault())?));
    }
    let day = || TimeZone::UTC.to_timestamp(text.parse::<Date>().ok()?.at(0, 0, 0, 0)).ok();
    let time = text.parse::<Timestamp>().ok().or_else(day).ok_or_else(fault)?;
    Ok(Moment::At(u64::try_from(time.as_millisecond()).map_err(|_| fault())?))
}

/// Asks the detector that leads, wherever it is.
///
/// # Errors
/// No detector answers, or there is no such rule.
pub(crate) async fn run(arguments: RulesArguments, out: &mut impl Write) -> Result<(), Failure> {
    let detector = arguments.detector;
    let printed = match arguments.action {
        RulesAction::List => {
            let list = async |channel| RulesClient::new(channel).list_rules(v1::RulesQuery {}).await;
            let rules = leader::ask(detector, list).await?.into_inner().rules;
            rules.iter().try_for_each(|rule| print_rule(rule, out))
        }
        RulesAction::Executions { rule, limit } => {
            let query = v1::ExecutionsQuery { rule: rule.unwrap_or_default(), limit };
            let list = |channel| {
                let query = query.clone();
                async move { RulesClient::new(channel).list_executions(query).await }
            };
            let executions = leader::ask(detector, list).await?.into_inner().executions;
            executions.iter().try_for_each(|execution| print_execution(execution, out))
        }
        RulesAction::Run { rule, from, to } => {
            let now = Clock::system().now_ms();
            let request = v1::RunRequest { rule, from_ms: from.ms(now), to_ms: to.ms(now) };
            let run = |channel| {
                let request = request.clone();
                async move { RulesClient::new(channel).run_rule(request).await }
            };
            print_execution(&leader::ask(detector, run).await?.into_inner(), out)
        }
    };
    printed.map_err(|error| Failure::Io(format!("can't print: {error}")))
}

fn print_rule(rule: &v1::Rule, out: &mut impl Write) -> io::Result<()> {
    let state = match (rule.enabled, rule.warnings.is_empty()) {
        (false, _) => "off",
        (true, true) => "on",
        (true, false) => "on, with warnings",
    };
    writeln!(out, "{} ({state})", rule.name)?;
    let every = Period(std::time::Duration::from_millis(rule.interval_ms));
    let look_back = Period(std::time::Duration::from_millis(rule.look_back_ms));
    writeln!(out, "    id          {}, version {}", rule.id, rule.version)?;
    writeln!(out, "    severity    {}, risk score {}", rule.severity, rule.risk_score)?;
    writeln!(out, "    threshold   {} over {}", rule.threshold, rule.jobs.join(", "))?;
    writeln!(
        out,
        "    schedule    every {every}, back {look_back}, at most {} alerts, {}",
        rule.max_signals,
        human::plural(rule.exceptions.into(), "exception")
    )?;
    if rule.enabled {
        writeln!(out, "    last, next  {}, {}", time(rule.last_ms), time(rule.next_ms))?;
        writeln!(out, "    waiting     {}", human::plural(rule.waiting, "anomaly record"))?;
    }
    rule.warnings.iter().try_for_each(|warning| writeln!(out, "    warning     {warning}"))
}

fn print_execution(done: &v1::Execution, out: &mut impl Write) -> io::Result<()> {
    let status = match done.status() {
        Status::Succeeded => "succeeded",
        Status::PartialFailure => "partial failure",
        Status::Failed => "failed",
    };
    let name = if done.rule_name.is_empty() { &done.rule_id } else { &done.rule_name };
    let manual = if done.manual {
        format!(", by hand over {} to {}", time(done.from_ms), time(done.to_ms))
    } else {
        String::new()
    };
    let counts = [
        ("updated", done.updated),
        ("suppressed", done.suppressed),
        ("excepted", done.excepted),
        ("held back", done.held_back),
        ("given up", done.expired),
        ("too young", done.young),
        ("bounded", done.bounded),
        ("quiet before", done.quiet),
    ];
    let counts = counts.iter().filter(|(_, number)| *number > 0);
    let counts: String = counts.map(|(name, number)| format!(", {} {name}", human::count(*number))).collect();
    let (at, alerts) = (time(done.at_ms), human::plural(done.alerts, "alert"));
    writeln!(out, "{at}  {status:<15}  {name}{manual}: {alerts}{counts}")?;
    done.warnings.iter().try_for_each(|warning| writeln!(out, "    {warning}"))
}

fn time(ms: u64) -> String {
    if ms == 0 { "never".to_owned() } else { human::rfc3339(ms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        assert_eq!(moment("2026-01-05T02:00:00Z"), Ok(Moment::At(1_767_578_400_000)));
        assert_eq!(moment("2026-01-05"), Ok(Moment::At(1_767_571_200_000)));
        assert_eq!((moment("now"), moment("now-2h")), (Ok(Moment::Ago(0)), Ok(Moment::Ago(7_200_000))));
        for wrong in ["yesterday", "now-", "now-x", "2026-13-01", "1969-01-01"] {
            assert!(moment(wrong).unwrap_err().contains(wrong));
        }
    }
}
