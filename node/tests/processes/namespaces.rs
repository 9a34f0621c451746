//! Two sites, each in a network namespace: a link to the centre, which may be cut and lose packets, and one to the site's
//! exporters, which does neither. What leaves a site reaches the centre through a proxy that takes its time.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio, id},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// How long the proxy holds what it takes.
const DELAY: Duration = Duration::from_millis(30);

pub(crate) struct Namespaces {
    /// Tells them from those of another test.
    id: u32,
    /// Ways to the aggregators, by number.
    ways: BTreeMap<usize, SocketAddr>,
}

impl Namespaces {
    /// Makes them; when it is dropped, they go. None, and says so, for whom may not: root may, and CI has to.
    pub(crate) fn new() -> Option<Self> {
        let made = Self { id: id(), ways: BTreeMap::new() };
        if !run(&format!("ip link add {} type bridge", made.bridge()), true) {
            let root = Command::new("id").arg("-u").output().is_ok_and(|said| said.stdout.trim_ascii() == b"0");
            let must = root || std::env::var_os("CI").is_some_and(|set| set == "true");
            assert!(!must, "no network namespaces can be made: that needs iproute2, and the right to (CAP_NET_ADMIN)");
            println!("skipped: no network namespaces: this needs root on Linux, with iproute2");
            return None;
        }
        must(&format!("ip addr add {}/24 dev {}", made.centre(), made.bridge()));
        must(&format!("ip link set {} up", made.bridge()));
        for site in [1, 2] {
            let (name, wan, lan, number) = (made.name(site), made.wan(site), made.lan_link(site), site as u8);
            must(&format!("ip netns add {name}"));
            must(&format!("ip link add {wan} type veth peer name wan netns {name}"));
            must(&format!("ip link set {wan} master {} up", made.bridge()));
            must(&format!("ip -n {name} addr add {}/24 dev wan", made.address(0, number)));
            must(&format!("ip link add {lan} type veth peer name lan netns {name}"));
            must(&format!("ip addr add {}/30 dev {lan}", made.address(number, 1)));
            must(&format!("ip link set {lan} up"));
            must(&format!("ip -n {name} addr add {}/30 dev lan", made.address(number, 2)));
            ["lo", "wan", "lan"].iter().for_each(|link| must(&format!("ip -n {name} link set {link} up")));
        }
        Some(made)
    }

    /// Leads what comes for that aggregator to its port on the loopback, as long as the test's runtime lives.
    #[expect(clippy::disallowed_methods, reason = "the network between the processes is no part of them")]
    pub(crate) async fn lead_to(&mut self, number: usize, port: u16) {
        let listener = TcpListener::bind((self.centre(), 0)).await.unwrap();
        self.ways.insert(number, listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((outside, _)) = listener.accept().await {
                let Ok(inside) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { continue };
                let ((from_outside, to_outside), (from_inside, to_inside)) =
                    (outside.into_split(), inside.into_split());
                tokio::spawn(pass_on(from_outside, to_inside));
                tokio::spawn(pass_on(from_inside, to_outside));
            }
        });
    }

    pub(crate) fn way_to(&self, aggregator: usize) -> SocketAddr {
        self.ways[&aggregator]
    }

    /// Where a site's collector takes flows.
    pub(crate) fn lan(&self, site: usize) -> Ipv4Addr {
        self.address(site as u8, 2)
    }

    /// Runs a program in a site.
    pub(crate) fn command(&self, site: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(site), program]);
        command
    }

    /// Takes a site's link to the centre down, or up again.
    pub(crate) fn link(&self, site: usize, state: &str) {
        must(&format!("ip link set {} {state}", self.wan(site)));
    }

    /// From now on a share of all packets from the centre to a site is lost, by whichever tool there is.
    pub(crate) fn lose(&self, site: usize, percent: u8) {
        let inside = format!("ip netns exec {}", self.name(site));
        let tables = format!(
            "{inside} iptables -A INPUT -i wan -m statistic --mode random --probability 0.{percent:02} -j DROP"
        );
        if run(&tables, true) {
            return;
        }
        must(&format!("{inside} nft add table inet loss"));
        must(&format!("{inside} nft add chain inet loss input {{ type filter hook input priority 0 ; }}"));
        must(&format!("{inside} nft add rule inet loss input iifname wan numgen random mod 100 < {percent} drop"));
    }
}

impl Namespaces {
    /// 10.x.network.host, where x differs from one test process to another.
    fn address(&self, network: u8, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 100 + (self.id % 100) as u8, network, host)
    }

    fn centre(&self) -> Ipv4Addr {
        self.address(0, 254)
    }

    fn bridge(&self) -> String {
        format!("sb{}", self.id)
    }

    fn wan(&self, site: usize) -> String {
        format!("sw{}s{site}", self.id)
    }

    fn lan_link(&self, site: usize) -> String {
        format!("sl{}s{site}", self.id)
    }

    fn name(&self, site: usize) -> String {
        format!("spikewatch-{}-{site}", self.id)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for site in 1..=2 {
            run(&format!("ip netns del {}", self.name(site)), true);
            // What it held goes with it, unless it was never made.
            run(&format!("ip link del {}", self.lan_link(site)), true);
            run(&format!("ip link del {}", self.wan(site)), true);
        }
        run(&format!("ip link del {}", self.bridge()), true);
    }
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut held = vec![0; 1 << 18];
    while let Ok(length @ 1..) = from.read(&mut held).await {
        tokio::time::sleep(DELAY).await;
        if to.write_all(&held[..length]).await.is_err() {
            return;
        }
    }
}

fn must(command: &str) {
    assert!(run(command, false), "{command} failed");
}

fn run(command: &str, quietly: bool) -> bool {
    let mut words = command.split(' ');
    let stderr = if quietly { Stdio::null() } else { Stdio::inherit() };
    let done = Command::new(words.next().unwrap()).args(words).stdout(Stdio::null()).stderr(stderr).status();
    done.is_ok_and(|status| status.success())
}
