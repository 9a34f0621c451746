#![expect(clippy::disallowed_methods, reason = "the aggregators are no part of the program")]

use std::pin::Pin;

use spikewatch_actors::mailbox::{Inbox, mailbox};
use spikewatch_proto::v1::control_server::{Control, ControlServer};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{TcpListenerStream, WatchStream},
};
use tonic::{Request, Response, Streaming, transport::Server};

use super::*;

/// An aggregator that relays these routes; `None` ends the streams of those who listen.
struct Relay(watch::Receiver<Option<v1::Routes>>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Control for Relay {
    type JoinClusterStream = Answers<v1::Assignment>;
    type WatchRoutesStream = Answers<v1::Routes>;

    async fn join_cluster(
        &self,
        _request: Request<Streaming<v1::Join>>,
    ) -> Result<Response<Self::JoinClusterStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn watch_routes(
        &self,
        _request: Request<RoutesRequest>,
    ) -> Result<Response<Self::WatchRoutesStream>, Status> {
        let routes = WatchStream::new(self.0.clone()).take_while(Option::is_some).filter_map(|routes| routes.map(Ok));
        Ok(Response::new(Box::pin(routes)))
    }
}

struct Aggregator {
    address: String,
    routes: watch::Sender<Option<v1::Routes>>,
    server: JoinHandle<()>,
}

impl Aggregator {
    async fn start(host: &str, routes: Option<v1::Routes>) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (routes, watched) = watch::channel(routes);
        let server = Server::builder().add_service(ControlServer::new(Relay(watched)));
        let server = tokio::spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { address, routes, server }
    }

    fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap()
    }
}

fn routes(number: u64, addresses: &[&str]) -> v1::Routes {
    let route = |address: &&str| v1::Route { address: (*address).to_owned(), ..v1::Route::default() };
    v1::Routes { number, routes: addresses.iter().map(route).collect(), shape: None }
}

async fn heard(inbox: &mut Inbox<Event>) -> Vec<String> {
    let next = timeout(Duration::from_secs(20), inbox.recv()).await.expect("routes come");
    let Some(Event::Routes(addresses)) = next else { panic!("not routes") };
    addresses
}

fn start(seeds: &[&str]) -> (Inbox<Event>, Seams) {
    let (events, inbox) = mailbox("uplink", 16);
    let seams = Seams::system();
    watch(seeds.iter().map(|seed| (*seed).to_owned()).collect(), events, &seams);
    (inbox, seams)
}

#[tokio::test]
async fn any_seed_will_do_and_every_address_of_a_name_is_tried() {
    // Nothing listens at the other addresses that the machine may have for this name.
    let one = Aggregator::start("127.0.0.1", Some(routes(3, &["http://a", "http://b", "http://a"]))).await;
    let by_name = format!("http://localhost:{}", one.port());
    let (mut inbox, _seams) = start(&["http://127.0.0.1:1", "http://no.such.name.invalid:7432", &by_name]);
    assert_eq!(heard(&mut inbox).await, ["http://a", "http://b"]);
    one.routes.send_replace(Some(routes(4, &["http://b"])));
    assert_eq!(heard(&mut inbox).await, ["http://b"]);
}

#[tokio::test]
async fn once_known_the_others_are_asked_though_the_seed_is_gone() {
    let two = Aggregator::start("127.0.0.1", Some(routes(8, &["http://x"]))).await;
    let seed = Aggregator::start("127.0.0.1", Some(routes(7, &[&two.address]))).await;
    let (mut inbox, _seams) = start(&[&seed.address]);
    assert_eq!(heard(&mut inbox).await, [two.address.as_str()]);
    seed.server.abort();
    seed.routes.send_replace(None);
    assert_eq!(heard(&mut inbox).await, ["http://x"]);
}

#[tokio::test]
async fn what_is_old_replaces_nothing_unless_there_is_nothing_else_for_long() {
    let stale = Aggregator::start("127.0.0.1", Some(routes(5, &["http://old"]))).await;
    let fresh = Aggregator::start("127.0.0.1", Some(routes(6, &["http://127.0.0.1:1"]))).await;
    let (mut inbox, _seams) = start(&[&fresh.address, &stale.address]);
    assert_eq!(heard(&mut inbox).await, ["http://127.0.0.1:1"]);
    fresh.routes.send_replace(None);
    // The stale one is asked now, and not believed.
    assert!(timeout(Duration::from_millis(300), inbox.recv()).await.is_err());
    fresh.routes.send_replace(Some(routes(7, &["http://new"])));
    assert_eq!(heard(&mut inbox).await, ["http://new"]);
    fresh.server.abort();
    fresh.routes.send_replace(None);
    assert_eq!(heard(&mut inbox).await, ["http://old"], "a cluster made anew");
}
