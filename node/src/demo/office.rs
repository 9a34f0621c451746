//! A desk: a person who comes in the morning, works with a dozen favourite services, and goes; nights and weekends are quiet.

use super::host::Scene;
use super::network::service;
use super::random::Random;
use super::rhythm::{day, hour, is_weekend, presence};
use super::traffic::{Endpoint, TCP, UDP};
use std::net::Ipv4Addr;

/// A desk.
#[derive(Debug)]
pub(crate) struct Office {
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

impl Office {
    /// A desk with habits of its own.
    pub(crate) fn new(random: &mut Random) -> Self {
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
    pub(crate) fn idle_bytes(&self) -> f64 {
        // Half of an answer's packets are acknowledged, 40 bytes each, and a handshake costs some more; one
        // conversation of six asks the resolver, in one small packet. 1.2 and 1.27 are the means of the sizes' spread.
        self.idle * (0.16 * 80.0 + 0.84 * (self.sent * 1.2 + self.received * 1.27 / 1400.0 * 20.0 + 180.0))
    }

    pub(crate) fn play(&self, me: &mut Scene<'_>) {
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
            // Now and then somebody fetches, or sends, something large.
            let (up, down) = (random.chance(0.003), random.chance(0.01));
            let sent = self.sent * random.factor(0.6) * if up { 8.0 } else { 1.0 };
            let received = self.received * random.factor(0.7) * if down { random.within(4.0, 20.0) } else { 1.0 };
            let duration = random.within(200.0, 25_000.0);
            me.talk(Endpoint::new(server, port), TCP, sent, received, duration);
        }
    }
}
