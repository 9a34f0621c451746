//! Events of an iCalendar text (RFC 5545). Components other than events are passed over; an event that can't be read is a
//! fault that names its line.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::{
    content::{Line, lines},
    event::{Event, Length, MOST_DAYS},
    moment::{Moment, duration, zone, zone_of},
    recurrence::{Recurrence, Until},
};

/// Most events of one calendar.
const MOST_EVENTS: usize = 10_000;

/// Reads all events. Times that name no zone are of the calendar's (`X-WR-TIMEZONE`), or else of `zone`.
pub(super) fn events(text: &str, default: &TimeZone) -> Result<Vec<Event>, String> {
    let lines = lines(text).map_err(|line| format!("line {line}: expected NAME:VALUE, as iCalendar has it"))?;
    if !lines.iter().any(|line| line.name == "BEGIN" && line.value.eq_ignore_ascii_case("VCALENDAR")) {
        return Err("is no iCalendar: there is no BEGIN:VCALENDAR".into());
    }
    let mut zone_of_file = default.clone();
    let (mut open, mut found): (Vec<String>, Vec<Vec<Line>>) = (Vec::new(), Vec::new());
    for line in lines {
        match (line.name.as_str(), open.last().map(String::as_str)) {
            ("BEGIN", _) => {
                open.push(line.value.to_ascii_uppercase());
                if open.last().is_some_and(|name| name == "VEVENT") {
                    found.push(Vec::new());
                }
            }
            ("END", Some(last)) if last.eq_ignore_ascii_case(&line.value) => drop(open.pop()),
            ("END", _) => return Err(format!("line {}: END:{} ends nothing", line.number, line.value)),
            ("X-WR-TIMEZONE", Some("VCALENDAR")) => {
                zone_of_file = zone(line.value.trim()).map_err(|problem| format!("line {}: {problem}", line.number))?;
            }
            (_, Some("VEVENT")) => found.last_mut().into_iter().for_each(|event| event.push(line.clone())),
            _ => {}
        }
        if found.len() > MOST_EVENTS {
            return Err(format!("has more than {MOST_EVENTS} events"));
        }
    }
    match open.last() {
        Some(last) => Err(format!("ends within BEGIN:{last}")),
        None => gather(found, &zone_of_file),
    }
}

/// What an event is told apart by.
struct Read {
    uid: String,
    /// The occurrence of another event that it stands for.
    instead_of: Option<Moment>,
    cancelled: bool,
    event: Event,
}

/// Occurrences that were moved or cancelled are taken out of the event that they belong to.
fn gather(found: Vec<Vec<Line>>, zone: &TimeZone) -> Result<Vec<Event>, String> {
    let mut read = found.iter().map(|lines| event(lines, zone)).collect::<Result<Vec<_>, _>>()?;
    let mut moved: BTreeMap<String, Vec<Moment>> = BTreeMap::new();
    for one in &read {
        if let Some(moment) = one.instead_of {
            moved.entry(one.uid.clone()).or_default().push(moment);
        }
    }
    for one in read.iter_mut().filter(|one| one.instead_of.is_none()) {
        one.event.without.extend(moved.get(&one.uid).into_iter().flatten());
    }
    Ok(read.into_iter().filter(|one| !one.cancelled).map(|one| one.event.settled()).collect())
}

fn event(lines: &[Line], default: &TimeZone) -> Result<Read, String> {
    let first = lines.first().map_or(0, |line| line.number);
    let named = |name: &'static str| lines.iter().find(move |line| line.name == name);
    let at = |line: &Line, problem: String| match line.number {
        0 => problem,
        number => format!("line {number}: {problem}"),
    };
    let moment = |line: &Line| {
        Moment::parse(&line.value).ok_or_else(|| at(line, format!("{} {:?} is no date or time", line.name, line.value)))
    };
    let start_line = named("DTSTART").ok_or_else(|| match first {
        0 => "an event has no start".to_owned(),
        number => format!("line {number}: the event has no DTSTART"),
    })?;
    let start = moment(start_line)?;
    let zone = zone_of(start_line).map_err(|problem| at(start_line, problem))?.unwrap_or_else(|| default.clone());
    let length = length(named("DTEND"), named("DURATION"), start, &zone, &moment, &at)?;
    let rule = match named("RRULE") {
        Some(line) => Some(Recurrence::parse(&line.value, until).map_err(|problem| at(line, problem))?),
        None => None,
    };
    let list = |name: &'static str| {
        let values = lines.iter().filter(move |line| line.name == name).flat_map(|line| {
            let of = move |value: &str| Line { value: value.to_owned(), ..line.clone() };
            line.value.split(',').map(of).collect::<Vec<_>>()
        });
        values.map(|line| moment_in(&line, &zone, &moment, &at)).collect::<Result<Vec<_>, _>>()
    };
    let text = |name| named(name).map(|line| line.value.trim().to_owned()).unwrap_or_default();
    let cancelled = text("STATUS").eq_ignore_ascii_case("CANCELLED");
    let instead_of = named("RECURRENCE-ID").map(|line| {
        if line.parameter("RANGE").is_some() {
            return Err(at(line, "RANGE is not supported".into()));
        }
        moment_in(line, &zone, &moment, &at)
    });
    let event = Event {
        summary: text("SUMMARY"),
        start,
        length,
        rule,
        without: list("EXDATE")?,
        besides: list("RDATE")?,
        zone: zone.clone(),
    };
    Ok(Read { uid: text("UID"), instead_of: instead_of.transpose()?, cancelled, event })
}

/// A moment of a property with a zone of its own, in the event's.
fn moment_in(
    line: &Line,
    zone: &TimeZone,
    moment: &impl Fn(&Line) -> Result<Moment, String>,
    at: &impl Fn(&Line, String) -> String,
) -> Result<Moment, String> {
    let own = zone_of(line).map_err(|problem| at(line, problem))?;
    match (moment(line)?, own) {
        (Moment::Local(time), Some(own)) if own != *zone => {
            let utc = own.to_timestamp(time).map(|instant| TimeZone::UTC.to_datetime(instant));
            utc.map(Moment::Utc).map_err(|error| at(line, error.to_string()))
        }
        (moment, _) => Ok(moment),
    }
}

fn length(
    end: Option<&Line>,
    lasts: Option<&Line>,
    start: Moment,
    zone: &TimeZone,
    moment: &impl Fn(&Line) -> Result<Moment, String>,
    at: &impl Fn(&Line, String) -> String,
) -> Result<Length, String> {
    let length = match (end, lasts) {
        (Some(line), _) => {
            let end = moment_in(line, zone, moment, at)?;
            match (start, end) {
                (Moment::Date(start), Moment::Date(end)) => {
                    Length { days: super::recurrence::days_between(start, end), seconds: 0 }
                }
                _ => {
                    let begin = start.instant(zone).unwrap_or(0);
                    Length { days: 0, seconds: (end.instant(zone).unwrap_or(begin) - begin) / 1000 }
                }
            }
        }
        (None, Some(line)) => {
            let expected = || at(line, format!("DURATION {:?}: expected one as PT2H or P1D", line.value));
            let (days, seconds) = duration(&line.value).ok_or_else(expected)?;
            Length { days, seconds }
        }
        // A day lasts a day; a time by itself is over at once.
        (None, None) => Length { days: i64::from(matches!(start, Moment::Date(_))), seconds: 0 },
    };
    let problem = |what: &str| {
        let line = end.or(lasts);
        line.map_or_else(|| what.to_owned(), |line| at(line, what.to_owned()))
    };
    if length.days < 0 || length.seconds < 0 {
        return Err(problem("the event ends before it starts"));
    }
    if length.days + length.seconds / 86_400 > MOST_DAYS {
        return Err(problem("the event lasts longer than 366 days"));
    }
    Ok(length)
}

fn until(text: &str) -> Option<Until> {
    Some(match Moment::parse(text)? {
        Moment::Date(date) => Until::Date(date),
        Moment::Local(time) => Until::Local(time),
        Moment::Utc(time) => Until::Instant(Moment::Utc(time).instant(&TimeZone::UTC)?),
    })
}

/// An event of its properties alone, as configuration has it.
pub(super) fn single(lines: &[Line], zone: &TimeZone) -> Result<Event, String> {
    event(lines, zone).map(|read| read.event.settled())
}
