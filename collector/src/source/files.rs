//! Files through the pipeline, merged by time.

use std::path::PathBuf;

use spikewatch_domain::record::EventMillis;

use crate::{
    fault::Fault,
    log::ecs::EcsOptions,
    metrics::Metrics,
    pipeline::{Flush, Pipeline},
    source::file::{Expected, FileError, Item, OpenFile, expand},
};

/// What became of one file.
#[derive(Debug)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// Items of use (packets, datagrams, lines).
    pub items: u64,
    /// What ended it early.
    pub error: Option<FileError>,
}

/// Reads all files to their ends, in the order of their items' times; `deliver` takes what is due and returns false to
/// stop. A file that breaks off ends there, and the others go on.
pub fn run(
    paths: &[PathBuf],
    expected: Expected,
    ecs: &EcsOptions,
    pipeline: &mut Pipeline,
    metrics: &Metrics,
    deliver: impl FnMut(&mut Pipeline, Option<Flush>) -> bool,
) -> Vec<FileReport> {
    resume(paths, 0, expected, ecs, pipeline, metrics, deliver)
}

/// As [`run`], but what was handed on before, up to a watermark, is not handed on again: the pipeline, which is a new one,
/// then knows what it knew.
pub(crate) fn resume(
    paths: &[PathBuf],
    handed_on: EventMillis,
    expected: Expected,
    ecs: &EcsOptions,
    pipeline: &mut Pipeline,
    metrics: &Metrics,
    mut deliver: impl FnMut(&mut Pipeline, Option<Flush>) -> bool,
) -> Vec<FileReport> {
    let mut reports = Vec::new();
    let mut lanes: Vec<Lane> = Vec::new();
    for path in expand(paths) {
        let report = reports.len();
        let name = path.as_ref().map_or_else(|_| String::new(), |path| path.display().to_string());
        reports.push(FileReport { name, items: 0, error: None });
        match path.and_then(|path| OpenFile::open(&path, expected, ecs, metrics)) {
            // Raw datagrams have no time of receipt, and templates go before data: such files form one lane, in order.
            Ok(file) if file.is_raw() => match lanes.iter_mut().find(|lane| lane.raw) {
                Some(lane) => lane.files.push((report, file)),
                None => lanes.push(Lane::of(report, file)),
            },
            Ok(file) => lanes.push(Lane::of(report, file)),
            Err(error) => reports[report].error = Some(error),
        }
    }
    lanes.retain_mut(|lane| lane.advance(&mut reports));
    let (mut faults, mut behind) = (Vec::new(), handed_on > 0);
    while let Some(index) = earliest(&lanes) {
        let lane = &mut lanes[index];
        let time = lane.current().time();
        let mut due = pipeline.advance(time);
        if behind {
            // The flush that promised this watermark came before this item.
            behind = time < handed_on;
            (due, _) = (None, (!behind).then(|| pipeline.so_far()));
        }
        feed(lane.current(), pipeline, &mut faults, metrics);
        if !deliver(pipeline, due) {
            return reports;
        }
        if !lane.advance(&mut reports) {
            lanes.remove(index);
        }
    }
    if behind {
        pipeline.so_far();
    }
    let last = pipeline.finish();
    deliver(pipeline, Some(last));
    reports
}

fn earliest(lanes: &[Lane]) -> Option<usize> {
    match lanes.len() {
        0 => None,
        1 => Some(0),
        _ => lanes.iter().enumerate().min_by_key(|(index, lane)| (lane.time, *index)).map(|(index, _)| index),
    }
}

fn feed(file: &mut OpenFile, pipeline: &mut Pipeline, faults: &mut Vec<Fault>, metrics: &Metrics) {
    let time = file.time();
    match file.item() {
        Item::Packet { link, original_length, data } => {
            if let Err(fault) = pipeline.packet(time, link, original_length, data) {
                file.fault(&fault);
            }
        }
        Item::Datagram { exporter, payload } => {
            Metrics::add(&metrics.counters().datagrams, 1);
            pipeline.datagram(exporter, time, payload, faults);
            faults.drain(..).for_each(|fault| file.fault(&fault));
        }
        Item::Records(records) => pipeline.records(records),
    }
}

/// Files that are read one after another; all lanes are merged by time.
struct Lane {
    files: Vec<(usize, OpenFile)>,
    at: usize,
    raw: bool,
    time: u64,
}

impl Lane {
    fn of(report: usize, file: OpenFile) -> Self {
        let raw = file.is_raw();
        Self { files: vec![(report, file)], at: 0, raw, time: 0 }
    }

    fn current(&mut self) -> &mut OpenFile {
        &mut self.files[self.at].1
    }

    /// Goes to the next item of this lane; false at its end.
    fn advance(&mut self, reports: &mut [FileReport]) -> bool {
        while let Some((report, file)) = self.files.get_mut(self.at) {
            match file.advance() {
                Ok(true) => {
                    reports[*report].items += 1;
                    self.time = file.time();
                    return true;
                }
                Ok(false) => {}
                Err(error) => reports[*report].error = Some(error),
            }
            self.at += 1;
        }
        false
    }
}

#[cfg(test)]
mod tests;
