//! What an export decoder has seen, in total and by exporter.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::sequence::Arrival;

/// Counts of one exporter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct ExporterStats {
    /// Datagrams that came.
    pub datagrams: u64,
    /// Flow records decoded. (sFlow's samples become records later, when their flow ends, and count in the total only.)
    pub records: u64,
    /// Records missing in the sequence (NetFlow v5, IPFIX).
    pub lost_records: u64,
    /// Datagrams missing in the sequence (NetFlow v9, sFlow).
    pub lost_datagrams: u64,
    /// Datagrams that came late or twice.
    pub late_datagrams: u64,
    /// Times that the sequence began anew.
    pub restarts: u64,
    /// Observation domains held.
    pub(super) domains: usize,
}

/// Counts of a decoder.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct ExportStats {
    /// Datagrams given to the decoder.
    pub datagrams: u64,
    /// Flow records that came out.
    pub records: u64,
    /// sFlow packet samples that were taken into flows.
    pub samples: u64,
    /// Records missing in the sequences (NetFlow v5, IPFIX).
    pub lost_records: u64,
    /// Datagrams missing in the sequences (NetFlow v9, sFlow).
    pub lost_datagrams: u64,
    /// Templates held now.
    pub templates: usize,
    /// Exporters and observation domains held now.
    pub domains: usize,
    exporters: BTreeMap<IpAddr, ExporterStats>,
}

/// What a format's sequence numbers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Records,
    Datagrams,
}

impl ExportStats {
    /// Counts by exporter, of those held now (an exporter that had to make room is forgotten). sFlow's exporter is the agent.
    pub fn exporters(&self) -> impl Iterator<Item = (IpAddr, &ExporterStats)> {
        self.exporters.iter().map(|(address, stats)| (*address, stats))
    }

    /// Counts of one exporter.
    #[must_use]
    pub fn exporter(&self, address: IpAddr) -> Option<&ExporterStats> {
        self.exporters.get(&address)
    }

    /// An observation domain of `exporter` is now held.
    pub(super) fn domain_added(&mut self, exporter: IpAddr) {
        self.domains += 1;
        self.exporters.entry(exporter).or_default().domains += 1;
    }

    /// An observation domain of `exporter` is no longer held; with its last one the exporter is forgotten.
    pub(super) fn domain_removed(&mut self, exporter: IpAddr) {
        self.domains = self.domains.saturating_sub(1);
        if let Some(stats) = self.exporters.get_mut(&exporter) {
            stats.domains = stats.domains.saturating_sub(1);
            if stats.domains == 0 {
                self.exporters.remove(&exporter);
            }
        }
    }

    /// A datagram of a held exporter gave `records` records, and its sequence number said `arrival`.
    pub(super) fn datagram(&mut self, exporter: IpAddr, records: u64, arrival: Arrival, unit: Unit) {
        let Some(stats) = self.exporters.get_mut(&exporter) else { return };
        stats.datagrams += 1;
        stats.records += records;
        let (lost, total) = match unit {
            Unit::Records => (&mut stats.lost_records, &mut self.lost_records),
            Unit::Datagrams => (&mut stats.lost_datagrams, &mut self.lost_datagrams),
        };
        match arrival {
            Arrival::InOrder => {}
            Arrival::Restart => stats.restarts += 1,
            Arrival::Gap(missing) => {
                *lost += u64::from(missing);
                *total += u64::from(missing);
            }
            Arrival::Late(found) => {
                stats.late_datagrams += 1;
                let found = u64::from(found).min(*lost);
                *lost -= found;
                *total = total.saturating_sub(found);
            }
        }
    }
}
