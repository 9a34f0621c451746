//! `spikewatch`: finds abnormal spikes in network traffic. One binary, every role. The roles are libraries; here they get
//! their ports, and everything a node always has.
//!
//! ```text
//! cli ─▶ commands ─▶ config ─▶ roles: detector, aggregator, collector, each behind a port of its own (serving)
//!                 ├▶ replay, demo_command ─▶ cluster: all roles on an event-time clock ─▶ results, over gRPC
//!                 └▶ score, inspect, collectors, rules
//! telemetry: logs, traces and metrics of all of them
//! ```

mod cli;
mod cluster;
mod collectors;
mod commands;
mod config;
mod demo;
mod demo_command;
mod failure;
mod human;
mod inspect;
mod inspect_spool;
mod leader;
mod replay;
mod results;
mod roles;
mod rules;
mod score;
mod serving;
mod signals;
mod telemetry;

use std::process::ExitCode;

use cli::Command;
use roles::Role;

fn main() -> ExitCode {
    let command = match cli::parse() {
        Ok(command) => command,
        Err(code) => return code,
    };
    cli::finish(match command {
        Command::Demo(arguments) => commands::demo(&arguments),
        Command::Run(arguments) => commands::run(&arguments, &Role::ALL),
        Command::Collector(arguments) => commands::run(&arguments, &[Role::Collector]),
        Command::Aggregator(arguments) => commands::run(&arguments, &[Role::Aggregator]),
        Command::Detector(arguments) => commands::run(&arguments, &[Role::Detector]),
        Command::Replay(arguments) => commands::replay(&arguments),
        Command::Score(arguments) => commands::score(arguments),
        Command::Inspect(arguments) => commands::inspect(&arguments),
        Command::Collectors(arguments) => commands::collectors(arguments),
        Command::Rules(arguments) => commands::rules(arguments),
        Command::Config(arguments) => commands::config(&arguments),
    })
}
