//! Two collectors, two aggregators, the centre, and what is on its way between them.

use std::sync::Arc;

use spikewatch_aggregator::core::{Action as Done, Commit, Config, Core, Event, StreamId, Unbinding};
use spikewatch_proto::{
    convert::{cluster::Epoch, commit::Pair},
    v1::{self, aggregator_message::Message as Down},
};

use crate::{
    bag::{Bag, Batch},
    centre::{Centre, MAX_WAIT, Outcome, wire},
    rule::{Bent, Missing},
    site::{MINUTE, Site, Up, incarnation},
};

/// An aggregator that owns the shard, or believes so.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub(crate) core: Core<Bag>,
    pub(crate) bent: Bent,
    /// The bucket of the commit in flight.
    in_flight: Option<u64>,
}

/// A commit on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Flight {
    pub(crate) from: usize,
    pub(crate) commit: Arc<Commit<Bag>>,
}

/// An answer on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Answer {
    pub(crate) to: usize,
    pub(crate) epoch: Epoch,
    pub(crate) commit_no: u64,
    pub(crate) acked: bool,
}

/// What may still go wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Crashes of aggregators.
    pub(crate) aggregator: u8,
    /// Crashes of collectors, cut streams, needless reconnects.
    pub(crate) collector: u8,
    /// Crashes of the detector.
    pub(crate) detector: u8,
    /// Other detectors that take over, while the one before goes on.
    pub(crate) leader: u8,
    /// Opens by the other aggregator while the owner lives: it becomes a zombie.
    pub(crate) steal: u8,
    /// Commits and acks that are lost.
    pub(crate) lose: u8,
    /// Commits that arrive a second time.
    pub(crate) duplicate: u8,
    /// Times that a collector's disk is full.
    pub(crate) full: u8,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) sites: [Site; 2],
    pub(crate) owners: [Option<Owner>; 2],
    pub(crate) centre: Centre,
    pub(crate) commits: Vec<Flight>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) budget: Budget,
    /// Batches that owners were told are lost; no more than matter.
    pub(crate) lost: u8,
}

/// More than any script can lose.
const MOST_LOST: u8 = 4;

const CONFIG: Config = Config {
    event_time: false,
    expected_collectors: 0,
    // No bucket of the script is in the future, whatever the time.
    clock_allowance_ms: 1000 * MINUTE,
    late_horizon_ms: 1000 * MINUTE,
};

impl World {
    /// An aggregator opens the shard.
    pub(crate) fn open(&mut self, owner: usize, missing: Missing) {
        let Some(mut opened) = self.centre.open(owner) else { return };
        let mut bent = Bent::new(missing);
        let events = bent.opened(&mut opened, &self.sites, owner);
        let keeps = bent.keeps_streams();
        self.owners[owner] = Some(Owner { core: Core::new(CONFIG, opened, 0), bent, in_flight: None });
        events.into_iter().for_each(|event| self.own(owner, event, 0));
        for site in 0..2 {
            if !keeps && self.sites[site].link.as_ref().is_some_and(|link| link.to == owner) {
                self.welcome(site);
            }
        }
    }

    /// An aggregator is no owner any more; its process lives, and with it its streams.
    pub(crate) fn close(&mut self, owner: usize) {
        self.owners[owner] = None;
        for site in &mut self.sites {
            site.stale[owner] = None;
            if site.link.as_ref().is_some_and(|link| link.to == owner) {
                site.hear(unbound("not owned"));
            }
        }
    }

    /// An aggregator is no owner any more, but nobody tells: its streams go on under its next epoch.
    pub(crate) fn close_quietly(&mut self, owner: usize) {
        if let Some(was) = self.owners[owner].as_mut() {
            was.bent.closed = true;
        }
    }

    /// An aggregator's process is gone.
    pub(crate) fn crash_owner(&mut self, owner: usize) {
        self.owners[owner] = None;
        self.answers.retain(|answer| answer.to != owner);
        for site in &mut self.sites {
            site.stale[owner] = None;
            if site.link.as_ref().is_some_and(|link| link.to == owner) {
                site.leave(false);
            }
        }
    }

    /// A collector opens a stream to an aggregator, and leaves the one it has.
    pub(crate) fn connect(&mut self, site: usize, to: usize, lingers: bool) {
        self.leave(site, lingers);
        let id = self.next_id(site);
        self.sites[site].connect(to, id);
        self.welcome(site);
    }

    /// A collector leaves its stream. If nothing of it lingers, the aggregator notices.
    pub(crate) fn leave(&mut self, site: usize, lingers: bool) {
        if let Some(link) = self.sites[site].leave(lingers)
            && self.sites[site].stale[link.to].is_none()
        {
            self.own(link.to, Event::Gone { stream: link.id }, 0);
        }
    }

    /// The least number above all that anybody knows of the site. Even ones are the first's, odd ones the second's.
    fn next_id(&self, site: usize) -> StreamId {
        let parity = site as u64;
        let bound = self.owners.iter().flatten().flat_map(|owner| owner.core.bound());
        let stale = self.sites[site].stale.iter().flatten().map(|(id, _)| *id);
        let known = bound.chain(stale).filter(|id| id % 2 == parity).max();
        known.map_or(2 + parity, |id| id + 2)
    }

    /// The aggregator tells the site under which epoch the shard can be bound.
    fn welcome(&mut self, site: usize) {
        let Some(to) = self.sites[site].link.as_ref().map(|link| link.to) else { return };
        let Some(owner) = self.owners[to].as_ref().filter(|owner| !owner.bent.closed) else { return };
        let pair = owner.core.pair(&incarnation(site));
        let welcome = v1::Welcome {
            shard: vec![0],
            epoch: vec![wire(owner.core.epoch())],
            bucket_start_ms: vec![pair.bucket],
            seq: vec![pair.seq],
            ..v1::Welcome::default()
        };
        self.sites[site].hear(Down::Welcome(welcome));
    }

    /// The next message of a site's stream arrives.
    pub(crate) fn deliver(&mut self, site: usize) {
        let Some(link) = self.sites[site].link.as_mut() else { return };
        let (to, id) = (link.to, link.id);
        if let Some(up) = link.queue.pop_front() {
            self.arrive(site, to, id, up);
        }
    }

    /// The message that lingered in a half-open stream arrives.
    pub(crate) fn deliver_stale(&mut self, site: usize, to: usize) {
        if let Some((id, up)) = self.sites[site].stale[to].take() {
            self.arrive(site, to, id, up);
        }
    }

    fn arrive(&mut self, site: usize, to: usize, stream: StreamId, up: Up) {
        if let Some(owner) = self.owners[to].as_mut() {
            let event = owner.bent.arrives(site, stream, up, owner.in_flight);
            self.own(to, event, 0);
        }
    }

    /// A bucket is closed by whatever reason, as are all before it; or just time passes.
    pub(crate) fn tick(&mut self, owner: usize, bucket: u64) {
        self.own(owner, Event::Tick, (bucket + 1) * MINUTE + MAX_WAIT);
    }

    /// An owner sends again what may be lost.
    pub(crate) fn resend(&mut self, owner: usize) {
        self.own(owner, Event::Resend, 0);
    }

    /// Runs an owner's core, and does what it says.
    pub(crate) fn own(&mut self, number: usize, event: Event<Bag>, now_ms: u64) {
        let Some(owner) = self.owners[number].as_mut().filter(|owner| !owner.bent.closed) else { return };
        for action in owner.core.on(event, now_ms) {
            let Some(owner) = self.owners[number].as_mut() else { return };
            match action {
                Done::Commit(commit) => {
                    owner.in_flight = Some(commit.bucket);
                    let commit = owner.bent.commit(commit);
                    self.commits.extend(commit.map(|commit| Flight { from: number, commit }));
                }
                Done::Trim { stream, pair } => self.trim(stream, pair),
                Done::Receipt { stream, seq } => {
                    if let Some(pair) = owner.bent.trims_on_receipt(seq) {
                        self.trim(stream, pair);
                    }
                }
                Done::Unbind { stream, why } => {
                    let bound = |site: &usize| self.sites[*site].link.as_ref().is_some_and(|link| link.id == stream);
                    if let Some(site) = (0..2).find(bound) {
                        self.sites[site].hear(unbound(why.reason()));
                        if why != Unbinding::Replaced {
                            self.welcome(site);
                        }
                    }
                }
                Done::Lost { events, .. } => self.lost = self.lost.saturating_add(events as u8).min(MOST_LOST),
                Done::Credit { .. } | Done::TooLate { .. } | Done::Released => {}
            }
        }
        self.commits.sort_by_key(|flight| (flight.from, flight.commit.epoch, flight.commit.commit_no));
    }

    fn trim(&mut self, stream: StreamId, pair: Pair) {
        let link = self.sites.iter_mut().filter_map(|site| site.link.as_mut()).find(|link| link.id == stream);
        if let Some(link) = link {
            link.trim = Some(pair);
        }
    }

    /// What may be trimmed is heard.
    pub(crate) fn hear_trim(&mut self, site: usize) {
        let Some(pair) = self.sites[site].link.as_mut().and_then(|link| link.trim.take()) else { return };
        let trim = v1::Trim { shard: vec![0], bucket_start_ms: vec![pair.bucket], seq: vec![pair.seq] };
        self.sites[site].hear(Down::Trim(trim));
    }

    /// A commit arrives at a leader; a copy may stay on its way.
    pub(crate) fn handle(&mut self, index: usize, leader: usize, copy: bool) {
        let flight = if copy { self.commits[index].clone() } else { self.commits.remove(index) };
        let acked = match self.centre.commit(leader, &flight.commit) {
            Outcome::Acked => true,
            Outcome::Refused => false,
            Outcome::Silent => return,
        };
        let Commit { epoch, commit_no, .. } = *flight.commit;
        let answer = Answer { to: flight.from, epoch, commit_no, acked };
        if !self.answers.contains(&answer) {
            self.answers.push(answer);
            self.answers.sort();
        }
    }

    /// An answer arrives. Whoever is refused steps down.
    pub(crate) fn answer(&mut self, index: usize) {
        let answer = self.answers.remove(index);
        let Some(owner) = self.owners[answer.to].as_mut().filter(|owner| owner.core.epoch() == answer.epoch) else {
            return;
        };
        if answer.acked {
            owner.bent.acked();
            owner.in_flight = None;
            let Answer { epoch, commit_no, .. } = answer;
            self.own(answer.to, Event::Acked { epoch, commit_no }, 0);
        } else if owner.bent.keeps_streams() {
            self.close_quietly(answer.to);
        } else {
            self.close(answer.to);
        }
    }

    /// True if an owner's commit is in flight, but neither it nor its answer is on the way.
    pub(crate) fn is_stuck(&self, number: usize) -> bool {
        let Some(owner) = self.owners[number].as_ref().filter(|owner| !owner.core.is_settled()) else { return false };
        let epoch = owner.core.epoch();
        !self.commits.iter().any(|flight| flight.from == number && flight.commit.epoch == epoch)
            && !self.answers.iter().any(|answer| answer.to == number && answer.epoch == epoch)
    }

    /// The number of the newest owner, if there is one.
    pub(crate) fn newest_owner(&self) -> Option<usize> {
        let newest = |owner: &Option<Owner>| {
            owner.as_ref().is_some_and(|owner| owner.core.epoch().number == self.centre.epoch() && !owner.bent.closed)
        };
        self.owners.iter().position(newest)
    }

    /// All batches that were cut.
    pub(crate) fn batches(script: &[&[u64]; 2]) -> impl Iterator<Item = Batch> {
        let counts = [script[0].len(), script[1].len()];
        (0..2u8).flat_map(move |site| (1..=counts[site as usize] as u8).map(move |number| Batch { site, number }))
    }
}

fn unbound(reason: &str) -> Down {
    Down::Unbound(v1::Unbound { shard: vec![0], reason: reason.to_owned() })
}
