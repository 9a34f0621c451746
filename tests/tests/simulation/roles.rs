//! What runs on the hosts: the real roles, and what feeds the collectors.

use std::{sync::Arc, time::Duration};

use spikewatch_actors::entropy::Entropy;
use spikewatch_aggregator as aggregator;
use spikewatch_collector::{
    self as collector, Datagram, SourceOptions, charge::Aliases, log::ecs::EcsOptions, networks::InternalNetworks,
};
use spikewatch_detector as detector;
use spikewatch_domain::key::SiteName;
use spikewatch_tests::memory_store::MemoryStore;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

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

/// What a collector is fed, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    pub(crate) site: SiteName,
    pub(crate) number: u8,
    pub(crate) seed: u64,
    pub(crate) until_ms: u64,
    pub(crate) oracle: Oracle,
}

/// Runs a collector, and feeds it.
pub(crate) async fn collector(host: Arc<Host>, aggregators: Vec<String>, feed: Feed) -> turmoil::Result {
    let seams = host.seams();
    let (datagrams, source) = mpsc::channel(1024);
    let options = collector::Options {
        site: feed.site.clone(),
        name: host.name.clone(),
        aggregators,
        networks: InternalNetworks::default(),
        aliases: Aliases::new(),
        slice: SLICE,
        bucket: BUCKET,
        shards: SHAPE.shards,
        key_limit: 10_000,
        port_values: 0,
        sources: vec![SourceOptions::Channel(source)],
        ecs: EcsOptions::default(),
        spool: None,
        tap: None,
        event_clock: None,
    };
    let (_, routes) = collector::start(options, &seams).await?;
    let fed = feed_it(&host, feed, datagrams);
    let (lived, ()) = tokio::join!(host.live(&seams, routes), fed);
    ended(lived)
}

async fn feed_it(host: &Arc<Host>, feed: Feed, datagrams: mpsc::Sender<Datagram>) {
    let mut traffic = Traffic::new(Entropy::seeded(feed.seed), feed.number);
    let (clock, until) = (host.clock(), Instant::now() + Duration::from_millis(feed.until_ms));
    while Instant::now() < until {
        sleep(Duration::from_millis(traffic.pause_ms())).await;
        let now_ms = host::true_ms();
        let flows = traffic.flows(now_ms);
        let payload = traffic::datagram(now_ms, &flows);
        feed.oracle.fed(&feed.site, &flows);
        let datagram = Datagram { exporter: [10, 0, 0, 254].into(), time_ms: clock.now_ms(), payload };
        if datagrams.send(datagram).await.is_err() {
            return;
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
