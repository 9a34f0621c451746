//! One stream to one aggregator, opened again whenever it ends.

use std::{convert::Infallible, time::Duration};

use spikewatch_actors::{Seams, mailbox::Mailbox, network::Network, task::Kind};
use spikewatch_proto::{
    channel,
    trace::Traced,
    v1::{AggregatorMessage, CollectorMessage, ingest_client::IngestClient},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};
use tracing::Instrument as _;

use super::{Event, LINK_CAPACITY, LinkId, core::LaneNo};

/// Waits between attempts: from the first to the longest, doubling, each by chance down to a half of it, so that a
/// thousand collectors don't come back at one instant.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A stream that lived that long was of use: what ended it is no reason to wait long.
const OF_USE: Duration = Duration::from_secs(5);
/// Largest message an aggregator may send us.
const MAX_MESSAGE: usize = 4 << 20;

/// Why a stream could not be opened or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The address is none, or nobody answers there.
    #[error("{address}: {error}")]
    Transport {
        /// Where.
        address: String,
        /// Why.
        error: tonic::transport::Error,
    },
    /// The aggregator refused or ended the stream.
    #[error("{0}")]
    Status(#[from] Box<Status>),
}

/// Keeps a stream of a lane to `address` until `token` is cancelled. Streams are numbered from `first` on.
pub(super) fn start(
    address: String,
    lane: LaneNo,
    first: LinkId,
    events: Mailbox<Event>,
    token: CancellationToken,
    seams: &Seams,
) {
    let for_link = seams.clone();
    seams.tasks.spawn(Kind::CONNECTION, "link", async move {
        let mut link = first;
        token.run_until_cancelled(keep(&address, lane, &mut link, &events, &for_link)).await;
        // The uplink may be gone.
        let _ = events.send(Event::Disconnected { link }).await;
        Ok::<(), Infallible>(())
    });
}

async fn keep(address: &str, lane: LaneNo, link: &mut LinkId, events: &Mailbox<Event>, seams: &Seams) {
    let mut wait = FIRST_WAIT;
    loop {
        let began = Instant::now();
        if let Err(error) = stream(address, lane, *link, events, &seams.network).await {
            tracing::warn!(%error, aggregator = address, "stream to the aggregator ended");
        }
        if events.send(Event::Disconnected { link: *link }).await.is_err() {
            return;
        }
        *link += 1;
        if began.elapsed() > OF_USE {
            wait = FIRST_WAIT;
        }
        let chance = wait.mul_f64((seams.entropy.next_u64() >> 11) as f64 / (1u64 << 53) as f64);
        tokio::time::sleep((wait + chance) / 2).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

async fn stream(
    address: &str,
    lane: LaneNo,
    link: LinkId,
    events: &Mailbox<Event>,
    network: &Network,
) -> Result<(), LinkError> {
    let channel = connect(address, network).await?;
    let mut client = IngestClient::with_interceptor(channel, Traced).max_decoding_message_size(MAX_MESSAGE);
    let (outgoing, waiting) = mpsc::channel::<CollectorMessage>(LINK_CAPACITY);
    // The actor says hello at once; the aggregator answers the call when it has read it.
    if events.send(Event::Connected { link, lane, outgoing }).await.is_err() {
        return Ok(());
    }
    let opening = tracing::debug_span!("open stream", otel.kind = "client", aggregator = address);
    let answer = client.stream(ReceiverStream::new(waiting)).instrument(opening).await.map_err(Box::new)?;
    let mut incoming: Streaming<AggregatorMessage> = answer.into_inner();
    while let Some(message) = incoming.message().await.map_err(Box::new)? {
        let Some(message) = message.message else { continue };
        if events.send(Event::Message { link, message }).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// A channel to `address` that notices a dead peer.
pub(super) async fn connect(address: &str, network: &Network) -> Result<Channel, LinkError> {
    let transport = |error| LinkError::Transport { address: address.to_owned(), error };
    let endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(transport)?
        .connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    channel::connect(&endpoint, network.dial()).await.map_err(transport)
}
