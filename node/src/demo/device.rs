//! Devices: sensors that report now and then, and cameras with an even stream.

use super::host::Scene;
use super::network::service;
use super::random::Random;
use super::rhythm::{START_MS, STEP_MS, hour};
use super::traffic::{ACTIVE_TIMEOUT_MS, Conversation, Endpoint, TCP};
use std::net::Ipv4Addr;

/// A sparse device.
#[derive(Debug)]
pub(crate) struct Sensor {
    /// Milliseconds from report to report; 0 for one that speaks at random moments, `rate` times a step.
    period: u64,
    phase: u64,
    rate: f64,
    broker: Ipv4Addr,
    sent: f64,
}

/// A camera.
#[derive(Debug)]
pub(crate) struct Camera {
    bytes_a_minute: f64,
    recorder_port: u16,
}

impl Sensor {
    /// A device: two of three report by the clock, the others when something happens.
    pub(crate) fn new(random: &mut Random, number: usize) -> Self {
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

    pub(crate) fn play(&self, me: &mut Scene<'_>) {
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
    pub(crate) fn new(random: &mut Random) -> Self {
        Self { bytes_a_minute: random.within(300_000.0, 420_000.0), recorder_port: 8554 }
    }

    pub(crate) fn play(&self, me: &mut Scene<'_>) {
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
