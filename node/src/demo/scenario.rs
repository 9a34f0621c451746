//! The scenario of a seed, and its traffic as datagrams in order of time.

use super::exporter::{Datagram, Exporter};
use super::incident::{self, Incident, Staged};
use super::network::{INTERNAL_NETWORKS, Network, SITES};
use super::random::Random;
use super::rhythm::{DAY_MS, DAYS, START_MS, STEP_MS};
use super::traffic::{Conversation, Record};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Everything that follows from a seed. Cheap to make and to clone.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    network: Arc<Network>,
    staged: Arc<[Staged]>,
    incidents: Arc<[Incident]>,
}

impl Scenario {
    /// The scenario of `seed`.
    #[must_use]
    pub(crate) fn new(seed: u64) -> Self {
        let mut network = Network::new(seed);
        let staged = incident::stage(&mut network);
        let incidents = staged.iter().map(|staged| staged.incident.clone()).collect();
        Self { network: Arc::new(network), staged: staged.into(), incidents }
    }

    /// Names of the sites; the indices elsewhere are into these.
    #[must_use]
    pub(crate) fn sites(&self) -> [&'static str; 2] {
        SITES
    }

    /// The sites' own networks, as CIDRs.
    #[must_use]
    pub(crate) fn internal_networks(&self) -> Vec<String> {
        INTERNAL_NETWORKS.map(String::from).to_vec()
    }

    /// Addresses of the internal hosts.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.network.hosts.iter().map(|host| host.address)
    }

    /// What is staged, by time of start.
    #[must_use]
    pub(crate) fn incidents(&self) -> &[Incident] {
        &self.incidents
    }

    /// Where the history starts, event time in milliseconds.
    #[must_use]
    pub(crate) fn start_ms(&self) -> u64 {
        START_MS
    }

    /// Where it ends: no datagram of the history is sent at or after this.
    #[must_use]
    pub(crate) fn end_ms(&self) -> u64 {
        START_MS + DAYS * DAY_MS
    }

    /// The datagrams of the whole history in order of time, made a quarter of an hour at a time.
    pub(crate) fn history(&self) -> impl Iterator<Item = Datagram> + Send + use<> {
        Playback::new(self.network.clone(), self.staged.clone(), START_MS, Some(self.end_ms()))
    }

    /// Traffic as usual from `from_ms` on, without incidents and without end.
    pub(crate) fn live(&self, from_ms: u64) -> impl Iterator<Item = Datagram> + Send + use<> {
        let from = from_ms.max(START_MS);
        let step = from - (from - START_MS) % STEP_MS;
        Playback::new(self.network.clone(), Arc::new([]), step, None)
            .skip_while(move |datagram| datagram.time_ms < from)
    }
}

/// Plays step after step.
struct Playback {
    network: Arc<Network>,
    staged: Arc<[Staged]>,
    exporters: [Exporter; 3],
    step: u64,
    until: Option<u64>,
    ready: VecDeque<Datagram>,
    conversations: Vec<Conversation>,
    records: Vec<Record>,
}

impl Playback {
    fn new(network: Arc<Network>, staged: Arc<[Staged]>, step: u64, until: Option<u64>) -> Self {
        let (ready, conversations, records) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { network, staged, exporters: Exporter::all(), step, until, ready, conversations, records }
    }

    fn play_step(&mut self) {
        let seed = self.network.seed;
        for (index, host) in self.network.hosts.iter().enumerate() {
            self.conversations.clear();
            self.records.clear();
            host.play(&self.network, self.step, &mut self.conversations);
            self.records.extend(self.conversations.iter().flat_map(Conversation::records));
            for staged in self.staged.iter().filter(|staged| staged.host == index) {
                staged.play(seed, self.step, &mut self.records);
            }
            let mut random = Random::stream(seed, &[10, index as u64, self.step]);
            if let Some(exporter) = self.exporters.get_mut(host.through as usize) {
                self.records.iter().for_each(|record| exporter.observe(record, &mut random));
            }
        }
        self.step += STEP_MS;
        let mut sent = Vec::new();
        self.exporters.iter_mut().for_each(|exporter| exporter.send(self.step, &mut sent));
        sent.sort_by_key(|datagram| datagram.time_ms);
        self.ready.extend(sent);
    }
}

impl Iterator for Playback {
    type Item = Datagram;

    fn next(&mut self) -> Option<Datagram> {
        while self.ready.is_empty() {
            if self.until.is_some_and(|until| self.step >= until) {
                return None;
            }
            self.play_step();
        }
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::super::incident::IncidentKind;
    use super::super::rhythm::HOUR_MS;
    use super::*;
    use spikewatch_collector::export::{ExportDecoder, ExportLimits};
    use spikewatch_collector::fault::Decoded;
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::IpAddr;

    #[test]
    fn a_seed_names_one_scenario() {
        let first = |seed| Scenario::new(seed).history().take(20_000).collect::<Vec<_>>();
        assert_eq!(first(3), first(3));
        assert_ne!(first(3), first(4));
        assert_eq!(Scenario::new(3).incidents(), Scenario::new(3).incidents());
        assert_ne!(Scenario::new(3).incidents(), Scenario::new(4).incidents());
    }

    #[test]
    fn two_sites_have_two_hundred_hosts() {
        let hosts: BTreeSet<_> = Scenario::new(1).addresses().collect();
        assert_eq!(hosts.len(), 200);
        assert_eq!(hosts.iter().filter(|host| host.octets()[1] == 10).count(), 104);
        assert!(hosts.iter().all(|host| matches!(host.octets(), [10, 10 | 20, _, _])));
    }

    #[test]
    fn five_incidents_are_staged_on_the_last_days() {
        for seed in 1..=50 {
            let scenario = Scenario::new(seed);
            let kinds: Vec<_> = scenario.incidents().iter().map(|incident| incident.kind).collect();
            assert_eq!(kinds.len(), 5, "seed {seed}");
            for kind in [IncidentKind::Flood, IncidentKind::HostScan, IncidentKind::PortScan] {
                assert!(kinds.contains(&kind), "seed {seed}: {kind:?}");
            }
            let hosts: BTreeSet<_> = scenario.incidents().iter().map(|incident| incident.host).collect();
            assert_eq!(hosts.len(), 5, "seed {seed}: one host each");
            for incident in scenario.incidents() {
                assert!(incident.start_ms >= scenario.end_ms() - 3 * DAY_MS, "seed {seed}: {incident:?}");
                assert!(incident.start_ms < incident.end_ms, "seed {seed}: {incident:?}");
                assert!(incident.end_ms < scenario.end_ms() - HOUR_MS, "seed {seed}: {incident:?}");
                assert_eq!(incident.must_alert, incident.kind != IncidentKind::Backup);
            }
        }
    }

    /// The whole history through the real decoders: nothing is refused or lost, nothing is out of order, and the volume
    /// stays within what a demo may take.
    #[test]
    fn the_history_decodes_whole_and_in_order() {
        let scenario = Scenario::new(1);
        let hosts: BTreeSet<_> = scenario.addresses().map(IpAddr::V4).collect();
        let mut decoders = [(); 2].map(|()| ExportDecoder::new(ExportLimits::default()));
        let (mut decoded, mut now, mut records) = (Decoded::default(), scenario.start_ms(), 0_u64);
        let mut by_day = [0_u64; DAYS as usize];
        let mut seen = BTreeSet::new();
        for datagram in scenario.history() {
            assert!(datagram.time_ms >= now, "out of order by {} ms", now - datagram.time_ms);
            assert!(datagram.payload.len() <= 1_472, "{} bytes don't fit into a packet", datagram.payload.len());
            now = datagram.time_ms;
            let decoder = &mut decoders[datagram.site];
            decoder.expire(now, &mut decoded);
            decoder.decode(datagram.exporter, now, &datagram.payload, &mut decoded);
            assert!(decoded.faults.is_empty(), "{:?}", decoded.faults);
            for record in decoded.records.drain(..) {
                assert!(now - record.start <= 95_000, "{record:?} comes {} ms late", now - record.start);
                let ends = [record.source, record.destination];
                assert!(ends.iter().any(|end| hosts.contains(end)), "none of our hosts: {record:?}");
                seen.extend(ends);
                by_day[((record.start - START_MS) / DAY_MS) as usize] += 1;
                records += 1;
            }
        }
        assert!(now < scenario.end_ms() && now > scenario.end_ms() - 60_000);
        assert!((1_000_000..10_000_000).contains(&records), "{records} records");
        assert!(hosts.is_subset(&seen), "silent: {:?}", hosts.difference(&seen));
        assert!(by_day[5] * 3 < by_day[4] * 2, "a Saturday is quieter than a Friday: {by_day:?}");
    }

    #[test]
    fn live_traffic_is_the_history_without_incidents() {
        let scenario = Scenario::new(5);
        let steps = 40;
        let until = START_MS + steps * STEP_MS;
        let [mut history, mut live] = [BTreeMap::new(), BTreeMap::new()];
        for datagram in scenario.history().take_while(|datagram| datagram.time_ms < until) {
            *history.entry(datagram.exporter).or_insert(0) += datagram.payload.len();
        }
        for datagram in scenario.live(START_MS).take_while(|datagram| datagram.time_ms < until) {
            *live.entry(datagram.exporter).or_insert(0) += datagram.payload.len();
        }
        assert_eq!(history.len(), 3);
        assert_eq!(history, live);
        let from = scenario.end_ms() + 12_345;
        let later: Vec<_> = scenario.live(from).take_while(|d| d.time_ms < from + STEP_MS).collect();
        assert!(later.len() > 50 && later.iter().all(|datagram| datagram.time_ms >= from));
    }
}
