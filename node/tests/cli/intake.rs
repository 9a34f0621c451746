//! What is handed over by HTTP and gRPC is answered when it is durable, and counts once through kills.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use spikewatch_actors::clock::Clock;
use spikewatch_proto::v1::{self, intake_client::IntakeClient, intake_request::Message};
use tokio::runtime::Runtime;
use tonic::{Code, Status, Streaming};

use crate::{
    program::{Running, eventually},
    spool::{committed, start_with},
};

const SOURCES: &str = "[{kind = \"http\", listen = \"127.0.0.1:0\"}, {kind = \"grpc\"}]";

fn start(folder: &Path) -> Running {
    start_with(folder, "run", SOURCES)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Zeek's connections of now, as JSON.
fn lines(count: usize) -> String {
    let now = Clock::system().now_ms() as f64 / 1e3;
    let mut lines = String::new();
    for number in 0..count {
        let port = 1_024 + number;
        writeln!(
            lines,
            "{{\"_path\":\"conn\",\"ts\":{now:.3},\"id.orig_h\":\"10.0.0.1\",\"id.orig_p\":{port},\"id.resp_h\":\"192.0.2.7\",\"id.resp_p\":443,\"proto\":\"tcp\"}}"
        )
        .unwrap();
    }
    lines
}

/// Sends a request; the status and what the answer says, unless the connection breaks off.
fn request(address: &str, head: &str, body: &[u8]) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let head = format!("{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    // Who is refused needs not have sent all.
    let _ = stream.write_all(body);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap()))
}

fn post(address: &str, headers: &str, body: &[u8]) -> Option<(u16, Value)> {
    request(address, &format!("POST /v1/records HTTP/1.1{headers}"), body)
}

#[expect(clippy::disallowed_methods, reason = "a test outside of any runtime")]
fn aside<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(run()));
    result
}

fn until_committed(node: &Running, expected: u64) {
    let detector = node.address(&["serving", "role=\"detector\""]);
    let runtime = runtime();
    eventually("all that was taken", || {
        let events = runtime.block_on(committed(&detector)).unwrap_or(0);
        assert!(events <= expected, "counted twice: {events} of {expected}");
        (events == expected).then_some(())
    });
}

/// A client that numbers what it sends, and sends again what was not confirmed.
struct Client {
    sent: u64,
    durable: u64,
}

fn record() -> v1::FlowRecord {
    let now = Clock::system().now_ms();
    v1::FlowRecord {
        start_ms: now,
        end_ms: now,
        source: vec![10, 0, 0, 2],
        destination: vec![192, 0, 2, 8],
        destination_port: 53,
        protocol: 17,
        source_bytes: 70,
        source_packets: 1,
        ..v1::FlowRecord::default()
    }
}

fn batch(sequence: u64, record: Vec<v1::FlowRecord>) -> v1::IntakeRequest {
    let content = Some(v1::intake_batch::Content::Records(v1::FlowRecords { record }));
    v1::IntakeRequest { message: Some(Message::Batch(v1::IntakeBatch { sequence, content })) }
}

async fn open(address: &str, requests: Vec<v1::IntakeRequest>) -> Result<Streaming<v1::IntakeResponse>, Status> {
    let mut client = IntakeClient::connect(format!("http://{address}")).await.unwrap();
    let hello = v1::IntakeHello { client: "a client".to_owned() };
    let hello = v1::IntakeRequest { message: Some(Message::Hello(hello)) };
    let requests: Vec<_> = [hello].into_iter().chain(requests).collect();
    Ok(client.send(tokio_stream::iter(requests)).await?.into_inner())
}

impl Client {
    /// Sends all that is not confirmed, one record each, until the stream ends or breaks off.
    async fn go_on(&mut self, address: &str, more: u64) {
        self.sent += more;
        let numbers = self.durable + 1..=self.sent;
        let Ok(mut answers) = open(address, numbers.map(|sequence| batch(sequence, vec![record()])).collect()).await
        else {
            return;
        };
        while let Ok(Some(answer)) = answers.message().await {
            self.durable = self.durable.max(answer.durable_sequence);
        }
    }
}

#[test]
fn what_is_sent_again_counts_once_through_kills() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut client = Client { sent: 0, durable: 0 };
    let mut answered = 0;
    for round in 0..4_usize {
        let node = start(folder);
        let http = node.address(&["records over HTTP", "address="]);
        let grpc = node.address(&["serving", "role=\"collector\""]);
        let bodies: Vec<_> =
            (0..3).map(|number| (format!("\r\nIdempotency-Key: {round}/{number}"), lines(5))).collect();
        // The first is answered; of the others nobody knows.
        let (key, body) = &bodies[0];
        let (status, answer) = post(&http, key, body.as_bytes()).unwrap();
        assert_eq!((status, &answer["accepted"]), (200, &5.into()), "{answer}");
        let sent: Vec<_> = bodies[1..]
            .iter()
            .cloned()
            .map(|(key, body)| (http.clone(), key, body))
            .map(|(http, key, body)| aside(move || post(&http, &key, body.as_bytes())))
            .collect();
        let before = client.durable;
        runtime().block_on(async {
            // It is killed within a slice, a little later each time.
            let _ =
                tokio::time::timeout(Duration::from_millis(200 + 300 * round as u64), client.go_on(&grpc, 20)).await;
        });
        node.signal("KILL");
        assert_eq!(node.end(Duration::from_secs(10)), None);
        answered += sent.into_iter().filter(|sent| sent.recv().unwrap().is_some()).count();

        let node = start(folder);
        let http = node.address(&["records over HTTP", "address="]);
        let grpc = node.address(&["serving", "role=\"collector\""]);
        let again = bodies.into_iter().map(|(key, body)| {
            let http = http.clone();
            aside(move || post(&http, &key, body.as_bytes()).unwrap())
        });
        let again: Vec<_> = again.collect::<Vec<_>>().into_iter().map(|answer| answer.recv().unwrap()).collect();
        assert!(again.iter().all(|(status, answer)| *status == 200 && answer["accepted"] == 5), "{again:?}");
        assert_eq!(again[0].1["repeated"], true, "what was answered was durable: {again:?}");
        runtime().block_on(client.go_on(&grpc, 0));
        assert_eq!(client.durable, client.sent, "from {before}");
        until_committed(&node, (round as u64 + 1) * 15 + client.sent);
        node.signal("TERM");
        assert_eq!(node.end(Duration::from_secs(30)), Some(0));
    }
    println!("{answered} of 8 were answered before the kill");
}

#[test]
fn whoever_waits_when_it_ends_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path());
    let http = node.address(&["records over HTTP", "address="]);
    let waits = aside(move || post(&http, "", lines(3).as_bytes()));
    let metrics = node.address(&["metrics", "address="]);
    eventually("records taken", || {
        let records = crate::serving::value(&crate::serving::scrape(&metrics), "spikewatch_collector_records_total");
        (records == Some(3.0)).then_some(())
    });
    node.signal("TERM");
    assert_eq!(node.end(Duration::from_secs(30)), Some(0));
    let (status, answer) = waits.recv().unwrap().unwrap();
    assert_eq!((status, &answer["accepted"]), (200, &3.into()));
    until_committed(&start(folder.path()), 3);
}

#[test]
fn bad_input_is_told_by_line_and_field_and_costs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path());
    let http = node.address(&["records over HTTP", "address="]);
    let refused = |(status, answer): (u16, Value)| (status, answer["error"].as_str().unwrap_or_default().to_owned());

    let (status, answer) = post(&http, "", (lines(2) + "{\"ts\":\n" + &lines(1)).as_bytes()).unwrap();
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (200, &3.into(), &1.into()));
    assert_eq!((&answer["faults"][0]["line"], &answer["faults"][0]["reason"]), (&3.into(), &"bad_line".into()));

    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(lines(2).as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let (status, answer) = post(&http, "\r\nContent-Encoding: gzip", &packed).unwrap();
    assert_eq!((status, &answer["accepted"]), (200, &2.into()));

    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    bomb.write_all(&vec![b' '; 9 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    let gzip = "\r\nContent-Encoding: gzip";
    let long = "\r\nIdempotency-Key: ".to_owned() + &"a".repeat(256);
    let cases: [(&str, &[u8], u16, &str); 7] = [
        ("", b"no log at all\n", 400, "unrecognised content"),
        ("", b"[{\"@timestamp\":1}]", 400, "JSON array"),
        (gzip, b"plain", 400, "no gzip"),
        (gzip, &bomb, 413, "longer than"),
        ("", &vec![b' '; 9 << 20], 413, "longer than"),
        ("\r\nContent-Encoding: br", b"x", 415, "expected gzip"),
        (&long, b"x", 400, "Idempotency-Key"),
    ];
    for (headers, body, expected, why) in cases {
        let (status, error) = refused(post(&http, headers, body).unwrap());
        assert!(status == expected && error.contains(why), "{status} {error}, expected {expected} {why}");
    }
    assert_eq!(refused(request(&http, "GET /v1/records HTTP/1.1", b"").unwrap()).0, 405);
    assert_eq!(refused(request(&http, "POST /elsewhere HTTP/1.1", b"").unwrap()).0, 404);
    let key = "\r\nIdempotency-Key: one";
    assert_eq!(post(&http, key, lines(1).as_bytes()).unwrap().0, 200);
    assert_eq!(post(&http, key, lines(2).as_bytes()).unwrap().0, 422);

    let grpc = node.address(&["serving", "role=\"collector\""]);
    runtime().block_on(async {
        let bad = v1::FlowRecord { protocol: 300, ..record() };
        let requests = vec![batch(7, vec![record(), bad, record()]), batch(9, vec![record()])];
        let mut answers = open(&grpc, requests).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().next_sequence, 0, "nobody knows it");
        let confirmed = answers.message().await.unwrap().unwrap();
        let outcome = confirmed.outcome.unwrap();
        assert_eq!((confirmed.durable_sequence, outcome.accepted, outcome.rejected), (7, 2, 1));
        assert!(outcome.faults[0].contains("record 1: out_of_range: FlowRecord.protocol: is 300"), "{outcome:?}");
        let gap = answers.message().await.unwrap_err();
        assert_eq!(gap.code(), Code::FailedPrecondition);
        assert!(gap.message().contains("is 9, expected 8"), "{gap}");

        let mut answers = open(&grpc, vec![batch(7, vec![record()]), batch(0, Vec::new())]).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().next_sequence, 8);
        assert!(answers.message().await.unwrap().unwrap().outcome.unwrap().repeated);
        let unnumbered = answers.message().await.unwrap_err();
        assert!(unnumbered.message().contains("IntakeBatch.sequence"), "{unnumbered}");
    });
    until_committed(&node, 8);
    assert!(node.log().contains("input could not be used"));
}
