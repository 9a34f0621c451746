//! Learns which aggregators there are: from any of them, and from the seeds while it knows none.
//!
//! A seed may be a name with many addresses (a headless service, say): all are tried, in the resolver's order, and the
//! name is resolved anew at each attempt. Every set of routes has a number that only grows; what an aggregator says that
//! is behind is not believed.

use std::{convert::Infallible, time::Duration};

use spikewatch_actors::{Seams, mailbox::Mailbox, network::Network, task::Kind};
use spikewatch_proto::{
    trace::Traced,
    v1::{self, RoutesRequest, control_client::ControlClient},
};
use tokio::time::timeout;
use tonic::{Status, transport::Uri};
use tracing::Instrument as _;

use super::{
    Event,
    link::{LinkError, connect},
};

/// Waits after a round in which nobody had routes: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// Wait after a source of routes ended.
const NEXT_WAIT: Duration = Duration::from_millis(50);
/// How long one may take to say its first routes.
const PATIENCE: Duration = Duration::from_secs(5);
/// After so many rounds in which all routes were old ones, the store was made anew, and its numbers with it.
const ROUNDS_BEFORE_BELIEF: u32 = 3;

/// Follows routes for as long as the node lives, and passes them on.
pub(super) fn watch(seeds: Vec<String>, events: Mailbox<Event>, seams: &Seams) {
    let mut watcher = Watcher { seeds, events, network: seams.network.clone(), known: Known::default() };
    seams.tasks.spawn(Kind::BACKGROUND, "routes", async move {
        let mut wait = FIRST_WAIT;
        while !watcher.events.is_closed() {
            if watcher.round().await {
                wait = FIRST_WAIT;
                tokio::time::sleep(NEXT_WAIT).await;
            } else {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
        Ok::<(), Infallible>(())
    });
}

struct Watcher {
    seeds: Vec<String>,
    events: Mailbox<Event>,
    network: Network,
    known: Known,
}

impl Watcher {
    /// Asks one aggregator after another until one has routes; follows them until it has no more. False if none had.
    async fn round(&mut self) -> bool {
        let mut asked: Vec<String> = Vec::new();
        for name in self.known.addresses.iter().chain(&self.seeds).cloned().collect::<Vec<_>>() {
            for address in resolve(&name).await {
                if asked.contains(&address) {
                    continue;
                }
                let followed = self.follow(&address).await;
                asked.push(address);
                match followed {
                    Ok(true) => return true,
                    Ok(false) => tracing::debug!(name, "only old routes from this aggregator"),
                    Err(error) => tracing::debug!(%error, name, "no routes from this aggregator"),
                }
            }
        }
        self.known.round_in_vain();
        false
    }

    /// Passes on what one aggregator says, until it ends. False if nothing of it was news.
    async fn follow(&mut self, address: &str) -> Result<bool, LinkError> {
        let mut client = ControlClient::with_interceptor(connect(address, &self.network).await?, Traced);
        let asking = tracing::debug_span!("watch routes", otel.kind = "client", aggregator = address);
        let late = |_| Box::new(Status::deadline_exceeded("it has no routes"));
        let call = client.watch_routes(RoutesRequest { collector: String::new() }).instrument(asking);
        let answer = timeout(PATIENCE, call).await.map_err(late)?.map_err(Box::new)?;
        let mut incoming = answer.into_inner();
        let mut next = timeout(PATIENCE, incoming.message()).await.map_err(late)?;
        let mut news = false;
        while let Ok(Some(routes)) = next {
            match self.known.take(&routes) {
                Taken::News => {
                    if self.events.send(Event::Routes(self.known.addresses.clone())).await.is_err() {
                        break;
                    }
                }
                Taken::Known => {}
                Taken::Old => return Ok(news),
            }
            news = true;
            next = incoming.message().await;
        }
        Ok(news)
    }
}

/// Addresses of a name, as endpoints; the name itself if it can't be resolved here.
async fn resolve(name: &str) -> Vec<String> {
    let Some((scheme, host, port)) = parts(name) else { return vec![name.to_owned()] };
    match tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await {
        Ok(found) => found.map(|address| format!("{scheme}://{address}")).collect(),
        Err(error) => {
            tracing::debug!(%error, name, "not resolved");
            Vec::new()
        }
    }
}

/// Scheme, host and port of an endpoint whose name is not needed beyond its address: TLS would need it.
fn parts(name: &str) -> Option<(String, String, u16)> {
    let uri: Uri = name.parse().ok()?;
    let plain = uri.scheme_str().filter(|scheme| *scheme == "http")?;
    Some((plain.to_owned(), uri.host()?.to_owned(), uri.port_u16().unwrap_or(80)))
}

/// The newest routes.
#[derive(Debug, Default)]
struct Known {
    number: u64,
    addresses: Vec<String>,
    rounds_in_vain: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Taken {
    News,
    Known,
    Old,
}

impl Known {
    fn take(&mut self, routes: &v1::Routes) -> Taken {
        if routes.number < self.number {
            return Taken::Old;
        }
        let mut addresses: Vec<String> = routes.routes.iter().map(|route| route.address.clone()).collect();
        addresses.sort();
        addresses.dedup();
        (self.number, self.rounds_in_vain) = (routes.number, 0);
        // An empty table is a cluster that has no owner yet, not one that lost all its aggregators.
        if addresses.is_empty() || addresses == self.addresses {
            return Taken::Known;
        }
        self.addresses = addresses;
        Taken::News
    }

    fn round_in_vain(&mut self) {
        self.rounds_in_vain += 1;
        if self.rounds_in_vain >= ROUNDS_BEFORE_BELIEF {
            (self.number, self.rounds_in_vain) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests;
