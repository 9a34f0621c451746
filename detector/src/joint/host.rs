//! All that is kept of one host besides its single measures: the joint model, the peers it knows, and how high each channel
//! got today.

use spikewatch_domain::window::{Counters, Peer, Window};

use super::{
    model::{Bucket, Evidence, Foreseen, Form, Model, Residuals, UNKNOWN},
    peers::PeerMemory,
    rates::{CHANNELS, Channel, Channels, Rates},
};
use crate::baseline::CALIBRATE_AFTER_S;

const DAY_S: i64 = 86_400;
/// The usual bytes to new peers forget within a week, and one bucket enters them with at most this multiple.
const USUAL: (f64, f64) = (1.0 / 672.0, 20.0);

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    pub(super) model: Model,
    pub(super) peers: PeerMemory,
    /// Mean bytes to new peers in a bucket.
    pub(super) usual_new: f32,
    /// Highest value of each channel today.
    pub(super) highest: [f32; CHANNELS],
    /// Buckets of today, and its day since 1970.
    pub(super) buckets: u16,
    pub(super) day: i32,
}

impl Default for Host {
    /// Nothing is known.
    fn default() -> Self {
        Self {
            model: Model::default(),
            peers: PeerMemory::default(),
            usual_new: 0.0,
            highest: [UNKNOWN as f32; CHANNELS],
            buckets: 0,
            day: -1,
        }
    }
}

/// What is measured of a host in one bucket.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// Start, in epoch seconds.
    pub t: i64,
    /// Length, in seconds.
    pub span_s: u32,
    /// What was counted; `None` if the host was silent.
    pub window: Option<&'a Window>,
    /// Evidence of the single measures; those of [`Channel::Exfiltration`] and [`Channel::Tiny`] are ignored.
    pub channels: Channels,
    /// Their residuals.
    pub residuals: Residuals,
}

/// What a bucket says of a host.
#[derive(Debug, Clone)]
pub struct Judged {
    /// All channels.
    pub channels: Channels,
    /// The joint ones in their parts.
    pub evidence: Evidence,
    /// Bytes out to peers that the host did not know; `None` in its first week.
    pub to_new_peers: Option<f64>,
    /// What that usually is.
    pub usual_new: f64,
    foreseen: Foreseen,
}

impl Host {
    /// Judges a bucket. Buckets come in order.
    #[must_use]
    pub fn judge(&self, measured: &Measured<'_>) -> Judged {
        let &Measured { t, span_s, window, residuals, .. } = measured;
        let to_new_peers = self.peers.is_grown(t).then(|| self.to_new_peers(t, window));
        let bytes_out = window.map_or(0, |window| window.counters.bytes_out) as f64;
        let foreseen = self.model.foresee(&Bucket { t, span_s, bytes_out, to_new_peers, residuals }, Form::Shipped);
        let evidence = foreseen.evidence;
        let mut channels = measured.channels;
        channels[Channel::Exfiltration as usize] = evidence.exfiltration;
        channels[Channel::Tiny as usize] = evidence.tiny;
        Judged { channels, evidence, to_new_peers, usual_new: f64::from(self.usual_new), foreseen }
    }

    /// Learns a bucket that was judged, and counts the day that it ends, if it ends one.
    pub fn learn(&mut self, measured: &Measured<'_>, judged: &Judged, rates: &mut Rates) {
        let day = measured.t.div_euclid(DAY_S) as i32;
        let span = i64::from(measured.span_s.max(1));
        if day != self.day {
            let grown = i64::from(self.model.buckets()) * span >= CALIBRATE_AFTER_S;
            if grown && i64::from(self.buckets) * span >= DAY_S / 2 {
                rates.add(&self.highest.map(f64::from));
            }
            (self.day, self.buckets, self.highest) = (day, 0, [UNKNOWN as f32; CHANNELS]);
        }
        self.buckets = self.buckets.saturating_add(1);
        for (highest, value) in self.highest.iter_mut().zip(judged.channels) {
            // `max` passes over what is NaN.
            *highest = highest.max(value as f32);
        }
        if let Some(new) = judged.to_new_peers {
            let usual = f64::from(self.usual_new);
            let most = if usual > 0.0 { USUAL.1 * usual } else { f64::INFINITY };
            self.usual_new = (usual + USUAL.0 * (new.min(most) - usual)) as f32;
        }
        let peers = measured.window.map_or(&[][..], |window| window.peers.entries());
        self.peers.learn(peers.iter().map(|tally| tally.id), measured.t);
        self.model = judged.foreseen.next;
    }

    /// What the bytes to new peers in a bucket reach on a usual day, as a mean over 48 buckets.
    #[must_use]
    pub fn usual_new_most(&self) -> f64 {
        self.model.usual_new_most()
    }

    /// Peers of a window that the host doesn't know.
    pub fn new_peers<'a>(&'a self, t: i64, window: &'a Window) -> impl Iterator<Item = Peer> + 'a {
        let peers = window.peers.entries().iter().map(|tally| tally.id);
        peers.filter(move |peer| !self.peers.knows(*peer, t))
    }

    /// A lower bound: peers that are too light to be listed aren't counted.
    fn to_new_peers(&self, t: i64, window: Option<&Window>) -> f64 {
        let Some(window) = window else { return 0.0 };
        let Counters { bytes_out, .. } = window.counters;
        let unknown = window.peers.entries().iter().filter(|tally| !self.peers.knows(tally.id, t));
        unknown.fold(0u64, |sum, tally| sum.saturating_add(tally.sent())).min(bytes_out) as f64
    }
}

const _: () = assert!(size_of::<Host>() <= 880, "a host may cost this beside its single measures");
