use proptest::prelude::*;
use spikewatch_domain::window::{Counters, Peer, Service, Share, Window};

use super::*;

const START: i64 = 20_000 * 86_400;

/// A window that sent so much to each of these peers.
fn window(sent: &[(u8, u64)]) -> Window {
    let mut window = Window::default();
    for (peer, bytes) in sent {
        window.add(&Share {
            counters: Counters { events: 1, bytes_out: *bytes, bytes_in: 3 * *bytes, ..Counters::default() },
            peer: Peer::from(std::net::IpAddr::from([203, 0, *peer, 9])),
            service: Service { port: 443, protocol: 6 },
            annotations: None,
        });
    }
    window
}

fn measured(number: i64, window: Option<&Window>, z: f64) -> Measured<'_> {
    let residuals = Residuals { bytes_out: z, bytes_in: z / 2.0, ..Residuals::default() };
    Measured { t: START + 900 * number, span_s: 900, window, channels: [0.1; CHANNELS], residuals }
}

fn feed(host: &mut Host, rates: &mut Rates, measured: &Measured<'_>) -> Judged {
    let judged = host.judge(measured);
    host.learn(measured, &judged, rates);
    judged
}

/// Two weeks of a host that talks to three peers.
fn usual() -> (Host, Rates) {
    let (mut host, mut rates) = (Host::default(), Rates::default());
    for number in 0..96 * 14 {
        let noise = number * 7919 % 100;
        let window = window(&[(1, 5000 + noise as u64), (2, 800), (3, 10 * noise as u64)]);
        feed(&mut host, &mut rates, &measured(number, Some(&window), noise as f64 / 100.0 - 0.5));
    }
    (host, rates)
}

#[test]
fn bytes_to_a_stranger_are_exfiltration_and_those_to_a_usual_peer_are_not() {
    let most = |peer: u8| {
        let (mut host, mut rates) = usual();
        let mut most = f64::MIN;
        for number in 96 * 14..96 * 14 + 24 {
            let window = window(&[(1, 5000), (2, 800), (peer, 40_000)]);
            let measured = measured(number, Some(&window), 2.0);
            let judged = feed(&mut host, &mut rates, &measured);
            let new = if peer == 9 { 40_000.0 } else { 0.0 };
            assert_eq!(judged.to_new_peers, Some(new), "it stays what it is all night");
            most = most.max(judged.evidence.exfiltration);
        }
        rates.decades(Channel::Exfiltration, most)
    };
    assert!(most(9) > 3.0, "{}", most(9));
    assert!(most(3) < 2.3, "{}", most(3));
}

#[test]
fn nothing_is_said_of_peers_in_the_first_week() {
    let (mut host, mut rates) = (Host::default(), Rates::default());
    for number in 0..96 * 7 {
        let window = window(&[(number as u8, 5000)]);
        let judged = feed(&mut host, &mut rates, &measured(number, Some(&window), 0.0));
        assert_eq!((judged.to_new_peers, judged.evidence.exfiltration), (None, -3.0));
    }
    let window = window(&[(77, 5000)]);
    assert!(host.judge(&measured(96 * 7, Some(&window), 0.0)).to_new_peers.is_some());
}

#[test]
fn a_host_is_rare_once_whichever_channel_says_so() {
    let rates = Rates::default();
    let mut channels = [0.0; CHANNELS];
    channels[Channel::BytesIn as usize] = 2.74;
    channels[Channel::PacketsOut as usize] = f64::NAN;
    let among = [Channel::Events, Channel::BytesIn, Channel::PacketsOut];
    let (channel, decades) = rates.rarest(&channels, &among).unwrap();
    assert_eq!(channel, Channel::BytesIn);
    assert!((decades - (3.0 - 2f64.log10())).abs() < 0.02, "two channels share the budget: {decades}");
    assert_eq!(rates.rarest(&channels, &[Channel::PacketsOut]), None);
}

#[test]
fn a_restless_fleet_raises_its_own_bar() {
    let mut rates = Rates::default();
    let shipped = rates.decades(Channel::Exfiltration, 4.0);
    for host in 0..20_000 {
        let mut highest = [0.0; CHANNELS];
        highest[Channel::Exfiltration as usize] = if host % 50 == 0 { 5.0 } else { 0.5 };
        rates.add(&highest);
    }
    rates.refresh();
    let own = rates.decades(Channel::Exfiltration, 4.0);
    assert!(shipped > 2.9 && own < 1.9, "{shipped} {own}");
    assert_eq!(Rates::from_counts(&rates.counts()), rates);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_history_gives_finite_results_and_goes_on_after_a_restart(
        start in any::<i32>(),
        history in prop::collection::vec((0..4i64, any::<bool>(), 0..1u64 << 40, -1e9..1e9f64), 2..400),
        at in 0.0..1.0f64,
    ) {
        let (mut host, mut rates) = (Host::default(), Rates::default());
        let (mut other, mut others_rates) = (host.clone(), rates.clone());
        let restart = (history.len() as f64 * at) as usize;
        let mut number = i64::from(start);
        for (index, (gap, silent, bytes, z)) in history.iter().enumerate() {
            number += 1 + gap * gap * 30;
            let window = window(&[((index % 40) as u8, *bytes), (1, 500)]);
            let measured = measured(number, (!silent).then_some(&window), *z);
            if index == restart {
                other = Host::from_bytes(&other.to_bytes()).unwrap();
                others_rates = Rates::from_counts(&others_rates.counts());
            }
            let judged = feed(&mut host, &mut rates, &measured);
            prop_assert!(judged.channels.iter().all(|value| value.is_finite()), "{:?}", judged);
            let again = feed(&mut other, &mut others_rates, &measured);
            prop_assert_eq!(judged.channels.map(f64::to_bits), again.channels.map(f64::to_bits));
        }
        prop_assert_eq!(host.to_bytes(), other.to_bytes());
        prop_assert_eq!(host.to_bytes().len(), Host::LENGTH);
        prop_assert_eq!(rates.counts(), others_rates.counts());
    }
}

#[test]
fn damage_is_an_error() {
    let (host, mut rates) = usual();
    let bytes = host.to_bytes();
    assert!(Host::from_bytes(&[]).is_err() && Host::from_bytes(&bytes[..100]).is_err());
    let window = window(&[(200, 1 << 40)]);
    for at in 0..bytes.len() {
        for flip in [0xff, 0x80, 0x01] {
            let mut flipped = bytes.clone();
            flipped[at] ^= flip;
            if let Ok(mut host) = Host::from_bytes(&flipped) {
                feed(&mut host, &mut rates, &measured(96 * 15, Some(&window), 3.0));
            }
        }
    }
}
