//! The joint jobs of a table of hosts: what a host's measures say together, beside what the other jobs say of each.

use spikewatch_domain::window::{Measure, Window};
use spikewatch_proto::convert::results::{AnomalyRecord, Contributor, Part};

use super::{
    LEAST_SCORE, contributors,
    finding::Judged,
    judge::{Judge, Verdict},
    model::Foreseen,
    state::{JointState, Unreadable},
};
use crate::{
    baseline::{Side, record_score},
    job::{Aggregate, Function, Job},
    joint::{self, CHANNELS, Channel, Channels, Evidence, Host, Measured, Rates, Residuals},
};

/// `-log10 p` of a bucket that is reached on one host-day in ten is this much above that: what calibrated single measures
/// have, too.
pub(super) const DECADES_TO_L: f64 = 1.55;

/// Channels of the activity score: the single measures, and tiny traffic.
const ACTIVITY: [Channel; CHANNELS - 1] = [
    Channel::Events,
    Channel::BytesOut,
    Channel::BytesIn,
    Channel::PacketsOut,
    Channel::PacketsIn,
    Channel::Peers,
    Channel::Ports,
    Channel::Tiny,
];
/// The measures of the first channels.
const MEASURES: [Measure; 7] = [
    Measure::Events,
    Measure::BytesOut,
    Measure::BytesIn,
    Measure::PacketsOut,
    Measure::PacketsIn,
    Measure::DistinctPeers,
    Measure::DistinctPeerPorts,
];

/// What a single measure says of one bucket, as far as joint evidence needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Says {
    q: f64,
    z: f64,
}

impl From<&Foreseen> for Says {
    fn from(foreseen: &Foreseen) -> Self {
        Self { q: foreseen.q(), z: foreseen.z() }
    }
}

/// The joint jobs, with what they learnt over all hosts.
#[derive(Debug)]
pub(super) struct Joint {
    jobs: Vec<Job>,
    /// Where among the table's judges each of [`MEASURES`] is, if a job watches it for high values.
    at: [Option<usize>; 7],
    rates: Rates,
    span_s: u32,
}

impl Joint {
    /// `None` if there are no such jobs.
    pub(super) fn new(jobs: Vec<Job>, judges: &[Judge], span_s: u32) -> Option<Self> {
        let plain = |function: Function| {
            let aggregate = function.aggregate();
            function.side() == Side::High
                && matches!(aggregate, Some(Aggregate::Count | Aggregate::Sum | Aggregate::DistinctCount))
        };
        let find = |measure: Measure| {
            judges.iter().position(|judge| judge.job.measure == measure && plain(judge.job.function))
        };
        (!jobs.is_empty()).then(|| Self { jobs, at: MEASURES.map(find), rates: Rates::default(), span_s })
    }

    /// The jobs.
    pub(super) fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// What is measured of a host, its single measures in the order of the judges.
    pub(super) fn measured<'a>(&self, t: i64, window: Option<&'a Window>, said: &[Option<Says>]) -> Measured<'a> {
        let of = |channel: Channel| {
            let at = self.at.get(channel as usize).copied().flatten();
            at.and_then(|at| said.get(at)).copied().flatten()
        };
        let z = |channel: Channel| of(channel).map_or(f64::NEG_INFINITY, |says| says.z);
        let mut channels: Channels = [f64::NAN; CHANNELS];
        for channel in ACTIVITY {
            if let Some(says) = of(channel) {
                channels[channel as usize] = says.q;
            }
        }
        let bytes = |channel: Channel| of(channel).map_or(0.0, |says| says.z);
        let residuals = Residuals {
            events: z(Channel::Events),
            bytes_out: bytes(Channel::BytesOut),
            bytes_in: bytes(Channel::BytesIn),
            packets_in: z(Channel::PacketsIn),
            peers: z(Channel::Peers),
            ports: z(Channel::Ports),
        };
        Measured { t, span_s: self.span_s, window, channels, residuals }
    }

    /// Learns a bucket that was judged.
    pub(super) fn learn(&mut self, host: &mut Host, measured: &Measured<'_>, judged: &joint::Judged) {
        host.learn(measured, judged, &mut self.rates);
    }

    /// Adds what is unusual to `records`, one list per joint job, of those that are wanted.
    pub(super) fn tell(
        &self,
        window: &Judged<'_>,
        host: &Host,
        measured: &Measured<'_>,
        judged: &joint::Judged,
        records: &mut [Vec<AnomalyRecord>],
        wanted: impl Fn(usize) -> bool,
    ) {
        for ((job, own), _) in self.jobs.iter().zip(records).zip(0..).filter(|(_, number)| wanted(*number)) {
            own.extend(match job.function {
                Function::Exfiltration => self.exfiltration(job, window, host, measured, judged),
                _ => self.activity(job, window, judged),
            });
        }
    }

    /// The rarest of the single measures and of tiny traffic.
    fn activity(&self, job: &Job, window: &Judged<'_>, judged: &joint::Judged) -> Option<AnomalyRecord> {
        let (channel, decades) = self.rates.rarest(&judged.channels, &ACTIVITY)?;
        let l = decades + DECADES_TO_L;
        if record_score(l) < LEAST_SCORE {
            return None;
        }
        // Tiny traffic shows in the measure that is furthest from its forecast.
        let tiny = [Channel::Events, Channel::PacketsIn, Channel::Peers, Channel::Ports];
        let channel = if channel == Channel::Tiny { self.furthest(&tiny, window.verdicts)? } else { channel };
        let at = self.at.get(channel as usize).copied().flatten()?;
        let (judge, verdict) = (window.judges.get(at)?, window.verdicts.get(at)?.as_ref()?);
        window.joint_record(judge, verdict, job, l)
    }

    fn furthest(&self, among: &[Channel], verdicts: &[Option<Verdict>]) -> Option<Channel> {
        let z = |channel: &Channel| {
            let verdict = self.at.get(*channel as usize).copied().flatten().and_then(|at| verdicts.get(at))?;
            Some((*channel, verdict.as_ref()?.foreseen.z()))
        };
        let furthest = among.iter().filter_map(z).reduce(|best, next| if next.1 > best.1 { next } else { best });
        furthest.map(|(channel, _)| channel)
    }

    /// Bytes out to peers that the host did not know.
    fn exfiltration(
        &self,
        job: &Job,
        window: &Judged<'_>,
        host: &Host,
        measured: &Measured<'_>,
        judged: &joint::Judged,
    ) -> Option<AnomalyRecord> {
        let l = self.rates.decades(Channel::Exfiltration, judged.evidence.exfiltration) + DECADES_TO_L;
        let new = judged.to_new_peers?;
        // The evidence stays up for hours after the last byte: that is no news.
        if record_score(l) < LEAST_SCORE || new - judged.usual_new < job.minimum_effect {
            return None;
        }
        let at = self.at.get(Channel::BytesOut as usize).copied().flatten()?;
        let (judge, verdict) = (window.judges.get(at)?, window.verdicts.get(at)?.as_ref()?);
        let mut record = window.joint_record(judge, verdict, job, l)?;
        record.actual = new;
        record.typical = judged.usual_new;
        (record.lower, record.upper) = (0.0, host.usual_new_most().max(judged.usual_new));
        let input = measured.window?;
        let named = host.new_peers(measured.t, input);
        let mut strangers: Vec<Contributor> = contributors::new_peers(input, named);
        strangers.append(&mut record.contributors);
        record.contributors = strangers;
        Some(record)
    }

    /// Ends a bucket: what was counted holds from the next one on.
    pub(super) fn close(&mut self) {
        self.rates.refresh();
    }

    /// What it has learnt over all hosts, between two buckets.
    pub(super) fn stored(&self) -> JointState {
        JointState { rates: self.rates.counts() }
    }

    /// Takes back what [`stored`](Self::stored) gave.
    pub(super) fn restore(&mut self, state: Option<&JointState>) -> Result<(), Unreadable> {
        let state = state.ok_or_else(|| Unreadable::because("it is of other jobs"))?;
        self.rates = Rates::from_counts(&state.rates);
        Ok(())
    }
}

/// Joint evidence in its parts, as records carry it.
pub(super) fn parts(evidence: &Evidence) -> Vec<Part> {
    let &Evidence { exfiltration, tiny, unexplained, new_bytes, new_share } = evidence;
    let all = [
        ("exfiltration", exfiltration),
        ("new_peers_12h", new_bytes),
        ("new_peers_share_12h", new_share),
        ("unexplained_by_bytes_in_6h", unexplained),
        ("tiny", tiny),
    ];
    all.map(|(name, decades)| Part { name: name.to_owned(), decades }).to_vec()
}
