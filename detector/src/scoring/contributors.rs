//! Who a window's traffic was with, as anomaly records name them.

use std::net::IpAddr;

use spikewatch_domain::{
    top::{Tally, Top},
    window::{Measure, Peer, Service, Window},
};
use spikewatch_proto::convert::results::Contributor;

use super::Row;

const PEERS: usize = 5;
const OTHERS: usize = 3;

/// A contributor, and the bytes of it that the window's key sent.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) contributor: Contributor,
    sent: u64,
}

impl Known {
    /// What of a window's measure is counted for it; none of measures that aren't counted by contributor.
    pub(super) fn part(&self, measure: Measure) -> Option<u64> {
        match measure {
            Measure::Events => Some(self.contributor.events),
            Measure::BytesOut => Some(self.sent),
            Measure::BytesIn => Some(self.contributor.bytes.saturating_sub(self.sent)),
            _ => None,
        }
    }
}

/// The heaviest peers, services, users and processes of a window.
pub(super) fn of(window: &Window) -> Vec<Known> {
    let mut list = Vec::new();
    take(&mut list, "peer", &window.peers, PEERS, |peer| IpAddr::from(*peer).to_string());
    take(&mut list, "service", &window.services, OTHERS, |service| service_name(*service));
    if let Some(names) = &window.names {
        take(&mut list, "user", &names.users, OTHERS, |name| name.to_string());
        take(&mut list, "process", &names.processes, OTHERS, |name| name.to_string());
    }
    list
}

/// Those of the listed peers that the host did not know, by the bytes that were sent to them; `strangers` in the order of the
/// list.
pub(super) fn new_peers(window: &Window, strangers: impl Iterator<Item = Peer>) -> Vec<Contributor> {
    let strangers: Vec<Peer> = strangers.collect();
    let mut listed: Vec<&Tally<Peer>> = window.peers.ranked();
    listed.retain(|tally| strangers.contains(&tally.id) && tally.sent() > 0);
    listed.sort_by_key(|tally| std::cmp::Reverse(tally.sent()));
    let name = |tally: &Tally<Peer>| Contributor {
        field: "new_peer".to_owned(),
        value: IpAddr::from(tally.id).to_string(),
        events: u64::from(tally.events),
        bytes: tally.sent(),
        error: tally.error() as f64,
        influencer_score: None,
    };
    listed.into_iter().take(PEERS).map(name).collect()
}

/// A site as a contributor to the global series.
pub(super) fn site(row: &Row) -> Known {
    let counters = &row.window.counters;
    let contributor = Contributor {
        field: "site".into(),
        value: row.site.as_str().to_owned(),
        events: counters.events,
        bytes: counters.bytes(),
        error: 0.0,
        influencer_score: None,
    };
    Known { contributor, sent: counters.bytes_out }
}

/// The sites with most events; ties by name.
pub(super) fn heaviest(mut sites: Vec<Known>) -> Vec<Known> {
    sites.sort_by(|Known { contributor: a, .. }, Known { contributor: b, .. }| {
        b.events.cmp(&a.events).then_with(|| a.value.cmp(&b.value))
    });
    sites.truncate(OTHERS);
    sites
}

fn take<I: Ord + Clone, const N: usize>(
    list: &mut Vec<Known>,
    field: &str,
    top: &Top<I, N>,
    most: usize,
    text: impl Fn(&I) -> String,
) {
    let name = |tally: &&Tally<I>| Known {
        contributor: Contributor {
            field: field.to_owned(),
            value: text(&tally.id),
            events: u64::from(tally.events),
            bytes: tally.bytes(),
            error: tally.error() as f64,
            influencer_score: None,
        },
        sent: tally.sent(),
    };
    list.extend(top.ranked().iter().take(most).map(name));
}

/// As "443/tcp"; without the port where the protocol has none.
fn service_name(service: Service) -> String {
    let protocol = match service.protocol {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        47 => "gre".into(),
        50 => "esp".into(),
        58 => "ipv6-icmp".into(),
        132 => "sctp".into(),
        other => format!("protocol-{other}"),
    };
    match service.port {
        0 => protocol,
        port => format!("{port}/{protocol}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named() {
        assert_eq!(service_name(Service { port: 443, protocol: 6 }), "443/tcp");
        assert_eq!(service_name(Service { port: 0, protocol: 1 }), "icmp");
        assert_eq!(service_name(Service { port: 9, protocol: 200 }), "9/protocol-200");
    }
}
