use super::*;
use crate::job::Job;

#[test]
fn the_shipped_rules_hold_together() {
    let rules = Rule::built_in().unwrap();
    assert_eq!(rules.len(), 6);
    let jobs = Job::built_in();
    for rule in &rules {
        let known = rule.jobs.iter().all(|id| jobs.iter().any(|job| job.id == *id));
        assert!(known, "{}: its jobs ship too", rule.name);
        let by_country = rule.jobs.iter().any(|id| id.contains("country"));
        assert_eq!(rule.enabled, !by_country, "{}: off where countries may not be known", rule.name);
        assert_eq!((rule.threshold, rule.interval_ms(), rule.look_back_ms()), (75.0, 900_000, 1_800_000));
        let uploads = rule.jobs == ["host_exfiltration"];
        let usual = if uploads { (Severity::Medium, 47, 20) } else { (Severity::Low, 21, 100) };
        assert_eq!((rule.severity, rule.risk_score, rule.max_signals), usual, "{}", rule.name);
        assert!(rule.note.len() > 500, "an alert comes with a guide");
        assert!(!rule.false_positives.is_empty() && !rule.threat.is_empty(), "{}", rule.name);
        let techniques = rule.threat.iter().flat_map(|t| t.technique.iter().map(|named| named.id.as_str()));
        let first: Vec<_> = techniques.collect();
        assert!(first.iter().all(|id| id.starts_with('T')), "{first:?}");
    }
    let techniques = |rule: &Rule| -> Vec<String> {
        rule.threat.iter().flat_map(|t| t.technique.iter().map(|n| format!("{}/{}", t.tactic.id, n.id))).collect()
    };
    for rule in &rules[..2] {
        assert_eq!(techniques(rule), ["TA0010/T1041", "TA0007/T1046", "TA0043/T1595", "TA0040/T1498"]);
    }
    let ids: std::collections::BTreeSet<_> = rules.iter().map(|rule| &rule.id).collect();
    assert_eq!(ids.len(), rules.len());
    assert_eq!(rules[0].jobs, ["high_count_network_events"]);
}

#[test]
fn what_does_not_fit_is_named() {
    let good = include_str!("../../../deploy/rules/spike-in-network-traffic.toml");
    let error = |from: &str, to: &str| Rule::from_toml(&good.replace(from, to)).unwrap_err().to_string();
    assert!(error("interval = \"15m\"", "interval = \"15 minutes\"").contains("no duration"));
    assert!(error("threshold = 75", "threshold = 101").contains("threshold must be 0 to 100"));
    assert!(error("from = \"now-30m\"", "from = \"now-5m\"").contains("from must be at least the interval"));
    assert!(error("max_signals = 100", "max_signal = 100").contains("max_signal"));
}
