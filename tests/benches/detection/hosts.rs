//! Clean hosts, bucket by bucket, each of one of six families: what goes through `Scoring` as windows.
//!
//! The families are those that the models were made with (office, server, backup, small device, developer, mail server), with
//! the number of connections as the base and bytes, packets, peers and ports of it. Nothing here is an attack, and nothing
//! happens to many hosts at once.

use spikewatch_domain::window::{Counters, Peer, Service, Window};

use crate::random::Random;

/// Families; host `n` is of the `n % 6`th.
pub(crate) const FAMILIES: [&str; 6] = ["office", "server", "backup", "device", "developer", "mail"];
/// Buckets a day.
pub(crate) const DAY: usize = 96;
/// Peers and ports of a window beyond this number aren't there: it says enough, and costs less.
const MOST_PEERS: f64 = 48.0;

/// A host.
pub(crate) struct Host {
    pub(crate) family: usize,
    random: Random,
    /// What a busy bucket has, connections.
    base: f64,
    /// Share of it at night, and at weekends.
    night: f64,
    weekend: f64,
    /// Working hours, or the hour of the nightly job.
    from: f64,
    to: f64,
    /// What changes by the day: how busy, and by how much working hours are off.
    today: (f64, f64, f64),
    /// Slow noises: of connections, of bytes, of their ratio, of sizes of packets.
    slow: [Slow; 4],
    /// Of the Gamma distribution that over-disperses counts.
    shape: f64,
    on: bool,
    bytes: f64,
    ratio: f64,
    size: f64,
    peers: f64,
    server: bool,
    network: u32,
}

/// Noise that fades from bucket to bucket.
struct Slow {
    keep: f64,
    deviation: f64,
    value: f64,
}

impl Slow {
    fn new(keep: f64, deviation: f64) -> Self {
        Self { keep, deviation, value: 0.0 }
    }

    fn next(&mut self, random: &mut Random) -> f64 {
        let fresh = self.deviation * (1.0 - self.keep * self.keep).sqrt();
        self.value = self.keep * self.value + fresh * random.normal();
        self.value.exp()
    }
}

impl Host {
    pub(crate) fn new(number: u32, seed: u64) -> Self {
        let family = number as usize % FAMILIES.len();
        let mut random = Random(seed << 40 ^ u64::from(number) << 4 ^ 0x5eed);
        let r = &mut random;
        let server = matches!(family, 1 | 5);
        let (base, night, weekend, from, to) = match family {
            0 => (
                r.log_between(80.0, 2000.0),
                r.log_between(0.002, 0.05),
                0.0,
                r.between(7.0, 9.5),
                r.between(16.0, 18.5),
            ),
            1 => {
                (r.log_between(300.0, 50_000.0), r.between(0.4, 0.9), r.between(0.6, 1.05), r.between(13.0, 21.0), 0.0)
            }
            2 => (r.log_between(3.0, 60.0), r.log_between(20.0, 200.0), 1.0, r.between(0.0, 5.0), r.between(3.0, 12.0)),
            3 => (r.log_between(0.02, 0.6), r.between(0.1, 1.0), 1.0, 15.0, r.between(1.0, 6.0)),
            4 => (r.log_between(20.0, 300.0), 0.05, 0.15, r.between(8.5, 11.0), r.between(17.0, 22.0)),
            _ => (r.log_between(50.0, 5000.0), 0.12, r.between(0.1, 0.4), 7.5, 18.5),
        };
        let keep = r.between(0.4, 0.85);
        let deviation = if family == 1 { r.between(0.08, 0.25) } else { r.between(0.2, 0.45) };
        let slow = [
            Slow::new(keep, deviation),
            Slow::new(0.6, r.between(0.1, 0.3)),
            Slow::new(r.between(0.5, 0.95), r.between(0.08, 0.3)),
            Slow::new(0.8, r.between(0.03, 0.15)),
        ];
        let shape = if family == 1 { r.between(20.0, 200.0) } else { r.between(3.0, 12.0) };
        let ratio = if server { r.log_between(1.0, 20.0) } else { r.log_between(0.04, 0.4) };
        let (bytes, size, peers) = (r.log_between(3e3, 2e5), r.between(300.0, 1300.0), r.between(0.4, 0.7));
        let today = (1.0, 0.0, 0.0);
        let network = (random.next() >> 32) as u32;
        Self {
            family,
            random,
            base,
            night,
            weekend,
            from,
            to,
            today,
            slow,
            shape,
            on: false,
            bytes,
            ratio,
            size,
            peers,
            server,
            network,
        }
    }

    /// Its window in that bucket, counted from a Monday's midnight; none if it was silent.
    pub(crate) fn window(&mut self, bucket: usize) -> Option<Window> {
        let (day, hour) = (bucket / DAY, (bucket % DAY) as f64 / 4.0);
        let works = day % 7 < 5;
        let r = &mut self.random;
        if bucket.is_multiple_of(DAY) {
            self.today = ((0.15 * r.normal()).exp(), 0.35 * r.normal(), 0.6 * r.normal());
            if self.family == 0 && works && r.unit() < 0.04 {
                self.today.0 = 0.0;
            }
        }
        let [busy, common, ratio, packets] = self.slow.each_mut().map(|slow| slow.next(r));
        let workday = if works { 1.0 } else { self.weekend };
        let at_work = |from: f64, to: f64, edge: f64| {
            1.0 / (1.0 + (-(hour - from) / edge).exp()) / (1.0 + ((hour - to) / edge).exp())
        };
        let (today, early, late) = self.today;
        let mut extra = 0.0;
        let mean = match self.family {
            0 => {
                let lunch = 1.0 - 0.3 * (-((hour - 12.5) / 0.7).powi(2)).exp();
                self.base * (self.night + workday * today * lunch * at_work(self.from + early, self.to + late, 0.3))
            }
            1 => {
                let angle = (hour - self.from) / 12.0 * std::f64::consts::PI;
                self.base * workday * (1.0 + (1.0 - self.night) * (angle.cos() + 0.3 * (2.0 * angle).cos())).max(0.02)
            }
            2 => {
                let (start, length) = (self.from + early * 0.5, self.to / 4.0 * today);
                if (start..start + length).contains(&hour) {
                    extra = self.base * self.night * today * (0.1 * r.normal()).exp();
                }
                self.base
            }
            3 => {
                let angle = (hour - self.from) / 12.0 * std::f64::consts::PI;
                let bursts = r.poisson(self.base * (1.0 + 0.8 * self.night * angle.cos()).max(0.0));
                extra = (0..bursts as u32).map(|_| (1.0 + self.to * r.exponential()).floor()).sum();
                0.0
            }
            4 => {
                let busy_hours = at_work(self.from, self.to, 1.0) * if works { 0.75 } else { 0.12 } + 0.02;
                let stays = if self.on { 0.9 } else { 0.15 };
                self.on = r.unit() < stays * (busy_hours * 1.6).min(1.0);
                // Pareto, with a tail of 1.8.
                extra = if self.on { self.base * (r.unit().powf(-1.0 / 1.8) - 0.7) } else { 0.0 };
                self.base * 0.05
            }
            _ => self.base * workday * (self.night + at_work(self.from, self.to, 1.2)),
        };
        let lumpy = mean * busy * gamma(r, self.shape);
        let events = (r.poisson(lumpy) + extra).round().min(1e7);
        if events < 1.0 {
            return None;
        }
        Some(self.fill(events, common, ratio, packets))
    }

    fn fill(&mut self, events: f64, common: f64, ratio: f64, packets: f64) -> Window {
        let r = &mut self.random;
        let bytes = events * self.bytes * common * (0.5 * r.normal() / events.powf(0.3)).exp();
        let bytes_out = bytes * self.ratio.min(1.0) * ratio;
        let bytes_in = bytes * (1.0 / self.ratio).min(1.0) / ratio;
        let packets_in = (bytes_in / self.size + 0.4 * bytes_out / self.size) * packets;
        let count = |share: f64, noise: f64| (events.powf(share) * noise).clamp(1.0, events.min(MOST_PEERS)) as u32;
        let peers = count(self.peers, (0.15 * r.normal()).exp());
        let ports = if self.server { count(0.7, (0.08 * r.normal()).exp()) } else { count(0.25, 1.5) };
        let whole = Counters {
            events: events as u64,
            bytes_out: bytes_out as u64,
            bytes_in: bytes_in as u64,
            packets_out: (bytes_out / self.size) as u64 + 1,
            packets_in: packets_in as u64 + 1,
            ..Counters::default()
        };
        let mut window = Window::default();
        let parts = peers.max(ports);
        for part in 0..parts {
            // A habit of few peers, and now and then one more.
            let of_habit = r.unit() < 0.97;
            let peer = if of_habit { part % peers } else { 64 + (r.next() >> 60) as u32 };
            let address =
                std::net::Ipv4Addr::from(0xcb00_0000 | (self.network ^ peer.wrapping_mul(0x0101)) & 0xff_ffff);
            let service = Service { port: 1024 + (part % ports) as u16, protocol: 6 };
            let share =
                |all: u64| all * u64::from(part + 1) / u64::from(parts) - all * u64::from(part) / u64::from(parts);
            let counters = Counters {
                events: share(whole.events),
                bytes_out: share(whole.bytes_out),
                bytes_in: share(whole.bytes_in),
                packets_out: share(whole.packets_out),
                packets_in: share(whole.packets_in),
                ..Counters::default()
            };
            window.counters.add(&counters);
            window.attribute(Peer::from(std::net::IpAddr::from(address)), service, &counters);
        }
        window
    }
}

/// Gamma of mean 1 (Marsaglia and Tsang, 2000), for shapes over 1.
fn gamma(r: &mut Random, shape: f64) -> f64 {
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = r.normal();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && r.unit().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v / shape;
        }
    }
}
