//! Contents of slices that are not committed, in memory: what a spool on disk holds, for collectors without one. All of
//! it is as durable as it will ever be at once.

use std::{collections::BTreeMap, ops::Range};

use spikewatch_domain::{key::Subject, record::EventMillis};
use spikewatch_proto::{
    convert::windows::{push, read},
    v1,
};

use super::core::{CutPart, Loss, Outgoing, SliceNo};
use crate::summarise::Slice;

/// Contents of one slice.
#[derive(Debug)]
pub(super) struct Contents {
    start: EventMillis,
    /// Rows of each shard, ascending.
    parts: Vec<(u32, Range<usize>)>,
    windows: v1::Windows,
    traceparent: String,
}

impl Contents {
    /// Writes a slice's rows in columns, and says what each shard has of it.
    pub(super) fn of(slice: &Slice, traceparent: &str) -> (Self, Vec<CutPart>) {
        let mut windows = v1::Windows::default();
        let mut parts: Vec<(u32, Range<usize>)> = Vec::new();
        let mut cut: Vec<CutPart> = Vec::new();
        for (row, (shard, subject, window)) in slice.rows.iter().enumerate() {
            push(&mut windows, None, subject, window, false);
            match parts.last_mut() {
                Some((last, rows)) if last == shard => rows.end = row + 1,
                _ => {
                    parts.push((*shard, row..row + 1));
                    cut.push(CutPart { shard: *shard, rows: 0, holds: Loss::default() });
                }
            }
            if let Some(part) = cut.last_mut() {
                part.rows += 1;
                // Each record counts once in its site's window.
                if *subject == Subject::Site {
                    let counters = &window.counters;
                    part.holds.add(Loss { events: counters.events, bytes: counters.bytes() });
                }
            }
        }
        let traceparent = traceparent.to_owned();
        (Self { start: slice.start, parts, windows, traceparent }, cut)
    }

    /// The message that carries some of its batches. `sent_ms` is the wall's clock.
    fn message(&self, batches: &[Outgoing], sent_ms: u64) -> v1::SliceBatches {
        let rows = |batch: &Outgoing| {
            let part = self.parts.binary_search_by_key(&batch.shard, |(shard, _)| *shard);
            part.ok().and_then(|at| self.parts.get(at)).map(|(_, rows)| rows.clone()).unwrap_or_default()
        };
        let ranges: Vec<_> = batches.iter().map(rows).collect();
        let windows = if batches.len() == self.parts.len() { self.windows.clone() } else { self.select(&ranges) };
        v1::SliceBatches {
            slice_start_ms: self.start,
            shard: batches.iter().map(|batch| batch.shard).collect(),
            seq: batches.iter().map(|batch| batch.seq).collect(),
            prev: batches.iter().map(|batch| batch.prev).collect(),
            rows: ranges.iter().map(|rows| rows.len() as u32).collect(),
            windows: Some(windows),
            traceparent: self.traceparent.clone(),
            sent_ms,
        }
    }

    fn select(&self, ranges: &[Range<usize>]) -> v1::Windows {
        let mut selected = v1::Windows::default();
        // What was written by `push` can be read; were it not so, sending nothing would be found out by its row counts.
        let rows = read(&self.windows).unwrap_or_default();
        for row in ranges.iter().filter_map(|range| rows.get(range.clone())).flatten() {
            push(&mut selected, None, &row.subject, &row.window, row.incomplete);
        }
        selected
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Memory(BTreeMap<SliceNo, Contents>);

impl Memory {
    /// Keeps a slice's contents.
    pub(super) fn keep(&mut self, slice_no: SliceNo, contents: Contents) {
        self.0.insert(slice_no, contents);
    }

    /// Forgets them.
    pub(super) fn forget(&mut self, slices: &[SliceNo]) {
        slices.iter().for_each(|slice_no| drop(self.0.remove(slice_no)));
    }

    /// The message that carries some batches of a slice, if it is kept.
    pub(super) fn message(&self, slice_no: SliceNo, batches: &[Outgoing], sent_ms: u64) -> Option<v1::SliceBatches> {
        self.0.get(&slice_no).map(|contents| contents.message(batches, sent_ms))
    }
}

#[cfg(test)]
mod tests {
    use spikewatch_domain::window::{Counters, Window};

    use super::*;

    fn window(events: u64) -> Window {
        Window { counters: Counters { events, ..Counters::default() }, ..Window::default() }
    }

    #[test]
    fn a_message_carries_the_rows_of_its_batches_only() {
        let row = |shard, subject, events| (shard, subject, window(events));
        let rows = vec![row(0, Subject::Asn(1), 1), row(0, Subject::Site, 5), row(3, Subject::Asn(2), 2)];
        let (contents, cut) = Contents::of(&Slice { start: 7, rows }, "t");
        let held: Vec<_> = cut.iter().map(|part| (part.shard, part.rows, part.holds.events)).collect();
        assert_eq!(held, [(0, 2, 5), (3, 1, 0)]);
        let mut memory = Memory::default();
        memory.keep(1, contents);
        let batch = |shard, seq| Outgoing { shard, seq, prev: seq - 1 };
        let whole = memory.message(1, &[batch(0, 4), batch(3, 9)], 1).unwrap();
        assert_eq!((whole.rows.as_slice(), read(&whole.windows.unwrap()).unwrap().len()), ([2, 1].as_slice(), 3));
        let part = memory.message(1, &[batch(3, 9)], 1).unwrap();
        let rows = read(&part.windows.unwrap()).unwrap();
        assert_eq!(rows.iter().map(|row| row.subject.clone()).collect::<Vec<_>>(), [Subject::Asn(2)]);
        assert_eq!((part.shard, part.seq, part.prev, part.rows), (vec![3], vec![9], vec![8], vec![1]));
        memory.forget(&[1]);
        assert_eq!(memory.message(1, &[batch(0, 4)], 1), None);
    }
}
