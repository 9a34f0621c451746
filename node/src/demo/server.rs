//! A server: visited day and night, more by day; most copy what changed to their site's vault once a night.

use super::host::Scene;
use super::network::{ephemeral, service, visitor};
use super::random::Random;
use super::rhythm::{DAY_MS, HOUR_MS, START_MS, day, hour, is_weekend};
use super::traffic::{Endpoint, TCP};
use std::net::Ipv4Addr;

/// A server.
#[derive(Debug)]
pub(crate) struct Server {
    /// Conversations a step in the mean.
    visits: f64,
    /// How much more by day than by night (0..1), and the weekend's share.
    swing: f64,
    weekend: f64,
    port: u16,
    updates: Ipv4Addr,
    sent: f64,
    received: f64,
    /// Its nightly backup.
    pub(crate) backup: Option<Backup>,
}

/// A nightly job that copies what changed to the site's vault.
#[derive(Debug)]
pub(crate) struct Backup {
    /// Usual start, hours after midnight; 22 is the evening before.
    pub(crate) hour: f64,
    /// Start varies by this much either way (hours).
    pub(crate) jitter: f64,
    /// Usual payload bytes.
    pub(crate) bytes: f64,
    /// Payload bytes a second.
    pub(crate) speed: f64,
    /// One night (day number of its morning) that comes out as staged: start in ms, and size as a multiple of the usual.
    pub(crate) staged: Option<(u64, u64, f64)>,
}

/// The nights' jobs belong to the day of their morning: this one's midnight, in ms.
fn midnight(night: u64) -> u64 {
    START_MS + night * DAY_MS
}

impl Backup {
    /// When the backup of a night starts and how many payload bytes it copies.
    #[must_use]
    pub(crate) fn of_night(&self, seed: u64, host: Ipv4Addr, night: u64) -> (u64, f64) {
        if let Some((staged, start, size)) = self.staged
            && staged == night
        {
            return (start, self.bytes * size);
        }
        let mut random = Random::stream(seed, &[u64::from(u32::from(host)), 1, night]);
        let hour = self.hour + self.jitter * (random.unit() + random.unit() - 1.0);
        let start = (midnight(night) + (hour * HOUR_MS as f64) as u64).saturating_sub(if self.hour >= 12.0 {
            DAY_MS
        } else {
            0
        });
        (start, self.bytes * random.factor(0.12))
    }
}

impl Server {
    /// A server: `public` ones are visited from outside; behind a sampling switch there must be more to see.
    pub(crate) fn new(random: &mut Random, number: usize, sampled: bool, public: bool, backup: bool) -> Self {
        let visits = if public { random.within(9.0, 16.0) } else { random.within(2.0, 4.0) };
        Self {
            visits: if sampled { visits * 6.0 } else { visits },
            swing: random.within(0.3, 0.7),
            weekend: random.within(0.6, 1.0),
            port: [443, 443, 25, 443, 8443].get(number % 5).copied().unwrap_or(443),
            updates: service(random),
            sent: if sampled { random.within(60_000.0, 160_000.0) } else { random.within(300_000.0, 700_000.0) },
            received: random.within(3_000.0, 9_000.0),
            backup: backup.then(|| Backup {
                hour: [22.5, 23.25, 0.75, 1.5, 2.25, 3.0, 3.75].get(number % 7).copied().unwrap_or(1.0)
                    + random.within(-0.3, 0.3),
                jitter: random.within(0.3, 0.6),
                bytes: random.within(120e6, 260e6),
                speed: random.within(80_000.0, 110_000.0),
                staged: None,
            }),
        }
    }

    /// Packets that a usual quarter of an hour brings in: requests, and the acknowledgements of half the answers' packets.
    #[must_use]
    pub(crate) fn usual_packets_in(&self) -> f64 {
        self.visits * (self.sent * 1.2 / 1400.0 / 2.0 + self.received * 1.13 / 1400.0 + 4.0)
    }

    pub(crate) fn play(&self, me: &mut Scene<'_>) {
        let daily = 1.0 + self.swing * ((hour(me.step) - 14.5) / 24.0 * std::f64::consts::TAU).cos();
        let weekly = if is_weekend(day(me.step)) { self.weekend } else { 1.0 };
        let mood = me.mood(0.06, 0.10);
        let count = me.random.count(self.visits * daily * weekly * mood);
        let here = Endpoint::new(me.address, self.port);
        for _ in 0..count {
            let random = &mut me.random;
            let client = Endpoint::new(visitor(random), ephemeral(random));
            let (sent, received) = (self.received * random.factor(0.5), self.sent * random.factor(0.6));
            let duration = random.within(500.0, 30_000.0);
            me.converse(client, here, TCP, sent, received, duration);
        }
        for _ in 0..me.random.count(1.0) {
            let (sent, received) = (me.random.within(400.0, 900.0), me.random.within(2_000.0, 9_000.0));
            me.talk(Endpoint::new(self.updates, 443), TCP, sent, received, 2_000.0);
        }
        if let Some(backup) = &self.backup {
            let today = day(me.step);
            for night in [today, today + 1] {
                let (start, bytes) = backup.of_night(me.seed, me.address, night);
                me.transfer(start, bytes, backup.speed, Endpoint::new(me.site.vault, 873), night);
            }
        }
    }
}
