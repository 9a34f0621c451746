//! Values that a site hardly ever meets, from a job's TOML to its records.

use super::*;

const WEEKS: u64 = 96 * 25;

fn job(more: &str) -> Scoring {
    let text = "[[job]]\nid = \"rare_port\"\nmeasure = \"events\"\nfunction = \"rare\"\nsplit = \"port\"\n";
    Scoring::new(&Job::from_toml(&format!("{text}{more}")).unwrap(), Span::QUARTER_HOUR, 64 << 20)
}

/// Site a uses two ports all day, and a third on one night a week; site b tries another port every few hours.
fn ports(at: u64, more: &[u16]) -> Bucket {
    let mut rows: Vec<Row> = [443, 53].iter().map(|port| row("a", Subject::Port(*port), 50)).collect();
    rows.extend((at % 672 == 8).then(|| row("a", Subject::Port(873), 3)));
    rows.extend(more.iter().map(|port| row("a", Subject::Port(*port), 2)));
    rows.push(row("a", Subject::Site, 100));
    rows.push(row("b", Subject::Port(443), 30));
    rows.extend(at.is_multiple_of(13).then(|| row("b", Subject::Port(10_000 + (at / 13) as u16), 1)));
    rows.push(row("b", Subject::Site, 30));
    Bucket { start: at * QUARTER, rows, missing: BTreeSet::new() }
}

#[test]
fn the_first_sight_of_a_port_is_told_on_a_site_that_knows_its_ports() {
    let mut scoring = job("");
    let before: Vec<_> = (0..WEEKS).flat_map(|at| scoring.score(ports(at, &[])).records).collect();
    assert!(before.iter().all(|record| record.record_score < 75.0), "{before:?}");
    let mut found = scoring.score(ports(WEEKS, &[6667])).records;
    assert_eq!(found.len(), 1, "{found:?}");
    let record = found.remove(0);
    assert_eq!((record.site.as_ref().unwrap().as_str(), record.value.as_str()), ("a", "6667"));
    assert_eq!((record.function.as_str(), record.actual, record.typical), ("rare", 2.0, 0.0));
    assert_eq!(u64::from(record.buckets_seen), WEEKS);
    assert!(record.record_score >= 75.0 && record.contributors[0].field == "peer", "{record:?}");
    // The next one is less of a surprise, and the same again still less.
    let score = |records: &[AnomalyRecord]| records.iter().map(|record| record.record_score).fold(0.0, f64::max);
    let again = score(&scoring.score(ports(WEEKS + 1, &[6667])).records);
    let another = score(&scoring.score(ports(WEEKS + 2, &[6668])).records);
    assert!(again < another && another < record.record_score, "{again} {another}");
    // Site b meets a port that it never met every few hours: that is what it does.
    let b = (WEEKS + 3..WEEKS + 30).flat_map(|at| scoring.score(ports(at, &[])).records);
    assert_eq!(b.filter(|record| record.site.as_ref().unwrap().as_str() == "b").count(), 0);
}

#[test]
fn what_is_left_out_of_rare_values_is_neither_told_nor_learnt() {
    let known = |rules: &str| {
        let mut scoring = job(rules);
        (0..WEEKS).for_each(|at| drop(scoring.score(ports(at, &[]))));
        let first = scoring.score(ports(WEEKS, &[6667])).records.len();
        (
            first,
            scoring.score(ports(WEEKS + 1, &[6667])).records.iter().map(|record| record.typical).collect::<Vec<_>>(),
        )
    };
    let scope = "scope = { include = [\"6667\"] }\n";
    assert_eq!(known("").0, 1);
    assert_eq!(known(&format!("[[job.rules]]\n{scope}")), (0, vec![]));
    let unlearnt = format!("[[job.rules]]\nactions = [\"skip_model_update\"]\n{scope}");
    assert_eq!(known(&unlearnt), (1, vec![0.0]), "as rare as before");
}

#[test]
fn a_restart_changes_nothing_of_what_is_rare_and_old_values_are_forgotten() {
    let jobs = "[[job]]\nid = \"by_port\"\nmeasure = \"events\"\nfunction = \"high_count\"\nsplit = \"port\"\n";
    let (mut one, mut other) = (job(jobs), job(jobs));
    for at in 0..96 * 50 {
        // A port of the first days comes back after more than a month.
        let more: &[u16] = if at == 300 || at == 96 * 40 { &[4444] } else { &[] };
        let found = one.score(ports(at, more));
        if at == 96 * 40 {
            let back = found.records.iter().find(|record| record.job == "rare_port" && record.value == "4444");
            assert_eq!(back.map(|record| record.typical), Some(0.0), "{:?}", found.records);
        }
        assert_eq!(found, other.score(ports(at, more)));
        if at % 777 == 500 {
            let mut restored = job(jobs);
            other.stored().enumerate().for_each(|(number, part)| restored.restore(number, &part).unwrap());
            assert!(restored.is_whole());
            other = restored;
        }
    }
    assert!(one.bytes() > 0);
}
