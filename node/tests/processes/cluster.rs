//! Two collectors, three aggregators, two detectors: each a process of its own, on ports that it keeps.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use spikewatch_domain::key::Subject;
use spikewatch_proto::{
    convert::windows::{Row, read},
    v1::{Progress, ProgressRequest, WindowsQuery, results_client::ResultsClient},
};
use tempfile::TempDir;

use crate::{
    namespaces::Namespaces,
    traffic::{Counted, Key},
};

/// Someone who can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Member {
    Detector(usize),
    Aggregator(usize),
    Collector(usize),
    Store,
}

const ALL: [Member; 7] = [
    Member::Detector(1),
    Member::Detector(2),
    Member::Aggregator(1),
    Member::Aggregator(2),
    Member::Aggregator(3),
    Member::Collector(1),
    Member::Collector(2),
];

pub(crate) struct Cluster {
    folder: TempDir,
    store: String,
    ports: BTreeMap<Member, u16>,
    flows: BTreeMap<usize, u16>,
    running: BTreeMap<Member, Child>,
    /// How long a bucket waits for a silent collector, as a setting.
    max_wait: &'static str,
    /// Where the collectors are, if not beside the others.
    apart: Option<Namespaces>,
}

impl Cluster {
    /// Nothing runs yet.
    pub(crate) fn new(store: &str, max_wait: &'static str) -> Self {
        // Held until all are chosen, so that no two are the same.
        let held: Vec<_> = ALL.iter().map(|member| (*member, TcpListener::bind("127.0.0.1:0").unwrap())).collect();
        let sockets: Vec<_> = (1..=2).map(|number| (number, UdpSocket::bind("127.0.0.1:0").unwrap())).collect();
        Self {
            folder: tempfile::tempdir().unwrap(),
            store: store.to_owned(),
            ports: held.iter().map(|(member, held)| (*member, held.local_addr().unwrap().port())).collect(),
            flows: sockets.iter().map(|(number, socket)| (*number, socket.local_addr().unwrap().port())).collect(),
            running: BTreeMap::new(),
            max_wait,
            apart: None,
        }
    }

    /// With each collector in a namespace of its own, that reaches the aggregators through a proxy.
    pub(crate) async fn apart(mut self, mut namespaces: Namespaces) -> Self {
        for number in 1..=3 {
            namespaces.lead_to(number, self.ports[&Member::Aggregator(number)]).await;
        }
        self.apart = Some(namespaces);
        self
    }

    pub(crate) fn namespaces(&self) -> &Namespaces {
        self.apart.as_ref().unwrap()
    }

    /// The name of each collector's site, and where it takes flows.
    pub(crate) fn listeners(&self) -> Vec<(String, SocketAddr)> {
        self.flows.keys().map(|number| (format!("site{number}"), self.listener(*number))).collect()
    }

    fn listener(&self, number: usize) -> SocketAddr {
        let host = self.apart.as_ref().map_or(Ipv4Addr::LOCALHOST, |apart| apart.lan(number));
        (host, self.flows[&number]).into()
    }

    pub(crate) fn start_all(&mut self) {
        ALL.into_iter().for_each(|member| self.start(member));
    }

    pub(crate) fn start(&mut self, member: Member) {
        let (role, number) = named(member);
        let config = self.folder.path().join(format!("{role}{number}.toml"));
        std::fs::write(&config, self.config(member)).unwrap();
        let log = OpenOptions::new().create(true).append(true).open(self.log(member)).unwrap();
        let program = env!("CARGO_BIN_EXE_spikewatch");
        let mut command = match (&self.apart, member) {
            (Some(apart), Member::Collector(number)) => apart.command(number, program),
            _ => Command::new(program),
        };
        let child = command
            .args([role, "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(File::options().write(true).open("/dev/null").unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running.insert(member, child);
    }

    /// At once, without a word.
    pub(crate) fn kill(&mut self, member: Member) {
        let mut child = self.running.remove(&member).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops it where it is, or lets it go on.
    pub(crate) fn signal(&self, member: Member, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.running[&member].id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until both collectors are listening and the shards are open.
    pub(crate) async fn ready(&self) {
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let sending = |number| self.said(Member::Collector(number)).contains("flows address=");
            if (1..=2).all(sending) && self.frontier().await.is_some() {
                return;
            }
        }
        panic!("the cluster did not come up:\n{}", self.logs());
    }

    /// Ends all in good order and returns their exit codes.
    pub(crate) fn stop(&mut self) -> Vec<Option<i32>> {
        self.running.keys().for_each(|member| self.signal(*member, "TERM"));
        std::mem::take(&mut self.running).into_values().map(|mut child| child.wait().unwrap().code()).collect()
    }

    /// All windows of hosts with their corrections, if a detector answers.
    pub(crate) async fn windows(&self) -> Option<BTreeMap<Key, Counted>> {
        let mut counted = BTreeMap::new();
        for (bucket, row) in self.rows().await? {
            let Subject::Address(host) = row.subject else { continue };
            let key = (bucket, row.site?.as_str().to_owned(), host);
            let before = counted.insert(key, (row.window.counters.events, row.window.counters.bytes_out));
            assert_eq!(before, None, "a window comes once, its corrections merged in");
        }
        Some(counted)
    }

    /// Buckets and sites with windows that miss a member of the site.
    pub(crate) async fn incomplete(&self) -> BTreeSet<(u64, String)> {
        let rows = self.rows().await.unwrap();
        let incomplete = rows.into_iter().filter(|(_, row)| row.incomplete);
        incomplete.map(|(bucket, row)| (bucket, row.site.unwrap().as_str().to_owned())).collect()
    }

    /// Deltas to sealed buckets that were committed.
    pub(crate) async fn corrections(&self) -> u64 {
        self.progress().await.unwrap().corrections
    }

    async fn rows(&self) -> Option<Vec<(u64, Row)>> {
        for number in 1..=2 {
            let Some(mut client) = self.detector(number).await else { continue };
            let Ok(answer) = client.list_windows(WindowsQuery::default()).await else { continue };
            let (mut pages, mut all) = (answer.into_inner(), Vec::new());
            while let Some(page) = pages.message().await.ok()? {
                all.extend(read(&page.windows?).unwrap().into_iter().map(|row| (page.bucket_start_ms, row)));
            }
            return Some(all);
        }
        None
    }

    /// What everyone logged, for a failure's message.
    pub(crate) fn logs(&self) -> String {
        ALL.iter().map(|member| format!("== {member:?}\n{}", self.said(*member))).collect()
    }

    async fn frontier(&self) -> Option<u64> {
        self.progress().await.map(|progress| progress.frontier_ms).filter(|frontier| *frontier > 0)
    }

    async fn progress(&self) -> Option<Progress> {
        for number in 1..=2 {
            let Some(mut client) = self.detector(number).await else { continue };
            let Ok(answer) = client.watch_progress(ProgressRequest {}).await else { continue };
            return answer.into_inner().message().await.ok().flatten();
        }
        None
    }

    async fn detector(&self, number: usize) -> Option<ResultsClient<tonic::transport::Channel>> {
        let client = ResultsClient::connect(self.address(Member::Detector(number))).await.ok()?;
        Some(client.max_decoding_message_size(64 << 20))
    }

    /// Where it is reached: by collectors, if it is an aggregator.
    fn address(&self, member: Member) -> String {
        match (&self.apart, member) {
            (Some(apart), Member::Aggregator(number)) => format!("http://{}", apart.way_to(number)),
            _ => format!("http://127.0.0.1:{}", self.ports[&member]),
        }
    }

    fn log(&self, member: Member) -> PathBuf {
        let (role, number) = named(member);
        self.folder.path().join(format!("{role}{number}.log"))
    }

    fn said(&self, member: Member) -> String {
        std::fs::read_to_string(self.log(member)).unwrap_or_default()
    }

    fn config(&self, member: Member) -> String {
        let (kind, number) = named(member);
        let port = self.ports[&member];
        let all = |members: [Member; 3]| members.map(|member| format!("{:?}", self.address(member))).join(", ");
        let role = match member {
            Member::Detector(_) => format!(
                "store = {:?}\nadvertise = {:?}\nlease = \"4s\"\naggregator_lease = \"3s\"\nallowed_lateness = \"2s\"\n\
                 max_wait = {:?}\n",
                self.store,
                self.address(member),
                self.max_wait
            ),
            Member::Aggregator(_) => format!(
                "advertise = {:?}\ndetector = [{:?}, {:?}]\n",
                self.address(member),
                self.address(Member::Detector(1)),
                self.address(Member::Detector(2))
            ),
            Member::Collector(_) => format!(
                "site = \"site{number}\"\nslice = \"1s\"\nspool = {:?}\naggregators = [{}]\n[[collector.sources]]\nkind = \"netflow\"\n\
                 listen = \"{}\"\n",
                self.folder.path().join(format!("spool{number}")),
                all([Member::Aggregator(1), Member::Aggregator(2), Member::Aggregator(3)]),
                self.listener(number)
            ),
            Member::Store => String::new(),
        };
        format!(
            "[node]\nname = \"{kind}{number}\"\n[cluster]\nbucket = \"10s\"\nshards = 8\n\
             [{kind}]\nlisten = \"127.0.0.1:{port}\"\n{role}"
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // Already ended is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn named(member: Member) -> (&'static str, usize) {
    match member {
        Member::Detector(number) => ("detector", number),
        Member::Aggregator(number) => ("aggregator", number),
        Member::Collector(number) => ("collector", number),
        Member::Store => ("store", 0),
    }
}
