//! Rules as whoever runs the cluster sees them: listed, their executions, run over past buckets, alerts in another form.

use spikewatch_actors::{Seams, clock::Clock, entropy::Entropy};
use spikewatch_detector::{Options, rule::Rule};
use spikewatch_proto::v1::{self, alerting_client::AlertingClient, execution::Status, rules_client::RulesClient};

use crate::{
    DAYS, SPIKE, all,
    owner::{Detector, Owner, QUARTER, shape},
};

const HOST: &str = "Spike in a Host's Traffic";

async fn with(rules: Vec<Rule>) -> Detector {
    let (clock, _) = Clock::event();
    let detector = Detector::start_with(4, "sqlite::memory:", rules, Seams::new(clock, Entropy::seeded(1))).await;
    let mut owner = Owner::open(&detector, 4).await;
    owner.commit_all(all(true), 0).await;
    detector.scored(DAYS * 96 - 1).await;
    detector
}

/// A deployment that may make hardly any false alert, so that no record may alert.
#[tokio::test]
async fn what_the_bound_on_false_alerts_holds_is_recorded_counted_and_told() {
    let options = Options {
        store_url: "sqlite::memory:".into(),
        shape: shape(4),
        false_alerts_a_day: 1e-300,
        ..Options::default()
    };
    let (clock, _) = Clock::event();
    let detector = Detector::start_as(options, Seams::new(clock, Entropy::seeded(1))).await;
    let mut owner = Owner::open(&detector, 4).await;
    owner.commit_all(all(true), 0).await;
    detector.scored(DAYS * 96 - 1).await;
    assert_eq!(detector.alerts().await.iter().filter(|alert| alert.rule_name == HOST).count(), 0);
    let records = detector.records(v1::RecordsQuery::default()).await;
    let spike = records.iter().find(|record| record.job == "high_bytes_out_by_host" && record.record_score >= 75.0);
    assert!(spike.is_some_and(|record| record.alert_from > 100.0), "{records:?}");
    let query = v1::ExecutionsQuery { rule: HOST.into(), limit: 0 };
    let mut client = RulesClient::new(detector.channel.clone());
    let executions = client.list_executions(query).await.unwrap().into_inner().executions;
    let bounded: u64 = executions.iter().map(|done| done.bounded).sum();
    assert!(bounded > 0 && executions.iter().all(|done| done.alerts == 0), "{executions:?}");
    assert!(executions.iter().filter(|done| done.bounded > 0).all(|done| done.alert_from > 100.0));
    assert!(detector.handle.metrics().bounded >= bounded);
    detector.stop().await;
}

async fn run(detector: &Detector, rule: &str, from: u64, to: u64) -> Result<v1::Execution, tonic::Status> {
    let request = v1::RunRequest { rule: rule.into(), from_ms: from * QUARTER, to_ms: to * QUARTER };
    RulesClient::new(detector.channel.clone()).run_rule(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn rules_and_their_executions_are_listed() {
    let detector = with(Vec::new()).await;
    let mut client = RulesClient::new(detector.channel.clone());
    let rules = client.list_rules(v1::RulesQuery {}).await.unwrap().into_inner().rules;
    let on: Vec<_> = rules.iter().filter(|rule| rule.enabled).map(|rule| rule.name.as_str()).collect();
    assert_eq!(
        on,
        ["Spike in Network Traffic", HOST, "Spike in a Host's Upload to New Peers", "Spike in Firewall Denies"]
    );
    assert!(rules.iter().all(|rule| rule.warnings.is_empty()), "{rules:?}");
    let query = v1::ExecutionsQuery { rule: HOST.into(), limit: 0 };
    let executions = client.list_executions(query).await.unwrap().into_inner().executions;
    let alerts = detector.alerts().await;
    let made: u64 = executions.iter().map(|done| done.alerts).sum();
    let mine = alerts.iter().filter(|alert| alert.rule_name == HOST).count() as u64;
    assert!(mine > 0);
    assert_eq!(made, mine);
    let ended = executions.iter().find(|done| done.updated > 0).expect("the end of the incident is told");
    assert_eq!((ended.at_ms, ended.status()), ((SPIKE + 2) * QUARTER, Status::Succeeded));
    let head = alerts.iter().find(|alert| alert.job == "high_bytes_out_by_host").unwrap();
    let incident = head.incident.clone().unwrap();
    assert_eq!((head.version, incident.ended, incident.last_ms), (2, true, (SPIKE + 1) * QUARTER));
    let unknown = client.list_executions(v1::ExecutionsQuery { rule: "x".into(), limit: 0 }).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    detector.stop().await;
}

#[tokio::test]
async fn a_rule_that_was_off_is_run_over_the_past_and_makes_what_it_would_have_made() {
    let mut rules = Rule::built_in().unwrap();
    let usual = with(rules.clone()).await;
    rules.iter_mut().for_each(|rule| rule.enabled = false);
    let detector = with(rules).await;
    assert_eq!(detector.alerts().await, []);
    let done = run(&detector, HOST, 0, DAYS * 96).await.unwrap();
    assert_eq!((done.manual, done.status()), (true, Status::Succeeded));
    let ids = async |detector: &Detector| {
        let alerts = detector.alerts().await;
        let mut ids: Vec<_> =
            alerts.into_iter().filter(|alert| alert.rule_name == HOST).map(|alert| alert.id).collect();
        ids.sort();
        ids
    };
    let made = ids(&detector).await;
    assert_eq!((made.len() as u64, &made), (done.alerts, &ids(&usual).await));
    assert!(detector.alerts().await.iter().all(|alert| alert.manual && alert.incident.as_ref().unwrap().ended));
    assert_eq!(run(&detector, HOST, 0, DAYS * 96).await.unwrap().alerts, 0, "what has an alert gets no other");
    assert_eq!(run(&detector, "nobody's rule", 0, 1).await.unwrap_err().code(), tonic::Code::NotFound);
    assert_eq!(run(&detector, HOST, 1, 1).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    detector.stop().await;
    usual.stop().await;
}

#[tokio::test]
async fn alerts_come_in_the_form_that_is_asked_for() {
    let detector = with(Vec::new()).await;
    let query = v1::AlertsQuery { form: v1::Form::Kibana.into(), ..v1::AlertsQuery::default() };
    let mut pages = AlertingClient::new(detector.channel.clone()).list_alerts(query).await.unwrap().into_inner();
    let alert = pages.message().await.unwrap().unwrap().alerts.remove(0);
    let document: serde_json::Value = serde_json::from_str(&alert.document).unwrap();
    assert_eq!((&document["kibana.alert.uuid"], &document["event"]["kind"]), (&alert.id.into(), &"signal".into()));
    assert_eq!(document["kibana.alert.status"], "recovered");
    let plain: serde_json::Value = serde_json::from_str(&detector.alerts().await[0].document).unwrap();
    assert_eq!((plain.get("kibana.alert.uuid"), &plain["event"]["kind"]), (None, &"alert".into()));
    detector.stop().await;
}
