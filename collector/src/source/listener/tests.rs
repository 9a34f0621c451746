use spikewatch_actors::mailbox::mailbox;

use super::*;

const SENT: u64 = 2_000;

/// A listener whose task is not started yet, and that many datagrams sent to it.
async fn flooded(receive_buffer: usize) -> Listener {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), receive_buffer).unwrap();
    let exporter = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for number in 0..SENT {
        let payload = number.to_be_bytes();
        assert_eq!(exporter.send_to(&payload, listener.metrics().address()).await.unwrap(), payload.len());
    }
    listener
}

#[tokio::test]
async fn what_the_kernel_drops_is_counted_to_the_datagram() {
    let listener = flooded(4_096).await;
    let counted = Arc::clone(listener.metrics());
    let (sender, mut inbox) = mailbox("datagrams", SENT as usize);
    let metrics = Metrics::default();
    let receiving = listener.receive(|| 7, (sender, 1 << 20), metrics.clone());
    let settled = async {
        while counted.received() + counted.kernel_dropped().expect("Linux tells") < SENT {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        biased;
        _ = receiving => unreachable!("the inbox is open"),
        () = settled => {}
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("{counted:?}"),
    }
    let dropped = counted.kernel_dropped().unwrap();
    assert!(dropped > 0 && counted.received() > 0, "{counted:?}");
    assert_eq!(counted.received() + dropped, SENT);
    assert_eq!(counted.dropped(), 0, "the mailbox held all");
    assert_eq!(metrics.counters().bytes_read.load(Relaxed), counted.received() * 8);
    let first = inbox.recv().await.unwrap();
    assert_eq!((first.time_ms, first.payload.as_slice()), (7, 0u64.to_be_bytes().as_slice()));
}

#[tokio::test]
async fn a_larger_buffer_is_asked_for_and_what_is_given_is_told() {
    let (small, large) = (flooded(4_096).await, flooded(200_000).await);
    assert!(large.metrics().receive_buffer() >= 200_000, "{large:?}");
    assert!(small.metrics().receive_buffer() < large.metrics().receive_buffer());
}

#[tokio::test]
async fn a_full_mailbox_drops_and_counts() {
    let listener = flooded(4 << 20).await;
    let counted = Arc::clone(listener.metrics());
    let (sender, _inbox) = mailbox("datagrams", 100);
    let metrics = Metrics::default();
    let receiving = listener.receive(|| 7, (sender, 1 << 20), metrics.clone());
    let all = || counted.received() + counted.kernel_dropped().unwrap_or(0);
    let settled = async {
        while all() < SENT {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = receiving => unreachable!("the inbox is open"),
        () = settled => {}
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("{counted:?}"),
    }
    assert_eq!(counted.dropped(), counted.received() - 100);
    assert_eq!(metrics.counters().datagrams_dropped.load(Relaxed), counted.dropped());
}

#[tokio::test]
async fn what_waits_has_a_limit_in_bytes() {
    let listener = flooded(4 << 20).await;
    let counted = Arc::clone(listener.metrics());
    let (sender, mut inbox) = mailbox("datagrams", SENT as usize);
    let metrics = Metrics::default();
    let each = size_of::<Datagram>() + 8;
    let receiving = listener.receive(|| 7, (sender, 50 * each), metrics.clone());
    let all = || counted.received() + counted.kernel_dropped().unwrap_or(0);
    let settled = async {
        while all() < SENT {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = receiving => unreachable!("the inbox is open"),
        () = settled => {}
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("{counted:?}"),
    }
    assert_eq!(counted.dropped(), counted.received() - 50);
    for _ in 0..50 {
        inbox.recv().await.unwrap().waited(&metrics);
    }
    assert_eq!(metrics.counters().datagram_bytes_waiting.load(Relaxed), 0);
}

#[test]
fn warnings_are_rare_and_tell_all_since_the_last() {
    let (mut warned, start) = (Warned::default(), Instant::now());
    assert_eq!(warned.due(0, start), None);
    assert_eq!(warned.due(5, start), Some(5));
    assert_eq!(warned.due(9, start + QUIET / 2), None);
    assert_eq!(warned.due(9, start + QUIET), Some(4));
    assert_eq!(warned.due(9, start + QUIET * 3), None);
}
