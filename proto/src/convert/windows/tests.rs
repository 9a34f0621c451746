use proptest::prelude::*;
use spikewatch_domain::{
    record::Annotations,
    window::{Counters, Service, Share},
};

use super::*;

fn window(seed: u32, shares: u32) -> Window {
    let mut window = Window::default();
    for i in 0..shares {
        let n = seed.wrapping_mul(31).wrapping_add(i);
        let annotations = Annotations { user: Some(format!("u{}", n % 6)), ..Annotations::default() };
        let address =
            if n % 3 == 0 { IpAddr::from(u128::from(n).to_be_bytes()) } else { IpAddr::from(n.to_be_bytes()) };
        window.add(&Share {
            counters: Counters { events: 1, bytes_out: u64::from(n), estimated: n % 5 == 0, ..Counters::default() },
            peer: address.into(),
            service: Service { protocol: 6, port: (n % 300) as u16 },
            annotations: seed.is_multiple_of(2).then_some(&annotations),
        });
    }
    window
}

proptest! {
    #[test]
    fn windows_survive_the_wire(shapes in proptest::collection::vec((any::<u32>(), 0..120u32), 0..12)) {
        let mut message = v1::Windows { sites: vec!["a".into(), "b".into()], ..v1::Windows::default() };
        let windows: Vec<_> = shapes.iter().map(|(seed, shares)| window(*seed, *shares)).collect();
        for (i, window) in windows.iter().enumerate() {
            push(&mut message, Some(i as u32 % 2), &Subject::Asn(i as u32), window, i % 3 == 0);
        }
        let rows = read(&message).unwrap();
        prop_assert_eq!(rows.len(), windows.len());
        for (i, (row, window)) in rows.into_iter().zip(windows).enumerate() {
            prop_assert_eq!(row.site.as_ref().map(SiteName::as_str), Some(["a", "b"][i % 2]));
            prop_assert_eq!(row.subject, Subject::Asn(i as u32));
            prop_assert_eq!(row.window, window);
            prop_assert_eq!(row.incomplete, i % 3 == 0);
        }
    }

    #[test]
    fn a_hostile_message_is_refused_and_named(
        cut in 0..20usize, extra in any::<bool>(), shares in 1..60u32,
    ) {
        let mut message = v1::Windows::default();
        push(&mut message, None, &Subject::Site, &window(2, shares), false);
        let m = &mut message;
        macro_rules! spoil { ($($field:ident),*) => {{
            let spoilers: Vec<Box<dyn FnOnce(&mut v1::Windows)>> = vec![$(Box::new(move |m: &mut v1::Windows| {
                if extra { let more = m.$field.first().cloned().unwrap_or_default(); m.$field.push(more); }
                else { m.$field.pop(); }
            })),*];
            spoilers
        }} }
        let spoilers = spoil!(bytes_out, bytes_in, packets_out, packets_in, denied, flags, peer_count, peer_events,
            peer_bytes, service_count, services, service_events, service_bytes, name_count, names, name_events,
            name_bytes, name_inherited, distinct_length, peer_bytes_out);
        let before = m.clone();
        spoilers.into_iter().nth(cut).unwrap()(m);
        if *m != before {
            let error = read(m).unwrap_err();
            prop_assert!(error.field.starts_with("Windows."));
        }
    }

    /// Whoever passes columns on by shard and under a site passes on what came.
    #[test]
    fn columns_that_are_cut_and_put_together_are_the_same_rows(
        shapes in proptest::collection::vec((any::<u32>(), 0..60u32), 1..12), at in 0..12usize,
    ) {
        let mut message = v1::Windows::default();
        for ((seed, shares), i) in shapes.iter().zip(0u32..) {
            push(&mut message, None, &Subject::Asn(i), &window(*seed, *shares), i % 3 == 0);
        }
        let at = at.min(shapes.len());
        let mut rows = Rows::over(&message).unwrap();
        let parts = [at, shapes.len() - at].map(|count| Columns::take(&mut rows, count).unwrap());
        prop_assert!(rows.next().unwrap().is_none());
        prop_assert_eq!(parts.each_ref().map(Columns::len), [at, shapes.len() - at]);
        let mut together = v1::Windows { sites: vec!["a".into(), "b".into()], ..v1::Windows::default() };
        parts[0].append(&mut together, 0, true);
        parts[1].append(&mut together, 1, false);
        let (before, after) = (read(&message).unwrap(), read(&together).unwrap());
        prop_assert_eq!(before.len(), after.len());
        for ((before, after), i) in before.into_iter().zip(after).zip(0..) {
            let site = if i < at { "a" } else { "b" };
            prop_assert_eq!(after.site.as_ref().map(SiteName::as_str), Some(site));
            prop_assert_eq!((after.subject, after.incomplete), (before.subject, i < at));
            prop_assert_eq!(after.window, before.window);
        }
    }

    #[test]
    fn a_row_counts_what_its_window_would(seed in any::<u32>(), shares in 0..120u32) {
        let mut message = v1::Windows::default();
        let window = window(seed, shares);
        push(&mut message, None, &Subject::Site, &window, false);
        let row = Rows::over(&message).unwrap().next().unwrap().unwrap();
        prop_assert_eq!(row.counters, window.counters);
        prop_assert_eq!(row.distinct_peers(), window.distinct_peers());
        prop_assert_eq!(row.distinct_peer_ports(), window.distinct_peer_ports());
    }
}

#[test]
fn a_list_with_one_id_twice_or_too_many_is_refused() {
    let mut message = v1::Windows::default();
    push(&mut message, None, &Subject::Site, &window(1, 2), false);
    let (twice, mut many) = (v1::Windows { services: vec![7, 7], ..message.clone() }, message);
    many.service_count[0] = 9;
    many.services = (0..9).collect();
    for message in [twice, many] {
        assert_eq!(
            read(&message).unwrap_err().to_string(),
            "Windows.services: a list of more than 8 or with one id twice"
        );
    }
}

#[test]
fn columns_know_whether_their_subjects_ascend() {
    for (ports, ascend) in [([1, 2, 3], true), ([1, 3, 2], false), ([1, 1, 2], false)] {
        let mut message = v1::Windows::default();
        ports.iter().for_each(|port| push(&mut message, None, &Subject::Port(*port), &Window::default(), false));
        assert_eq!(Columns::take(&mut Rows::over(&message).unwrap(), 3).unwrap().is_ascending(), ascend);
    }
}
