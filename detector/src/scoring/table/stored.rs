//! What a table has learnt, as its snapshot has it, and back.

use std::ops::Range;

use super::{
    super::{
        joint::Joint,
        judge::Judge,
        model::Model,
        rare::Rare,
        series::Known,
        state::{StoredKey, TableState, Unreadable},
    },
    Table,
};

impl Table {
    /// What its jobs have learnt, and how many keys there are.
    pub(in super::super) fn stored(&self) -> TableState {
        let judges = self.judges.iter().map(Judge::stored).collect();
        let joint = self.joint.as_ref().map(Joint::stored);
        let rare = self.rare.iter().map(Rare::stored).collect();
        TableState { day: self.day, keys: self.series.len() as u64, judges, joint, rare }
    }

    /// Gives these keys and their models as bytes.
    pub(in super::super) fn store_keys(&self, keys: Range<usize>, mut put: impl FnMut(&Known, &[u8])) {
        for (known, _, models) in keys.map_while(|number| self.series.get(number)) {
            let bytes: Vec<u8> = models.iter().flat_map(Model::to_bytes).collect();
            put(known, &bytes);
        }
    }

    /// Takes back what [`stored`](Self::stored) gave; the keys follow.
    pub(in super::super) fn restore(&mut self, state: &TableState) -> Result<(), Unreadable> {
        if state.judges.len() != self.judges.len() || state.rare.len() != self.rare.len() {
            return Err(Unreadable::because("it is of other jobs"));
        }
        for (judge, state) in self.judges.iter_mut().zip(&state.judges) {
            judge.restore(state)?;
        }
        for (rare, state) in self.rare.iter_mut().zip(&state.rare) {
            rare.restore(state)?;
        }
        if let Some(joint) = &mut self.joint {
            joint.restore(state.joint.as_ref())?;
        }
        (self.day, self.promised) = (state.day, usize::try_from(state.keys).map_err(Unreadable::because)?);
        Ok(())
    }

    /// Takes back one key, in the order in which they were given.
    pub(in super::super) fn restore_key(&mut self, key: StoredKey<'_>) -> Result<(), Unreadable> {
        let (mut models, mut rest) = (Vec::with_capacity(self.judges.len()), key.models);
        for choice in self.judges.iter().map(|judge| judge.job.model) {
            let (bytes, after) = rest.split_at_checked(Model::stored_bytes(choice)).unwrap_or((rest, &[]));
            models.push(Model::from_bytes(choice, bytes)?);
            rest = after;
        }
        let known = self.series.find(key.known.site, &key.known.subject).is_some();
        if !rest.is_empty() || known || self.series.len() >= self.promised {
            return Err(Unreadable::because("a key is there twice, or has not one model for each job"));
        }
        if key.known.host.is_some() != self.joint.is_some() {
            return Err(Unreadable::because("what joint jobs keep of a key is missing, or there are no such jobs"));
        }
        self.series.add(key.known, &models);
        Ok(())
    }

    /// True unless keys have been promised that did not come.
    pub(in super::super) fn is_whole(&self) -> bool {
        self.promised <= self.series.len()
    }
}
