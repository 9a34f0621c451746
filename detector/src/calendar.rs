//! Calendars: times in which unusual traffic is expected, so that it makes no anomaly record, or isn't learnt, or both.
//!
//! A bucket is covered by an event that takes place in any part of it. Calendars are part of what a bucket is scored with:
//! one that is changed counts for the buckets from then on.

mod content;
mod event;
mod ical;
mod moment;
mod recurrence;

use std::{net::IpAddr, sync::Arc};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use spikewatch_domain::{
    key::{SiteName, Subject},
    network::Network,
    record::EventMillis,
};

use self::content::Line;
pub use self::event::Event;
use crate::{exception::matches, job::Job};

/// What an event does to the buckets that it covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// No anomaly record is made.
    SkipResult,
    /// Nothing is learnt.
    SkipModelUpdate,
    /// Neither.
    #[default]
    Both,
}

/// What is left out for one series and bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skip {
    /// No anomaly record is made.
    pub result: bool,
    /// Nothing is learnt.
    pub model_update: bool,
}

impl Skip {
    /// What either leaves out.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { result: self.result || other.result, model_update: self.model_update || other.model_update }
    }
}

/// A calendar.
#[derive(Debug, Clone, PartialEq)]
pub struct Calendar {
    /// What people see.
    pub name: String,
    effect: Effect,
    /// Patterns of ids of jobs; all if empty.
    jobs: Vec<String>,
    /// Groups of jobs: what they are split by, or their measure; all if empty.
    groups: Vec<String>,
    /// All if empty.
    sites: Vec<SiteName>,
    hosts: Hosts,
    events: Vec<Event>,
}

/// Some hosts, or everything.
#[derive(Debug, Clone, Default, PartialEq)]
struct Hosts {
    patterns: Vec<String>,
    networks: Vec<Network>,
}

/// A calendar as configuration writes it. Its events come beside it, or from an iCalendar text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// What people see.
    pub name: String,
    /// Path of an iCalendar file; the caller reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Zone of times that name none, by its IANA name; UTC if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What events do.
    #[serde(default)]
    pub effect: Effect,
    /// Ids of jobs, `*` and `?` as in patterns; all if empty.
    #[serde(default)]
    pub jobs: Vec<String>,
    /// What jobs are split by ("global", "site", "host", …) or their measure; all if empty.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Sites; all if empty. The global series belongs to none.
    #[serde(default)]
    pub sites: Vec<String>,
    /// Names, patterns, addresses or networks of hosts; if not empty, only series of these hosts.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Events.
    #[serde(default)]
    pub events: Vec<WrittenEvent>,
}

/// An event as configuration writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenEvent {
    /// What people see.
    #[serde(default)]
    pub summary: String,
    /// "2026-12-24T18:00", "2026-12-24T18:00:00Z", or a whole day as "2026-12-24".
    pub start: String,
    /// When it ends; a whole day's end is the first day after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// How long it lasts instead, as "PT2H".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// How it comes back, as "FREQ=WEEKLY;BYDAY=SA".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rrule: Option<String>,
    /// Occurrences that don't take place.
    #[serde(default)]
    pub exdates: Vec<String>,
}

/// Why a calendar can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("calendar {calendar:?}: {problem}")]
pub struct InvalidCalendar {
    /// Its name.
    pub calendar: String,
    /// What was found and what was expected.
    pub problem: String,
}

impl Calendar {
    /// Makes a calendar; `text` is that of its iCalendar file, if it has one.
    ///
    /// # Errors
    /// Names the line or the field that doesn't fit.
    pub fn new(written: Written, text: Option<&str>) -> Result<Self, InvalidCalendar> {
        let name = written.name.clone();
        Self::read(written, text).map_err(|problem| InvalidCalendar { calendar: name, problem })
    }

    fn read(written: Written, text: Option<&str>) -> Result<Self, String> {
        let Written { name, file, time_zone, effect, jobs, groups, sites, hosts, events } = written;
        let zone = time_zone.map_or(Ok(TimeZone::UTC), |name| moment::zone(&name))?;
        let file = file.unwrap_or_default();
        let mut all = match text {
            Some(text) => ical::events(text, &zone).map_err(|problem| format!("{file}: {problem}"))?,
            None => Vec::new(),
        };
        for (number, event) in (1..).zip(events) {
            let event =
                ical::single(&properties(event), &zone).map_err(|problem| format!("event {number}: {problem}"))?;
            all.push(event);
        }
        if all.is_empty() {
            return Err("has no event".into());
        }
        let sites = sites.iter().map(|site| site.parse::<SiteName>().map_err(|error| format!("sites: {error}")));
        Ok(Self {
            name,
            effect,
            jobs,
            groups,
            sites: sites.collect::<Result<_, _>>()?,
            hosts: Hosts::of(hosts),
            events: all,
        })
    }

    /// True if an event takes place in any part of `[start, end)`.
    fn is_on(&self, start: EventMillis, end: EventMillis) -> bool {
        let ms = |time: EventMillis| i64::try_from(time).unwrap_or(i64::MAX);
        self.events.iter().any(|event| event.overlaps(ms(start), ms(end)))
    }

    fn is_about(&self, job: &Job) -> bool {
        let group = |group: &String| job.groups().contains(&group.as_str());
        (self.jobs.is_empty() || self.jobs.iter().any(|pattern| matches(pattern, &job.id)))
            && (self.groups.is_empty() || self.groups.iter().any(group))
    }

    fn takes(&self, site: Option<&SiteName>, subject: &Subject) -> bool {
        let here = self.sites.is_empty() || site.is_some_and(|site| self.sites.contains(site));
        here && self.hosts.take(subject)
    }

    fn skip(&self) -> Skip {
        Skip { result: self.effect != Effect::SkipModelUpdate, model_update: self.effect != Effect::SkipResult }
    }
}

fn properties(event: WrittenEvent) -> Vec<Line> {
    let WrittenEvent { summary, start, end, duration, rrule, exdates } = event;
    let mut lines = vec![Line::of("SUMMARY", &summary), Line::of("DTSTART", &start)];
    lines.extend(end.map(|end| Line::of("DTEND", &end)));
    lines.extend(duration.map(|duration| Line::of("DURATION", &duration)));
    lines.extend(rrule.map(|rule| Line::of("RRULE", &rule)));
    lines.extend(exdates.iter().map(|date| Line::of("EXDATE", date)));
    lines
}

impl Hosts {
    fn of(texts: Vec<String>) -> Self {
        let mut hosts = Self::default();
        for text in texts {
            match text.parse() {
                Ok(network) => hosts.networks.push(network),
                Err(_) => hosts.patterns.push(text),
            }
        }
        hosts
    }

    fn take(&self, subject: &Subject) -> bool {
        if self.patterns.is_empty() && self.networks.is_empty() {
            return true;
        }
        if !matches!(subject, Subject::Name(_) | Subject::Address(_)) {
            return false;
        }
        let text = subject.to_string();
        let address: Option<IpAddr> = text.parse().ok();
        self.patterns.iter().any(|pattern| matches(pattern, &text))
            || address.is_some_and(|address| self.networks.iter().any(|network| network.contains(address)))
    }
}

/// All calendars.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Calendars(Arc<[Calendar]>);

impl Calendars {
    /// These.
    #[must_use]
    pub fn new(calendars: Vec<Calendar>) -> Self {
        Self(calendars.into())
    }

    /// Those with an event in the bucket `[start, end)`.
    #[must_use]
    pub fn on(&self, start: EventMillis, end: EventMillis) -> Vec<&Calendar> {
        self.0.iter().filter(|calendar| calendar.is_on(start, end)).collect()
    }
}

/// The calendars that count for one job in one bucket.
#[derive(Debug, Clone, Default)]
pub struct Quiet<'a>(Vec<&'a Calendar>);

impl<'a> Quiet<'a> {
    /// Those of these that are about the job.
    #[must_use]
    pub fn of(on: &[&'a Calendar], job: &Job) -> Self {
        Self(on.iter().filter(|calendar| calendar.is_about(job)).copied().collect())
    }

    /// True if nothing is left out of any series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left out for a series.
    #[must_use]
    pub fn skip(&self, site: Option<&SiteName>, subject: &Subject) -> Skip {
        let own = self.0.iter().filter(|calendar| calendar.takes(site, subject));
        own.fold(Skip::default(), |skip, calendar| skip.or(calendar.skip()))
    }
}

#[cfg(test)]
mod tests;
