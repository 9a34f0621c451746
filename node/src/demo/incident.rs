//! The five staged incidents of the last days: four that must alert, and one that must not.

use super::host::{Habit, Host};
use super::network::{Network, ephemeral, stranger};
use super::random::Random;
use super::rhythm::{DAY_MS, DAYS, HOUR_MS, START_MS, STEP_MS};
use super::server::Server;
use super::traffic::{ACTIVE_TIMEOUT_MS, Conversation, Endpoint, Record, TCP, knock, refusal};
use std::net::{IpAddr, Ipv4Addr};

/// What is staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IncidentKind {
    /// Many senders flood a server with packets.
    Flood,
    /// A desk sends data out by night.
    Exfiltration,
    /// A desk tries thousands of ports of a server.
    PortScan,
    /// A desk tries one port of hundreds of hosts.
    HostScan,
    /// A nightly backup, later and larger than most, within its habit: nothing to see.
    Backup,
}

/// A staged incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Incident {
    /// What.
    pub(crate) kind: IncidentKind,
    /// The host that must alert (or must not).
    pub(crate) host: IpAddr,
    /// Index of its site.
    pub(crate) site: usize,
    /// First packet, event time in milliseconds.
    pub(crate) start_ms: u64,
    /// Last packet.
    pub(crate) end_ms: u64,
    /// True if an alert on `host` is right, false if it is wrong.
    pub(crate) must_alert: bool,
    /// One line for a person.
    pub(crate) story: String,
    /// Other internal hosts that take part: an alert on one of them in that time is no false alarm.
    pub(crate) also: Vec<IpAddr>,
}

/// An incident with what it takes to play it.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) incident: Incident,
    /// Index of the host in the network.
    pub(crate) host: usize,
    script: Script,
}

#[derive(Debug)]
enum Script {
    /// `bots` senders, together so many packets a minute.
    Flood { victim: Endpoint, bots: u64, packets_a_minute: f64 },
    /// Payload bytes a minute to one new peer.
    Exfiltration { from: Endpoint, to: Endpoint, bytes_a_minute: f64 },
    /// Ports 1 to `ports`, evenly over the time.
    PortScan { from: Ipv4Addr, to: Ipv4Addr, ports: u64 },
    /// So many addresses from `first` on.
    HostScan { from: Ipv4Addr, first: Ipv4Addr, hosts: u64 },
    /// The host's own habit plays it.
    Nothing,
}

/// Draws hosts and times of the five incidents; tells the backup's host of its staged night.
pub(crate) fn stage(network: &mut Network) -> Vec<Staged> {
    let mut random = Random::stream(network.seed, &[7]);
    let minute = 60_000;
    let at = |day: u64, hour: f64| START_MS + day * DAY_MS + (hour * HOUR_MS as f64) as u64;
    let (saturday, sunday, monday) = (DAYS - 3, DAYS - 2, DAYS - 1);
    let mut taken = Vec::new();

    let flooded = choose(network, &mut taken, &mut random, is_public);
    let scanner = choose(network, &mut taken, &mut random, is_office);
    let worm = choose(network, &mut taken, &mut random, is_office);
    let leaver = choose(network, &mut taken, &mut random, is_office);
    let saver = choose(
        network,
        &mut taken,
        &mut random,
        |host| matches!(&host.habit, Habit::Server(server) if server.backup.is_some()),
    );
    let site = network.hosts.get(scanner).map_or(0, |host| host.site);
    let scanned = choose(network, &mut taken, &mut random, |host| host.site == site && is_public(host));

    let flood = {
        let victim = address(network, flooded);
        let start = at(saturday, random.within(9.0, 21.0));
        let length = minute * (12 + random.below(14));
        let usual = server_of(network, flooded).map_or(1_000.0, Server::usual_packets_in);
        let packets_a_minute = usual * random.within(250.0, 500.0) / 15.0;
        let rate = packets_a_minute / 60.0;
        let script = Script::Flood { victim: Endpoint::new(victim, 443), bots: 600, packets_a_minute };
        let story = format!("600 senders flood {victim} with {rate:.0} packets a second");
        staged(network, IncidentKind::Flood, flooded, start, length, story, script)
    };
    let host_scan = {
        let from = address(network, worm);
        let hosts = 500 + random.below(400);
        let start = at(sunday, random.within(8.0, 20.0));
        let first = Ipv4Addr::from(u32::from(stranger(&mut random)) & 0xffff_f000);
        let story = format!("{from} tries port 445 on {hosts} hosts outside, like a worm");
        let script = Script::HostScan { from, first, hosts };
        staged(network, IncidentKind::HostScan, worm, start, minute * (8 + random.below(10)), story, script)
    };
    let exfiltration = {
        let from = Endpoint::new(address(network, leaver), ephemeral(&mut random));
        let to = Endpoint::new(stranger(&mut random), 443);
        let start = at(monday, random.within(1.0, 3.5));
        let length = minute * (60 + random.below(60));
        let usual = match network.hosts.get(leaver).map(|host| &host.habit) {
            Some(Habit::Office(office)) => office.idle_bytes(),
            _ => 10_000.0,
        };
        let bytes_a_minute = usual * random.within(70.0, 130.0) / 15.0;
        let total = bytes_a_minute * (length / minute) as f64 / 1e6;
        let story = format!("{} sends {total:.1} MB by night to {}, never seen before", from.address, to.address);
        let script = Script::Exfiltration { from, to, bytes_a_minute };
        staged(network, IncidentKind::Exfiltration, leaver, start, length, story, script)
    };
    let port_scan = {
        let (from, to) = (address(network, scanner), address(network, scanned));
        let ports = 2_000 + random.below(4_000);
        let start = at(monday, random.within(9.0, 16.0));
        let story = format!("{from} tries {ports} ports of {to}");
        let script = Script::PortScan { from, to, ports };
        let length = minute * (6 + random.below(12));
        let mut staged = staged(network, IncidentKind::PortScan, scanner, start, length, story, script);
        staged.incident.also.push(IpAddr::V4(to));
        staged
    };
    let backup = stage_backup(network, saver, monday, &mut random);
    let mut all = vec![flood, host_scan, exfiltration, port_scan];
    all.extend(backup);
    all.sort_by_key(|staged| staged.incident.start_ms);
    all
}

/// A host that fits and is not part of another incident yet.
fn choose(network: &Network, taken: &mut Vec<usize>, random: &mut Random, fits: impl Fn(&Host) -> bool) -> usize {
    let fitting: Vec<usize> = (0..network.hosts.len())
        .filter(|index| !taken.contains(index) && network.hosts.get(*index).is_some_and(&fits))
        .collect();
    let chosen = random.pick(&fitting).copied().unwrap_or_default();
    taken.push(chosen);
    chosen
}

fn is_office(host: &Host) -> bool {
    matches!(host.habit, Habit::Office(_))
}

fn is_public(host: &Host) -> bool {
    matches!(host.habit, Habit::Server(_)) && host.address.octets()[3] > 13
}

fn server_of(network: &Network, host: usize) -> Option<&Server> {
    match &network.hosts.get(host)?.habit {
        Habit::Server(server) => Some(server),
        _ => None,
    }
}

fn address(network: &Network, host: usize) -> Ipv4Addr {
    network.hosts.get(host).map_or(Ipv4Addr::UNSPECIFIED, |host| host.address)
}

fn staged(
    network: &Network,
    kind: IncidentKind,
    host: usize,
    start_ms: u64,
    length: u64,
    story: String,
    script: Script,
) -> Staged {
    let (site, address) = (network.hosts.get(host).map_or(0, |host| host.site), IpAddr::V4(address(network, host)));
    let must_alert = kind != IncidentKind::Backup;
    let end_ms = start_ms + length;
    let incident = Incident { kind, host: address, site, start_ms, end_ms, must_alert, story, also: Vec::new() };
    Staged { incident, host, script }
}

/// The backup of Monday's morning starts near the late end of its habit and is a fifth larger.
fn stage_backup(network: &mut Network, host: usize, night: u64, random: &mut Random) -> Option<Staged> {
    let address = address(network, host);
    let seed = network.seed;
    let Habit::Server(server) = &mut network.hosts.get_mut(host)?.habit else { return None };
    let backup = server.backup.as_mut()?;
    // Asked without its randomness: the usual start of that night, then late by most of the jitter.
    let usual = START_MS + night * DAY_MS + (backup.hour * HOUR_MS as f64) as u64
        - if backup.hour >= 12.0 { DAY_MS } else { 0 };
    let start = usual + (backup.jitter * random.within(0.5, 0.75) * HOUR_MS as f64) as u64;
    backup.staged = Some((night, start, random.within(1.08, 1.15)));
    let (start, bytes) = backup.of_night(seed, address, night);
    let length = (bytes / backup.speed * 1000.0) as u64;
    let late = (start - usual) / 60_000;
    let story = format!("the nightly backup of {address} runs {late} minutes late and larger than most: its habit");
    Some(staged(network, IncidentKind::Backup, host, start, length, story, Script::Nothing))
}

/// Calls `play` with the moment of each of `count` events spread evenly from `start` over `length` that lie in the step.
fn spread(incident: &Incident, step: u64, count: u64, mut play: impl FnMut(u64, u64)) {
    let length = incident.end_ms - incident.start_ms;
    for number in 0..count {
        let at = incident.start_ms + length * number / count.max(1);
        if (step..step + STEP_MS).contains(&at) {
            play(at, number);
        }
    }
}

impl Staged {
    /// The records of the incident's flows that start in the step that starts at `step`.
    pub(crate) fn play(&self, seed: u64, step: u64, out: &mut Vec<Record>) {
        let incident = &self.incident;
        if incident.start_ms >= step + STEP_MS || incident.end_ms < step {
            return;
        }
        let mut random = Random::stream(seed, &[8, incident.kind as u64, step]);
        let minutes = (incident.end_ms - incident.start_ms) / ACTIVE_TIMEOUT_MS;
        match &self.script {
            Script::Flood { victim, bots, packets_a_minute } => spread(incident, step, minutes * bots, |at, number| {
                let bot = stranger(&mut Random::stream(seed, &[9, number % bots]));
                let packets = (packets_a_minute / *bots as f64 * random.factor(0.3)) as u64;
                out.push(knock(at, 50_000, Endpoint::new(bot, ephemeral(&mut random)), *victim, packets.max(1)));
            }),
            Script::Exfiltration { from, to, bytes_a_minute } => spread(incident, step, minutes, |at, number| {
                let sent = (bytes_a_minute * random.factor(0.15)) as u64;
                out.extend(
                    Conversation {
                        start: at,
                        duration: ACTIVE_TIMEOUT_MS - 1,
                        client: *from,
                        server: *to,
                        protocol: TCP,
                        sent,
                        received: sent / 500,
                        continues: number + 1 < minutes,
                    }
                    .records(),
                );
            }),
            Script::PortScan { from, to, ports } => spread(incident, step, *ports, |at, number| {
                let client = Endpoint::new(*from, ephemeral(&mut random));
                let knock = knock(at, 20, client, Endpoint::new(*to, 1 + number as u16), 1);
                out.extend([knock, refusal(&knock)]);
            }),
            Script::HostScan { from, first, hosts } => spread(incident, step, *hosts, |at, number| {
                let client = Endpoint::new(*from, ephemeral(&mut random));
                let target = Ipv4Addr::from(u32::from(*first) + number as u32);
                out.push(knock(at, 3_000, client, Endpoint::new(target, 445), 2));
            }),
            Script::Nothing => {}
        }
    }
}
