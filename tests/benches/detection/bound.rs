//! False alerts of clean hosts, by how many there are: through `Scoring` with the jobs and rules that ship, with the bound on
//! false alerts and without; and the calibration of the jobs by host.
//!
//! Clean means: whatever alerts is false. Hosts learn for a week; the three weeks after it are counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use spikewatch_detector::{
    job::Job,
    rule::Rule,
    scoring::{Bucket, Row, Scoring},
};
use spikewatch_domain::{
    key::{SiteName, Subject},
    span::Span,
    window::Window,
};
use spikewatch_proto::convert::results::AnomalyRecord;

use crate::{
    THRESHOLD,
    hosts::{DAY, FAMILIES, Host},
};

const SIZES: [u32; 4] = [100, 200, 1000, 10_000];
/// Alerts a day that are bearable: the default of `detector.false_alerts_a_day`.
const BEARABLE: f64 = 5.0;
const LEARNT: usize = 7 * DAY;
const COUNTED: usize = 21 * DAY;
/// What of it hosts have.
const OF_HOSTS: f64 = BEARABLE * 7.0 / 8.0;
/// Buckets less far apart are one event.
const APART: usize = 60;
/// A Monday.
const START: u64 = 1_772_409_600_000;
/// Hosts of a site.
const SITE: u32 = 2000;
/// Negative decimal logarithms of the probabilities in the calibration table.
const DECADES: [f64; 6] = [2.0, 3.0, 4.0, 5.0, 6.0, 7.0];

const TENTHS: usize = 3100;

/// What one size gave.
#[derive(Default)]
struct Counts {
    /// Alerts of rules that ship and are on: at 75, and at what the bound asks for.
    unbounded: u64,
    bounded: u64,
    /// The same, of the last week alone.
    last_week: (u64, u64),
    /// Runs of buckets at 75 of series by host.
    events: u64,
    of_family: [u64; FAMILIES.len()],
    of_job: BTreeMap<String, (u64, u64)>,
    /// The most that the bound asked for.
    alert_from: f64,
    /// Buckets of series by host (of single measures), by family, whose evidence is rarer than each of the decades.
    exceeding: [[u64; DECADES.len()]; FAMILIES.len()],
    /// The same over all, by -log10 p in tenths; probabilities end at 1e-308.
    tail: Vec<u64>,
    looks: [u64; FAMILIES.len()],
    last: BTreeMap<(String, String), usize>,
}

/// What rules that are on look at, with the effect that a finding must have.
struct Watched {
    minimum_effect: BTreeMap<String, f64>,
    watched: BTreeSet<String>,
    /// By host and of one measure.
    single: BTreeSet<String>,
}

impl Watched {
    fn shipped() -> Self {
        let (jobs, rules) = (Job::built_in(), Rule::built_in().expect("rules that ship"));
        let watched = rules.into_iter().filter(|rule| rule.enabled).flat_map(|rule| rule.jobs).collect();
        let minimum_effect = jobs.iter().map(|job| (job.id.clone(), job.minimum_effect)).collect();
        let single = jobs.iter().filter(|job| job.split.is_by_host() && !job.function.is_joint());
        Self { minimum_effect, watched, single: single.map(|job| job.id.clone()).collect() }
    }
}

fn measure(hosts: u32) -> Counts {
    let watched = Watched::shipped();
    // Small effects are no findings, but they count for the calibration.
    let jobs: Vec<Job> =
        Job::built_in().into_iter().map(|job| Job { minimum_effect: f64::NEG_INFINITY, ..job }).collect();
    let mut scoring = Scoring::new(&jobs, Span::QUARTER_HOUR, 64 << 30);
    scoring.bound(BEARABLE);
    let mut all: Vec<(Host, Row)> = (0..hosts).map(|number| (Host::new(number, 3), row(number))).collect();
    let sites: BTreeSet<SiteName> = all.iter().map(|(_, row)| row.site.clone()).collect();
    let mut counts = Counts { tail: vec![0; TENTHS], ..Counts::default() };
    for at in 0..LEARNT + COUNTED {
        let mut of_sites: BTreeMap<SiteName, Window> =
            sites.iter().map(|site| (site.clone(), Window::default())).collect();
        let mut rows = Vec::with_capacity(all.len());
        for (host, row) in &mut all {
            let Some(window) = host.window(at) else { continue };
            if let Some(site) = of_sites.get_mut(&row.site) {
                site.counters.add(&window.counters);
            }
            rows.push(Row { window, ..row.clone() });
        }
        let site = |(site, window)| Row { site, subject: Subject::Site, window, incomplete: false };
        rows.extend(of_sites.into_iter().map(site));
        let start = START + at as u64 * 900_000;
        let records = scoring.score(Bucket { start, rows, missing: BTreeSet::new() }).records;
        if at < LEARNT {
            continue;
        }
        (0..hosts as usize).for_each(|host| counts.looks[host % FAMILIES.len()] += watched.single.len() as u64);
        records.iter().for_each(|record| counts.count(record, at, &watched));
    }
    counts
}

/// A host's address: its number.
fn row(number: u32) -> Row {
    let site = format!("site{}", number / SITE).parse().expect("a name");
    let subject = Subject::Address(std::net::Ipv4Addr::from(0x0a00_0000 | number).into());
    Row { site, subject, window: Window::default(), incomplete: false }
}

fn family(record: &AnomalyRecord) -> Option<usize> {
    let address: std::net::Ipv4Addr = record.value.parse().ok()?;
    Some((u32::from(address) & 0xff_ffff) as usize % FAMILIES.len())
}

impl Counts {
    fn count(&mut self, record: &AnomalyRecord, at: usize, watched: &Watched) {
        let l = -record.probability.log10();
        if let Some(family) = family(record).filter(|_| watched.single.contains(&record.job)) {
            let exceeding = self.exceeding[family].iter_mut().zip(DECADES);
            exceeding.filter(|(_, decade)| l >= *decade).for_each(|(count, _)| *count += 1);
            if let Some(count) = self.tail.get_mut((l * 10.0) as usize) {
                *count += 1;
            }
        }
        let least = watched.minimum_effect.get(&record.job).copied().unwrap_or_default();
        let told = watched.watched.contains(&record.job) && record.actual - record.typical >= least;
        if !told || record.record_score < THRESHOLD || record.buckets_seen < DAY as u32 {
            return;
        }
        let within = record.record_score >= record.alert_from;
        let week = u64::from(at >= LEARNT + COUNTED - 7 * DAY);
        self.alert_from = self.alert_from.max(record.alert_from);
        self.unbounded += 1;
        self.bounded += u64::from(within);
        self.last_week.0 += week;
        self.last_week.1 += week * u64::from(within);
        let own = self.of_job.entry(record.job.clone()).or_default();
        *own = (own.0 + 1, own.1 + u64::from(within));
        if let Some(family) = family(record) {
            let before = self.last.insert((record.job.clone(), record.value.clone()), at);
            if before.is_none_or(|before| at - before > APART) {
                self.events += 1;
                self.of_family[family] += 1;
            }
        }
    }

    /// Buckets of single measures that are as rare as that, by their own word.
    fn beyond(&self, l: f64) -> u64 {
        self.tail.iter().skip((l * 10.0).round() as usize).sum()
    }
}

pub(crate) fn report() -> String {
    let days = COUNTED as f64 / DAY as f64;
    let mut out = format!(
        "Clean hosts of six families, buckets of 15 minutes, a week to learn and three that count; the rules that ship. \
         Bound: {BEARABLE} false alerts a day.\n\n\
         | hosts | alerts a day at 75 | alerts from | alerts a day with the bound | last week | events at 75 per 1000 \
         series-days | worst family | alerts with the bound per 1000 \
         series-days |\n|---|---|---|---|---|---|---|---|\n"
    );
    let mut largest = None;
    for hosts in SIZES {
        let counts = measure(hosts);
        let series_days = f64::from(hosts) * 7.0 * days / 1000.0;
        let families = FAMILIES.iter().zip(counts.of_family);
        let (worst, most) = families.max_by_key(|(_, events)| *events).unwrap_or((&"", 0));
        let rate = |alerts: u64| alerts as f64 / days;
        let _ = writeln!(
            out,
            "| {hosts} | {:.2} | {:.1} | {:.2} | {:.2} → {:.2} | {:.2} | {worst} {:.2} | {:.2} |",
            rate(counts.unbounded),
            counts.alert_from.max(THRESHOLD),
            rate(counts.bounded),
            counts.last_week.0 as f64 / 7.0,
            counts.last_week.1 as f64 / 7.0,
            counts.events as f64 / series_days,
            most as f64 / series_days * FAMILIES.len() as f64,
            counts.bounded as f64 / series_days,
        );
        eprintln!("{hosts} hosts: {:?}", counts.of_job);
        largest = Some((hosts, counts));
    }
    if let Some((hosts, counts)) = largest {
        by_job(&mut out, &counts, days);
        calibration(&mut out, hosts, &counts);
        reckoned(&mut out, &counts);
    }
    out
}

fn by_job(out: &mut String, counts: &Counts, days: f64) {
    out.push_str("\nAlerts a day of the largest run by job:\n\n| job | at 75 | with the bound |\n|---|---|---|\n");
    for (job, (unbounded, bounded)) in &counts.of_job {
        let _ = writeln!(out, "| {job} | {:.2} | {:.2} |", *unbounded as f64 / days, *bounded as f64 / days);
    }
}

fn calibration(out: &mut String, hosts: u32, counts: &Counts) {
    let looks: u64 = counts.looks.iter().sum();
    let _ = write!(
        out,
        "\nCalibration of the single measures of {hosts} hosts: how often clean buckets are as rare as p, by p ({looks} \
         buckets; in brackets how many where under 100).\n\n| family |"
    );
    for decade in DECADES {
        let _ = write!(out, " 1e-{decade} |");
    }
    let _ = writeln!(out, "\n|---|{}", "---|".repeat(DECADES.len()));
    let line = |name: &str, exceeding: [u64; DECADES.len()], looks: u64| {
        let cell = |(count, decade): (u64, f64)| {
            let ratio = count as f64 / (looks as f64 * 10f64.powf(-decade));
            if count < 100 { format!(" {ratio:.2} ({count}) |") } else { format!(" {ratio:.2} |") }
        };
        format!("| {name} |{}\n", exceeding.into_iter().zip(DECADES).map(cell).collect::<String>())
    };
    for ((name, exceeding), looks) in FAMILIES.iter().zip(counts.exceeding).zip(counts.looks) {
        out.push_str(&line(name, exceeding, looks));
    }
    let mut all = [0; DECADES.len()];
    counts.exceeding.iter().for_each(|own| all.iter_mut().zip(own).for_each(|(all, own)| *all += own));
    out.push_str(&line("**all**", all, looks));
}

/// What larger deployments would have, by the tail of the largest run.
fn reckoned(out: &mut String, counts: &Counts) {
    let looks: u64 = counts.looks.iter().sum();
    out.push_str(
        "\nReckoned for larger deployments from the tail of the largest run, of single measures (6 of a host's 8 looks): how \
         often buckets are at least as rare as the bound asks for, times as many buckets a day. No measurement: the \
         calibration of so many would know more of its tail.\n\n\
         | hosts | -log10 p that may alert | by that p, a day | seen in the run | false alerts a day | at most, with 95 % confidence |\n\
         |---|---|---|---|---|---|\n",
    );
    for hosts in [1e5, 3e5, 1e6] {
        let least: f64 = (hosts * 8.0 * DAY as f64 / OF_HOSTS).log10();
        let seen = counts.beyond((least * 10.0).floor() / 10.0);
        let a_day = hosts * 6.0 * DAY as f64 / looks as f64;
        let nominal = hosts * 6.0 * DAY as f64 * 10f64.powf(-least);
        let (mean, most) = (seen as f64 * a_day, at_most(seen) * a_day);
        let _ = writeln!(out, "| {hosts:.0} | {least:.2} | {nominal:.2} | {seen} | {mean:.2} | {most:.2} |");
    }
}

/// The mean of a Poisson distribution that gives no more than so many once in twenty times.
fn at_most(seen: u64) -> f64 {
    let (mut low, mut high) = (0.0, 10.0 + 3.0 * seen as f64);
    let no_more = |mean: f64| {
        let terms = (1..=seen).scan((-mean).exp(), |term, k| {
            *term *= mean / k as f64;
            Some(*term)
        });
        (-mean).exp() + terms.sum::<f64>()
    };
    while high - low > 1e-3 {
        let middle = f64::midpoint(low, high);
        if no_more(middle) > 0.05 { low = middle } else { high = middle }
    }
    high
}
