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
pub struct Scenario {
    network: Arc<Network>,
    staged: Arc<[Staged]>,
    incidents: Arc<[Incident]>,
}

impl Scenario {
    /// The scenario of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut network = Network::new(seed);
        let staged = incident::stage(&mut network);
        let incidents = staged.iter().map(|staged| staged.incident.clone()).collect();
        Self { network: Arc::new(network), staged: staged.into(), incidents }
    }

    /// Names of the sites; the indices elsewhere are into these.
    #[must_use]
    pub fn sites(&self) -> [&'static str; 2] {
        SITES
    }

    /// The sites' own networks, as CIDRs.
    #[must_use]
    pub fn internal_networks(&self) -> Vec<String> {
        INTERNAL_NETWORKS.map(String::from).to_vec()
    }

    /// Addresses of the internal hosts.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.network.hosts.iter().map(|host| host.address)
    }

    /// What is staged, by time of start.
    #[must_use]
    pub fn incidents(&self) -> &[Incident] {
        &self.incidents
    }

    /// Where the history starts, event time in milliseconds.
    #[must_use]
    pub fn start_ms(&self) -> u64 {
        START_MS
    }

    /// Where it ends: no datagram of the history is sent at or after this.
    #[must_use]
    pub fn end_ms(&self) -> u64 {
        START_MS + DAYS * DAY_MS
    }

    /// The datagrams of the whole history in order of time, made a quarter of an hour at a time.
    pub fn history(&self) -> impl Iterator<Item = Datagram> + Send + use<> {
        Playback::new(self.network.clone(), self.staged.clone(), START_MS, Some(self.end_ms()))
    }

    /// Traffic as usual from `from_ms` on, without incidents and without end.
    pub fn live(&self, from_ms: u64) -> impl Iterator<Item = Datagram> + Send + use<> {
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
