//! What must hold: at every instant, nothing is counted that was not fed, and numbers only grow; in the end, windows and
//! corrections are the fed records, per key and bucket.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use prost::Message as _;
use spikewatch_collector::{networks::InternalNetworks, spool::StoredSlice};
use spikewatch_detector::{
    prepare,
    store::{CommitWrite, Term, Write},
};
use spikewatch_domain::{
    key::{SiteName, Subject},
    window::Counters,
};
use spikewatch_proto::{
    convert::{cluster::Incarnation, commit::Pair, windows},
    v1,
};

use crate::{traffic::Flow, world::BUCKET};

/// A key, and the start of a bucket.
type Cell = (SiteName, Subject, u64);
type Sums = BTreeMap<Cell, Counters>;

/// Knows both sides. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Oracle(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    networks: InternalNetworks,
    fed: Sums,
    committed: Sums,
    /// When how many flows were handed over, by site, since its collector was started.
    handed: BTreeMap<SiteName, Vec<(u64, u64)>>,
    flows: u64,
    lost: u64,
    corrections: u64,
    term: u64,
    shards: BTreeMap<u32, Shard>,
    wrong: Vec<String>,
}

#[derive(Debug, Default)]
struct Shard {
    epoch: u64,
    commit_no: u64,
    bucket: u64,
    pairs: BTreeMap<Incarnation, Pair>,
}

impl Oracle {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap()
    }

    /// These were handed to a collector of the site.
    pub(crate) fn fed(&self, site: &SiteName, now_ms: u64, flows: &[Flow]) {
        let mut known = self.known();
        known.flows += flows.len() as u64;
        known.handed.entry(site.clone()).or_default().push((now_ms, flows.len() as u64));
        for flow in flows {
            let (source, destination) = (IpAddr::V4(flow.source), IpAddr::V4(flow.destination));
            let ends = (known.networks.contains(source), known.networks.contains(destination));
            let (out, into) = (charge(flow, true), charge(flow, false));
            let charges = match ends {
                (true, true) => {
                    vec![(Subject::Address(source), out), (Subject::Address(destination), into), (Subject::Site, out)]
                }
                (true, false) => vec![(Subject::Address(source), out), (Subject::Site, out)],
                (false, true) => vec![(Subject::Address(destination), into), (Subject::Site, into)],
                (false, false) => vec![(Subject::Transit, out), (Subject::Site, out)],
            };
            for (subject, counters) in charges {
                let cell = (site.clone(), subject, BUCKET.floor(flow.time_ms));
                known.fed.entry(cell).or_default().add(&counters);
            }
        }
    }

    /// The process of the one collector of a site has ended, and this is what its disk has. All of it that isn't committed
    /// will be, and nothing else; no more is missing than what was handed over in the last `at_risk_ms`.
    pub(crate) fn reckon(&self, site: &SiteName, stored: &[StoredSlice], at_risk_ms: u64) {
        let mut known = self.known();
        let of_site = |((of, ..), _): &(&Cell, &Counters)| of == site;
        let mut expected: Sums =
            known.committed.iter().filter(of_site).map(|(cell, sum)| (cell.clone(), *sum)).collect();
        for slice in stored {
            let windows = v1::Windows::decode(slice.payload.as_slice()).expect("a slice is of windows");
            let mut rows = windows::read(&windows).expect("a slice has windows").into_iter();
            for part in &slice.meta.parts {
                let counted = known.counts(part.shard, &slice.meta.incarnation.0, slice.meta.bucket, part.seq);
                for row in rows.by_ref().take(part.rows as usize).filter(|_| !counted) {
                    let cell = (site.clone(), row.subject, slice.meta.bucket);
                    expected.entry(cell).or_default().add(&row.window.counters);
                }
            }
        }
        let events = |sums: &Sums| {
            sums.iter()
                .filter(of_site)
                .filter(|((_, subject, _), _)| *subject == Subject::Site)
                .map(|(_, sum)| sum.events)
                .sum::<u64>()
        };
        let lost = events(&known.fed).saturating_sub(events(&expected));
        let handed = known.handed.get(site).map_or(&[][..], Vec::as_slice);
        let since = handed.last().map_or(0, |(last, _)| last.saturating_sub(at_risk_ms));
        let at_risk: u64 = handed.iter().filter(|(at, _)| *at >= since).map(|(_, flows)| flows).sum();
        let mut wrong = Vec::new();
        if lost > at_risk {
            wrong.push(format!("{site} lost {lost} flows; {at_risk} may be lost"));
        }
        let nothing = Counters::default();
        if let Some((cell, sum)) =
            expected.iter().find(|(cell, sum)| !covers(known.fed.get(cell).unwrap_or(&nothing), sum))
        {
            wrong.push(format!("the disk and the store have {sum:?} of {cell:?}, fed {:?}", known.fed.get(cell)));
        }
        known.wrong.extend(wrong);
        known.lost += lost;
        known.fed.retain(|(of, ..), _| of != site);
        known.fed.extend(expected);
        known.handed.remove(site);
    }

    /// These were applied to the store.
    pub(crate) fn applied(&self, term: Term, writes: &[Write]) {
        let mut known = self.known();
        let before = std::mem::replace(&mut known.term, term.number());
        if term.number() < before {
            known.complain(format!("term {term} wrote after term {before}"));
        }
        for write in writes {
            match write {
                Write::Open(open) => {
                    let shard = known.shards.entry(open.shard).or_default();
                    let before = std::mem::replace(&mut shard.epoch, open.epoch);
                    if open.epoch <= before {
                        known.complain(format!("shard {}: epoch {} after {before}", open.shard, open.epoch));
                    }
                }
                Write::Commit(commit) => known.commit(commit),
            }
        }
    }

    /// What went wrong so far.
    pub(crate) fn wrong(&self) -> Option<String> {
        let known = self.known();
        known.wrong.first().cloned()
    }

    /// How what is committed differs from what was fed.
    pub(crate) fn difference(&self) -> Option<String> {
        let known = self.known();
        let fed = known.fed.iter().filter(|(cell, fed)| known.committed.get(cell) != Some(fed));
        let differing: Vec<_> = fed.map(|(cell, fed)| (cell, fed, known.committed.get(cell))).collect();
        let ((site, subject, bucket), fed, committed) = differing.first()?;
        let shown = |counters: &Counters| (counters.events, counters.bytes_out, counters.bytes_in);
        Some(format!(
            "{} of {} keys and buckets differ; the first: {site} {subject:?} bucket {bucket}: fed {:?}, committed {:?}",
            differing.len(),
            known.fed.len(),
            shown(fed),
            committed.map(shown)
        ))
    }

    /// Start of the last bucket that anything was fed of.
    pub(crate) fn last_bucket(&self) -> u64 {
        self.known().fed.keys().map(|(_, _, bucket)| *bucket).max().unwrap_or(0)
    }

    /// The least bucket that all shards have committed.
    pub(crate) fn frontier(&self) -> u64 {
        self.known().shards.values().map(|shard| shard.bucket).min().unwrap_or(0)
    }
}

impl fmt::Display for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known();
        let commits: u64 = known.shards.values().map(|shard| shard.commit_no).sum();
        let epochs: u64 = known.shards.values().map(|shard| shard.epoch).sum();
        write!(
            f,
            "{} flows ({} died with their collector), {} keys and buckets, {commits} commits, {} rows of corrections, {} terms, {epochs} epochs",
            known.flows,
            known.lost,
            known.fed.len(),
            known.corrections,
            known.term
        )
    }
}

impl Known {
    fn complain(&mut self, problem: String) {
        self.wrong.push(problem);
    }

    /// True if the store counts that batch.
    fn counts(&self, shard: u32, incarnation: &[u8; 16], bucket: u64, seq: u64) -> bool {
        let pairs = self.shards.get(&shard).into_iter().flat_map(|shard| &shard.pairs);
        pairs.filter(|(of, _)| of.id == *incarnation).any(|(_, pair)| bucket <= pair.bucket && seq <= pair.seq)
    }

    fn commit(&mut self, commit: &CommitWrite) {
        let shard = self.shards.entry(commit.shard).or_default();
        let mut wrong = Vec::new();
        if (commit.epoch, commit.commit_no) != (shard.epoch, shard.commit_no + 1) || commit.bucket < shard.bucket {
            wrong.push(format!("commit {} of epoch {} after {shard:?}", commit.commit_no, commit.epoch));
        }
        (shard.commit_no, shard.bucket) = (commit.commit_no, commit.bucket);
        for (of, pair) in &commit.pairs {
            let before = shard.pairs.insert(of.clone(), *pair);
            if before.is_some_and(|before| pair.bucket < before.bucket || pair.seq < before.seq) {
                wrong.push(format!("shard {}: pair of {of} went from {before:?} to {pair:?}", commit.shard));
            }
        }
        for entry in &commit.log {
            let rows = prepare::rows(entry).expect("what is committed can be read");
            self.corrections += u64::from(entry.kind.is_correction()) * entry.windows;
            for row in rows {
                let cell = (row.site, row.subject, entry.bucket);
                let committed = self.committed.entry(cell.clone()).or_default();
                committed.add(&row.window.counters);
                let fed = self.fed.get(&cell).copied().unwrap_or_default();
                if !covers(&fed, committed) {
                    let (shard, number) = (commit.shard, commit.commit_no);
                    wrong.push(format!(
                        "commit {number} of shard {shard} counts {cell:?} too often: {committed:?}, fed {fed:?}"
                    ));
                }
            }
        }
        self.wrong.extend(wrong);
    }
}

fn charge(flow: &Flow, out: bool) -> Counters {
    let (bytes, packets) = (u64::from(flow.bytes), u64::from(flow.packets));
    let sent = Counters { events: 1, bytes_out: bytes, packets_out: packets, ..Counters::default() };
    let received = Counters { events: 1, bytes_in: bytes, packets_in: packets, ..Counters::default() };
    if out { sent } else { received }
}

/// True if nothing of `part` is more than in `whole`.
fn covers(whole: &Counters, part: &Counters) -> bool {
    let each = |counters: &Counters| {
        [counters.events, counters.bytes_out, counters.bytes_in, counters.packets_out, counters.packets_in]
    };
    each(whole).iter().zip(each(part)).all(|(whole, part)| part <= *whole)
}
