//! Charging a record: to which keys, and over which time (DESIGN section 3).

use std::{collections::BTreeMap, net::IpAddr};

use spikewatch_domain::{
    key::{MAX_NAME_BYTES, Subject},
    record::{Annotations, EventMillis, FlowRecord},
    span::Span,
    window::{Counters, Service, Share},
};

use crate::{ledger::Entry, networks::InternalNetworks, places::Outer};

/// Most buckets one record is spread over; what began earlier is charged to the first of them.
const MAX_PARTS: u64 = 2_000;

/// Names that stand for addresses, so that one machine is one host whatever reports it.
pub type Aliases = BTreeMap<IpAddr, Box<str>>;

/// Decides to whom a record is charged.
#[derive(Debug)]
pub struct Charger {
    networks: InternalNetworks,
    aliases: Aliases,
    slice: Span,
    bucket: Span,
}

/// The keys a record is charged to, each with the share's direction: `true` if the key is the record's source.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ends {
    One(Subject, bool),
    Both(Subject, Subject),
}

impl Charger {
    /// A charger that spreads over buckets and files under slices; `bucket` is a multiple of `slice`.
    #[must_use]
    pub fn new(networks: InternalNetworks, aliases: Aliases, slice: Span, bucket: Span) -> Self {
        Self { networks, aliases, slice, bucket }
    }

    /// Calls `charge(slice start, key, share)` for every share of the record: each internal end (or `(transit)`), and the
    /// site once, in every bucket it spans. The shares' sums are exactly the entry.
    pub fn charge(
        &self,
        record: &FlowRecord,
        entry: &Entry,
        mut charge: impl FnMut(EventMillis, &Subject, &Share<'_>),
    ) {
        let ends = self.ends(record);
        let service = Service { protocol: record.protocol, port: record.service_port() };
        let annotations = record.annotations.as_deref();
        let site_peer = match ends {
            Ends::One(_, false) => record.source,
            Ends::One(_, true) | Ends::Both(..) => record.destination,
        };
        self.parts(entry, |slice, part| {
            let outward = counters(record, part, true);
            let inward = counters(record, part, false);
            let share = |counters, peer: IpAddr| Share { counters, peer: peer.into(), service, annotations };
            match &ends {
                Ends::One(subject, true) => {
                    charge(slice, subject, &share(outward, record.destination));
                    charge(slice, &Subject::Site, &share(outward, site_peer));
                }
                Ends::One(subject, false) => {
                    charge(slice, subject, &share(inward, record.source));
                    charge(slice, &Subject::Site, &share(inward, site_peer));
                }
                Ends::Both(source, destination) => {
                    charge(slice, source, &share(outward, record.destination));
                    charge(slice, destination, &share(inward, record.source));
                    charge(slice, &Subject::Site, &share(outward, site_peer));
                }
            }
        });
    }

    /// The end that is not ours; of a record with no internal end, the destination. None, if both are ours.
    #[must_use]
    pub fn outer(&self, record: &FlowRecord) -> Option<Outer> {
        let ours = |address| self.networks.contains(address);
        match (ours(record.source), ours(record.destination)) {
            (true, true) => None,
            (false, true) => Some(Outer { address: record.source, is_destination: false }),
            (_, false) => Some(Outer { address: record.destination, is_destination: true }),
        }
    }

    fn ends(&self, record: &FlowRecord) -> Ends {
        let annotations = record.annotations.as_deref();
        match (self.networks.contains(record.source), self.networks.contains(record.destination)) {
            (true, true) => {
                Ends::Both(self.host(record.source, annotations), self.host(record.destination, annotations))
            }
            (true, false) => Ends::One(self.host(record.source, annotations), true),
            (false, true) => Ends::One(self.host(record.destination, annotations), false),
            (false, false) => Ends::One(Subject::Transit, true),
        }
    }

    /// A reporter's `host.name` names this end only if its `host.ip` holds the end's address: a sensor's own name is not
    /// the name of what it sees.
    fn host(&self, address: IpAddr, annotations: Option<&Annotations>) -> Subject {
        if let Some(alias) = self.aliases.get(&address) {
            return Subject::Name(alias.clone());
        }
        let named = annotations.filter(|a| a.host_addresses.contains(&address)).and_then(|a| a.host_name.as_deref());
        match named {
            Some(name) if (1..=MAX_NAME_BYTES).contains(&name.len()) => Subject::Name(name.into()),
            _ => Subject::Address(address),
        }
    }

    /// Cuts an entry at bucket ends, by cumulative rounding: after each part, what is charged so far is the total in
    /// proportion to the time so far, rounded down, so the parts always sum to the total. The event goes to the bucket of
    /// the start. A part is filed under the slice in which it ends.
    fn parts(&self, entry: &Entry, mut part: impl FnMut(EventMillis, Part)) {
        let last_instant = entry.end.max(entry.start);
        let bucket_end = self.bucket.end(entry.start);
        let whole = Part {
            events: entry.events,
            source_bytes: entry.source_bytes,
            source_packets: entry.source_packets,
            destination_bytes: entry.destination_bytes,
            destination_packets: entry.destination_packets,
        };
        // A flow that ends exactly with its bucket lies wholly in it.
        if last_instant <= bucket_end {
            let at = last_instant.min(bucket_end.saturating_sub(1)).max(entry.start);
            return part(self.slice.floor(at), whole);
        }
        let duration = u128::from(last_instant - entry.start);
        let buckets = (last_instant - bucket_end).div_ceil(self.bucket.millis());
        let first_end = bucket_end + buckets.saturating_sub(MAX_PARTS) * self.bucket.millis();
        let mut done = Part::default();
        let mut end = first_end;
        loop {
            let until = end.min(last_instant);
            let so_far = |total: u64| ((u128::from(total) * u128::from(until - entry.start)) / duration) as u64;
            let cumulative = Part {
                events: entry.events,
                source_bytes: so_far(whole.source_bytes),
                source_packets: so_far(whole.source_packets),
                destination_bytes: so_far(whole.destination_bytes),
                destination_packets: so_far(whole.destination_packets),
            };
            part(self.slice.floor(until - 1), cumulative.less(&done));
            done = cumulative;
            if end >= last_instant {
                return;
            }
            end = end.saturating_add(self.bucket.millis());
        }
    }
}

/// What falls into one bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    events: u64,
    source_bytes: u64,
    source_packets: u64,
    destination_bytes: u64,
    destination_packets: u64,
}

impl Part {
    fn less(&self, done: &Self) -> Self {
        Self {
            events: self.events - done.events,
            source_bytes: self.source_bytes - done.source_bytes,
            source_packets: self.source_packets - done.source_packets,
            destination_bytes: self.destination_bytes - done.destination_bytes,
            destination_packets: self.destination_packets - done.destination_packets,
        }
    }
}

fn counters(record: &FlowRecord, part: Part, is_source: bool) -> Counters {
    let (out, back) = ((part.source_bytes, part.source_packets), (part.destination_bytes, part.destination_packets));
    let ((bytes_out, packets_out), (bytes_in, packets_in)) = if is_source { (out, back) } else { (back, out) };
    Counters {
        events: part.events,
        bytes_out,
        bytes_in,
        packets_out,
        packets_in,
        denied: if record.denied { part.events as u32 } else { 0 },
        estimated: record.estimated,
    }
}

#[cfg(test)]
mod tests;
