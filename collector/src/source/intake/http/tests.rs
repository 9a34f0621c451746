use spikewatch_actors::{clock::Clock, entropy::Entropy};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

use super::*;
use crate::{live::Input, log::ecs::EcsOptions};

/// An intake with room for the largest parcel, and what it hands over, which nobody takes unless the test does.
async fn serve() -> (SocketAddr, mpsc::Receiver<Input>, Metrics, Seams) {
    let seams = Seams::new(Clock::system(), Entropy::seeded(1));
    let metrics = Metrics::default();
    let (inputs, handed) = mpsc::channel(1);
    let desk = Desk::new(inputs, 0, EcsOptions::default(), metrics.clone(), seams.clone());
    let intake = HttpIntake::bind(([127, 0, 0, 1], 0).into(), Expected::Auto).await.unwrap();
    let address = intake.address();
    intake.serve(desk, metrics.clone(), &seams);
    (address, handed, metrics, seams)
}

fn zeek(seams: &Seams) -> String {
    let now = seams.clock.now_ms() as f64 / 1e3;
    format!(
        "{{\"_path\":\"conn\",\"ts\":{now:.3},\"id.orig_h\":\"10.0.0.1\",\"id.orig_p\":1024,\"id.resp_h\":\"192.0.2.7\",\"id.resp_p\":443,\"proto\":\"tcp\"}}\n"
    )
}

/// Sends these bytes of a body that is said to be so long; the answer.
async fn post(address: SocketAddr, body: &str, length: usize) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("POST /v1/records HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

// Time stands still but for waits: they end at once.
#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_gives_its_place_back() {
    let (address, _handed, _, seams) = serve().await;
    let line = zeek(&seams);
    // Each is said to take all the room there is.
    for _ in 0..3 {
        let answer = post(address, &line, MAX_BODY).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("the body took longer than 30 s"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_taken_senders_are_told_to_come_again() {
    let (address, mut handed, metrics, seams) = serve().await;
    let line = zeek(&seams);
    let first = tokio::join!(post(address, &line, line.len()), async {
        // It lies there and is not looked at; the next one finds no place.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let answer = post(address, &line, line.len()).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("retry-after: 5\r\n"), "{answer}");
        assert!(answer.contains("send it again later"), "{answer}");
        let Some(Input::Parcel(parcel)) = handed.recv().await else { panic!("the first was handed over") };
        parcel.taken.send(Taken::Counted).unwrap();
        parcel.durable.send(()).unwrap();
    });
    assert!(first.0.starts_with("HTTP/1.1 200 "), "{}", first.0);
    assert_eq!(metrics.counters().intake_refused.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn faults_beyond_those_that_are_told_are_counted_by_reason() {
    let (address, _handed, metrics, _) = serve().await;
    let body = "{\"_path\":\"conn\",\"ts\":1.0}\n".repeat(25);
    let answer = post(address, &body, body.len()).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"rejected\":25"), "{answer}");
    let faults = metrics.faults();
    assert_eq!(faults.iter().map(|fault| fault.count).sum::<u64>(), 25, "{faults:?}");
}
