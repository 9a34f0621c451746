//! From the first datagram of a flood to the alert that a client sees, beside the soonest that it could be: when what a
//! host did in the bucket reaches its tripwire. Two collectors, of long and of short slices, an aggregator and a detector,
//! a process each.

use std::{cell::RefCell, collections::BTreeMap, fs, net::UdpSocket, path::Path, time::Duration};

use futures_util::future::join_all;
use spikewatch_actors::clock::Clock;
use spikewatch_domain::{
    key::{SiteName, Subject},
    span::Span,
    window::Window,
};
use spikewatch_proto::{
    convert::cluster::Shape,
    v1::{self, alerting_client::AlertingClient, results_client::ResultsClient},
};
use spikewatch_tests::history;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::transport::Channel;

use crate::{
    process::{Process, ports},
    traffic::flows,
};

const SHARDS: u32 = 64;
const BUCKET: Span = Span::QUARTER_HOUR;
/// Buckets that are known of every host: two days and more.
const KNOWN: u64 = 200;
/// Events of a host in a bucket, as a rule.
const TYPICAL: f64 = 225.0;
/// Floods of each strength, host and slice, spread evenly over a slice's phases.
const REPEATS: u32 = 5;
/// How many times the typical rate, and how long after the start of all the first of them begins, s.
const STRENGTHS: [(u32, f64); 4] = [(3, 0.0), (10, 1.0), (100, 5.0), (1_000, 90.0)];
/// Slices of the sites' collectors, s.
const SLICES: [u64; 2] = [10, 1];
const RULE: &str = r#"
id = "0d1c6f3e-4a5b-4c7d-8e9f-a0b1c2d3e4f5"
name = "Spike in a host's events"
version = 1
description = "As the rule on hosts that ships, but of one measure, and for all floods at once."
severity = "low"
risk_score = 21
jobs = ["high_count_network_events_by_host"]
threshold = 75
interval = "15m"
from = "now-30m"
max_signals = 1000
minimum_buckets = 96
"#;

/// How even the counts of a host's buckets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Past {
    /// Within a tenth.
    Even,
    /// Log-normal, sigma 0.5: one bucket in six is over 1.6 times the typical.
    Uneven,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    past: Past,
    slice_s: u64,
    times: u32,
}

struct Flood {
    kind: Kind,
    site: SiteName,
    host: u32,
    after: Duration,
    /// The tripwire.
    limit: u64,
}

/// What became of a flood, s.
struct Outcome {
    limit: f64,
    /// Until the tripwire was reached, as long as the bucket lasts.
    soonest: f64,
    /// Until the alert, and from when the slice ended in which the tripwire was reached.
    alert: Option<(f64, f64)>,
}

/// When the first alert of a site's host came.
type Alerts = RefCell<BTreeMap<(String, String), Instant>>;

impl Flood {
    /// All of them; of no limit yet.
    fn all() -> Vec<Self> {
        let mut floods = Vec::new();
        for slice_s in SLICES {
            for past in [Past::Even, Past::Uneven] {
                for (times, first_s) in STRENGTHS {
                    for repeat in 0..REPEATS {
                        let phase = f64::from(repeat) * (10.0 / f64::from(REPEATS) + 1.0 / f64::from(REPEATS));
                        floods.push(Self {
                            kind: Kind { past, slice_s, times },
                            site: site(slice_s),
                            host: floods.len() as u32,
                            after: Duration::from_secs_f64(first_s + phase),
                            limit: u64::MAX,
                        });
                    }
                }
            }
        }
        floods
    }

    fn subject(&self) -> Subject {
        Subject::Address(std::net::Ipv4Addr::from(0x0a00_0001 + self.host).into())
    }

    /// Events of the host in a bucket of its past.
    fn past(&self, bucket: u64) -> u64 {
        // Twelve uniform numbers are normal enough.
        let seed = (bucket << 16) + u64::from(self.host) * 13;
        let normal = (0..12).map(|draw| uniform(seed.wrapping_mul(31) + draw)).sum::<f64>() - 6.0;
        match self.kind.past {
            Past::Even => (TYPICAL + 12.0 * normal.clamp(-2.0, 2.0)) as u64,
            Past::Uneven => (TYPICAL * (0.5 * normal).exp()) as u64,
        }
    }

    fn rate(&self) -> f64 {
        TYPICAL * f64::from(self.kind.times) / f64::from(BUCKET.seconds())
    }

    /// Sends until its alert has come, or the bucket is about to end.
    async fn run(&self, to: u16, begin: Instant, alerts: &Alerts) -> Outcome {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let clock = Clock::system();
        sleep_until(begin + self.after).await;
        let (begun, begun_ms) = (Instant::now(), clock.now_ms());
        let rest = Duration::from_millis((BUCKET.end(begun_ms) - begun_ms).saturating_sub(5_000));
        let (limit, soonest) = (self.limit as f64 / TYPICAL, self.limit as f64 / self.rate());
        if soonest > rest.as_secs_f64() {
            return Outcome { limit, soonest, alert: None };
        }
        let name = (self.site.to_string(), self.subject().to_string());
        // Fifty datagrams a second at most.
        let at_once = (self.rate() / 50.0).ceil() as u32;
        let mut sent = 0u32;
        let came = loop {
            if let Some(came) = alerts.borrow().get(&name) {
                break Some(*came);
            }
            if begun.elapsed() >= rest {
                break None;
            }
            let bytes = flows(clock.now_ms(), (sent..sent + at_once).map(|number| (self.host, number as u16)));
            socket.send_to(&bytes, ("127.0.0.1", to)).expect("loopback takes it");
            sent += at_once;
            sleep_until(begun + Duration::from_secs_f64(f64::from(sent) / self.rate())).await;
        };
        let slice_ms = self.kind.slice_s * 1_000;
        let crossed_ms = begun_ms + (soonest * 1e3).min(1e9) as u64;
        let waited = ((crossed_ms / slice_ms + 1) * slice_ms - begun_ms) as f64 / 1e3;
        let alert = came.map(|came| (came - begun).as_secs_f64()).map(|took| (took, took - waited));
        Outcome { limit, soonest, alert }
    }
}

fn site(slice_s: u64) -> SiteName {
    format!("slice{slice_s}").parse().expect("a name")
}

/// From 0 to 1, by splitmix64.
fn uniform(seed: u64) -> f64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as f64 / u64::MAX as f64
}

/// Runs it with the floods that are at least so many times the typical rate, and prints a table.
pub(crate) async fn run(least: u32) {
    let clock = Clock::system();
    let left = BUCKET.end(clock.now_ms()) - clock.now_ms();
    // The slowest has to cross in the bucket that it begins in.
    if left < if least < 100 { 12 * 60_000 } else { 4 * 60_000 } {
        eprintln!("waiting {} s for the next bucket", left / 1_000);
        sleep(Duration::from_millis(left)).await;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [detector, aggregator, a, b] = ports();
    let sockets = SLICES.map(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    let listen = sockets.map(|socket| socket.local_addr().expect("its address").port());
    let _detecting = start(folder.path(), "detector", detector, &detector_options(folder.path()));
    let channel = connect(detector).await;

    let mut floods = Flood::all();
    floods.retain(|flood| flood.kind.times >= least);
    let open = clock.now_ms() / BUCKET.millis();
    let shape = Shape { shards: SHARDS, bucket: BUCKET };
    let past = |bucket: u64| -> Vec<(SiteName, Subject, Window)> {
        floods.iter().map(|flood| (flood.site.clone(), flood.subject(), history::window(flood.past(bucket)))).collect()
    };
    let wires = history::commit(&channel, shape, open - KNOWN..open, past).await;
    for flood in &mut floods {
        let limits = wires.get(&(flood.site.clone(), flood.subject()));
        flood.limit = limits.expect("every host has a tripwire")[0];
    }

    let options =
        format!("advertise = \"http://127.0.0.1:{aggregator}\"\ndetector = \"http://127.0.0.1:{detector}\"\n");
    let _merging = start(folder.path(), "aggregator", aggregator, &options);
    let collectors = SLICES.iter().zip(listen).zip([a, b]).map(|((slice_s, listen), port)| {
        let options = format!(
            "site = \"{}\"\nslice = \"{slice_s}s\"\nspool = {:?}\naggregators = [\"http://127.0.0.1:{aggregator}\"]\n\
             [[collector.sources]]\nkind = \"netflow\"\nlisten = \"127.0.0.1:{listen}\"\n",
            site(*slice_s),
            folder.path().join(format!("spool{slice_s}")),
        );
        start(folder.path(), "collector", port, &options)
    });
    let _collecting: Vec<Process> = collectors.collect();
    // Until shards have moved and streams are bound.
    sleep(Duration::from_secs(15)).await;

    let alerts = Alerts::default();
    let begin = Instant::now();
    let to = |flood: &Flood| if flood.kind.slice_s == SLICES[0] { listen[0] } else { listen[1] };
    let sent = join_all(floods.iter().map(|flood| flood.run(to(flood), begin, &alerts)));
    let outcomes = tokio::select! {
        outcomes = sent => outcomes,
        () = watch(channel, &alerts, begin) => panic!("alerts are not told any more"),
    };
    table(&floods, outcomes);
}

fn detector_options(folder: &Path) -> String {
    let rules = folder.join("rules");
    fs::create_dir(&rules).expect("room for a folder");
    fs::write(rules.join("rule.toml"), RULE).expect("room for a rule");
    format!("store = \"sqlite://{}\"\nrules = {rules:?}\n", folder.join("store.db").display())
}

fn start(folder: &Path, role: &str, port: u16, options: &str) -> Process {
    let name = format!("{role}{port}");
    let config = format!(
        "[node]\nname = \"{name}\"\n[cluster]\nbucket = \"{BUCKET}\"\nshards = {SHARDS}\n[{role}]\n\
         listen = \"127.0.0.1:{port}\"\n{options}"
    );
    Process::start(folder, &name, role, &config)
}

/// A connection to the detector, once it leads.
async fn connect(port: u16) -> Channel {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < limit, "the detector does not lead after a minute");
        let endpoint = Channel::from_shared(format!("http://127.0.0.1:{port}")).expect("an address");
        if let Ok(channel) = endpoint.connect().await
            && ResultsClient::new(channel.clone()).watch_progress(v1::ProgressRequest {}).await.is_ok()
        {
            return channel;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Notes the early alerts as they come.
async fn watch(channel: Channel, alerts: &Alerts, begin: Instant) {
    let query = v1::AlertsQuery { follow: true, ..v1::AlertsQuery::default() };
    let mut pages = AlertingClient::new(channel).list_alerts(query).await.expect("alerts are told").into_inner();
    while let Ok(Some(page)) = pages.message().await {
        for alert in page.alerts.into_iter().filter(|alert| alert.stage == "early" && alert.version == 1) {
            eprintln!("{:.1} s: {}", begin.elapsed().as_secs_f64(), alert.reason);
            alerts.borrow_mut().entry((alert.site, alert.value)).or_insert_with(Instant::now);
        }
    }
}

fn table(floods: &[Flood], outcomes: Vec<Outcome>) {
    let mut kinds: BTreeMap<&Kind, Vec<Outcome>> = BTreeMap::new();
    for (flood, outcome) in floods.iter().zip(outcomes) {
        kinds.entry(&flood.kind).or_default().push(outcome);
    }
    println!(
        "buckets of {BUCKET}, {SHARDS} shards; hosts with {KNOWN} buckets of a past, silent in the open one until the flood \
         comes; seconds, median (most) of {REPEATS}"
    );
    println!(
        "| past | slice | times typical | tripwire, times typical | reached after | alert after | of it: until the slice \
         ended | then |\n|---|---|---|---|---|---|---|---|"
    );
    for (kind, outcomes) in kinds {
        let all = |value: fn(&Outcome) -> f64| shown(outcomes.iter().map(value).collect());
        let told: Vec<(&Outcome, (f64, f64))> =
            outcomes.iter().filter_map(|outcome| outcome.alert.map(|alert| (outcome, alert))).collect();
        let of =
            |value: fn(&Outcome, (f64, f64)) -> f64| shown(told.iter().map(|(o, alert)| value(o, *alert)).collect());
        let missed = outcomes.len() - told.len();
        let never = if missed > 0 { format!("; {missed} not early") } else { String::new() };
        println!(
            "| {:?} | {} s | {} | {} | {} | {}{never} | {} | {} |",
            kind.past,
            kind.slice_s,
            kind.times,
            all(|outcome| outcome.limit),
            all(|outcome| outcome.soonest),
            of(|_, (took, _)| took),
            of(|outcome, (took, then)| took - then - outcome.soonest),
            of(|_, (_, then)| then),
        );
    }
}

fn shown(mut seconds: Vec<f64>) -> String {
    seconds.sort_by(f64::total_cmp);
    match seconds.last() {
        Some(most) => format!("{:.1} ({most:.1})", seconds[seconds.len() / 2]),
        None => "–".into(),
    }
}
