//! Zeek's conn.log, as tab-separated text or as JSON, whichever a line is
//! (<https://docs.zeek.org/en/current/logs/conn.html>).

use std::net::IpAddr;

use spikewatch_domain::record::{Annotations, FlowRecord};

use super::scalar::Scalar;
use super::zeek_tsv::Layout;
use super::{content, identity, protocol, timestamp, zeek_json};
use crate::fault::{Decoded, Fault, Reason};

/// Decodes the lines of Zeek connection logs. Keeps the last header from line to line, so each file needs a decoder of
/// its own.
#[derive(Debug, Default)]
pub struct ZeekDecoder {
    layout: Layout,
}

impl ZeekDecoder {
    /// A decoder that has seen no header yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The lines of the last header: a decoder that was given them decodes as this one does.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        self.layout.text()
    }

    /// Decodes one line: exactly one record or one fault, or nothing for a blank, header or comment line.
    pub fn decode(&mut self, line: &[u8], out: &mut Decoded) {
        // A blank may be a column, so only the line's end is taken off.
        let line = match line {
            [rest @ .., b'\r', b'\n'] | [rest @ .., b'\n' | b'\r'] => rest,
            rest => rest,
        };
        let decoded = match content(line).first() {
            None => return,
            Some(b'#') => return self.layout.header(content(line)),
            Some(b'{') => zeek_json::connection(content(line)),
            Some(_) => self.layout.connection(line),
        };
        match decoded.and_then(|connection| connection.record()) {
            Ok(record) => out.records.push(record),
            Err(fault) => out.faults.push(fault),
        }
    }
}

/// The columns of one connection, as they stood in the line. Unset columns are absent.
#[derive(Debug, Default)]
pub(super) struct Connection<'a> {
    pub(super) ts: Scalar<'a>,
    pub(super) duration: Scalar<'a>,
    pub(super) orig_h: Scalar<'a>,
    pub(super) orig_p: Scalar<'a>,
    pub(super) resp_h: Scalar<'a>,
    pub(super) resp_p: Scalar<'a>,
    pub(super) proto: Scalar<'a>,
    pub(super) ip_proto: Scalar<'a>,
    pub(super) conn_state: Scalar<'a>,
    pub(super) orig_bytes: Scalar<'a>,
    pub(super) resp_bytes: Scalar<'a>,
    pub(super) orig_pkts: Scalar<'a>,
    pub(super) resp_pkts: Scalar<'a>,
    pub(super) orig_ip_bytes: Scalar<'a>,
    pub(super) resp_ip_bytes: Scalar<'a>,
    pub(super) community_id: Scalar<'a>,
}

/// A column of the connection log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Ts,
    Duration,
    OrigH,
    OrigP,
    RespH,
    RespP,
    Proto,
    IpProto,
    ConnState,
    OrigBytes,
    RespBytes,
    OrigPkts,
    RespPkts,
    OrigIpBytes,
    RespIpBytes,
    CommunityId,
}

impl Column {
    /// The column of this name, if it says anything that is wanted.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ts" => Self::Ts,
            "duration" => Self::Duration,
            "id.orig_h" => Self::OrigH,
            "id.orig_p" => Self::OrigP,
            "id.resp_h" => Self::RespH,
            "id.resp_p" => Self::RespP,
            "proto" => Self::Proto,
            "ip_proto" => Self::IpProto,
            "conn_state" => Self::ConnState,
            "orig_bytes" => Self::OrigBytes,
            "resp_bytes" => Self::RespBytes,
            "orig_pkts" => Self::OrigPkts,
            "resp_pkts" => Self::RespPkts,
            "orig_ip_bytes" => Self::OrigIpBytes,
            "resp_ip_bytes" => Self::RespIpBytes,
            "community_id" => Self::CommunityId,
            _ => return None,
        })
    }
}

impl<'a> Connection<'a> {
    pub(super) fn set(&mut self, column: Column, value: Scalar<'a>) {
        *match column {
            Column::Ts => &mut self.ts,
            Column::Duration => &mut self.duration,
            Column::OrigH => &mut self.orig_h,
            Column::OrigP => &mut self.orig_p,
            Column::RespH => &mut self.resp_h,
            Column::RespP => &mut self.resp_p,
            Column::Proto => &mut self.proto,
            Column::IpProto => &mut self.ip_proto,
            Column::ConnState => &mut self.conn_state,
            Column::OrigBytes => &mut self.orig_bytes,
            Column::RespBytes => &mut self.resp_bytes,
            Column::OrigPkts => &mut self.orig_pkts,
            Column::RespPkts => &mut self.resp_pkts,
            Column::OrigIpBytes => &mut self.orig_ip_bytes,
            Column::RespIpBytes => &mut self.resp_ip_bytes,
            Column::CommunityId => &mut self.community_id,
        } = value;
    }

    fn record(&self) -> Result<FlowRecord, Fault> {
        let source = required(self.orig_h.address("id.orig_h")?, "id.orig_h")?;
        let destination = required(self.resp_h.address("id.resp_h")?, "id.resp_h")?;
        let start = required(timestamp::instant(&self.ts, "ts")?, "ts")?;
        let duration = timestamp::seconds(&self.duration, "duration")?.unwrap_or_default();
        let end = start.saturating_add(duration);
        let mut record = FlowRecord::between(source, destination, start / 1_000, end / 1_000);
        record.protocol = self.protocol(source)?;
        // For ICMP the port columns hold type and code.
        if !protocol::is_icmp(record.protocol) {
            record.source_port = self.orig_p.port("id.orig_p")?.unwrap_or_default();
            record.destination_port = self.resp_p.port("id.resp_p")?.unwrap_or_default();
        }
        record.initiator_known = true;
        record.source_bytes = either(&self.orig_ip_bytes, "orig_ip_bytes", &self.orig_bytes, "orig_bytes")?;
        record.destination_bytes = either(&self.resp_ip_bytes, "resp_ip_bytes", &self.resp_bytes, "resp_bytes")?;
        record.source_packets = self.orig_pkts.unsigned("orig_pkts")?.unwrap_or_default();
        record.destination_packets = self.resp_pkts.unsigned("resp_pkts")?.unwrap_or_default();
        // The responder refused the connection; Zeek knows nothing of firewalls.
        record.denied = self.conn_state.is("REJ");
        if let Some(id) = self.community_id.text() {
            let connection = Some(identity::of(id));
            record.annotations = Some(Box::new(Annotations { connection, ..Annotations::default() }));
        }
        Ok(record)
    }

    fn protocol(&self, source: IpAddr) -> Result<u8, Fault> {
        let number = match self.proto.text().and_then(protocol::number) {
            Some(number) => number,
            None => self.ip_proto.byte("ip_proto")?.unwrap_or_default(),
        };
        Ok(protocol::of_family(number, source))
    }
}

fn required<T>(value: Option<T>, column: &str) -> Result<T, Fault> {
    value.ok_or_else(|| Fault::new(Reason::BadLine, format!("{column} is absent")))
}

/// Bytes of layer 3 where Zeek counted them, else of the payload.
fn either(ip: &Scalar<'_>, ip_name: &str, payload: &Scalar<'_>, payload_name: &str) -> Result<u64, Fault> {
    match ip.unsigned(ip_name)? {
        Some(bytes) => Ok(bytes),
        None => Ok(payload.unsigned(payload_name)?.unwrap_or_default()),
    }
}
