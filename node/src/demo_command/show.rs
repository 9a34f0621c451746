//! The demo's screen: alerts and the account, in a form that a person likes to read.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use spikewatch_proto::convert::results::Alert;

use super::account::Account;
use crate::{
    demo::{IncidentKind, Scenario},
    human::{day_and_time, duration, plural},
};

/// Alerts that nothing staged explains, shown one by one.
const OTHERS_SHOWN: usize = 10;

/// Characters of a line of an alert's reason.
const WIDTH: usize = 100;

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const DIM: &str = "2";
const BOLD: &str = "1";

/// Standard output. Colours only where a terminal shows them and `NO_COLOR` doesn't forbid them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    colours: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colours: io::stdout().is_terminal() && !forbidden }
    }

    fn paint(self, colour: &str, text: &str) -> String {
        if self.colours { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub(super) fn heading(self, scenario: &Scenario, seed: u64) {
        let hosts = scenario.addresses().count();
        let (from, to) = (day_and_time(scenario.start_ms()), day_and_time(scenario.end_ms()));
        let sites = scenario.sites().join(" and ");
        let title = self.paint(BOLD, "Fifteen days at two sites");
        line(&format!("{title}: {sites}, {hosts} hosts, {from} to {to} (seed {seed})."));
        line("Routers and a switch export NetFlow v9, IPFIX and sFlow; all of it goes through the real pipeline.\n");
    }

    pub(super) fn alert(self, alert: &Alert) {
        let score = format!("{:>3.0}", alert.record_score);
        let score = self.paint(if alert.record_score >= 75.0 { RED } else { YELLOW }, &score);
        let when = self.paint(DIM, &day_and_time(alert.bucket_start));
        line(&format!("{score}  {when}  {}", self.paint(BOLD, &who(alert))));
        wrapped(&alert.reason, WIDTH).iter().for_each(|text| line(&format!("     {text}")));
    }

    pub(super) fn account(self, scenario: &Scenario, account: &Account) {
        let staged = account.verdicts.len();
        let title = format!("\n{} of {staged} staged incidents came out right", account.right());
        line(&self.paint(BOLD, &title));
        for (incident, verdict) in scenario.incidents().iter().zip(&account.verdicts) {
            let mark = if verdict.right { self.paint(GREEN, "✓") } else { self.paint(RED, "✗") };
            let outcome = match (verdict.after_ms, incident.must_alert) {
                (Some(after), true) => {
                    let after = duration(Duration::from_millis(after));
                    format!("alerted {after} after its first packet ({})", plural(verdict.alerts as u64, "alert"))
                }
                (Some(_), false) => format!("alerted, which is wrong ({})", plural(verdict.alerts as u64, "alert")),
                (None, true) => "not alerted, which is wrong".to_owned(),
                (None, false) => "not alerted, as it should be".to_owned(),
            };
            let what = format!("{:<13}", name(incident.kind));
            let when = self.paint(DIM, &day_and_time(incident.start_ms));
            line(&format!("  {mark} {what} {when}  {outcome}\n      {}", self.paint(DIM, &incident.story)));
        }
        line(&format!("\n{} that nothing staged explains", plural(account.others.len() as u64, "other alert")));
        for alert in account.others.iter().take(OTHERS_SHOWN) {
            let when = self.paint(DIM, &day_and_time(alert.bucket_start));
            line(&format!("  {when}  {}: {} ({:.0})", who(alert), alert.job, alert.record_score));
        }
        line("");
    }

    pub(super) fn live(self, pace: u64) {
        line(&format!("\nGoing on with live traffic, {pace} seconds in a second; Ctrl-C ends it."));
    }
}

fn name(kind: IncidentKind) -> &'static str {
    match kind {
        IncidentKind::Flood => "flood",
        IncidentKind::Exfiltration => "exfiltration",
        IncidentKind::PortScan => "port scan",
        IncidentKind::HostScan => "host scan",
        IncidentKind::Backup => "backup",
    }
}

fn who(alert: &Alert) -> String {
    match (&alert.site, alert.value.as_str()) {
        (None, "") => "all sites".into(),
        (None, value) => value.into(),
        (Some(site), value) if value.is_empty() || value == site.as_str() => format!("site {site}"),
        (Some(site), value) => format!("{site} {value}"),
    }
}

/// A text in lines of at most so many characters, broken at blanks.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(last) if last.is_empty() => last.push_str(word),
            Some(last) if last.chars().count() + 1 + word.chars().count() <= width => last.extend([" ", word]),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Whoever reads may have gone; the demo goes on.
fn line(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn reasons_are_wrapped_at_blanks() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("unbreakable", 3), ["unbreakable"]);
        assert_eq!(wrapped("", 3), [""]);
    }
}
