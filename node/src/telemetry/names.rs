//! The names of all metrics, with what each one means. Prometheus shows `.` as `_` and counters with `_total`.

macro_rules! metrics {
    ($(#[doc = $help:literal] $metric:ident = $name:literal, $unit:literal;)*) => {
        /// A metric.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Metric {
            $(#[doc = $help] $metric,)*
        }

        impl Metric {
            /// All of them.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$metric),*];

            /// Its name.
            #[must_use]
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$metric => $name),* }
            }

            /// Its unit (UCUM).
            #[must_use]
            pub(crate) fn unit(self) -> &'static str {
                match self { $(Self::$metric => $unit),* }
            }

            /// What it means.
            #[must_use]
            pub(crate) fn help(self) -> &'static str {
                match self { $(Self::$metric => $help.trim_ascii()),* }
            }
        }
    };
}

metrics! {
    /// Always 1; its labels name the version.
    BuildInfo = "spikewatch.build.info", "";
    /// Time that a hop took, by hop and quantile (0.5, 0.99, 1).
    HopLatency = "spikewatch.hop.latency", "s";
    /// How often a hop was measured.
    HopCount = "spikewatch.hop.count", "";

    /// Bytes read from files (as stored) or received by listeners.
    CollectorBytesRead = "spikewatch.collector.read", "By";
    /// Packets read from captures.
    CollectorPackets = "spikewatch.collector.packets", "";
    /// Export datagrams received or read.
    CollectorDatagrams = "spikewatch.collector.datagrams", "";
    /// Lines of logs read.
    CollectorLines = "spikewatch.collector.lines", "";
    /// Flow records decoded.
    CollectorRecords = "spikewatch.collector.records", "";
    /// Records left out because another sensor had reported their connection.
    CollectorDuplicates = "spikewatch.collector.duplicates", "";
    /// Records whose event time was absurd and replaced by the time of receipt.
    CollectorTimesReplaced = "spikewatch.collector.times_replaced", "";
    /// Shares charged to the reserved host (overflow): the key limit was reached.
    CollectorOverflowed = "spikewatch.collector.overflowed", "";
    /// Shares charged to (other) of a bounded dimension because too many of its values were held.
    CollectorValuesOverflowed = "spikewatch.collector.values_overflowed", "";
    /// Peers looked up in the databases of addresses.
    PlaceLookups = "spikewatch.collector.places.lookups", "";
    /// Peers looked up of which no database of addresses knew anything.
    PlaceMisses = "spikewatch.collector.places.misses", "";
    /// Databases of addresses that changed and were read again.
    DatabaseReloads = "spikewatch.collector.places.reloads", "";
    /// Databases of addresses that changed and could not be used.
    DatabaseFailures = "spikewatch.collector.places.reload_failures", "";
    /// Input that could not be used, by reason.
    CollectorFaults = "spikewatch.collector.faults", "";
    /// Datagrams dropped because decoding could not keep up.
    CollectorDropped = "spikewatch.collector.datagrams_dropped", "";
    /// Slices cut before their end because their windows took too much memory.
    CollectorCutEarly = "spikewatch.collector.cut_early", "";
    /// Datagrams received by a listener.
    ListenerReceived = "spikewatch.collector.listener.received", "";
    /// Datagrams that the kernel dropped at a listener because they came faster than they were read.
    ListenerKernelDropped = "spikewatch.collector.listener.kernel_dropped", "";
    /// Datagrams that a listener received and dropped because decoding could not keep up.
    ListenerDropped = "spikewatch.collector.listener.dropped", "";
    /// What the kernel holds for a listener, at most.
    ListenerBuffer = "spikewatch.collector.listener.receive_buffer", "By";
    /// What was handed over by HTTP or gRPC and refused, because too much waited to be counted.
    IntakeRefused = "spikewatch.collector.intake.refused", "";
    /// What was handed over by HTTP or gRPC again, and not counted again.
    IntakeRepeated = "spikewatch.collector.intake.repeated", "";
    /// Windows handed to the uplink.
    CollectorRows = "spikewatch.collector.rows", "";
    /// Batches sent to aggregators, repeats included.
    CollectorBatches = "spikewatch.collector.batches", "";
    /// How far the clock is ahead of that of the aggregator heard last, give or take half of a round trip.
    CollectorClockSkew = "spikewatch.collector.clock_skew", "s";
    /// Streams to aggregators opened.
    CollectorStreams = "spikewatch.collector.streams", "";
    /// Bytes of the last check-point: what decoders and sources go on from after a restart.
    CheckpointBytes = "spikewatch.collector.checkpoint.size", "By";
    /// Bytes of the spool.
    SpoolBytes = "spikewatch.collector.spool.size", "By";
    /// Start of the oldest slice in the spool that is not committed; 0 if all are.
    SpoolOldest = "spikewatch.collector.spool.oldest", "s";
    /// Slices that the spool merged with others to stay within its budget.
    SpoolCoarsened = "spikewatch.collector.spool.coarsened", "";
    /// Slices dropped from the spool before they were committed: their traffic is not counted.
    SpoolDropped = "spikewatch.collector.spool.dropped", "";
    /// Events in slices that were dropped from the spool.
    SpoolDroppedEvents = "spikewatch.collector.spool.dropped_events", "";
    /// Writes and syncs of the spool that failed.
    SpoolFailures = "spikewatch.collector.spool.failures", "";
    /// Newest event time seen.
    CollectorEventTime = "spikewatch.collector.event_time", "s";

    /// Streams refused because the collector's clock is too far off.
    AggregatorSkewed = "spikewatch.aggregator.streams_skewed", "";
    /// How far a collector's clock is ahead of this aggregator's.
    AggregatorClockSkew = "spikewatch.aggregator.collector_clock_skew", "s";
    /// Streams of collectors that are open.
    AggregatorStreams = "spikewatch.aggregator.streams", "";
    /// Shards assigned to this aggregator.
    AggregatorShards = "spikewatch.aggregator.shards", "";
    /// Shards that wait to be opened.
    AggregatorOpening = "spikewatch.aggregator.shards_opening", "";
    /// Bytes of windows that are not committed.
    AggregatorWindowBytes = "spikewatch.aggregator.windows", "By";
    /// Slices received.
    AggregatorSlices = "spikewatch.aggregator.slices", "";
    /// Windows received, one per key and slice.
    AggregatorRows = "spikewatch.aggregator.rows", "";
    /// Messages refused because a field was invalid.
    AggregatorInvalid = "spikewatch.aggregator.invalid_messages", "";
    /// Times that a stream had to bind a shard anew.
    AggregatorUnbound = "spikewatch.aggregator.unbound", "";
    /// Events that disk budgets of collectors dropped, as far as they said so.
    AggregatorLostEvents = "spikewatch.aggregator.lost_events", "";
    /// Commits sent.
    AggregatorCommits = "spikewatch.aggregator.commits", "";
    /// Open windows sent ahead of their bucket's end because they crossed a tripwire.
    AggregatorEarly = "spikewatch.aggregator.early_windows", "";
    /// Commits acknowledged.
    AggregatorAcks = "spikewatch.aggregator.acks", "";
    /// Refusals by the detector.
    AggregatorRefusals = "spikewatch.aggregator.refusals", "";
    /// Connections made to the detector.
    AggregatorConnects = "spikewatch.aggregator.detector_connects", "";
    /// Times that credit was withheld because of memory.
    AggregatorCreditWithheld = "spikewatch.aggregator.credit_withheld", "";
    /// Restarts of shards after an error, a panic or a freeze.
    AggregatorRestarts = "spikewatch.aggregator.shard_restarts", "";

    /// Commits applied.
    DetectorCommits = "spikewatch.detector.commits", "";
    /// Commits that came again and were acknowledged without effect.
    DetectorRepeats = "spikewatch.detector.repeats", "";
    /// Opens and commits refused.
    DetectorRefusals = "spikewatch.detector.refusals", "";
    /// Windows committed.
    DetectorWindows = "spikewatch.detector.windows", "";
    /// Corrections committed.
    DetectorCorrections = "spikewatch.detector.corrections", "";
    /// Anomaly records written.
    DetectorRecords = "spikewatch.detector.records", "";
    /// Anomaly records left out because a job had too many in one bucket.
    DetectorRecordsCut = "spikewatch.detector.records_cut", "";
    /// Alerts made.
    DetectorAlerts = "spikewatch.detector.alerts", "";
    /// Anomaly records that waited longer than a rule's look-back.
    DetectorExpired = "spikewatch.detector.expired", "";
    /// Anomaly records that the bound on false alerts kept from being told.
    DetectorBounded = "spikewatch.detector.bounded", "";
    /// Early windows that were not looked at.
    DetectorEarlyDropped = "spikewatch.detector.early_dropped", "";
    /// Times that the store failed to forget old windows.
    DetectorRetentionFailures = "spikewatch.detector.retention_failures", "";
    /// Executions of rules.
    DetectorExecutions = "spikewatch.detector.executions", "";
    /// 1 while it leads, 0 while it stands by.
    DetectorLeads = "spikewatch.detector.leads", "";
    /// Series with a baseline.
    DetectorSeries = "spikewatch.detector.series", "";
    /// Windows without a series because the limit is reached.
    DetectorNotModelled = "spikewatch.detector.not_modelled", "";
    /// Series forgotten to make room for others.
    DetectorShed = "spikewatch.detector.shed", "";
    /// Anomaly records that corrections of scored buckets gave.
    DetectorLateRecords = "spikewatch.detector.late_records", "";
    /// Late windows that no series was asked about: their key has none, or they came too late.
    DetectorCorrectionsNotScored = "spikewatch.detector.corrections_not_scored", "";
    /// Times that a collector fell silent.
    DetectorFellSilent = "spikewatch.detector.collectors_fell_silent", "";
    /// Collectors that are silent now.
    DetectorSilent = "spikewatch.detector.collectors_silent", "";
    /// Start of the last bucket that all shards committed.
    DetectorFrontier = "spikewatch.detector.frontier", "s";
    /// Start of the last bucket scored.
    DetectorScored = "spikewatch.detector.scored", "s";

    /// Messages that wait in a mailbox.
    MailboxDepth = "spikewatch.mailbox.depth", "";
    /// Time that senders waited for room in a mailbox.
    MailboxBlocked = "spikewatch.mailbox.blocked", "s";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_has_a_name_of_its_own_and_a_meaning() {
        let names: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        assert!(Metric::ALL.iter().all(|metric| metric.name().starts_with("spikewatch.")));
        assert!(Metric::ALL.iter().all(|metric| metric.help().ends_with('.') && !metric.help().starts_with(' ')));
    }
}
