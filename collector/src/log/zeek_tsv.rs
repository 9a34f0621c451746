//! Zeek's tab-separated logs: `#` lines that say how to read what follows, then a line for each connection
//! (<https://docs.zeek.org/en/current/log-formats.html>). A header may come again where files were joined.

use std::borrow::Cow;

use super::scalar::{Scalar, shown};
use super::zeek::{Column, Connection};
use crate::fault::{Fault, Reason};

/// Most bytes of a header that are kept as they stood: those of the most columns with long names.
const MOST_TEXT: usize = 64 << 10;
/// Most columns that a header may name.
const MOST_COLUMNS: usize = 512;

/// How to read a line, as the last header said.
#[derive(Debug)]
pub(super) struct Layout {
    /// The lines that said so.
    text: Vec<u8>,
    separator: u8,
    unset: Vec<u8>,
    empty: Vec<u8>,
    /// What each column holds, in order, or why lines can't be read.
    columns: Result<Vec<Option<Column>>, Fault>,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            text: Vec::new(),
            separator: b'\t',
            unset: b"-".to_vec(),
            empty: b"(empty)".to_vec(),
            columns: Err(of_log(b"conn")),
        }
    }
}

impl Layout {
    /// Takes a line that starts with `#`. What can't be used becomes the fault of the lines that follow.
    pub(super) fn header(&mut self, line: &[u8]) {
        if let Some(separator) = line.strip_prefix(b"#separator ") {
            // A new header, or the header of a file appended to this one: nothing of the old one holds.
            *self = Self::default();
            self.keep(line);
            match unescaped(separator) {
                Some(separator) => self.separator = separator,
                None => self.columns = Err(Fault::new(Reason::UnknownFormat, "#separator is not one character")),
            }
            return;
        }
        if self.is_unreadable() {
            return;
        }
        self.keep(line);
        let mut parts = line.split(|byte| *byte == self.separator);
        let key = parts.next().unwrap_or_default();
        match key {
            b"#unset_field" => self.unset = parts.next().unwrap_or_default().to_vec(),
            b"#empty_field" => self.empty = parts.next().unwrap_or_default().to_vec(),
            b"#path" => self.columns = Err(of_log(parts.next().unwrap_or_default())),
            b"#fields" if !self.is_other_log() => self.columns = columns(parts),
            _ => {}
        }
    }

    /// The lines of the header.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    fn keep(&mut self, line: &[u8]) {
        if self.text.len() + line.len() < MOST_TEXT {
            self.text.extend_from_slice(line);
            self.text.push(b'\n');
        }
    }

    /// Reads one line.
    ///
    /// # Errors
    /// The header's fault, `Truncated` for a line with fewer columns than the header, `BadLine` for one with text that
    /// is no UTF-8.
    pub(super) fn connection<'a>(&self, line: &'a [u8]) -> Result<Connection<'a>, Fault> {
        let columns = self.columns.as_ref().map_err(Fault::clone)?;
        let mut connection = Connection::default();
        let mut values = line.split(|byte| *byte == self.separator);
        for (at, column) in columns.iter().enumerate() {
            let Some(value) = values.next() else {
                let detail = format!("the line has {at} columns, the header {}", columns.len());
                return Err(Fault::new(Reason::Truncated, detail));
            };
            if let Some(column) = column
                && value != self.unset
                && value != self.empty
            {
                let text = std::str::from_utf8(value)
                    .map_err(|_| Fault::new(Reason::BadLine, format!("column {} is no UTF-8", at + 1)))?;
                connection.set(*column, Scalar::Text(Cow::Borrowed(text)));
            }
        }
        Ok(connection)
    }

    /// True until the next `#separator` if this one can't be used.
    fn is_unreadable(&self) -> bool {
        matches!(&self.columns, Err(fault) if fault.reason == Reason::UnknownFormat)
    }

    fn is_other_log(&self) -> bool {
        matches!(&self.columns, Err(fault) if fault.reason == Reason::NotFlow)
    }
}

/// The fault of lines that no `#fields` has described yet, or never will.
fn of_log(path: &[u8]) -> Fault {
    if path == b"conn" {
        return Fault::new(Reason::BadLine, "a data line before the header line #fields");
    }
    let path = shown(&String::from_utf8_lossy(path));
    Fault::new(Reason::NotFlow, format!("a line of Zeek's log {path}, not of \"conn\""))
}

fn columns<'a>(names: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Option<Column>>, Fault> {
    let named = |name| std::str::from_utf8(name).ok().and_then(Column::named);
    let columns: Vec<Option<Column>> = names.take(MOST_COLUMNS + 1).map(named).collect();
    if columns.len() > MOST_COLUMNS {
        return Err(Fault::new(Reason::BadLine, format!("#fields names more than {MOST_COLUMNS} columns")));
    }
    for (needed, name) in [(Column::Ts, "ts"), (Column::OrigH, "id.orig_h"), (Column::RespH, "id.resp_h")] {
        if !columns.contains(&Some(needed)) {
            return Err(Fault::new(Reason::BadLine, format!("#fields names no column {name}")));
        }
    }
    Ok(columns)
}

/// `\x09`, or the character itself.
fn unescaped(separator: &[u8]) -> Option<u8> {
    match separator {
        [byte] => Some(*byte),
        [b'\\', b'x', digits @ ..] if digits.len() == 2 => {
            std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok())
        }
        _ => None,
    }
}
