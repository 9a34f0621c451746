//! Custom rules of jobs, from their TOML to what is told and learnt.

use super::*;

/// Two weeks, and ten hours, so that there is traffic to miss.
const GROWN: u64 = 96 * 14 + 40;

fn job(rules: &str) -> Scoring {
    let text =
        "[[job]]\nid = \"j\"\nmeasure = \"events\"\nfunction = \"count\"\nsplit = \"host\"\nminimum_effect = 1\n";
    let mut scoring = Scoring::new(&Job::from_toml(&format!("{text}{rules}")).unwrap(), Span::QUARTER_HOUR, 64 << 20);
    run(&mut scoring, 0..GROWN);
    scoring
}

/// Hosts that are told of in a bucket in which host 2 is far too busy, host 3 more so, and host 4 is silent.
fn told(scoring: &mut Scoring, at: u64) -> BTreeSet<String> {
    let mut now = bucket(at, |n| match n {
        2 => 40_000,
        3 => 90_000,
        n => usual(at, n),
    });
    now.rows.retain(|row| row.subject != host(4));
    let records = scoring.score(now).records;
    records.into_iter().filter(|record| record.record_score >= 50.0).map(|record| record.value).collect()
}

fn names(hosts: &[u8]) -> BTreeSet<String> {
    hosts.iter().map(|number| format!("10.0.0.{number}")).collect()
}

#[test]
fn results_are_skipped_where_all_conditions_hold_for_series_of_the_scope() {
    let at = GROWN;
    assert_eq!(told(&mut job(""), at), names(&[2, 3, 4]));
    let rule = |text: &str| format!("[[job.rules]]\n{text}\n");
    let condition = |on: &str, operator: &str, value: &str| {
        format!("conditions = [{{ applies_to = \"{on}\", operator = \"{operator}\", value = {value} }}]")
    };
    for (text, left) in [
        (condition("actual", "lt", "50000"), &[3][..]),
        (condition("typical", "gt", "1"), &[]),
        (condition("diff_from_typical", "gte", "10000"), &[4]),
        (condition("time", "lt", "1"), &[2, 3, 4]),
        (condition("time", "gte", "1"), &[]),
        ("scope = { include = [\"10.0.0.2/31\"] }".into(), &[4]),
        (format!("{}\nscope = {{ exclude = [\"10.0.0.2\"] }}", condition("actual", "gt", "0")), &[2, 4]),
        ("scope = { sites = [\"b\"] }".into(), &[2, 3, 4]),
    ] {
        assert_eq!(told(&mut job(&rule(&text)), at), names(left), "{text}");
    }
    let two =
        [condition("actual", "lt", "1"), "scope = { include = [\"*.2\"] }".into()].map(|text| rule(&text)).concat();
    assert_eq!(told(&mut job(&two), at), names(&[3]), "each rule by itself");
}

#[test]
fn what_is_not_to_be_learnt_leaves_no_trace() {
    let rule = "[[job.rules]]\nactions = [\"skip_model_update\"]\nscope = { include = [\"10.0.0.3\", \"10.0.0.4\"] }\n\
                conditions = [{ applies_to = \"time\", operator = \"gte\", value = 1246500 }]\n";
    // From the bucket after the first on.
    let (from, mut scoring) = (1_246_500 / 900, job(rule));
    assert_eq!(from, GROWN + 1);
    let seen = |scoring: &mut Scoring, at: u64| {
        let found = scoring.score(bucket(at, |n| if n > 1 { 95_000 } else { usual(at, n) })).records;
        let of = |value: &str| found.iter().find(|record| record.value == value).map(|record| record.buckets_seen);
        ["10.0.0.2", "10.0.0.3", "10.0.0.4"].map(|value| of(value).unwrap() as u64)
    };
    assert_eq!(told(&mut scoring, GROWN), names(&[2, 3, 4]));
    (0..5).for_each(|more| drop(told(&mut scoring, from + more)));
    assert_eq!(seen(&mut scoring, from + 5), [GROWN + 6, GROWN + 1, GROWN + 1], "silence neither");
}

#[test]
fn early_and_late_findings_are_left_out_as_well() {
    let rule = "[[job.rules]]\nscope = { include = [\"10.0.0.3\"] }\n";
    for (rules, told) in [("", true), (rule, false)] {
        let (scoring, at) = (job(rules), GROWN);
        let rows = bucket(at, |n| if n == 3 { 90_000 } else { usual(at, n) }).rows;
        let about = |records: Vec<AnomalyRecord>| records.iter().any(|record| record.value == "10.0.0.3");
        assert_eq!(about(scoring.early(at * QUARTER, &rows, &[])), told);
        assert_eq!(about(scoring.correct(&correction(at - 1, usual(at - 1, 3), 90_000)).records), told);
    }
}
