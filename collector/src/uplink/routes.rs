//! Learns from any aggregator which ones there are.

use std::{convert::Infallible, time::Duration};

use spikewatch_actors::{Seams, mailbox::Mailbox, task::Kind};
use spikewatch_proto::v1::{RoutesRequest, control_client::ControlClient};

use super::{
    Event,
    link::{LinkError, connect},
};

/// Wait before the next seed is asked.
const WAIT: Duration = Duration::from_millis(200);

/// Asks one seed after another, for as long as the node lives, and passes on what it says.
pub(super) fn watch(seeds: Vec<String>, events: Mailbox<Event>, seams: &Seams) {
    seams.tasks.spawn(Kind::BACKGROUND, "routes", async move {
        for seed in seeds.iter().cycle() {
            if let Err(error) = follow(seed, &events).await {
                tracing::debug!(%error, seed, "no routes from this aggregator");
            }
            if events.is_closed() {
                break;
            }
            tokio::time::sleep(WAIT).await;
        }
        Ok::<(), Infallible>(())
    });
}

async fn follow(seed: &str, events: &Mailbox<Event>) -> Result<(), LinkError> {
    let mut client = ControlClient::new(connect(seed).await?);
    let answer = client.watch_routes(RoutesRequest { collector: String::new() }).await.map_err(Box::new)?;
    let mut incoming = answer.into_inner();
    while let Some(routes) = incoming.message().await.map_err(Box::new)? {
        let mut addresses: Vec<String> = routes.routes.into_iter().map(|route| route.address).collect();
        addresses.sort();
        addresses.dedup();
        // An empty table is a cluster that has no owner yet, not one that lost all its aggregators.
        if !addresses.is_empty() && events.send(Event::Routes(addresses)).await.is_err() {
            break;
        }
    }
    Ok(())
}
