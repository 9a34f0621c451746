//! Ports, health, reflection, metrics, signals.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    time::Duration,
};

use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use crate::program::{Running, eventually};

const PORTS: [&str; 12] = [
    "--set",
    "detector.listen=127.0.0.1:0",
    "--set",
    "aggregator.listen=127.0.0.1:0",
    "--set",
    "collector.listen=127.0.0.1:0",
    "--set",
    "collector.sources=[{kind = \"netflow\", listen = \"127.0.0.1:0\"}]",
    "--set",
    "detector.store=sqlite::memory:",
    "--set",
    "collector.spool=",
];

fn node(more: &[&str]) -> Running {
    Running::start(&[&["run"], &PORTS[..], more].concat())
}

async fn channel(address: &str) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn health(address: &str, service: &str) -> Option<i32> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel(address).await).check(request).await;
    answer.ok().map(|answer| answer.into_inner().status)
}

#[tokio::test]
async fn every_port_answers_health_and_reflection() {
    let node = node(&[]);
    let serving = Some(ServingStatus::Serving as i32);
    for (role, service) in
        [("detector", Some("spikewatch.v1.Results")), ("aggregator", Some("spikewatch.v1.Ingest")), ("collector", None)]
    {
        let address = node.address(&["serving", &format!("role=\"{role}\"")]);
        assert_eq!(health(&address, "").await, serving, "{role}");
        if let Some(service) = service {
            assert_eq!(health(&address, service).await, serving, "{role}");
        }
        assert_eq!(health(&address, "no.such.Service").await, None);

        let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel(&address).await);
        let list = v1::server_reflection_request::MessageRequest::ListServices(String::new());
        let request = v1::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
        let answer = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
        let answer = answer.into_inner().message().await.unwrap().unwrap().message_response.unwrap();
        let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
            panic!("{answer:?}")
        };
        let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        assert!(names.contains(&"grpc.health.v1.Health"), "{role}: {names:?}");
        assert!(service.is_none_or(|service| names.contains(&service)), "{role}: {names:?}");

        let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel(&address).await);
        let symbol =
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol("grpc.health.v1.Health".into());
        let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(symbol) };
        assert!(client.server_reflection_info(tokio_stream::iter([request])).await.is_ok(), "{role}");
    }
    node.signal("TERM");
    assert_eq!(node.end(Duration::from_secs(40)), Some(0));
}

pub(crate) fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The value of a metric without labels of its own.
pub(crate) fn value(text: &str, metric: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with([' ', '{'])))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn datagrams_are_counted_and_shown_to_prometheus() {
    let node = node(&["--set", "telemetry.metrics_listen=127.0.0.1:0"]);
    let (metrics, flows) = (node.address(&["metrics", "address="]), node.address(&["flows", "address="]));
    // NetFlow v5 with one record, from ourselves.
    let mut datagram = vec![0, 5, 0, 1];
    datagram.extend(3_600_000u32.to_be_bytes());
    datagram.extend(1_767_571_200u32.to_be_bytes());
    datagram.extend([0; 12]);
    datagram.extend([10, 0, 0, 1, 192, 0, 2, 7, 0, 0, 0, 0, 0, 1, 0, 2]);
    datagram.extend(7u32.to_be_bytes());
    datagram.extend(4_200u32.to_be_bytes());
    datagram.extend([3_590_000u32.to_be_bytes(), 3_599_000u32.to_be_bytes()].concat());
    datagram.extend([0x9c, 0x40, 0x01, 0xbb, 0, 0x1a, 6, 0, 0, 0, 0, 0, 24, 24, 0, 0]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&datagram, &flows).unwrap();
    socket.send_to(b"no export at all", &flows).unwrap();
    let text = eventually("record in the metrics", || {
        Some(scrape(&metrics)).filter(|text| value(text, "spikewatch_collector_records_total") == Some(1.0))
    });
    assert!(text.contains("spikewatch_collector_faults_total{reason=\"unknown_format\"} 1"), "{text}");
    assert!(text.contains("# HELP spikewatch_collector_records_total Flow records decoded."), "{text}");
    for metric in ["spikewatch_build_info", "spikewatch_aggregator_shards", "spikewatch_detector_series"] {
        assert!(text.contains(metric), "{metric} is not in\n{text}");
    }
    let of_listener = |metric: &str| {
        let name = format!("spikewatch_collector_listener_{metric}{{listener=\"{flows}\"}}");
        text.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse::<f64>().ok())
    };
    assert_eq!(of_listener("received_total"), Some(2.0), "{text}");
    assert_eq!(of_listener("kernel_dropped_total"), Some(0.0), "{text}");
    assert!(of_listener("receive_buffer_bytes").is_some_and(|bytes| bytes >= 4096.0), "{text}");
    for mailbox in ["shards", "commit"] {
        assert!(text.contains(&format!("mailbox=\"{mailbox}")), "mailbox {mailbox} is not in\n{text}");
    }
}

#[test]
fn a_signal_drains_within_the_deadline() {
    let node = node(&["--set", "node.shutdown_deadline=5s"]);
    node.line(&["serving", "role=\"collector\""]);
    node.signal("INT");
    assert_eq!(node.end(Duration::from_secs(20)), Some(0));
}

#[test]
fn a_port_that_is_taken_is_74() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let setting = format!("detector.listen={}", taken.local_addr().unwrap());
    let node = Running::start(&["detector", "--set", "detector.store=sqlite::memory:", "--set", &setting]);
    node.line(&["spikewatch: can't listen on", "for detector"]);
    assert_eq!(node.end(Duration::from_secs(20)), Some(74));
}

#[test]
fn logs_can_be_json() {
    let node = node(&["--set", "telemetry.log_format=json"]);
    let line = node.line(&["serving", "detector"]);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["level"], &line["role"], &line["message"]),
        (&"INFO".into(), &"detector".into(), &"serving".into())
    );
}
