//! A detector of a few lines: assigns all shards, opens, applies commits by compare-and-set, and keeps their sums.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use spikewatch_domain::{key::Subject, span::Span, window::Window};
use spikewatch_proto::{
    convert::{
        cluster::{Epoch, Incarnation, Shape},
        commit::{CommitParts, Frontier, Member, Opened},
        windows,
    },
    v1::{
        self,
        control_server::{Control, ControlServer},
        windowing_server::{Windowing, WindowingServer},
    },
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, service::Routes};

pub(crate) const SHAPE: fn() -> Shape = || Shape { shards: 4, bucket: Span::from_seconds(60).unwrap() };

/// (bucket, site, subject)
pub(crate) type RowKey = (u64, String, Subject);

#[derive(Default)]
pub(crate) struct Store {
    pub(crate) epochs: BTreeMap<u32, u64>,
    pub(crate) frontiers: BTreeMap<u32, Frontier>,
    pub(crate) members: BTreeMap<Incarnation, ()>,
    pub(crate) windows: BTreeMap<RowKey, Window>,
    pub(crate) corrected: usize,
    pub(crate) incomplete: usize,
    pub(crate) commits: usize,
    pub(crate) traceparents: Vec<String>,
    pub(crate) repeats: usize,
    /// Apply that many further commits, but lose their acks and cut the connection.
    pub(crate) lose_acks: usize,
}

#[derive(Clone)]
pub(crate) struct Detector {
    pub(crate) store: Arc<Mutex<Store>>,
    /// Each change cuts all connections.
    cut: watch::Sender<u64>,
    /// Shards that are asked back, and those that were let go.
    asked: watch::Sender<Vec<u32>>,
    released: Arc<Mutex<Vec<u32>>>,
}

impl Detector {
    /// Serves on a port of the loopback, which it tells.
    pub(crate) async fn start() -> (Self, String) {
        let detector = Self {
            store: Arc::default(),
            cut: watch::Sender::new(0),
            asked: watch::Sender::new(Vec::new()),
            released: Arc::default(),
        };
        let services = Routes::new(ControlServer::new(detector.clone()))
            .add_service(WindowingServer::new(detector.clone()).max_decoding_message_size(64 << 20));
        (detector, serve(services).await)
    }

    pub(crate) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    pub(crate) fn ask_back(&self, shard: u32) {
        self.asked.send_modify(|asked| asked.push(shard));
    }

    pub(crate) fn released(&self) -> Vec<u32> {
        self.released.lock().unwrap().clone()
    }

    /// Who leaves, is asked for all it has; what it let go is not its any more.
    fn assignment(&self, join: &v1::Join) -> v1::Assignment {
        let mut released = self.released.lock().unwrap();
        released.extend(&join.released);
        released.sort_unstable();
        released.dedup();
        let shard: Vec<_> = (0..SHAPE().shards).filter(|shard| !released.contains(shard)).collect();
        let release = if join.leaving { shard.clone() } else { self.asked.borrow().clone() };
        let since = vec![1; shard.len()];
        v1::Assignment { number: 1, shard, since, shape: Some(SHAPE().into()), release }
    }

    fn answer(&self, message: v1::OwnerMessage) -> Option<v1::DetectorMessage> {
        let mut store = self.store.lock().unwrap();
        let message = match message.message? {
            v1::owner_message::Message::Open(open) => {
                assert_eq!((open.owner.as_str(), open.assignment), ("a1", 1));
                let number = store.epochs.entry(open.shard).or_default();
                let held = open.held.as_ref().map(|held| held.number);
                *number += u64::from(*number == 0 || held != Some(*number));
                let opened = Opened {
                    shard: open.shard,
                    epoch: Epoch { lineage: [5; 16], number: *number },
                    frontier: store.frontiers.get(&open.shard).cloned().unwrap_or_default(),
                    members: store
                        .members
                        .keys()
                        .map(|of| Member { of: of.clone(), last_bucket: 0, absent: false })
                        .collect(),
                    shape: SHAPE(),
                    allowed_lateness_ms: 0,
                    max_wait_ms: 60_000,
                };
                v1::detector_message::Message::Opened((&opened).into())
            }
            v1::owner_message::Message::Commit(commit) => self.apply(&mut store, &commit)?,
            _ => return None,
        };
        Some(v1::DetectorMessage { message: Some(message) })
    }

    fn apply(&self, store: &mut Store, message: &v1::Commit) -> Option<v1::detector_message::Message> {
        let commit = CommitParts::read(message, &SHAPE()).unwrap();
        let frontier = store.frontiers.entry(commit.shard).or_default();
        if store.epochs.get(&commit.shard) != Some(&commit.epoch.number) {
            return Some(v1::detector_message::Message::Refusal(v1::Refusal {
                shard: commit.shard,
                reason: v1::refusal::Reason::StaleEpoch.into(),
                ..v1::Refusal::default()
            }));
        }
        if commit.commit_no == frontier.commit_no {
            store.repeats += 1;
        } else {
            assert_eq!(commit.commit_no, frontier.commit_no + 1);
            frontier.commit_no = commit.commit_no;
            frontier.bucket = Some(commit.bucket);
            frontier.pairs.extend(commit.pairs.iter().cloned());
            store.members.extend(commit.pairs.iter().map(|(of, _)| (of.clone(), ())));
            store.commits += 1;
            store.corrected += commit.corrections.iter().map(|part| part.rows).sum::<usize>();
            store.traceparents.push(commit.traceparent);
            for part in message.windows.iter().chain(&message.corrections) {
                for row in windows::read(part.windows.as_ref().unwrap()).unwrap() {
                    store.incomplete += usize::from(row.incomplete);
                    let key = (part.bucket_start_ms, row.site.unwrap().to_string(), row.subject);
                    store.windows.entry(key).or_default().merge(&row.window);
                }
            }
        }
        if store.lose_acks > 0 {
            store.lose_acks -= 1;
            self.cut();
            return None;
        }
        Some(v1::detector_message::Message::Ack(v1::CommitAck {
            shard: commit.shard,
            epoch: Some(commit.epoch.into()),
            commit_no: commit.commit_no,
        }))
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Control for Detector {
    type JoinClusterStream = Answers<v1::Assignment>;
    type WatchRoutesStream = Answers<v1::Routes>;

    async fn join_cluster(
        &self,
        request: Request<Streaming<v1::Join>>,
    ) -> Result<Response<Self::JoinClusterStream>, Status> {
        let mut cut = self.cut.subscribe();
        let (out, answers) = mpsc::channel(4);
        let (detector, mut joins) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let mut asked = detector.asked.subscribe();
            let mut join = joins.message().await.unwrap().unwrap();
            assert_eq!((join.aggregator.as_str(), join.instance.len()), ("a1", 16));
            loop {
                if out.send(Ok(detector.assignment(&join))).await.is_err() {
                    return;
                }
                tokio::select! {
                    _ = cut.changed() => return,
                    _ = asked.changed() => {}
                    next = joins.message() => match next {
                        Ok(Some(next)) => join = next,
                        _ => return,
                    },
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn watch_routes(
        &self,
        _request: Request<v1::RoutesRequest>,
    ) -> Result<Response<Self::WatchRoutesStream>, Status> {
        let route = v1::Route { shard: 3, aggregator: "a1".into(), address: "http://a1".into() };
        let routes = v1::Routes { number: 1, routes: vec![route], shape: Some(SHAPE().into()) };
        let answers = tokio_stream::once(Ok(routes)).chain(tokio_stream::pending());
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tonic::async_trait]
impl Windowing for Detector {
    type ForwardStream = Answers<v1::DetectorMessage>;

    async fn forward(
        &self,
        request: Request<Streaming<v1::OwnerMessage>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let mut cut = self.cut.subscribe();
        let (out, answers) = mpsc::channel(4);
        let (detector, mut messages) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = cut.changed() => return,
                    message = messages.message() => {
                        let Ok(Some(message)) = message else { return };
                        if let Some(answer) = detector.answer(message) {
                            let _ = out.send(Ok(answer)).await;
                        }
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

/// Serves on a free port of the loopback; gives the address.
pub(crate) async fn serve(routes: Routes) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder().add_routes(routes);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// Waits until something holds; fails after a while.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}
