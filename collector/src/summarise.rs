//! Summaries: shares become windows of one slice each, until the slice is taken and sent.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use rapidhash::fast::RandomState;
use spikewatch_domain::{
    key::{SiteName, Subject},
    record::EventMillis,
    shard::shard_of,
    window::{Peer, Service, Share, Window},
};

/// One slice, ready to be sent: rows ordered by shard, then by key, so that equal traffic makes equal bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// Start of the slice, event time.
    pub start: EventMillis,
    /// (shard, key, window).
    pub rows: Vec<(u32, Subject, Window)>,
}

/// Shares of one host whose peers and services are counted together.
const TOGETHER: usize = 8;

/// A window that is being filled. With many hosts every share finds its host's lists gone from the processor's caches;
/// counters are added at once, peers and services a few shares at a time, in their order.
#[derive(Debug, Default)]
struct Open {
    window: Window,
    waiting: Vec<Waiting>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    peer: Peer,
    service: Service,
    events: u32,
    bytes: u64,
}

impl Open {
    fn add(&mut self, share: &Share<'_>) {
        self.window.counters.add(&share.counters);
        let (events, bytes) = (share.counters.events, share.counters.bytes());
        if let Some(annotations) = share.annotations {
            self.window.add_names(annotations, events, bytes);
        }
        // One record is at most one event.
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        self.waiting.push(Waiting { peer: share.peer, service: share.service, events, bytes });
        if self.waiting.len() == TOGETHER {
            self.settle();
        }
    }

    fn settle(&mut self) {
        for share in self.waiting.drain(..) {
            self.window.attribute(share.peer, share.service, u64::from(share.events), share.bytes);
        }
    }

    fn close(mut self) -> Window {
        self.settle();
        self.window
    }
}

/// Windows by slice and key.
#[derive(Debug)]
pub struct Summariser {
    site: SiteName,
    shards: u32,
    key_limit: usize,
    slices: BTreeMap<EventMillis, HashMap<Subject, Open, RandomState>>,
    keys: usize,
    overflowed: u64,
}

impl Summariser {
    /// `key_limit` bounds the windows held at once; shares of hosts past it go to the reserved host `(overflow)`.
    #[must_use]
    pub fn new(site: SiteName, shards: u32, key_limit: usize) -> Self {
        Self { site, shards, key_limit, slices: BTreeMap::new(), keys: 0, overflowed: 0 }
    }

    /// Adds a share.
    pub fn add(&mut self, slice: EventMillis, subject: &Subject, share: &Share<'_>) {
        let windows = self.slices.entry(slice).or_default();
        if let Some(open) = windows.get_mut(subject) {
            return open.add(share);
        }
        // The reserved keys always find room; they are few.
        let reserved = matches!(subject, Subject::Site | Subject::Transit);
        let subject = if self.keys < self.key_limit || reserved {
            self.keys += 1;
            subject.clone()
        } else {
            self.overflowed += 1;
            Subject::Overflow
        };
        windows.entry(subject).or_default().add(share);
    }

    /// Windows held now.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Shares charged to `(overflow)` since the beginning.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Takes all slices, oldest first.
    pub fn take(&mut self) -> Vec<Slice> {
        self.keys = 0;
        let slices = std::mem::take(&mut self.slices);
        slices.into_iter().map(|(start, windows)| self.slice(start, windows)).collect()
    }

    fn slice(&self, start: EventMillis, windows: HashMap<Subject, Open, RandomState>) -> Slice {
        let mut rows: Vec<_> = windows
            .into_iter()
            .map(|(subject, open)| (shard_of(&self.site, &subject, self.shards), subject, open.close()))
            .collect();
        rows.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        Slice { start, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spikewatch_domain::window::{Counters, Peer, Service};

    fn share() -> Share<'static> {
        Share {
            counters: Counters { events: 1, ..Counters::default() },
            peer: Peer([7; 16]),
            service: Service { port: 1, protocol: 6 },
            annotations: None,
        }
    }

    #[test]
    fn past_the_key_limit_nothing_is_lost() {
        let mut summariser = Summariser::new("a".parse().unwrap(), 8, 3);
        for i in 0..10 {
            summariser.add(0, &Subject::Asn(i), &share());
            summariser.add(0, &Subject::Site, &share());
        }
        let slices = summariser.take();
        let total: u64 = slices[0].rows.iter().map(|row| row.2.counters.events).sum();
        let overflow = slices[0].rows.iter().find(|row| row.1 == Subject::Overflow).unwrap();
        assert_eq!((total, overflow.2.counters.events, summariser.overflowed()), (20, 8, 8));
        assert!(summariser.take().is_empty());
    }

    #[test]
    fn slices_come_oldest_first_and_rows_by_shard() {
        let mut summariser = Summariser::new("a".parse().unwrap(), 8, 100);
        for i in (0..20).rev() {
            summariser.add(u64::from(i % 3) * 10_000, &Subject::Asn(i), &share());
        }
        let slices = summariser.take();
        assert_eq!(slices.iter().map(|slice| slice.start).collect::<Vec<_>>(), [0, 10_000, 20_000]);
        assert!(slices.iter().all(|slice| slice.rows.is_sorted_by_key(|row| row.0)));
    }
}
