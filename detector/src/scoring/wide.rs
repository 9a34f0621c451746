//! Jobs whose buckets are several base buckets long: windows are merged by key until the last part of a bucket is
//! there, or one after it; then it is scored as any other.
//!
//! What comes late for a base bucket that was scored already doesn't enter the wider one: the log has it in another
//! place, and a restart would not find it at the same moment.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use spikewatch_domain::{
    key::{SiteName, Subject},
    record::EventMillis,
    span::Span,
    window::Window,
};
use spikewatch_proto::{convert::windows, v1};

use super::{
    Bucket, Row, Scored, Scoring,
    bound::Bounds,
    room,
    state::{OpenState, Unreadable},
};
use crate::job::{Job, Split};

/// Keys of one stored part.
const KEYS: usize = 2048;

/// See the module.
#[derive(Debug)]
pub(super) struct Wide {
    pub(super) scoring: Scoring,
    /// Most keys of an open bucket.
    most: usize,
    open: Option<Open>,
    /// A bucket was open before: another one that begins in its middle has lost nothing.
    begun: bool,
    /// Keys of the open bucket that a snapshot has, while it is taken back.
    promised: u64,
}

/// A bucket of which parts are still to come.
#[derive(Debug, Default)]
struct Open {
    start: EventMillis,
    /// What came before the first part is not known.
    partial: bool,
    windows: BTreeMap<(SiteName, Subject), (Window, bool)>,
    missing: BTreeSet<SiteName>,
}

impl Wide {
    /// One half of the memory is for baselines, the other for windows of the open bucket.
    pub(super) fn new(jobs: &[Job], span: Span, memory: u64) -> Self {
        let (scoring, most) = (Scoring::new(jobs, span, memory / 2), room::keys(memory / 2, 0));
        Self { scoring, most, open: None, begun: false, promised: 0 }
    }

    /// Takes a base bucket, whose rows are ordered by key, and adds what the buckets that it ends say.
    pub(super) fn take(
        &mut self,
        (start, end): (EventMillis, EventMillis),
        rows: &[Row],
        missing: &BTreeSet<SiteName>,
        bounds: &Bounds,
        scored: &mut Scored,
    ) {
        let span = self.scoring.span();
        let own = span.floor(start);
        if self.open.as_ref().is_some_and(|open| open.start != own) {
            self.close(bounds, scored);
        }
        let partial = !self.begun && start != own;
        self.begun = true;
        let open = self.open.get_or_insert_with(|| Open { start: own, partial, ..Open::default() });
        open.missing.extend(missing.iter().cloned());
        let wanted = |subject: &Subject| {
            matches!(subject, Subject::Site | Subject::Overflow)
                || self
                    .scoring
                    .tables
                    .iter()
                    .any(|table| table.split() != Split::Global && table.split().takes(subject))
        };
        for row in rows.iter().filter(|row| wanted(&row.subject)) {
            let key = (row.site.clone(), row.subject.clone());
            if row.subject == Subject::Site || open.windows.len() < self.most || open.windows.contains_key(&key) {
                open.add(key, &row.window, row.incomplete);
            } else {
                // So that its absence is not taken for silence.
                open.windows.entry((key.0, Subject::Overflow)).or_default();
                scored.not_modelled += 1;
            }
        }
        if end >= span.end(own) {
            self.close(bounds, scored);
        }
    }

    fn close(&mut self, bounds: &Bounds, scored: &mut Scored) {
        let Some(Open { start, partial, windows, mut missing }) = self.open.take() else { return };
        if partial {
            missing.extend(windows.keys().map(|(site, _)| site.clone()));
        }
        let row = |((site, subject), (window, incomplete))| Row { site, subject, window, incomplete };
        let rows = windows.into_iter().map(row).collect();
        let Scored { records, cut, not_modelled, shed } =
            self.scoring.score_within(Bucket { start, rows, missing }, bounds);
        scored.records.extend(records);
        scored.cut += cut;
        scored.not_modelled += not_modelled;
        scored.shed += shed;
    }

    /// What is open, but for its windows, and how many these are.
    pub(super) fn stored(&self) -> OpenState {
        let open = self.open.as_ref();
        OpenState {
            begun: self.begun,
            start: open.map(|open| open.start),
            partial: open.is_some_and(|open| open.partial),
            missing: open.iter().flat_map(|open| &open.missing).map(ToString::to_string).collect(),
            keys: open.map_or(0, |open| open.windows.len() as u64),
        }
    }

    /// The windows of what is open, in parts.
    pub(super) fn stored_windows(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        let keys = self.open.as_ref().map_or(0, |open| open.windows.len());
        (0..keys).step_by(KEYS).map(|first| {
            let mut message = v1::Windows::default();
            let own = self.open.iter().flat_map(|open| &open.windows).skip(first).take(KEYS);
            for ((site, subject), (window, incomplete)) in own {
                if message.sites.last().is_none_or(|last| last != site.as_str()) {
                    message.sites.push(site.as_str().to_owned());
                }
                let index = message.sites.len() as u32 - 1;
                windows::push(&mut message, Some(index), subject, window, *incomplete);
            }
            message.encode_to_vec()
        })
    }

    /// Takes back what [`stored`](Self::stored) gave; the windows follow.
    pub(super) fn restore(&mut self, state: &OpenState) -> Result<(), Unreadable> {
        let missing = state.missing.iter().map(|site| site.parse().map_err(Unreadable::because));
        let missing = missing.collect::<Result<_, _>>()?;
        let (partial, windows) = (state.partial, BTreeMap::new());
        self.open = state.start.map(|start| Open { start, partial, windows, missing });
        (self.begun, self.promised) = (state.begun, state.keys);
        Ok(())
    }

    /// Takes back some windows.
    pub(super) fn restore_windows(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        let message = v1::Windows::decode(bytes).map_err(Unreadable::because)?;
        let open = self.open.as_mut().ok_or_else(|| Unreadable::because("no bucket is open"))?;
        for windows::Row { site, subject, window, incomplete } in
            windows::read(&message).map_err(Unreadable::because)?
        {
            let site = site.ok_or_else(|| Unreadable::because("a window names no site"))?;
            open.add((site, subject), &window, incomplete);
        }
        Ok(())
    }

    /// True unless windows have been promised that did not come.
    pub(super) fn is_whole(&self) -> bool {
        let found = self.open.as_ref().map_or(0, |open| open.windows.len() as u64);
        self.promised <= found && self.scoring.is_whole()
    }
}

impl Open {
    fn add(&mut self, key: (SiteName, Subject), window: &Window, incomplete: bool) {
        let (own, doubt) = self.windows.entry(key).or_default();
        own.merge(window);
        *doubt |= incomplete;
    }
}
