//! From the first datagram of a flood to the alert, on the system's clock, through all roles, in seconds.

use std::{convert::Infallible, net::UdpSocket, time::Duration};

use spikewatch_actors::{Seams, task::Kind};
use spikewatch_collector::{
    MemoryLimit, PlaceOptions, SourceOptions, charge::Aliases, log::ecs::EcsOptions, networks::InternalNetworks,
};
use spikewatch_domain::{
    key::{SiteName, Subject},
    span::Span,
    window::Window,
};
use spikewatch_proto::{
    convert::cluster::Shape,
    v1::{self, alerting_client::AlertingClient},
};
use spikewatch_tests::history;
use tokio::{net::TcpListener, time::Instant};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    service::Routes,
    transport::{Channel, Server},
};

const SHARDS: u32 = 2;
const QUARTER: u64 = 900_000;
/// Buckets that are known before the flood: two days and more.
const KNOWN: u64 = 200;
/// How long the alert is waited for. How soon it comes on a machine that does nothing else, the bench `onset` says.
const PATIENCE: Duration = Duration::from_secs(60);
/// An exporter's uptime, ms, by which its flows' times are told.
const UPTIME: u32 = 1_000_000;

async fn serve(listener: TcpListener, routes: Routes, seams: &Seams) {
    let stop = seams.tasks.token();
    seams.tasks.spawn(Kind::CONNECTION, "server", async move {
        let incoming = TcpListenerStream::new(listener);
        Server::builder().add_routes(routes).serve_with_incoming_shutdown(incoming, stop.cancelled()).await.unwrap();
        Ok::<(), Infallible>(())
    });
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    (listener, address)
}

/// What one quiet host did in a bucket, and so its site.
fn quiet(bucket: u64) -> Vec<(SiteName, Subject, Window)> {
    let site: SiteName = "berlin".parse().unwrap();
    let window = history::window(200 + bucket * 31 % 50);
    vec![(site.clone(), Subject::Address([10, 0, 0, 3].into()), window.clone()), (site, Subject::Site, window)]
}

/// A datagram of thirty flows of the host, now.
fn datagram(now_ms: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend([0, 5, 0, 30]);
    bytes.extend(UPTIME.to_be_bytes());
    bytes.extend(((now_ms / 1000) as u32).to_be_bytes());
    bytes.extend(((now_ms % 1000) as u32 * 1_000_000).to_be_bytes());
    bytes.extend([0; 8]);
    for flow in 0..30u16 {
        bytes.extend([10, 0, 0, 3, 198, 51, 100, 9]);
        bytes.extend([0; 8]);
        bytes.extend([0, 0, 0, 3, 0, 0, 2, 0]);
        bytes.extend(UPTIME.to_be_bytes());
        bytes.extend(UPTIME.to_be_bytes());
        bytes.extend((40_000 + flow).to_be_bytes());
        bytes.extend([1, 187, 0, 0x18, 6, 0]);
        bytes.extend([0; 8]);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_alerted_seconds_after_its_first_datagram() {
    let seams = Seams::system();
    let open = seams.clock.now_ms() / QUARTER;
    let shape = Shape { shards: SHARDS, bucket: Span::QUARTER_HOUR };
    let options = spikewatch_detector::Options {
        store_url: "sqlite::memory:".into(),
        durable: false,
        shape,
        ..spikewatch_detector::Options::default()
    };
    let (_, routes) = spikewatch_detector::start(options, &seams).await.unwrap();
    let (bound, detector) = listener().await;
    serve(bound, routes, &seams).await;
    let channel = Channel::from_shared(detector.clone()).unwrap().connect().await.unwrap();
    let wires = history::commit(&channel, shape, open - KNOWN..open, quiet).await;
    assert_eq!(wires.len(), 2, "the host and its site");

    let (bound, aggregator) = listener().await;
    let options = spikewatch_aggregator::Options::new("a1", vec![detector], &aggregator);
    let (merging, routes) = spikewatch_aggregator::start(options, &seams).await.unwrap();
    serve(bound, routes, &seams).await;
    merging.ready().await;
    let options = spikewatch_collector::Options {
        site: "berlin".parse().unwrap(),
        name: "c1".into(),
        aggregators: vec![aggregator],
        networks: InternalNetworks::default(),
        aliases: Aliases::new(),
        slice: Span::from_seconds(1).unwrap(),
        bucket: Span::QUARTER_HOUR,
        shards: SHARDS,
        key_limit: 1_000,
        memory_limit: MemoryLimit::default(),
        port_values: 2,
        places: PlaceOptions::default(),
        sources: vec![SourceOptions::Listen { address: ([127, 0, 0, 1], 0).into(), receive_buffer: 1 << 20 }],
        ecs: EcsOptions::default(),
        spool: None,
        tap: None,
        event_clock: None,
    };
    let (collector, _) = spikewatch_collector::start(options, &seams).await.unwrap();
    let to = collector.listeners()[0].address();

    let query = v1::AlertsQuery { follow: true, ..v1::AlertsQuery::default() };
    let mut alerts = AlertingClient::new(channel).list_alerts(query).await.unwrap().into_inner();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let begun = Instant::now();
    // 250 flows a second, a thousand times what is usual: whatever hour it is, one bucket or the next has seconds of it.
    let flood = async {
        loop {
            socket.send_to(&datagram(seams.clock.now_ms()), to).unwrap();
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
    };
    let of_the_host = async {
        loop {
            let page = alerts.message().await.unwrap().unwrap();
            // Connections and bytes cross in the same slice: which of the two is told first is no matter.
            let of_events = |alert: &v1::Alert| alert.job == "high_count_network_events_by_host";
            if let Some(alert) = page.alerts.into_iter().find(of_events) {
                return alert;
            }
        }
    };
    let alert = tokio::select! {
        alert = of_the_host => alert,
        () = flood => unreachable!(),
        () = tokio::time::sleep(PATIENCE) => panic!("no alert of the host within a minute"),
    };
    println!("the alert came {:.1?} after the first datagram", begun.elapsed());
    assert_eq!((alert.value.as_str(), alert.stage.as_str()), ("10.0.0.3", "early"), "{}", alert.reason);
    let bucket = alert.bucket_start_ms / QUARTER;
    assert!((open..=seams.clock.now_ms() / QUARTER).contains(&bucket), "{bucket} of {open}");
    assert!(alert.reason.starts_with("10.0.0.3 at site berlin had "), "{}", alert.reason);
    assert!(alert.reason.contains("counted so far"), "{}", alert.reason);
    seams.tasks.shutdown(Duration::from_secs(10)).await;
}
