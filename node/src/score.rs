//! `spikewatch score`: the baseline model on a CSV of one's own.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use spikewatch_detector::baseline::table::{Function, Model, TableError, TableOptions, score_table};

/// Faults shown one by one; the rest is counted.
const FAULTS_SHOWN: u64 = 10;

/// Score a CSV of timestamp, value and perhaps series: how unusual is each value, given what came before it?
///
/// Reads FILE (or standard input) once, from top to bottom, and writes one line per bucket to standard output:
/// timestamp,series,value,score,probability,typical,lower,upper,multi_bucket_impact. A line depends only on the lines
/// before it, so a growing file can be piped in and is answered as it grows.
///
/// score is 0 to 100; 3, 25, 50 and 75 begin the bands warning, minor, major and critical. probability is that of a
/// clean bucket being as unusual. typical is the forecast, lower and upper hold 95 % of usual values.
/// multi_bucket_impact is -5 where the bucket alone is unusual, +5 where only the run of buckets up to it is.
/// A series needs about a week before its scores can be relied on; the rich model is silent for its first 160 buckets.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ScoreArguments {
    /// What rows are aggregated to, and which deviations count.
    ///
    /// high_ looks for spikes only, low_ for dips only, and without either both count. What each makes of a bucket's rows,
    /// and what a bucket without rows means:
    ///
    ///   count            their number, whatever their value; without rows 0
    ///   non_zero_count   the same; without rows missing: a series that pauses is judged by its buckets that have rows
    ///   distinct_count   how many different values, which may be any text (exact up to 48, then within 2 %); without rows 0
    ///   sum              the values added up; without rows 0
    ///   mean, min, max   of the values; without values missing
    ///
    /// Missing buckets have no line, and are neither scored nor learnt. Without --bucket-span nothing is aggregated: each
    /// row is a bucket with the function's result, and absent rows are missing, as are zeros of non_zero_count. Counts and
    /// sums are then taken for counts (changes of less than about one are noise); of mean, min and max the unit doesn't
    /// matter.
    #[arg(
        long,
        default_value = "mean",
        value_parser = PossibleValuesParser::new(Function::NAMES).try_map(|name| function(&name))
    )]
    function: Function,

    /// Aggregate rows into buckets of this length, such as 30s, 15m, 1h or 1d.
    ///
    /// Buckets are aligned to 1970-01-01T00:00:00Z, the timestamp is their start, and the first and last may be partly
    /// covered. Buckets without rows that count as 0 are written up to the last bucket of the input. Without this option
    /// each row is a bucket, and the step between the first two rows of a series is taken for the length of its buckets.
    #[arg(long, value_name = "DURATION", value_parser = bucket_span)]
    bucket_span: Option<u32>,

    /// Which model: rich (17 kB a series, for few and important ones) or compact (2 kB, for many).
    ///
    /// rich judges each series against its own past, dips and changes of level as well as spikes; its probability is that
    /// measured on clean synthetic series. compact is the model of by-host jobs, made for spikes; its series are calibrated
    /// together.
    #[arg(
        long,
        default_value = "rich",
        value_parser = PossibleValuesParser::new(Model::NAMES).try_map(|name| model(&name))
    )]
    model: Model,

    /// CSV file; - or nothing is standard input.
    ///
    /// Timestamps are RFC 3339, YYYY-MM-DD HH:MM:SS (taken as UTC) or epoch seconds, and are written in the form they
    /// have. A header is optional; if it names the columns timestamp and value (and series), they may stand in any order
    /// and beside others. Rows of a series are in order, series may be interleaved, at most 100,000 (compact: 1,000,000). An empty or NaN
    /// value is missing data: it is neither scored nor learnt. A row that can't be read is reported with its line number,
    /// and the others are scored all the same.
    #[arg(value_name = "FILE.csv")]
    file: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  Spikes in a series of 5-minute values, the worst first:
    spikewatch score --function high_mean traffic.csv | sort -t, -k4 -rn | head

  Requests per host and 15 minutes, from one line per request (timestamp,value,host):
    spikewatch score --function high_count --bucket-span 15m requests.csv

  Hosts that talk to unusually many peers (timestamp,peer,host):
    spikewatch score --function high_distinct_count --bucket-span 15m --model compact connections.csv

  Follow a growing file, and show what is critical:
    tail -n +1 -f bytes.csv | spikewatch score --function high_sum --bucket-span 1m | awk -F, '$4 >= 75'

Exit codes: 0 done, 64 wrong usage, 65 no usable row, 74 a file can't be read or written.";

/// Why scoring failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScoreError {
    /// The file could not be opened.
    #[error("can't open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The table could not be scored.
    #[error("{input}: {source}")]
    Table {
        /// The file, or "standard input".
        input: String,
        /// Why.
        source: TableError,
    },
}

impl ScoreError {
    /// The exit code of the program: 65 no usable input, 74 I/O.
    #[must_use]
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Table { source: TableError::NoUsableRow | TableError::TooManySeries { .. }, .. } => 65,
            Self::Open { .. } | Self::Table { .. } => 74,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// If a file can't be read or written, or holds no usable row.
pub(crate) fn run(arguments: ScoreArguments) -> Result<(), ScoreError> {
    let options =
        TableOptions { function: arguments.function, bucket_span_s: arguments.bucket_span, model: arguments.model };
    match arguments.file.as_deref() {
        None => score(io::stdin().lock(), "standard input", options),
        Some(path) if path == Path::new("-") => score(io::stdin().lock(), "standard input", options),
        Some(path) => {
            let file = File::open(path).map_err(|source| ScoreError::Open { path: path.to_owned(), source })?;
            score(file, &path.display().to_string(), options)
        }
    }
}

fn score(input: impl Read, name: &str, options: TableOptions) -> Result<(), ScoreError> {
    let mut faults = 0u64;
    // Writes to stderr may fail (it can be closed): that is no reason to stop.
    let result = score_table(input, io::stdout().lock(), options, |fault| {
        faults += 1;
        if faults <= FAULTS_SHOWN {
            let _ = writeln!(io::stderr(), "{name}: {fault}");
        }
    });
    if let Some(more) = faults.checked_sub(FAULTS_SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(io::stderr(), "{name}: and {more} more rows like these");
    }
    match result {
        Ok(summary) => {
            if faults > 0 || io::stderr().is_terminal() {
                let _ = writeln!(
                    io::stderr(),
                    "{name}: {} rows used, {faults} with faults; {} buckets of {} series",
                    summary.rows,
                    summary.buckets,
                    summary.series
                );
            }
            Ok(())
        }
        // Whoever read our output has seen enough (head, for one).
        Err(TableError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(source) => Err(ScoreError::Table { input: name.to_owned(), source }),
    }
}

fn function(name: &str) -> Result<Function, String> {
    Function::named(name).ok_or_else(|| format!("no function {name}"))
}

fn model(name: &str) -> Result<Model, String> {
    Model::named(name).ok_or_else(|| format!("no model {name}"))
}

/// A duration as a whole number of seconds, minutes, hours or days, or several of them (1h30m); 1 s to 1 day.
fn bucket_span(text: &str) -> Result<u32, String> {
    let fault = || format!("`{text}` is no duration such as 30s, 15m, 1h or 1d");
    let mut seconds = 0u32;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(fault());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(end);
        let unit = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(fault()),
        };
        let part = number.parse::<u32>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(fault)?;
        seconds = seconds.checked_add(part).ok_or_else(fault)?;
        rest = next;
    }
    if (1..=86_400).contains(&seconds) { Ok(seconds) } else { Err(format!("{text} is not between 1s and 1d")) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        score: ScoreArguments,
    }

    #[test]
    fn durations() {
        for (text, seconds) in
            [("30s", 30), ("15m", 900), ("1h", 3600), ("1d", 86_400), ("1h30m", 5400), ("1h 30m", 5400)]
        {
            assert_eq!(bucket_span(text), Ok(seconds));
        }
        for text in ["", "15", "m", "15x", "0s", "2d", "-5m", "1.5h", "99999999999s", "1h30"] {
            assert!(bucket_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_function_is_offered() {
        for name in Function::NAMES {
            let command =
                Command::try_parse_from(["score", "--function", name, "--bucket-span", "5m", "x.csv"]).unwrap();
            assert_eq!(Some(command.score.function), Function::named(name));
            assert_eq!(command.score.bucket_span, Some(300));
        }
        for name in Model::NAMES {
            let command = Command::try_parse_from(["score", "--model", name]).unwrap();
            assert_eq!(Some(command.score.model), Model::named(name));
        }
        let default = Command::try_parse_from(["score"]).unwrap();
        assert_eq!(default.score.model, Model::Rich);
        let refused = Command::try_parse_from(["score", "--function", "median"]).unwrap_err().to_string();
        assert!(refused.contains("high_count"), "{refused}");
    }

    #[test]
    fn a_missing_file_and_an_empty_one_have_exit_codes_of_their_own() {
        let missing = Command::try_parse_from(["score", "/nonexistent/x.csv"]).unwrap();
        assert_eq!(run(missing.score).unwrap_err().exit_code(), 74);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.csv");
        std::fs::write(&path, "timestamp,value\n").unwrap();
        let empty = Command::try_parse_from(["score".as_ref(), path.as_os_str()]).unwrap();
        assert_eq!(run(empty.score).unwrap_err().exit_code(), 65);
    }
}
