//! Templates of NetFlow v9 and IPFIX, compiled when they arrive: of a record only the fields that we use are looked at.

use serde::{Deserialize, Serialize};

use super::bounded::{Bounded, Displaced};
use super::cursor::Cursor;
use super::field::{Slot, Values};

/// Most fields that a template may have.
pub(super) const MAX_FIELDS: usize = 1024;

/// The length that stands for "told in the record" (RFC 7011 section 7).
const VARIABLE: u16 = u16::MAX;

/// What the records of a template are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub(super) enum TemplateKind {
    /// Flow records.
    Flows,
    /// Options: properties of the exporter, such as its sampling.
    Options,
}

/// One step in reading a record: a value of `length` bytes for `slot`, at `offset` if the template is of fixed length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
struct Step {
    slot: Slot,
    offset: u16,
    length: u16,
}

/// A compiled template.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Template {
    kind: TemplateKind,
    steps: Box<[Step]>,
    /// Length of a record, or the least it can have if `variable`.
    length: usize,
    variable: bool,
}

impl Template {
    /// What its records are.
    pub(super) fn kind(&self) -> TemplateKind {
        self.kind
    }

    /// The least number of bytes that a record has; never 0.
    pub(super) fn minimum(&self) -> usize {
        self.length
    }

    /// Reads one record into `values`. `None` if the record ends too early, which moves `from` to nowhere useful.
    #[inline]
    pub(super) fn read(&self, from: &mut Cursor<'_>, values: &mut Values) -> Option<()> {
        values.clear();
        if self.variable {
            return self.read_variable(from, values);
        }
        let record = from.part(self.length)?.rest();
        for step in &self.steps {
            let at = usize::from(step.offset);
            values.set(step.slot, record.get(at..at + usize::from(step.length))?);
        }
        Some(())
    }

    fn read_variable(&self, from: &mut Cursor<'_>, values: &mut Values) -> Option<()> {
        for step in &self.steps {
            let length = match step.length {
                VARIABLE => match from.u8()? {
                    u8::MAX => from.u16()?,
                    short => u16::from(short),
                },
                fixed => fixed,
            };
            let value = from.part(usize::from(length))?;
            if step.slot.accepts(length) {
                values.set(step.slot, value.rest());
            }
        }
        Some(())
    }
}

/// Compiles a template from its fields, in their order.
#[derive(Debug)]
pub(super) struct TemplateBuilder {
    steps: Vec<Step>,
    length: usize,
    variable: bool,
    taken: u64,
}

impl TemplateBuilder {
    /// No fields yet.
    pub(super) fn new() -> Self {
        Self { steps: Vec::new(), length: 0, variable: false, taken: 0 }
    }

    /// The next field. Of fields that repeat, the first counts: it is the outermost or the first that was observed (RFC 7011 section 8).
    pub(super) fn field(&mut self, slot: Slot, length: u16) {
        let offset = u16::try_from(self.length).unwrap_or(u16::MAX);
        if length == VARIABLE {
            self.variable = true;
            self.length += 1;
            self.steps.push(Step { slot: Slot::Ignored, offset, length });
            return;
        }
        self.length += usize::from(length);
        let wanted = slot.accepts(length) && self.taken & slot.bit() == 0;
        let slot = if wanted { slot } else { Slot::Ignored };
        self.taken |= if wanted { slot.bit() } else { 0 };
        self.steps.push(Step { slot, offset, length });
    }

    /// The template; `None` if its records would be empty or longer than a datagram can be.
    pub(super) fn finish(mut self, kind: TemplateKind) -> Option<Template> {
        if self.length == 0 || self.length > usize::from(u16::MAX) {
            return None;
        }
        if self.variable {
            self.join_ignored();
        } else {
            self.steps.retain(|step| step.slot != Slot::Ignored);
        }
        Some(Template { kind, steps: self.steps.into(), length: self.length, variable: self.variable })
    }

    /// Makes one step of several fixed-length ones that are skipped.
    fn join_ignored(&mut self) {
        self.steps.dedup_by(|next, step| {
            let skipped = |step: &Step| step.slot == Slot::Ignored && step.length != VARIABLE;
            let joined = u32::from(step.length) + u32::from(next.length);
            match u16::try_from(joined) {
                Ok(length) if length != VARIABLE && skipped(step) && skipped(next) => {
                    step.length = length;
                    true
                }
                _ => false,
            }
        });
    }
}

/// The templates of one exporter and observation domain.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Templates {
    templates: Bounded<u16, Template>,
    steps: usize,
}

impl Templates {
    /// None yet, and never more than `limit`.
    pub(super) fn new(limit: usize) -> Self {
        Self { templates: Bounded::new(limit), steps: 0 }
    }

    /// The template, which counts as used.
    pub(super) fn get(&mut self, id: u16) -> Option<&Template> {
        self.templates.get_mut(&id).map(|template| &*template)
    }

    /// Defines or redefines. Returns the id of the template that made room, if the limit was reached.
    pub(super) fn define(&mut self, id: u16, template: Template) -> Option<u16> {
        self.steps += template.steps.len();
        match self.templates.insert(id, template) {
            Displaced::Nothing => None,
            Displaced::Replaced(old) => {
                self.steps -= old.steps.len();
                None
            }
            Displaced::Evicted(id, old) => {
                self.steps -= old.steps.len();
                Some(id)
            }
        }
    }

    /// Withdraws one template (RFC 7011 section 8.1).
    pub(super) fn withdraw(&mut self, id: u16) {
        if let Some(old) = self.templates.remove(&id) {
            self.steps -= old.steps.len();
        }
    }

    /// Withdraws all templates of a kind.
    pub(super) fn withdraw_all(&mut self, kind: TemplateKind) {
        let mut left = 0;
        self.templates.retain(|template| {
            let keep = template.kind != kind;
            left += if keep { template.steps.len() } else { 0 };
            keep
        });
        self.steps = left;
    }

    /// Number of templates.
    pub(super) fn len(&self) -> usize {
        self.templates.len()
    }

    /// Steps of all templates together: a measure of their memory.
    pub(super) fn steps(&self) -> usize {
        self.steps
    }
}
