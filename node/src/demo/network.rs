//! Who is there: the hosts of the two sites, and the world outside.

use super::device::{Camera, Sensor};
use super::exporter::Through;
use super::host::{Habit, Host};
use super::office::Office;
use super::random::Random;
use super::server::Server;
use std::net::Ipv4Addr;

/// Names of the sites; a host's `site` is an index into them.
pub(crate) const SITES: [&str; 2] = ["north", "south"];
/// What belongs to the sites.
pub(crate) const INTERNAL_NETWORKS: [&str; 2] = ["10.10.0.0/16", "10.20.0.0/16"];

/// Hosts of each site by kind; together 200.
const OFFICES: [usize; 2] = [66, 54];
const SERVERS: [usize; 2] = [10, 10];
const SENSORS: [usize; 2] = [24, 32];
const CAMERAS: usize = 4;

/// The networks inside a site, by the third octet.
const SERVER_ROOM: u8 = 10;
const DESKS: u8 = 20;
const THINGS: u8 = 30;

/// The servers that others in a site lean on, by their number in the server room.
const RESOLVER: u8 = 11;
const FILES: u8 = 12;
const VAULT: u8 = 13;

/// All hosts, and the addresses they know.
#[derive(Debug)]
pub(crate) struct Network {
    /// Seed of everything drawn later.
    pub(crate) seed: u64,
    /// Internal hosts.
    pub(crate) hosts: Vec<Host>,
}

/// What a site's hosts need to know of their site.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    /// Answers DNS.
    pub(crate) resolver: Ipv4Addr,
    /// Keeps the files.
    pub(crate) files: Ipv4Addr,
    /// Takes the backups.
    pub(crate) vault: Ipv4Addr,
}

impl Site {
    /// The site with this index.
    #[must_use]
    pub(crate) fn of(index: usize) -> Self {
        let server = |number| address(index, SERVER_ROOM, number);
        Self { resolver: server(RESOLVER), files: server(FILES), vault: server(VAULT) }
    }
}

fn address(site: usize, network: u8, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, if site == 0 { 10 } else { 20 }, network, number)
}

impl Network {
    /// The hosts of a seed, each with habits of its own.
    #[must_use]
    pub(crate) fn new(seed: u64) -> Self {
        let mut hosts = Vec::with_capacity(200);
        for site in 0..SITES.len() {
            let (edge, room) = if site == 0 {
                (Through::NorthRouter, Through::NorthSwitch)
            } else {
                (Through::SouthRouter, Through::SouthRouter)
            };
            let mut add = |through, network, number: usize, habit: &dyn Fn(&mut Random) -> Habit| {
                let address = address(site, network, 11 + number as u8);
                let mut random = Random::stream(seed, &[u64::from(u32::from(address)), 0]);
                hosts.push(Host { site, address, through, habit: habit(&mut random) });
            };
            for number in 0..OFFICES[site] {
                add(edge, DESKS, number, &|random| Habit::Office(Office::new(random)));
            }
            for number in 0..SERVERS[site] {
                let sampled = site == 0;
                let public = 11 + number as u8 > VAULT;
                let vault = 11 + number as u8 == VAULT;
                add(room, SERVER_ROOM, number, &|random| {
                    Habit::Server(Server::new(random, number, sampled, public, !vault))
                });
            }
            for number in 0..SENSORS[site] {
                add(edge, THINGS, number, &|random| Habit::Sensor(Sensor::new(random, number)));
            }
            if site == 0 {
                for number in 0..CAMERAS {
                    add(room, THINGS, 100 + number, &|random| Habit::Camera(Camera::new(random)));
                }
            }
        }
        Self { seed, hosts }
    }
}

/// Services on the Internet that people of both sites use: 400 addresses.
#[must_use]
pub(crate) fn service(random: &mut Random) -> Ipv4Addr {
    let number = random.below(400);
    if number < 200 {
        Ipv4Addr::new(198, 51, 100, 20 + number as u8)
    } else {
        Ipv4Addr::new(203, 0, 113, 20 + (number - 200) as u8)
    }
}

/// Someone on the Internet who visits our servers.
#[must_use]
pub(crate) fn visitor(random: &mut Random) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + random.below(1 << 16) as u32)
}

/// An address that nobody here has met before: the stage of the incidents.
#[must_use]
pub(crate) fn stranger(random: &mut Random) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 19, 0, 0)) + random.below(1 << 16) as u32)
}

/// A port that a client's system picks for itself.
#[must_use]
pub(crate) fn ephemeral(random: &mut Random) -> u16 {
    (32_768 + random.below(28_000)) as u16
}
