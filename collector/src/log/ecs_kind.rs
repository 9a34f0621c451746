//! What an ECS document is about: which part of which flow, or no flow at all.
//!
//! `event.category: network` says little: besides flows it holds DNS look-ups, HTTP requests, alerts and whatever else a
//! network sensor notices. Their flows are reported by documents of their own, so to count them would count twice.

use super::ecs_document::Document;
use super::scalar::Scalar;

/// What the reporter means by its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A connection opened on a machine with Elastic Defend.
    Opened,
    /// … and closed.
    Closed,
    /// A Packetbeat flow report.
    Flow,
    /// One direction of a flow, as NetFlow's exporters see it.
    OneWay,
    /// Any other network event: one document for each.
    Event,
    /// Not a flow; what it is instead.
    Other(&'static str),
}

/// Sorts one document. Its category must have been checked.
pub(super) fn of(document: &Document<'_>) -> Kind {
    let module = document.module.text().unwrap_or_default();
    let dataset = document.dataset.text().unwrap_or_default();
    if module == "endpoint" || dataset == "endpoint.events.network" {
        return of_defend(document);
    }
    if document.agent_type.is("packetbeat") || dataset.starts_with("network_traffic.") {
        return of_packetbeat(document, dataset);
    }
    if document.suricata.text().is_some_and(|kind| !matches!(kind, "flow" | "netflow")) {
        return Kind::Other("a Suricata event that is no flow");
    }
    if dataset.starts_with("zeek.") && dataset != "zeek.connection" {
        return Kind::Other("a Zeek log other than conn");
    }
    if module == "netflow" || dataset.starts_with("netflow.") || document.action.is("netflow_flow") {
        return Kind::OneWay;
    }
    // Packetbeat's reports, though whatever passed them on left out the agent.
    let is_report = document.kind.is("flow") || document.action.is("network_flow");
    if is_report && document.flow.text().is_some() { Kind::Flow } else { Kind::Event }
}

/// Elastic Defend: a document when a connection opens and one when it closes, or one for both; and DNS and HTTP events
/// beside them.
fn of_defend(document: &Document<'_>) -> Kind {
    match (document.action.text(), document.starts, document.ends) {
        (Some("lookup_requested" | "lookup_result"), _, _) => Kind::Other("a DNS look-up"),
        (_, true, true) => Kind::Event,
        (_, true, false) => Kind::Opened,
        (_, false, true) => Kind::Closed,
        (_, false, false) => Kind::Other("an Elastic Defend event that opens or closes no connection"),
    }
}

/// Packetbeat: flows, and transactions (HTTP, DNS, TLS, …) that travelled in them.
fn of_packetbeat(document: &Document<'_>, dataset: &str) -> Kind {
    let is_flow = match &document.kind {
        Scalar::Text(kind) => kind == "flow",
        _ => document.flow.text().is_some() || dataset.ends_with("flow") || document.action.is("network_flow"),
    };
    match (is_flow, document.flow.text()) {
        (true, Some(_)) => Kind::Flow,
        (true, None) => Kind::Event,
        (false, _) => Kind::Other("a Packetbeat transaction"),
    }
}
