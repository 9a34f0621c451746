//! What a replay says on standard error when it is done.

use std::{fmt::Write as _, sync::atomic::Ordering::Relaxed, time::Duration};

use spikewatch_actors::latency::HopSummary;
use spikewatch_collector::{metrics::Metrics, source::files::FileReport};
use spikewatch_proto::v1::Progress;

use crate::human::{count, duration, plural, rfc3339};

/// Faults shown one by one.
const FAULTS_SHOWN: usize = 40;

/// Everything that is told.
#[derive(Debug)]
pub(crate) struct Summary<'a> {
    /// What became of each file.
    pub(crate) files: &'a [FileReport],
    /// What the collector counted.
    pub(crate) metrics: &'a Metrics,
    /// What the detector counted.
    pub(crate) progress: &'a Progress,
    /// Latencies by hop.
    pub(crate) hops: &'a [HopSummary],
    /// Time on the wall and on processors.
    pub(crate) took: (Duration, Duration),
}

impl Summary<'_> {
    /// The whole text.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.input(&mut text);
        self.faults(&mut text);
        self.found(&mut text);
        hops(&mut text, self.hops);
        let (wall, processors) = self.took;
        let packets = self.metrics.counters().packets.load(Relaxed);
        let records = self.metrics.counters().records.load(Relaxed);
        let (what, number) = if packets > records { ("packets", packets) } else { ("records", records) };
        let rate = number as f64 / processors.as_secs_f64().max(1e-3);
        row(&mut text, "time", &format!("{}, {} of processor", duration(wall), duration(processors)));
        row(&mut text, "speed", &format!("{} {what} a processor second", count(rate as u64)));
        text
    }

    fn input(&self, text: &mut String) {
        let counters = self.metrics.counters();
        let failed = self.files.iter().filter(|file| file.error.is_some()).count() as u64;
        let mut files = plural(self.files.len() as u64, "file");
        if failed > 0 {
            let _ = write!(files, ", {} not read to the end", count(failed));
        }
        row(text, "input", &files);
        let items = [
            ("packets", &counters.packets),
            ("datagrams", &counters.datagrams),
            ("lines", &counters.lines),
            ("records", &counters.records),
            ("duplicates", &counters.duplicates),
            ("times replaced", &counters.times_replaced),
            ("overflowed", &counters.overflowed),
        ];
        for (name, counter) in items {
            let number = counter.load(Relaxed);
            if number > 0 || name == "records" {
                row(text, name, &count(number));
            }
        }
    }

    fn faults(&self, text: &mut String) {
        let faults = self.metrics.faults();
        for fault in faults.iter().take(FAULTS_SHOWN) {
            let name = if fault.reason.is_ordinary() { "left out" } else { "not used" };
            let reason = fault.reason.label().replace('_', " ");
            row(text, name, &format!("{} {reason}, first in {}: {}", count(fault.count), fault.source, fault.first));
        }
        if let Some(more) = faults.len().checked_sub(FAULTS_SHOWN).filter(|more| *more > 0) {
            row(text, "not used", &format!("and {more} more kinds in other files"));
        }
    }

    fn found(&self, text: &mut String) {
        let progress = self.progress;
        let (windows, corrections) = (progress.windows, progress.corrections);
        let late = if corrections > 0 { format!(", {} late", count(corrections)) } else { String::new() };
        row(text, "windows", &format!("{}{late}", count(windows)));
        if progress.scored_ms > 0 {
            row(text, "last bucket", &rfc3339(progress.scored_ms));
        }
        row(text, "series", &count(progress.series));
        row(text, "anomalies", &count(progress.records));
        row(text, "alerts", &format!("{} in {}", count(progress.alerts), plural(progress.executions, "execution")));
        if progress.warming_up > 0 {
            let young =
                format!("{} over the threshold made no alert: their series is too young", count(progress.warming_up));
            row(text, "young", &young);
        }
        for warning in &progress.warnings {
            row(text, "warning", warning);
        }
    }
}

/// Latencies, a line per hop.
pub(crate) fn hops(text: &mut String, hops: &[HopSummary]) {
    for hop in hops {
        let [half, most, max] = [hop.p50, hop.p99, hop.max].map(duration);
        row(
            text,
            hop.hop,
            &format!("half within {half}, 99 % within {most}, longest {max} ({} times)", count(hop.count)),
        );
    }
}

/// A name and what belongs to it.
pub(crate) fn row(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name:>24}  {value}");
}
