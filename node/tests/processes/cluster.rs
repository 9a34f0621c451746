//! Two collectors, three aggregators, two detectors: each a process of its own, on ports that it keeps.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tonic::transport::Channel;

use crate::namespaces::Namespaces;

/// Someone who can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Member {
    Detector(usize),
    Aggregator(usize),
    Collector(usize),
    Store,
}

/// What a collector takes in.
#[derive(Debug, Clone)]
pub(crate) enum Intake {
    /// Flows, at a port of its own. It has a spool.
    Flows,
    /// A file, once, from memory.
    Once(PathBuf),
    /// Files of a pattern, as they are written. It has a spool.
    Followed(PathBuf),
}

pub(crate) const ALL: [Member; 7] = [
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
    members: &'static [Member],
    store: String,
    ports: BTreeMap<Member, u16>,
    flows: BTreeMap<usize, u16>,
    running: BTreeMap<Member, Child>,
    /// How long a bucket waits for a silent collector, as a setting.
    max_wait: &'static str,
    /// What each collector takes in; flows, if nothing is said.
    intakes: BTreeMap<usize, Intake>,
    /// The one rule there is; none: those that ship.
    rule: Option<&'static str>,
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
            members: &ALL,
            store: store.to_owned(),
            ports: held.iter().map(|(member, held)| (*member, held.local_addr().unwrap().port())).collect(),
            flows: sockets.iter().map(|(number, socket)| (*number, socket.local_addr().unwrap().port())).collect(),
            running: BTreeMap::new(),
            max_wait,
            intakes: BTreeMap::new(),
            rule: None,
            apart: None,
        }
    }

    /// With these members only, of which one is a detector, on a store of its own.
    pub(crate) fn of(mut self, members: &'static [Member]) -> Self {
        self.members = members;
        self.store = format!("sqlite://{}", self.folder.path().join("store.db").display());
        self
    }

    /// With that rule instead of those that ship.
    pub(crate) fn with_rule(mut self, rule: &'static str) -> Self {
        self.rule = Some(rule);
        self
    }

    /// Starts a collector, or kills it and starts it anew, with another intake.
    pub(crate) fn feed(&mut self, number: usize, intake: Intake) {
        let member = Member::Collector(number);
        if self.running.contains_key(&member) {
            self.kill(member);
        }
        self.intakes.insert(number, intake);
        self.start(member);
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
        self.members.iter().for_each(|member| self.start(*member));
    }

    /// All but the collectors.
    pub(crate) fn start_centre(&mut self) {
        let centre = self.members.iter().filter(|member| !matches!(member, Member::Collector(_)));
        centre.for_each(|member| self.start(*member));
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
        send(&self.running[&member], signal);
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

    /// Ends all in good order, those first who have something to hand on, and returns their exit codes.
    pub(crate) fn stop(&mut self) -> Vec<Option<i32>> {
        let mut codes = Vec::new();
        let kinds: [fn(&Member) -> bool; 3] = [
            |member| matches!(member, Member::Collector(_)),
            |member| matches!(member, Member::Aggregator(_)),
            |_| true,
        ];
        for is_next in kinds {
            let next: BTreeMap<_, _> = self.running.extract_if(.., |member, _| is_next(member)).collect();
            next.values().for_each(|child| send(child, "TERM"));
            codes.extend(next.into_values().map(|mut child| child.wait().unwrap().code()));
        }
        codes
    }

    /// What everyone logged, for a failure's message.
    pub(crate) fn logs(&self) -> String {
        self.members.iter().map(|member| format!("== {member:?}\n{}", self.said(*member))).collect()
    }

    /// To a detector, if it runs.
    pub(crate) async fn channel(&self, number: usize) -> Option<Channel> {
        Channel::from_shared(self.address(Member::Detector(number))).unwrap().connect().await.ok()
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
                 max_wait = {:?}\n{}",
                self.store,
                self.address(member),
                self.max_wait,
                self.rules()
            ),
            Member::Aggregator(_) => format!(
                "advertise = {:?}\ndetector = [{:?}, {:?}]\n",
                self.address(member),
                self.address(Member::Detector(1)),
                self.address(Member::Detector(2))
            ),
            Member::Collector(_) => format!(
                "site = \"site{number}\"\nslice = \"1s\"\naggregators = [{}]\n{}",
                all([Member::Aggregator(1), Member::Aggregator(2), Member::Aggregator(3)]),
                self.intake(number)
            ),
            Member::Store => String::new(),
        };
        format!(
            "[node]\nname = \"{kind}{number}\"\n[cluster]\nbucket = \"10s\"\nshards = 8\n\
             [{kind}]\nlisten = \"127.0.0.1:{port}\"\n{role}"
        )
    }

    /// Where a collector keeps what it has, and what it takes in.
    fn intake(&self, number: usize) -> String {
        let spool = self.folder.path().join(format!("spool{number}"));
        match self.intakes.get(&number).unwrap_or(&Intake::Flows) {
            Intake::Flows => format!(
                "spool = {spool:?}\n[[collector.sources]]\nkind = \"netflow\"\nlisten = \"{}\"\n",
                self.listener(number)
            ),
            Intake::Once(path) => {
                format!("spool = \"\"\n[[collector.sources]]\nkind = \"files\"\npaths = [{path:?}]\n")
            }
            Intake::Followed(pattern) => format!(
                "spool = {spool:?}\n[[collector.sources]]\nkind = \"files\"\nfollow = true\npaths = [{pattern:?}]\n"
            ),
        }
    }

    /// A detector's setting that names the folder of the one rule.
    fn rules(&self) -> String {
        let Some(rule) = self.rule else { return String::new() };
        let folder = self.folder.path().join("rules");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("rule.toml"), rule).unwrap();
        // It tells what is hardly unusual, in buckets of seconds: no deployment's bound allows that.
        format!("rules = {folder:?}\nfalse_alerts_a_day = 0\n")
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

fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn named(member: Member) -> (&'static str, usize) {
    match member {
        Member::Detector(number) => ("detector", number),
        Member::Aggregator(number) => ("aggregator", number),
        Member::Collector(number) => ("collector", number),
        Member::Store => ("store", 0),
    }
}
