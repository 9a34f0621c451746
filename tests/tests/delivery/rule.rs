//! How an owner departs from the protocol. Each departure is made around its core, which stays what production runs:
//! what goes in or comes out is bent as if the rule were not there.

use std::sync::Arc;

use spikewatch_aggregator::core::{Commit, Content as _, Event, Message, StreamId};
use spikewatch_proto::convert::{
    cluster::Incarnation,
    commit::{Opened, Pair},
};

use crate::{
    bag::Bag,
    site::{MINUTE, Site, Up, incarnation},
};

/// Which rule is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Missing {
    /// None is.
    None,
    /// A1: pairs move though their streams were not resumed in this epoch.
    Barrier,
    /// A1: one number a collector, and one bucket for all, in place of pairs.
    Pairs,
    /// A2: what was received in this epoch is taken again on another stream.
    Received,
    /// A4: what arrives for a bucket between its seal and the ack goes with it.
    Sealed,
    /// A5: streams outlive the epoch that they were bound to.
    Binding,
    /// A6: no commit without a bucket to close.
    CorrectionCommits,
    /// Pending corrections stay behind when a bucket is closed.
    Corrections,
    /// Nothing is trimmed before it is committed.
    TrimAfterCommit,
}

/// What is remembered around the core.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Bent {
    pub(crate) missing: Missing,
    /// It was refused, and is silent until it opens again.
    pub(crate) closed: bool,
    /// What arrived for sealed buckets while a commit was in flight, and what was thrown away for it.
    late: Bag,
    wiped: Bag,
    /// In place of pairs: the number counted of each collector when it opened, and the last bucket closed.
    numbers: [u64; 2],
    last_closed: u64,
}

impl Bent {
    pub(crate) fn new(missing: Missing) -> Self {
        Self { missing, closed: false, late: Bag::default(), wiped: Bag::default(), numbers: [0; 2], last_closed: 0 }
    }

    /// True if a refused owner's streams are not told.
    pub(crate) fn keeps_streams(&self) -> bool {
        self.missing == Missing::Binding
    }

    /// What is given to a core that opens, and what happens to it at once.
    pub(crate) fn opened(&mut self, opened: &mut Opened, sites: &[Site; 2], owner: usize) -> Vec<Event<Bag>> {
        let mut events = Vec::new();
        self.last_closed = opened.frontier.bucket.unwrap_or(0);
        match self.missing {
            Missing::Pairs => {
                let bucket = opened.frontier.bucket.unwrap_or(0);
                opened.frontier.pairs.values_mut().for_each(|pair| pair.bucket = bucket);
                let number = |site| opened.frontier.pairs.get(&incarnation(site)).map_or(0, |pair| pair.seq);
                self.numbers = [number(0), number(1)];
            }
            Missing::Barrier => {
                for (stream, of) in (0..).zip(opened.frontier.pairs.keys().cloned()) {
                    events.push(bind(stream, of, opened, 1));
                    events.push(Event::Said { stream, message: Message::ReplayEnd { seq: 0 } });
                    let message = Message::Watermark { time_ms: 0, last: false, covers: None };
                    events.push(Event::Said { stream, message });
                }
            }
            Missing::Binding => {
                for (site, link) in (0..).zip(sites.iter().map(|site| site.link.as_ref())) {
                    let Some(link) = link.filter(|link| link.to == owner) else { continue };
                    let next = link.queue.iter().find_map(|up| match up {
                        Up::Said(Message::Batch { seq, .. }) => Some(*seq),
                        _ => None,
                    });
                    events.push(bind(link.id, incarnation(site), opened, next.unwrap_or(99)));
                }
            }
            _ => {}
        }
        events
    }

    /// What the core hears of a message.
    pub(crate) fn arrives(&mut self, site: usize, stream: StreamId, up: Up, in_flight: Option<u64>) -> Event<Bag> {
        match up {
            Up::Bind { epoch, lowest_seq } => {
                let mut of = incarnation(site);
                if self.missing == Missing::Received {
                    of.id[15] = stream as u8 + 100;
                }
                Event::Bind { stream, of, lane: Site::lane(), epoch, lowest_seq }
            }
            Up::Said(mut message) => {
                if let Message::Batch { bucket, seq, content, .. } = &mut message
                    && self.missing == Missing::Pairs
                    && *bucket <= self.last_closed
                    && *seq <= self.numbers[site]
                {
                    // Counted before, for all that one number says.
                    *content = Bag::default();
                }
                if let Message::Batch { bucket, content, .. } = &message
                    && self.missing == Missing::Sealed
                    && in_flight == Some(*bucket)
                {
                    self.late.add(content);
                }
                Event::Said { stream, message }
            }
        }
    }

    /// What goes out in place of a commit.
    pub(crate) fn commit(&mut self, commit: Arc<Commit<Bag>>) -> Option<Arc<Commit<Bag>>> {
        let mut bent = (*commit).clone();
        if self.missing == Missing::Pairs {
            self.last_closed = bent.bucket;
        }
        match self.missing {
            Missing::CorrectionCommits if bent.windows.is_empty() && !bent.corrections.is_empty() => return None,
            Missing::Corrections => {
                if bent.bucket > self.last_closed {
                    bent.corrections.clear();
                }
                self.last_closed = bent.bucket;
            }
            Missing::Sealed => {
                let bags = bent.corrections.iter_mut().flat_map(|part| part.sites.values_mut());
                bags.for_each(|bag| bag.remove(&self.wiped));
                bent.corrections.retain(|part| part.sites.values().any(|bag| bag.bytes() > 0));
            }
            Missing::Received => {
                let pairs = std::mem::take(&mut bent.pairs);
                for (of, pair) in pairs {
                    let site = usize::from(of.id[0]) - 1;
                    let known: &mut Pair = bent.pairs.entry(incarnation(site)).or_default();
                    (known.bucket, known.seq) = (known.bucket.max(pair.bucket), known.seq.max(pair.seq));
                }
            }
            _ => return Some(commit),
        }
        Some(Arc::new(bent))
    }

    /// A commit was acked.
    pub(crate) fn acked(&mut self) {
        let late = std::mem::take(&mut self.late);
        self.wiped.add(&late);
    }

    /// What a receipt lets a collector trim.
    pub(crate) fn trims_on_receipt(&self, seq: u64) -> Option<Pair> {
        (self.missing == Missing::TrimAfterCommit).then_some(Pair { bucket: 1000 * MINUTE, seq })
    }
}

fn bind(stream: StreamId, of: Incarnation, opened: &Opened, lowest_seq: u64) -> Event<Bag> {
    Event::Bind { stream, of, lane: Site::lane(), epoch: opened.epoch, lowest_seq }
}
