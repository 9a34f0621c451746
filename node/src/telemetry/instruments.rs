//! Metrics of running roles: instruments that read a role's handle when they are looked at.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Meter},
};
use spikewatch_actors::latency::Latencies;
use spikewatch_aggregator::AggregatorMetrics;
use spikewatch_collector::{ListenerMetrics, metrics::Counters};
use spikewatch_detector::DetectorMetrics;

use super::names::Metric;

type Read<T> = Box<dyn Fn() -> T + Send + Sync>;
/// A collector's counter.
type Counted = fn(&Counters) -> &AtomicU64;
/// A field of a role's numbers.
type Field<T, V> = fn(&T) -> V;

/// What every node has: its version, and its hops.
pub(crate) fn node(meter: &Meter, latencies: &Latencies) {
    let build = meter.u64_observable_gauge(Metric::BuildInfo.name()).with_description(Metric::BuildInfo.help());
    build.with_callback(|seen| seen.observe(1, &[KeyValue::new("version", env!("CARGO_PKG_VERSION"))])).build();
    let hops = latencies.clone();
    meter
        .f64_observable_gauge(Metric::HopLatency.name())
        .with_description(Metric::HopLatency.help())
        .with_unit(Metric::HopLatency.unit())
        .with_callback(move |seen| {
            for hop in hops.snapshot() {
                for (quantile, took) in [("0.5", hop.p50), ("0.99", hop.p99), ("1", hop.max)] {
                    let labels = [KeyValue::new("hop", hop.hop), KeyValue::new("quantile", quantile)];
                    seen.observe(took.as_secs_f64(), &labels);
                }
            }
        })
        .build();
    let hops = latencies.clone();
    meter
        .u64_observable_counter(Metric::HopCount.name())
        .with_description(Metric::HopCount.help())
        .with_callback(move |seen| {
            hops.snapshot().iter().for_each(|hop| seen.observe(hop.count, &[KeyValue::new("hop", hop.hop)]));
        })
        .build();
}

/// A collector's.
pub(crate) fn collector(meter: &Meter, handle: &spikewatch_collector::Handle) {
    let counters: [(Metric, Counted); 28] = [
        (Metric::CollectorBytesRead, |c| &c.bytes_read),
        (Metric::CollectorPackets, |c| &c.packets),
        (Metric::CollectorDatagrams, |c| &c.datagrams),
        (Metric::CollectorLines, |c| &c.lines),
        (Metric::CollectorRecords, |c| &c.records),
        (Metric::CollectorDuplicates, |c| &c.duplicates),
        (Metric::CollectorTimesReplaced, |c| &c.times_replaced),
        (Metric::CollectorOverflowed, |c| &c.overflowed),
        (Metric::CollectorValuesOverflowed, |c| &c.values_overflowed),
        (Metric::PlaceLookups, |c| &c.place_lookups),
        (Metric::PlaceMisses, |c| &c.place_misses),
        (Metric::DatabaseReloads, |c| &c.database_reloads),
        (Metric::DatabaseFailures, |c| &c.database_failures),
        (Metric::CollectorDropped, |c| &c.datagrams_dropped),
        (Metric::CollectorCutEarly, |c| &c.cut_early),
        (Metric::CollectorRows, |c| &c.rows),
        (Metric::CollectorBatches, |c| &c.batches_sent),
        (Metric::CollectorStreams, |c| &c.streams),
        (Metric::CollectorEventTime, |c| &c.event_time),
        (Metric::IntakeRefused, |c| &c.intake_refused),
        (Metric::IntakeRepeated, |c| &c.intake_repeated),
        (Metric::CheckpointBytes, |c| &c.checkpoint_bytes),
        (Metric::SpoolBytes, |c| &c.spool_bytes),
        (Metric::SpoolOldest, |c| &c.spool_oldest),
        (Metric::SpoolCoarsened, |c| &c.spool_coarsened),
        (Metric::SpoolDropped, |c| &c.spool_dropped),
        (Metric::SpoolDroppedEvents, |c| &c.spool_dropped_events),
        (Metric::SpoolFailures, |c| &c.spool_failures),
    ];
    for (metric, field) in counters {
        let metrics = handle.metrics().clone();
        let read = move || field(metrics.counters()).load(Relaxed);
        match metric {
            Metric::SpoolBytes | Metric::CheckpointBytes => gauge(meter, metric, Box::new(read)),
            Metric::CollectorEventTime | Metric::SpoolOldest => {
                seconds(meter, metric, Box::new(move || read() as f64 / 1e3))
            }
            metric => counter(meter, metric, Box::new(read)),
        }
    }
    let skew = handle.metrics().clone();
    let ahead = move || skew.counters().clock_skew.load(Relaxed) as f64 / 1e3;
    seconds(meter, Metric::CollectorClockSkew, Box::new(ahead));
    for listener in handle.listeners() {
        self::listener(meter, listener);
    }
    let metrics = handle.metrics().clone();
    meter
        .u64_observable_counter(Metric::CollectorFaults.name())
        .with_description(Metric::CollectorFaults.help())
        .with_callback(move |seen| {
            // By reason only: sources are as many as somebody cares to send from.
            let mut reasons = BTreeMap::<_, u64>::new();
            metrics.faults().iter().for_each(|fault| *reasons.entry(fault.reason).or_default() += fault.count);
            reasons.iter().for_each(|(reason, n)| seen.observe(*n, &[KeyValue::new("reason", reason.label())]));
        })
        .build();
}

/// A listener's, under its address.
fn listener(meter: &Meter, listener: &Arc<ListenerMetrics>) {
    let counters: [(Metric, Field<ListenerMetrics, Option<u64>>); 3] = [
        (Metric::ListenerReceived, |m| Some(m.received())),
        (Metric::ListenerKernelDropped, ListenerMetrics::kernel_dropped),
        (Metric::ListenerDropped, |m| Some(m.dropped())),
    ];
    let label = [KeyValue::new("listener", listener.address().to_string())];
    for (metric, field) in counters {
        let (listener, label) = (Arc::clone(listener), label.clone());
        // What is unknown is not shown: 0 would be a claim.
        let look = move |seen: &dyn AsyncInstrument<u64>| {
            field(&listener).into_iter().for_each(|number| seen.observe(number, &label));
        };
        let instrument = meter.u64_observable_counter(metric.name()).with_description(metric.help());
        instrument.with_unit(metric.unit()).with_callback(look).build();
    }
    let (buffer, metric) = (listener.receive_buffer() as u64, Metric::ListenerBuffer);
    let instrument = meter.u64_observable_gauge(metric.name()).with_description(metric.help());
    instrument.with_unit(metric.unit()).with_callback(move |seen| seen.observe(buffer, &label)).build();
}

/// An aggregator's.
pub(crate) fn aggregator(meter: &Meter, handle: &spikewatch_aggregator::Handle) {
    let counters: [(Metric, Field<AggregatorMetrics, u64>); 13] = [
        (Metric::AggregatorSlices, |m| m.slices),
        (Metric::AggregatorRows, |m| m.rows),
        (Metric::AggregatorInvalid, |m| m.invalid_messages),
        (Metric::AggregatorSkewed, |m| m.skewed),
        (Metric::AggregatorUnbound, |m| m.unbound),
        (Metric::AggregatorLostEvents, |m| m.lost_events),
        (Metric::AggregatorCommits, |m| m.commits),
        (Metric::AggregatorEarly, |m| m.early_windows),
        (Metric::AggregatorAcks, |m| m.acks),
        (Metric::AggregatorRefusals, |m| m.refusals),
        (Metric::AggregatorConnects, |m| m.detector_connects),
        (Metric::AggregatorCreditWithheld, |m| m.credit_withheld),
        (Metric::AggregatorRestarts, |m| m.shard_restarts),
    ];
    for (metric, field) in counters {
        let handle = handle.clone();
        counter(meter, metric, Box::new(move || field(&handle.metrics())));
    }
    let (skews, metric) = (handle.clone(), Metric::AggregatorClockSkew);
    let instrument = meter.f64_observable_gauge(metric.name()).with_description(metric.help());
    let look = move |seen: &dyn AsyncInstrument<f64>| {
        for (collector, skew_ms) in skews.clock_skews() {
            seen.observe(skew_ms as f64 / 1e3, &[KeyValue::new("collector", collector)]);
        }
    };
    instrument.with_unit(metric.unit()).with_callback(look).build();
    let gauges: [(Metric, Field<AggregatorMetrics, u64>); 4] = [
        (Metric::AggregatorStreams, |m| m.streams),
        (Metric::AggregatorShards, |m| m.shards_assigned),
        (Metric::AggregatorOpening, |m| m.shards_opening),
        (Metric::AggregatorWindowBytes, |m| m.window_bytes),
    ];
    for (metric, field) in gauges {
        let handle = handle.clone();
        gauge(meter, metric, Box::new(move || field(&handle.metrics())));
    }
    let handle = handle.clone();
    mailbox(
        meter,
        Box::new(move || {
            let metrics = handle.metrics();
            Mailbox { name: "shards", depth: metrics.mailbox_depth, blocked_ns: metrics.mailbox_blocked_ns }
        }),
    );
}

/// A detector's.
pub(crate) fn detector(meter: &Meter, handle: &spikewatch_detector::Handle) {
    let counters: [(Metric, Field<DetectorMetrics, u64>); 18] = [
        (Metric::DetectorCommits, |m| m.commits),
        (Metric::DetectorRepeats, |m| m.repeats),
        (Metric::DetectorRefusals, |m| m.refusals),
        (Metric::DetectorWindows, |m| m.windows),
        (Metric::DetectorCorrections, |m| m.corrections),
        (Metric::DetectorRecords, |m| m.records),
        (Metric::DetectorRecordsCut, |m| m.records_cut),
        (Metric::DetectorAlerts, |m| m.alerts),
        (Metric::DetectorExpired, |m| m.expired),
        (Metric::DetectorBounded, |m| m.bounded),
        (Metric::DetectorEarlyDropped, |m| m.early_dropped),
        (Metric::DetectorRetentionFailures, |m| m.retention_failures),
        (Metric::DetectorExecutions, |m| m.executions),
        (Metric::DetectorNotModelled, |m| m.not_modelled),
        (Metric::DetectorShed, |m| m.shed),
        (Metric::DetectorLateRecords, |m| m.late_records),
        (Metric::DetectorCorrectionsNotScored, |m| m.corrections_not_scored),
        (Metric::DetectorFellSilent, |m| m.fell_silent),
    ];
    for (metric, field) in counters {
        let handle = handle.clone();
        counter(meter, metric, Box::new(move || field(&handle.metrics())));
    }
    let times: [(Metric, Field<DetectorMetrics, u64>); 2] =
        [(Metric::DetectorFrontier, |m| m.frontier_ms), (Metric::DetectorScored, |m| m.scored_ms)];
    for (metric, field) in times {
        let handle = handle.clone();
        seconds(meter, metric, Box::new(move || field(&handle.metrics()) as f64 / 1e3));
    }
    let silent = handle.clone();
    gauge(meter, Metric::DetectorSilent, Box::new(move || silent.metrics().silent));
    let leader = handle.clone();
    gauge(meter, Metric::DetectorLeads, Box::new(move || u64::from(leader.metrics().leads)));
    let series = handle.clone();
    gauge(meter, Metric::DetectorSeries, Box::new(move || series.metrics().series));
    let handle = handle.clone();
    mailbox(
        meter,
        Box::new(move || {
            let stats = handle.metrics().commit_mailbox;
            let (depth, blocked_ns) = stats.map_or((0, 0), |stats| (stats.depth as u64, stats.blocked_ns));
            Mailbox { name: "committer", depth, blocked_ns }
        }),
    );
}

/// What is shown of a mailbox, or of many that go by one name.
struct Mailbox {
    name: &'static str,
    depth: u64,
    blocked_ns: u64,
}

fn mailbox(meter: &Meter, read: Read<Mailbox>) {
    let read = Arc::new(read);
    let depth = Arc::clone(&read);
    meter
        .u64_observable_gauge(Metric::MailboxDepth.name())
        .with_description(Metric::MailboxDepth.help())
        .with_callback(move |seen| {
            let stats = depth();
            seen.observe(stats.depth, &[KeyValue::new("mailbox", stats.name)]);
        })
        .build();
    meter
        .f64_observable_counter(Metric::MailboxBlocked.name())
        .with_description(Metric::MailboxBlocked.help())
        .with_unit(Metric::MailboxBlocked.unit())
        .with_callback(move |seen| {
            let stats = read();
            seen.observe(stats.blocked_ns as f64 / 1e9, &[KeyValue::new("mailbox", stats.name)]);
        })
        .build();
}

fn counter(meter: &Meter, metric: Metric, read: Read<u64>) {
    meter
        .u64_observable_counter(metric.name())
        .with_description(metric.help())
        .with_unit(metric.unit())
        .with_callback(move |seen| seen.observe(read(), &[]))
        .build();
}

fn gauge(meter: &Meter, metric: Metric, read: Read<u64>) {
    meter
        .u64_observable_gauge(metric.name())
        .with_description(metric.help())
        .with_unit(metric.unit())
        .with_callback(move |seen| seen.observe(read(), &[]))
        .build();
}

fn seconds(meter: &Meter, metric: Metric, read: Read<f64>) {
    meter
        .f64_observable_gauge(metric.name())
        .with_description(metric.help())
        .with_unit(metric.unit())
        .with_callback(move |seen| seen.observe(read(), &[]))
        .build();
}
