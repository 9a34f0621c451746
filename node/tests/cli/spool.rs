//! What is spooled outlives the process that spooled it, however that ends, and is counted once.

use std::{net::UdpSocket, path::Path, time::Duration};

use spikewatch_collector::spool::{Summary, disk::Disk, summarise};
use spikewatch_domain::key::Subject;
use spikewatch_proto::{
    convert::windows,
    v1::{WindowsQuery, results_client::ResultsClient},
};

use crate::{
    program::{Running, eventually},
    serving::{scrape, value},
};

fn start(folder: &Path, command: &str) -> Running {
    start_with(folder, command, "[{kind = \"netflow\", listen = \"127.0.0.1:0\"}]")
}

/// A node that goes on from what is in `folder`.
pub(crate) fn start_with(folder: &Path, command: &str, sources: &str) -> Running {
    let settings = [
        "cluster.bucket=10s",
        "cluster.shards=8",
        "collector.slice=1s",
        "collector.listen=127.0.0.1:0",
        // Nobody is there; `run` has an aggregator of its own.
        "collector.aggregators=http://127.0.0.1:1",
        "aggregator.listen=127.0.0.1:0",
        "detector.listen=127.0.0.1:0",
        "detector.allowed_lateness=1s",
        "detector.max_wait=20s",
        "detector.lease=1s",
        "detector.aggregator_lease=3s",
        "telemetry.metrics_listen=127.0.0.1:0",
    ];
    let store = format!("detector.store=sqlite://{}", folder.join("store.db").display());
    let spool = format!("collector.spool={}", folder.join("spool").display());
    let sources = format!("collector.sources={sources}");
    let settings = settings.into_iter().chain([store.as_str(), spool.as_str(), sources.as_str()]);
    let arguments: Vec<&str> = [command].into_iter().chain(settings.flat_map(|setting| ["--set", setting])).collect();
    Running::start(&arguments)
}

/// A NetFlow v5 datagram of one flow, that no other of the same second is. Its time is absurd, and so replaced by that of
/// receipt.
fn datagram(number: u16) -> Vec<u8> {
    let mut datagram = vec![0, 5, 0, 1];
    datagram.extend(3_600_000u32.to_be_bytes());
    datagram.extend(1_000_000_000u32.to_be_bytes());
    datagram.extend([0; 12]);
    datagram.extend([10, 0, 0, 1, 192, 0, 2, 7, 0, 0, 0, 0, 0, 1, 0, 2]);
    datagram.extend(7u32.to_be_bytes());
    datagram.extend(4_200u32.to_be_bytes());
    datagram.extend([3_590_000u32.to_be_bytes(), 3_599_000u32.to_be_bytes()].concat());
    datagram.extend((1024 + number).to_be_bytes());
    datagram.extend([0x01, 0xbb, 0, 0x1a, 6, 0, 0, 0, 0, 0, 24, 24, 0, 0]);
    datagram
}

/// Sends flows, and waits until they are decoded.
fn send(node: &Running, count: u16) {
    let (flows, metrics) = (node.address(&["flows", "address="]), node.address(&["metrics", "address="]));
    node.line(&["serving", "role=\"collector\""]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..count {
        socket.send_to(&datagram(number), &flows).unwrap();
    }
    eventually("flows decoded", || {
        (value(&scrape(&metrics), "spikewatch_collector_records_total") == Some(f64::from(count))).then_some(())
    });
}

fn spool(folder: &Path) -> Option<Summary> {
    summarise(&Disk::existing(folder.join("spool"))).unwrap()
}

/// Waits until no slice has come for longer than one takes.
fn until_spooled(folder: &Path) {
    let last = || spool(folder).and_then(|summary| summary.slices).map(|(_, last)| last);
    let (mut seen, mut same) = (None, 0);
    eventually("slice in the spool", || {
        let now = last();
        same = if now.is_some() && now == seen { same + 1 } else { 0 };
        seen = now;
        // Looked at every 20 ms.
        (same > 125).then_some(())
    });
}

/// Events of the site in all that is committed.
pub(crate) async fn committed(detector: &str) -> Option<u64> {
    let mut client = ResultsClient::connect(format!("http://{detector}")).await.ok()?;
    let mut pages = client.list_windows(WindowsQuery::default()).await.ok()?.into_inner();
    let mut events = 0;
    while let Some(page) = pages.message().await.ok()? {
        let rows = windows::read(&page.windows?).ok()?;
        let site = rows.iter().filter(|row| row.subject == Subject::Site);
        events += site.map(|row| row.window.counters.events).sum::<u64>();
    }
    Some(events)
}

#[test]
fn a_spool_outlives_kills_and_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let collector = start(folder, "collector");
    send(&collector, 300);
    until_spooled(folder);
    collector.signal("KILL");
    assert_eq!(collector.end(Duration::from_secs(10)), None);

    let node = start(folder, "run");
    send(&node, 200);
    until_spooled(folder);
    node.signal("KILL");
    assert_eq!(node.end(Duration::from_secs(10)), None);

    // Asked to end, it loses nothing, not even the slice that is open.
    let node = start(folder, "run");
    send(&node, 100);
    node.signal("TERM");
    let log = node.log();
    assert_eq!(node.end(Duration::from_secs(30)), Some(0), "{log}");

    let node = start(folder, "run");
    let detector = node.address(&["serving", "role=\"detector\""]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    eventually("600 events", || {
        let events = runtime.block_on(committed(&detector)).unwrap_or(0);
        assert!(events <= 600, "counted twice: {events}");
        (events == 600).then_some(())
    });
    node.signal("TERM");
    assert_eq!(node.end(Duration::from_secs(30)), Some(0));
}

#[test]
fn a_spool_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path(), "collector");
    node.line(&["serving", "role=\"collector\""]);
    let other = start(folder.path(), "collector");
    other.line(&["spikewatch: the spool", "in use by another process"]);
    assert_eq!(other.end(Duration::from_secs(20)), Some(74));
}
