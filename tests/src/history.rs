//! A past for a detector: what hosts did in buckets that have ended, committed as an owner of shards would.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use spikewatch_domain::{
    key::{SiteName, Subject},
    shard::shard_of,
    window::{Counters, Peer, Service, Share, Window},
};
use spikewatch_proto::{
    PROTOCOL_VERSION,
    convert::{
        cluster::{Incarnation, Shape},
        commit::{Pair, write_pair},
        early::{Limits, Tripwires},
        windows,
    },
    v1::{
        self, control_client::ControlClient, detector_message::Message, owner_message,
        windowing_client::WindowingClient,
    },
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

/// Who owns shards before the aggregators do.
const OWNER: &str = "before";
/// How long the next answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// By key, the values from which on the bucket after the last one makes an alert.
pub type Wires = BTreeMap<(SiteName, Subject), Limits>;

/// A window of so many small flows to one peer.
#[must_use]
pub fn window(events: u64) -> Window {
    let mut window = Window::default();
    window.add(&Share {
        counters: Counters { events, bytes_out: events * 500, packets_out: events * 3, ..Counters::default() },
        peer: Peer::from(std::net::IpAddr::from([198, 51, 100, 7])),
        service: Service { port: 443, protocol: 6 },
        annotations: None,
    });
    window
}

/// Owns all shards for as long as it takes to commit the windows of these buckets (numbered from 1970 on), of a collector
/// that is gone and waited for by nobody. Returns once they are scored, and every shard that has a key has tripwires.
///
/// # Panics
/// The detector is not there, refuses, or has no tripwires for such a shard.
pub async fn commit(
    detector: &Channel,
    shape: Shape,
    buckets: Range<u64>,
    of: impl Fn(u64) -> Vec<(SiteName, Subject, Window)>,
) -> Wires {
    let (heartbeat, heartbeats) = mpsc::channel(4);
    let join = v1::Join {
        aggregator: OWNER.into(),
        advertise: "http://127.0.0.1:1".into(),
        protocol_version: PROTOCOL_VERSION,
        instance: vec![3; 16],
        ..v1::Join::default()
    };
    heartbeat.send(join).await.expect("room for one");
    let mut control = ControlClient::new(detector.clone());
    let joined = control.join_cluster(ReceiverStream::new(heartbeats)).await.expect("a leading detector");
    let mut assignments = joined.into_inner();
    let assignment = assignments.message().await.expect("an assignment").expect("an assignment").number;
    let (outgoing, messages) = mpsc::channel(64);
    let mut client = WindowingClient::new(detector.clone()).max_decoding_message_size(64 << 20);
    let mut answers = client.forward(ReceiverStream::new(messages)).await.expect("a stream").into_inner();
    let mut untold = BTreeSet::new();
    let last = (buckets.end - 1) * shape.bucket.millis();
    for shard in 0..shape.shards {
        let open = v1::OpenShard { shard, assignment, owner: OWNER.into(), held: None };
        send(&outgoing, owner_message::Message::Open(open)).await;
        let epoch = loop {
            if let Message::Opened(opened) = next(&mut answers).await {
                break opened.epoch;
            }
        };
        let own = buckets.clone().map(|bucket| {
            let start = bucket * shape.bucket.millis();
            let mut rows = v1::Windows::default();
            for (site, subject, window) in of(bucket) {
                if shard_of(&site, &subject, shape.shards) == shard {
                    untold.insert(shard);
                    let site = site.to_string();
                    let at = rows.sites.iter().position(|other| *other == site).unwrap_or_else(|| {
                        rows.sites.push(site);
                        rows.sites.len() - 1
                    });
                    windows::push(&mut rows, Some(at as u32), &subject, &window, false);
                }
            }
            v1::BucketWindows { bucket_start_ms: start, windows: Some(rows) }
        });
        let site = "before".parse().expect("a name");
        let gone = Incarnation { site, collector: "before".parse().expect("a name"), id: [5; 16] };
        let commit = v1::Commit {
            shard,
            epoch,
            commit_no: 1,
            bucket_start_ms: last,
            windows: own.collect(),
            pairs: vec![write_pair(&gone, Pair { bucket: last, seq: 1 })],
            ..v1::Commit::default()
        };
        send(&outgoing, owner_message::Message::Commit(commit)).await;
        while !matches!(next(&mut answers).await, Message::Ack(_)) {}
    }
    let mut wires = Wires::new();
    while !untold.is_empty() {
        let Message::Tripwires(message) = next(&mut answers).await else { continue };
        let of_shard = Tripwires::read(&message).expect("tripwires");
        if of_shard.bucket == last + shape.bucket.millis() {
            untold.remove(&of_shard.shard);
            wires.extend(of_shard.wires.into_iter().map(|(site, subject, limits)| ((site, subject), limits)));
        }
    }
    wires
}

async fn send(outgoing: &mpsc::Sender<v1::OwnerMessage>, message: owner_message::Message) {
    outgoing.send(v1::OwnerMessage { message: Some(message) }).await.expect("the detector listens");
}

async fn next(answers: &mut Streaming<v1::DetectorMessage>) -> Message {
    let answer = timeout(PATIENCE, answers.message()).await.expect("an answer in time");
    let answer = answer.expect("an answer").and_then(|answer| answer.message).expect("an answer");
    assert!(!matches!(answer, Message::Refusal(_)), "refused: {answer:?}");
    answer
}
