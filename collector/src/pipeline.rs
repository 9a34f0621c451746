//! Decode → charge → summarise, as one pure piece: what a source read goes in, slices come out. It has no I/O and no
//! clock of its own; the source says what time it is.

use std::{net::IpAddr, sync::atomic::Ordering::Relaxed};

use spikewatch_domain::{
    key::{SiteName, Subject},
    record::{EventMillis, FlowRecord},
    span::Span,
};

use crate::{
    charge::{Aliases, Charger},
    export::{ExportDecoder, ExportLimits},
    fault::{Decoded, Fault, Reason},
    ledger::{Ledger, LedgerLimits},
    metrics::Metrics,
    networks::InternalNetworks,
    packet::{
        flow_table::{FlowTable, FlowTableLimits},
        headers::dissect,
    },
    places::{Databases, Places},
    summarise::{Slice, Summariser},
    values::Values,
};

/// How records are cut into windows.
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// The site all records belong to.
    pub site: SiteName,
    /// Which addresses are hosts.
    pub networks: InternalNetworks,
    /// Names that stand for addresses.
    pub aliases: Aliases,
    /// Slice: how often windows are sent on.
    pub slice: Span,
    /// Base bucket, a multiple of the slice.
    pub bucket: Span,
    /// Shards of the cluster.
    pub shards: u32,
    /// Most windows held at once.
    pub key_limit: usize,
    /// Flows that the ledger and the flow tables keep, each.
    pub flows: usize,
    /// Service ports that have windows of their own in the site; none if 0. See [`Values`].
    pub port_values: usize,
    /// Countries, and autonomous systems, that have windows of their own in the site; none if 0.
    pub country_values: usize,
    /// As `country_values`.
    pub asn_values: usize,
    /// Where peers are looked up.
    pub databases: Databases,
}

/// What is due to be sent: the slices' contents so far, and a promise.
#[derive(Debug, Clone, PartialEq)]
pub struct Flush {
    /// Oldest first; a slice may come again with what came late.
    pub slices: Vec<Slice>,
    /// No record older than this will come, late ones excepted.
    pub watermark: EventMillis,
    /// Nothing will come at all.
    pub last: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Pipeline {
    flows: usize,
    exports: ExportDecoder,
    packets: FlowTable,
    ledger: Ledger,
    charger: Charger,
    summariser: Summariser,
    ports: Values<u16>,
    places: Places,
    decoded: Decoded,
    metrics: Metrics,
    tap: Option<Vec<FlowRecord>>,
    slice: Span,
    bucket: Span,
    clock: EventMillis,
    expired: EventMillis,
    flushed: Option<EventMillis>,
    newest: EventMillis,
}

impl Pipeline {
    /// An empty pipeline.
    #[must_use]
    pub fn new(options: PipelineOptions, metrics: Metrics) -> Self {
        let limits = (options.country_values, options.asn_values);
        Self {
            places: Places::new(&options.site, options.shards, options.bucket, limits, options.databases),
            flows: options.flows,
            exports: ExportDecoder::new(ExportLimits {
                flow_table: FlowTableLimits { max_flows: options.flows, ..FlowTableLimits::default() },
                ..ExportLimits::default()
            }),
            packets: FlowTable::new(FlowTableLimits { max_flows: options.flows, ..FlowTableLimits::default() }),
            ledger: Ledger::new(LedgerLimits { flows: options.flows }),
            charger: Charger::new(options.networks, options.aliases, options.slice, options.bucket),
            ports: Values::new(options.site.clone(), options.shards, options.bucket, options.port_values),
            summariser: Summariser::new(options.site, options.shards, options.key_limit),
            decoded: Decoded::default(),
            metrics,
            tap: None,
            slice: options.slice,
            bucket: options.bucket,
            clock: 0,
            expired: 0,
            flushed: None,
            newest: 0,
        }
    }

    /// Looks peers up in these from now on.
    pub fn switch(&mut self, databases: Databases) {
        self.places.switch(databases);
    }

    /// Keeps a copy of every decoded record until [`Pipeline::tapped`] takes it.
    pub fn tap(&mut self) {
        self.tap = Some(Vec::new());
    }

    /// The records decoded since the last call, if they are tapped.
    pub fn tapped(&mut self) -> Vec<FlowRecord> {
        self.tap.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// One captured packet. The fault, if any, is for the caller to place.
    ///
    /// # Errors
    /// If the packet carries no flow, or can't be read.
    pub fn packet(&mut self, time: EventMillis, link: u16, original_length: u32, data: &[u8]) -> Result<(), Fault> {
        if time > LATEST {
            return Err(Fault::new(Reason::OutOfRange, format!("capture time {time} ms lies after the year 2106")));
        }
        let packet = dissect(link, original_length, data)?;
        self.packets.on_packet(time, &packet, 1, &mut self.decoded.records);
        if !self.decoded.records.is_empty() {
            self.settle();
        }
        Ok(())
    }

    /// One export datagram. Its faults are for the caller to place.
    pub fn datagram(&mut self, exporter: IpAddr, time: EventMillis, payload: &[u8], faults: &mut Vec<Fault>) {
        self.exports.decode(exporter, time, payload, &mut self.decoded);
        let times = self.decoded.records.iter_mut().filter_map(|record| believe(record, time));
        let before = faults.len();
        for told in times {
            // Where one record of a datagram is off, most are: only the first is worth its text.
            faults.push(if faults.len() == before {
                off(told, time)
            } else {
                Fault::new(Reason::ClockOff, "as before")
            });
        }
        Metrics::add(&self.metrics.counters().times_replaced, (faults.len() - before) as u64);
        faults.append(&mut self.decoded.faults);
        self.settle();
    }

    /// Records that were decoded elsewhere (lines).
    pub fn records(&mut self, records: &mut Vec<FlowRecord>) {
        self.decoded.records.append(records);
        self.settle();
    }

    /// Records of lines that were written lately. A time ahead of the clock is that of a wrong clock, and replaced; one
    /// that lies too far back is that of an old log, and is not counted but told.
    pub fn lines(&mut self, records: &mut Vec<FlowRecord>, now: EventMillis, mut old: impl FnMut(Fault)) {
        records.retain_mut(|record| {
            if let Some(fault) = too_old(record, now) {
                old(fault);
                return false;
            }
            Metrics::add(&self.metrics.counters().times_replaced, u64::from(believe(record, now).is_some()));
            true
        });
        self.records(records);
    }

    /// The source has come to `time`. Emits flows that timed out, and says what is due when a slice has ended.
    pub fn advance(&mut self, time: EventMillis) -> Option<Flush> {
        self.clock = self.clock.max(time);
        // Once a second is often enough for time-outs of many seconds.
        if self.clock / 1_000 > self.expired {
            self.expired = self.clock / 1_000;
            self.packets.expire(self.clock, &mut self.decoded.records);
            self.exports.expire(self.clock, &mut self.decoded);
            self.settle();
            self.metrics.counters().event_time.store(self.clock, Relaxed);
        }
        let boundary = self.slice.floor(self.clock);
        match self.flushed {
            None => {
                self.flushed = Some(boundary);
                None
            }
            Some(flushed) if boundary > flushed => {
                self.flushed = Some(boundary);
                Some(self.flush(boundary, false))
            }
            Some(_) => None,
        }
    }

    /// The source has ended: everything is due. The watermark is the end of the last bucket that any record touched.
    pub fn finish(&mut self) -> Flush {
        self.packets.flush(&mut self.decoded.records);
        self.exports.flush(&mut self.decoded);
        self.settle();
        let watermark = self.bucket.end(self.newest);
        self.flush(watermark, true)
    }

    /// What there is so far, with no promise but the last one; afterwards nothing is held but what [`Pipeline::save`] saves.
    pub fn so_far(&mut self) -> Flush {
        let watermark = self.flushed.unwrap_or(0);
        self.flush(watermark, false)
    }

    /// What there is of a slice that can't wait for its end. It promises nothing, not even again what was promised: sources
    /// that are read behind the clock may have said less.
    pub fn cut_early(&mut self) -> Flush {
        self.flush(0, false)
    }

    /// Bytes of windows that are not due yet.
    pub(crate) fn bytes(&self) -> usize {
        self.summariser.bytes()
    }

    /// All that is remembered from slice to slice, encoded: templates, flows that are going on, what the ledger knows. To be
    /// called right after a [`Flush`] was taken: windows are not in it.
    ///
    /// # Errors
    /// None that is known: the encoder's.
    pub fn save(&self) -> Result<Vec<u8>, postcard::Error> {
        let times = (self.clock, self.expired, self.flushed, self.newest);
        postcard::to_allocvec(&(
            &self.exports,
            &self.packets,
            &self.ledger,
            self.ports.standing(),
            self.places.standing(),
            times,
        ))
    }

    /// Goes on from what was saved.
    ///
    /// # Errors
    /// It is not what this version saves. Nothing has changed then.
    pub fn restore(&mut self, saved: &[u8]) -> Result<(), postcard::Error> {
        let (exports, packets, ledger, ports, places, times): (ExportDecoder, FlowTable, Ledger, _, _, _) =
            postcard::from_bytes(saved)?;
        (self.exports, self.packets, self.ledger) = (exports, packets, ledger);
        // What was saved may be of other limits.
        self.exports.keep(self.flows);
        self.packets.keep(self.flows);
        self.ledger.keep(self.flows);
        (self.clock, self.expired, self.flushed, self.newest) = times;
        self.ports.restore(ports);
        self.places.restore(places);
        Ok(())
    }

    fn flush(&mut self, watermark: EventMillis, last: bool) -> Flush {
        let mut slices = self.summariser.take();
        self.ports.take(&mut slices, watermark);
        self.places.take(&mut slices, watermark);
        let counters = self.metrics.counters();
        Metrics::add(&counters.slices, slices.len() as u64);
        Metrics::add(&counters.rows, slices.iter().map(|slice| slice.rows.len() as u64).sum());
        counters.overflowed.store(self.summariser.overflowed(), Relaxed);
        counters.values_overflowed.store(self.ports.overflowed() + self.places.overflowed(), Relaxed);
        let (lookups, misses) = self.places.lookups();
        counters.place_lookups.store(lookups, Relaxed);
        counters.place_misses.store(misses, Relaxed);
        counters.duplicates.store(self.ledger.duplicates(), Relaxed);
        Flush { slices, watermark, last }
    }

    fn settle(&mut self) {
        if self.decoded.records.is_empty() {
            return;
        }
        let counters = self.metrics.counters();
        Metrics::add(&counters.records, self.decoded.records.len() as u64);
        let (mut events, mut bytes, mut packets) = (0u64, 0u64, 0u64);
        for record in &self.decoded.records {
            let Some(entry) = self.ledger.enter(record) else { continue };
            events += entry.events;
            bytes = bytes.saturating_add(entry.source_bytes.saturating_add(entry.destination_bytes));
            packets = packets.saturating_add(entry.source_packets.saturating_add(entry.destination_packets));
            let (summariser, ports, newest) = (&mut self.summariser, &mut self.ports, &mut self.newest);
            let places = &mut self.places;
            let located = places.locate(record, || self.charger.outer(record));
            self.charger.charge(record, &entry, |slice, subject, share| {
                *newest = slice.max(*newest);
                if matches!(subject, Subject::Site) {
                    ports.add(slice, share.service.port, &share.counters);
                    located.iter().for_each(|located| places.add(slice, *located, &share.counters));
                }
                summariser.add(slice, subject, share);
            });
        }
        Metrics::add(&counters.events, events);
        Metrics::add(&counters.bytes, bytes);
        Metrics::add(&counters.flow_packets, packets);
        match &mut self.tap {
            Some(tap) => tap.append(&mut self.decoded.records),
            None => self.decoded.records.clear(),
        }
    }
}

/// Latest event time that anything may carry: the end of 32-bit seconds (year 2106), which is as far as captures reach.
pub const LATEST: EventMillis = (1 << 32) * 1_000;
/// How far behind its receipt a record's time is believed.
const LATE_HORIZON_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// How far ahead of its receipt a record's time is believed: exporters' clocks are seldom exact.
const AHEAD_MS: u64 = 60_000;

/// What is wrong with a record of a line that was written, or handed over, too long after its time.
pub(crate) fn too_old(record: &FlowRecord, now: EventMillis) -> Option<Fault> {
    let days = LATE_HORIZON_MS / 86_400_000;
    let fault = || Fault::new(Reason::OutOfRange, format!("event time {} ms is over {days} days old", record.end));
    (record.end < now.saturating_sub(LATE_HORIZON_MS)).then(fault)
}

/// Event time that lies absurdly far from its receipt says more of the exporter's clock than of the traffic: it is
/// replaced by the time of receipt. Returns what it said, if it was.
fn believe(record: &mut FlowRecord, received: EventMillis) -> Option<EventMillis> {
    let oldest = received.saturating_sub(LATE_HORIZON_MS);
    let newest = received.saturating_add(AHEAD_MS);
    if record.end > newest || record.end < oldest {
        let told = record.end;
        (record.start, record.end) = (received, received);
        return Some(told);
    }
    let told = record.start;
    record.start = record.start.max(oldest);
    (told < oldest).then_some(told)
}

fn off(told: EventMillis, received: EventMillis) -> Fault {
    let side = if told > received { "ahead of" } else { "behind" };
    let seconds = told.abs_diff(received) / 1000;
    Fault::new(
        Reason::ClockOff,
        format!(
            "a flow at {told} ms lies {seconds} s {side} its receipt; expected at most 60 s ahead and 7 days behind: it \
             counts at its receipt"
        ),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One for a site with private addresses.
    pub(crate) fn pipeline() -> Pipeline {
        counted_in(Metrics::default())
    }

    /// The same, with metrics to look at.
    pub(crate) fn counted_in(metrics: Metrics) -> Pipeline {
        let options = PipelineOptions {
            site: "main".parse().unwrap(),
            networks: InternalNetworks::default(),
            aliases: Aliases::new(),
            slice: Span::TEN_SECONDS,
            bucket: Span::QUARTER_HOUR,
            shards: 8,
            key_limit: 1_000_000,
            flows: 1 << 18,
            port_values: 2,
            country_values: 2,
            asn_values: 2,
            databases: Databases::default(),
        };
        Pipeline::new(options, metrics)
    }
}
