//! Scoring a table, as a user of `spikewatch score` sees it.

use std::fmt::Write as _;
use std::io::Read;
use std::path::PathBuf;

use proptest::prelude::*;
use spikewatch_detector::baseline::table::{
    Function, Model, RowFault, RowProblem, TableError, TableOptions, TableSummary, score_table,
};

fn options(function: &str, bucket_span_s: Option<u32>) -> TableOptions {
    with_model(function, bucket_span_s, Model::Rich)
}

fn with_model(function: &str, bucket_span_s: Option<u32>, model: Model) -> TableOptions {
    TableOptions { function: Function::named(function).unwrap(), bucket_span_s, model }
}

const MODELS: [Model; 2] = [Model::Rich, Model::Compact];

fn score(input: &str, options: TableOptions) -> (Vec<Vec<String>>, Vec<RowFault>, Result<TableSummary, TableError>) {
    let (mut out, mut faults) = (Vec::new(), Vec::new());
    let result = score_table(input.as_bytes(), &mut out, options, |fault| faults.push(fault.clone()));
    let text = String::from_utf8(out).unwrap();
    let mut lines = text.lines();
    if let Some(header) = lines.next() {
        assert_eq!(header, "timestamp,series,value,score,probability,typical,lower,upper,multi_bucket_impact");
    }
    (lines.map(|line| line.split(',').map(str::to_owned).collect()).collect(), faults, result)
}

fn column(rows: &[Vec<String>], at: usize) -> Vec<f64> {
    rows.iter().map(|row| row[at].parse().unwrap_or(f64::NAN)).collect()
}

/// Three weeks of 15-minute values with a daily pattern and mild noise, one spike on day 17 and one dip on day 19.
fn weeks(scale: f64, offset: f64) -> String {
    let mut noise = 7u32;
    let mut text = String::new();
    for i in 0..96 * 21i64 {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let day = 1.5 - ((i % 96) as f64 / 48.0 - 1.0).abs();
        let mut value = day * (0.9 + f64::from(noise >> 16) / 65_536.0 * 0.2);
        match i {
            1682 => value *= 20.0,
            1872..1882 => value = 0.01,
            _ => {}
        }
        writeln!(text, "{},{}", 1_772_409_600 + 900 * i, offset + scale * value).unwrap();
    }
    text
}

#[test]
fn a_spike_scores_on_the_high_side_and_a_dip_on_the_low_side() {
    let input = weeks(1000.0, 0.0);
    let sides = [("high_mean", true, false), ("low_mean", false, true), ("mean", true, true)];
    for ((function, spike, dip), model) in sides.into_iter().flat_map(|side| MODELS.map(|model| (side, model))) {
        let (rows, faults, result) = score(&input, with_model(function, None, model));
        assert!(faults.is_empty());
        assert_eq!(result.unwrap(), TableSummary { rows: 2016, faults: 0, buckets: 2016, series: 1 });
        let scores = column(&rows, 3);
        assert_eq!(scores[1682] >= 75.0, spike, "{function}: {}", scores[1682]);
        let lowest = scores[1872..1882].iter().copied().fold(0.0, f64::max);
        assert_eq!(lowest >= 75.0, dip, "{function}: {lowest}");
        let least = if model == Model::Compact { 50.0 } else { 75.0 };
        let calm = scores[700..1682].iter().filter(|score| **score >= least).count();
        assert!(calm <= 2, "{model:?} {function}: {calm} of 982 calm rows score {least} or more");
    }
}

#[test]
fn typical_and_bounds_enclose_what_is_usual() {
    for model in MODELS {
        bounds_enclose(model);
    }
}

fn bounds_enclose(model: Model) {
    let (rows, _, _) = score(&weeks(1000.0, 0.0), with_model("high_mean", None, model));
    let (value, typical, lower, upper) = (column(&rows, 2), column(&rows, 5), column(&rows, 6), column(&rows, 7));
    let mut calm = 960..1680;
    let inside = calm.clone().filter(|&i| lower[i] <= value[i] && value[i] <= upper[i]).count();
    assert!(inside * 100 >= calm.len() * 90, "{inside} of {}", calm.len());
    assert!(calm.all(|i| (typical[i] / value[i] - 1.0).abs() < 0.5));
}

#[test]
fn the_unit_of_a_mean_does_not_matter() {
    for (model, scale) in MODELS.into_iter().flat_map(|model| [(model, 1e-9), (model, 1e6)]) {
        let reference = column(&score(&weeks(1.0, 0.0), with_model("mean", None, model)).0, 3);
        let scores = column(&score(&weeks(scale, 0.0), with_model("mean", None, model)).0, 3);
        for (i, (a, b)) in reference.iter().zip(&scores).enumerate() {
            assert!((a - b).abs() < 0.1, "row {i}, scale {scale}: {a} and {b}");
        }
    }
}

#[test]
fn negative_values_mirror_positive_ones() {
    for model in MODELS {
        mirrored(model);
    }
}

fn mirrored(model: Model) {
    let up = score(&weeks(1000.0, 0.0), with_model("high_mean", None, model)).0;
    let down = score(&weeks(-1000.0, 0.0), with_model("low_mean", None, model)).0;
    assert!(column(&down, 3)[1682] >= 75.0);
    // The part above zero is all zeros there, which is never a surprise.
    for (a, b) in column(&up, 5).iter().zip(column(&down, 5)) {
        assert!((a + b).abs() <= 1e-3 * a.abs().max(1.0), "typical {a} and {b}");
    }
}

#[test]
fn rows_come_out_as_they_went_in() {
    let input = "timestamp,value,series\n2026-03-02 00:00:00,5,b\n2026-03-02 00:00:00,,a\n2026-03-02T00:15:00Z,6,b\n\
                 1772411400,7,\"x,y\"\n";
    let (rows, faults, _) = score(input, options("mean", None));
    assert!(faults.is_empty());
    let starts: Vec<String> = rows.iter().map(|row| row[..3].join(",")).collect();
    assert_eq!(
        starts,
        ["2026-03-02 00:00:00,b,5", "2026-03-02 00:00:00,a,", "2026-03-02T00:15:00Z,b,6", "1772411400,\"x,y\""]
    );
    assert_eq!(rows[1][3..].join(","), "0,,,,,");
}

#[test]
fn buckets_of_interleaved_series() {
    let input = "2026-03-02T00:00:10Z,1,a\n2026-03-02T00:00:20Z,10,b\n2026-03-02T00:00:50Z,2,a\n\
                 2026-03-02T00:03:00Z,4,a\n";
    let values = |function: &str| {
        let (rows, _, result) = score(input, options(function, Some(60)));
        assert_eq!(result.unwrap().rows, 4);
        rows.iter().map(|row| format!("{} {}={}", &row[0][14..16], row[1], row[2])).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(values("count"), "00 a=2, 01 a=0, 02 a=0, 03 a=1, 00 b=1, 01 b=0, 02 b=0, 03 b=0");
    assert_eq!(values("high_sum"), "00 a=3, 01 a=0, 02 a=0, 03 a=4, 00 b=10, 01 b=0, 02 b=0, 03 b=0");
    assert_eq!(values("low_mean"), "00 a=1.5, 03 a=4, 00 b=10");
    assert_eq!(values("min"), "00 a=1, 03 a=4, 00 b=10");
    assert_eq!(values("high_max"), "00 a=2, 03 a=4, 00 b=10");
    assert_eq!(values("non_zero_count"), "00 a=2, 03 a=1, 00 b=1");
    assert_eq!(values("distinct_count"), values("count"));
}

#[test]
fn different_values_may_be_any_text() {
    let input = "0,10.0.0.1,a\n1,10.0.0.2,a\n2,10.0.0.1,a\n3,,a\n120,x,a\n";
    let (rows, faults, _) = score(input, options("high_distinct_count", Some(60)));
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(column(&rows, 2), [2.0, 0.0, 1.0]);
    let (_, faults, _) = score(input, options("high_distinct_count", None));
    assert_eq!(faults.len(), 4, "without buckets a row is a count, so a number");
}

#[test]
fn zeros_of_a_non_zero_count_are_missing() {
    let (rows, faults, _) = score("0,5\n60,0\n120,7\n", options("non_zero_count", None));
    assert!(faults.is_empty());
    assert_eq!(rows[1][2..].join(","), ",0,,,,,");
}

#[test]
fn more_series_than_fit_are_refused() {
    assert!(Model::Rich.most_series() < Model::Compact.most_series());
    let mut input = String::new();
    for i in 0..=Model::Rich.most_series() {
        writeln!(input, "0,,{i}").unwrap();
    }
    let error = score(&input, options("mean", None)).2.unwrap_err();
    assert!(matches!(error, TableError::TooManySeries { line: 100_001, most: 100_000 }), "{error}");
}

#[test]
fn each_fault_names_its_line_and_loses_nothing_else() {
    let mut input = b"timestamp,value\n0,1\nyesterday,2\n60,many\n120\n120,3\n\n\xff\xfe,1\n60,9\n".to_vec();
    input.extend(vec![b'9'; 100_000]);
    input.extend(b"\n180,4");
    let (mut out, mut faults) = (Vec::new(), Vec::new());
    let summary = score_table(input.as_slice(), &mut out, options("mean", None), |f| faults.push(f.clone())).unwrap();
    let lines: Vec<u64> = faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [3, 4, 5, 8, 9, 10]);
    assert_eq!(faults[1].to_string(), "line 4: value `many` is no finite number");
    assert_eq!(faults[4].problem, RowProblem::BackInTime);
    assert_eq!(summary, TableSummary { rows: 4, faults: 6, buckets: 4, series: 1 });
}

#[test]
fn nothing_usable_is_an_error() {
    for input in ["", "timestamp,value\n", "a,b\nc,d\n"] {
        assert!(matches!(score(input, options("mean", None)).2, Err(TableError::NoUsableRow)), "{input:?}");
    }
}

#[test]
fn what_came_in_is_answered_before_more_is_waited_for() {
    /// Gives one row at a time, and checks that the row before it was answered.
    struct Slow<'a>(usize, &'a std::cell::RefCell<Vec<u8>>);
    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let answered = self.1.borrow().iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(answered, if self.0 == 0 { 0 } else { self.0 + 1 });
            self.0 += 1;
            let row = format!("{},5\n", self.0 * 60);
            let length = if self.0 > 20 { 0 } else { row.len() };
            buffer[..length].copy_from_slice(&row.as_bytes()[..length]);
            Ok(length)
        }
    }
    struct Shared<'a>(&'a std::cell::RefCell<Vec<u8>>);
    impl std::io::Write for Shared<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let out = std::cell::RefCell::new(Vec::new());
    score_table(Slow(0, &out), Shared(&out), options("mean", None), |_| {}).unwrap();
}

#[test]
fn public_series_are_scored_whole() {
    let data = std::env::var_os("SPIKEWATCH_TEST_DATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")), PathBuf::from);
    let folders = ["donut-kpi", "nab/data/realTraffic", "nab/data/realAWSCloudwatch", "nab/data/artificialWithAnomaly"];
    let files: Vec<PathBuf> = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(data.join(folder)).ok())
        .flat_map(|folder| folder.flatten().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "csv"))
        .collect();
    if files.is_empty() {
        println!("skipped: real series not found at {}", data.display());
        return;
    }
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (rows, faults, _) = score(&text, options("mean", None));
        assert!(faults.is_empty(), "{}: {:?}", file.display(), faults.first());
        assert_eq!(rows.len(), text.lines().count() - 1, "{}", file.display());
        let (scores, lower, typical, upper) = (column(&rows, 3), column(&rows, 6), column(&rows, 5), column(&rows, 7));
        assert!(scores.iter().all(|score| (0.0..=100.0).contains(score)), "{}", file.display());
        assert!((0..rows.len()).all(|i| lower[i] <= typical[i] && typical[i] <= upper[i]), "{}", file.display());
        let high = scores.iter().filter(|score| **score >= 75.0).count();
        println!("{:>6} rows, {high:>4} at 75 or more: {}", rows.len(), file.display());
        assert!(high * 20 < rows.len(), "{}: {high} of {} rows at 75 or more", file.display(), rows.len());
    }
}

proptest! {
    #[test]
    fn any_text_is_scored_or_refused(
        text in "([0-9]{1,12}|[a-z ]{0,4}|2026-0[1-9]-0[1-9])(,[-0-9.e]{0,8}(,[a-c\"]{0,2})?)?(\n|.{0,3})",
        repeat in 1usize..5,
        span in prop_oneof![Just(None), (1u32..100_000).prop_map(Some)],
        function in prop::sample::select(Function::NAMES.to_vec()),
        model in prop::sample::select(MODELS.to_vec()),
    ) {
        let (rows, _, _) = score(&text.repeat(repeat), with_model(function, span, model));
        prop_assert!(column(&rows, 3).iter().all(|score| score.is_nan() || (0.0..=100.0).contains(score)));
    }
}
