//! A cluster on simulated hosts, what goes wrong in it, and how it ends.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use spikewatch_actors::{clock::Clock, entropy::Entropy};
use spikewatch_collector::spool::memory::{Faults, Memory};
use spikewatch_detector::store::Store as _;
use spikewatch_domain::{key::SiteName, span::Span};
use spikewatch_proto::convert::cluster::Shape;
use spikewatch_tests::memory_store::MemoryStore;
use tracing_subscriber::layer::SubscriberExt as _;
use turmoil::Sim;

use crate::{
    host::{self, Host},
    line::StoreLine,
    oracle::Oracle,
    plan::{Cast, Fault, Planned, plan},
    roles::{self, Feed},
    run,
    trace::Trace,
    traffic::pick,
};

pub(crate) const SLICE: Span = seconds(1);
pub(crate) const BUCKET: Span = seconds(10);
pub(crate) const SHAPE: Shape = Shape { shards: 4, bucket: BUCKET };

/// How far the world goes at once.
const TICK: Duration = Duration::from_millis(10);
/// All faults are over by then, ms.
const FAULTS_UNTIL_MS: u64 = 80_000;
/// Collectors are fed until then.
const FED_UNTIL_MS: u64 = 90_000;
/// All that was fed must be committed by then.
const QUIET_BY_MS: u64 = 180_000;
/// What a collector was given so long before it dies may die with it, ms: a slice, and a moment.
const AT_RISK_MS: u64 = 3_000;
/// How long it is looked whether anything is counted after all was.
const AFTERWARDS_MS: u64 = 25_000;

const fn seconds(seconds: u64) -> Span {
    match Span::from_seconds(seconds) {
        Ok(span) => span,
        Err(_) => panic!("whole seconds"),
    }
}

/// How a seed went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Result<(), String>,
    summary: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)
    }
}

/// Runs one seed.
pub(crate) fn simulate(seed: u64) -> Outcome {
    let trace = Trace::new(run::is_watched());
    let subscriber = tracing_subscriber::registry().with(trace.clone());
    let _logs = tracing::subscriber::set_default(subscriber);
    // Sequences of neighbouring seeds are to have nothing in common.
    let entropy = Entropy::seeded(Entropy::seeded(seed).next_u64());
    let mut world = World::new(seed, &entropy, trace.clone());
    let verdict = world.run();
    let (lines, digest) = trace.sum();
    let summary = format!(
        "{} s, {} faults, {}; trace {digest:016x} of {lines} lines",
        world.sim.elapsed().as_secs(),
        world.plan.len(),
        world.oracle
    );
    Outcome { verdict, summary }
}

struct World {
    sim: Sim<'static>,
    cast: Cast,
    hosts: Vec<Arc<Host>>,
    lines: Vec<Arc<StoreLine>>,
    disks: Vec<Memory>,
    /// Each host's clock as it is when nothing is wrong with it.
    skews: Vec<i64>,
    store: MemoryStore,
    oracle: Oracle,
    plan: Vec<Planned>,
    down: BTreeSet<usize>,
    trace: Trace,
}

impl World {
    fn new(seed: u64, entropy: &Entropy, trace: Trace) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(30))
            .simulation_duration(Duration::from_secs(3600))
            .tcp_capacity(1024)
            .enable_random_order()
            .build();
        let cast = Cast::of(entropy);
        let names = |role: &'static str, count| (1..=count).map(move |number| format!("{role}{number}"));
        let names = names("detector", cast.detectors).chain(names("aggregator", cast.aggregators));
        let names: Vec<_> = names.chain((1..=cast.collectors).map(|number| format!("collector{number}"))).collect();
        let skews: Vec<i64> = names.iter().map(|_| pick(entropy, 4_000) as i64 - 2_000).collect();
        let hosts: Vec<_> = names
            .into_iter()
            .zip(&skews)
            .map(|(name, skew)| Host::new(name.clone(), sim.lookup(name), entropy.next_u64(), *skew))
            .collect();
        let oracle = Oracle::default();
        let store = MemoryStore::new(SHAPE, entropy.bytes16(), Clock::told(host::true_ms));
        let lines: Vec<_> =
            (0..cast.detectors).map(|_| StoreLine::new(oracle.clone(), Entropy::seeded(entropy.next_u64()))).collect();
        let urls = |from: usize, count| hosts.iter().skip(from).take(count).map(|host| host.url()).collect::<Vec<_>>();
        let (detectors, aggregators) = (urls(0, cast.detectors), urls(cast.detectors, cast.aggregators));
        let plan = plan(entropy, cast, FAULTS_UNTIL_MS);
        let disks: Vec<_> = (0..cast.collectors).map(|_| Memory::new(entropy.next_u64())).collect();
        for (number, host) in hosts.iter().enumerate() {
            let (host, at) = (Arc::clone(host), host.name.clone());
            if let Some(line) = lines.get(number) {
                let store = store.over(Arc::clone(line) as _);
                sim.host(at, move || roles::detector(Arc::clone(&host), store.clone()));
            } else if number < cast.first_collector() {
                let detectors = detectors.clone();
                sim.host(at, move || roles::aggregator(Arc::clone(&host), detectors.clone()));
            } else {
                let collector = number - cast.first_collector();
                let site: SiteName = if collector == 1 { "paris" } else { "berlin" }.parse().unwrap();
                let delayed = plan.iter().any(|planned| planned.fault.delays_slices_of(number));
                let feed = Feed {
                    site,
                    number: collector as u8,
                    seed: entropy.next_u64(),
                    until_ms: FED_UNTIL_MS,
                    oracle: oracle.clone(),
                    disk: disks[collector].handle(),
                    alone: cast.is_alone(number),
                    at_risk_ms: if delayed { u64::MAX } else { AT_RISK_MS },
                };
                let aggregators = aggregators.clone();
                sim.host(at, move || roles::collector(Arc::clone(&host), aggregators.clone(), feed.clone()));
            }
        }
        Self { sim, cast, hosts, lines, disks, skews, store, oracle, plan, down: BTreeSet::new(), trace }
    }

    fn now_ms(&self) -> u64 {
        self.sim.elapsed().as_millis() as u64
    }

    fn step(&mut self) -> Result<(), String> {
        self.sim.step().map_err(|error| format!("at {} ms: {error}", self.now_ms()))?;
        self.trace.at(self.now_ms());
        match self.oracle.wrong() {
            Some(wrong) => Err(format!("at {} ms: {wrong}", self.now_ms())),
            None => Ok(()),
        }
    }

    /// Runs it all.
    fn run(&mut self) -> Result<(), String> {
        self.trace.say(&format!("{:?}", self.cast));
        while self.now_ms() < FED_UNTIL_MS {
            let now_ms = self.now_ms();
            for planned in self.plan.clone() {
                if planned.from_ms / 10 * 10 == now_ms {
                    self.begin(planned.fault);
                }
                if planned.to_ms / 10 * 10 == now_ms {
                    self.end(planned.fault);
                }
            }
            self.step()?;
        }
        while let Some(difference) = self.oracle.difference() {
            if self.now_ms() > QUIET_BY_MS {
                return Err(format!("at {} ms: {difference}", self.now_ms()));
            }
            self.go_on(1_000)?;
        }
        self.trace.say("all that was fed is committed");
        self.go_on(AFTERWARDS_MS)?;
        if let Some(difference) = self.oracle.difference() {
            return Err(format!("after all was committed: {difference}"));
        }
        self.is_settled()
    }

    fn go_on(&mut self, ms: u64) -> Result<(), String> {
        let until = self.now_ms() + ms;
        while self.now_ms() < until {
            self.step()?;
        }
        Ok(())
    }

    /// Every bucket is sealed, and scored.
    fn is_settled(&self) -> Result<(), String> {
        let (last, frontier) = (self.oracle.last_bucket(), self.oracle.frontier());
        if frontier < last {
            return Err(format!("the frontier stands at {frontier}, the last bucket fed is {last}"));
        }
        let resume = futures_util::FutureExt::now_or_never(self.store.resume());
        let scored = resume.and_then(Result::ok).and_then(|resume| resume.scored).unwrap_or(0);
        if scored < last {
            return Err(format!("scored up to {scored}, the last bucket fed is {last}"));
        }
        Ok(())
    }

    fn begin(&mut self, fault: Fault) {
        self.trace.say(&format!("begins: {}", self.told(fault)));
        let name = |host: usize| self.hosts[host].name.clone();
        match fault {
            Fault::Crash(host) | Fault::PowerLoss(host) => {
                if self.down.insert(host) {
                    self.sim.crash(name(host));
                    let disk = host.checked_sub(self.cast.first_collector()).map(|number| &self.disks[number]);
                    if let Some(disk) = disk.filter(|_| matches!(fault, Fault::PowerLoss(_))) {
                        disk.crash();
                    }
                }
            }
            Fault::Stop(host) => self.hosts[host].stop(2_000),
            Fault::Partition(one, other) => self.sim.partition(name(one), name(other)),
            Fault::OneWay(from, to) => self.sim.partition_oneway(name(from), name(to)),
            Fault::Isolated(host) => self.others(host).for_each(|other| self.sim.partition(name(host), name(other))),
            Fault::Hold(one, other) => self.sim.hold(name(one), name(other)),
            Fault::Skew(host, by_ms) => self.hosts[host].set_skew(self.skews[host] + by_ms),
            Fault::SlowStore(host, ms) => self.lines[host].set_slowness(ms),
            Fault::CutStore(host) => self.lines[host].set_cut(true),
            Fault::FailingDisk(host, sync) => {
                let faults = Faults { sync, write: sync / 4, short_read: 200, ..Faults::default() };
                self.disks[host - self.cast.first_collector()].set_faults(faults);
            }
        }
    }

    fn end(&mut self, fault: Fault) {
        self.trace.say(&format!("ends: {}", self.told(fault)));
        let name = |host: usize| self.hosts[host].name.clone();
        match fault {
            Fault::Crash(host) | Fault::PowerLoss(host) => {
                if self.down.remove(&host) {
                    self.sim.bounce(name(host));
                }
            }
            Fault::Stop(_) => {}
            Fault::Partition(one, other) | Fault::OneWay(one, other) => self.sim.repair(name(one), name(other)),
            Fault::Isolated(host) => self.others(host).for_each(|other| self.sim.repair(name(host), name(other))),
            Fault::Hold(one, other) => self.sim.release(name(one), name(other)),
            Fault::Skew(host, _) => self.hosts[host].set_skew(self.skews[host]),
            Fault::SlowStore(host, _) => self.lines[host].set_slowness(4),
            Fault::CutStore(host) => self.lines[host].set_cut(false),
            Fault::FailingDisk(host, _) => self.disks[host - self.cast.first_collector()].set_faults(Faults::default()),
        }
    }

    fn others(&self, host: usize) -> impl Iterator<Item = usize> {
        (0..self.hosts.len()).filter(move |other| *other != host)
    }

    /// The fault with the hosts' names.
    fn told(&self, fault: Fault) -> String {
        let name = |host: usize| &self.hosts[host].name;
        match fault {
            Fault::Crash(host) => format!("{} crashed", name(host)),
            Fault::PowerLoss(host) => format!("{} without power", name(host)),
            Fault::Stop(host) => format!("{} told to end", name(host)),
            Fault::Partition(one, other) => format!("{} and {} partitioned", name(one), name(other)),
            Fault::OneWay(from, to) => format!("{} not heard by {}", name(from), name(to)),
            Fault::Isolated(host) => format!("{} isolated", name(host)),
            Fault::Hold(one, other) => format!("messages between {} and {} held", name(one), name(other)),
            Fault::Skew(host, by_ms) => format!("clock of {} off by {by_ms} ms", name(host)),
            Fault::SlowStore(host, ms) => format!("store of {} slow by up to {ms} ms", name(host)),
            Fault::CutStore(host) => format!("store of {} out of reach", name(host)),
            Fault::FailingDisk(host, sync) => format!("disk of {} fails {sync} of 1000 syncs", name(host)),
        }
    }
}
