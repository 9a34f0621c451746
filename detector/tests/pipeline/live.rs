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

fn rule() -> Rule {
    let text = include_str!("../../../deploy/rules/spike-in-a-hosts-traffic.toml");
    let text = text.replace("interval = \"15m\"", "interval = \"1s\"").replace("from = \"now-30m\"", "from = \"2s\"");
    Rule::from_toml(&text).unwrap()
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
