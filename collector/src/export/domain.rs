//! What is remembered of one exporter's observation domain, and how its data sets are read.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::clock::ExportClock;
use super::cursor::Cursor;
use super::field::{Slot, Values};
use super::flow;
use super::sampling::Sampling;
use super::sequence::Sequence;
use super::template::{Template, TemplateKind, Templates};
use crate::fault::{Decoded, Reason};

/// The state of one observation domain (NetFlow v9: source id; NetFlow v5: engine; sFlow: sub-agent).
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Domain {
    pub(super) templates: Templates,
    pub(super) sampling: Sampling,
    pub(super) sequence: Sequence,
    /// When the exporter started (ms since 1970), if its options data said so.
    pub(super) init_ms: Option<u64>,
}

/// Where a data set comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) exporter: IpAddr,
    pub(super) clock: ExportClock,
}

impl Domain {
    /// Nothing known yet.
    pub(super) fn new(max_templates: usize) -> Self {
        Self {
            templates: Templates::new(max_templates),
            sampling: Sampling::new(),
            sequence: Sequence::default(),
            init_ms: None,
        }
    }

    /// Defines or redefines a template; a fault if another had to make room.
    pub(super) fn define(&mut self, id: u16, template: Template, offset: usize, out: &mut Decoded) {
        if let Some(evicted) = self.templates.define(id, template) {
            let detail = format!("template {evicted} forgotten to make room for {id}, offset {offset}");
            out.fault(Reason::LimitReached, detail);
        }
    }

    /// Reads the records of a data set. Returns how many there are; `None` if that can't be known.
    pub(super) fn data_set(
        &mut self,
        id: u16,
        mut set: Cursor<'_>,
        origin: &Origin,
        values: &mut Values,
        out: &mut Decoded,
    ) -> Option<u32> {
        let Some(template) = self.templates.get(id) else {
            let (length, offset) = (set.rest().len(), set.offset());
            let detail = format!("{length} bytes of data of template {id}, which was never sent, offset {offset}");
            out.fault(Reason::UnknownTemplate, detail);
            return None;
        };
        let mut count = 0;
        // What is left, being shorter than a record, is padding.
        while set.rest().len() >= template.minimum() {
            let offset = set.offset();
            if template.read(&mut set, values).is_none() {
                let detail = format!("a record of template {id} ends after its set, offset {offset}");
                out.fault(Reason::Malformed, detail);
                return None;
            }
            count += 1;
            match template.kind() {
                TemplateKind::Flows => {
                    let ratio = self.sampling.of(values);
                    match flow::assemble(values, origin.exporter, &origin.clock, ratio) {
                        Ok(record) => out.records.push(record),
                        Err((reason, why)) => {
                            out.fault(reason, format!("{why} in a record of template {id}, offset {offset}"));
                        }
                    }
                }
                TemplateKind::Options => {
                    self.init_ms = values.positive(Slot::InitMillis).or(self.init_ms);
                    self.sampling.learn(values);
                    out.fault(Reason::NotFlow, format!("options data of template {id}, offset {offset}"));
                }
            }
        }
        Some(count)
    }
}
