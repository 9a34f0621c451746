//! The models of one series: a compact one, and for the few series that carry a site or the whole network a rich one
//! beside it, which speaks once it is grown.

use super::state::Unreadable;
use crate::{
    baseline::{
        Compact, Prediction, Side, multi_bucket_impact,
        rich::{self, Opinion, Rich},
    },
    job,
};

/// From this age on, in seconds and buckets, the rich model speaks: by then it has seen a week, and each of its channels
/// knows what is usual.
const GROWN: (i64, u32) = (7 * 86_400, 320);

/// What is known of one series.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are compact, and lie side by side")]
pub(super) enum Model {
    Compact(Compact),
    Both(Box<(Compact, Rich)>),
}

/// What is said of a value, and what there is to learn.
#[derive(Debug)]
pub(super) struct Foreseen {
    compact: Prediction,
    /// The rich model as it will be, and what it says.
    rich: Option<Box<(Rich, Opinion)>>,
    /// What the rich model says counts.
    grown: bool,
    span_s: u32,
}

/// What would have been usual.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) typical: f64,
    pub(super) lower: f64,
    pub(super) upper: f64,
    pub(super) impact: f64,
}

impl Model {
    /// A series of which nothing is known. `prior`: see [`Compact::new`].
    pub(super) fn new(choice: job::Model, prior: f64) -> Self {
        let compact = Compact::new(prior);
        match choice {
            job::Model::Rich => Self::Both(Box::new((compact, Rich::new()))),
            job::Model::Compact => Self::Compact(compact),
        }
    }

    /// What one takes, bytes, grown.
    pub(super) fn bytes(choice: job::Model) -> u64 {
        let compact = size_of::<Self>() + Compact::PROFILE_BYTES;
        let rich = match choice {
            job::Model::Compact => 0,
            job::Model::Rich => size_of::<(Compact, Rich)>(),
        };
        (compact + rich) as u64
    }

    /// Length of the stored form.
    pub(super) fn stored_bytes(choice: job::Model) -> usize {
        match choice {
            job::Model::Compact => Compact::STORED_BYTES,
            job::Model::Rich => Compact::STORED_BYTES + Rich::STORED_BYTES,
        }
    }

    fn compact(&self) -> &Compact {
        match self {
            Self::Compact(compact) => compact,
            Self::Both(both) => &both.0,
        }
    }

    /// Buckets learnt so far.
    pub(super) fn buckets(&self) -> u32 {
        self.compact().buckets()
    }

    /// Judges a value, whose ln(1+x) is `logarithm`, and learns nothing.
    pub(super) fn foresee(&self, t: i64, value: f64, logarithm: f64, span_s: u32, side: Side) -> Foreseen {
        let compact = self.compact().foresee(t, value, logarithm, span_s, side);
        let rich = match self {
            Self::Compact(_) => None,
            Self::Both(both) => {
                let mut next = both.1.clone();
                let opinion = next.observe(t, Some(value), span_s, side);
                Some(Box::new((next, opinion)))
            }
        };
        let (age, least) = GROWN;
        let buckets = self.buckets();
        let grown = buckets >= least && i64::from(buckets) * i64::from(span_s) >= age;
        Foreseen { compact, rich, grown, span_s }
    }

    /// Learns what was foreseen by this very model.
    pub(super) fn learn(&mut self, foreseen: &Foreseen) {
        match (self, &foreseen.rich) {
            (Self::Compact(compact), _) => compact.learn(&foreseen.compact),
            (Self::Both(both), next) => {
                both.0.learn(&foreseen.compact);
                if let Some(next) = next {
                    both.1.clone_from(&next.0);
                }
            }
        }
    }

    /// The stored form.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Compact(compact) => compact.to_bytes(),
            Self::Both(both) => {
                let mut bytes = both.0.to_bytes();
                bytes.extend(both.1.to_bytes());
                bytes
            }
        }
    }

    /// Reads the stored form.
    pub(super) fn from_bytes(choice: job::Model, bytes: &[u8]) -> Result<Self, Unreadable> {
        match choice {
            job::Model::Compact => Compact::from_bytes(bytes).map(Self::Compact).map_err(Unreadable::because),
            job::Model::Rich => {
                let (compact, rich) = bytes.split_at_checked(Compact::STORED_BYTES).unwrap_or((bytes, &[]));
                let compact = Compact::from_bytes(compact).map_err(Unreadable::because)?;
                Ok(Self::Both(Box::new((compact, Rich::from_bytes(rich).map_err(Unreadable::because)?))))
            }
        }
    }
}

impl Foreseen {
    /// Evidence of the compact model, for the calibration.
    pub(super) fn q(&self) -> f64 {
        self.compact.evidence().q
    }

    /// How far it is from the forecast of the compact model, in units of its noise.
    pub(super) fn z(&self) -> f64 {
        self.compact.evidence().z
    }

    /// Score and -log10 of the probability by the rich model, if it speaks.
    pub(super) fn own(&self) -> Option<(f64, f64)> {
        let opinion = self.opinion()?;
        let probability = rich::probability(opinion.evidence, self.span_s);
        Some((opinion.score, -libm::log10(probability.max(f64::MIN_POSITIVE))))
    }

    /// What would have been usual.
    pub(super) fn expected(&self) -> Expected {
        if let Some(opinion) = self.opinion() {
            // A count is not negative, so its forecast isn't either.
            let (lower, upper) = opinion.bounds95;
            return Expected {
                typical: opinion.typical.max(0.0),
                lower: lower.max(0.0),
                upper: upper.max(0.0),
                impact: opinion.multi_bucket_impact(),
            };
        }
        let evidence = self.compact.bounded();
        Expected {
            typical: evidence.typical,
            lower: evidence.lower95,
            upper: evidence.upper95,
            impact: multi_bucket_impact(&evidence),
        }
    }

    fn opinion(&self) -> Option<&Opinion> {
        self.rich.as_deref().filter(|_| self.grown).map(|(_, opinion)| opinion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day with noise, 15 minutes each.
    fn value(i: i64) -> u64 {
        let noise = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let day = 1.3 + libm::sin((i % 96) as f64 / 96.0 * std::f64::consts::TAU);
        (10_000.0 * day) as u64 + noise % 1000
    }

    fn foresee(model: &Model, i: i64, x: u64) -> Foreseen {
        model.foresee(i * 900, x as f64, libm::log1p(x as f64), 900, Side::High)
    }

    #[test]
    fn the_rich_model_speaks_after_a_week_and_goes_on_from_what_was_stored() {
        let mut model = Model::new(job::Model::Rich, 8.0);
        let mut restored = None;
        for i in 0..96 * 20 {
            let foreseen = foresee(&model, i, value(i));
            assert_eq!(foreseen.own().is_some(), i >= 96 * 7, "bucket {i}");
            model.learn(&foreseen);
            if i == 96 * 10 {
                restored = Some(Model::from_bytes(job::Model::Rich, &model.to_bytes()).unwrap());
            } else if let Some(restored) = &mut restored {
                let again = foresee(restored, i, value(i));
                assert_eq!(again.own(), foreseen.own());
                restored.learn(&again);
            }
        }
        assert_eq!(restored.as_ref(), Some(&model));
        let next = 96 * 20;
        let (spike, calm) = (foresee(&model, next, 10 * value(next)), foresee(&model, next, value(next)));
        assert!(spike.own().unwrap().0 >= 75.0 && calm.own().unwrap().0 < 50.0, "{:?}", spike.own());
        assert!((0.5..2.0).contains(&(spike.expected().typical / value(next) as f64)));
    }

    #[test]
    fn no_choice_reads_the_other_s() {
        let (host, site) = (job::Model::Compact, job::Model::Rich);
        let (compact, both) = (Model::new(host, 8.0), Model::new(site, 8.0));
        assert_eq!(
            (compact.to_bytes().len(), both.to_bytes().len()),
            (Model::stored_bytes(host), Model::stored_bytes(site))
        );
        assert!(foresee(&compact, 0, 5).own().is_none());
        assert_eq!(Model::from_bytes(host, &compact.to_bytes()), Ok(compact.clone()));
        assert_eq!(Model::from_bytes(site, &both.to_bytes()), Ok(both.clone()));
        assert!(Model::from_bytes(site, &compact.to_bytes()).is_err());
        assert!(Model::from_bytes(host, &both.to_bytes()).is_err());
        assert!(Model::from_bytes(site, &[]).is_err());
    }
}
