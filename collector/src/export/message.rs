//! NetFlow v9 (RFC 3954) and IPFIX (RFC 7011) messages: headers, sets, templates.
//!
//! Both are a header and then sets, each with an id and a length. They differ in the header, in the ids of template sets (0 and
//! 1; 2 and 3), in how a template is written (IPFIX has enterprise fields and withdrawals), and in what is numbered
//! (datagrams; records).

use super::clock::ExportClock;
use super::cursor::Cursor;
use super::domain::{Domain, Origin};
use super::field::{self, Slot, Values};
use super::template::{MAX_FIELDS, TemplateBuilder, TemplateKind};
use crate::fault::{Decoded, Fault, Reason};

/// Length of a set's header.
const SET_HEADER: usize = 4;
/// The first id that a template may have.
const FIRST_TEMPLATE: u16 = 256;

/// Which of the two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    NetFlow9,
    Ipfix,
}

/// The header of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) dialect: Dialect,
    /// Length of the message with its header; only IPFIX tells.
    pub(super) length: Option<usize>,
    pub(super) uptime_ms: Option<u32>,
    /// Seconds since 1970.
    pub(super) export_seconds: u32,
    pub(super) sequence: u32,
    /// Source id or observation domain id.
    pub(super) domain: u32,
}

impl Header {
    /// Reads a NetFlow v9 header, of 20 bytes.
    pub(super) fn netflow9(from: &mut Cursor<'_>) -> Option<Self> {
        let [_version_and_count, uptime, export_seconds, sequence, domain] = words(from)?;
        Some(Self {
            dialect: Dialect::NetFlow9,
            length: None,
            uptime_ms: Some(uptime),
            export_seconds,
            sequence,
            domain,
        })
    }

    /// Reads an IPFIX header, of 16 bytes.
    pub(super) fn ipfix(from: &mut Cursor<'_>) -> Option<Self> {
        let [version_and_length, export_seconds, sequence, domain] = words(from)?;
        let length = usize::try_from(version_and_length & 0xffff).ok();
        Some(Self { dialect: Dialect::Ipfix, length, uptime_ms: None, export_seconds, sequence, domain })
    }

    /// The message's times. A header without a time gets that of its arrival.
    pub(super) fn clock(&self, received_ms: u64, init_ms: Option<u64>) -> ExportClock {
        let told = u64::from(self.export_seconds) * 1000;
        let export_ms = if told == 0 { received_ms } else { told };
        ExportClock { export_ms, uptime_ms: self.uptime_ms, init_ms }
    }
}

fn words<const N: usize>(from: &mut Cursor<'_>) -> Option<[u32; N]> {
    let mut words = [0; N];
    for word in &mut words {
        *word = from.u32()?;
    }
    Some(words)
}

/// Reads the sets that follow a header. Returns the number of data records, which IPFIX numbers; `None` if it can't be known.
pub(super) fn sets(
    mut from: Cursor<'_>,
    dialect: Dialect,
    domain: &mut Domain,
    origin: &Origin,
    values: &mut Values,
    out: &mut Decoded,
) -> Option<u32> {
    let mut records = Some(0_u32);
    // Some exporters send datagrams of one size, filled up with zeros.
    while from.rest().iter().any(|byte| *byte != 0) {
        let offset = from.offset();
        let (Some(id), Some(length)) = (from.u16(), from.u16()) else {
            let detail = format!("a set's header of 4 bytes expected, {} left, offset {offset}", from.rest().len());
            out.fault(Reason::Truncated, detail);
            return None;
        };
        let Some(length) = usize::from(length).checked_sub(SET_HEADER) else {
            let detail = format!("set {id} says that it has {length} bytes, less than its header, offset {offset}");
            out.fault(Reason::Malformed, detail);
            return None;
        };
        let left = from.rest().len();
        let truncated = length > left;
        if truncated {
            let detail = format!("set {id} says that {length} bytes follow, {left} do, offset {offset}");
            out.fault(Reason::Truncated, detail);
        }
        let set = from.part_or_rest(length);
        let found = match (dialect, id) {
            (Dialect::NetFlow9, 0) | (Dialect::Ipfix, 2) => templates(set, dialect, TemplateKind::Flows, domain, out),
            (Dialect::NetFlow9, 1) | (Dialect::Ipfix, 3) => templates(set, dialect, TemplateKind::Options, domain, out),
            (_, FIRST_TEMPLATE..) => domain.data_set(id, set, origin, values, out),
            _ => {
                let detail = format!("set {id} is neither of templates nor of data, offset {offset}");
                out.fault(Reason::Malformed, detail);
                None
            }
        };
        let found = if truncated { None } else { found };
        records = records.zip(found).map(|(records, found)| records.saturating_add(found));
    }
    records
}

/// Reads a set of templates, and skips what can't be used. Holds no data records.
fn templates(
    mut set: Cursor<'_>,
    dialect: Dialect,
    kind: TemplateKind,
    domain: &mut Domain,
    out: &mut Decoded,
) -> Option<u32> {
    while set.rest().len() >= 4 && set.rest().iter().any(|byte| *byte != 0) {
        let offset = set.offset();
        match template(&mut set, dialect, kind) {
            Ok(Definition { id, fields: None }) if (2..4).contains(&id) => domain.templates.withdraw_all(kind),
            Ok(Definition { id, fields: None }) => domain.templates.withdraw(id),
            Ok(Definition { id, fields: Some(fields) }) => match fields.finish(kind) {
                Some(template) => domain.define(id, template, offset, out),
                None => out.fault(
                    Reason::BadTemplate,
                    format!("records of template {id} have no length or an absurd one, offset {offset}"),
                ),
            },
            Err(fault) => {
                // Where the next template begins can't be known.
                out.faults.push(fault);
                break;
            }
        }
    }
    Some(0)
}

/// A template as sent; without fields it is withdrawn.
struct Definition {
    id: u16,
    fields: Option<TemplateBuilder>,
}

fn template(set: &mut Cursor<'_>, dialect: Dialect, kind: TemplateKind) -> Result<Definition, Fault> {
    let offset = set.offset();
    let truncated = |id: u16| {
        Fault::new(Reason::Truncated, format!("template {id} (0: unknown) ends after its set, offset {offset}"))
    };
    let id = set.u16().ok_or_else(|| truncated(0))?;
    let first = usize::from(set.u16().ok_or_else(|| truncated(id))?);
    if dialect == Dialect::Ipfix && first == 0 {
        return Ok(Definition { id, fields: None });
    }
    if id < FIRST_TEMPLATE {
        return Err(Fault::new(Reason::BadTemplate, format!("template id {id} is below 256, offset {offset}")));
    }
    // Number of fields, and how many of them, from the first on, are scope.
    let (count, scopes) = match (dialect, kind) {
        (_, TemplateKind::Flows) => (first, 0),
        (Dialect::Ipfix, TemplateKind::Options) => (first, usize::from(set.u16().ok_or_else(|| truncated(id))?)),
        (Dialect::NetFlow9, TemplateKind::Options) => {
            let options = usize::from(set.u16().ok_or_else(|| truncated(id))?);
            if first % 4 != 0 || options % 4 != 0 {
                let detail = format!(
                    "options template {id}: lengths {first} and {options} are no multiples of 4, offset {offset}"
                );
                return Err(Fault::new(Reason::BadTemplate, detail));
            }
            (first / 4 + options / 4, first / 4)
        }
    };
    if count == 0 || count > MAX_FIELDS {
        let detail = format!("template {id} has {count} fields, 1 to {MAX_FIELDS} expected, offset {offset}");
        return Err(Fault::new(Reason::BadTemplate, detail));
    }
    let mut fields = TemplateBuilder::new();
    for index in 0..count {
        let (slot, length) = field(set, dialect, index < scopes).ok_or_else(|| truncated(id))?;
        fields.field(slot, length);
    }
    Ok(Definition { id, fields: Some(fields) })
}

fn field(set: &mut Cursor<'_>, dialect: Dialect, is_scope: bool) -> Option<(Slot, u16)> {
    /// The bit of an IPFIX field that says that an enterprise number follows (RFC 7011 section 3.2).
    const ENTERPRISE: u16 = 0x8000;
    let (element, length) = (set.u16()?, set.u16()?);
    let slot = match dialect {
        Dialect::NetFlow9 if is_scope => field::netflow9_scope_slot(element),
        Dialect::NetFlow9 => field::netflow9_slot(element),
        Dialect::Ipfix if element & ENTERPRISE != 0 => field::ipfix_slot(set.u32()?, element & !ENTERPRISE),
        Dialect::Ipfix => field::ipfix_slot(0, element),
    };
    Some((slot, length))
}
