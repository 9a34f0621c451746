//! Closing buckets: when, and what a commit then holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use spikewatch_domain::{key::SiteName, record::EventMillis};
use spikewatch_proto::convert::{
    cluster::{Epoch, Incarnation},
    commit::Pair,
};

use super::{Action, Commit, Content, Core, Part, Slot, Unbinding};

/// Contents that one commit takes before it leaves further seals to the next, bytes. One seal is never divided.
const COMMIT_BYTES: usize = 4 << 20;
/// Parts that one commit takes before it leaves further seals to the next.
const COMMIT_PARTS: usize = 1024;

/// How many times the longest wait a close goes on waiting while a replay gets further.
const REPLAY_WAITS: u64 = 4;

/// What one seal froze.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Parcel<W> {
    bucket: EventMillis,
    windows: Vec<Part<W>>,
    corrections: Vec<Part<W>>,
    pairs: BTreeMap<Incarnation, Pair>,
    missing: BTreeSet<Incarnation>,
    bytes: usize,
}

/// Bytes of the contents of a commit.
fn bytes<W: Content>(windows: &[Part<W>], corrections: &[Part<W>]) -> usize {
    windows.iter().chain(corrections).flat_map(|part| part.sites.values()).map(Content::bytes).sum()
}

/// Folds in collector order: the one order in which lists of top contributors are equal whatever came first.
fn fold<W: Content>(bucket: EventMillis, slot: Slot<W>, incomplete: BTreeSet<SiteName>) -> Part<W> {
    let mut sites: BTreeMap<SiteName, W> = BTreeMap::new();
    slot.into_iter().for_each(|(of, content)| sites.entry(of.site).or_default().absorb(content));
    Part { bucket, sites, incomplete }
}

impl<W: Content> Core<W> {
    /// Seals and commits what can be.
    pub(super) fn settle(&mut self, ticked: bool, now_ms: u64, actions: &mut Vec<Action<W>>) {
        if ticked {
            // What came before its time.
            self.unpark(now_ms, actions);
        }
        if (std::mem::take(&mut self.moved) || ticked) && !self.leaving {
            // What waited for room may bring the watermark that the next seal needs.
            loop {
                let until = self.sealable(now_ms);
                if until <= self.sealed_until {
                    break;
                }
                self.freeze(until);
                self.unpark(now_ms, actions);
            }
        }
        let due = ticked || self.config.event_time || self.leaving;
        if due && self.is_settled() && self.releases() && self.has_corrections() {
            self.freeze(self.sealed_until);
        }
        self.commit(actions);
        if self.leaving && !self.released && self.is_settled() {
            self.released = true;
            let streams: Vec<_> = self.bound().collect();
            streams.into_iter().for_each(|stream| self.expel(stream, Unbinding::Moved, 0, actions));
            actions.push(Action::Released);
        }
    }

    /// True if corrections go out by themselves: live, or in a replay whose last word has been said. Before that a replay
    /// sends them along with seals, so that they don't show what came when.
    pub(super) fn releases(&self) -> bool {
        let ended = |of: &Incarnation| self.streams.get(of).is_some_and(|stream| stream.last);
        !self.config.event_time || self.waited(0).all(|(of, _)| ended(of))
    }

    fn has_corrections(&self) -> bool {
        let grouped = || self.open.values().flat_map(BTreeMap::keys).any(|bucket| *bucket < self.sealed_until);
        let resumed = |of: &Incarnation| self.streams.get(of).is_none_or(|stream| stream.resumed);
        let due = || self.late.values().flat_map(BTreeMap::keys).any(resumed);
        self.sealed_until > 0 && (due() || (self.config.event_time && grouped()))
    }

    /// The time before which all buckets can be sealed.
    fn sealable(&mut self, now_ms: u64) -> EventMillis {
        if !self.has_members() || self.streams.len() < self.config.expected_collectors {
            return self.sealed_until;
        }
        let least = self.least_passed(now_ms);
        if self.config.event_time {
            return least;
        }
        let span = self.opened.shape.bucket;
        let max_wait = self.opened.max_wait_ms;
        // Replay progress counts for a bounded time, or a collector that trickles would hold all others up.
        let progress = self.progress_ms.min(self.opened_ms.saturating_add(max_wait.saturating_mul(REPLAY_WAITS)));
        let patience_ends = self.opened_ms.max(progress).saturating_add(max_wait);
        let overdue = now_ms.saturating_sub(self.opened.allowed_lateness_ms).saturating_sub(max_wait);
        let overdue = if now_ms >= patience_ends { span.floor(overdue) } else { 0 };
        // A clock that runs ahead must not drag the frontier with it.
        least.min(span.floor(now_ms.saturating_add(self.config.clock_allowance_ms))).max(overdue)
    }

    /// Ends all buckets before `until`: their contents, the corrections and the pairs are frozen in one step.
    fn freeze(&mut self, until: EventMillis) {
        let span = self.opened.shape.bucket;
        let releases = self.releases();
        let waiting = self.open.split_off(&until);
        let taken = std::mem::replace(&mut self.open, waiting);
        let behind = self.behind(until);
        let mut given = BTreeSet::new();
        let mut windows = Vec::new();
        let mut corrections: Vec<_> = std::mem::take(&mut self.late).into_iter().collect();
        for (step, buckets) in taken {
            for (bucket, mut slot) in buckets {
                if bucket == step && bucket >= self.sealed_until {
                    self.keep_back(bucket, &mut slot);
                    let mut incomplete: BTreeSet<_> =
                        behind.iter().filter(|(_, passed)| *passed <= bucket).map(|(of, _)| of.site.clone()).collect();
                    incomplete.extend(self.lost.iter().filter(|(b, _)| *b == bucket).map(|(_, site)| site.clone()));
                    given.extend(slot.keys().cloned());
                    windows.extend((!slot.is_empty()).then(|| fold(bucket, slot, incomplete)));
                } else {
                    corrections.push((bucket, slot));
                }
            }
        }
        if releases {
            for buckets in self.open.values_mut() {
                let later = buckets.split_off(&until);
                corrections.extend(std::mem::replace(buckets, later));
            }
            self.open.retain(|_, buckets| !buckets.is_empty());
        }
        corrections.iter_mut().for_each(|(bucket, slot)| self.keep_back(*bucket, slot));
        corrections.retain(|(_, slot)| !slot.is_empty());
        given.extend(corrections.iter().flat_map(|(_, slot)| slot.keys().cloned()));
        self.lost.retain(|(bucket, _)| *bucket >= until);
        let corrections: Vec<_> = corrections.into_iter().map(|(b, slot)| fold(b, slot, BTreeSet::new())).collect();
        let bytes = bytes(&windows, &corrections);
        self.sealed_bytes += bytes;
        let pairs = self.move_pairs(until, releases, &given);
        let parcel = Parcel {
            bytes,
            bucket: until.saturating_sub(span.millis()),
            windows,
            corrections,
            pairs,
            missing: behind.into_iter().map(|(of, _)| of).collect(),
        };
        self.sealed_until = until;
        self.frozen.push_back(parcel);
        self.open_bytes = self.bytes_of_open();
        self.forget_streams();
    }

    pub(super) fn bytes_of_open(&self) -> usize {
        let slots = self.open.values().flat_map(BTreeMap::values).chain(self.late.values());
        slots.flat_map(BTreeMap::values).map(Content::bytes).sum()
    }

    /// Keeps the contents of streams that are not resumed: their pairs stay, so that a commit must not count them yet.
    fn keep_back(&mut self, bucket: EventMillis, slot: &mut Slot<W>) {
        let streams = &self.streams;
        let resumed = |of: &Incarnation| streams.get(of).is_none_or(|stream| stream.resumed);
        for (of, content) in slot.extract_if(.., |of, _| !resumed(of)) {
            self.late.entry(bucket).or_default().entry(of).or_default().absorb(content);
        }
    }

    /// Moves the pair of every stream that was resumed and heard of; all it covers is in what is being frozen. That of one
    /// which is gone and gave nothing stays, so that it can be seen to age.
    fn move_pairs(
        &mut self,
        until: EventMillis,
        releases: bool,
        given: &BTreeSet<Incarnation>,
    ) -> BTreeMap<Incarnation, Pair> {
        let bucket = until.saturating_sub(self.opened.shape.bucket.millis());
        let mut moved = BTreeMap::new();
        for (of, stream) in &mut self.streams {
            let received = if releases { stream.received } else { stream.cut(until) };
            stream.sealed(until);
            if !stream.resumed || !stream.heard {
                continue;
            }
            let old = self.pairs.get(of).copied().unwrap_or_default();
            let new = Pair { bucket, seq: received.max(old.seq) };
            let contributes = stream.id.is_some() || given.contains(of) || new.seq != old.seq;
            if contributes && new != old {
                self.pairs.insert(of.clone(), new);
                moved.insert(of.clone(), new);
            }
        }
        moved
    }

    /// Sends what is frozen, if nothing is in flight.
    fn commit(&mut self, actions: &mut Vec<Action<W>>) {
        if self.in_flight.is_some() {
            return;
        }
        let Some(first) = self.frozen.pop_front() else { return };
        let mut commit = Commit {
            epoch: self.opened.epoch,
            commit_no: self.commit_no + 1,
            bucket: first.bucket,
            windows: first.windows,
            corrections: first.corrections,
            pairs: first.pairs,
            missing: first.missing,
        };
        self.in_flight_bytes = first.bytes;
        while let Some(next) = self.frozen.front() {
            let size = self.in_flight_bytes + next.bytes;
            let parts = commit.windows.len() + commit.corrections.len() + next.windows.len() + next.corrections.len();
            if size > COMMIT_BYTES || parts > COMMIT_PARTS {
                break;
            }
            let Some(next) = self.frozen.pop_front() else { break };
            self.in_flight_bytes = size;
            commit.bucket = next.bucket;
            commit.windows.extend(next.windows);
            commit.corrections.extend(next.corrections);
            commit.pairs.extend(next.pairs);
            commit.missing.extend(next.missing);
        }
        let commit = Arc::new(commit);
        self.in_flight = Some(Arc::clone(&commit));
        actions.push(Action::Commit(commit));
    }

    /// The detector has it: what the pairs cover may be trimmed.
    pub(super) fn acked(&mut self, epoch: Epoch, commit_no: u64, actions: &mut Vec<Action<W>>) {
        let matches = |commit: &Arc<Commit<W>>| commit.epoch == epoch && commit.commit_no == commit_no;
        if !self.in_flight.as_ref().is_some_and(matches) {
            return;
        }
        let Some(commit) = self.in_flight.take() else { return };
        self.commit_no = commit_no;
        self.sealed_bytes = self.sealed_bytes.saturating_sub(std::mem::take(&mut self.in_flight_bytes));
        for (of, pair) in &commit.pairs {
            self.acked.insert(of.clone(), *pair);
            if let Some(stream) = self.streams.get(of).and_then(|stream| stream.id) {
                actions.push(Action::Trim { stream, pair: *pair });
            }
        }
    }
}
