//! A cluster of every role in one process, over real gRPC and PostgreSQL, on the system's clock: aggregators die, join
//! and leave, the leading detector dies, and every flow is counted once.

mod process;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, SystemTime},
};

use process::{LEASE, Process, SHARDS, aggregator, collector, detector, shape};
use spikewatch_detector::store::{self, StoreOptions};
use spikewatch_domain::key::Subject;
use spikewatch_proto::convert::windows;
use spikewatch_proto::v1::{self, results_client::ResultsClient};
use spikewatch_tests::postgres::PostgresServer;
use tokio::time::Instant;

const HOSTS: u8 = 40;

/// Bytes sent per (site, host).
type Sums = BTreeMap<(String, String), u64>;

/// Sends NetFlow v5 of flows that end now, a datagram each 50 ms, until it is told to stop.
struct Exporter {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

#[expect(clippy::disallowed_methods, reason = "an exporter is no part of the program")]
fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

impl Exporter {
    #[expect(clippy::disallowed_methods, reason = "an exporter is no part of the program")]
    fn start(site: &'static str, to: SocketAddr, sums: &Arc<Mutex<Sums>>) -> Self {
        let (stop, sums) = (Arc::new(AtomicBool::new(false)), Arc::clone(sums));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let (mut sequence, mut last) = (0u32, 0);
            while !stopped.load(Ordering::Relaxed) {
                last = now_ms();
                let mut datagram = header(last, sequence);
                for flow in 0..10u32 {
                    let host = ((sequence + flow) % u32::from(HOSTS)) as u8;
                    let bytes = 1000 + sequence % 97 + flow;
                    datagram.extend(record([10, 0, 0, host], 1024 + (sequence % 60_000) as u16, bytes));
                    let key = (site.to_owned(), format!("10.0.0.{host}"));
                    *sums.lock().unwrap().entry(key).or_default() += u64::from(bytes);
                }
                sequence += 10;
                socket.send_to(&datagram, to).unwrap();
                sleep(Duration::from_millis(50));
            }
            last
        });
        Self { stop, thread }
    }

    /// Gives the time of the last flow.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The header of a datagram of ten records; the exporter started an hour ago.
fn header(now_ms: u64, sequence: u32) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(5u16.to_be_bytes());
    out.extend(10u16.to_be_bytes());
    out.extend(3_600_000u32.to_be_bytes());
    out.extend(((now_ms / 1000) as u32).to_be_bytes());
    out.extend(((now_ms % 1000 * 1_000_000) as u32).to_be_bytes());
    out.extend(sequence.to_be_bytes());
    out.extend([0; 4]);
    out
}

fn record(host: [u8; 4], port: u16, bytes: u32) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(host);
    out.extend([203, 0, 113, 9]);
    out.extend([0; 4 + 2 + 2]);
    out.extend(3u32.to_be_bytes());
    out.extend(bytes.to_be_bytes());
    out.extend(3_600_000u32.to_be_bytes());
    out.extend(3_600_000u32.to_be_bytes());
    out.extend(port.to_be_bytes());
    out.extend(443u16.to_be_bytes());
    out.extend([0, 0x1b, 6, 0]);
    out.extend([0; 2 + 2 + 1 + 1 + 2]);
    out
}

fn within(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < patience, "waited {patience:?} in vain: {what}");
        sleep(Duration::from_millis(10));
    }
    began.elapsed()
}

/// All shards are open, and these aggregators have them.
fn whole(aggregators: &[&Process<spikewatch_aggregator::Handle>]) -> bool {
    let metrics: Vec<_> = aggregators.iter().map(|aggregator| aggregator.handle.metrics()).collect();
    metrics.iter().all(|metrics| metrics.shards_opening == 0 && metrics.shards_assigned > 0)
        && metrics.iter().map(|metrics| metrics.shards_assigned).sum::<u64>() == u64::from(SHARDS)
}

/// What is committed, per site and host.
async fn committed(detector: &str) -> Sums {
    let mut client = ResultsClient::connect(detector.to_owned()).await.unwrap().max_decoding_message_size(64 << 20);
    let mut pages = client.list_windows(v1::WindowsQuery::default()).await.unwrap().into_inner();
    let mut sums = Sums::new();
    while let Some(page) = pages.message().await.unwrap() {
        for row in windows::read(&page.windows.unwrap()).unwrap() {
            if let Subject::Address(host) = row.subject {
                let key = (row.site.unwrap().to_string(), host.to_string());
                *sums.entry(key).or_default() += row.window.counters.bytes_out;
            }
        }
    }
    sums
}

#[test]
fn whoever_dies_joins_or_leaves_every_flow_is_counted_once() {
    let Some(server) = PostgresServer::start(&[("fsync", "off")]) else { return };
    let url = server.new_database();
    let (first, second) = (detector("d1", &url), detector("d2", &url));
    let detectors = [second.address.clone(), first.address.clone()];
    let one = aggregator("a1", &detectors);
    let two = aggregator("a2", &detectors);
    let three = aggregator("a3", &detectors);
    within("the shards are shared", Duration::from_secs(10), || whole(&[&one, &two, &three]));
    // A seed that is dead, a name, and one that is found through it.
    let port = one.address.rsplit(':').next().unwrap();
    let seeds = vec!["http://127.0.0.1:1".to_owned(), format!("http://localhost:{port}")];
    let sums = Arc::new(Mutex::new(Sums::new()));
    let (berlin, berlin_flows) = collector("berlin", seeds.clone());
    let (paris, paris_flows) = collector("paris", seeds);
    let exporters = [Exporter::start("berlin", berlin_flows, &sums), Exporter::start("paris", paris_flows, &sums)];
    within("both have streams to all", Duration::from_secs(10), || {
        [&one, &two, &three].iter().all(|aggregator| aggregator.handle.metrics().streams == 2)
    });
    sleep(Duration::from_secs(3));

    two.kill();
    let took = within("its shards are open elsewhere", LEASE + Duration::from_secs(3), || whole(&[&one, &three]));
    println!("an aggregator's death to all shards open: {took:?}");
    sleep(Duration::from_secs(2));

    let four = aggregator("a4", &detectors);
    within("the fourth is there", Duration::from_secs(5), || four.handle.metrics().shards_assigned > 0);
    let took = within("its share is open", Duration::from_secs(3), || whole(&[&one, &three, &four]));
    println!("a fourth aggregator's first shard to all its shards open: {took:?}");
    sleep(Duration::from_secs(2));

    let began = Instant::now();
    one.stop();
    println!("an aggregator handed everything over and ended within {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5));
    within("others have its shards", Duration::from_secs(1), || whole(&[&three, &four]));
    sleep(Duration::from_secs(2));

    let before = three.handle.metrics().unbound;
    first.kill();
    let patience = LEASE + Duration::from_secs(5);
    let took = within("the other detector leads", patience, || second.handle.metrics().leads);
    println!("a leader's death to the next term: {took:?}");
    within("the aggregators found it", Duration::from_secs(5), || whole(&[&three, &four]));
    assert_eq!(three.handle.metrics().unbound, before, "no collector had to begin anew");
    sleep(Duration::from_secs(12));

    let last = exporters.map(Exporter::stop).into_iter().max().unwrap();
    let last = shape().bucket.floor(last);
    within("all is committed", Duration::from_secs(60), || second.handle.metrics().frontier_ms >= last);
    // Corrections of late slices may still be on their way.
    let client = tokio::runtime::Runtime::new().unwrap();
    let sums = sums.lock().unwrap().clone();
    within("every flow is counted", Duration::from_secs(20), || {
        let now = client.block_on(committed(&second.address));
        for (key, bytes) in &now {
            assert!(sums.get(key).is_some_and(|sent| bytes <= sent), "{key:?} counted twice: {bytes} of {sums:?}");
        }
        now == sums
    });
    let shards = client.block_on(async {
        let options = StoreOptions { url, durable: false, shape: shape(), lineage: [1; 16] };
        store::open(&options).await.unwrap().load().await.unwrap().shards
    });
    assert!(shards.iter().all(|shard| shard.epoch >= 1), "{shards:?}");
    [berlin, paris].into_iter().for_each(Process::kill);
    [three, four].into_iter().for_each(Process::kill);
    second.kill();
}
