//! What each kind of host does in a quarter of an hour. Everything is drawn from the seed, the host and the step alone,
//! so that any moment can be played without the moments before it.

use super::device::{Camera, Sensor};
use super::exporter::Through;
use super::network::{Network, Site, ephemeral};
use super::office::Office;
use super::random::Random;
use super::rhythm::{HOUR_MS, START_MS, STEP_MS, drift};
use super::server::Server;
use super::traffic::{ACTIVE_TIMEOUT_MS, Conversation, Endpoint, TCP};
use std::net::Ipv4Addr;

/// An internal host.
#[derive(Debug)]
pub(crate) struct Host {
    /// Index of its site.
    pub(crate) site: usize,
    /// Its address.
    pub(crate) address: Ipv4Addr,
    /// Which exporter sees what it does.
    pub(crate) through: Through,
    /// What it does.
    pub(crate) habit: Habit,
}

/// The kinds of hosts.
#[derive(Debug)]
pub(crate) enum Habit {
    /// A desk with a person who comes and goes.
    Office(Office),
    /// A server that is visited day and night.
    Server(Server),
    /// A sparse device: reports now and then.
    Sensor(Sensor),
    /// A camera: an even stream.
    Camera(Camera),
}

/// One host in one step: where its behaviour writes what it says.
pub(crate) struct Scene<'a> {
    pub(crate) seed: u64,
    pub(crate) name: u64,
    pub(crate) address: Ipv4Addr,
    pub(crate) site: Site,
    pub(crate) step: u64,
    pub(crate) random: Random,
    pub(crate) out: &'a mut Vec<Conversation>,
}

impl Scene<'_> {
    /// Log-normal mood of the day and of the hour.
    pub(crate) fn mood(&self, of_day: f64, of_hour: f64) -> f64 {
        let hours = (self.step - START_MS) as f64 / HOUR_MS as f64;
        let slow = drift(self.seed, [self.name, 3], hours / 24.0);
        (of_day * slow + of_hour * drift(self.seed, [self.name, 4], hours)).exp()
    }

    /// This host opens a conversation at a random moment of the step.
    pub(crate) fn talk(&mut self, server: Endpoint, protocol: u8, sent: f64, received: f64, duration: f64) {
        let client = Endpoint::new(self.address, ephemeral(&mut self.random));
        self.converse(client, server, protocol, sent, received, duration);
    }

    /// Somebody opens a conversation at a random moment of the step.
    pub(crate) fn converse(
        &mut self,
        client: Endpoint,
        server: Endpoint,
        protocol: u8,
        sent: f64,
        received: f64,
        duration: f64,
    ) {
        self.out.push(Conversation {
            start: self.step + self.random.below(STEP_MS),
            duration: duration as u64,
            client,
            server,
            protocol,
            sent: sent as u64,
            received: received as u64,
            continues: false,
        });
    }

    /// The minutes of a long transfer that start in this step.
    pub(crate) fn transfer(&mut self, start: u64, bytes: f64, speed: f64, server: Endpoint, night: u64) {
        let lasts = (bytes / speed * 1000.0) as u64;
        if start >= self.step + STEP_MS || start + lasts < self.step {
            return;
        }
        let client = Endpoint::new(self.address, ephemeral(&mut Random::stream(self.seed, &[self.name, 5, night])));
        let first = self.step.saturating_sub(start).div_ceil(ACTIVE_TIMEOUT_MS);
        for minute in first.. {
            let offset = minute * ACTIVE_TIMEOUT_MS;
            if offset >= lasts || start + offset >= self.step + STEP_MS {
                break;
            }
            let duration = (lasts - offset).min(ACTIVE_TIMEOUT_MS - 1);
            let sent = (speed * duration as f64 / 1000.0 * self.random.factor(0.1)) as u64;
            let continues = offset + ACTIVE_TIMEOUT_MS < lasts;
            let (start, received) = (start + offset, sent / 2_000);
            self.out.push(Conversation { start, duration, client, server, protocol: TCP, sent, received, continues });
        }
    }
}

impl Host {
    /// The conversations that the host opens, or takes from outside, in the step that starts at `step`.
    pub(crate) fn play(&self, network: &Network, step: u64, out: &mut Vec<Conversation>) {
        let name = u64::from(u32::from(self.address));
        let mut scene = Scene {
            seed: network.seed,
            name,
            address: self.address,
            site: Site::of(self.site),
            step,
            random: Random::stream(network.seed, &[name, 6, step]),
            out,
        };
        match &self.habit {
            Habit::Office(office) => office.play(&mut scene),
            Habit::Server(server) => server.play(&mut scene),
            Habit::Sensor(sensor) => sensor.play(&mut scene),
            Habit::Camera(camera) => camera.play(&mut scene),
        }
    }
}
