//! What runs on the hosts: the real roles, and what feeds the collectors.

use std::{sync::Arc, time::Duration};

use spikewatch_actors::{Seams, entropy::Entropy};
use spikewatch_aggregator as aggregator;
use spikewatch_collector::{
    self as collector, Datagram, SourceOptions, SpoolOptions,
    charge::Aliases,
    log::ecs::EcsOptions,
    networks::InternalNetworks,
    spool::{self, Spool, SpoolPlace, memory::Memory},
};
use spikewatch_detector as detector;
use spikewatch_domain::key::SiteName;
use spikewatch_proto::{HASH_ID, PROTOCOL_VERSION};
use spikewatch_tests::memory_store::MemoryStore;
use tokio::{sync::mpsc, time::sleep};

use crate::{
    host::{self, Host},
    oracle::Oracle,
    traffic::{self, Traffic},
    world::{BUCKET, SHAPE, SLICE},
};

/// How long a process that can't be started is away.
const RESTART: Duration = Duration::from_secs(1);

/// Runs detectors, one after another.
pub(crate) async fn detector(host: Arc<Host>, store: MemoryStore) -> turmoil::Result {
    loop {
        let seams = host.seams();
        let options = detector::Options {
            shape: SHAPE,
            allowed_lateness: Duration::from_secs(2),
            max_wait: Duration::from_secs(15),
            snapshot_buckets: 3,
            advertise: host.url(),
            name: host.name.clone(),
            lease: Duration::from_secs(5),
            ..detector::Options::default()
        };
        match detector::start_on(Arc::new(store.clone()), options, &seams).await {
            Ok((_, routes)) => ended(host.live(&seams, routes).await)?,
            Err(error) => {
                tracing::warn!(%error, "the detector does not start");
                seams.tasks.shutdown(RESTART).await;
                sleep(RESTART).await;
            }
        }
    }
}

/// Runs aggregators, one after another.
pub(crate) async fn aggregator(host: Arc<Host>, detectors: Vec<String>) -> turmoil::Result {
    loop {
        let seams = host.seams();
        let options = aggregator::Options::new(host.name.clone(), detectors.clone(), host.url());
        let (_, routes) = aggregator::start(options, &seams).await?;
        ended(host.live(&seams, routes).await)?;
    }
}

/// What a collector is fed, and what it keeps it on.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    pub(crate) site: SiteName,
    pub(crate) number: u8,
    pub(crate) seed: u64,
    /// Nothing comes after that time, ms from the beginning.
    pub(crate) until_ms: u64,
    pub(crate) oracle: Oracle,
    pub(crate) disk: Memory,
    /// There is no other collector at its site, so that it can be told what died with it.
    pub(crate) alone: bool,
    /// What was handed over so long before its death may die with it, ms.
    pub(crate) at_risk_ms: u64,
}

/// Runs collectors, one after another on one disk, and feeds them.
pub(crate) async fn collector(host: Arc<Host>, aggregators: Vec<String>, feed: Feed) -> turmoil::Result {
    loop {
        if let Err(error) = reckon(&host, &feed) {
            tracing::warn!(%error, "the disk can't be read");
            sleep(RESTART).await;
            continue;
        }
        let seams = host.seams();
        let (datagrams, source) = mpsc::channel(1024);
        let options = collector::Options {
            site: feed.site.clone(),
            name: host.name.clone(),
            aggregators: aggregators.clone(),
            networks: InternalNetworks::default(),
            aliases: Aliases::new(),
            slice: SLICE,
            bucket: BUCKET,
            shards: SHAPE.shards,
            key_limit: 10_000,
            memory_limit: spikewatch_collector::MemoryLimit::default(),
            port_values: 0,
            places: Default::default(),
            sources: vec![SourceOptions::Channel(source)],
            ecs: EcsOptions::default(),
            spool: Some(SpoolOptions {
                place: SpoolPlace::Memory(feed.disk.handle()),
                budget_bytes: 1 << 30,
                keep_trimmed: Duration::from_secs(20),
                parting: Duration::from_secs(3),
            }),
            tap: None,
            event_clock: None,
        };
        match collector::start(options, &seams).await {
            Ok((_, routes)) => {
                tokio::select! {
                    biased;
                    lived = host.live(&seams, routes) => ended(lived)?,
                    () = feed_it(&host, &feed, &seams, datagrams) => {}
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the collector does not start");
                seams.tasks.shutdown(RESTART).await;
                sleep(RESTART).await;
            }
        }
    }
}

/// Has the oracle see what is on the disk of a collector that is about to be started.
fn reckon(host: &Host, feed: &Feed) -> Result<(), spool::Error> {
    if !feed.alone {
        return Ok(());
    }
    let shape = spool::Shape {
        shards: SHAPE.shards,
        bucket_seconds: BUCKET.seconds(),
        hash_id: HASH_ID,
        protocol_version: PROTOCOL_VERSION,
    };
    let owner = spool::Owner { site: feed.site.to_string(), collector: host.name.clone(), shape };
    let entropy = Entropy::seeded(feed.seed.wrapping_sub(host.lives()));
    let (spool, _) = Spool::open(spool::Options::new(owner), feed.disk.handle(), || entropy.bytes16())?;
    let stored: Vec<_> = spool.stream(0).map(|(_, slice)| slice).collect::<Result<_, _>>()?;
    feed.oracle.reckon(&feed.site, &stored, feed.at_risk_ms);
    Ok(())
}

async fn feed_it(host: &Arc<Host>, feed: &Feed, seams: &Seams, datagrams: mpsc::Sender<Datagram>) {
    let mut traffic = Traffic::new(Entropy::seeded(feed.seed.wrapping_add(host.lives())), feed.number);
    let (clock, ends) = (host.clock(), seams.tasks.token());
    while host::elapsed_ms() < feed.until_ms && !ends.is_cancelled() {
        sleep(Duration::from_millis(traffic.pause_ms())).await;
        let now_ms = host::true_ms();
        let flows = traffic.flows(now_ms);
        let payload = traffic::datagram(now_ms, &flows);
        feed.oracle.fed(&feed.site, now_ms, &flows);
        let datagram = Datagram { exporter: [10, 0, 0, 254].into(), time_ms: clock.now_ms(), payload };
        if datagrams.send(datagram).await.is_err() {
            break;
        }
    }
    // The site is quiet from now on, but its collector lives.
    std::future::pending().await
}

/// A process may have to end; but that it panicked is always wrong.
fn ended(ended: Result<(), String>) -> turmoil::Result {
    match ended {
        Err(why) if why.contains("panicked") => Err(why.into()),
        Err(why) => {
            tracing::warn!(why, "a process gave up");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
