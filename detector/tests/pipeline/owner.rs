//! An owner of all shards, as an aggregator would be one, and a detector on a loopback port.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use spikewatch_actors::{Seams, clock::Clock, entropy::Entropy, task::Kind};
use spikewatch_detector::{Handle, Options, rule::Rule};
use spikewatch_domain::{
    key::{SiteName, Subject},
    shard::shard_of,
    span::Span,
    window::Window,
};
use spikewatch_proto::{
    PROTOCOL_VERSION,
    convert::{cluster::Shape, commit::write_pair, windows},
    v1::{
        self, control_client::ControlClient, detector_message::Message, owner_message,
        windowing_client::WindowingClient,
    },
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{
    Streaming,
    transport::{Channel, Server},
};

/// Length of a bucket, ms.
pub(crate) const QUARTER: u64 = 900_000;
/// Buckets committed at once where nothing else is said.
const BATCH: usize = 40;

pub(crate) fn shape(shards: u32) -> Shape {
    Shape { shards, bucket: Span::QUARTER_HOUR }
}

/// A running detector.
pub(crate) struct Detector {
    pub(crate) channel: Channel,
    pub(crate) handle: Handle,
    pub(crate) seams: Seams,
}

impl Detector {
    /// Starts one on an event-time clock.
    pub(crate) async fn start(shards: u32, store_url: &str) -> Self {
        let (clock, _) = Clock::event();
        Self::start_with(shards, store_url, Vec::new(), Seams::new(clock, Entropy::seeded(1))).await
    }

    /// Starts one with these rules (those that ship if empty) on these seams.
    pub(crate) async fn start_with(shards: u32, store_url: &str, rules: Vec<Rule>, seams: Seams) -> Self {
        let shape = shape(shards);
        let options = Options { store_url: store_url.into(), shape, rules, ..Options::default() };
        Self::start_as(options, seams).await
    }

    /// Starts one with these options.
    pub(crate) async fn start_as(options: Options, seams: Seams) -> Self {
        let options = Options { durable: false, ..options };
        let (handle, routes) = spikewatch_detector::start(options, &seams).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stop = seams.tasks.token();
        seams.tasks.spawn(Kind::CONNECTION, "server", async move {
            let incoming = TcpListenerStream::new(listener);
            Server::builder()
                .add_routes(routes)
                .serve_with_incoming_shutdown(incoming, stop.cancelled())
                .await
                .unwrap();
            Ok::<(), Infallible>(())
        });
        let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
        Self { channel, handle, seams }
    }

    pub(crate) async fn stop(self) {
        drop(self.channel);
        self.seams.tasks.shutdown(Duration::from_secs(10)).await;
    }

    /// Waits until all buckets up to this one are scored.
    pub(crate) async fn scored(&self, bucket: u64) {
        let mut client = v1::results_client::ResultsClient::new(self.channel.clone());
        let mut progress = client.watch_progress(v1::ProgressRequest {}).await.unwrap().into_inner();
        while let Some(now) = progress.message().await.unwrap() {
            if now.scored_ms >= bucket * QUARTER {
                return;
            }
        }
        panic!("progress ended");
    }

    pub(crate) async fn alerts(&self) -> Vec<v1::Alert> {
        let mut client = v1::alerting_client::AlertingClient::new(self.channel.clone());
        let mut pages = client.list_alerts(v1::AlertsQuery::default()).await.unwrap().into_inner();
        let mut alerts = Vec::new();
        while let Some(page) = pages.message().await.unwrap() {
            alerts.extend(page.alerts);
        }
        alerts
    }

    pub(crate) async fn records(&self, query: v1::RecordsQuery) -> Vec<v1::AnomalyRecord> {
        let mut client = v1::results_client::ResultsClient::new(self.channel.clone());
        let mut pages = client.list_records(query).await.unwrap().into_inner();
        let mut records = Vec::new();
        while let Some(page) = pages.message().await.unwrap() {
            records.extend(page.records);
        }
        records
    }

    pub(crate) async fn windows(&self, from: u64, to: u64) -> Vec<v1::WindowsPage> {
        let mut client = v1::results_client::ResultsClient::new(self.channel.clone());
        let query = v1::WindowsQuery { from_ms: from * QUARTER, to_ms: to * QUARTER };
        let mut pages = client.list_windows(query).await.unwrap().into_inner();
        let mut all = Vec::new();
        while let Some(page) = pages.message().await.unwrap() {
            all.push(page);
        }
        all
    }

    pub(crate) async fn execute(&self, until: u64) -> v1::ExecuteReply {
        let mut client = v1::alerting_client::AlertingClient::new(self.channel.clone());
        client.execute(v1::ExecuteRequest { until_ms: until * QUARTER }).await.unwrap().into_inner()
    }
}

/// Windows of one bucket, of one site.
pub(crate) type Traffic = BTreeMap<Subject, Window>;

/// What one shard's owner knows.
struct Shard {
    epoch: v1::Epoch,
    commit_no: u64,
}

pub(crate) struct Owner {
    shards: Vec<Shard>,
    outgoing: mpsc::Sender<v1::OwnerMessage>,
    incoming: Streaming<v1::DetectorMessage>,
    site: SiteName,
    tripwires: Vec<v1::Tripwires>,
    _join: (mpsc::Sender<v1::Join>, Streaming<v1::Assignment>),
}

impl Owner {
    /// Joins, is assigned all shards, and opens them.
    pub(crate) async fn open(detector: &Detector, shards: u32) -> Self {
        let (heartbeat, heartbeats) = mpsc::channel(4);
        let join = v1::Join {
            aggregator: "a1".into(),
            advertise: "http://127.0.0.1:1".into(),
            protocol_version: PROTOCOL_VERSION,
            instance: vec![3; 16],
            ..v1::Join::default()
        };
        heartbeat.send(join).await.unwrap();
        let mut control = ControlClient::new(detector.channel.clone());
        let mut assignments = control.join_cluster(ReceiverStream::new(heartbeats)).await.unwrap().into_inner();
        let assignment = assignments.message().await.unwrap().unwrap();
        assert_eq!(assignment.shard, (0..shards).collect::<Vec<_>>());
        let (outgoing, messages) = mpsc::channel(64);
        let mut client = WindowingClient::new(detector.channel.clone()).max_decoding_message_size(64 << 20);
        let incoming = client.forward(ReceiverStream::new(messages)).await.unwrap().into_inner();
        let site = "berlin".parse().unwrap();
        let tripwires = Vec::new();
        let mut owner =
            Self { shards: Vec::new(), outgoing, incoming, site, tripwires, _join: (heartbeat, assignments) };
        for shard in 0..shards {
            let open = v1::OpenShard { shard, assignment: assignment.number, owner: "a1".into(), held: None };
            owner.send(owner_message::Message::Open(open)).await;
            let Message::Opened(opened) = owner.answer().await else { panic!("not opened") };
            owner.shards.push(Shard { epoch: opened.epoch.unwrap(), commit_no: opened.frontier.unwrap().commit_no });
        }
        owner
    }

    /// Opens the first shard, and gives what its owner is told.
    pub(crate) async fn open_one(detector: &Detector) -> v1::Opened {
        let mut owner = Self::open(detector, 1).await;
        let open = v1::OpenShard { shard: 0, assignment: u64::MAX >> 1, owner: "a1".into(), held: None };
        owner.send(owner_message::Message::Open(open)).await;
        let Message::Opened(opened) = owner.answer().await else { panic!("not opened") };
        opened
    }

    pub(crate) async fn send(&self, message: owner_message::Message) {
        self.outgoing.send(v1::OwnerMessage { message: Some(message) }).await.unwrap();
    }

    /// The next answer; tripwires are no answers.
    pub(crate) async fn answer(&mut self) -> Message {
        loop {
            match self.incoming.message().await.unwrap().unwrap().message.unwrap() {
                Message::Tripwires(wires) => self.tripwires.push(wires),
                answer => return answer,
            }
        }
    }

    /// The tripwires of all shards for that bucket, once they have come.
    pub(crate) async fn tripwires(&mut self, bucket: u64) -> Vec<v1::Tripwires> {
        loop {
            let of_bucket = |wires: &&v1::Tripwires| wires.bucket_start_ms == bucket * QUARTER;
            let found: Vec<_> = self.tripwires.iter().filter(of_bucket).cloned().collect();
            if found.len() == self.shards.len() {
                return found;
            }
            let Message::Tripwires(wires) = self.incoming.message().await.unwrap().unwrap().message.unwrap() else {
                panic!("an answer to nothing")
            };
            self.tripwires.push(wires);
        }
    }

    pub(crate) fn epoch(&self, shard: u32) -> v1::Epoch {
        self.shards[shard as usize].epoch.clone()
    }

    pub(crate) fn shard_of(&self, subject: &Subject) -> u32 {
        shard_of(&self.site, subject, self.shards.len() as u32)
    }

    /// The next commit of a shard, with that of `traffic` which is the shard's.
    pub(crate) fn commit(&mut self, shard: u32, traffic: &[(u64, Traffic)]) -> v1::Commit {
        let shards = self.shards.len() as u32;
        let last = traffic.last().unwrap().0 * QUARTER;
        let own = &mut self.shards[shard as usize];
        own.commit_no += 1;
        let mut commit = v1::Commit {
            shard,
            epoch: Some(own.epoch.clone()),
            commit_no: own.commit_no,
            bucket_start_ms: last,
            ..v1::Commit::default()
        };
        for (bucket, traffic) in traffic {
            let mut message = v1::Windows { sites: vec![self.site.to_string()], ..v1::Windows::default() };
            for (subject, window) in traffic {
                if shard_of(&self.site, subject, shards) == shard {
                    windows::push(&mut message, Some(0), subject, window, false);
                }
            }
            commit.windows.push(v1::BucketWindows { bucket_start_ms: bucket * QUARTER, windows: Some(message) });
        }
        let of = spikewatch_proto::convert::cluster::Incarnation {
            site: self.site.clone(),
            collector: "c1".parse().unwrap(),
            id: [5; 16],
        };
        let pair = spikewatch_proto::convert::commit::Pair { bucket: last, seq: own.commit_no };
        commit.pairs.push(write_pair(&of, pair));
        commit
    }

    /// Commits deltas to sealed buckets, one commit for each shard.
    pub(crate) async fn correct(&mut self, corrections: &[(u64, Traffic)], frontier: u64) {
        let shards = self.shards.len() as u32;
        for shard in 0..shards {
            let deltas = self.commit(shard, corrections).windows;
            self.take_back(shard);
            let mut commit = self.commit(shard, &[(frontier, Traffic::new())]);
            (commit.windows, commit.corrections) = (Vec::new(), deltas);
            self.send(owner_message::Message::Commit(commit)).await;
            let answer = self.answer().await;
            assert!(matches!(answer, Message::Ack(_)), "{answer:?}");
        }
    }

    /// Gives back the number of a commit that is never sent.
    pub(crate) fn take_back(&mut self, shard: u32) {
        self.shards[shard as usize].commit_no -= 1;
    }

    /// Commits traffic to all shards, several buckets at once; the shards in the order that `first` says.
    pub(crate) async fn commit_all(&mut self, traffic: impl Iterator<Item = (u64, Traffic)>, first: u32) {
        let shards = self.shards.len() as u32;
        let traffic: Vec<_> = traffic.collect();
        for part in traffic.chunks(BATCH) {
            for shard in 0..shards {
                let commit = self.commit((shard + first) % shards, part);
                self.send(owner_message::Message::Commit(commit)).await;
            }
            for _ in 0..shards {
                let answer = self.answer().await;
                assert!(matches!(answer, Message::Ack(_)), "{answer:?}");
            }
        }
    }
}
