use std::net::Ipv4Addr;

use spikewatch_domain::window::{Counters, Peer, Service, Share};
use spikewatch_proto::convert::windows::{Rows, read};

use super::*;

/// Windows of the hosts with these last octets, in this order; each has a peer of its own and one that all have.
fn columns(hosts: &[u8], weight: u64) -> Columns {
    let mut message = v1::Windows::default();
    for host in hosts {
        let mut window = Window::default();
        for peer in [*host, 255] {
            window.add(&Share {
                counters: Counters { events: 1, bytes_out: weight, ..Counters::default() },
                peer: Peer([peer; 16]),
                service: Service { port: 443, protocol: 6 },
                annotations: None,
            });
        }
        push(&mut message, None, &subject(*host), &window, false);
    }
    Columns::take(&mut Rows::over(&message).unwrap(), hosts.len()).unwrap()
}

fn subject(host: u8) -> Subject {
    Subject::Address(Ipv4Addr::new(10, 0, 0, host).into())
}

/// Subjects, events and bytes as they would go out.
fn written(windows: &Windows) -> Vec<(Subject, u64, u64)> {
    let mut message = v1::Windows { sites: vec!["a".into()], ..v1::Windows::default() };
    windows.write(&mut message, 0, false);
    let rows = read(&message).unwrap();
    rows.into_iter().map(|row| (row.subject, row.window.counters.events, row.window.counters.bytes_out)).collect()
}

#[test]
fn what_comes_alone_goes_out_as_it_came() {
    let mut windows = Windows::default();
    windows.absorb(Windows::from(columns(&[1, 2, 9], 10)));
    assert!(matches!(windows, Windows::Columns(_)));
    assert_eq!(written(&windows), [1, 2, 9].map(|host| (subject(host), 2, 20)));
    assert!(windows.bytes() > 0);
}

#[test]
fn windows_of_one_host_are_merged_wherever_they_meet() {
    let mut windows = Windows::from(columns(&[1, 5], 10));
    windows.absorb(Windows::from(columns(&[5, 7], 100)));
    windows.absorb(Windows::from(columns(&[1], 1)));
    let expected = [(subject(1), 4, 22), (subject(5), 4, 220), (subject(7), 2, 200)];
    assert_eq!(written(&windows), expected);
}

/// No collector of ours sends them so; what another sends must count all the same.
#[test]
fn rows_out_of_order_and_rows_of_one_host_are_put_right() {
    assert_eq!(written(&Windows::from(columns(&[5, 1, 5], 10))), [(subject(1), 2, 20), (subject(5), 4, 40)]);
}
