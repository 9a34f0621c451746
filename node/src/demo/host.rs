//! What each kind of host does in a quarter of an hour. Everything is drawn from the seed, the host and the step alone,
//! so that any moment can be played without the moments before it.

use super::exporter::Through;
use super::network::{Network, Site, ephemeral, service, visitor};
use super::random::Random;
use super::rhythm::{DAY_MS, HOUR_MS, START_MS, STEP_MS, day, drift, hour, is_weekend, presence};
use super::traffic::{ACTIVE_TIMEOUT_MS, Conversation, Endpoint, TCP, UDP};
use std::net::Ipv4Addr;

/// An internal host.
#[derive(Debug)]
pub struct Host {
    /// Index of its site.
    pub site: usize,
    /// Its address.
    pub address: Ipv4Addr,
    /// Which exporter sees what it does.
    pub through: Through,
    /// What it does.
    pub habit: Habit,
}

/// The kinds of hosts.
#[derive(Debug)]
pub enum Habit {
    /// A desk with a person who comes and goes.
    Office(Office),
    /// A server that is visited day and night.
    Server(Server),
    /// A sparse device: reports now and then.
    Sensor(Sensor),
    /// A camera: an even stream.
    Camera(Camera),
}

/// A desk.
#[derive(Debug)]
pub struct Office {
    arrive: f64,
    leave: f64,
    /// Conversations a step at work, and when nobody is there.
    busy: f64,
    idle: f64,
    favourites: Vec<Ipv4Addr>,
    mail: Ipv4Addr,
    /// Typical payload bytes of a conversation.
    sent: f64,
    received: f64,
}

/// A server.
#[derive(Debug)]
pub struct Server {
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
    pub backup: Option<Backup>,
}

/// A nightly job that copies what changed to the site's vault.
#[derive(Debug)]
pub struct Backup {
    /// Usual start, hours after midnight; 22 is the evening before.
    pub hour: f64,
    /// Start varies by this much either way (hours).
    pub jitter: f64,
    /// Usual payload bytes.
    pub bytes: f64,
    /// Payload bytes a second.
    pub speed: f64,
    /// One night (day number of its morning) that comes out as staged: start in ms, and size as a multiple of the usual.
    pub staged: Option<(u64, u64, f64)>,
}

/// A sparse device.
#[derive(Debug)]
pub struct Sensor {
    /// Milliseconds from report to report; 0 for one that speaks at random moments, `rate` times a step.
    period: u64,
    phase: u64,
    rate: f64,
    broker: Ipv4Addr,
    sent: f64,
}

/// A camera.
#[derive(Debug)]
pub struct Camera {
    bytes_a_minute: f64,
    recorder_port: u16,
}

/// The nights' jobs belong to the day of their morning: this one's midnight, in ms.
fn midnight(night: u64) -> u64 {
    START_MS + night * DAY_MS
}

impl Backup {
    /// When the backup of a night starts and how many payload bytes it copies.
    #[must_use]
    pub fn of_night(&self, seed: u64, host: Ipv4Addr, night: u64) -> (u64, f64) {
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

impl Office {
    /// A desk with habits of its own.
    pub fn new(random: &mut Random) -> Self {
        let favourites = (0..12 + random.below(12)).map(|_| service(random)).collect();
        Self {
            arrive: random.within(7.5, 9.5),
            leave: random.within(16.0, 18.5),
            busy: random.within(6.0, 12.0),
            idle: random.within(1.5, 3.0),
            favourites,
            mail: service(random),
            sent: random.within(2_000.0, 5_000.0),
            received: random.within(15_000.0, 60_000.0),
        }
    }

    /// Bytes that a usual quarter of an hour sends out while nobody is there.
    #[must_use]
    pub fn idle_bytes(&self) -> f64 {
        // Half of an answer's packets are acknowledged, 40 bytes each, and a handshake costs some more; one
        // conversation of six asks the resolver, in one small packet. 1.2 and 1.27 are the means of the sizes' spread.
        self.idle * (0.16 * 80.0 + 0.84 * (self.sent * 1.2 + self.received * 1.27 / 1400.0 * 20.0 + 180.0))
    }

    fn play(&self, me: &mut Scene<'_>) {
        let today = day(me.step);
        let present = if is_weekend(today) {
            0.0
        } else {
            let late = 0.25 * Random::stream(me.seed, &[me.name, 2, today]).normal();
            presence(hour(me.step), self.arrive + late, self.leave + late)
        };
        let mood = me.mood(0.12, 0.12);
        let count = me.random.count((self.idle + self.busy * present) * mood);
        for _ in 0..count {
            let at_work = me.random.chance(present);
            let kind = me.random.unit();
            let random = &mut me.random;
            let (server, port) = match kind {
                k if k < 0.16 => {
                    let resolver = Endpoint::new(me.site.resolver, 53);
                    let (sent, received) = (random.within(35.0, 60.0), random.within(80.0, 300.0));
                    me.talk(resolver, UDP, sent, received, 40.0);
                    continue;
                }
                k if k < 0.24 && at_work => (me.site.files, 445),
                k if k < 0.31 => (self.mail, 993),
                k if k < 0.36 && at_work => (service(random), 443),
                k if k < 0.40 && at_work => (service(random), 80),
                _ => {
                    // The favourites' favourites come first: squaring leans the draw towards the head of the list.
                    let lean = random.unit() * random.unit();
                    let place = (lean * self.favourites.len() as f64) as usize;
                    (self.favourites.get(place).copied().unwrap_or(self.mail), 443)
                }
            };
            let sent = self.sent * random.factor(0.6);
            let received = self.received * random.factor(0.7);
            let duration = random.within(200.0, 25_000.0);
            me.talk(Endpoint::new(server, port), TCP, sent, received, duration);
        }
    }
}

impl Server {
    /// A server: `public` ones are visited from outside; behind a sampling switch there must be more to see.
    pub fn new(random: &mut Random, number: usize, sampled: bool, public: bool, backup: bool) -> Self {
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
    pub fn usual_packets_in(&self) -> f64 {
        self.visits * (self.sent * 1.2 / 1400.0 / 2.0 + self.received * 1.13 / 1400.0 + 4.0)
    }

    fn play(&self, me: &mut Scene<'_>) {
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

impl Sensor {
    /// A device: two of three report by the clock, the others when something happens.
    pub fn new(random: &mut Random, number: usize) -> Self {
        let period = [5, 10, 0, 15, 30, 0].get(number % 6).copied().unwrap_or(10) * 60_000;
        Self {
            period,
            // Not so close to a quarter that one report would straddle it.
            phase: 60_000 + random.below(3) * 300_000 % period.max(1) + random.below(180_000),
            rate: random.within(0.2, 0.8),
            broker: service(random),
            sent: random.within(300.0, 1_200.0),
        }
    }

    fn play(&self, me: &mut Scene<'_>) {
        let moments: Vec<u64> = match self.period {
            0 => (0..me.random.count(self.rate)).map(|_| me.step + me.random.below(STEP_MS)).collect(),
            period => {
                // By its own clock, a few seconds late.
                let first = (me.step - START_MS).saturating_sub(self.phase).div_ceil(period);
                let due = (first..).map(|number| START_MS + self.phase + number * period);
                due.take_while(|due| *due < me.step + STEP_MS).map(|due| due + me.random.below(5_000)).collect()
            }
        };
        for start in moments {
            let (sent, received) = (self.sent * me.random.factor(0.2), 150.0 * me.random.factor(0.2));
            me.talk(Endpoint::new(self.broker, 8883), TCP, sent, received, 900.0);
            if let Some(report) = me.out.last_mut() {
                report.start = start;
            }
        }
    }
}

impl Camera {
    /// A camera with a low frame rate.
    pub fn new(random: &mut Random) -> Self {
        Self { bytes_a_minute: random.within(300_000.0, 420_000.0), recorder_port: 8554 }
    }

    fn play(&self, me: &mut Scene<'_>) {
        // There is more to see by day.
        let daily = 1.0 + 0.15 * ((hour(me.step) - 13.0) / 24.0 * std::f64::consts::TAU).cos();
        let port = 40_000 + (me.name % 1_000) as u16;
        for minute in 0..STEP_MS / ACTIVE_TIMEOUT_MS {
            let bytes = self.bytes_a_minute * daily * me.random.factor(0.1);
            me.out.push(Conversation {
                start: me.step + minute * ACTIVE_TIMEOUT_MS,
                duration: ACTIVE_TIMEOUT_MS - 1,
                client: Endpoint::new(me.address, port),
                server: Endpoint::new(me.site.files, self.recorder_port),
                protocol: TCP,
                sent: bytes as u64,
                received: 0,
                continues: true,
            });
        }
    }
}

/// One host in one step: where its behaviour writes what it says.
struct Scene<'a> {
    seed: u64,
    name: u64,
    address: Ipv4Addr,
    site: Site,
    step: u64,
    random: Random,
    out: &'a mut Vec<Conversation>,
}

impl Scene<'_> {
    /// Log-normal mood of the day and of the hour.
    fn mood(&self, of_day: f64, of_hour: f64) -> f64 {
        let hours = (self.step - START_MS) as f64 / HOUR_MS as f64;
        let slow = drift(self.seed, [self.name, 3], hours / 24.0);
        (of_day * slow + of_hour * drift(self.seed, [self.name, 4], hours)).exp()
    }

    /// This host opens a conversation at a random moment of the step.
    fn talk(&mut self, server: Endpoint, protocol: u8, sent: f64, received: f64, duration: f64) {
        let client = Endpoint::new(self.address, ephemeral(&mut self.random));
        self.converse(client, server, protocol, sent, received, duration);
    }

    /// Somebody opens a conversation at a random moment of the step.
    fn converse(&mut self, client: Endpoint, server: Endpoint, protocol: u8, sent: f64, received: f64, duration: f64) {
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
    fn transfer(&mut self, start: u64, bytes: f64, speed: f64, server: Endpoint, night: u64) {
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
    pub fn play(&self, network: &Network, step: u64, out: &mut Vec<Conversation>) {
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
