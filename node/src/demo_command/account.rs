//! What was staged against what was alerted.

use spikewatch_proto::convert::results::Alert;

use crate::demo::{Incident, Scenario};

/// An incident is still going on, for its alerts, this long after its last packet: the bucket must end.
const AFTERMATH_MS: u64 = 15 * 60 * 1_000;

/// The account of one run.
#[derive(Debug)]
pub(super) struct Account {
    /// One for each incident, in its order.
    pub(super) verdicts: Vec<Verdict>,
    /// Alerts that no incident explains.
    pub(super) others: Vec<Alert>,
}

/// What became of an incident.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Alerts on its host in its time.
    pub(super) alerts: usize,
    /// When the first of them was made, after the first packet, ms.
    pub(super) after_ms: Option<u64>,
    /// True if it was alerted and had to be, or wasn't and must not.
    pub(super) right: bool,
}

impl Account {
    pub(super) fn new(scenario: &Scenario, alerts: &[Alert]) -> Self {
        let sites = scenario.sites();
        let of = |incident: &Incident, alert: &Alert| {
            let site = sites.get(incident.site).copied();
            site == alert.site.as_ref().map(spikewatch_domain::key::SiteName::as_str)
                && alert.value == incident.host.to_string()
                && during(incident, alert)
        };
        let verdict = |incident: &Incident| {
            let mut found = alerts.iter().filter(|alert| of(incident, alert)).peekable();
            let after_ms = found.peek().map(|first| first.created.saturating_sub(incident.start_ms));
            let alerts = found.count();
            Verdict { alerts, after_ms, right: (alerts > 0) == incident.must_alert }
        };
        let explained = |alert: &&Alert| {
            scenario.incidents().iter().filter(|incident| during(incident, alert)).any(|incident| {
                let host = alert.value == incident.host.to_string();
                let beside = incident.also.iter().any(|other| alert.value == other.to_string());
                // The whole site, or all sites, rise with their host; for a backup that is no excuse.
                let whole = alert.value.is_empty() || sites.contains(&alert.value.as_str());
                host || (incident.must_alert && (beside || whole))
            })
        };
        Self {
            verdicts: scenario.incidents().iter().map(verdict).collect(),
            others: alerts.iter().filter(|alert| !explained(alert)).cloned().collect(),
        }
    }

    /// Incidents that came out right.
    pub(super) fn right(&self) -> usize {
        self.verdicts.iter().filter(|verdict| verdict.right).count()
    }
}

fn during(incident: &Incident, alert: &Alert) -> bool {
    // An alert's bucket holds part of the incident, or is the one after it (a flow's last report comes late).
    let bucket_end = alert.bucket_start.saturating_add(AFTERMATH_MS);
    bucket_end > incident.start_ms && alert.bucket_start <= incident.end_ms.saturating_add(AFTERMATH_MS)
}
