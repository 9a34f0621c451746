//! A CSV of values: every row is scored or told as a fault, and every line of output has its nine columns.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spikewatch_detector::baseline::table::{Function, Model, TableError, TableOptions, score_table};

fuzz_target!(|data: &[u8]| {
    // The first byte says how, the rest is the table.
    let Some((&how, table)) = data.split_first() else { return };
    let names = Function::NAMES;
    let function = Function::named(names[usize::from(how) % names.len()]).expect("a function");
    let bucket_span_s = [None, Some(1), Some(900), Some(86_400)][usize::from(how) / names.len() % 4];
    let (mut out, mut faults) = (Vec::new(), 0u64);
    let model = [Model::Rich, Model::Compact][table.len() % 2];
    let options = TableOptions { function, bucket_span_s, model };
    match score_table(table, &mut out, options, |_| faults += 1) {
        Ok(summary) => {
            assert_eq!(summary.faults, faults);
            let text = String::from_utf8(out).expect("output is text");
            let scored = text.lines().skip(1).count() as u64;
            assert_eq!(scored, summary.buckets);
        }
        Err(TableError::NoUsableRow) => {}
        Err(error) => panic!("{error}"),
    }
});
