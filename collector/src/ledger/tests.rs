use spikewatch_domain::record::Annotations;

use super::*;

fn record(report: Report, end: EventMillis, bytes: u64) -> FlowRecord {
    let mut record = FlowRecord::between("10.0.0.1".parse().unwrap(), "8.8.8.8".parse().unwrap(), 1_000, end);
    record.report = report;
    record.source_bytes = bytes;
    record.source_packets = bytes / 100;
    record
}

fn ledger() -> Ledger {
    Ledger::new(LedgerLimits::default())
}

fn sum(ledger: &mut Ledger, records: &[FlowRecord]) -> (u64, u64) {
    let entries = records.iter().filter_map(|record| ledger.enter(record));
    entries.fold((0, 0), |(events, bytes), entry| (events + entry.events, bytes + entry.source_bytes))
}

#[test]
fn a_connection_is_one_event_whether_its_opening_was_seen_or_not() {
    let (open, close) = (Report::Opened { flow: 7 }, Report::Closed { flow: 7 });
    assert_eq!(sum(&mut ledger(), &[record(open, 1_000, 0), record(close, 9_000, 500)]), (1, 500));
    assert_eq!(sum(&mut ledger(), &[record(close, 9_000, 500)]), (1, 500));
    let twice = [record(open, 1_000, 0), record(open, 1_000, 0), record(close, 9_000, 500), record(close, 9_500, 100)];
    assert_eq!(sum(&mut ledger(), &twice), (2, 600));
}

#[test]
fn totals_count_once_however_often_they_are_reported() {
    let report = |last| Report::Cumulative { flow: 3, last };
    let reports = [
        record(report(false), 10_000, 1_000),
        record(report(false), 20_000, 1_500),
        record(report(true), 30_000, 1_700),
        record(report(true), 30_000, 1_700),
    ];
    assert_eq!(sum(&mut ledger(), &reports), (1, 1_700));
    let mut ledger = ledger();
    ledger.enter(&reports[0]);
    let second = ledger.enter(&reports[1]).unwrap();
    assert_eq!((second.start, second.end), (10_000, 20_000), "a delta is spread over the time since the last report");
    let restarted = ledger.enter(&record(report(false), 40_000, 200)).unwrap();
    assert_eq!((restarted.events, restarted.source_bytes), (1, 200));
}

#[test]
fn a_flow_cut_by_time_outs_is_one_event() {
    let parts = [
        record(Report::Partial, 60_000, 10),
        record(Report::Partial, 120_000, 20),
        record(Report::Complete, 130_000, 5),
    ];
    let mut ledger = ledger();
    assert_eq!(sum(&mut ledger, &parts), (1, 35));
    assert_eq!(sum(&mut ledger, &[record(Report::Complete, 140_000, 7)]), (1, 7), "the next flow is a new event");
}

#[test]
fn parts_that_say_they_continue_leave_nothing_behind() {
    let mut ledger = ledger();
    let parts = [record(Report::Partial, 60_000, 10), record(Report::Continuation, 70_000, 5)];
    assert_eq!(sum(&mut ledger, &parts), (1, 15));
    assert_eq!(sum(&mut ledger, &[record(Report::Complete, 90_000, 1)]), (1, 1));
}

#[test]
fn of_two_sensors_the_first_is_believed() {
    let seen_by = |sensor, end| {
        let mut record = record(Report::Complete, end, 100);
        record.annotations = Some(Box::new(Annotations { connection: Some(42), sensor, ..Annotations::default() }));
        record
    };
    let mut ledger = ledger();
    assert_eq!(sum(&mut ledger, &[seen_by(1, 5_000), seen_by(2, 5_100), seen_by(1, 6_000)]), (2, 200));
    assert_eq!(ledger.duplicates(), 1);
    let much_later = 6_000 + MEMORY_MS + 1;
    assert_eq!(sum(&mut ledger, &[seen_by(2, much_later)]), (1, 100), "a silent sensor is not believed for ever");
}
