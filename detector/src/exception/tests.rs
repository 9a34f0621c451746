use spikewatch_domain::{key::Dimension, span::Span, window::Measure};
use spikewatch_proto::convert::results::Contributor;

use super::*;
use crate::rule::Rule;

/// 2026-01-05T02:00:00Z.
const NIGHT: u64 = 1_767_578_400_000;

fn record() -> AnomalyRecord {
    let contributor = |field: &str, value: &str| Contributor {
        field: field.into(),
        value: value.into(),
        events: 3,
        bytes: 5_000,
        error: 0.0,
        influencer_score: None,
    };
    AnomalyRecord {
        job: "high_bytes_out_by_host".into(),
        bucket_start: NIGHT,
        bucket_span: Span::QUARTER_HOUR,
        site: Some("berlin".parse().unwrap()),
        dimension: Some(Dimension::Host),
        value: "10.0.0.4".into(),
        function: "high_sum".into(),
        measure: Measure::BytesOut,
        actual: 5e9,
        typical: 1e6,
        lower: 0.0,
        upper: 1e7,
        record_score: 90.0,
        initial_record_score: 90.0,
        probability: 1e-5,
        multi_bucket_impact: -5.0,
        finalised: 1,
        finalised_ms: NIGHT + 900_000,
        incomplete: false,
        late: false,
        early: false,
        buckets_seen: 1000,
        contributors: vec![contributor("peer", "10.9.1.7"), contributor("peer", "203.0.113.9")],
        companions: Vec::new(),
        parts: Vec::new(),
        alert_from: 0.0,
    }
}

fn file(conditions: &str) -> Result<ExceptionFile, String> {
    let text = format!(
        "[lists]\nscanners = [\"10.0.0.0/24\", \"scanner-1\"]\nfar = \"far.txt\"\n\
         [[exceptions]]\nname = \"known\"\nconditions = [{conditions}]\n"
    );
    let read = |path: &str| match path {
        "far.txt" => Ok("# far away\n198.51.100.0/24\n203.0.113.9  # the one\n\n".to_owned()),
        other => Err(format!("{other}: not found")),
    };
    ExceptionFile::from_toml(&text, read).map_err(|error| error.to_string())
}

fn covers(conditions: &str) -> bool {
    file(conditions).unwrap().exceptions[0].covers(&record())
}

#[test]
fn every_operator_does_what_its_name_says() {
    let holds = [
        r#"{ field = "host", operator = "is", values = ["10.0.0.3", "10.0.0.4"] }"#,
        r#"{ field = "host.ip", operator = "is_not", values = ["10.0.0.3"] }"#,
        r#"{ field = "job", operator = "matches", values = ["high_*_by_host"] }"#,
        r#"{ field = "job", operator = "matches_not", values = ["high_count_*"] }"#,
        r#"{ field = "peer", operator = "in_network", values = ["10.9.0.0/16"] }"#,
        r#"{ field = "top_peer", operator = "in_network", values = ["10.9.1.7"] }"#,
        r#"{ field = "top_peer", operator = "not_in_network", values = ["203.0.113.0/24"] }"#,
        r#"{ field = "host", operator = "in_list", values = ["scanners"] }"#,
        r#"{ field = "destination.ip", operator = "in_list", values = ["far"] }"#,
        r#"{ field = "source.ip", operator = "not_in_list", values = ["far"] }"#,
        r#"{ field = "site", operator = "exists" }"#,
        r#"{ field = "user", operator = "exists_not" }"#,
        r#"{ field = "actual", operator = "below", values = [6_000_000_000] }"#,
        r#"{ field = "record_score", operator = "above", values = [89.5] }"#,
    ];
    for condition in holds {
        assert!(covers(condition), "{condition}");
    }
    let fails = [
        r#"{ field = "host", operator = "is", values = ["10.0.0.40"] }"#,
        r#"{ field = "peer", operator = "is_not", values = ["203.0.113.9"] }"#,
        r#"{ field = "peer", operator = "in_network", values = ["10.8.0.0/16"] }"#,
        r#"{ field = "user", operator = "is", values = ["anna"] }"#,
        r#"{ field = "country", operator = "exists" }"#,
        r#"{ field = "actual", operator = "above", values = [5e9] }"#,
    ];
    for condition in fails {
        assert!(!covers(condition), "{condition}");
    }
}

#[test]
fn all_conditions_must_hold() {
    let host = r#"{ field = "host", operator = "is", values = ["10.0.0.4"] }"#;
    let site = |name: &str| format!(r#"{{ field = "site", operator = "is", values = ["{name}"] }}"#);
    assert!(covers(&format!("{host}, {}", site("berlin"))));
    assert!(!covers(&format!("{host}, {}", site("paris"))));
}

#[test]
fn an_exception_expires_with_the_bucket_not_with_the_clock() {
    let until = |expires: &str| {
        let text = format!(
            "[[exceptions]]\nname = \"e\"\nexpires = \"{expires}\"\n\
             conditions = [{{ field = \"site\", operator = \"exists\" }}]\n"
        );
        ExceptionFile::from_toml(&text, |_| Err(String::new())).unwrap().exceptions[0].covers(&record())
    };
    assert!(until("2026-01-06") && until("2026-01-05T02:00:01Z") && until("2026-01-05T04:00:00+01:00"));
    assert!(!until("2026-01-05T02:00:00Z") && !until("2026-01-05"));
}

#[test]
fn what_does_not_fit_is_named() {
    let error = |conditions: &str| file(conditions).unwrap_err();
    assert!(error(r#"{ field = "hoist", operator = "is", values = ["a"] }"#).contains("\"hoist\" is no field"));
    assert!(error(r#"{ field = "host", operator = "is" }"#).contains("condition on host: has no values"));
    assert!(error(r#"{ field = "host", operator = "exists", values = ["a"] }"#).contains("takes no values"));
    assert!(error(r#"{ field = "peer", operator = "in_network", values = ["10.0.0.0/33"] }"#).contains("10.0.0.0/33"));
    assert!(error(r#"{ field = "host", operator = "in_list", values = ["nobody"] }"#).contains("no list \"nobody\""));
    assert!(error(r#"{ field = "host", operator = "above", values = [3] }"#).contains("no number's operator"));
    assert!(error(r#"{ field = "actual", operator = "is", values = ["3"] }"#).contains("expected above or below"));
    assert!(error("").contains("has 0 conditions"));
    let unread = ExceptionFile::from_toml("[lists]\na = \"x.txt\"\n", |_| Err("x.txt: gone".into())).unwrap_err();
    assert_eq!(unread.to_string(), "list \"a\": x.txt: gone");
    let expires = "[[exceptions]]\nname = \"e\"\nexpires = \"tomorrow\"\nconditions = [{ field = \"site\", operator = \"exists\" }]\n";
    let expires = ExceptionFile::from_toml(expires, |_| Err(String::new())).unwrap_err().to_string();
    assert!(expires.contains("expires \"tomorrow\" is no time"), "{expires}");
}

#[test]
fn shared_exceptions_go_to_the_rules_they_name() {
    let text = "[[exceptions]]\nname = \"one\"\nrules = [\"Spike in Network Traffic\"]\n\
                conditions = [{ field = \"site\", operator = \"exists\" }]\n\
                [[exceptions]]\nname = \"all\"\nconditions = [{ field = \"user\", operator = \"exists\" }]\n";
    let file = ExceptionFile::from_toml(text, |_| Err(String::new())).unwrap();
    let mut rules = Rule::built_in().unwrap();
    file.apply(&mut rules).unwrap();
    let names = |rule: &Rule| rule.exceptions.iter().map(|exception| exception.name.clone()).collect::<Vec<_>>();
    assert_eq!((names(&rules[0]), names(&rules[1])), (vec!["one".to_owned(), "all".into()], vec!["all".to_owned()]));
    let stray = text.replace("Spike in Network Traffic", "Spike in Postal Traffic");
    let stray = ExceptionFile::from_toml(&stray, |_| Err(String::new())).unwrap().apply(&mut rules).unwrap_err();
    assert!(stray.to_string().contains("\"Spike in Postal Traffic\", which does not exist"));
}
