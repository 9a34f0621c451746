//! Datagrams handed over in the process, live.

use spikewatch_actors::mailbox::{Closed, Mailbox};
use tokio::sync::mpsc;

use super::listener::Datagram;
use crate::metrics::Metrics;

/// Passes on what comes as if it came from a socket, until nobody sends or the decoder is gone.
pub(crate) async fn pass_on(
    mut from: mpsc::Receiver<Datagram>,
    waiting: Mailbox<Datagram>,
    metrics: Metrics,
) -> Result<(), Closed> {
    while let Some(datagram) = from.recv().await {
        datagram.waits(&metrics);
        waiting.send(datagram).await?;
    }
    Ok(())
}
