use proptest::prelude::*;

use super::*;

const BUCKET: EventMillis = 900_000;

fn values(limit: usize) -> Values<u16> {
    Values::new("a".parse().unwrap(), 8, Span::QUARTER_HOUR, limit)
}

fn events(events: u64) -> Counters {
    Counters { events, ..Counters::default() }
}

/// One bucket in one slice: (port, events). Returns which values it gave windows, `None` for `(other)`, with their events.
fn bucket(values: &mut Values<u16>, number: u64, counts: &[(u16, u64)]) -> Vec<(Option<u16>, u64)> {
    let start = number * BUCKET;
    counts.iter().for_each(|(port, count)| values.add(start, *port, &events(*count)));
    let mut slices = Vec::new();
    values.take(&mut slices, start + BUCKET);
    windows(&slices)
}

fn windows(slices: &[Slice]) -> Vec<(Option<u16>, u64)> {
    let port = |subject: &Subject| match subject {
        Subject::Port(port) => Some(*port),
        Subject::Other(Dimension::Port) => None,
        other => panic!("{other}"),
    };
    let mut found: Vec<_> = slices
        .iter()
        .flat_map(|slice| &slice.rows)
        .map(|(_, subject, window)| (port(subject), window.counters.events))
        .collect();
    found.sort_unstable();
    found
}

#[test]
fn the_first_bucket_gives_windows_to_its_own_heaviest() {
    let found = bucket(&mut values(2), 0, &[(80, 5), (443, 9), (22, 1), (53, 7), (80, 1)]);
    assert_eq!(found, [(None, 7), (Some(53), 7), (Some(443), 9)]);
}

#[test]
fn who_has_a_window_is_what_the_bucket_before_held() {
    let mut values = values(1);
    bucket(&mut values, 0, &[(80, 5), (443, 9)]);
    assert_eq!(bucket(&mut values, 1, &[(443, 1), (8080, 50)]), [(None, 50), (Some(443), 1)], "not yet");
    // 443 was second of two places that a port may fall back to.
    assert_eq!(bucket(&mut values, 2, &[(443, 1), (8080, 60)]), [(Some(443), 1), (Some(8080), 60)]);
    assert_eq!(bucket(&mut values, 3, &[(443, 1), (22, 2), (8080, 60)]), [(None, 2), (Some(443), 1), (Some(8080), 60)]);
    assert_eq!(bucket(&mut values, 4, &[(443, 1), (8080, 60)]), [(None, 1), (Some(8080), 60)], "443 fell to the third");
}

#[test]
fn a_port_that_is_quiet_for_a_night_keeps_its_window_and_so_its_zeros() {
    let mut values = values(2);
    bucket(&mut values, 0, &[(80, 5), (443, 9)]);
    for number in 1..10 {
        bucket(&mut values, number, &[(443, 9)]);
    }
    assert_eq!(bucket(&mut values, 11, &[(80, 5), (443, 9)]), [(Some(80), 5), (Some(443), 9)]);
}

#[test]
fn never_more_than_twice_the_limit_however_ports_change_places() {
    let mut values = values(3);
    for number in 0..200u64 {
        let counts: Vec<_> = (0..40).map(|port| (port, (number * 7 + u64::from(port) * 13) % 41 + 1)).collect();
        let found = bucket(&mut values, number, &counts);
        assert!(found.iter().filter(|(port, _)| port.is_some()).count() <= 6, "{found:?}");
        assert_eq!(
            found.iter().map(|(_, count)| count).sum::<u64>(),
            counts.iter().map(|(_, count)| count).sum::<u64>()
        );
    }
}

#[test]
fn live_slices_of_the_first_bucket_decide_at_once_and_later_ones_at_its_end() {
    let mut values = values(1);
    let mut slice = |at: EventMillis, port, count| {
        let mut slices = Vec::new();
        values.add(at, port, &events(count));
        values.take(&mut slices, at + 10_000);
        windows(&slices)
    };
    assert_eq!(slice(0, 22, 1), [(Some(22), 1)], "nothing else is known");
    assert_eq!(slice(10_000, 443, 9), [(Some(443), 9)]);
    assert_eq!(slice(20_000, 22, 1), [(Some(22), 1)], "22 is among the first two still");
    assert_eq!(slice(BUCKET - 10_000, 80, 1), [(None, 1)]);
    assert_eq!(slice(BUCKET, 8080, 99), [(None, 99)], "from the second bucket on its end decides");
    assert_eq!(slice(2 * BUCKET - 10_000, 443, 1), [(Some(443), 1)]);
    assert_eq!(slice(2 * BUCKET, 8080, 99), [(Some(8080), 99)]);
}

#[test]
fn what_is_off_counts_nothing() {
    assert_eq!(bucket(&mut values(0), 0, &[(80, 5)]), []);
}

#[test]
fn past_the_limit_of_memory_nothing_is_lost() {
    let mut values = values(4);
    let shares = MOST_HELD as u64 + 100;
    for n in 0..shares {
        values.add(n / 65_536 * 10_000, (n % 65_536) as u16, &events(1));
    }
    assert_eq!(values.overflowed(), 100);
    let mut slices = Vec::new();
    values.take(&mut slices, BUCKET);
    assert_eq!(windows(&slices).iter().map(|(_, count)| count).sum::<u64>(), shares);
    assert_eq!(slices.len(), 5);
}

proptest! {
    /// Whatever comes in whatever order, the windows of each slice sum to its shares, counter by counter.
    #[test]
    fn the_windows_of_a_slice_are_its_shares(
        limit in 1usize..5,
        flushes in proptest::collection::vec(
            proptest::collection::vec((0u64..6, 0u16..12, any::<[u32; 5]>(), any::<bool>()), 0..40), 1..8)
    ) {
        let mut values = values(limit);
        for (number, flush) in (1u64..).zip(flushes) {
            let mut expected = BTreeMap::<EventMillis, Counters>::new();
            for (slice, port, [events, out, into, packets, denied], estimated) in flush {
                let start = (number * 3 + slice) * 300_000;
                let counters = Counters {
                    events: u64::from(events),
                    bytes_out: u64::from(out),
                    bytes_in: u64::from(into),
                    packets_out: u64::from(packets),
                    packets_in: u64::from(packets / 2),
                    denied: denied / 100,
                    estimated,
                };
                values.add(start, port, &counters);
                expected.entry(start).or_default().add(&counters);
            }
            let mut slices = Vec::new();
            values.take(&mut slices, number * BUCKET);
            prop_assert!(slices.is_sorted_by_key(|slice| slice.start));
            prop_assert_eq!(slices.len(), expected.len());
            for slice in slices {
                let mut sum = Counters::default();
                slice.rows.iter().for_each(|row| sum.add(&row.2.counters));
                prop_assert_eq!(sum, expected[&slice.start]);
                prop_assert!(slice.rows.is_sorted_by(|a, b| (a.0, &a.1) < (b.0, &b.1)));
                prop_assert!(slice.rows.len() <= 2 * limit + 1);
            }
        }
    }
}
