//! Two collectors, three aggregators, two detectors: each a process of its own, on ports that it keeps.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use spikewatch_domain::key::Subject;
use spikewatch_proto::{
    convert::windows::read,
    v1::{ProgressRequest, WindowsQuery, results_client::ResultsClient},
};
use tempfile::TempDir;

use crate::traffic::{Counted, Key};

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
}

impl Cluster {
    /// Nothing runs yet.
    pub(crate) fn new(store: &str) -> Self {
        // Held until all are chosen, so that no two are the same.
        let held: Vec<_> = ALL.iter().map(|member| (*member, TcpListener::bind("127.0.0.1:0").unwrap())).collect();
        let sockets: Vec<_> = (1..=2).map(|number| (number, UdpSocket::bind("127.0.0.1:0").unwrap())).collect();
        Self {
            folder: tempfile::tempdir().unwrap(),
            store: store.to_owned(),
            ports: held.iter().map(|(member, held)| (*member, held.local_addr().unwrap().port())).collect(),
            flows: sockets.iter().map(|(number, socket)| (*number, socket.local_addr().unwrap().port())).collect(),
            running: BTreeMap::new(),
        }
    }

    /// The name of each collector's site, and where it takes flows.
    pub(crate) fn listeners(&self) -> Vec<(String, SocketAddr)> {
        self.flows.iter().map(|(number, port)| (format!("site{number}"), (Ipv4Addr::LOCALHOST, *port).into())).collect()
    }

    pub(crate) fn start_all(&mut self) {
        ALL.into_iter().for_each(|member| self.start(member));
    }

    pub(crate) fn start(&mut self, member: Member) {
        let (role, number) = named(member);
        let config = self.folder.path().join(format!("{role}{number}.toml"));
        std::fs::write(&config, self.config(member)).unwrap();
        let log = OpenOptions::new().create(true).append(true).open(self.log(member)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_spikewatch"))
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
        for child in self.running.values() {
            let sent = Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap();
            assert!(sent.success());
        }
        std::mem::take(&mut self.running).into_values().map(|mut child| child.wait().unwrap().code()).collect()
    }

    /// All windows of hosts with their corrections, if a detector answers.
    pub(crate) async fn windows(&self) -> Option<BTreeMap<Key, Counted>> {
        for number in 1..=2 {
            let Some(mut client) = self.detector(number).await else { continue };
            let Ok(answer) = client.list_windows(WindowsQuery::default()).await else { continue };
            let (mut pages, mut counted) = (answer.into_inner(), BTreeMap::new());
            while let Some(page) = pages.message().await.ok()? {
                for row in read(&page.windows?).unwrap() {
                    let Subject::Address(host) = row.subject else { continue };
                    let key = (page.bucket_start_ms, row.site?.as_str().to_owned(), host);
                    let before = counted.insert(key, (row.window.counters.events, row.window.counters.bytes_out));
                    assert_eq!(before, None, "a window comes once, its corrections merged in");
                }
            }
            return Some(counted);
        }
        None
    }

    /// What everyone logged, for a failure's message.
    pub(crate) fn logs(&self) -> String {
        ALL.iter().map(|member| format!("== {member:?}\n{}", self.said(*member))).collect()
    }

    async fn frontier(&self) -> Option<u64> {
        for number in 1..=2 {
            let Some(mut client) = self.detector(number).await else { continue };
            let Ok(answer) = client.watch_progress(ProgressRequest {}).await else { continue };
            let progress = answer.into_inner().message().await.ok().flatten()?;
            return (progress.frontier_ms > 0).then_some(progress.frontier_ms);
        }
        None
    }

    async fn detector(&self, number: usize) -> Option<ResultsClient<tonic::transport::Channel>> {
        let client = ResultsClient::connect(self.address(Member::Detector(number))).await.ok()?;
        Some(client.max_decoding_message_size(64 << 20))
    }

    fn address(&self, member: Member) -> String {
        format!("http://127.0.0.1:{}", self.ports[&member])
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
                 max_wait = \"2m\"\n",
                self.store,
                self.address(member)
            ),
            Member::Aggregator(_) => format!(
                "advertise = {:?}\ndetector = [{:?}, {:?}]\n",
                self.address(member),
                self.address(Member::Detector(1)),
                self.address(Member::Detector(2))
            ),
            Member::Collector(_) => format!(
                "site = \"site{number}\"\nslice = \"1s\"\nspool = {:?}\naggregators = [{}]\n[[collector.sources]]\nkind = \"netflow\"\n\
                 listen = \"127.0.0.1:{}\"\n",
                self.folder.path().join(format!("spool{number}")),
                all([Member::Aggregator(1), Member::Aggregator(2), Member::Aggregator(3)]),
                self.flows[&number]
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
