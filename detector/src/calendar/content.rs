//! The content lines of an iCalendar text (RFC 5545, section 3.1): folded lines joined, names, parameters, values.

/// One content line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it begins, from 1.
    pub(super) number: usize,
    /// In upper case.
    pub(super) name: String,
    /// Names in upper case; values without their quotes.
    pub(super) parameters: Vec<(String, String)>,
    pub(super) value: String,
}

impl Line {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A line of a name and a value alone.
    pub(super) fn of(name: &str, value: &str) -> Self {
        Self { number: 0, name: name.to_owned(), parameters: Vec::new(), value: value.to_owned() }
    }
}

/// All lines, or the number of the one that is none.
pub(super) fn lines(text: &str) -> Result<Vec<Line>, usize> {
    let mut whole: Vec<(usize, String)> = Vec::new();
    for (at, raw) in text.lines().enumerate() {
        let raw = raw.strip_suffix('\r').unwrap_or(raw);
        match (raw.strip_prefix([' ', '\t']), whole.last_mut()) {
            (Some(rest), Some((_, line))) => line.push_str(rest),
            _ if raw.trim().is_empty() => {}
            _ => whole.push((at + 1, raw.trim_start_matches('\u{feff}').to_owned())),
        }
    }
    whole.into_iter().map(|(number, line)| line_of(number, &line).ok_or(number)).collect()
}

fn line_of(number: usize, text: &str) -> Option<Line> {
    let mut quoted = false;
    // The first colon outside of quotes ends name and parameters.
    let end = text.char_indices().find(|(_, c)| {
        quoted ^= *c == '"';
        *c == ':' && !quoted
    });
    let (head, value) = text.split_at(end?.0);
    let mut quoted = false;
    let mut parts = head.split(|c: char| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    let name = parts.next()?.to_ascii_uppercase();
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return None;
    }
    let parameter = |part: &str| {
        let (name, value) = part.split_once('=')?;
        Some((name.to_ascii_uppercase(), value.trim_matches('"').to_owned()))
    };
    let parameters = parts.map(parameter).collect::<Option<_>>()?;
    Some(Line { number, name, parameters, value: value.get(1..)?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_lines_are_joined_and_quotes_hold_colons() {
        let text = "BEGIN:VEVENT\r\nSUMMARY:A long\r\n  story\r\n\r\nDTSTART;TZID=\"Europe/Berlin\";X-A=\"a:b;c\":20260105T020000\r\n";
        let lines = lines(text).unwrap();
        assert_eq!(lines.len(), 3);
        assert_eq!((lines[1].name.as_str(), lines[1].value.as_str()), ("SUMMARY", "A long story"));
        let start = &lines[2];
        assert_eq!((start.parameter("TZID"), start.parameter("X-A")), (Some("Europe/Berlin"), Some("a:b;c")));
        assert_eq!((start.value.as_str(), start.number), ("20260105T020000", 5));
    }

    #[test]
    fn a_line_without_a_colon_is_named() {
        assert_eq!(lines("BEGIN:VEVENT\nno line\n"), Err(2));
        assert_eq!(lines("A B:c\n"), Err(1));
        assert_eq!(lines(""), Ok(Vec::new()));
    }
}
