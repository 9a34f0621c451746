//! One line of a table.

use std::borrow::Cow;
use std::io::{self, Write};

use super::time::{self, Form};

/// Longest name of a series, bytes.
const LONGEST_NAME: usize = 1024;

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    /// Fewer columns than needed.
    #[error("expected timestamp,value[,series], found {0} column(s)")]
    Columns(usize),
    /// A timestamp in no known form.
    #[error("timestamp `{0}` is neither RFC 3339, nor YYYY-MM-DD HH:MM:SS, nor epoch seconds")]
    Timestamp(String),
    /// A value that is no number.
    #[error("value `{0}` is no finite number")]
    Value(String),
    /// A quotation without end.
    #[error("a quote is not closed on this line")]
    Quote,
    /// A name that can't be one.
    #[error("series name is longer than {LONGEST_NAME} bytes")]
    Name,
    /// A line beyond the limit.
    #[error("longer than {} bytes", super::LONGEST_LINE)]
    TooLong,
    /// Bytes that are not UTF-8.
    #[error("not UTF-8 text")]
    NotText,
    /// Earlier than the row before it, each row a bucket: scored, but not learnt.
    #[error("goes back in time: scored, but not learnt")]
    BackInTime,
    /// A row of a bucket that was closed.
    #[error("goes back to a bucket that is closed: left out")]
    ClosedBucket,
    /// A gap too long to fill with zeros.
    #[error("{0} empty buckets before this row: taken as missing, not as zeros")]
    LongGap(i64),
}

impl RowProblem {
    /// True if the row was used all the same.
    pub(super) fn still_used(&self) -> bool {
        matches!(self, Self::BackInTime | Self::LongGap(_))
    }
}

/// Where the columns are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    time: usize,
    value: usize,
    series: Option<usize>,
}

const POSITIONAL: Columns = Columns { time: 0, value: 1, series: Some(2) };

/// A usable row.
#[derive(Debug)]
pub(super) struct Row<'a> {
    /// The timestamp as it was written.
    pub time: &'a str,
    pub t: i64,
    pub form: Form,
    /// None: missing.
    pub value: Option<Value<'a>>,
    pub series: Cow<'a, str>,
}

/// A value that is there.
#[derive(Debug)]
pub(super) struct Value<'a> {
    pub text: Cow<'a, str>,
    /// None: no number, where any text will do.
    pub number: Option<f64>,
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    Numbers,
    AnyText,
}

/// Reads a line. `None` for a header or an empty line; `columns` is set by the first line that isn't empty.
pub(super) fn parse<'a>(
    line: &'a str,
    columns: &mut Option<Columns>,
    values: Values,
) -> Result<Option<Row<'a>>, RowProblem> {
    let line = line.trim_start_matches('\u{feff}').trim_end_matches('\r');
    if line.trim().is_empty() {
        return Ok(None);
    }
    let fields = split(line)?;
    let known = match columns {
        Some(known) => *known,
        None => {
            let header = header(&fields);
            let known = *columns.insert(header.unwrap_or(POSITIONAL));
            if header.is_some() {
                return Ok(None);
            }
            known
        }
    };
    let (Some(time), Some(value)) = (fields.get(known.time), fields.get(known.value)) else {
        return Err(RowProblem::Columns(fields.len()));
    };
    let Cow::Borrowed(time) = *time else { return Err(RowProblem::Timestamp(shown(time))) };
    let (t, form) = time::parse(time).ok_or_else(|| RowProblem::Timestamp(shown(time)))?;
    let value = match (number(value), values) {
        (Ok(None), _) => None,
        (Ok(number), _) => Some(Value { text: value.clone(), number }),
        (Err(()), Values::AnyText) => Some(Value { text: value.clone(), number: None }),
        (Err(()), Values::Numbers) => return Err(RowProblem::Value(shown(value))),
    };
    let series = known.series.and_then(|at| fields.get(at)).cloned().unwrap_or_default();
    if series.len() > LONGEST_NAME {
        return Err(RowProblem::Name);
    }
    Ok(Some(Row { time, t, form, value, series }))
}

/// The columns of a header: a first line of which neither timestamp nor value can be read.
fn header(fields: &[Cow<'_, str>]) -> Option<Columns> {
    let is_data = fields.first().is_some_and(|field| time::parse(field).is_some())
        || fields.get(1).is_some_and(|field| number(field).is_ok());
    if is_data {
        return None;
    }
    let named = |name: &str| fields.iter().position(|field| field.trim_matches('"').eq_ignore_ascii_case(name));
    match (named("timestamp"), named("value")) {
        (Some(time), Some(value)) => Some(Columns { time, value, series: named("series") }),
        _ => Some(POSITIONAL),
    }
}

/// A number, or `None` where it is missing.
fn number(field: &str) -> Result<Option<f64>, ()> {
    let missing = ["", "nan", "na", "null", "none"];
    if missing.iter().any(|word| field.eq_ignore_ascii_case(word)) {
        return Ok(None);
    }
    field.parse::<f64>().ok().filter(|value| value.is_finite()).map(Some).ok_or(())
}

/// Fields of a line (RFC 4180, except that a quotation may not span lines), trimmed.
fn split(line: &str) -> Result<Vec<Cow<'_, str>>, RowProblem> {
    let mut fields = Vec::with_capacity(4);
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, after) = rest.split_at(end);
                (Cow::Borrowed(field.trim()), after)
            }
        };
        fields.push(field);
        match after.split_once(',') {
            Some((_, next)) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// The text up to the closing quote, and what follows it.
fn unquote(quoted: &str) -> Result<(Cow<'_, str>, &str), RowProblem> {
    let mut from = 0;
    loop {
        let end = quoted.get(from..).and_then(|tail| tail.find('"')).ok_or(RowProblem::Quote)? + from;
        let (text, after) = quoted.split_at(end);
        match after.strip_prefix("\"\"") {
            Some(_) => from = end + 2,
            None => {
                let field = if from == 0 { Cow::Borrowed(text) } else { Cow::Owned(text.replace("\"\"", "\"")) };
                return Ok((field, after.trim_start_matches('"')));
            }
        }
    }
}

/// The beginning of a field, for a message.
fn shown(field: &str) -> String {
    field.chars().take(40).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Writes a field, quoted where it must be.
pub(super) fn write_field(out: &mut impl Write, field: &str) -> io::Result<()> {
    if field.contains([',', '"', '\r', '\n']) || field.trim() != field {
        write!(out, "\"{}\"", field.replace('"', "\"\""))
    } else {
        out.write_all(field.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotes_blanks_and_line_ends() {
        let mut columns = None;
        let row =
            parse("\u{feff}\"1772409600\" , 5.5 ,\"a, \"\"b\"\"\"\r", &mut columns, Values::Numbers).unwrap().unwrap();
        assert_eq!((row.t, row.value.unwrap().number, row.series.as_ref()), (1_772_409_600, Some(5.5), "a, \"b\""));
        let mut out = Vec::new();
        write_field(&mut out, &row.series).unwrap();
        assert_eq!(out, b"\"a, \"\"b\"\"\"");
        assert_eq!(parse("1,2,\"a", &mut columns, Values::Numbers).unwrap_err(), RowProblem::Quote);
        assert!(parse("  ", &mut columns, Values::Numbers).unwrap().is_none());
    }

    #[test]
    fn a_header_may_name_the_columns() {
        let mut columns = None;
        assert!(parse("value,label,Timestamp,series", &mut columns, Values::Numbers).unwrap().is_none());
        let row = parse("7,1,2026-03-02,host-1", &mut columns, Values::Numbers).unwrap().unwrap();
        assert_eq!((row.value.unwrap().number, row.series.as_ref(), row.form), (Some(7.0), "host-1", Form::Civil));
        let mut columns = None;
        assert!(parse("timestamp,value,label", &mut columns, Values::Numbers).unwrap().is_none());
        assert_eq!(parse("5,7,1", &mut columns, Values::Numbers).unwrap().unwrap().series, "", "a label is no series");
        let mut columns = None;
        assert!(parse("when,how_much,who", &mut columns, Values::Numbers).unwrap().is_none());
        assert_eq!(parse("5,7,x", &mut columns, Values::Numbers).unwrap().unwrap().series, "x");
    }

    #[test]
    fn a_bad_first_row_is_no_header() {
        let mut columns = None;
        assert_eq!(
            parse("yesterday,5", &mut columns, Values::Numbers).unwrap_err(),
            RowProblem::Timestamp("yesterday".into())
        );
        assert_eq!(parse("5", &mut columns, Values::Numbers).unwrap_err(), RowProblem::Columns(1));
        assert_eq!(parse("5,five", &mut columns, Values::Numbers).unwrap_err(), RowProblem::Value("five".into()));
        assert_eq!(parse("5,inf", &mut columns, Values::Numbers).unwrap_err(), RowProblem::Value("inf".into()));
        assert!(parse("5,NaN", &mut columns, Values::Numbers).unwrap().unwrap().value.is_none());
        let text = parse("5,five", &mut columns, Values::AnyText).unwrap().unwrap().value.unwrap();
        assert_eq!((text.text.as_ref(), text.number), ("five", None));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(lines in prop::collection::vec(".{0,40}|[0-9,\"]{0,20}", 1..8)) {
            let mut columns = None;
            for line in &lines {
                let _ = parse(line, &mut columns, Values::Numbers);
            }
        }

        #[test]
        fn any_name_survives(name in "[^\u{0}-\u{1f}\u{7f}]{0,40}") {
            let mut line = b"1,2,".to_vec();
            write_field(&mut line, &name).unwrap();
            let line = String::from_utf8(line).unwrap();
            let mut columns = None;
            let row = parse(&line, &mut columns, Values::Numbers).unwrap().unwrap();
            prop_assert_eq!(row.series.as_ref(), name.as_str());
        }
    }
}
