//! Contents of slices that are not committed, in memory: all of them for a collector without a spool, the newest (and what
//! was just read back) for one with a spool.

use std::{collections::BTreeMap, ops::Range};

use prost::Message as _;
use spikewatch_domain::{key::Subject, record::EventMillis};
use spikewatch_proto::{
    convert::windows::{push, read},
    v1,
};

use super::core::{CutPart, Loss, Outgoing, SliceNo};
use crate::summarise::Slice;

/// Contents of one slice.
#[derive(Debug)]
pub(crate) struct Contents {
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

    /// Its windows, as the spool keeps them.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.windows.encode_to_vec()
    }

    /// What [`Contents::encode`] made, with the rows of each shard, ascending.
    ///
    /// # Errors
    /// It is no windows, or not as many rows.
    pub(super) fn decode(
        start: EventMillis,
        shards: impl Iterator<Item = (u32, u32)>,
        payload: &[u8],
    ) -> Result<Self, String> {
        let windows = v1::Windows::decode(payload).map_err(|error| error.to_string())?;
        let (mut parts, mut end) = (Vec::new(), 0);
        for (shard, rows) in shards {
            let begin = end;
            end += rows as usize;
            parts.push((shard, begin..end));
        }
        if windows.events.len() != end {
            return Err(format!("it has {} rows, its batches {end}", windows.events.len()));
        }
        Ok(Self { start, parts, windows, traceparent: String::new() })
    }

    /// Bytes of memory, roughly: numbers take 8 here, and mostly 1 to 3 on the wire.
    pub(super) fn bytes(&self) -> usize {
        self.windows.encoded_len().saturating_mul(4)
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

/// Contents by slice; with a limit, the newest.
#[derive(Debug, Default)]
pub(super) struct Memory {
    slices: BTreeMap<SliceNo, (Contents, usize)>,
    bytes: usize,
    limit: Option<usize>,
}

impl Memory {
    /// One that forgets the oldest beyond that many bytes, but never what came last.
    pub(super) fn bounded(limit: usize) -> Self {
        Self { limit: Some(limit), ..Self::default() }
    }

    /// Keeps a slice's contents.
    pub(super) fn keep(&mut self, slice_no: SliceNo, contents: Contents) {
        let bytes = contents.bytes();
        self.forget(&[slice_no]);
        self.slices.insert(slice_no, (contents, bytes));
        self.bytes += bytes;
        while self.limit.is_some_and(|limit| self.bytes > limit)
            && let Some(oldest) = self.slices.keys().copied().find(|other| *other != slice_no)
        {
            self.forget(&[oldest]);
        }
    }

    /// Bytes of memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets them.
    pub(super) fn forget(&mut self, slices: &[SliceNo]) {
        for slice_no in slices {
            if let Some((_, bytes)) = self.slices.remove(slice_no) {
                self.bytes -= bytes;
            }
        }
    }

    /// The message that carries some batches of a slice, if it is kept.
    pub(super) fn message(&self, slice_no: SliceNo, batches: &[Outgoing], sent_ms: u64) -> Option<v1::SliceBatches> {
        self.slices.get(&slice_no).map(|(contents, _)| contents.message(batches, sent_ms))
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

    fn site(start: EventMillis, events: u64) -> Contents {
        Contents::of(&Slice { start, rows: vec![(2, Subject::Site, window(events))] }, "").0
    }

    #[test]
    fn what_is_read_back_is_what_was_written() {
        let contents = site(7, 5);
        let read = Contents::decode(7, [(2, 1)].into_iter(), &contents.encode()).unwrap();
        let batch = [Outgoing { shard: 2, seq: 1, prev: 0 }];
        assert_eq!(read.message(&batch, 1), contents.message(&batch, 1));
        assert!(Contents::decode(7, [(2, 2)].into_iter(), &contents.encode()).unwrap_err().contains("1 rows"));
        assert!(Contents::decode(7, [(2, 1)].into_iter(), b"no windows").is_err());
    }

    #[test]
    fn a_bounded_memory_has_the_newest_and_what_came_last() {
        let mut memory = Memory::bounded(site(0, 1).bytes() * 2);
        for slice_no in 5..9 {
            memory.keep(slice_no, site(slice_no, 1));
        }
        let kept = |memory: &Memory| memory.slices.keys().copied().collect::<Vec<_>>();
        assert_eq!(kept(&memory), [7, 8]);
        memory.keep(1, site(1, 1));
        assert_eq!(kept(&memory), [1, 8], "read back to be sent");
        memory.forget(&[1, 8]);
        assert_eq!(memory.bytes, 0);
    }
}
