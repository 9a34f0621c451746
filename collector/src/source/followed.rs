//! What is known of files that are followed, on the side of the pipeline: their decoders and positions, as of the records
//! that went through it. So both are always of the same instant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spikewatch_domain::record::EventMillis;

use super::{
    file::Expected,
    follow::{Chunk, position::Position},
    lines::{Known, LineDecoder, MAX_LINE},
};
use crate::{
    fault::{Decoded, Fault, Reason},
    log::ecs::EcsOptions,
    metrics::Metrics,
    pipeline::Pipeline,
};

/// A file as it is saved.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct SavedFile {
    position: Position,
    expected: Expected,
    known: Option<Known>,
}

#[derive(Debug)]
struct OneFile {
    position: Position,
    expected: Expected,
    decoder: Option<LineDecoder>,
    /// Of its newest record, while there is more to read.
    behind: Option<EventMillis>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Followed {
    ecs: EcsOptions,
    files: BTreeMap<u64, OneFile>,
    /// When all was read that had been written by then.
    caught_up: EventMillis,
}

impl Followed {
    /// Files as they were saved.
    pub(crate) fn new(ecs: EcsOptions, saved: Vec<SavedFile>) -> Self {
        let file = |SavedFile { position, expected, known }| OneFile {
            decoder: known.map(|known| LineDecoder::from_known(&known, &ecs)),
            position,
            expected,
            behind: None,
        };
        let files = (0..).zip(saved.into_iter().map(file)).collect();
        Self { ecs, files, caught_up: 0 }
    }

    /// Files, numbered.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (u64, Expected, &Position)> {
        self.files.iter().map(|(number, file)| (*number, file.expected, &file.position))
    }

    /// To be saved.
    pub(crate) fn save(&self) -> Vec<SavedFile> {
        let saved = |file: &OneFile| SavedFile {
            position: file.position.clone(),
            expected: file.expected,
            known: file.decoder.as_ref().map(LineDecoder::known),
        };
        self.files.values().map(saved).collect()
    }

    /// Up to when all is read, with the clock at `now_ms`.
    pub(crate) fn reached(&self) -> EventMillis {
        self.files.values().filter_map(|file| file.behind).min().unwrap_or(self.caught_up)
    }

    /// All files are read up to now.
    pub(crate) fn catch_up(&mut self, at_ms: EventMillis) {
        self.caught_up = self.caught_up.max(at_ms);
        self.files.values_mut().for_each(|file| file.behind = None);
    }

    /// This file will not be heard of again.
    pub(crate) fn forget(&mut self, number: u64) {
        self.files.remove(&number);
    }

    /// Lines through the pipeline.
    pub(crate) fn take(&mut self, chunk: Chunk, now_ms: EventMillis, pipeline: &mut Pipeline, metrics: &Metrics) {
        let Chunk { number, expected, lines, position, more, copy_of, too_long } = chunk;
        let name = position.path.display().to_string();
        let original = copy_of.and_then(|of| self.files.get(&of)).and_then(|file| file.decoder.as_ref());
        let original = original.map(|decoder| LineDecoder::from_known(&decoder.known(), &self.ecs));
        let file = self.files.entry(number).or_insert_with(|| OneFile {
            position: Position::start(position.id, position.path.clone()),
            expected,
            decoder: None,
            behind: None,
        });
        let mut offset = position.offset.saturating_sub(lines.len() as u64);
        if too_long {
            let fault = Fault::new(Reason::BadLine, format!("a line longer than {MAX_LINE} bytes"));
            metrics.fault(&name, || format!("before offset {offset}"), &fault);
        }
        if copy_of.is_some() {
            file.decoder = original;
        } else if offset == 0 {
            // It begins anew.
            file.decoder = None;
        }
        file.position = position;
        if file.decoder.is_none() && !lines.trim_ascii().is_empty() {
            match LineDecoder::of(expected, &lines, &self.ecs) {
                Ok(decoder) => file.decoder = Some(decoder),
                Err(error) => {
                    let fault = Fault::new(Reason::UnknownFormat, error.to_string());
                    metrics.fault(&name, || format!("offset {offset}"), &fault);
                }
            }
        }
        let Some(decoder) = &mut file.decoder else { return };
        let mut decoded = Decoded::default();
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            Metrics::add(&metrics.counters().lines, 1);
            decoder.decode(line, &mut decoded);
            for fault in decoded.faults.drain(..) {
                metrics.fault(&name, || format!("offset {offset}"), &fault);
            }
            offset += line.len() as u64;
        }
        let newest = decoded.records.iter().map(|record| record.end).max();
        // Where no line tells a time, what was known of it holds.
        file.behind = more.then(|| newest.unwrap_or(0).max(file.behind.unwrap_or(0)).min(now_ms));
        Metrics::add(&metrics.counters().bytes_read, lines.len() as u64);
        pipeline.lines(&mut decoded.records, now_ms, |fault| {
            metrics.fault(&name, || format!("before offset {offset}"), &fault)
        });
    }
}
