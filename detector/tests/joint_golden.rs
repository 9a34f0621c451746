//! Joint evidence against golden vectors that its reference implementation made: six weeks of one host with an
//! exfiltration, a scan and a flood.

use spikewatch_detector::{
    baseline::{Compact, PRIOR_UNKNOWN, Side},
    joint::{Bucket, CHANNELS, Channel, Evidence, Form, Model, Rates, Residuals},
};

const GOLDEN: &str = include_str!("../../tests/data/goldens/joint_golden.csv");

struct Row {
    bucket: Bucket,
    expected: [f64; 5],
}

fn golden() -> Vec<Row> {
    let row = |line: &str| {
        let f: Vec<f64> = line.split(',').map(|field| field.parse().unwrap()).collect();
        assert_eq!(f.len(), 24, "{line}");
        let residuals = Residuals {
            events: f[10],
            bytes_out: f[11],
            bytes_in: f[12],
            packets_in: f[14],
            peers: f[15],
            ports: f[16],
        };
        let to_new_peers = Some(f[9]).filter(|new| !new.is_nan());
        let bucket = Bucket { t: f[1] as i64, span_s: 900, bytes_out: f[3], to_new_peers, residuals };
        Row { bucket, expected: [f[17], f[18], f[19], f[20], f[21]] }
    };
    GOLDEN.lines().skip(1).map(row).collect()
}

fn columns(evidence: &Evidence) -> [f64; 5] {
    let Evidence { exfiltration, tiny, unexplained, new_bytes, new_share } = *evidence;
    [exfiltration, tiny, unexplained, new_bytes, new_share]
}

#[test]
fn equals_the_reference() {
    let rows = golden();
    assert_eq!(rows.len(), 4032);
    let mut model = Model::default();
    let mut worst = 0.0f64;
    for (i, row) in rows.iter().enumerate() {
        let foreseen = model.foresee(&row.bucket, Form::Reference);
        for (name, (actual, expected)) in
            ["J", "TT", "TE", "TN", "TR"].iter().zip(columns(&foreseen.evidence).iter().zip(&row.expected))
        {
            let off = (actual - expected).abs();
            assert!(off <= 2e-6 + 2e-5 * expected.abs(), "row {i}, {name}: {actual} instead of {expected}");
            worst = worst.max(off / expected.abs().max(0.1));
        }
        model = foreseen.next;
    }
    println!("largest relative difference {worst:.1e}");
    let during = |range: std::ops::Range<usize>, at: usize| {
        rows[range].iter().map(|row| row.expected[at]).fold(f64::MIN, f64::max)
    };
    assert!(during(3000..3024, 0) > 4.0, "the exfiltration is in it");
}

/// The whole chain: seven single measures, joint evidence, the rarest channel. The reference weighs the channels: bytes are
/// the exfiltration's business first.
#[test]
fn the_rarest_channel_is_that_of_the_reference() {
    let weights = [0.0, -0.3, -0.3, 0.0, 0.0, 0.0, 0.0, 0.2, 0.0];
    let (rates, mut joint) = (Rates::default(), Model::default());
    let mut single: Vec<Compact> = (0..7).map(|_| Compact::new(PRIOR_UNKNOWN)).collect();
    for (i, (line, row)) in GOLDEN.lines().skip(1).zip(golden()).enumerate() {
        let f: Vec<f64> = line.split(',').map(|field| field.parse().unwrap()).collect();
        let mut channels = [0.0; CHANNELS];
        for (measure, model) in single.iter_mut().enumerate() {
            let evidence = model.observe(row.bucket.t, Some(f[2 + measure]), 900, Side::High, false);
            assert!((evidence.z - f[10 + measure]).abs() < 1e-3, "row {i}, measure {measure}");
            channels[measure] = evidence.q;
        }
        let foreseen = joint.foresee(&row.bucket, Form::Reference);
        joint = foreseen.next;
        channels[Channel::Exfiltration as usize] = foreseen.evidence.exfiltration;
        channels[Channel::Tiny as usize] = foreseen.evidence.tiny;
        let decades = |channel: Channel| rates.decades(channel, channels[channel as usize]) + weights[channel as usize];
        let rarest = Channel::ALL.into_iter().map(decades).fold(f64::MIN, f64::max);
        // Our table is linear between its bins and never below 0, and nobody asks what is most usual.
        if f[22] > 0.5 {
            assert!((rarest - f[22]).abs() < 0.03, "row {i}: {rarest} instead of {}", f[22]);
            let winner = Channel::ALL[f[23] as usize];
            assert!(decades(winner) > rarest - 0.03, "row {i}: {winner:?} should lead");
        }
    }
}
