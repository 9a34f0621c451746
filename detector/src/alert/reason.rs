//! The alert in words: actual, typical, how many times, since when, with whom.

use std::time::Duration;

use spikewatch_domain::{key::Dimension, window::Measure};
use spikewatch_proto::convert::results::{Alert, AnomalyRecord, Contributor, Stage};

use super::{
    kind::{Kind, Likely},
    quantity::{amount, bytes, count, period, time},
};
use crate::job::{Aggregate, Function};

pub(super) fn of(alert: &Alert, record: &AnomalyRecord, likely: &Likely) -> String {
    let (who, did) = (who(record), did(record.measure));
    let function = Function::named(&record.function);
    let each = if function.and_then(Function::aggregate) == Some(Aggregate::Mean) { " per connection" } else { "" };
    let amount = |value| format!("{}{each}", amount(record.measure, value));
    let to_new_peers = record.function == Function::Exfiltration.name();
    let (to, usual) = match to_new_peers {
        true => (" to peers that it had not met for a week", format!("a usual day reaches {}", amount(record.upper))),
        false => ("", format!("95 % of values lie between {} and {}", amount(record.lower), amount(record.upper))),
    };
    let begin = format!(
        "{who} {did} {}{to} in the {} from {}",
        amount(record.actual),
        record.bucket_span,
        time(record.bucket_start)
    );
    let mut text = if function == Some(Function::Rare) {
        let (met, buckets) = (count(record.typical), count(f64::from(record.buckets_seen)));
        format!("{begin}; it was there in {met} of the {buckets} buckets before")
    } else {
        let is = if is_one(&amount(record.typical)) || is_bytes(record.measure) { "is" } else { "are" };
        format!("{begin}; {} {is} typical ({usual})", amount(record.typical))
    };
    if let Some(factor) = factor(record) {
        text.push_str(&format!(", so {} times as much", count(factor)));
    } else if function != Some(Function::Rare) && record.actual < 0.95 * record.typical {
        text.push_str(&format!(", so {} % of it", count(100.0 * record.actual / record.typical)));
    }
    text.push('.');
    if alert.incident.start < record.bucket_start {
        text.push_str(&format!(" It has been like this since {}.", time(alert.incident.start)));
    }
    text.extend(course(alert, record));
    match likely.kind {
        Kind::Unclear => {}
        Kind::Exfiltration => text.push_str(" It looks like exfiltration."),
        kind => text.push_str(&format!(" It looks like a {}.", kind.name())),
    }
    let fields = [
        ("site", "Sites"),
        ("new_peer", "New peers"),
        ("peer", "Top peers"),
        ("service", "Services"),
        ("process", "Processes"),
    ];
    for (field, label) in fields {
        let named: Vec<String> =
            record.contributors.iter().filter(|contributor| contributor.field == field).take(3).map(named).collect();
        if !named.is_empty() {
            text.push_str(&format!(" {label}: {}.", named.join(", ")));
        }
    }
    if let Some(suppressed) = alert.suppression.as_ref().filter(|suppressed| suppressed.count > 0) {
        text.push_str(&format!(" {} more of the same were suppressed.", count(suppressed.count as f64)));
    }
    if alert.stage != Stage::Final {
        text.push_str(&format!(" {}", of_stage(alert.stage)));
    }
    if record.incomplete {
        text.push_str(" A collector of the site was missing, so the real value may be higher.");
    }
    text
}

/// What a stage means to whoever reads the alert.
fn of_stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Final => "",
        Stage::Early => "This is what was counted so far: its time has not ended.",
        Stage::Confirmed => "It was told early and is confirmed.",
        Stage::Unconfirmed => "It was told early and is not confirmed: all of its time was not over the threshold.",
    }
}

/// What is known by now of the incident that the alert tells of.
fn course(alert: &Alert, record: &AnomalyRecord) -> Option<String> {
    let incident = &alert.incident;
    if incident.id != alert.id {
        return None;
    }
    let lasted = Duration::from_millis(incident.last.saturating_sub(incident.start));
    let bucket_end = record.bucket_start.saturating_add(record.bucket_span.millis());
    match incident.ended {
        true => Some(format!(" It ended at {} and lasted {}.", time(incident.last), period(lasted))),
        false if incident.last > bucket_end => {
            Some(format!(" It has lasted {} by now, until {}.", period(lasted), time(incident.last)))
        }
        false => None,
    }
}

fn is_bytes(measure: Measure) -> bool {
    matches!(measure, Measure::BytesOut | Measure::BytesIn)
}

fn is_one(amount: &str) -> bool {
    amount.starts_with("1 ")
}

/// How many times the typical value, where that says something.
pub(super) fn factor(record: &AnomalyRecord) -> Option<f64> {
    // What is typical of something rare is how often it was there.
    let same_unit = record.function != Function::Rare.name();
    (same_unit && record.typical >= 0.5 && record.actual > record.typical).then(|| record.actual / record.typical)
}

fn who(record: &AnomalyRecord) -> String {
    let site = record.site.as_ref().map(|site| site.as_str()).unwrap_or_default();
    match record.dimension {
        None => "All sites together".into(),
        Some(Dimension::Site) => format!("Site {site}"),
        Some(Dimension::Host) => format!("{} at site {site}", record.value),
        Some(dimension) => format!("{} {} at site {site}", capital(dimension), record.value),
    }
}

fn capital(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Country => "Country",
        Dimension::Asn => "Network",
        Dimension::Port => "Port",
        Dimension::Host | Dimension::Site => "",
    }
}

fn did(measure: Measure) -> &'static str {
    match measure {
        Measure::Events | Measure::Denied => "had",
        Measure::BytesOut | Measure::PacketsOut => "sent",
        Measure::BytesIn | Measure::PacketsIn => "received",
        Measure::DistinctPeers => "talked to",
        Measure::DistinctPeerPorts => "used",
    }
}

fn named(contributor: &Contributor) -> String {
    let events = amount(Measure::Events, contributor.events as f64);
    format!("{} ({events}, {})", contributor.value, bytes(contributor.bytes as f64))
}
