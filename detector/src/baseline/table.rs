//! Scores a table: a CSV of `timestamp,value[,series]` in, a CSV of scores out.
//!
//! One pass, causal and streaming: a row's score depends on nothing that comes after it, memory is constant per series,
//! and whatever the input gave so far has been answered before more of it is waited for.
//!
//! **Input.** Timestamps are RFC 3339, `YYYY-MM-DD HH:MM:SS` (UTC) or epoch seconds. A header is optional; one that
//! names the columns `timestamp` and `value` (and `series`) may have them in any order and others beside. Rows of a
//! series are in order; series may be interleaved. An empty, `NaN`, `NA` or `null` value is missing data.
//!
//! **Buckets.** Without a bucket span each row is a bucket; the length that the model needs is the step between the
//! first two rows of the series that differ in time. With one, rows are aggregated into buckets aligned to the epoch:
//! [`Aggregate`] says what each function makes of them. A bucket without rows is 0 for count, distinct count and sum, up
//! to the last bucket of the whole input, and missing for the others.
//!
//! **Values.** Counts and sums are taken in units of one. Mean, min and max are scaled by a power of ten that the series'
//! first non-zero value decides, so that their unit doesn't matter. The rich model takes values of either sign; with the
//! compact one, the size of values below zero is modelled by itself, beside that of the values above zero.

mod aggregate;
mod function;
mod row;
mod series;
mod time;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::sync::Arc;

use self::aggregate::{Aggregator, Closed, Content};
use self::row::{Row, Values};
use self::series::{Judgement, Series, Verdict};
use self::time::Form;
use super::calibration::{CALIBRATE_AFTER_S, Calibration, record_score};

pub use self::{
    function::{Aggregate, Function, Model},
    row::RowProblem,
};

/// Longest line of the input, bytes.
pub const LONGEST_LINE: usize = 64 * 1024;
/// Rows between two refreshes of the calibration.
const REFRESH_EVERY: u32 = 1024;
const HEADER: &str = "timestamp,series,value,score,probability,typical,lower,upper,multi_bucket_impact\n";

/// How a table is scored.
#[derive(Debug, Clone, Copy)]
pub struct TableOptions {
    /// Aggregate and side; without a bucket span only the side and the unit matter.
    pub function: Function,
    /// Length of the buckets that rows are aggregated into, seconds; none: each row is a bucket.
    pub bucket_span_s: Option<u32>,
    /// The model.
    pub model: Model,
}

impl TableOptions {
    /// Different values are counted, so that they may be any text.
    fn values(&self) -> Values {
        let distinct = self.function.aggregate == Aggregate::DistinctCount && self.bucket_span_s.is_some();
        if distinct { Values::AnyText } else { Values::Numbers }
    }
}

/// A row that could not be used as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct RowFault {
    /// Line of the input, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub problem: RowProblem,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableSummary {
    /// Usable rows read.
    pub rows: u64,
    /// Rows with a fault.
    pub faults: u64,
    /// Buckets written.
    pub buckets: u64,
    /// Series met.
    pub series: usize,
}

/// Why scoring a table ended early.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The input could not be read.
    #[error("can't read the input: {0}")]
    Input(#[source] io::Error),
    /// The output could not be written.
    #[error("can't write the output: {0}")]
    Output(#[source] io::Error),
    /// Not one row could be used.
    #[error("no usable row: expected timestamp,value[,series]")]
    NoUsableRow,
    /// More series than [`Model::most_series`].
    #[error("line {line}: more than {most} series; is the third column a series name?")]
    TooManySeries {
        /// Line of the input, from 1.
        line: u64,
        /// What the model is good for.
        most: usize,
    },
}

/// Scores `input` to `output`. Faulty rows are handed to `on_fault` and lose nothing else.
///
/// # Errors
/// I/O errors, too many series, or an input without one usable row.
pub fn score_table(
    input: impl Read,
    output: impl Write,
    options: TableOptions,
    mut on_fault: impl FnMut(&RowFault),
) -> Result<TableSummary, TableError> {
    let mut reader = BufReader::with_capacity(64 * 1024, input);
    let mut table = Table::new(output, options);
    let mut line = Vec::new();
    let mut columns = None;
    let mut number = 0u64;
    loop {
        if reader.buffer().is_empty() {
            table.writer.flush().map_err(TableError::Output)?;
        }
        let Some(complete) = read_line(&mut reader, &mut line).map_err(TableError::Input)? else { break };
        number += 1;
        let parsed = match std::str::from_utf8(&line) {
            _ if !complete => Err(RowProblem::TooLong),
            Ok(text) => row::parse(text, &mut columns, options.values()),
            Err(_) => Err(RowProblem::NotText),
        };
        let result = match parsed {
            Ok(None) => continue,
            Ok(Some(row)) => table.add(number, &row)?,
            Err(problem) => Some(problem),
        };
        if let Some(problem) = result {
            table.summary.faults += 1;
            on_fault(&RowFault { line: number, problem });
        }
    }
    table.finish()
}

/// One line without its end. `None` at the end of the input, `false` for a line that is too long, whose rest is skipped.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let mut complete = true;
    let mut any = false;
    loop {
        let chunk = match reader.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            return Ok(any.then_some(complete));
        }
        any = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let text = &chunk[..end.unwrap_or(chunk.len())];
        let used = text.len() + usize::from(end.is_some());
        if line.len() + text.len() > LONGEST_LINE {
            complete = false;
        } else {
            line.extend_from_slice(text);
        }
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(complete));
        }
    }
}

struct Table<W: Write> {
    options: TableOptions,
    writer: BufWriter<W>,
    header_written: bool,
    calibration: Calibration,
    until_refresh: u32,
    by_name: BTreeMap<Arc<str>, usize>,
    /// In order of appearance.
    entries: Vec<Entry>,
    summary: TableSummary,
    /// Start of the last bucket of any series.
    last_bucket: i64,
}

/// One series of the table.
struct Entry {
    name: Arc<str>,
    form: Form,
    first: i64,
    series: Series,
    aggregator: Option<Aggregator>,
}

impl<W: Write> Table<W> {
    fn new(output: W, options: TableOptions) -> Self {
        Self {
            options,
            writer: BufWriter::with_capacity(64 * 1024, output),
            header_written: false,
            calibration: Calibration::new(0),
            until_refresh: REFRESH_EVERY,
            by_name: BTreeMap::new(),
            entries: Vec::new(),
            summary: TableSummary::default(),
            last_bucket: i64::MIN,
        }
    }

    fn entry(&mut self, line: u64, row: &Row<'_>) -> Result<usize, TableError> {
        if let Some(index) = self.by_name.get(row.series.as_ref()) {
            return Ok(*index);
        }
        let most = self.options.model.most_series();
        if self.entries.len() >= most {
            return Err(TableError::TooManySeries { line, most });
        }
        let name: Arc<str> = row.series.as_ref().into();
        let function = self.options.function;
        self.entries.push(Entry {
            name: Arc::clone(&name),
            form: row.form,
            first: row.t,
            series: Series::new(function, self.options.model, self.options.bucket_span_s),
            aggregator: self.options.bucket_span_s.map(|span_s| Aggregator::new(span_s, function.aggregate)),
        });
        let index = self.entries.len() - 1;
        self.by_name.insert(name, index);
        Ok(index)
    }

    /// Takes a row; a problem it may have does not end the run.
    fn add(&mut self, line: u64, row: &Row<'_>) -> Result<Option<RowProblem>, TableError> {
        let index = self.entry(line, row)?;
        let Some(entry) = self.entries.get_mut(index) else { return Ok(None) };
        let mut problem = None;
        let number = row.value.as_ref().and_then(|value| value.number);
        if let Some(aggregator) = &mut entry.aggregator {
            let (buckets, found) = aggregator
                .add(row.t, row.value.as_ref().map(|value| Content { text: &value.text, number: value.number }));
            problem = found;
            entry.form = row.form;
            self.last_bucket = self.last_bucket.max(aggregator.open());
            self.write_buckets(index, buckets)?;
        } else {
            let (judgement, learnt) = entry.series.observe(row.t, number);
            if !learnt {
                problem = Some(RowProblem::BackInTime);
            }
            self.write(index, row.t, Some(row.time), number, judgement, learnt)?;
        }
        if problem.as_ref().is_none_or(RowProblem::still_used) {
            self.summary.rows += 1;
        }
        Ok(problem)
    }

    fn write_buckets(&mut self, index: usize, buckets: Closed) -> Result<(), TableError> {
        for (t, value) in buckets {
            let Some(entry) = self.entries.get_mut(index) else { return Ok(()) };
            let (judgement, learnt) = entry.series.observe(t, value);
            self.write(index, t, None, value, judgement, learnt)?;
        }
        Ok(())
    }

    /// Writes one line of output. `time`: the timestamp as it was read, if it is to be repeated.
    fn write(
        &mut self,
        index: usize,
        t: i64,
        time: Option<&str>,
        value: Option<f64>,
        judgement: Option<Judgement>,
        learnt: bool,
    ) -> Result<(), TableError> {
        let Some(entry) = self.entries.get(index) else { return Ok(()) };
        let (score, probability) = match judgement.as_ref().map(|judgement| judgement.verdict) {
            Some(Verdict::Pooled { q }) => {
                let l = self.calibration.l_of(q);
                (record_score(l), libm::exp10(-l))
            }
            Some(Verdict::Own { score, probability }) => (score, probability),
            None => (0.0, 1.0),
        };
        let mut print = || -> io::Result<()> {
            let out = &mut self.writer;
            if !self.header_written {
                out.write_all(HEADER.as_bytes())?;
                self.header_written = true;
            }
            match time {
                Some(text) => out.write_all(text.as_bytes())?,
                None => entry.form.write(out, t)?,
            }
            out.write_all(b",")?;
            row::write_field(out, &entry.name)?;
            match (value, &judgement) {
                (Some(value), Some(judgement)) => write_judgement(out, value, score, probability, judgement),
                // No data: nothing unusual is claimed, and nothing else is said.
                _ => out.write_all(b",,0,,,,,\n"),
            }
        };
        print().map_err(TableError::Output)?;
        self.summary.buckets += 1;
        if let Some(Judgement { verdict: Verdict::Pooled { q }, .. }) = judgement
            && learnt
            && t.saturating_sub(entry.first) >= CALIBRATE_AFTER_S
        {
            self.calibration.add(q);
            self.until_refresh -= 1;
            if self.until_refresh == 0 {
                self.until_refresh = REFRESH_EVERY;
                self.calibration.refresh();
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<TableSummary, TableError> {
        for index in 0..self.entries.len() {
            let last = self.last_bucket;
            let buckets =
                self.entries.get_mut(index).and_then(|entry| entry.aggregator.as_mut()).map(|a| a.finish(last));
            if let Some(buckets) = buckets {
                self.write_buckets(index, buckets)?;
            }
        }
        self.writer.flush().map_err(TableError::Output)?;
        self.summary.series = self.entries.len();
        if self.summary.rows == 0 { Err(TableError::NoUsableRow) } else { Ok(self.summary) }
    }
}

fn write_judgement(
    out: &mut impl Write,
    value: f64,
    score: f64,
    probability: f64,
    judgement: &Judgement,
) -> io::Result<()> {
    writeln!(
        out,
        ",{value},{},{probability:.3e},{},{},{},{:.2}",
        significant(score),
        significant(judgement.typical),
        significant(judgement.lower),
        significant(judgement.upper),
        judgement.impact
    )
}

/// Rounded to six significant digits.
fn significant(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}
