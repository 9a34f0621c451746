//! On the system's clock: executions run by themselves, and the future is refused.

use spikewatch_actors::Seams;
use spikewatch_detector::rule::Rule;
use spikewatch_domain::key::Subject;
use spikewatch_proto::v1::{self, detector_message::Message, owner_message, refusal::Reason};

use crate::{
    address,
    owner::{Detector, Owner, QUARTER, Traffic},
    window,
};

/// That for hosts, every second.
pub(crate) fn rule() -> Rule {
    let text = include_str!("../../../deploy/rules/spike-in-a-hosts-traffic.toml");
    let text = text.replace("interval = \"15m\"", "interval = \"1s\"").replace("from = \"now-30m\"", "from = \"2s\"");
    Rule::from_toml(&text).unwrap()
}

#[tokio::test]
async fn collectors_are_listed_and_retired_by_command() {
    let seams = Seams::system();
    let now = seams.clock.now_ms() / QUARTER;
    let detector = Detector::start_with(1, "sqlite::memory:", Vec::new(), seams).await;
    let mut owner = Owner::open(&detector, 1).await;
    owner.commit_all((now - 3..now).map(|bucket| (bucket, Traffic::new())), 0).await;
    let mut roster = v1::roster_client::RosterClient::new(detector.channel.clone());
    let list = roster.list_collectors(v1::CollectorsQuery {}).await.unwrap().into_inner().collectors;
    assert_eq!((list.len(), list[0].site.as_str(), list[0].collector.as_str()), (1, "berlin", "c1"));
    assert_eq!((list[0].last_bucket_start_ms, list[0].silent, list[0].retired), ((now - 1) * QUARTER, false, false));
    let which = |collector: &str| v1::RetireRequest { site: "berlin".into(), collector: collector.into() };
    assert_eq!(roster.retire_collector(which("c2")).await.unwrap_err().code(), tonic::Code::NotFound);
    roster.retire_collector(which("c1")).await.unwrap();
    assert_eq!(roster.retire_collector(which("c1")).await.unwrap_err().code(), tonic::Code::NotFound);
    let list = roster.list_collectors(v1::CollectorsQuery {}).await.unwrap().into_inner().collectors;
    assert!(list[0].retired);
    // The next owner is not told to wait for it.
    assert!(Owner::open_one(&detector).await.members.is_empty());
    detector.stop().await;
}

#[tokio::test]
async fn an_alert_comes_by_itself_and_the_future_is_refused() {
    let seams = Seams::system();
    let now = seams.clock.now_ms() / QUARTER;
    let detector = Detector::start_with(2, "sqlite::memory:", vec![rule()], seams).await;
    let mut owner = Owner::open(&detector, 2).await;
    let traffic = |bucket: u64| {
        let host = |n: u64| {
            let events = if bucket == now - 1 && n == 3 { 90_000 } else { 200 + (bucket * 31 + n * 7) % 50 };
            (Subject::Address(address(&format!("10.0.0.{n}"))), window(events, 70_000, "198.51.100.7"))
        };
        (bucket, (1..5).map(host).collect::<Traffic>())
    };
    let mut alerting = v1::alerting_client::AlertingClient::new(detector.channel.clone());
    let query = v1::AlertsQuery { follow: true, ..v1::AlertsQuery::default() };
    let mut alerts = alerting.list_alerts(query).await.unwrap().into_inner();
    owner.commit_all((now - 200..now).map(traffic), 0).await;
    let page = alerts.message().await.unwrap().unwrap();
    assert_eq!((page.alerts.len(), page.alerts[0].value.as_str()), (1, "10.0.0.3"));
    assert_eq!(page.alerts[0].bucket_start_ms, (now - 1) * QUARTER);
    let commit = owner.commit(0, &[traffic(now + 2)]);
    owner.send(owner_message::Message::Commit(commit)).await;
    let Message::Refusal(refusal) = owner.answer().await else { panic!("the future was committed") };
    assert_eq!(refusal.reason(), Reason::FutureBucket);
    let executed = alerting.execute(v1::ExecuteRequest { until_ms: u64::MAX }).await;
    assert_eq!(executed.unwrap_err().code(), tonic::Code::FailedPrecondition);
    detector.stop().await;
}
