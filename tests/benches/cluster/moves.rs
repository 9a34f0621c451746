//! Two collectors, three aggregators, two detectors on PostgreSQL: how long after a death, a freeze or a planned move all
//! shards commit again, and scores have caught up.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use spikewatch_actors::clock::Clock;
use spikewatch_proto::v1::{Progress, ProgressRequest, results_client::ResultsClient};
use spikewatch_tests::postgres::PostgresServer;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::{
    process::{Process, ports},
    traffic::{RECORDS, datagram},
};

const BUCKET_MS: u64 = 10_000;
const LATENESS_MS: u64 = 2_000;
/// When in a bucket things happen: shortly before the bucket before it can be sealed.
const EVENT_MS: u64 = 1_500;
/// Times that each thing is done.
const ROUNDS: usize = 3;
/// Leases, seconds; the defaults.
const LEASE: u64 = 10;
const AGGREGATOR_LEASE: u64 = 6;

/// What happens to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Nothing,
    AggregatorDies,
    AggregatorFreezes,
    AggregatorLeaves,
    AggregatorJoins,
    LeaderDies,
    LeaderLeaves,
}

struct Cluster {
    folder: TempDir,
    store: String,
    detectors: [u16; 2],
    aggregators: [u16; 3],
    collectors: [u16; 2],
    flows: [u16; 2],
    running: Vec<(String, Process)>,
}

impl Cluster {
    fn start(&mut self, role: &str, number: usize) {
        let name = format!("{role}{number}");
        let process = Process::start(self.folder.path(), &name, role, &self.config(role, number));
        self.running.push((name, process));
    }

    fn take(&mut self, name: &str) -> Process {
        let at = self.running.iter().position(|(other, _)| other == name).expect("it runs");
        self.running.swap_remove(at).1
    }

    fn config(&self, role: &str, number: usize) -> String {
        let address = |port: u16| format!("\"http://127.0.0.1:{port}\"");
        let list = |ports: &[u16]| ports.iter().map(|port| address(*port)).collect::<Vec<_>>().join(", ");
        let (port, more) = match role {
            "detector" => {
                let port = self.detectors[number];
                let more = format!(
                    "store = {:?}\nadvertise = {}\nlease = \"{LEASE}s\"\naggregator_lease = \"{AGGREGATOR_LEASE}s\"\n\
                     allowed_lateness = \"{LATENESS_MS}ms\"\nmax_wait = \"2m\"\n",
                    self.store,
                    address(port)
                );
                (port, more)
            }
            "aggregator" => {
                let port = self.aggregators[number];
                (port, format!("advertise = {}\ndetector = [{}]\n", address(port), list(&self.detectors)))
            }
            _ => {
                let more = format!(
                    "site = \"site{number}\"\nslice = \"1s\"\nspool = {:?}\naggregators = [{}]\n\
                     [[collector.sources]]\nkind = \"netflow\"\nlisten = \"127.0.0.1:{}\"\n",
                    self.folder.path().join(format!("spool{number}")),
                    list(&self.aggregators),
                    self.flows[number]
                );
                (self.collectors[number], more)
            }
        };
        format!(
            "[node]\nname = \"{role}{number}\"\n[cluster]\nbucket = \"10s\"\nshards = 64\n[{role}]\n\
             listen = \"127.0.0.1:{port}\"\n{more}"
        )
    }

    /// What the leader has committed and scored, if one answers, and which it is.
    async fn progress(&self) -> Option<(usize, Progress)> {
        for (number, port) in self.detectors.iter().enumerate() {
            let asked = async {
                let mut client = ResultsClient::connect(format!("http://127.0.0.1:{port}")).await.ok()?;
                client.watch_progress(ProgressRequest {}).await.ok()?.into_inner().message().await.ok()?
            };
            if let Ok(Some(progress)) = timeout(Duration::from_millis(300), asked).await {
                return Some((number, progress));
            }
        }
        None
    }

    /// Waits until this holds of the leader's progress.
    async fn until(&self, what: &str, holds: impl Fn(&Progress) -> bool) -> Instant {
        let limit = now() + Duration::from_secs(120);
        loop {
            if let Some((_, progress)) = self.progress().await
                && holds(&progress)
            {
                return now();
            }
            if now() > limit {
                let logs: String =
                    self.running.iter().map(|(name, process)| format!("== {name}\n{}", process.said())).collect();
                panic!("{what} took more than two minutes:\n{logs}");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes it happen, waits until the bucket that ended just before is committed everywhere and scored, and sets all
    /// right again. Seconds from the event to either.
    async fn measure(&mut self, event: Event) -> (f64, f64) {
        if event == Event::AggregatorJoins {
            let leaving = self.take("aggregator2");
            leaving.signal("TERM");
            leaving.wait();
            sleep(Duration::from_secs(8)).await;
        }
        let leader = self.progress().await.map_or(0, |(number, _)| number);
        let clock = Clock::system();
        let ended = clock.now_ms().next_multiple_of(BUCKET_MS);
        sleep(Duration::from_millis(ended + EVENT_MS - clock.now_ms())).await;
        let begun = now();
        let mut gone = None;
        match event {
            Event::Nothing => {}
            Event::AggregatorDies => drop(self.take("aggregator1")),
            Event::AggregatorFreezes => self.signal("aggregator1", "STOP"),
            Event::AggregatorLeaves => {
                let leaving = self.take("aggregator1");
                leaving.signal("TERM");
                gone = Some(leaving);
            }
            Event::AggregatorJoins => self.start("aggregator", 2),
            Event::LeaderDies => drop(self.take(&format!("detector{leader}"))),
            Event::LeaderLeaves => {
                let leaving = self.take(&format!("detector{leader}"));
                leaving.signal("TERM");
                gone = Some(leaving);
            }
        }
        let committed = self.until("to commit", |progress| progress.frontier_ms + BUCKET_MS >= ended).await - begun;
        let scored = self.until("to score", |progress| progress.scored_ms + BUCKET_MS >= ended).await - begun;
        if let Some(gone) = gone {
            gone.wait();
        }
        match event {
            Event::Nothing | Event::AggregatorJoins => {}
            Event::AggregatorFreezes => self.signal("aggregator1", "CONT"),
            Event::AggregatorDies | Event::AggregatorLeaves => self.start("aggregator", 1),
            Event::LeaderDies | Event::LeaderLeaves => self.start("detector", leader),
        }
        sleep(Duration::from_secs(15)).await;
        (committed.as_secs_f64(), scored.as_secs_f64())
    }

    fn signal(&self, name: &str, signal: &str) {
        let (_, process) = self.running.iter().find(|(other, _)| other == name).expect("it runs");
        process.signal(signal);
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement of wall time")]
fn now() -> Instant {
    Instant::now()
}

/// Sends a flow of every host in each bucket, evenly over its time, until told to stop.
fn send(flows: [u16; 2], hosts: u32, stop: &AtomicBool) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let clock = Clock::system();
    let all: Vec<u32> = (0..hosts).collect();
    // Ten thousand hosts are all active every second, more of them once in a bucket.
    let every = Duration::from_millis(if hosts > 10_000 { BUCKET_MS } else { 1_000 }) / hosts.div_ceil(RECORDS);
    let mut next = now();
    while !stop.load(Relaxed) {
        for (number, some) in all.chunks(RECORDS as usize).enumerate() {
            let bytes = datagram(clock.now_ms(), some.iter().copied());
            socket.send_to(&bytes, ("127.0.0.1", flows[number % 2])).expect("loopback takes it");
            next += every;
            std::thread::sleep(next.saturating_duration_since(now()));
        }
    }
}

/// Runs it and prints a table.
pub(crate) async fn run(hosts: u32) {
    let Some(server) = PostgresServer::start(&[]) else { return };
    let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    let flows = sockets.map(|socket| socket.local_addr().expect("its address").port());
    let [a, b, c, d, e, f, g] = ports();
    let mut cluster = Cluster {
        folder: tempfile::tempdir().expect("a temporary folder"),
        store: server.new_database(),
        detectors: [a, b],
        aggregators: [c, d, e],
        collectors: [f, g],
        flows,
        running: Vec::new(),
    };
    for (role, count) in [("detector", 2), ("aggregator", 3), ("collector", 2)] {
        (0..count).for_each(|number| cluster.start(role, number));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    #[expect(clippy::disallowed_methods, reason = "a load generator beside the cluster, not a part of it")]
    let sender = std::thread::spawn(move || send(flows, hosts, &told));
    cluster.until("the first commit", |progress| progress.frontier_ms > 0).await;
    // Three buckets, so that every host is known.
    sleep(Duration::from_secs(30)).await;

    println!(
        "{hosts} hosts, buckets of 10 s, 64 shards, lateness 2 s; seconds from the event on, median (most) of {ROUNDS}"
    );
    println!(
        "| event, {EVENT_MS} ms after a bucket's end | its windows committed in all shards | scored |\n|---|---|---|"
    );
    let events = [
        (Event::Nothing, "nothing"),
        (Event::AggregatorDies, "an aggregator is killed"),
        (Event::AggregatorFreezes, "an aggregator freezes"),
        (Event::AggregatorLeaves, "an aggregator leaves (SIGTERM)"),
        (Event::AggregatorJoins, "an aggregator joins"),
        (Event::LeaderDies, "the leading detector is killed"),
        (Event::LeaderLeaves, "the leading detector leaves (SIGTERM)"),
    ];
    for (event, name) in events {
        let (mut committed, mut scored) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (one, other) = cluster.measure(event).await;
            committed.push(one);
            scored.push(other);
        }
        println!("| {name} | {} | {} |", shown(committed), shown(scored));
    }
    stop.store(true, Relaxed);
    sender.join().expect("the sender ends");
}

fn shown(mut seconds: Vec<f64>) -> String {
    seconds.sort_by(f64::total_cmp);
    format!("{:.1} ({:.1})", seconds[seconds.len() / 2], seconds[seconds.len() - 1])
}
