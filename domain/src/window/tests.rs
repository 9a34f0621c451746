use proptest::prelude::*;

use super::*;
use crate::key::Subject;

type Item = (u16, u16, u32);

fn share(&(peer, port, bytes): &Item) -> Share<'static> {
    let mut octets = [0; 16];
    octets[14..].copy_from_slice(&peer.to_be_bytes());
    Share {
        counters: Counters {
            events: 1,
            bytes_out: u64::from(bytes),
            bytes_in: u64::from(bytes / 2),
            packets_out: 2,
            packets_in: 1,
            denied: u32::from(bytes % 7 == 0),
            estimated: bytes % 11 == 0,
        },
        peer: Peer(octets),
        service: Service { port, protocol: 6 },
        annotations: None,
    }
}

fn of(items: &[Item]) -> Window {
    let mut window = Window::default();
    items.iter().for_each(|item| window.add(&share(item)));
    window
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    prop_oneof![
        proptest::collection::vec((0..6u16, 0..4u16, 0..10_000u32), 0..30),
        proptest::collection::vec((0..90u16, 0..40u16, 0..10_000u32), 0..200),
    ]
}

fn measures(window: &Window) -> Vec<u64> {
    Measure::ALL.iter().map(|measure| window.measure(*measure)).collect()
}

proptest! {
    #[test]
    fn merging_is_exact_in_any_order_and_grouping(a in items(), b in items(), c in items()) {
        let together = of(&[a.clone(), b.clone(), c.clone()].concat());
        let mut left = of(&a);
        left.merge(&of(&b));
        left.merge(&of(&c));
        let mut inner = of(&c);
        inner.merge(&of(&a));
        let mut right = of(&b);
        right.merge(&inner);
        for merged in [&left, &right] {
            prop_assert_eq!(measures(merged), measures(&together));
            prop_assert_eq!(merged.counters, together.counters);
            prop_assert_eq!(&merged.overflow, &together.overflow);
        }
    }

    #[test]
    fn folding_in_one_order_always_gives_the_same_contributors(a in items(), b in items()) {
        let fold = || { let mut w = of(&a); w.merge(&of(&b)); w };
        prop_assert_eq!(fold(), fold());
    }

    #[test]
    fn distinct_counts_are_exact_while_few(a in proptest::collection::vec((0..48u16, 0..48u16, 0..9u32), 0..400)) {
        let window = of(&a);
        let peers: std::collections::BTreeSet<_> = a.iter().map(|item| item.0).collect();
        let ports: std::collections::BTreeSet<_> = a.iter().map(|item| item.1).collect();
        prop_assert_eq!(window.distinct_peers(), peers.len() as u64);
        prop_assert_eq!(window.distinct_peer_ports(), ports.len() as u64);
    }
}

#[test]
fn a_quiet_host_is_small_and_a_busy_one_bounded() {
    let quiet = of(&[(1, 443, 10), (2, 53, 20), (3, 80, 30), (1, 443, 5)]);
    let with_key = quiet.memory() + size_of::<Subject>();
    assert!(with_key < 320, "a quiet host takes {with_key} bytes");
    let busy: Vec<Item> = (0..20_000).map(|i| (i as u16, (i / 3) as u16, i)).collect();
    let with_key = of(&busy).memory() + size_of::<Subject>();
    assert!(with_key < 6_000, "a busy host takes {with_key} bytes");
}

#[test]
fn the_heaviest_peer_leads() {
    let mut list: Vec<Item> = (0..500).map(|i| (i, 80, 100)).collect();
    list.extend(std::iter::repeat_n((777, 443, 90_000), 20));
    let window = of(&list);
    let first = window.peers.ranked()[0];
    assert_eq!(first.id.0[14..], 777u16.to_be_bytes());
    assert_eq!((first.events, first.bytes()), (20, 20 * 135_000));
}
