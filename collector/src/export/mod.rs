//! Flow exports (NetFlow v5 and v9, IPFIX, sFlow v5) → flow records.
//!
//! The decoder is our own, straight from the bytes to flow records. The libraries that we know (netflow_parser 1.0,
//! flowparser-sflow 0.3) build a tree of every field of a datagram, of which we use a dozen; most of their errors don't say at
//! which offset; and sampling, times and both-way counters, the larger part of the work, are left to their user. tshark's
//! dissectors and Telegraf's are the independent check instead (`tests/export_datagrams.rs`).
//!
//! On the way of a datagram: `framing` tells its format, `netflow5`, `message` (NetFlow v9 and IPFIX) and `sflow` read it; of a
//! templated record `template` picks the values that `field` names, `flow` makes a record of them with `clock` and `sampling`;
//! `domain` and `sequence` remember what concerns the next datagram, within the limits that `bounded` holds.

mod bounded;
mod clock;
mod cursor;
mod domain;
mod field;
mod flow;
mod framing;
mod message;
mod netflow5;
mod sampling;
mod sequence;
mod sflow;
mod stats;
mod template;

use std::net::IpAddr;

use bounded::{Bounded, Displaced};
use cursor::Cursor;
use domain::{Domain, Origin};
use field::Values;
pub use framing::{ExportFormat, export_time, recognise, split};
use sequence::Arrival;
use serde::{Deserialize, Serialize};
use stats::Unit;
pub use stats::{ExportStats, ExporterStats};

use crate::fault::{Decoded, Reason};
use crate::packet::flow_table::{FlowTable, FlowTableLimits};

/// How much an [`ExportDecoder`] may remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub struct ExportLimits {
    /// Pairs of exporter and observation domain.
    pub max_exporters: usize,
    /// Templates of each exporter and observation domain.
    pub max_templates: usize,
    /// Fields of all templates together; past that the exporters not heard of for long are forgotten.
    pub max_template_fields: usize,
    /// The flows that sFlow's samples are joined to.
    pub flow_table: FlowTableLimits,
}

impl Default for ExportLimits {
    fn default() -> Self {
        Self {
            max_exporters: 4096,
            max_templates: 1024,
            max_template_fields: 1 << 20,
            flow_table: FlowTableLimits::default(),
        }
    }
}

/// Decodes export datagrams. One per listener or file: it remembers templates, sampling and sequence numbers by exporter
/// address and observation domain, within [`ExportLimits`].
#[derive(Debug, Deserialize, Serialize)]
pub struct ExportDecoder {
    limits: ExportLimits,
    domains: Bounded<DomainKey, Domain>,
    template_fields: usize,
    flows: FlowTable,
    #[serde(skip, default = "Values::new")]
    values: Values,
    stats: ExportStats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
struct DomainKey {
    exporter: IpAddr,
    format: ExportFormat,
    domain: u32,
}

impl ExportDecoder {
    /// A decoder that knows no exporter yet.
    #[must_use]
    pub fn new(limits: ExportLimits) -> Self {
        Self {
            limits,
            domains: Bounded::new(limits.max_exporters),
            template_fields: 0,
            flows: FlowTable::new(limits.flow_table),
            values: Values::new(),
            stats: ExportStats::default(),
        }
    }

    /// Keeps so many flows of samples from now on.
    pub(crate) fn keep(&mut self, flows: usize) {
        self.limits.flow_table.max_flows = flows;
        self.flows.keep(flows);
    }

    /// Decodes one datagram that `exporter` sent, received at `received_ms` (since 1970). Recognises the format from its first
    /// bytes. Records and faults are appended to `out`; a fault names what was expected and found, and the offset.
    pub fn decode(&mut self, exporter: IpAddr, received_ms: u64, payload: &[u8], out: &mut Decoded) {
        let before = out.records.len();
        self.stats.datagrams += 1;
        let mut from = Cursor::new(payload, 0);
        match ExportFormat::of(payload) {
            Some(ExportFormat::NetFlow5) => self.netflow5(exporter, received_ms, &mut from, out),
            Some(ExportFormat::NetFlow9) => match message::Header::netflow9(&mut from) {
                Some(header) => self.message(exporter, received_ms, &header, from, out),
                None => cut(ExportFormat::NetFlow9, payload, out),
            },
            Some(ExportFormat::Ipfix) => match message::Header::ipfix(&mut from) {
                Some(header) => self.message(exporter, received_ms, &header, from, out),
                None => cut(ExportFormat::Ipfix, payload, out),
            },
            Some(ExportFormat::Sflow5) => match sflow::Header::read(&mut from) {
                Some(header) => self.sflow(received_ms, &header, from, out),
                None => cut(ExportFormat::Sflow5, payload, out),
            },
            None => {
                let start = payload.get(..4).unwrap_or(payload);
                let detail =
                    format!("NetFlow 5 or 9, IPFIX or sFlow 5 expected, a start of {start:02x?} found, offset 0");
                out.fault(Reason::UnknownFormat, detail);
            }
        }
        self.count_records(out.records.len() - before);
    }

    /// Emits the flows of sFlow samples that have been idle or active for too long at `now_ms`.
    pub fn expire(&mut self, now_ms: u64, out: &mut Decoded) {
        let before = out.records.len();
        self.flows.expire(now_ms, &mut out.records);
        self.count_records(out.records.len() - before);
    }

    /// Emits the flows of sFlow samples that are left.
    pub fn flush(&mut self, out: &mut Decoded) {
        let before = out.records.len();
        self.flows.flush(&mut out.records);
        self.count_records(out.records.len() - before);
    }

    /// What has been seen.
    #[must_use]
    pub fn stats(&self) -> &ExportStats {
        &self.stats
    }

    fn netflow5(&mut self, exporter: IpAddr, received_ms: u64, from: &mut Cursor<'_>, out: &mut Decoded) {
        let header = match netflow5::Header::read(from) {
            Ok(header) => header,
            Err(fault) => return out.faults.push(fault),
        };
        let before = out.records.len();
        netflow5::records(&header, from, received_ms, out);
        let key = DomainKey { exporter, format: ExportFormat::NetFlow5, domain: u32::from(header.engine) };
        let count = Some(u32::from(header.count));
        if let Some(domain) = self.domain(key, out) {
            let arrival = domain.sequence.on(header.sequence, count, Some(header.uptime_ms));
            self.count_datagram(exporter, out.records.len() - before, arrival, Unit::Records);
        }
    }

    fn message(
        &mut self,
        exporter: IpAddr,
        received_ms: u64,
        header: &message::Header,
        mut from: Cursor<'_>,
        out: &mut Decoded,
    ) {
        let format = match header.dialect {
            message::Dialect::NetFlow9 => ExportFormat::NetFlow9,
            message::Dialect::Ipfix => ExportFormat::Ipfix,
        };
        let (left, offset) = (from.rest().len(), from.offset());
        let told = header.length.map_or(Some(left), |length| length.checked_sub(offset));
        let Some(told) = told else {
            out.fault(Reason::Malformed, "IPFIX length is less than that of its header, offset 2");
            return;
        };
        if told != left {
            let reason = if told > left { Reason::Truncated } else { Reason::Malformed };
            out.fault(reason, format!("IPFIX header says that {told} bytes follow, {left} do, offset 2"));
        }
        let body = from.part_or_rest(told);
        let before = out.records.len();
        let key = DomainKey { exporter, format, domain: header.domain };
        self.domain(key, out);
        let Some(domain) = self.domains.get_mut(&key) else { return };
        let held = (domain.templates.len(), domain.templates.steps());
        let origin = Origin { exporter, clock: header.clock(received_ms, domain.init_ms) };
        let records = message::sets(body, header.dialect, domain, &origin, &mut self.values, out);
        let (units, unit) = match header.dialect {
            message::Dialect::NetFlow9 => (Some(1), Unit::Datagrams),
            message::Dialect::Ipfix => (records.filter(|_| told <= left), Unit::Records),
        };
        let arrival = domain.sequence.on(header.sequence, units, header.uptime_ms);
        self.stats.templates = self.stats.templates + domain.templates.len() - held.0;
        self.template_fields = self.template_fields + domain.templates.steps() - held.1;
        self.count_datagram(exporter, out.records.len() - before, arrival, unit);
        self.bound_templates(out);
    }

    fn sflow(&mut self, received_ms: u64, header: &sflow::Header, from: Cursor<'_>, out: &mut Decoded) {
        let key = DomainKey { exporter: header.agent, format: ExportFormat::Sflow5, domain: header.sub_agent };
        if let Some(domain) = self.domain(key, out) {
            let arrival = domain.sequence.on(header.sequence, Some(1), Some(header.uptime_ms));
            self.count_datagram(header.agent, 0, arrival, Unit::Datagrams);
        }
        let (flows, count) = (&mut self.flows, &mut self.stats.samples);
        sflow::samples(header, from, out, |sample, out| {
            *count += 1;
            flows.on_packet(received_ms, &sample.packet, sample.rate, &mut out.records);
        });
    }

    /// The state of an observation domain, made if it is new.
    fn domain(&mut self, key: DomainKey, out: &mut Decoded) -> Option<&mut Domain> {
        if self.domains.peek(&key).is_none() {
            let displaced = self.domains.insert(key, Domain::new(self.limits.max_templates));
            self.stats.domain_added(key.exporter);
            if let Displaced::Evicted(old, domain) = displaced {
                self.forget(old, &domain, out);
            }
        }
        self.domains.get_mut(&key)
    }

    fn forget(&mut self, key: DomainKey, domain: &Domain, out: &mut Decoded) {
        self.stats.templates -= domain.templates.len();
        self.template_fields -= domain.templates.steps();
        self.stats.domain_removed(key.exporter);
        let detail = format!("exporter {} (domain {}) forgotten to make room", key.exporter, key.domain);
        out.fault(Reason::LimitReached, detail);
    }

    fn bound_templates(&mut self, out: &mut Decoded) {
        while self.template_fields > self.limits.max_template_fields {
            let Some((key, domain)) = self.domains.evict() else { return };
            self.forget(key, &domain, out);
        }
    }

    fn count_records(&mut self, records: usize) {
        self.stats.records += records as u64;
    }

    fn count_datagram(&mut self, exporter: IpAddr, records: usize, arrival: Arrival, unit: Unit) {
        self.stats.datagram(exporter, records as u64, arrival, unit);
    }
}

fn cut(format: ExportFormat, payload: &[u8], out: &mut Decoded) {
    out.fault(
        Reason::Truncated,
        format!("{format} header expected, the datagram has {} bytes, offset 0", payload.len()),
    );
}
