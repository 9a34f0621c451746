//! The bound on false alerts of the deployment: from which score on a record may alert, wherever it comes from.

use spikewatch_domain::key::Dimension;

use super::*;

const GROWN: u64 = 96 * 14;

fn bounded(false_alerts_a_day: f64) -> Scoring {
    let mut scoring = scoring();
    scoring.bound(false_alerts_a_day);
    run(&mut scoring, 0..GROWN);
    scoring
}

fn spike(at: u64, events: u64) -> Bucket {
    bucket(at, |n| if n == 3 { events } else { usual(at, n) })
}

/// What is asked of records of a job, given five hosts with eight jobs, a site with one and the whole with two.
fn expected(job: &str, false_alerts_a_day: f64) -> f64 {
    let site = Split::By(Dimension::Site);
    let host = Split::By(Dimension::Host);
    let looks = |series: f64, rich: f64| bound::Looks { a_day: series * 96.0, rich };
    let all = [(host, looks(40.0, 0.0)), (site, looks(1.0, 1.0)), (Split::Global, looks(2.0, 2.0))];
    let bounds = bound::Bounds::of(false_alerts_a_day, all);
    match job {
        "high_count_network_events" => bounds.of_split(Split::Global).rich_alert_from(),
        "high_count_network_events_by_site" => bounds.of_split(site).rich_alert_from(),
        _ => bounds.of_split(host).alert_from(f64::INFINITY),
    }
}

fn as_expected(records: &[AnomalyRecord], a_day: f64) -> bool {
    !records.is_empty() && records.iter().all(|record| record.alert_from == expected(&record.job, a_day))
}

#[test]
fn records_say_from_which_score_on_they_may_alert_and_stay_as_they_are_otherwise() {
    let mut without = bounded(0.0);
    let found = without.score(spike(GROWN, 80_000)).records;
    assert!(found.iter().all(|record| record.alert_from == 0.0));
    for a_day in [5.0, 0.01, 1e-4] {
        let again = bounded(a_day).score(spike(GROWN, 80_000)).records;
        let jobs: BTreeSet<&str> = again.iter().map(|record| record.job.as_str()).collect();
        assert!(jobs.contains("host_activity") && jobs.contains("high_count_network_events_by_site"), "{jobs:?}");
        assert!(as_expected(&again, a_day), "{a_day}: {again:?}");
        let bare = |record: &AnomalyRecord| AnomalyRecord { alert_from: 0.0, ..record.clone() };
        assert_eq!(again.iter().map(bare).collect::<Vec<_>>(), found);
    }
    let of_host = |a_day| expected("high_bytes_out_by_host", a_day);
    assert!(of_host(5.0) < 75.0 && of_host(0.01) > 75.0, "{} {}", of_host(5.0), of_host(0.01));
}

#[test]
fn early_findings_tripwires_and_corrections_heed_it() {
    let (loose, tight) = (bounded(5.0), bounded(1e-3));
    let early = tight.early(GROWN * QUARTER, &spike(GROWN, 80_000).rows, &[]);
    assert!(as_expected(&early, 1e-3), "{early:?}");
    let late = tight.correct(&correction(GROWN - 1, usual(GROWN - 1, 3), 90_000)).records;
    assert!(as_expected(&late, 1e-3), "{late:?}");
    let limits = |scoring: &Scoring| {
        let mut of_host = None;
        let wanted = |job: &Job| {
            (job.id == "high_count_network_events_by_host").then_some(early::Wanted { threshold: 75.0, buckets: 96 })
        };
        let bounds = scoring.bounds();
        for table in &scoring.tables {
            table.limits((GROWN * QUARTER, &bounds), wanted, |_, subject, limits| {
                of_host = if *subject == host(3) { Some(limits[0]) } else { of_host };
            });
        }
        of_host.unwrap()
    };
    let (low, high) = (limits(&loose), limits(&tight));
    assert!(low < high, "{low} {high}");
    // What trips is what may alert.
    let alerts = |events: u64| {
        let found = tight.early(GROWN * QUARTER, &spike(GROWN, events).rows, &[]);
        let mut own = found.into_iter().filter(|record| record.job == "high_count_network_events_by_host");
        let may = |record: AnomalyRecord| record.record_score >= record.alert_from.max(75.0);
        own.any(may)
    };
    assert!(alerts(high) && !alerts(high - high / 200 - 1), "{high}");
}

#[test]
fn more_hosts_ask_for_more() {
    let from = |hosts: u8| {
        let mut scoring = scoring();
        scoring.bound(1e-3);
        let full = |at: u64| {
            let rows = (1..=hosts).map(|n| row("a", host(n), usual(at, n.into())));
            let rows = rows.chain([row("a", Subject::Site, 1000)]).collect();
            Bucket { start: at * QUARTER, rows, missing: BTreeSet::new() }
        };
        (0..300).for_each(|at| drop(scoring.score(full(at))));
        let mut loud = full(300);
        loud.rows[0] = row("a", host(1), 90_000);
        scoring.score(loud).records[0].alert_from
    };
    let (few, many) = (from(4), from(40));
    assert!(few < many, "{few} {many}");
}
